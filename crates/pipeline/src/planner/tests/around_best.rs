//! Cells that are chosen by results: a second wave of evaluations.

use std::collections::BTreeSet;

use metad2a_search_space::Cell;

use super::*;
use crate::training_set::Group;

/// Two of the four further cells of each dataset.
pub(super) fn with_second_wave(specification: &str) -> String {
    specification.replace(
        "cells_per_dataset: 4",
        "cells_per_dataset: 4, with_live_3x3: 0.25, around_best: { share: 0.5, top: 0.2 }",
    )
}

fn finish_all(world: &mut World) {
    for task in world.plan().enqueue {
        world.finish(&task);
    }
}

/// The cells of every dataset for models to learn from or be chosen by, in the plan's own bundles.
fn evaluated(plan: &Plan) -> BTreeMap<String, Vec<Cell>> {
    let mut cells: BTreeMap<String, Vec<Cell>> = BTreeMap::new();
    for task in &plan.enqueue {
        if let Task::Evaluate(task) = task {
            cells.entry(task.dataset.id()).or_default().extend(task.units.iter().map(|unit| unit.cell));
        }
    }
    cells
}

#[test]
fn the_second_wave_opens_when_the_first_is_settled_and_its_cells_are_frozen() {
    let mut world = World::new(&with_second_wave(SPECIFICATION));
    let first = world.plan();
    assert_eq!(first.around_best, None);
    assert_eq!(first.stages[&Stage::Evaluations], Progress { total: 24, ..Progress::default() });
    finish_all(&mut world);
    let asking = world.plan();
    assert_eq!((asking.enqueue.len(), asking.freeze.len()), (0, 0), "nothing goes on without the choice");
    assert_eq!(asking.stages[&Stage::Evaluations], Progress { done: 16, total: 24, ..Progress::default() });
    world.write(&asking);
    let second = world.plan();
    assert_eq!(second.around_best, None);
    let (before, now) = (evaluated(&first), evaluated(&second));
    assert_eq!(now.len(), 4);
    for (dataset, cells) in &now {
        assert_eq!(cells.len(), 2);
        assert!(cells.iter().all(|cell| !before[dataset].contains(cell)), "new to the dataset");
    }
    assert!(now.values().collect::<BTreeSet<_>>().len() > 1, "each dataset has its own");
    finish_all(&mut world);
    let chosen = world.plan();
    assert_eq!(chosen.stages[&Stage::Evaluations], Progress { done: 24, total: 24, ..Progress::default() });
    assert!(chosen.training_set.unwrap().datasets.iter().all(|dataset| dataset.units.len() == 6));
}

#[test]
fn only_meta_training_datasets_say_what_is_good() {
    let mut world = World::new(&with_second_wave(SPECIFICATION));
    finish_all(&mut world);
    let wanted = world.plan().around_best.unwrap();
    let bundles = world.study.bundles().filter(|bundle| bundle.dataset.group == Group::MetaTrain);
    let units: BTreeSet<crate::ids::Id> =
        bundles.flat_map(|bundle| bundle.units.iter().map(move |unit| bundle.unit_id(unit))).collect();
    assert_eq!(wanted.units, units);
    // Without any of them nothing can be chosen.
    let mut world = World::new(&with_second_wave(SPECIFICATION));
    for _ in 0..2 {
        for task in world.plan().enqueue {
            match &task {
                Task::Evaluate(evaluate) if !is_meta_valid(&world.study, evaluate) => world.fail(&task),
                _ => world.finish(&task),
            }
        }
    }
    let Outcome::Blocked(reason) = world.plan().outcome else { panic!("not blocked") };
    assert!(reason.starts_with("no cell was trained on a meta-train dataset"), "{reason}");
}

#[test]
fn what_was_frozen_holds_for_its_datasets_whatever_comes_later() {
    let text = with_second_wave(SPECIFICATION);
    let mut world = World::new(&text);
    finish_all(&mut world);
    let asking = world.plan();
    world.write(&asking);
    let before = evaluated(&world.plan());
    // One more dataset: its first wave, and then a choice for it alone.
    world.study = study_with(&text.replace("meta_train: { count: 3", "meta_train: { count: 4")).unwrap();
    finish_all(&mut world);
    let asking = world.plan();
    let choices = chosen(&world.study, asking.around_best.as_ref());
    assert_eq!(choices.len(), 1);
    world.write(&asking);
    let after = evaluated(&world.plan());
    assert_eq!(after.len(), 5);
    assert!(before.iter().all(|(dataset, cells)| after[dataset] == *cells));
}

#[test]
fn datasets_that_share_cells_share_those_around_the_best_too() {
    let text = with_second_wave(SPECIFICATION).replace("anchors: 2", "anchors: 2, shared_by: 2");
    let mut world = World::new(&text.replace("meta_train: { count: 3", "meta_train: { count: 4"));
    finish_all(&mut world);
    let asking = world.plan();
    world.write(&asking);
    let mut blocks: BTreeMap<Vec<Cell>, u32> = BTreeMap::new();
    for cells in evaluated(&world.plan()).into_values() {
        *blocks.entry(cells).or_default() += 1;
    }
    let mut sizes: Vec<u32> = blocks.into_values().collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 2, 2], "two blocks of meta-training datasets, and the only one for validation");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_order_of_completion_gives_the_same_cells_and_does_nothing_twice(seed in 0..1_000_000_u64) {
        let text = with_second_wave(SPECIFICATION);
        let (calm, executed_calmly) = World::new(&text).run(stream(0));
        let (other, executed) = World::new(&text).run(stream(seed));
        let Outcome::Finished(results) = &calm else { panic!("{calm:?}") };
        prop_assert_eq!(results.around_best.iter().map(|(_, units)| units.len()).sum::<usize>(), 8);
        prop_assert_eq!(&calm, &other);
        let once: HashSet<&String> = executed.iter().collect();
        prop_assert_eq!(once.len(), executed.len());
        prop_assert_eq!(once, executed_calmly.iter().collect());
    }
}
