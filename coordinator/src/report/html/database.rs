//! What was computed, and what was not.

use maud::{Markup, html};

use super::table::{Column, hours, percent, short, table, text};
use crate::report::figures::Figures;

/// So many reasons and tasks are listed; queries and `metad2a tasks list` tell the rest.
const LISTED: usize = 50;

pub(super) fn computed(figures: &Figures) -> Markup {
    let datasets: Vec<Vec<Markup>> = figures
        .datasets
        .iter()
        .map(|dataset| {
            let [train, valid, test] = dataset.pictures;
            vec![
                text(&dataset.name),
                text(&dataset.group),
                text(dataset.classes),
                text(train),
                text(valid),
                text(test),
                text(dataset.trainings),
                percent(dataset.mean_valid_accuracy),
                percent(dataset.best_valid_accuracy),
            ]
        })
        .collect();
    let statuses: Vec<Vec<Markup>> =
        figures.by_status.iter().map(|(status, count)| vec![text(status), text(count)]).collect();
    let devices: Vec<Vec<Markup>> = figures
        .devices
        .iter()
        .map(|device| vec![text(&device.name), text(device.trainings), text(hours(device.training_hours))])
        .collect();
    html! {
        section id="computed" aria-labelledby="computed-heading" {
            h2 id="computed-heading" { "What was computed" }
            (table("Datasets by group; mean and best accuracy are validation figures", &[
                Column::Text("dataset"), Column::Text("group"), Column::Number("classes"),
                Column::Number("training pictures"), Column::Number("validation"), Column::Number("test"),
                Column::Number("networks"), Column::Number("mean"), Column::Number("best"),
            ], &datasets))
            (table("Our trainings by how they ended", &[Column::Text("status"), Column::Number("networks")], &statuses))
            (table("Cost by device: training steps of networks, without validations, models and searches", &[
                Column::Text("device"), Column::Number("networks"), Column::Number("device time"),
            ], &devices))
            @if figures.imported_evaluations > 0 { p { (figures.imported_evaluations) " further rows were imported." } }
        }
    }
}

pub(super) fn set_aside(figures: &Figures) -> Markup {
    let problems: Vec<Vec<Markup>> = figures
        .problems
        .iter()
        .take(LISTED)
        .map(|problem| {
            vec![
                text(&problem.status),
                text(problem.trainings),
                text(&problem.reason),
                text(problem.arch_index),
            ]
        })
        .collect();
    let tasks: Vec<Vec<Markup>> = figures
        .set_aside
        .iter()
        .take(LISTED)
        .map(|task| {
            vec![
                short(&task.id),
                text(task.kind.as_deref().unwrap_or("–")),
                text(&task.state),
                text(task.at.format("%Y-%m-%d %H:%M")),
                text(task.reason.as_deref().unwrap_or("–")),
            ]
        })
        .collect();
    html! {
        section id="set-aside" aria-labelledby="set-aside-heading" {
            h2 id="set-aside-heading" { "What did not complete" }
            @if problems.is_empty() { p { "Every training of ours completed." } }
            @else {
                (table("Trainings that did not complete, by reason", &[
                    Column::Text("status"), Column::Number("networks"), Column::Text("reason"),
                    Column::Number("one of the cells"),
                ], &problems))
                (further(figures.problems.len(), "reasons"))
            }
            @if tasks.is_empty() { p { "No task of this pipeline is given up, cancelled or dropped." } }
            @else {
                (table("Tasks given up (dead letters), cancelled or dropped, as the store knew when this page was made", &[
                    Column::Text("task"), Column::Text("kind"), Column::Text("state"), Column::Text("since (UTC)"),
                    Column::Text("last reason"),
                ], &tasks))
                (further(figures.set_aside.len(), "tasks"))
            }
        }
    }
}

/// What is left out of a list of so many.
fn further(count: usize, what: &str) -> Markup {
    html! { @if count > LISTED { p class="quiet" { (count - LISTED) " further " (what) " are not listed here." } } }
}
