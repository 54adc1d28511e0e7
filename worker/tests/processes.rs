//! The program as the system sees it: its processes, their births and deaths.
//!
//! Waiting here polls for what must happen, and gives up only after a time that no working program needs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use metad2a_pipeline::envelope::{Envelope, Event, SourceAddress};
use metad2a_pipeline::tasks::{Dataset, Evaluate, Fractions, PicturesPerClass, Recipe, Task, Unit};
use metad2a_queue::{Class, Lane, Message, Urgency};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Far more than any of this takes; only a broken program waits so long.
const LONGEST: Duration = Duration::from_mins(2);

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metad2a-worker"));
    command.env_remove("RUST_LOG").stdin(Stdio::piped());
    command
}

/// A worker on a SQLite queue and a local store, ready for tasks; returned with its compute process.
fn ready_worker(folder: &Path, further: &[&str]) -> (Child, Pid) {
    let mut worker = program()
        .args(["--pipeline=test", "--device=cpu", "--slots=1", "--exit-with-parent"])
        .args(further)
        .arg(format!("--queue=sqlite:{}", folder.join("queue.sqlite").display()))
        .arg(format!("--store=file:{}", folder.join("store").display()))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = worker.stderr.take().unwrap();
    let mut lines = BufReader::new(log).lines();
    let is_ready = |line: std::io::Result<String>| line.unwrap().contains("ready for tasks");
    assert!(lines.by_ref().any(is_ready), "the worker ended before it was ready");
    // A full pipe must not stop the worker.
    std::thread::spawn(move || lines.for_each(drop));
    let children = format!("/proc/{0}/task/{0}/children", worker.id());
    let children = std::fs::read_to_string(children).unwrap();
    let compute: i32 = children.trim().parse().expect("one compute process");
    (worker, Pid::from_raw(compute).unwrap())
}

fn wait_for_exit(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(start.elapsed() < LONGEST, "the process does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn wait_for_end_of(process: Pid) {
    let start = Instant::now();
    // A zombie counts as living until its parent or the system's first process has seen it.
    while test_kill_process(process).is_ok() && !is_zombie(process) {
        assert!(start.elapsed() < LONGEST, "the compute process lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_zombie(process: Pid) -> bool {
    let path = format!("/proc/{}/stat", process.as_raw_nonzero());
    std::fs::read_to_string(path).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn a_compute_process_ends_with_its_standard_input() {
    let mut compute = program()
        .args(["compute", "--store=memory:alone", "--device=cpu"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut report = String::new();
    BufReader::new(compute.stdout.take().unwrap()).read_line(&mut report).unwrap();
    assert_eq!(report.trim(), r#"{"report":"ready","device":"cpu","gpu":false}"#);
    drop(compute.stdin.take());
    assert_eq!(wait_for_exit(&mut compute), Some(0));
}

#[test]
fn a_worker_told_to_stop_ends_well_and_takes_its_compute_process_along() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, compute) = ready_worker(folder.path(), &[]);
    kill_process(Pid::from_child(&worker), Signal::TERM).unwrap();
    assert_eq!(wait_for_exit(&mut worker), Some(0));
    wait_for_end_of(compute);
}

#[test]
fn an_idle_worker_leaves_by_itself_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, compute) = ready_worker(folder.path(), &["--exit-when-idle=1"]);
    assert_eq!(wait_for_exit(&mut worker), Some(0));
    wait_for_end_of(compute);
}

#[test]
fn a_worker_ends_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, compute) = ready_worker(folder.path(), &[]);
    drop(worker.stdin.take());
    assert_eq!(wait_for_exit(&mut worker), Some(0));
    wait_for_end_of(compute);
}

#[test]
fn a_compute_process_does_not_outlive_a_killed_worker() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, compute) = ready_worker(folder.path(), &[]);
    worker.kill().unwrap();
    worker.wait().unwrap();
    wait_for_end_of(compute);
}

