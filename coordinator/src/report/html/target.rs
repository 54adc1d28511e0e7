//! A searched dataset: the cells, what they cost, and how well they were foretold.

use maud::{Markup, html};

use super::cell::drawing;
use super::svg::{Axis, Mark, Plot, Series};
use super::table::{Column, correlation, folded, large, percent, percent_label, table, text};
use crate::report::outcome::CellReport;
pub(super) use crate::report::target::Target;
use crate::report::target::{Measured, Ranked};

/// So many of the ranked cells are listed; the table `candidates` has all.
const LISTED: usize = 50;
/// Curves of each role that one picture shows.
const CURVES: usize = 3;

pub(super) fn section(target: &Target, place: usize) -> Markup {
    let id = format!("target-{place}");
    let outcome = &target.outcome;
    html! {
        section aria-labelledby=(id) {
            h3 id=(id) { (outcome.name) }
            p {
                (outcome.classes) " classes, never seen in training; " (outcome.candidates) " candidates ranked in "
                (format!("{:.1} s", outcome.search_seconds)) ". " (verdict(target))
            }
            (cells(target, &id))
            div class="plots" {
                @if !target.measured.is_empty() { (measured_cost(target, &id).render()) }
                @if !target.ranked.is_empty() { (predicted_cost(target, &id).render()) }
                @if paired(target).next().is_some() { (foretold(target, &id).render()) }
                @if !target.curves.is_empty() { (learning(target, &id).render()) }
            }
            (numbers(target))
        }
    }
}

fn verdict(target: &Target) -> String {
    let (chosen, random) = (target.outcome.chosen_test_accuracy, target.outcome.random_test_accuracy);
    match (chosen, random, target.difference()) {
        (Some(chosen), Some(random), Some(difference)) => format!(
            "Measured on {} test pictures, the chosen cells reach {:.1} % in the mean and as many random ones {:.1} % ({:+.1} points).",
            target.outcome.test_pictures,
            100.0 * chosen,
            100.0 * random,
            100.0 * difference
        ),
        _ => "No chosen and random cells were measured side by side.".to_owned(),
    }
}

fn cells(target: &Target, id: &str) -> Markup {
    let roles = [("chosen", &target.outcome.chosen), ("random", &target.outcome.random)];
    let row = |role: &str, place: usize, cell: &CellReport| {
        let predicted = match (cell.predicted_accuracy, cell.predicted_accuracy_sd) {
            (Some(mean), Some(sd)) => text(format!("{:.1} ± {:.1}", 100.0 * mean, 100.0 * sd)),
            (predicted, _) => percent(predicted),
        };
        vec![
            text(format!("{role} {}", place + 1)),
            drawing(&cell.cell, cell.arch_index, &format!("{id}-{role}-{place}")),
            predicted,
            percent(cell.valid_accuracy),
            percent(cell.test_accuracy),
            text(large(cell.params as f64)),
            text(large(cell.flops as f64)),
            text(cell.arch_index),
        ]
    };
    let rows: Vec<Vec<Markup>> = roles
        .iter()
        .flat_map(|(role, cells)| cells.iter().enumerate().map(move |(place, cell)| row(role, place, cell)))
        .collect();
    let columns = [
        Column::Text("role"),
        Column::Text("cell"),
        Column::Number("predicted"),
        Column::Number("validation"),
        Column::Number("test"),
        Column::Number("parameters"),
        Column::Number("FLOPs"),
        Column::Number("index"),
    ];
    html! {
        @if rows.is_empty() { p { "No cell was trained." } }
        @else {
            (table(&format!("Cells trained on {}: chosen by predicted accuracy, and random", target.outcome.name), &columns, &rows))
            p class="quiet" { "3×3 and 1×1 are convolutions, pool is an average of 3×3, skip is the identity; an edge that carries nothing from in to out is faint. "
                "Predicted accuracies rank cells; their height is that of the datasets learnt from." }
        }
    }
}

fn of_role(measured: &[Measured], chosen: bool, point: impl Fn(&Measured) -> Option<(f64, f64)>) -> Series {
    let points = measured.iter().filter(|cell| cell.chosen == chosen).filter_map(point).collect();
    let (name, colour, mark) = if chosen { ("chosen", 1, Mark::Dot) } else { ("random", 2, Mark::Triangle) };
    Series { name: name.to_owned(), colour, mark: Some(mark), line: None, points }
}

