//! What a specification determines.

use super::*;

pub(crate) const SPECIFICATION: &str = r"
version: 1
name: small
seed: 5
store: memory:store
queue: memory:queue
sources:
  glyphs: { format: huggingface-parquet, paths: [glyphs.parquet], use: meta }
  clothes: { format: idx, paths: [images, labels], use: target }
extractor: { kind: efficientnet-lite0, weights: w, classes_per_task: 16 }
datasets:
  meta_train: { count: 3, least_classes: 5, most_classes: 8 }
  meta_valid: { count: 1, least_classes: 3, most_classes: 3 }
recipes:
  short: { epochs: 2, channels: 4, cells_per_stage: 1, image_size: 16 }
evaluations: { recipe: short, anchors: 2, cells_per_dataset: 4, bundle: 4 }
models:
  generator: { rounds: 2, validate_every: 1 }
  predictor: { rounds: 3, validate_every: 2 }
search: { recipe: short, chosen: 2, random: 2, candidates: 10 }
";

pub(crate) fn source(name: &str, classes: u32) -> IndexedSource {
    IndexedSource {
        content_id: content_id("test source", 1, &name),
        classes: (0..classes).map(|label| (label, format!("class {label}"))).collect(),
        pictures: 20 * u64::from(classes),
        address: SourceAddress {
            name: name.to_owned(),
            format: "idx".to_owned(),
            paths: Vec::new(),
            fingerprint: None,
        },
    }
}

pub(crate) fn study_with(text: &str) -> Result<Study, Error> {
    let specification = Specification::parse("pipeline.yaml", text).unwrap();
    let sources =
        [("glyphs".to_owned(), source("glyphs", 40)), ("clothes".to_owned(), source("clothes", 10))];
    Study::design(specification, sources.into(), "00".repeat(32))
}

fn classes(study: &Study, group: Group) -> BTreeSet<u32> {
    let members = study.datasets.iter().filter(|dataset| dataset.group == group);
    members.flat_map(|dataset| dataset.dataset.classes.clone()).collect()
}

#[test]
fn no_class_is_in_two_groups_whatever_the_seed() {
    let mut train = BTreeSet::new();
    let mut valid = BTreeSet::new();
    for seed in 0..20 {
        let study = study_with(&SPECIFICATION.replace("seed: 5", &format!("seed: {seed}"))).unwrap();
        train.extend(classes(&study, Group::MetaTrain));
        valid.extend(classes(&study, Group::MetaValid));
    }
    assert!(!train.is_empty() && !valid.is_empty());
    assert!(train.is_disjoint(&valid));
}

#[test]
fn the_same_specification_gives_the_same_study_and_another_seed_another() {
    let study = study_with(SPECIFICATION).unwrap();
    assert_eq!(study.id(), study_with(SPECIFICATION).unwrap().id());
    assert_ne!(study.id(), study_with(&SPECIFICATION.replace("seed: 5", "seed: 6")).unwrap().id());
}

#[test]
fn anchors_are_trained_on_every_dataset_and_no_cell_twice() {
    let study = study_with(SPECIFICATION).unwrap();
    let mut cells_of: BTreeMap<String, Vec<Cell>> = BTreeMap::new();
    for bundle in study.bundles() {
        let cells = cells_of.entry(bundle.dataset.id.clone()).or_default();
        cells.extend(bundle.units.iter().map(|unit| unit.cell));
    }
    assert_eq!(cells_of.len(), 4);
    let mut shared: Option<BTreeSet<Cell>> = None;
    for cells in cells_of.values() {
        let distinct: BTreeSet<Cell> = cells.iter().copied().collect();
        assert_eq!((distinct.len(), cells.len()), (6, 6));
        assert!(distinct.iter().all(|cell| !cell.is_always_zero() && cell.representative() == *cell));
        shared =
            Some(shared.map_or(distinct.clone(), |before| before.intersection(&distinct).copied().collect()));
    }
    assert!(shared.unwrap().len() >= 2);
}

#[test]
fn every_class_of_a_dataset_has_its_features() {
    let study = study_with(SPECIFICATION).unwrap();
    for dataset in &study.datasets {
        let covered: BTreeSet<u32> = study
            .extractions
            .iter()
            .filter(|shard| dataset.features.contains(&extraction_id(shard)))
            .flat_map(|shard| shard.classes.clone())
            .collect();
        assert!(dataset.dataset.classes.iter().all(|label| covered.contains(label)), "{}", dataset.name);
    }
}

/// With two kinds that draw the same classes, a feature task of the wrong look would be found.
#[test]
fn a_dataset_has_features_of_its_own_look_only() {
    let kinds = "meta_train: [{ count: 3, least_classes: 20, most_classes: 28 }, \
                 { name: grey, count: 2, least_classes: 20, most_classes: 28, look: { grey: true } }]";
    let one = "meta_train: { count: 3, least_classes: 5, most_classes: 8 }";
    let study = study_with(&SPECIFICATION.replace(one, kinds)).unwrap();
    let looks: Vec<bool> = study.datasets.iter().map(|dataset| dataset.dataset.look.grey).collect();
    assert_eq!(looks, [false, false, false, true, true, false, false]);
    assert_eq!(study.datasets[3].name, "meta-train-glyphs.grey-000");
    for dataset in &study.datasets {
        let shards =
            study.extractions.iter().filter(|shard| dataset.features.contains(&extraction_id(shard)));
        let shards: Vec<&ExtractFeatures> = shards.collect();
        assert!(shards.iter().all(|shard| shard.look == dataset.dataset.look), "{}", dataset.name);
        let covered: BTreeSet<u32> = shards.iter().flat_map(|shard| shard.classes.clone()).collect();
        assert!(dataset.dataset.classes.iter().all(|label| covered.contains(label)), "{}", dataset.name);
    }
}

#[test]
fn a_group_with_too_few_classes_is_refused_with_the_key_to_change() {
    let error = study_with(&SPECIFICATION.replace("least_classes: 3, most_classes: 3", "least_classes: 9"));
    insta::assert_snapshot!(error.unwrap_err(), @"source `glyphs` has 6 classes for meta-valid, and `datasets.meta_valid.least_classes` asks for 9; lower it, or give the group a larger share in `datasets.class_shares`");
    let kinds = "meta_train: [{ count: 1, least_classes: 5 }, { name: many, count: 1, least_classes: 50, most_classes: 50 }]";
    let one = "meta_train: { count: 3, least_classes: 5, most_classes: 8 }";
    let error = study_with(&SPECIFICATION.replace(one, kinds)).unwrap_err().to_string();
    assert!(error.contains("`datasets.meta_train[1].least_classes` asks for 50"), "{error}");
}

#[test]
fn random_cells_are_distinct_and_never_zero() {
    let study = study_with(&SPECIFICATION.replace("random: 2", "random: 200")).unwrap();
    let target = study.searched().next().unwrap();
    let cells = study.random_cells(target);
    assert_eq!(cells.iter().collect::<BTreeSet<_>>().len(), 200);
    assert!(cells.iter().all(|cell| !cell.is_always_zero()));
    assert_eq!(cells, study.random_cells(target));
}
