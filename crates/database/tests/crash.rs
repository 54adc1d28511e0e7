//! What a program that is killed in the middle leaves in a local store.
#![expect(clippy::unwrap_used, reason = "a helper that fails should fail its test")]
#![expect(clippy::print_stdout, reason = "the writer tells its commits to the process that kills it")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use bytes::Bytes;
use chrono::TimeDelta;
use metad2a_database::{Access, Commit, Marker, Put, Store, now, random_id};

/// Set in the environment of the process that is to be killed: the store it writes to.
const VICTIM: &str = "METAD2A_TEST_CRASH_STORE";

async fn open(url: &str) -> Store {
    Store::open(url, Access::ReadWrite).await.unwrap()
}

async fn store_and_commit(store: &Store, id: &str) -> Commit {
    // Large enough that a kill often falls into the middle of a write.
    let content = Bytes::from(format!("{id} ").repeat(40_000));
    let file = store.put_data("weights", "bin", content, None).await.unwrap();
    let marker = Marker {
        kind: "evaluate".to_owned(),
        id: id.to_owned(),
        execution_id: random_id(),
        worker: "victim".to_owned(),
        attempt: 1,
        files: vec![file],
        units: Vec::new(),
        device: "cpu".to_owned(),
        started_at: now(),
        finished_at: now(),
        seconds: 0.0,
        summary: serde_json::Value::Null,
    };
    store.commit(&marker).await.unwrap()
}

/// Four writers at once, until somebody kills this process; a line for each commit.
async fn write_until_killed(url: &str) {
    let store = open(url).await;
    let writers = (0..4).map(|_| async {
        loop {
            store_and_commit(&store, &random_id()).await;
            println!("committed");
        }
    });
    futures::future::join_all(writers).await;
}

/// Runs itself as the process to be killed, so it plays two parts.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_writer_leaves_no_marker_without_its_data() {
    if let Ok(url) = std::env::var(VICTIM) {
        write_until_killed(&url).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}", folder.path().display());
    let mut known = 0;
    for round in 0..6 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_writer_leaves_no_marker_without_its_data", "--nocapture"])
            .env(VICTIM, &url)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(victim.stdout.take().unwrap());
        let committed = output.lines().filter(|line| line.as_ref().unwrap().contains("committed"));
        assert_eq!(committed.take(3 + round).count(), 3 + round, "the writer ended by itself");
        victim.kill().unwrap();
        victim.wait().unwrap();

        let store = open(&url).await;
        let markers = store.markers("evaluate").await.unwrap();
        assert!(markers.len() >= known + 3 + round, "a commit that was reported is gone");
        known = markers.len();
        for marker in &markers {
            for file in &marker.files {
                store.get_data(file).await.unwrap();
            }
        }
        let entries = store.list("").await.unwrap();
        let staged = entries.iter().filter(|entry| entry.path.contains('#'));
        assert_eq!(staged.count(), 0);
    }
}

/// The local store writes to `NAME#1` first and links it: a killed program may leave that behind.
#[tokio::test]
async fn a_staged_file_left_behind_neither_shows_nor_disturbs() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&format!("file:{}", folder.path().display())).await;
    let before = store.put_data("weights", "bin", Bytes::from("content"), None).await.unwrap();
    store.delete(&before.path).await.unwrap();

    let marker = folder.path().join("done/evaluate/0a");
    let data = folder.path().join(&before.path);
    std::fs::create_dir_all(&marker).unwrap();
    std::fs::write(marker.join("0abc.json#1"), "{ \"kind\": \"eval").unwrap();
    std::fs::write(format!("{}#1", data.display()), "cont").unwrap();

    assert!(store.markers("evaluate").await.unwrap().is_empty());
    assert!(store.done_ids("evaluate").await.unwrap().is_empty());
    assert!(store.list("results").await.unwrap().is_empty());
    assert_eq!(store.marker("evaluate", "0abc").await.unwrap(), None);
    let file = store.put_data("weights", "bin", Bytes::from("content"), None).await.unwrap();
    assert_eq!(store.get_data(&file).await.unwrap(), "content");
    assert_eq!(store_and_commit(&store, "0abc").await, Commit::Won);
    assert_eq!(store.done_ids("evaluate").await.unwrap(), ["0abc"]);
}

/// The link of a put-if-absent was made, and the program was killed before it removed the staged name.
#[tokio::test]
async fn a_second_name_of_a_committed_file_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&format!("file:{}", folder.path().display())).await;
    store.put_if_absent("decisions/a/0.json", Bytes::from("first")).await.unwrap();
    let path = folder.path().join("decisions/a/0.json");
    std::fs::hard_link(&path, folder.path().join("decisions/a/0.json#1")).unwrap();
    assert_eq!(store.put_if_absent("decisions/a/0.json", Bytes::from("other")).await.unwrap(), Put::Exists);
    assert_eq!(store.get("decisions/a/0.json").await.unwrap().unwrap(), "first");
    assert_eq!(store.list("decisions").await.unwrap().len(), 1);
}

#[tokio::test]
async fn staged_files_are_swept_once_they_are_old_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&format!("file:{}", folder.path().display())).await;
    assert_eq!(store_and_commit(&store, "0abc").await, Commit::Won);
    let before = store.list("").await.unwrap();
    let staged = folder.path().join("done/evaluate/0a/0abc.json#12");
    std::fs::write(&staged, "half").unwrap();

    let written = store.time().await.unwrap();
    let sweep = |before| store.sweep_staged(before);
    assert_eq!(
        sweep(written - TimeDelta::days(1)).await.unwrap(),
        (0, 0),
        "a living program may write it still"
    );
    assert!(staged.exists());
    assert_eq!(sweep(written + TimeDelta::days(1)).await.unwrap(), (1, 4));
    assert!(!staged.exists());
    assert_eq!(store.list("").await.unwrap(), before);
}
