//! Measures planning at scale: `docs/BENCHMARKS.md` holds what was measured, `scripts/bench/planning.sh` runs it.
//!
//! ```text
//!   planning fill STORE TASKS UNITS       commits the markers of a study of so many tasks with so many units each
//!   planning measure STORE TASKS UNITS    what a coordinator does at its start and at each event
//! ```
//!
//! The study is synthetic: no picture is read and no network trained. Markers are as long as real ones, but name files
//! that are not there. Requests are counted for `s3://` only, below the object store's client: retries and pages count.
#![expect(clippy::print_stdout, reason = "what was measured is the result")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use metad2a_coordinator::{choices, ledger};
use metad2a_database::{Access, FileRef, Marker, Store, now, random_id, sha256_hex};
use metad2a_pipeline::envelope::SourceAddress;
use metad2a_pipeline::planner::{Done, Existing, Fact, Flight, Planner};
use metad2a_pipeline::specification::Specification;
use metad2a_pipeline::study::{IndexedSource, Study};
use metad2a_pipeline::tasks::{Evaluate, Kind, Summary, Task};
use object_store::ClientOptions;
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// Bundles of a dataset.
const PER_DATASET: u32 = 80;
/// Events after the start whose handling is timed.
const EVENTS: usize = 10_000;
/// Requests of `fill` at a time.
const WRITERS: usize = 64;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, url, tasks, units] = arguments.as_slice() else {
        bail!("usage: planning fill|measure STORE TASKS UNITS");
    };
    let study = study(tasks.parse().context("TASKS")?, units.parse().context("UNITS")?)?;
    match mode.as_str() {
        "fill" => fill(&study, url).await,
        "measure" => measure(&study, url).await,
        other => bail!("`{other}` is neither `fill` nor `measure`"),
    }
}

fn study(tasks: u32, units: u32) -> anyhow::Result<Study> {
    ensure!(
        tasks.is_multiple_of(PER_DATASET) && tasks >= 2 * PER_DATASET,
        "TASKS: a multiple of {PER_DATASET}"
    );
    let text = format!(
        "version: 1
name: planning
seed: 1
store: 'memory:'
queue: 'memory:'
sources: {{ many: {{ format: idx, paths: [pictures, labels], use: meta }} }}
extractor: {{ kind: resnet18, weights: w, classes_per_task: 20 }}
datasets:
  meta_train: {{ count: {}, least_classes: 10, most_classes: 20 }}
  meta_valid: {{ count: 1, least_classes: 10, most_classes: 20 }}
recipes: {{ short: {{ epochs: 20 }} }}
evaluations: {{ recipe: short, anchors: 0, cells_per_dataset: {}, bundle: {units} }}
search: {{ recipe: short }}
",
        tasks / PER_DATASET - 1,
        PER_DATASET * units,
    );
    let source = IndexedSource {
        content_id: sha256_hex(b"many"),
        classes: (0..2_000).map(|label| (label, format!("class {label}"))).collect(),
        pictures: 0,
        address: SourceAddress {
            name: "many".to_owned(),
            format: "idx".to_owned(),
            paths: Vec::new(),
            fingerprint: None,
        },
    };
    let specification = Specification::parse("planning.yaml", &text)?;
    Ok(Study::design(specification, BTreeMap::from([("many".to_owned(), source)]), sha256_hex(b"weights"))?)
}

