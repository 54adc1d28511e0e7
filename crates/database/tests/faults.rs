//! What the database does when its object store misbehaves.
#![expect(clippy::unwrap_used, reason = "a helper that fails should fail its test")]

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use metad2a_database::tables::DatasetRow;
use metad2a_database::{
    Access, Checks, Commit, Decided, Error, FileRef, Folding, Marker, Put, SnapshotDraft, Store, now,
    random_id, sha256_hex,
};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to one conditional write.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Nothing.
    None,
    /// It is done, but the answer says that the server failed.
    AnswerLost,
    /// It is not done, and the answer says that the server failed.
    NotDone,
    /// It is not done, and the answer says that there is one already (S3: a conflict with a write under way).
    Conflict,
    /// Another writer's object is there first, and the answer says that the server failed.
    Overtaken,
    /// The condition is ignored.
    Overwritten,
    /// The condition is answered rightly, but the object is replaced all the same.
    RefusedButWritten,
}

/// A store in memory that treats conditional writes as scripted, then honestly.
#[derive(Debug, Default)]
struct Scripted {
    inner: InMemory,
    faults: Mutex<VecDeque<Fault>>,
    /// How many markers were read.
    marker_reads: AtomicUsize,
    /// A path that looks absent when its size is asked for.
    hidden: Mutex<Option<String>>,
    /// So many listings break off after their first object.
    broken_listings: AtomicUsize,
}

impl fmt::Display for Scripted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("scripted")
    }
}

fn server_error() -> object_store::Error {
    object_store::Error::Generic { store: "scripted", source: "503 Service Unavailable".into() }
}

