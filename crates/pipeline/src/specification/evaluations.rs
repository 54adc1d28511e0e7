//! The evaluations of `pipeline.yaml`: which cells are trained on the datasets that models learn from.

use std::collections::BTreeMap;

use super::read::{CELLS, recipe_name, seeds};
use super::section::Section;
use super::{AroundBest, Evaluations};
use crate::tasks::Recipe;

pub(super) fn evaluations(
    mut section: Section<'_>,
    recipes: &BTreeMap<String, Recipe>,
) -> Option<Evaluations> {
    let recipe = recipe_name(&mut section, recipes);
    let anchors = section.count("anchors", 6, 0, CELLS);
    let cells_per_dataset = section.count("cells_per_dataset", 12, 0, CELLS);
    if anchors + cells_per_dataset < 2 {
        let rule =
            "and `cells_per_dataset` must make at least 2 cells together: a ranking needs two".to_owned();
        section.problem("anchors", rule);
    }
    let with_live_3x3 = section.number("with_live_3x3", 0.25, 0.0, 1.0);
    let shared_by = section.count("shared_by", 1, 1, 1_000);
    let around_best = around_best(&mut section);
    if let Some(around) = around_best.filter(|around| around.share + with_live_3x3 > 1.0) {
        let rule =
            format!("must be at most 1 with `with_live_3x3` ({with_live_3x3}), got `{}`", around.share);
        section.problem("around_best.share", rule);
    }
    let seeds = seeds(&mut section);
    let bundle = section.count("bundle", 4, 1, 256);
    let latency = section.optional("latency", "`true` or `false`").unwrap_or(false);
    section.finish();
    Some(Evaluations {
        recipe: recipe?,
        anchors,
        cells_per_dataset,
        with_live_3x3,
        shared_by,
        around_best,
        seeds,
        bundle,
        latency,
    })
}

fn around_best(section: &mut Section<'_>) -> Option<AroundBest> {
    let is_wanted = section.has("around_best");
    let mut around = section.section("around_best");
    let choice = AroundBest {
        share: around.number("share", 0.25, 0.0, 1.0),
        top: around.number("top", 0.1, 0.001, 1.0),
    };
    around.finish();
    is_wanted.then_some(choice)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::specification::section::Problems;

    fn read(value: Value) -> Result<Evaluations, String> {
        let problems = Problems::default();
        let recipes = BTreeMap::from([("short".to_owned(), Recipe::nas_bench_201_12())]);
        let read = evaluations(Section::new("evaluations", value, &problems), &recipes);
        let problems: Vec<String> = problems.take().iter().map(ToString::to_string).collect();
        if problems.is_empty() { Ok(read.unwrap()) } else { Err(problems.join("\n")) }
    }

    #[test]
    fn evaluations_that_say_nothing_of_sharing_and_of_a_second_wave_are_written_as_before_there_was_either() {
        let usual = read(json!({"recipe": "short"})).unwrap();
        assert_eq!((usual.shared_by, usual.around_best, usual.cells_around_best()), (1, None, 0));
        let written = serde_json::to_value(usual).unwrap();
        let keys: Vec<&String> = written.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["anchors", "bundle", "cells_per_dataset", "recipe", "seeds", "with_live_3x3"]);
    }

    #[test]
    fn a_second_wave_takes_its_share_of_the_further_cells_and_never_of_those_with_3x3() {
        let read = |share: f64, strong: f64, cells: u32| {
            let value = json!({
                "recipe": "short", "cells_per_dataset": cells, "with_live_3x3": strong, "around_best": {"share": share}
            });
            read(value).unwrap()
        };
        assert_eq!(read(0.25, 0.25, 34).cells_around_best(), 8);
        for (share, strong) in [(0.25, 0.25), (0.5, 0.5), (1.0, 0.0), (0.3, 0.7), (0.1, 0.85)] {
            let mut before = 0;
            for cells in 0..200 {
                let choice = read(share, strong, cells);
                let uniform =
                    f64::from(cells - choice.cells_around_best()) - (f64::from(cells) * strong).round();
                assert!(uniform >= f64::from(before), "{share} {strong} {cells}");
                before = uniform as u32;
            }
        }
    }

    #[test]
    fn a_share_that_leaves_nothing_and_unknown_keys_are_named() {
        let problems = read(json!({
            "recipe": "short", "with_live_3x3": 0.5, "shared_by": 0, "around_best": {"share": 0.6, "best": 0.1}
        }));
        insta::assert_snapshot!(problems.unwrap_err(), @"
        `evaluations.shared_by` must be a whole number from 1 to 1000, got `0`
        `evaluations.around_best.best` is not a known key; known here: `share`, `top`
        `evaluations.around_best.share` must be at most 1 with `with_live_3x3` (0.5), got `0.6`
        ");
    }
}
