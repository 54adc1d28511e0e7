//! The recipes of `pipeline.yaml`: a preset, and what a recipe says otherwise.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::read::check_name;
use super::section::Section;
use crate::halving::Halving;
use crate::tasks::{Augmentation, Recipe};

/// A recipe by its name in the file.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum Preset {
    /// 200 epochs; also what a recipe without a preset begins with.
    #[default]
    #[serde(rename = "nas-bench-201")]
    NasBench201,
    #[serde(rename = "nas-bench-201-12")]
    NasBench201Short,
    #[serde(rename = "small-budget")]
    SmallBudget,
}

impl Preset {
    fn recipe(self) -> Recipe {
        match self {
            Self::NasBench201 => Recipe::nas_bench_201(),
            Self::NasBench201Short => Recipe::nas_bench_201_12(),
            Self::SmallBudget => Recipe::small_budget(),
        }
    }
}

pub(super) fn recipes(section: Section<'_>) -> BTreeMap<String, Recipe> {
    let sections = section.named_sections().into_iter();
    sections
        .map(|(name, entry)| {
            check_name(&entry, "(name)", &name);
            let recipe = recipe(entry);
            (name, recipe)
        })
        .collect()
}

fn recipe(mut section: Section<'_>) -> Recipe {
    let preset: Option<Preset> =
        section.optional("preset", "`nas-bench-201`, `nas-bench-201-12` or `small-budget`");
    let usual = preset.unwrap_or_default().recipe();
    let mut augmentation = section.section("augmentation");
    let flip = augmentation.optional("horizontal_flip", "`true` or `false`");
    let augment = Augmentation {
        horizontal_flip: flip.unwrap_or(usual.augmentation.horizontal_flip),
        crop_padding: augmentation.count("crop_padding", usual.augmentation.crop_padding, 0, 64),
    };
    augmentation.finish();
    let mut recipe = Recipe {
        epochs: section.count("epochs", usual.epochs, 1, 100_000),
        batch_size: section.count("batch_size", usual.batch_size, 2, 65_536),
        learning_rate: section.number("learning_rate", usual.learning_rate, 1e-9, 100.0),
        momentum: section.number("momentum", usual.momentum, 0.0, 0.9999),
        nesterov: section.optional("nesterov", "`true` or `false`").unwrap_or(usual.nesterov),
        weight_decay: section.number("weight_decay", usual.weight_decay, 0.0, 1.0),
        precision: section.optional("precision", "`float32` or `bfloat16`").unwrap_or(usual.precision),
        channels: section.count("channels", usual.channels, 1, 1_024),
        cells_per_stage: section.count("cells_per_stage", usual.cells_per_stage, 1, 64),
        image_size: section.count("image_size", usual.image_size, 8, 1_024),
        augmentation: augment,
        halving: None,
    };
    if !recipe.image_size.is_multiple_of(4) {
        let rule =
            format!("must be a multiple of 4, because two reductions halve it, got `{}`", recipe.image_size);
        section.problem("image_size", rule);
    }
    if recipe.augmentation.crop_padding >= recipe.image_size {
        let (padding, size) = (recipe.augmentation.crop_padding, recipe.image_size);
        let rule = format!("must have a `crop_padding` below `image_size` ({size}), got `{padding}`");
        section.problem("augmentation", rule);
    }
    if recipe.nesterov && recipe.momentum == 0.0 {
        section.problem("momentum", "must be above 0 where `nesterov` is true, got `0`".to_owned());
    }
    recipe.halving = section.optional_section("halving").and_then(|entry| halving(entry, recipe.epochs));
    section.finish();
    recipe
}

