//! The models by round, and how rankings agree with truth.

use std::fmt::Write;

use maud::{Markup, html};

use super::svg::{Axis, Mark, Plot, Series};
use super::table::{Column, correlation, folded, table, text};
use crate::report::figures::{Figures, Model};

pub(super) fn section(figures: &Figures) -> Markup {
    let agreements: Vec<Vec<Markup>> = figures
        .agreements
        .iter()
        .map(|found| {
            vec![
                text(&found.dataset),
                text(&found.imported_dataset),
                text(&found.protocol),
                text(found.cells),
                text(correlation(found.spearman)),
            ]
        })
        .collect();
    html! {
        section id="models" aria-labelledby="models-heading" {
            h2 id="models-heading" { "Models" }
            @if figures.models.is_empty() { p { "This snapshot holds no training of a model." } }
            @for model in &figures.models { (trained(model)) }
            h3 { "Agreement with what others measured" }
            @if agreements.is_empty() { p { "No imported accuracies speak of the classes of a dataset of ours." } }
            @else {
                (table("Rank correlation of our trainings with imported accuracies of the same cells", &[
                    Column::Text("dataset"), Column::Text("imported as"), Column::Text("protocol"),
                    Column::Number("cells"), Column::Number("Spearman"),
                ], &agreements))
            }
        }
    }
}

fn trained(model: &Model) -> Markup {
    let report = &model.outcome;
    let rows = model.by_round.iter().flat_map(|(metric, points)| {
        points.iter().map(move |(round, value)| vec![text(metric), text(round), text(format!("{value:.4}"))])
    });
    html! {
        h3 { "The " (report.model) }
        p {
            (report.rounds) " rounds. At the last: "
            @for (place, (metric, value)) in report.metrics.iter().enumerate() {
                @if place > 0 { ", " }
                (metric.replace('_', " ")) " " (format!("{value:.3}"))
            }
            "."
            @if let Some(round) = model.published_round { " Published: the checkpoint of round " (round) "." }
            @else { " The published checkpoint is of another training." }
            @if !report.reproducible { " Not reproducible: a quorum could close its rounds." }
        }
        div class="plots" {
            @for metric in shown(&report.model) {
                @if let Some(points) = model.by_round.get(metric) { (by_round(model, metric, points).render()) }
            }
        }
        (folded(&format!("Numbers: the {} by round", report.model), &[
            Column::Text("metric"), Column::Number("round"), Column::Number("value"),
        ], &rows.collect::<Vec<_>>()))
    }
}

/// What a model is judged by, and what it learns from.
fn shown(model: &str) -> [&'static str; 2] {
    if model == "predictor" {
        ["valid_spearman", "train_loss"]
    } else {
        ["valid_nll_per_graph", "train_loss"]
    }
}

fn by_round(model: &Model, metric: &str, points: &[(i64, f64)]) -> Plot {
    let (name, label) = match metric {
        "valid_spearman" => ("Spearman's rank correlation on validation datasets", "rank correlation"),
        "valid_nll_per_graph" => {
            ("negative log-likelihood per graph on validation datasets", "negative log-likelihood")
        }
        _ => ("training loss", "loss"),
    };
    let mut finding = match (points.first(), points.last()) {
        (Some((first, from)), Some((last, to))) => {
            format!("{from:.3} in round {first}, {to:.3} in round {last}.")
        }
        _ => String::new(),
    };
    let published = points.iter().find(|(round, _)| Some(*round) == model.published_round);
    if let Some((round, value)) = published {
        let _ = write!(finding, " Published is round {round} with {value:.3}.");
    }
    let as_point = |(round, value): &(i64, f64)| (*round as f64, *value);
    let as_points: Vec<(f64, f64)> = points.iter().map(as_point).collect();
    Plot {
        id: format!("{}-{metric}", model.outcome.model),
        title: format!("The {}: {name}.", model.outcome.model),
        finding,
        x: Axis::linear("round", as_points.iter().map(|point| point.0), |round| format!("{round:.0}")),
        y: Axis::linear(label, as_points.iter().map(|point| point.1), |value| format!("{value:.2}")),
        series: vec![
            Series {
                name: metric.replace('_', " "),
                colour: 1,
                mark: Some(Mark::Dot),
                line: Some(""),
                points: as_points,
            },
            Series {
                name: "published".to_owned(),
                colour: 2,
                mark: Some(Mark::Diamond),
                line: None,
                points: published.map(as_point).into_iter().collect(),
            },
        ],
    }
}