/// In steps: what lies between two cells is no cell.
fn front(cells: &[(f64, f64)]) -> Series {
    let corners = cells.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
    let points = corners.chain(cells.last().copied()).collect();
    Series { name: "Pareto front".to_owned(), colour: 6, mark: None, line: Some("5 4"), points }
}

fn measured_cost(target: &Target, id: &str) -> Plot {
    let point = |cell: &Measured| (cell.flops as f64, cell.test_accuracy);
    let on_front: Vec<&Measured> =
        target.measured_front.iter().map(|place| &target.measured[*place]).collect();
    let names: Vec<String> = on_front.iter().map(|cell| named(cell)).collect();
    let all = || target.measured.iter().map(point);
    Plot {
        id: format!("{id}-cost"),
        title: "Test accuracy against cost.".to_owned(),
        finding: format!(
            "On the Pareto front of {} measured cells are, cheapest first: {}.",
            target.measured.len(),
            names.join(", ")
        ),
        x: Axis::logarithmic("FLOPs", all().map(|point| point.0), large),
        y: Axis::linear("test accuracy (%)", all().map(|point| point.1), percent_label),
        series: vec![
            front(&on_front.into_iter().map(point).collect::<Vec<_>>()),
            of_role(&target.measured, false, |cell| Some(point(cell))),
            of_role(&target.measured, true, |cell| Some(point(cell))),
        ],
    }
}

fn named(cell: &Measured) -> String {
    format!("{} {}", if cell.chosen { "chosen" } else { "random" }, cell.rank)
}

fn predicted_cost(target: &Target, id: &str) -> Plot {
    let point = |cell: &Ranked| (cell.flops as f64, cell.predicted_accuracy);
    let of = |chosen: bool| {
        target.ranked.iter().filter(|cell| cell.chosen == chosen).map(point).collect::<Vec<_>>()
    };
    let all = || target.ranked.iter().map(point);
    let on_front: Vec<(f64, f64)> =
        target.predicted_front.iter().map(|place| point(&target.ranked[*place])).collect();
    let (first, last) =
        (on_front.first().copied().unwrap_or_default(), on_front.last().copied().unwrap_or_default());
    Plot {
        id: format!("{id}-predicted-cost"),
        title: "Predicted accuracy against cost.".to_owned(),
        finding: format!(
            "The front of {} ranked cells leads from {:.1} % at {} to {:.1} % at {} FLOPs.",
            target.ranked.len(),
            100.0 * first.1,
            large(first.0),
            100.0 * last.1,
            large(last.0)
        ),
        x: Axis::logarithmic("FLOPs", all().map(|point| point.0), large),
        y: Axis::linear("predicted accuracy (%)", all().map(|point| point.1), percent_label),
        series: vec![
            Series {
                name: "ranked".to_owned(),
                colour: 3,
                mark: Some(Mark::Speck),
                line: None,
                points: of(false),
            },
            front(&on_front),
            Series {
                name: "chosen".to_owned(),
                colour: 1,
                mark: Some(Mark::Dot),
                line: None,
                points: of(true),
            },
        ],
    }
}

fn paired(target: &Target) -> impl Iterator<Item = (f64, f64)> {
    target.measured.iter().filter_map(pair)
}

fn pair(cell: &Measured) -> Option<(f64, f64)> {
    Some((cell.predicted_accuracy?, cell.test_accuracy))
}

fn foretold(target: &Target, id: &str) -> Plot {
    let cells = paired(target).count();
    let finding = match target.spearman {
        Some(value) => {
            let weight = if cells < 10 { "; so few say little" } else { "" };
            format!("Spearman's rank correlation is {value:+.2} over {cells} cells{weight}.")
        }
        None => format!("{cells} cells are too few, or too much alike, for a rank correlation."),
    };
    Plot {
        id: format!("{id}-foretold"),
        title: "Predicted against measured.".to_owned(),
        finding,
        x: Axis::linear("predicted accuracy (%)", paired(target).map(|pair| pair.0), percent_label),
        y: Axis::linear("test accuracy (%)", paired(target).map(|pair| pair.1), percent_label),
        series: vec![of_role(&target.measured, false, pair), of_role(&target.measured, true, pair)],
    }
}

