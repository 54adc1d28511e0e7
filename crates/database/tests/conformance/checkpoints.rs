//! Rules of checkpoints.

use bytes::Bytes;
use futures::future::join_all;
use metad2a_database::{Checkpoint, Checkpoints, FileRef, Recorded, Store, now, random_id};

use crate::Place;

const TASK: &str = "0abc";

fn checkpoint(slice: u32, files: Vec<FileRef>) -> Checkpoint {
    Checkpoint {
        kind: "evaluate".to_owned(),
        id: TASK.to_owned(),
        slice,
        execution_id: random_id(),
        worker: "worker-1".to_owned(),
        device: "cpu".to_owned(),
        files,
        started_at: now(),
        recorded_at: now(),
        seconds: 1.5,
        done: 3,
        total: 9,
    }
}

async fn file(store: &Store, content: &str) -> FileRef {
    store.put_checkpoint_file(TASK, "safetensors", Bytes::from(content.to_owned())).await.unwrap()
}

/// Records slices 0 to `last`, each with a file of its own and one that all share; newest first.
async fn slices(store: &Store, last: u32) -> Vec<Checkpoint> {
    let mut made = Vec::new();
    for slice in 0..=last {
        let files = vec![file(store, "shared").await, file(store, &format!("slice {slice}")).await];
        let checkpoint = checkpoint(slice, files);
        assert_eq!(store.record_checkpoint(&checkpoint).await.unwrap(), Recorded::Won);
        made.insert(0, checkpoint);
    }
    made
}

pub(crate) async fn one_of_many_executions_ends_a_slice(place: &Place) {
    let store = place.open().await;
    let file = file(&store, "weights").await;
    let rivals: Vec<Checkpoint> = (0..12).map(|_| checkpoint(4, vec![file.clone()])).collect();
    let outcomes = join_all(rivals.iter().map(|rival| store.record_checkpoint(rival))).await;
    let won: Vec<bool> = outcomes.into_iter().map(|outcome| outcome.unwrap() == Recorded::Won).collect();
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    let found = store.checkpoints(TASK).await.unwrap();
    let winner = won.iter().position(|won| *won).unwrap();
    assert_eq!(found, Checkpoints { newest: Some(4), usable: vec![rivals[winner].clone()] });
}

pub(crate) async fn the_newest_checkpoints_are_found_with_their_data(place: &Place) {
    let store = place.open().await;
    assert_eq!(store.checkpoints(TASK).await.unwrap(), Checkpoints::default());
    // 10 sorts before 9 as text; it must not here.
    let made = slices(&store, 10).await;
    let found = store.checkpoints(TASK).await.unwrap();
    assert_eq!((found.newest, found.usable.as_slice()), (Some(10), &made[..2]));
    let data = store.get_data(&found.usable[0].files[1]).await.unwrap();
    assert_eq!(data.as_ref(), b"slice 10");
}

pub(crate) async fn a_continuation_is_noted_for_its_slice_alone(place: &Place) {
    let store = place.open().await;
    slices(&store, 1).await;
    store.note_continuation(TASK, 1).await.unwrap();
    store.note_continuation(TASK, 1).await.expect("twice is harmless");
    let noted = [store.is_continued(TASK, 0).await.unwrap(), store.is_continued(TASK, 1).await.unwrap()];
    assert_eq!(noted, [false, true]);
    assert_eq!(store.checkpoints(TASK).await.unwrap().newest, Some(1), "a note is no record");
}

pub(crate) async fn a_checkpoint_without_its_data_is_refused(place: &Place) {
    let store = place.open().await;
    let gone = file(&store, "gone").await;
    store.delete(&gone.path).await.unwrap();
    let error = store.record_checkpoint(&checkpoint(0, vec![gone.clone()])).await.unwrap_err();
    assert!(error.to_string().contains(&gone.path), "{error}");
    assert_eq!(store.checkpoints(TASK).await.unwrap().newest, None);
}

pub(crate) async fn a_record_that_cannot_be_read_is_passed_over_and_keeps_its_number(place: &Place) {
    let store = place.open().await;
    let made = slices(&store, 1).await;
    store.put_if_absent(&format!("checkpoints/{TASK}/2.json"), Bytes::from("{")).await.unwrap();
    let found = store.checkpoints(TASK).await.unwrap();
    assert_eq!((found.newest, found.usable.as_slice()), (Some(2), &made[..1]));
}

pub(crate) async fn thinning_keeps_the_last_two_and_every_record(place: &Place) {
    let store = place.open().await;
    let made = slices(&store, 2).await;
    store.thin_checkpoints(&made[0], &made[1..]).await.unwrap();
    assert_eq!(store.checkpoints(TASK).await.unwrap().usable, made[..2]);
    for kept in made[..2].iter().flat_map(|checkpoint| &checkpoint.files) {
        assert!(store.get_data(kept).await.is_ok(), "{}", kept.path);
    }
    assert!(store.get_data(&made[2].files[1]).await.is_err(), "slice 0 has lost its own file");
    // Whoever ends slice 0 again, late, still loses.
    let late = checkpoint(0, vec![file(&store, "late").await]);
    assert_eq!(store.record_checkpoint(&late).await.unwrap(), Recorded::Lost);
}

pub(crate) async fn a_finished_task_leaves_nothing_and_its_neighbours_stay(place: &Place) {
    let store = place.open().await;
    slices(&store, 2).await;
    store.note_continuation(TASK, 1).await.unwrap();
    let neighbour = Checkpoint { id: "0abcd".to_owned(), ..checkpoint(0, Vec::new()) };
    store.record_checkpoint(&neighbour).await.unwrap();
    store.remove_checkpoints(TASK).await.unwrap();
    assert_eq!(store.checkpoints(TASK).await.unwrap(), Checkpoints::default());
    let left = store.list("checkpoints/").await.unwrap();
    assert_eq!(
        left.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(),
        ["checkpoints/0abcd/0.json"]
    );
}