/// None where a key is missing or of another type: the problem is told by then.
fn halving(mut section: Section<'_>, epochs: u32) -> Option<Halving> {
    let rungs = section.required("rungs", "a list of epochs");
    let keep = section.required("keep", "a number between 0 and 1");
    let by = section.required("by", "`train-loss-sum` or `valid-accuracy`");
    let halving = rungs.zip(keep).zip(by).map(|((rungs, keep), by)| Halving { rungs, keep, by });
    for broken in halving.iter().flat_map(|halving| halving.broken_rules(epochs)) {
        section.problem(broken.key, broken.rule);
    }
    section.finish();
    halving
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::halving::Signal;
    use crate::specification::section::Problems;
    use crate::tasks::Precision;

    /// The recipes of a section, or its problems, one a line.
    fn read(value: Value) -> Result<BTreeMap<String, Recipe>, String> {
        let problems = Problems::default();
        let recipes = recipes(Section::new("recipes", value, &problems));
        let problems: Vec<String> = problems.take().iter().map(ToString::to_string).collect();
        if problems.is_empty() { Ok(recipes) } else { Err(problems.join("\n")) }
    }

    /// The figures of `spec`, section 6, and of the official records.
    #[test]
    fn presets_are_the_published_recipes_by_name() {
        let presets = json!({"full": {"preset": "nas-bench-201"}, "twelve": {"preset": "nas-bench-201-12"}, "plain": {},
            "small": {"preset": "small-budget"}});
        let recipes = read(presets).unwrap();
        let full = Recipe {
            epochs: 200,
            batch_size: 256,
            learning_rate: 0.1,
            momentum: 0.9,
            nesterov: true,
            weight_decay: 5e-4,
            precision: Precision::Float32,
            channels: 16,
            cells_per_stage: 5,
            image_size: 32,
            augmentation: Augmentation { horizontal_flip: true, crop_padding: 4 },
            halving: None,
        };
        assert_eq!(recipes["twelve"], Recipe { epochs: 12, ..full.clone() });
        assert_eq!((&recipes["full"], &recipes["plain"]), (&full, &full));
        let small = Recipe {
            epochs: 120,
            batch_size: 64,
            channels: 8,
            cells_per_stage: 1,
            image_size: 16,
            augmentation: Augmentation { horizontal_flip: true, crop_padding: 2 },
            ..full
        };
        assert_eq!(recipes["small"], small);
    }

    #[test]
    fn single_keys_of_a_preset_can_be_said_otherwise() {
        let recipes = read(json!({
            "imagenet16": {
                "preset": "nas-bench-201-12", "image_size": 16, "augmentation": {"crop_padding": 2}
            }
        }));
        let augmentation = Augmentation { horizontal_flip: true, crop_padding: 2 };
        let expected = Recipe { image_size: 16, augmentation, ..Recipe::nas_bench_201_12() };
        assert_eq!(recipes.unwrap()["imagenet16"], expected);
    }

    #[test]
    fn a_recipe_halves_where_it_says_so_and_is_another_recipe_then() {
        let by = json!({"rungs": [3, 6], "keep": 0.5, "by": "train-loss-sum"});
        let recipes = read(json!({
            "plain": {"epochs": 12},
            "halved": {"epochs": 12, "halving": by},
            "validated": {"epochs": 12, "halving": {"rungs": [3, 6], "keep": 0.5, "by": "valid-accuracy"}}
        }));
        let recipes = recipes.unwrap();
        assert_eq!(recipes["plain"], Recipe::nas_bench_201_12());
        let halving = Halving { rungs: vec![3, 6], keep: 0.5, by: Signal::TrainLossSum };
        assert_eq!(recipes["halved"], Recipe { halving: Some(halving), ..Recipe::nas_bench_201_12() });
        let ids = ["plain", "halved", "validated"].map(|name| recipes[name].id()[..16].to_owned());
        insta::assert_snapshot!(ids.join("\n"), @"
        8c472870acc60845
        f7d9508bee797f3f
        678d4ea155bcc950
        ");
        for recipe in recipes.values() {
            let json = serde_json::to_string(recipe).unwrap();
            assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), *recipe);
        }
    }

    #[test]
    fn every_problem_of_a_halving_is_named_with_key_rule_and_value() {
        let problems = read(json!({
            "a": {"epochs": 20, "halving": {"rungs": [10, 20], "keep": 1, "by": "loss", "rugns": []}},
            "b": {"epochs": 20, "halving": {"rungs": [10, 5], "keep": 0, "by": "valid-accuracy"}},
            "c": {"epochs": 20, "halving": {}},
            "d": {"epochs": 20, "halving": {"rungs": 10, "keep": 0.5, "by": "train-loss-sum"}}
        }));
        insta::assert_snapshot!(problems.unwrap_err(), @r#"
        `recipes.a.halving.by` must be `train-loss-sum` or `valid-accuracy`, got `"loss"`
        `recipes.a.halving.rugns` is not a known key; did you mean `rungs`?
        `recipes.b.halving.rungs` must be ascending epochs, at least one, each from 1 and before the last (`epochs` is 20), got `[10, 5]`
        `recipes.b.halving.keep` must be a number between 0 and 1, both excluded, got `0`
        `recipes.c.halving.rungs` is missing; it must be a list of epochs
        `recipes.c.halving.keep` is missing; it must be a number between 0 and 1
        `recipes.c.halving.by` is missing; it must be `train-loss-sum` or `valid-accuracy`
        `recipes.d.halving.rungs` must be a list of epochs, got `10`
        "#);
    }

    /// What a unit is keyed by: a preset must never come to mean another recipe.
    #[test]
    fn the_ids_of_the_presets_are_pinned() {
        let ids = [Recipe::nas_bench_201(), Recipe::nas_bench_201_12(), Recipe::small_budget()]
            .map(|recipe| recipe.id()[..16].to_owned());
        insta::assert_snapshot!(ids.join("\n"), @"
        163940e2819cefd3
        8c472870acc60845
        aee26a6f06680919
        ");
    }

    /// What a worker would refuse to train is refused here, before anything runs.
    #[test]
    fn pictures_that_cannot_be_halved_twice_and_keys_that_contradict_each_other_are_named() {
        let problems = read(json!({
            "odd": {"image_size": 30, "augmentation": {"crop_padding": 30}},
            "small": {"image_size": 4},
            "still": {"momentum": 0.0}
        }));
        insta::assert_snapshot!(problems.unwrap_err(), @r"
        `recipes.odd.image_size` must be a multiple of 4, because two reductions halve it, got `30`
        `recipes.odd.augmentation` must have a `crop_padding` below `image_size` (30), got `30`
        `recipes.small.image_size` must be a whole number from 8 to 1024, got `4`
        `recipes.still.momentum` must be above 0 where `nesterov` is true, got `0`
        ");
    }

    #[test]
    fn an_unknown_preset_and_wrong_keys_beside_one_are_named() {
        let problems = read(json!({
            "full": {"preset": "nas-bench-101", "epochs": 0},
            "twelve": {"preset": "nas-bench-201-12", "epoch": 12}
        }));
        insta::assert_snapshot!(problems.unwrap_err(), @r#"
        `recipes.full.preset` must be `nas-bench-201`, `nas-bench-201-12` or `small-budget`, got `"nas-bench-101"`
        `recipes.full.epochs` must be a whole number from 1 to 100000, got `0`
        `recipes.twelve.epoch` is not a known key; did you mean `epochs`?
        "#);
    }
}