fn learning(target: &Target, id: &str) -> Plot {
    let shown = ["chosen", "random"].map(|role| {
        target.curves.iter().filter(move |curve| curve.role == role).take(CURVES).collect::<Vec<_>>()
    });
    let shown: Vec<_> = shown.into_iter().flatten().collect();
    let points = || shown.iter().flat_map(|curve| &curve.points);
    let last = shown.iter().filter_map(|curve| Some((curve, curve.points.last()?)));
    let best = last.max_by(|a, b| a.1.1.total_cmp(&b.1.1));
    let finding = best.map_or_else(String::new, |(curve, (epoch, accuracy))| {
        format!(
            "Validation accuracy by epoch; {} {} ends highest, at {:.1} % after {epoch} epochs.",
            curve.role,
            curve.rank,
            100.0 * accuracy
        )
    });
    let marks = [Mark::Dot, Mark::Square, Mark::Diamond];
    let series = shown.iter().map(|curve| {
        let chosen = curve.role == "chosen";
        let place = usize::try_from(curve.rank - 1).unwrap_or(0) % CURVES;
        Series {
            name: format!("{} {}", curve.role, curve.rank),
            colour: if chosen { [1, 3, 5][place] } else { [2, 4, 6][place] },
            mark: Some(marks[place]),
            line: Some(if chosen { "" } else { "4 3" }),
            points: curve.points.iter().map(|(epoch, accuracy)| (*epoch as f64, *accuracy)).collect(),
        }
    });
    Plot {
        id: format!("{id}-learning"),
        title: "Learning curves.".to_owned(),
        finding,
        x: Axis::linear("epoch", points().map(|point| point.0 as f64), |epoch| format!("{epoch:.0}")),
        y: Axis::linear("validation accuracy (%)", points().map(|point| point.1), percent_label),
        series: series.collect(),
    }
}

/// What the pictures show, as numbers.
fn numbers(target: &Target) -> Markup {
    let name = &target.outcome.name;
    let measured: Vec<Vec<Markup>> = target
        .measured
        .iter()
        .enumerate()
        .map(|(place, cell)| {
            let on_front = target.measured_front.contains(&place);
            vec![
                text(named(cell)),
                text(cell.arch_index),
                percent(cell.predicted_accuracy),
                percent(Some(cell.test_accuracy)),
                text(cell.flops),
                text(if on_front { "yes" } else { "no" }),
            ]
        })
        .collect();
    let ranked = target.ranked.iter().enumerate();
    let ranked: Vec<Vec<Markup>> = ranked
        .filter(|(place, _)| *place < LISTED || target.predicted_front.contains(place))
        .map(|(place, cell)| {
            let on_front = target.predicted_front.contains(&place);
            vec![
                text(place + 1),
                text(cell.arch_index),
                percent(Some(cell.predicted_accuracy)),
                text(cell.params),
                text(cell.flops),
                text(if on_front { "yes" } else { "no" }),
            ]
        })
        .collect();
    let curves = target.curves.iter().flat_map(|curve| {
        let name = format!("{} {}", curve.role, curve.rank);
        let row = move |(epoch, accuracy): &(i64, f64)| {
            vec![text(&name), text(curve.arch_index), text(epoch), percent(Some(*accuracy))]
        };
        curve.points.iter().map(row)
    });
    let (index, flops) = (Column::Number("index"), Column::Number("FLOPs"));
    html! {
        (folded(&format!("Numbers: measured cells of {name}, Spearman {}", correlation(target.spearman)), &[
            Column::Text("cell"), index, Column::Number("predicted"), Column::Number("test"), flops,
            Column::Text("on the front"),
        ], &measured))
        (folded(&format!("Numbers: ranked cells of {name}, the best {LISTED} and the front"), &[
            Column::Number("rank"), Column::Number("index"), Column::Number("predicted"), Column::Number("parameters"),
            Column::Number("FLOPs"), Column::Text("on the front"),
        ], &ranked))
        (folded(&format!("Numbers: learning curves of {name}"), &[
            Column::Text("cell"), Column::Number("index"), Column::Number("epoch"), Column::Number("validation"),
        ], &curves.collect::<Vec<_>>()))
    }
}
