//! A study that grows keeps what it had.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::draws::CellPool;
use super::tests::{SPECIFICATION, source};
use super::*;

/// Everything that a study asks of one source, by id.
#[derive(Debug, PartialEq)]
struct Asked {
    datasets: Vec<(String, String)>,
    extractions: BTreeSet<String>,
    bundles: Vec<String>,
}

fn asked(study: &Study, name: &str) -> Asked {
    let content_id = &study.sources[name].content_id;
    let extractions = study.extractions.iter().filter(|shard| shard.source == *content_id);
    let bundles = study.bundles().filter(|bundle| bundle.dataset.source == name);
    let datasets = study.datasets.iter().filter(|dataset| dataset.source == name);
    Asked {
        datasets: datasets.map(|dataset| (dataset.name.clone(), dataset.id.clone())).collect(),
        extractions: extractions.map(extraction_id).collect(),
        bundles: bundles.map(|bundle| Task::Evaluate(bundle.evaluate(bundle.units.to_vec())).id()).collect(),
    }
}

fn units(study: &Study) -> BTreeSet<String> {
    let bundles = study.bundles();
    bundles.flat_map(|bundle| bundle.units.iter().map(move |unit| bundle.unit_id(unit).to_string())).collect()
}

/// Of each dataset by its id, the cells beyond the two anchors, sorted.
fn further_cells(study: &Study) -> BTreeMap<String, Vec<Cell>> {
    let mut cells: BTreeMap<String, Vec<Cell>> = BTreeMap::new();
    for bundle in study.bundles() {
        let of_dataset = cells.entry(bundle.dataset.id.clone()).or_default();
        of_dataset.extend(bundle.units.iter().map(|unit| unit.cell));
    }
    for cells in cells.values_mut() {
        cells.drain(..2);
        cells.sort_unstable();
    }
    cells
}

