//! The example in `docs/examples` says what its comments promise.

use std::collections::{BTreeMap, BTreeSet};

use super::tests::source;
use super::*;
use crate::planner::{Existing, Stage, plan};

fn study() -> Study {
    let text = include_str!("../../../../docs/examples/database.yaml");
    let specification = Specification::parse("docs/examples/database.yaml", text).unwrap();
    Study::design(specification, [("objects".to_owned(), source("objects", 200))].into(), "00".repeat(32))
        .unwrap()
}

#[test]
fn the_database_of_the_example_has_24_datasets_that_differ_and_1392_trainings() {
    let study = study();
    let mut cells: BTreeMap<&str, Vec<Cell>> = BTreeMap::new();
    for bundle in study.bundles().filter(|bundle| bundle.dataset.group == Group::MetaTrain) {
        let of_dataset = cells.entry(&bundle.dataset.id).or_default();
        of_dataset.extend(bundle.units.iter().map(|unit| unit.cell));
    }
    // Eight of the 34 further cells of a dataset are chosen by the results of all others.
    let second_wave = study.specification.evaluations.cells_around_best() as usize;
    assert_eq!(second_wave, 8);
    let trainings = cells.values().map(|cells| cells.len() + second_wave).sum::<usize>();
    assert_eq!((cells.len(), trainings), (24, 1_392));
    let anchors: BTreeSet<&[Cell]> = cells.values().map(|cells| &cells[..24]).collect();
    assert_eq!(anchors.len(), 1);
    let mut blocks: BTreeMap<&[Cell], u32> = BTreeMap::new();
    for cells in cells.values() {
        *blocks.entry(&cells[24..]).or_default() += 1;
    }
    assert!(blocks.iter().all(|(cells, datasets)| cells.len() + second_wave == 34 && *datasets == 2));
    assert_eq!(blocks.len() * 34, 408);

    let stages = plan(&study, &Existing::default()).unwrap().stages;
    assert_eq!(stages[&Stage::Evaluations].total, 1_392 + 4 * 58);
    assert_eq!(stages[&Stage::Search].total, 20);
}

#[test]
fn the_datasets_of_the_example_are_of_five_kinds_and_500_pictures() {
    let study = study();
    let mut kinds: BTreeMap<(usize, u32, Look), u32> = BTreeMap::new();
    for dataset in study.datasets.iter().filter(|dataset| dataset.group == Group::MetaTrain) {
        let Dataset { classes, per_class, look, .. } = &dataset.dataset;
        assert_eq!(classes.len() as u32 * per_class.train, 500);
        assert_eq!(classes.len() as u32 * per_class.valid, 1_000);
        *kinds.entry((classes.len(), per_class.train, *look)).or_default() += 1;
    }
    let (usual, grey) = (Look::default(), Look { grey: true, resolution: None });
    let blurred = Look { grey: false, resolution: Some(8) };
    let expected = [
        ((20, 25, usual), 8),
        ((5, 100, grey), 5),
        ((50, 10, usual), 5),
        ((20, 25, blurred), 3),
        ((10, 50, usual), 3),
    ];
    assert_eq!(kinds, expected.into());
    // Held out of all training: 20 classes for choices, 50 for reports.
    let labels = |group| -> BTreeSet<u32> {
        let members = study.datasets.iter().filter(|dataset| dataset.group == group);
        members.flat_map(|dataset| dataset.dataset.classes.clone()).collect()
    };
    assert!(labels(Group::MetaTrain).is_disjoint(&labels(Group::MetaTest)));
    assert!(labels(Group::MetaTrain).len() <= 130 && labels(Group::MetaTest).len() <= 50);
}
