//! Knowledge from outside joins the training set where it is asked for, and changes nothing else.

use super::*;
use crate::imports::{Holds, ImportSummary, ProtocolSummary};
use crate::training_set::TrainingSet;

#[test]
fn a_named_protocol_of_an_import_joins_the_training_set_and_another_listing_changes_no_model() {
    let [rows, features] = ["ab".repeat(32), "cd".repeat(32)];
    let listed = format!("{SPECIFICATION}imports: [{features}, {rows}]\n");
    let learnt = listed.replace("models:\n", "models:\n  imported_protocols: [a@50]\n");
    assert_eq!(study_with(&listed).unwrap().id(), study_with(SPECIFICATION).unwrap().id());

    let mut world = World::new(&learnt);
    for task in world.plan().enqueue {
        world.finish(&task);
    }
    let Outcome::Blocked(reason) = world.plan().outcome else { panic!("the imports are not there") };
    assert!(reason.contains(&format!("import `{rows}` is not in the store")), "{reason}");

    let import = |holds| ImportSummary {
        origin: "a test".to_owned(),
        files: Vec::new(),
        declaration: Value::Null,
        holds,
    };
    let class_sources = ["theirs".to_owned()].into();
    let protocol = ProtocolSummary { rows: 9, datasets: 3, teaching_datasets: 2, class_sources };
    world.existing.add_import(
        rows.clone(),
        import(Holds::Evaluations { protocols: BTreeMap::from([("a@50".to_owned(), protocol)]) }),
    );
    world.existing.add_import(
        features.clone(),
        import(Holds::Features {
            class_source: "theirs".to_owned(),
            extractor: world.study.extractor.clone(),
            classes: 3,
            rows: 60,
        }),
    );
    let plan = world.plan();
    let chosen = plan.training_set.expect("the imports are there now");
    let set: TrainingSet = serde_json::from_slice(&serde_json::to_vec(&chosen).unwrap()).unwrap();
    let [imported] = set.imported.as_slice() else { panic!("{:?}", set.imported) };
    assert_eq!((&imported.evaluations, &imported.features), (&vec![rows], &vec![features]));
    assert_eq!(plan.freeze[0].detail, set.id());
    let own = TrainingSet { imported: Vec::new(), ..set.clone() };
    assert_ne!(set.id(), own.id());
    let Outcome::Finished(results) = world.run(stream(1)).0 else { panic!("nothing is left to do") };
    // A refresh must know it: the day `theirs` becomes a source here, no training starts from this model.
    for model in Model::ALL {
        let learnt = &results.model(model).learnt;
        assert_eq!(learnt["theirs"].iter().collect::<Vec<_>>(), ["*"]);
        assert!(learnt.len() > 1, "{learnt:?}");
    }
}
