//! The recipes of `pipeline.yaml`: a preset, and what a recipe says otherwise.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::read::check_name;
use super::section::Section;
use crate::tasks::{Augmentation, Recipe};

/// A published recipe, by its name in the file.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum Preset {
    /// 200 epochs; also what a recipe without a preset begins with.
    #[default]
    #[serde(rename = "nas-bench-201")]
    NasBench201,
    #[serde(rename = "nas-bench-201-12")]
    NasBench201Short,
}

impl Preset {
    fn recipe(self) -> Recipe {
        match self {
            Self::NasBench201 => Recipe::nas_bench_201(),
            Self::NasBench201Short => Recipe::nas_bench_201_12(),
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
    let preset: Option<Preset> = section.optional("preset", "`nas-bench-201` or `nas-bench-201-12`");
    let usual = preset.unwrap_or_default().recipe();
    let mut augmentation = section.section("augmentation");
    let flip = augmentation.optional("horizontal_flip", "`true` or `false`");
    let augment = Augmentation {
        horizontal_flip: flip.unwrap_or(usual.augmentation.horizontal_flip),
        crop_padding: augmentation.count("crop_padding", usual.augmentation.crop_padding, 0, 64),
    };
    augmentation.finish();
    let recipe = Recipe {
        epochs: section.count("epochs", usual.epochs, 1, 100_000),
        batch_size: section.count("batch_size", usual.batch_size, 2, 65_536),
        learning_rate: section.number("learning_rate", usual.learning_rate, 1e-9, 100.0),
        momentum: section.number("momentum", usual.momentum, 0.0, 0.9999),
        nesterov: section.optional("nesterov", "`true` or `false`").unwrap_or(usual.nesterov),
        weight_decay: section.number("weight_decay", usual.weight_decay, 0.0, 1.0),
        precision: section.optional("precision", "`float32` or `bfloat16`").unwrap_or(usual.precision),
        channels: section.count("channels", usual.channels, 1, 1_024),
        cells_per_stage: section.count("cells_per_stage", usual.cells_per_stage, 1, 100),
        image_size: section.count("image_size", usual.image_size, 4, 1_024),
        augmentation: augment,
    };
    section.finish();
    recipe
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
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
        let presets = json!({"full": {"preset": "nas-bench-201"}, "twelve": {"preset": "nas-bench-201-12"}, "plain": {}});
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
        };
        assert_eq!(recipes["twelve"], Recipe { epochs: 12, ..full.clone() });
        assert_eq!((&recipes["full"], &recipes["plain"]), (&full, &full));
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

    /// What a unit is keyed by: a preset must never come to mean another recipe.
    #[test]
    fn the_ids_of_the_presets_are_pinned() {
        let ids =
            [Recipe::nas_bench_201(), Recipe::nas_bench_201_12()].map(|recipe| recipe.id()[..16].to_owned());
        insta::assert_snapshot!(ids.join("\n"), @"
        163940e2819cefd3
        8c472870acc60845
        ");
    }

    #[test]
    fn an_unknown_preset_and_wrong_keys_beside_one_are_named() {
        let problems = read(json!({
            "full": {"preset": "nas-bench-101", "epochs": 0},
            "twelve": {"preset": "nas-bench-201-12", "epoch": 12}
        }));
        insta::assert_snapshot!(problems.unwrap_err(), @r#"
        `recipes.full.preset` must be `nas-bench-201` or `nas-bench-201-12`, got `"nas-bench-101"`
        `recipes.full.epochs` must be a whole number from 1 to 100000, got `0`
        `recipes.twelve.epoch` is not a known key; did you mean `epochs`?
        "#);
    }
}