/// A study of the sources that are named: `m…` for meta, `t…` for targets, all else as in the tests' specification.
fn study_of(sources: &BTreeMap<String, IndexedSource>, edits: &[(&str, String)]) -> Study {
    let mut lines = String::from("sources:\n");
    for name in sources.keys() {
        let purpose = if name.starts_with('m') { "meta" } else { "target" };
        lines += "  ";
        lines += name;
        lines += ": { format: idx, paths: [a, b], use: ";
        lines += purpose;
        lines += " }\n";
    }
    let from = SPECIFICATION.find("sources:").unwrap();
    let to = SPECIFICATION.find("extractor:").unwrap();
    let mut text = format!("{}{lines}{}", &SPECIFICATION[..from], &SPECIFICATION[to..]);
    for (old, new) in edits {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    let specification = Specification::parse("pipeline.yaml", &text).unwrap();
    Study::design(specification, sources.clone(), "00".repeat(32)).unwrap()
}

fn sources(names: &[(String, u32)]) -> BTreeMap<String, IndexedSource> {
    names.iter().map(|(name, classes)| (name.clone(), source(name, *classes))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_source_that_comes_leaves_all_others_as_they_were(
        known in prop::collection::btree_map("[mt][a-f]", 24..60_u32, 0..4),
        name in "[mt][g-z]",
        classes in 24..60_u32,
    ) {
        let mut known: Vec<(String, u32)> = known.into_iter().collect();
        known.push(("m0".to_owned(), 30));
        let before = study_of(&sources(&known), &[]);
        let mut more = known.clone();
        more.push((name.clone(), classes));
        let after = study_of(&sources(&more), &[]);
        for (other, _) in &known {
            prop_assert_eq!(asked(&before, other), asked(&after, other), "{}", other);
        }
        prop_assert!(!asked(&after, &name).datasets.is_empty());
    }

    #[test]
    fn a_source_that_changes_changes_only_its_own_ids(classes in 24..60_u32) {
        let before = sources(&[("ma".to_owned(), 40), ("mb".to_owned(), 40), ("ta".to_owned(), 5)]);
        let mut after = before.clone();
        let changed = IndexedSource { content_id: "ff".repeat(32), ..source("mb", classes) };
        after.insert("mb".to_owned(), changed);
        let (before, after) = (study_of(&before, &[]), study_of(&after, &[]));
        for name in ["ma", "ta"] {
            prop_assert_eq!(asked(&before, name), asked(&after, name));
        }
        let ids = |study: &Study| -> BTreeSet<String> {
            asked(study, "mb").datasets.into_iter().map(|(_, id)| id).collect()
        };
        prop_assert!(ids(&before).is_disjoint(&ids(&after)));
    }

    #[test]
    fn raised_counts_keep_all_earlier_draws(
        (train, valid) in (0..4_u32, 0..3_u32),
        (anchors, cells) in (0..3_u32, 0..5_u32),
        seeds in 1..4_u64,
    ) {
        let sources = sources(&[("ma".to_owned(), 40), ("mb".to_owned(), 30), ("ta".to_owned(), 5)]);
        let before = study_of(&sources, &[]);
        let seeds: Vec<String> = (0..seeds).map(|seed| seed.to_string()).collect();
        let after = study_of(&sources, &[
            ("meta_train: { count: 3", format!("meta_train: {{ count: {}", 3 + train)),
            ("meta_valid: { count: 1", format!("meta_valid: {{ count: {}", 1 + valid)),
            ("anchors: 2, cells_per_dataset: 4", format!(
                "anchors: {}, seeds: [{}], cells_per_dataset: {}", 2 + anchors, seeds.join(", "), 4 + cells
            )),
        ]);
        prop_assert!(units(&before).is_subset(&units(&after)));
        let named = |study: &Study| -> BTreeSet<(String, String)> {
            study.datasets.iter().map(|dataset| (dataset.name.clone(), dataset.id.clone())).collect()
        };
        prop_assert!(named(&before).is_subset(&named(&after)));
    }

    #[test]
    fn a_kind_that_comes_leaves_the_datasets_of_all_others_as_they_were(
        more in prop::collection::vec((0..3_u32, any::<bool>(), prop::option::of(1..16_u32)), 1..4),
        at_the_end in any::<bool>(),
    ) {
        let sources = sources(&[("ma".to_owned(), 40), ("mb".to_owned(), 30), ("ta".to_owned(), 5)]);
        let one = "{ count: 3, least_classes: 5, most_classes: 8 }";
        let mut kinds: Vec<String> = more.iter().enumerate().map(|(number, (count, grey, resolution))| {
            let resolution = resolution.map_or_else(String::new, |pixels| format!(", resolution: {pixels}"));
            format!(
                "{{ name: k{number}, count: {count}, least_classes: 4, look: {{ grey: {grey}{resolution} }} }}"
            )
        }).collect();
        kinds.insert(if at_the_end { 0 } else { kinds.len() }, one.to_owned());
        let before = study_of(&sources, &[]);
        let after = study_of(&sources, &[(&format!("meta_train: {one}"), format!("meta_train: [{}]", kinds.join(", ")))]);
        prop_assert!(units(&before).is_subset(&units(&after)));
        for name in sources.keys() {
            let (before, after) = (asked(&before, name), asked(&after, name));
            let mut kept = after.datasets.clone();
            kept.retain(|(name, _)| !name.contains(".k"));
            prop_assert_eq!(&before.datasets, &kept);
            prop_assert!(before.extractions.is_subset(&after.extractions));
            let counted: u32 = more.iter().map(|(count, ..)| count).sum();
            let expected = if name.starts_with('m') { counted as usize } else { 0 };
            prop_assert_eq!(after.datasets.len() - before.datasets.len(), expected);
        }
    }

    #[test]
    fn cells_are_shared_by_so_many_datasets_of_a_group_and_source(
        counts in prop::collection::vec(0..7_u32, 1..4), shared_by in 2..4_u32, more in 0..3_u32,
    ) {
        let sources = sources(&[("ma".to_owned(), 40), ("mb".to_owned(), 50), ("ta".to_owned(), 5)]);
        let kinds = |counts: &[u32]| {
            let kinds = counts.iter().enumerate().map(|(number, count)| {
                format!("{{ name: k{number}, count: {count}, least_classes: 5, most_classes: 8 }}")
            });
            format!("meta_train: [{{ count: 1, least_classes: 5 }}, {}]", kinds.collect::<Vec<_>>().join(", "))
        };
        let shared_study = |counts: &[u32], shared_by: u32| study_of(&sources, &[
            ("meta_train: { count: 3, least_classes: 5, most_classes: 8 }", kinds(counts)),
            ("anchors: 2", format!("anchors: 2, shared_by: {shared_by}")),
        ]);
        let study = shared_study(&counts, shared_by);
        let further = further_cells(&study);
        for (group, source) in [(Group::MetaTrain, "ma"), (Group::MetaTrain, "mb"), (Group::MetaValid, "ma")] {
            let mut blocks: BTreeMap<&Vec<Cell>, u32> = BTreeMap::new();
            let members = study.datasets.iter().filter(|dataset| dataset.group == group && dataset.source == source);
            for dataset in members {
                *blocks.entry(&further[&dataset.id]).or_default() += 1;
            }
            let partial: Vec<u32> = blocks.into_values().filter(|size| *size != shared_by).collect();
            prop_assert!(partial.len() <= 1 && partial.iter().all(|size| *size < shared_by), "{:?}", partial);
        }
        // Neither a kind at the end nor a count raised from one multiple to another moves what was there.
        let mut longer = counts.clone();
        longer.push(more);
        prop_assert!(units(&study).is_subset(&units(&shared_study(&longer, shared_by))));
        let multiples: Vec<u32> = counts.iter().map(|count| count * shared_by).collect();
        let mut raised = multiples.clone();
        raised[0] += more * shared_by;
        let before = units(&shared_study(&multiples, shared_by));
        prop_assert!(before.is_subset(&units(&shared_study(&raised, shared_by))));
    }

    #[test]
    fn each_further_cell_of_a_dataset_only_adds(
        anchors in 0..12_u32, cells in 0..60_u32, share in 0.0..=1.0_f64, dataset in 0..1_000_u32,
    ) {
        let mut choice = study_of(&sources(&[("ma".to_owned(), 30)]), &[]).specification.evaluations;
        (choice.anchors, choice.cells_per_dataset, choice.with_live_3x3) = (anchors, cells, share);
        let pool = CellPool::new(5);
        let drawn = |choice: &crate::specification::Evaluations| -> BTreeSet<Cell> {
            pool.of_dataset(&dataset.to_string(), choice).into_iter().collect()
        };
        let before = drawn(&choice);
        prop_assert_eq!(before.len() as u32, anchors + cells);
        for raise in [|choice: &mut crate::specification::Evaluations| choice.anchors += 1,
                      |choice: &mut crate::specification::Evaluations| choice.cells_per_dataset += 1] {
            let mut more = choice.clone();
            raise(&mut more);
            let after = drawn(&more);
            prop_assert!(before.is_subset(&after), "{:?}", more);
            prop_assert_eq!(after.len(), before.len() + 1);
        }
    }
}

#[test]
fn pictures_that_come_move_no_class_to_another_group() {
    let before = source("ma", 40);
    let after = IndexedSource { content_id: "ff".repeat(32), ..before.clone() };
    let shares = study_of(&sources(&[("ma".to_owned(), 40)]), &[]).specification.datasets.class_shares;
    for group in [Group::MetaTrain, Group::MetaValid, Group::MetaTest] {
        assert_eq!(classes_of(group, &before, shares), classes_of(group, &after, shares));
    }
}

#[test]
fn a_class_that_comes_moves_only_the_few_at_the_borders() {
    let shares = study_of(&sources(&[("ma".to_owned(), 40)]), &[]).specification.datasets.class_shares;
    for classes in 20..120 {
        let (before, after) = (source("ma", classes), source("ma", classes + 1));
        let mut moved = 0;
        for group in [Group::MetaTrain, Group::MetaValid, Group::MetaTest] {
            let after: BTreeSet<u32> = classes_of(group, &after, shares).into_iter().collect();
            moved += classes_of(group, &before, shares).iter().filter(|label| !after.contains(label)).count();
        }
        assert!(moved <= 3, "{moved} of {classes} classes changed their group");
    }
}
