//! The evaluations of `pipeline.yaml`: which cells are trained on the datasets that models learn from.

use std::collections::BTreeMap;

use super::Evaluations;
use super::read::{CELLS, recipe_name, seeds};
use super::section::Section;
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
        seeds,
        bundle,
        latency,
    })
}
