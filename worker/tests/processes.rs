//! The program as the system sees it: its processes, their births and deaths.
//!
//! Waiting here polls for what must happen, and gives up only after a time that no working program needs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metad2a_database::tables::{CurveRow, EvaluationRow};
use metad2a_database::{Access, Repeatability, Store, TableRow};
use metad2a_pipeline::envelope::{Envelope, Event, SourceAddress};
use metad2a_pipeline::tasks::{Dataset, Evaluate, Fractions, Look, PicturesPerClass, Recipe, Task, Unit};
use metad2a_queue::{Class, Events, Lane, Message, Queue, Urgency};
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
    let (worker, compute, _) = logging_worker(folder, "worker", further);
    (worker, compute)
}

/// As [`ready_worker`], with a name; its log grows as it works.
fn logging_worker(folder: &Path, name: &str, further: &[&str]) -> (Child, Pid, Arc<Mutex<Vec<String>>>) {
    let mut worker = program()
        .args(["--pipeline=test", "--device=cpu", "--slots=1", "--exit-with-parent"])
        .args(further)
        .arg(format!("--queue=sqlite:{}", folder.join("queue.sqlite").display()))
        .arg(format!("--store=file:{}", folder.join("store").display()))
        .arg(format!("--name={name}"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = worker.stderr.take().unwrap();
    let mut lines = BufReader::new(log).lines();
    let is_ready = |line: std::io::Result<String>| line.unwrap().contains("ready for tasks");
    assert!(lines.by_ref().any(is_ready), "the worker ended before it was ready");
    // A full pipe must not stop the worker.
    let log = Arc::new(Mutex::new(Vec::new()));
    let kept = log.clone();
    std::thread::spawn(move || lines.for_each(|line| kept.lock().unwrap().extend(line)));
    let children = format!("/proc/{0}/task/{0}/children", worker.id());
    let children = std::fs::read_to_string(children).unwrap();
    let compute: i32 = children.trim().parse().expect("one compute process");
    (worker, Pid::from_raw(compute).unwrap(), log)
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

/// A training that lasts until somebody ends it.
fn endless_training(folder: &Path) -> Envelope {
    training(folder, 1_000_000)
}

/// A training on sixty noisy pictures of two classes.
fn training(folder: &Path, epochs: u32) -> Envelope {
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
    let address = SourceAddress {
        name: "noise".into(),
        format: "idx".into(),
        paths: paths.to_vec(),
        fingerprint: None,
    };
    let cell = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|";
    let task = Task::Evaluate(Evaluate {
        dataset: Dataset {
            source: source.clone(),
            classes: vec![0, 1],
            per_class: PicturesPerClass { train: 8, valid: 2, test: 0 },
            fractions: Fractions { train: 0.6, valid: 0.2, test: 0.2 },
            look: Look::default(),
        },
        recipe: Recipe {
            epochs,
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
        measure_latency: false,
    }
}

/// The queue of a folder, with what its workers say.
struct Listener {
    queue: Arc<dyn Queue>,
    events: Events,
    lane: Lane,
}

impl Listener {
    async fn new(folder: &Path) -> Self {
        let address = format!("sqlite:{}", folder.join("queue.sqlite").display());
        let queue = metad2a_queue::open(&address).await.unwrap();
        let events = queue.events("test").await.unwrap();
        Self {
            queue,
            events,
            lane: Lane::new("test", metad2a_pipeline::envelope::dialect(), Class::Gpu, Urgency::Normal),
        }
    }

    async fn publish(&self, envelope: &Envelope) {
        let message = Message::new(envelope.task.id(), envelope.encode());
        self.queue.publish(&self.lane, &[message]).await.unwrap();
    }

    /// The next event of the wanted kind.
    async fn next(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let seen = async {
            loop {
                let event: Event = serde_json::from_slice(&self.events.next().await.unwrap()).unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(LONGEST, seen).await.expect("the event comes")
    }

    /// What waits in the queue.
    async fn waiting(&self) -> Envelope {
        let mut subscription = self.queue.subscribe(std::slice::from_ref(&self.lane)).await.unwrap();
        let delivery = tokio::time::timeout(LONGEST, subscription.take()).await.expect("a message").unwrap();
        let envelope = Envelope::decode(&delivery.message().body).unwrap();
        delivery.give_back().await.unwrap();
        envelope
    }
}

fn has_progress(event: &Event) -> bool {
    matches!(event, Event::Progress { done: 1.., .. })
}

#[tokio::test]
async fn a_killed_compute_process_is_one_attempt_and_a_stopped_worker_hands_its_task_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, compute) = ready_worker(folder.path(), &[]);
    let mut listener = Listener::new(folder.path()).await;
    listener.publish(&endless_training(folder.path())).await;
    listener.next(has_progress).await;
    kill_process(compute, Signal::KILL).unwrap();
    let failed = listener.next(|event| matches!(event, Event::Failed { .. })).await;
    let Event::Failed { reason, attempt: 1, gave_up: false, .. } = failed else { panic!("{failed:?}") };
    assert!(reason.contains("signal 9"), "{reason}");

    // The second attempt runs in a new process; the stop interrupts it without counting.
    listener.next(has_progress).await;
    kill_process(Pid::from_child(&worker), Signal::TERM).unwrap();
    assert_eq!(wait_for_exit(&mut worker), Some(0));
    let waiting = listener.waiting().await;
    assert_eq!((waiting.slice, waiting.failures), (1, Vec::new()), "the progress takes the failure back");
    listener.queue.close().await.unwrap();
}

/// What the task's only marker committed, without what a clock or a machine says.
async fn committed_rows(folder: &Path, task: &str) -> Vec<String> {
    let address = format!("file:{}", folder.join("store").display());
    let store = Store::open(&address, Access::ReadOnly).await.unwrap();
    let marker = store.marker("evaluate", task).await.unwrap().expect("the task is committed");
    assert!(store.list("checkpoints/").await.unwrap().is_empty(), "checkpoints go with the commit");
    let [evaluations, curves] = &marker.files[..] else { panic!("two files") };
    let evaluations: Vec<EvaluationRow> = store.read_files(std::slice::from_ref(evaluations)).await.unwrap();
    let curves: Vec<CurveRow> = store.read_files(std::slice::from_ref(curves)).await.unwrap();
    assert_eq!(evaluations.len(), 1);
    evaluations.iter().map(repeatable).chain(curves.iter().map(repeatable)).collect()
}

fn repeatable<T: TableRow + serde::Serialize>(row: &T) -> String {
    let mut value = serde_json::to_value(row).unwrap();
    for column in T::table().columns {
        if column.repeatability == Repeatability::Measured {
            value.as_object_mut().unwrap().remove(column.name);
        }
    }
    value.to_string()
}

async fn newest_record(folder: &Path, task: &str) -> Option<u32> {
    let address = format!("file:{}", folder.join("store").display());
    let store = Store::open(&address, Access::ReadOnly).await.unwrap();
    store.checkpoints(task).await.unwrap().newest
}

fn went_on_from(log: &Mutex<Vec<String>>, slice: u32) -> bool {
    let from = format!("slice={slice} ");
    log.lock().unwrap().iter().any(|line| line.contains("going on from a checkpoint") && line.contains(&from))
}

/// The life of a long training: its first worker is killed, the second one is told to stop together with all its
/// processes, as service managers do, and the third one ends it.
#[tokio::test]
async fn a_training_whose_workers_die_goes_on_from_the_last_slice_to_the_rows_of_a_calm_run() {
    const EPOCHS: u32 = 1_500;
    let calm = tempfile::tempdir().unwrap();
    let envelope = training(calm.path(), EPOCHS);
    let task = envelope.task.id();
    let (mut worker, _) = ready_worker(calm.path(), &[]);
    let mut listener = Listener::new(calm.path()).await;
    listener.publish(&envelope).await;
    listener.next(|event| matches!(event, Event::Finished { .. })).await;
    kill_process(Pid::from_child(&worker), Signal::TERM).unwrap();
    assert_eq!(wait_for_exit(&mut worker), Some(0));
    let expected = committed_rows(calm.path(), &task).await;
    assert_eq!(expected.len(), 1 + EPOCHS as usize);

    let folder = tempfile::tempdir().unwrap();
    let (mut worker, compute, _) = logging_worker(folder.path(), "first", &["--slice-seconds=1"]);
    let mut listener = Listener::new(folder.path()).await;
    listener.publish(&envelope).await;
    listener.next(|event| matches!(event, Event::Sliced { slice: 0, .. })).await;
    listener.next(has_progress).await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    wait_for_end_of(compute);
    let last = newest_record(folder.path(), &task).await.expect("a slice was recorded");

    // As a coordinator that starts again: it knows of no slice.
    listener.queue.purge(&listener.lane).await.unwrap();
    listener.publish(&envelope).await;
    let (mut worker, compute, log) = logging_worker(folder.path(), "second", &[]);
    // The first one's news may still be there.
    listener.next(|event| matches!(event, Event::Progress { worker, .. } if worker == "second/0")).await;
    kill_process(compute, Signal::TERM).unwrap();
    kill_process(Pid::from_child(&worker), Signal::TERM).unwrap();
    assert_eq!(wait_for_exit(&mut worker), Some(0));
    assert!(went_on_from(&log, last), "{:?}", log.lock().unwrap());
    assert_eq!(newest_record(folder.path(), &task).await, Some(last + 1), "the stop left a checkpoint");

    let (mut worker, _, log) = logging_worker(folder.path(), "third", &[]);
    listener.next(|event| matches!(event, Event::Finished { .. })).await;
    kill_process(Pid::from_child(&worker), Signal::TERM).unwrap();
    assert_eq!(wait_for_exit(&mut worker), Some(0));
    assert!(went_on_from(&log, last + 1), "{:?}", log.lock().unwrap());
    assert!(committed_rows(folder.path(), &task).await == expected, "the rows are those of a calm run");
    listener.queue.close().await.unwrap();
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
