//! The page: heading, contents, and one section after the other.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::table::hours;
use super::{database, models, provenance, target};
use crate::report::figures::Figures;

const STYLE: &str = include_str!("style.css");

/// The whole file.
pub(crate) fn page(figures: &Figures) -> String {
    let title = format!("{}, snapshot {}", figures.pipeline, figures.snapshot);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a class="skip-link" href="#results" { "To the results" }
                header {
                    h1 { (title) }
                    p class="lead" { (summary(figures)) }
                    p class="quiet" {
                        "Published " time datetime=(figures.published_at.to_rfc3339()) { (figures.published_at.format("%Y-%m-%d %H:%M UTC").to_string()) }
                        @if let Some(number) = figures.restored_from { "; the content of snapshot " (number) ", published again" }
                        ". Accuracies in %. Cost is multiply-adds for one picture (FLOPs)."
                    }
                    @for note in &figures.notes { p class="note" { "Note: " (note) } }
                    nav aria-label="Contents" { ul {
                        @for (id, name) in [("results", "Results"), ("models", "Models"), ("computed", "What was computed"), ("set-aside", "What did not complete"), ("provenance", "Provenance")] {
                            li { a href=(format!("#{id}")) { (name) } }
                        }
                    } }
                }
                main {
                    section id="results" aria-labelledby="results-heading" {
                        h2 id="results-heading" { "Results" }
                        @if figures.targets.is_empty() { p { "This snapshot holds no search." } }
                        @for (place, found) in figures.targets.iter().enumerate() { (target::section(found, place)) }
                    }
                    (models::section(figures))
                    (database::computed(figures))
                    (database::set_aside(figures))
                    (provenance::section(&figures.provenance))
                }
            }
        }
    };
    page.into_string()
}

/// What was computed, in a sentence or two.
fn summary(figures: &Figures) -> Markup {
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let differences: Vec<f64> = figures.targets.iter().filter_map(target::Target::difference).collect();
    let better = differences.iter().filter(|difference| **difference > 0.0).count();
    html! {
        (counted(figures.evaluations as usize, "network")) " trained on " (counted(trained_on(figures), "dataset")) " with "
        (hours(figures.training_hours())) " of device time for training steps"
        @if figures.imported_evaluations > 0 { ", and " (counted(figures.imported_evaluations as usize, "imported row")) }
        "; cells searched for " (counted(figures.targets.len(), "dataset")) " never seen in training. "
        @if !differences.is_empty() {
            "The chosen cells beat random ones in the mean on " (better) " of " (differences.len()) "."
        }
    }
}

fn trained_on(figures: &Figures) -> usize {
    figures.datasets.iter().filter(|dataset| dataset.group != "imported" && dataset.trainings > 0).count()
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