#[async_trait::async_trait]
impl ObjectStore for Scripted {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = match options.mode {
            PutMode::Create => self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None),
            _ => Fault::None,
        };
        match fault {
            Fault::None => self.inner.put_opts(path, payload, options).await,
            Fault::AnswerLost => {
                self.inner.put_opts(path, payload, options).await?;
                Err(server_error())
            }
            Fault::NotDone => Err(server_error()),
            Fault::Conflict => Err(object_store::Error::AlreadyExists {
                path: path.to_string(),
                source: "409 Conflict".into(),
            }),
            Fault::Overtaken => {
                self.inner.put_opts(path, PutPayload::from_static(b"theirs"), options).await?;
                Err(server_error())
            }
            Fault::Overwritten => self.inner.put_opts(path, payload, PutOptions::default()).await,
            Fault::RefusedButWritten => {
                self.inner.put_opts(path, payload, PutOptions::default()).await?;
                Err(object_store::Error::AlreadyExists { path: path.to_string(), source: "412".into() })
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        if path.as_ref().starts_with("done/") {
            self.marker_reads.fetch_add(1, Ordering::Relaxed);
        }
        if options.head && self.hidden.lock().unwrap().as_deref() == Some(path.as_ref()) {
            return Err(object_store::Error::NotFound { path: path.to_string(), source: "hidden".into() });
        }
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let is_broken =
            self.broken_listings.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if is_broken.is_err() {
            return self.inner.list(prefix);
        }
        self.inner.list(prefix).take(1).chain(futures::stream::once(async { Err(server_error()) })).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A database that is open already, and the switch for its store's faults.
async fn opened() -> (Store, Arc<Scripted>) {
    let scripted = Arc::new(Scripted::default());
    let store = Store::open_in(scripted.clone(), "scripted:", Access::ReadWrite).await.unwrap();
    (store, scripted)
}

async fn put_with(faults: &[Fault]) -> (std::result::Result<Put, Error>, Option<Bytes>) {
    let (store, scripted) = opened().await;
    scripted.faults.lock().unwrap().extend(faults);
    let outcome = store.put_if_absent("checkpoints/a", Bytes::from("ours")).await;
    let found = store.get("checkpoints/a").await.unwrap();
    (outcome, found)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_is_read_back() {
    let (outcome, found) = put_with(&[Fault::AnswerLost]).await;
    assert_eq!((outcome.unwrap(), found), (Put::Created, Some(Bytes::from("ours"))));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_not_done_is_repeated() {
    let (outcome, found) = put_with(&[Fault::NotDone, Fault::NotDone]).await;
    assert_eq!((outcome.unwrap(), found), (Put::Created, Some(Bytes::from("ours"))));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_not_taken_for_another_writers_object() {
    let (outcome, found) = put_with(&[Fault::Conflict]).await;
    assert_eq!((outcome.unwrap(), found), (Put::Created, Some(Bytes::from("ours"))));
}

#[tokio::test(start_paused = true)]
async fn another_writers_object_is_never_taken_for_ours() {
    let (outcome, found) = put_with(&[Fault::Overtaken]).await;
    assert_eq!((outcome.unwrap(), found), (Put::Exists, Some(Bytes::from("theirs"))));
    let (outcome, _) = put_with(&[Fault::NotDone, Fault::Overtaken]).await;
    assert_eq!(outcome.unwrap(), Put::Exists);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_reported_as_worth_another_try() {
    let (outcome, found) = put_with(&[Fault::NotDone; 50]).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Unsettled { .. }), "{error}");
    assert!(error.is_retryable());
    assert_eq!(found, None);
}

#[tokio::test]
async fn a_store_that_ignores_the_condition_is_refused_and_left_empty() {
    for second in [Fault::Overwritten, Fault::RefusedButWritten] {
        let scripted = Arc::new(Scripted::default());
        scripted.faults.lock().unwrap().extend([Fault::None, second]);
        let error = Store::open_in(scripted.clone(), "scripted:", Access::ReadWrite).await.unwrap_err();
        assert!(matches!(error, Error::NoPutIfAbsent { .. }), "{error}");
        assert!(!error.is_retryable());
        let left = futures::TryStreamExt::try_collect::<Vec<_>>(scripted.inner.list(None)).await.unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_is_not_refused_because_the_probes_answers_were_lost() {
    let scripted = Arc::new(Scripted::default());
    // The first write, then the second one, which must be refused by the store itself.
    scripted.faults.lock().unwrap().extend([Fault::AnswerLost, Fault::NotDone, Fault::NotDone]);
    Store::open_in(scripted, "scripted:", Access::ReadWrite).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_breaks_off_is_read_again_from_its_start() {
    let (store, scripted) = opened().await;
    for name in ["a", "b", "c"] {
        store.put_if_absent(&format!("checkpoints/{name}"), Bytes::new()).await.unwrap();
    }
    scripted.broken_listings.store(2, Ordering::Relaxed);
    assert_eq!(store.list("checkpoints").await.unwrap().len(), 3);
    scripted.broken_listings.store(50, Ordering::Relaxed);
    assert!(store.list("checkpoints").await.unwrap_err().is_retryable());
}

fn marker(id: &str, files: Vec<FileRef>) -> Marker {
    Marker {
        kind: "evaluate".to_owned(),
        id: id.to_owned(),
        execution_id: random_id(),
        worker: "w".to_owned(),
        attempt: 1,
        files,
        units: Vec::new(),
        device: "cpu".to_owned(),
        started_at: now(),
        finished_at: now(),
        seconds: 0.0,
        summary: serde_json::Value::Null,
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_and_a_decision_survive_lost_answers() {
    let (store, scripted) = opened().await;
    let file = store.put_data("weights", "bin", Bytes::from("w"), None).await.unwrap();
    let marker = marker("0abc", vec![file]);
    scripted.faults.lock().unwrap().extend([Fault::AnswerLost]);
    assert_eq!(store.commit(&marker).await.unwrap(), Commit::Won);
    let rival = Marker { execution_id: random_id(), ..marker.clone() };
    scripted.faults.lock().unwrap().extend([Fault::NotDone]);
    assert_eq!(store.commit(&rival).await.unwrap(), Commit::AlreadyDone(Box::new(marker)));

    scripted.faults.lock().unwrap().extend([Fault::AnswerLost]);
    let decided = store.decide_once("a", "closed", serde_json::json!(1)).await.unwrap();
    assert!(matches!(decided, Decided::Won(_)), "{decided:?}");
    scripted.faults.lock().unwrap().extend([Fault::AnswerLost]);
    assert_eq!(store.decide("a", "retry", serde_json::json!(2)).await.unwrap().number, 1);
    assert_eq!(store.decisions("a").await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_table_file_that_vanishes_before_the_manifest_stops_publication() {
    let (store, scripted) = opened().await;
    let row = DatasetRow { dataset_id: "d".to_owned(), classes: 2, image_size: 8, ..DatasetRow::default() };
    let file = store.put_rows("datasets", &[row]).await.unwrap();
    let draft = SnapshotDraft {
        pipeline: "nightly".to_owned(),
        inputs_id: "one".to_owned(),
        tables: BTreeMap::from([("datasets".to_owned(), vec![file.clone()])]),
        ..SnapshotDraft::default()
    };
    // One result file merges into a table file of the same bytes, so its name is known.
    let path = format!("nightly/tables/datasets/{}.parquet", file.sha256);
    *scripted.hidden.lock().unwrap() = Some(path.clone());
    let error = store.publish(draft.clone(), &Checks::default()).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }) && error.to_string().contains(&path), "{error}");
    assert_eq!(store.current_snapshot("nightly").await.unwrap(), None);
    *scripted.hidden.lock().unwrap() = None;
    store.publish(draft, &Checks::default()).await.unwrap();
}

#[tokio::test]
async fn an_address_that_cannot_work_says_which_rule_it_breaks() {
    for (url, part) in [
        ("data", "must begin with"),
        ("ftp://host/x", "must begin with"),
        ("file:", "must name a folder"),
        ("file://host/x", "without a host"),
        ("s3://", "bucket"),
        ("s3://key:secret@bucket/x", "no credentials"),
        ("file:/proc/no-such-folder", "cannot create the folder"),
    ] {
        let error = Store::open(url, Access::ReadWrite).await.unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::Url { .. }) && message.contains(part), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[tokio::test]
async fn markers_read_one_by_one_during_a_run_are_folded_for_the_next_start() {
    let (store, scripted) = opened().await;
    let mut folding = Folding::new(&store);
    for number in 0..1_200_u32 {
        let id = sha256_hex(&[number as u8, (number >> 8) as u8]);
        let marker = marker(&id, Vec::new());
        store.commit(&marker).await.unwrap();
        let fresh = store.fresh_marker("evaluate", &id).await.unwrap().unwrap();
        assert_eq!(folding.add(fresh).await, marker);
    }
    assert_eq!(store.list("index").await.unwrap().len(), 1, "a file is written as soon as it is full");
    folding.finish().await;
    assert_eq!(store.list("index").await.unwrap().len(), 2);
    scripted.marker_reads.store(0, Ordering::Relaxed);
    assert_eq!(store.markers("evaluate").await.unwrap().len(), 1_200);
    assert_eq!(scripted.marker_reads.load(Ordering::Relaxed), 0);
    assert_eq!(store.fresh_marker("evaluate", "absent").await.unwrap().map(|fresh| fresh.marker), None);
}

#[tokio::test]
async fn rivals_that_fold_at_once_take_different_numbers() {
    let (store, _) = opened().await;
    let mut rivals = [Folding::new(&store), Folding::new(&store)];
    for number in 0..400 {
        let id = format!("{number:04x}");
        store.commit(&marker(&id, Vec::new())).await.unwrap();
        let fresh = store.fresh_marker("evaluate", &id).await.unwrap().unwrap();
        rivals[number % 2].add(fresh).await;
    }
    let [one, other] = rivals;
    tokio::join!(one.finish(), other.finish());
    assert_eq!(store.list("index").await.unwrap().len(), 2);
}

#[tokio::test]
async fn decisions_may_be_read_without_those_whose_particulars_are_large() {
    let (store, _) = opened().await;
    store.decide("a", "training-set", serde_json::json!({ "datasets": [] })).await.unwrap();
    store.decide("b", "failed", serde_json::json!({ "reasons": ["x"] })).await.unwrap();
    store.decide("a", "retry", serde_json::Value::Null).await.unwrap();
    store.decide("c", "training-set", serde_json::Value::Null).await.unwrap();
    let found = store.decisions_except(&["training-set"]).await.unwrap();
    let kinds: Vec<(&str, &str)> =
        found.iter().map(|(id, decision)| (id.as_str(), decision.decision.as_str())).collect();
    assert_eq!(kinds, [("a", "retry"), ("b", "failed")]);
}

#[tokio::test]
async fn folded_markers_are_not_read_again_and_never_outlive_their_object() {
    let (store, scripted) = opened().await;
    let reads = || scripted.marker_reads.swap(0, Ordering::Relaxed);
    for number in 0..501 {
        store.commit(&marker(&format!("{number:04x}"), Vec::new())).await.unwrap();
    }
    reads();
    let first = store.markers("evaluate").await.unwrap();
    assert_eq!((first.len(), reads()), (501, 501));
    assert_eq!(store.markers("evaluate").await.unwrap(), first);
    assert_eq!(reads(), 0);

    // One is removed, one is replaced by another execution, one is new.
    store.delete("done/evaluate/00/0000.json").await.unwrap();
    store.delete("done/evaluate/00/0001.json").await.unwrap();
    let (replaced, new) = (marker("0001", Vec::new()), marker("ffff", Vec::new()));
    store.commit(&replaced).await.unwrap();
    store.commit(&new).await.unwrap();
    reads();
    let second = store.markers("evaluate").await.unwrap();
    assert_eq!(reads(), 2);
    assert_eq!(second.len(), 501);
    assert_eq!((&second[0], &second[500]), (&replaced, &new));

    // A damaged index costs reads, not markers.
    let indices = store.list("index").await.unwrap();
    assert_eq!(indices.len(), 1);
    store.delete(&indices[0].path).await.unwrap();
    store.put_if_absent(&indices[0].path, Bytes::from("damaged")).await.unwrap();
    assert_eq!(store.markers("evaluate").await.unwrap(), second);
}
