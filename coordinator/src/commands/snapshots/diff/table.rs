//! A comparison for a person.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::figures::{Figures, Moved};
use super::{Difference, Side};

pub(super) fn table(difference: &Difference) -> String {
    let mut text = format!(
        "{}: snapshot {} → {}\n\n{:<18}{:>10}{:>10}{:>9}{:>9}{:>9}  files shared\n",
        difference.pipeline,
        side(&difference.before),
        side(&difference.after),
        "table",
        "before",
        "after",
        "added",
        "removed",
        "changed"
    );
    for (table, change) in &difference.tables {
        let _ = writeln!(
            text,
            "{table:<18}{:>10}{:>10}{:>9}{:>9}{:>9}  {} of {}",
            change.rows_before,
            change.rows_after,
            change.added,
            change.removed,
            change.changed,
            change.shared_files,
            change.files_after
        );
    }
    add_models(&mut text, difference);
    add_figures(&mut text, "trainings", &difference.groups);
    add_figures(&mut text, "measured", &difference.searches);
    text
}

fn side(side: &Side) -> String {
    let content = side.restored_from.map_or_else(String::new, |old| format!(", content of {old}"));
    format!("{} ({}{content})", side.snapshot, side.published_at.format("%Y-%m-%d %H:%M"))
}

fn add_models(text: &mut String, difference: &Difference) {
    let _ = writeln!(text, "\n{:<18}{:<24}{:>14}{:>14}", "model", "figure", "before", "after");
    for (model, change) in &difference.models {
        let id = |id: &Option<String>| id.as_deref().map_or("–", |id| id.get(..12).unwrap_or(id)).to_owned();
        let (before, after) = (id(&change.checkpoint.before), id(&change.checkpoint.after));
        let _ = writeln!(text, "{model:<18}{:<24}{before:>14}{after:>14}", "checkpoint");
        if before == after {
            continue;
        }
        // Those of single datasets stand in the JSON form.
        for (name, moved) in change.metrics.iter().filter(|(name, _)| !name.contains('.')) {
            let figure = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.4}"));
            let _ =
                writeln!(text, "{:<18}{name:<24}{:>14}{:>14}", "", figure(moved.before), figure(moved.after));
        }
    }
}

fn add_figures(text: &mut String, what: &str, groups: &BTreeMap<String, Moved<Figures>>) {
    if groups.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n{what:<18}{:>10}{:>10}  {:>18}  {:>18}",
        "before", "after", "mean valid acc. %", "mean test acc. %"
    );
    for (group, moved) in groups {
        let count = |figures: Option<Figures>| figures.map_or(0, |figures| figures.evaluations);
        let both = |figure: fn(Figures) -> Option<f64>| {
            let told = |figures: Option<Figures>| {
                figures.and_then(figure).map_or("–".to_owned(), |mean| format!("{:.2}", mean * 100.0))
            };
            format!("{} → {}", told(moved.before), told(moved.after))
        };
        let _ = writeln!(
            text,
            "{group:<18}{:>10}{:>10}  {:>18}  {:>18}",
            count(moved.before),
            count(moved.after),
            both(|figures| figures.mean_valid_accuracy),
            both(|figures| figures.mean_test_accuracy)
        );
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use metad2a_database::TableChange;

    use super::super::ModelChange;
    use super::*;

    fn figure<T>(before: Option<T>, after: Option<T>) -> Moved<T> {
        Moved { before, after }
    }

    #[test]
    fn the_table_tells_rows_models_and_means_of_both_sides() {
        let day = |day: i64| DateTime::from_timestamp(1_800_000_000 + day * 86_400, 0).unwrap();
        let moved = |before: &str, after: &str| Moved {
            before: Some(before.repeat(32)),
            after: Some(after.repeat(32)),
        };
        let figures = |evaluations, valid, test| {
            Some(Figures { evaluations, mean_valid_accuracy: valid, mean_test_accuracy: test })
        };
        let difference = Difference {
            pipeline: "nightly".to_owned(),
            before: Side { snapshot: 41, published_at: day(0), restored_from: None },
            after: Side { snapshot: 43, published_at: day(1), restored_from: Some(40) },
            tables: BTreeMap::from([
                (
                    "evaluations".to_owned(),
                    TableChange {
                        rows_before: 192,
                        rows_after: 240,
                        added: 50,
                        removed: 2,
                        changed: 0,
                        files_before: 1,
                        files_after: 2,
                        shared_files: 1,
                    },
                ),
                ("runs".to_owned(), TableChange::default()),
            ]),
            models: BTreeMap::from([
                (
                    "generator".to_owned(),
                    ModelChange {
                        checkpoint: moved("ab", "ab"),
                        metrics: BTreeMap::from([("nll_per_graph".to_owned(), figure(Some(9.0), Some(9.0)))]),
                    },
                ),
                (
                    "predictor".to_owned(),
                    ModelChange {
                        checkpoint: moved("cd", "ef"),
                        metrics: BTreeMap::from([
                            ("spearman".to_owned(), figure(Some(0.5), Some(0.6251))),
                            ("spearman.0a1b".to_owned(), figure(None, Some(0.7))),
                        ]),
                    },
                ),
            ]),
            groups: BTreeMap::from([(
                "meta-train".to_owned(),
                figure(figures(150, Some(0.612), None), figures(198, Some(0.6234), None)),
            )]),
            searches: BTreeMap::from([
                (
                    "chosen".to_owned(),
                    figure(figures(3, Some(0.8), Some(0.797)), figures(3, Some(0.81), Some(0.8))),
                ),
                ("random".to_owned(), figure(None, figures(3, Some(0.79), Some(0.788)))),
            ]),
        };
        insta::assert_snapshot!(table(&difference), @"
        nightly: snapshot 41 (2027-01-15 08:00) → 43 (2027-01-16 08:00, content of 40)

        table                 before     after    added  removed  changed  files shared
        evaluations              192       240       50        2        0  1 of 2
        runs                       0         0        0        0        0  0 of 0

        model             figure                          before         after
        generator         checkpoint                abababababab  abababababab
        predictor         checkpoint                cdcdcdcdcdcd  efefefefefef
                          spearman                        0.5000        0.6251

        trainings             before     after   mean valid acc. %    mean test acc. %
        meta-train               150       198       61.20 → 62.34               – → –

        measured              before     after   mean valid acc. %    mean test acc. %
        chosen                     3         3       80.00 → 81.00       79.70 → 80.00
        random                     0         3           – → 79.00           – → 78.80
        ");
    }
}