async fn fill(study: &Study, url: &str) -> anyhow::Result<()> {
    let (store, _) = open(url, Access::ReadWrite).await?;
    let started = Instant::now();
    let extractions = study.extractions.iter().map(|task| Task::ExtractFeatures(task.clone()));
    let evaluations = study.bundles().map(|bundle| Task::Evaluate(bundle.evaluate(bundle.units.to_vec())));
    let written: usize = futures::stream::iter(extractions.chain(evaluations).map(|task| marker(&task)))
        .map(|marker| {
            let store = &store;
            async move {
                let path = format!("done/{}/{}/{}.json", marker.kind, &marker.id[..2], marker.id);
                store.put_json_if_absent(&path, &marker).await
            }
        })
        .buffer_unordered(WRITERS)
        .try_fold(0, |count, _| async move { Ok(count + 1) })
        .await?;
    println!("{written} markers written in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn summary(task: &Task) -> Summary {
    match task {
        Task::Evaluate(task) => Summary::Evaluations {
            units: task.units.len() as u64,
            diverged: 0,
            failed: 0,
            stopped: 0,
            train_pictures: 400,
            valid_pictures: 200,
            test_pictures: 0,
            data_hash: sha256_hex(task.dataset.id().as_bytes()),
        },
        _ => Summary::Features { pictures: 400 },
    }
}

fn units(task: &Task) -> Vec<String> {
    let Task::Evaluate(task) = task else { return Vec::new() };
    task.units.iter().map(|unit| Evaluate::unit_id(task, unit)).collect()
}

fn marker(task: &Task) -> Marker {
    let id = task.id();
    let file = |kind: &str, rows| {
        let sha256 = sha256_hex(format!("{id} {kind}").as_bytes());
        let path = format!("results/{kind}/{}/{sha256}.parquet", &sha256[..2]);
        FileRef { path, sha256, bytes: 9_000, rows: Some(rows) }
    };
    Marker {
        kind: task.kind().name().to_owned(),
        files: vec![file("evaluations", 4), file("curves", 80)],
        units: units(task),
        execution_id: random_id(),
        worker: "worker-0 slot 0".to_owned(),
        attempt: 1,
        device: "cpu".to_owned(),
        started_at: now(),
        finished_at: now(),
        seconds: 4.0,
        summary: serde_json::to_value(summary(task)).unwrap_or_default(),
        id,
    }
}

async fn measure(study: &Study, url: &str) -> anyhow::Result<()> {
    println!("study of {} tasks: {}", study.bundles().len(), memory()?);
    let (store, requests) = open(url, Access::ReadWrite).await?;
    let opened = requests.load(Ordering::Relaxed);
    let started = Instant::now();
    let existing = ledger::read(&store).await?;
    let asked = requests.load(Ordering::Relaxed) - opened;
    println!(
        "read {} finished tasks in {:.2} s with {asked} requests: {}",
        existing.count_done(),
        started.elapsed().as_secs_f64(),
        memory()?
    );
    let planning = Instant::now();
    let mut planner = Planner::new(study, existing);
    let step = planner.step(&Flight::default())?;
    println!(
        "planned in {:.2} s ({:.2} s since the store was asked), {} choices to freeze: {}",
        planning.elapsed().as_secs_f64(),
        started.elapsed().as_secs_f64(),
        step.freeze.len(),
        memory()?
    );
    let (writing, before) = (Instant::now(), requests.load(Ordering::Relaxed));
    if choices::write(&store, &mut planner, step).await? {
        planner.step(&Flight::default())?;
        let asked = requests.load(Ordering::Relaxed) - before;
        let seconds = writing.elapsed().as_secs_f64();
        println!("choices written in {seconds:.2} s with {asked} requests: {}", memory()?);
    }
    println!(
        "{} tasks may run",
        planner.open_places().map(|place| planner.tasks(place).len()).sum::<usize>()
    );
    drop(planner);
    events(study)?;
    println!("at the end: {}", memory()?);
    Ok(())
}

/// Times what a coordinator of a study without results does at each event.
fn events(study: &Study) -> anyhow::Result<()> {
    let mut planner = Planner::new(study, Existing::default());
    planner.step(&Flight::default())?;
    planner.take_changes();
    let tasks: Vec<Task> = planner
        .open_places()
        .step_by(study.bundles().len().div_ceil(EVENTS))
        .flat_map(|place| planner.tasks(place))
        .map(|(_, task)| task)
        .collect();
    println!("all open, none done: {}", memory()?);
    let facts: Vec<Fact> = tasks
        .iter()
        .map(|task| Fact::Done { id: task.id(), done: Done { summary: summary(task), units: units(task) } })
        .collect();
    let (count, started) = (facts.len(), Instant::now());
    let mut places = 0;
    for fact in facts {
        planner.learn(fact);
        planner.step(&Flight::default())?;
        for place in planner.take_changes() {
            places += 1;
            std::hint::black_box(planner.tasks(place));
        }
    }
    let each = started.elapsed().as_secs_f64() * 1e6 / count as f64;
    println!("{count} events: {each:.0} us each, {places} places looked at again");
    let done = planner.count_open().get(&Kind::Evaluate).copied().unwrap_or_default();
    println!("{done} tasks are still open");
    Ok(())
}

/// Memory of this process now and at most, as the kernel counts it.
fn memory() -> anyhow::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kilobytes =
            line.and_then(|line| line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<f64>().ok());
        kilobytes.map_or_else(|| "?".to_owned(), |kilobytes| format!("{:.0}", kilobytes / 1_024.0))
    };
    Ok(format!("{} MiB now, {} MiB at most", of("VmRSS"), of("VmHWM")))
}

async fn open(url: &str, access: Access) -> anyhow::Result<(Store, Arc<AtomicUsize>)> {
    let count = Arc::new(AtomicUsize::new(0));
    let Some(bucket) = url.strip_prefix("s3://") else {
        return Ok((Store::open(url, access).await?, count));
    };
    let connector = Counting { count: count.clone() };
    let s3 = AmazonS3Builder::from_env().with_bucket_name(bucket).with_http_connector(connector).build()?;
    Ok((Store::open_in(Arc::new(s3), url, access).await?, count))
}

/// Counts what really goes to the server.
#[derive(Debug)]
struct Counting {
    count: Arc<AtomicUsize>,
}

impl HttpConnector for Counting {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(CountingService { inner, count: self.count.clone() }))
    }
}

struct CountingService {
    inner: HttpClient,
    count: Arc<AtomicUsize>,
}

impl fmt::Debug for CountingService {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CountingService").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl HttpService for CountingService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.inner.execute(request).await
    }
}