/// A training that lasts until somebody ends it, on sixty noisy pictures of two classes.
fn endless_training(folder: &Path) -> Envelope {
    let count = 60_u32;
    let side = 8_u32;
    let pixels: Vec<u8> =
        (0..count * side * side).map(|position| (position.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let labels: Vec<u8> = (0..count).map(|number| (number % 2) as u8).collect();
    let [number, side] = [count, side].map(u32::to_be_bytes);
    let files = [
        ("train-images-idx3-ubyte", [&[0, 0, 8, 3][..], &number, &side, &side, &pixels].concat()),
        ("train-labels-idx1-ubyte", [&[0, 0, 8, 1][..], &number, &labels].concat()),
    ];
    let paths = files.map(|(name, bytes)| {
        std::fs::write(folder.join(name), bytes).unwrap();
        folder.join(name).to_str().unwrap().to_owned()
    });
    let source = "a source's content id".to_owned();
    let address = SourceAddress { name: "noise".into(), format: "idx".into(), paths: paths.to_vec() };
    let cell = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|";
    let task = Task::Evaluate(Evaluate {
        dataset: Dataset {
            source: source.clone(),
            classes: vec![0, 1],
            per_class: PicturesPerClass { train: 8, valid: 2, test: 0 },
            fractions: Fractions { train: 0.6, valid: 0.2, test: 0.2 },
        },
        recipe: Recipe {
            epochs: 1_000_000,
            channels: 4,
            cells_per_stage: 1,
            image_size: 8,
            learning_rate: 1e-3,
            ..Recipe::nas_bench_201()
        },
        units: vec![Unit { cell: cell.parse().unwrap(), seed: 0 }],
    });
    Envelope {
        task,
        sources: BTreeMap::from([(source, address)]),
        weights: BTreeMap::new(),
        slice: 0,
        failures: Vec::new(),
        max_attempts: 2,
        patience_seconds: LONGEST.as_secs(),
    }
}

#[tokio::test]
async fn a_killed_compute_process_is_one_attempt_and_a_stopped_worker_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, compute) = ready_worker(folder.path(), &[]);
    let queue = metad2a_queue::open(&format!("sqlite:{}", folder.path().join("queue.sqlite").display()))
        .await
        .unwrap();
    let lane = Lane::new("test", Class::Gpu, Urgency::Normal);
    let envelope = endless_training(folder.path());
    let mut events = queue.events("test").await.unwrap();
    queue.publish(&lane, &[Message::new(envelope.task.id(), envelope.encode())]).await.unwrap();
    let mut next = async |wanted: fn(&Event) -> bool| {
        let seen = async {
            loop {
                let event: Event = serde_json::from_slice(&events.next().await.unwrap()).unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(LONGEST, seen).await.expect("the event comes")
    };
    next(|event| matches!(event, Event::Progress { done: 1.., .. })).await;
    kill_process(compute, Signal::KILL).unwrap();
    let failed = next(|event| matches!(event, Event::Failed { .. })).await;
    let Event::Failed { reason, attempt: 1, gave_up: false, .. } = failed else { panic!("{failed:?}") };
    assert!(reason.contains("signal 9"), "{reason}");

    // The second attempt runs in a new process; the stop interrupts it without counting.
    next(|event| matches!(event, Event::Progress { done: 1.., .. })).await;
    kill_process(Pid::from_child(&worker), Signal::TERM).unwrap();
    assert_eq!(wait_for_exit(&mut worker), Some(0));
    let mut subscription = queue.subscribe(&[lane]).await.unwrap();
    let delivery = tokio::time::timeout(LONGEST, subscription.take()).await.expect("given back").unwrap();
    let waiting = Envelope::decode(&delivery.message().body).unwrap();
    assert_eq!(waiting.failures, [reason]);
    drop(delivery);
    queue.close().await.unwrap();
}

#[test]
fn a_wrong_address_is_named_and_ends_the_worker() {
    let output = program()
        .args(["--pipeline=test", "--queue=memory:q", "--store=nonsense", "--device=cpu"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("store `nonsense`"), "{log}");
}
