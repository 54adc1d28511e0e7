//! A whole run over RabbitMQ and S3 while everything is killed.
//!
//! ```text
//!   workers ─── kill -9 by the clock ──┐         ┌── kill -9 ─── coordinator
//!        │                             ▼         ▼                │
//!        └──► broker ◄─ kill -9 ─ this module ─ faults ─► proxy ◄─┘──► S3 server
//! ```
//!
//! Whatever dies is started again, as an operator's service manager does. Deliberately absent: killed compute
//! processes, which are attempts by design, and a lost disk of the broker or the store.

mod schedule;

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use metad2a_database::{Access, Store};

pub use self::schedule::Violence;
use self::schedule::{Blow, Milestone};
use crate::{
    Cluster, FaultRates, PrivateBroker, Process, Project, StoreProxy, deterministic_tables, service,
};

/// How often processes are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often the store is asked how far the run is.
const COUNT: Duration = Duration::from_millis(500);
/// So many requests at least meet a bad store, before it turns good.
const BAD_REQUESTS: u64 = 150;
/// Before a program that ended by itself is started again, as service managers do.
const PAUSE: Duration = Duration::from_secs(1);

/// What a chaos run did and left.
#[derive(Debug)]
pub struct Aftermath {
    pub worker_kills: usize,
    pub broker_kills: usize,
    pub coordinator_kills: usize,
    /// Requests that the programs made to the store, and how many of them went wrong.
    pub requests: u64,
    pub faults: u64,
    pub seconds: f64,
    /// Programs that ended by themselves and not for want of a broker at their start.
    pub unasked_ends: Vec<String>,
    /// Exit code of the coordinator that brought the run to its end.
    pub exit_code: Option<i32>,
    pub dead_letters: u64,
    /// Address of the store, for reading the tables.
    pub store: String,
}

impl Aftermath {
    /// What is wrong, in one text: programs that gave up, healthy tasks set aside, tables unlike those of a calm run.
    pub async fn judge(&self, expected: &BTreeMap<&'static str, Vec<String>>) -> Result<(), String> {
        let mut wrong = self.unasked_ends.clone();
        if self.dead_letters > 0 {
            wrong.push(format!("{} healthy tasks were set aside as dead letters", self.dead_letters));
        }
        if self.exit_code != Some(0) {
            wrong.push(format!("the coordinator ended with {:?}", self.exit_code));
            return Err(wrong.join("\n"));
        }
        let found = deterministic_tables(&self.store).await;
        for (table, rows) in expected {
            if found[table] != *rows {
                let (lost, strange) = (missing(rows, &found[table]), missing(&found[table], rows));
                let (has, should) = (found[table].len(), rows.len());
                wrong.push(format!(
                    "table `{table}` has {has} rows instead of {should}; lost: {lost:?}; strange: {strange:?}"
                ));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}

/// The first of those that the others lack. Both are sorted.
fn missing<'a>(these: &'a [String], others: &[String]) -> Option<&'a String> {
    these.iter().find(|row| others.binary_search(row).is_err())
}

/// The cluster under attack.
struct Arena {
    broker: PrivateBroker,
    proxy: StoreProxy,
    coordinator: Process,
    workers: Vec<Process>,
    /// A restart of the broker that is under way.
    restart: Option<Child>,
    /// When the broker last answered again.
    back: Instant,
    outage_ends: Option<Instant>,
    /// Since how many requests the store has been bad.
    bad_since: Option<u64>,
    counts: Counts,
    unasked_ends: Vec<String>,
}

#[derive(Debug, Default)]
struct Counts {
    workers: usize,
    brokers: usize,
    coordinators: usize,
}

/// Runs the project's pipeline to its end while everything is destroyed again and again. `tasks` is how many it has.
///
/// # Panics
/// If the run does not end within `longest`; the last lines of all logs are shown.
pub async fn run(project: &Project, violence: &Violence, tasks: usize, longest: Duration) -> Aftermath {
    let started = Instant::now();
    let store_url = format!("{}/{}", service("METAD2A_TEST_S3_URL"), metad2a_database::random_id());
    // The server itself, past the proxy.
    let store = Store::open(&store_url, Access::ReadWrite).await.expect("the S3 server answers");
    let server = service("AWS_ENDPOINT_URL");
    let proxy = StoreProxy::start(server.trim_start_matches("http://").trim_end_matches('/'), violence.seed);
    let broker = PrivateBroker::start();
    let cluster =
        Cluster { queue: broker.url().to_owned(), store: store_url.clone(), endpoint: Some(proxy.url()) };
    let workers = (0..violence.workers).map(|number| cluster.worker(project, &format!("worker-{number}"), 1));
    let mut arena = Arena {
        coordinator: cluster.coordinator(project),
        workers: workers.collect(),
        broker,
        proxy,
        restart: None,
        back: Instant::now(),
        outage_ends: None,
        bad_since: None,
        counts: Counts::default(),
        unasked_ends: Vec::new(),
    };
    let exit_code = arena.fight(violence, &store, tasks, longest).await;
    let queue = metad2a_queue::open(arena.broker.url()).await.expect("the broker answers in the end");
    let dead_letters = queue.dead_letters(project.pipeline()).await.expect("dead letters can be counted");
    queue.close().await.expect("the queue closes");
    let (requests, faults) = arena.proxy.counts();
    Aftermath {
        worker_kills: arena.counts.workers,
        broker_kills: arena.counts.brokers,
        coordinator_kills: arena.counts.coordinators,
        requests,
        faults,
        seconds: started.elapsed().as_secs_f64(),
        unasked_ends: std::mem::take(&mut arena.unasked_ends),
        exit_code,
        dead_letters,
        store: store_url,
    }
}

impl Arena {
    /// Returns the exit code of the coordinator that finished.
    async fn fight(
        &mut self,
        violence: &Violence,
        store: &Store,
        tasks: usize,
        longest: Duration,
    ) -> Option<i32> {
        let end = Instant::now() + longest;
        let mut milestones = violence.milestones().into_iter().peekable();
        let mut kills = violence.worker_kills();
        let mut next_kill = kills.next().map(|(gap, worker)| (Instant::now() + gap, worker));
        let mut next_count = Instant::now();
        let mut done = 0;
        self.coordinator.start();
        self.workers.iter_mut().for_each(Process::start);
        loop {
            tokio::time::sleep(LOOK).await;
            assert!(
                Instant::now() < end,
                "the run has not ended after {longest:?}, with {done} of {tasks} done\n{}",
                self.logs()
            );
            self.end_what_ends();
            if let Some((at, worker)) = next_kill
                && Instant::now() >= at
            {
                self.workers[worker].kill();
                self.workers[worker].start();
                self.counts.workers += 1;
                next_kill = kills.next().map(|(gap, worker)| (Instant::now() + gap, worker));
            }
            if Instant::now() >= next_count {
                done = store.list("done/").await.expect("the server itself answers").len();
                next_count = Instant::now() + COUNT;
            }
            let part = done as f64 / tasks as f64;
            while milestones.peek().is_some_and(|next| next.at <= part && self.is_ready_for(next.blow)) {
                if let Some(Milestone { blow, .. }) = milestones.next() {
                    self.strike(blow, violence);
                }
            }
            if let Some(code) = self.watch() {
                assert!(milestones.peek().is_none(), "the run ended before {:?}", milestones.next());
                return code;
            }
        }
    }

    /// One broker is restarted at a time, and a bad store is felt; what comes after waits with them.
    fn is_ready_for(&self, blow: Blow) -> bool {
        let is_felt = self.bad_since.is_none_or(|since| self.proxy.counts().0 - since >= BAD_REQUESTS);
        self.restart.is_none() && (blow != Blow::StoreTurnsGood || is_felt)
    }

    fn strike(&mut self, blow: Blow, violence: &Violence) {
        match blow {
            Blow::KillBroker => {
                self.restart = Some(self.broker.restart());
                self.counts.brokers += 1;
            }
            Blow::KillCoordinator => {
                self.coordinator.kill();
                self.coordinator.start();
                self.counts.coordinators += 1;
            }
            Blow::StoreTurnsBad => self.bad_since = Some(self.proxy.counts().0),
            Blow::StoreTurnsGood => self.bad_since = None,
            Blow::StoreOutage => self.outage_ends = Some(Instant::now() + violence.outage),
        }
        self.set_faults();
    }

    fn set_faults(&self) {
        self.proxy.set_faults(match (self.outage_ends, self.bad_since) {
            (Some(_), _) => Some(FaultRates::outage()),
            (None, Some(_)) => Some(FaultRates::rough()),
            (None, None) => None,
        });
    }

    fn end_what_ends(&mut self) {
        if self.outage_ends.is_some_and(|end| Instant::now() >= end) {
            self.outage_ends = None;
            self.set_faults();
        }
        if let Some(restart) = &mut self.restart
            && let Some(status) = restart.try_wait().expect("a child of ours")
        {
            assert!(status.success(), "the broker does not start again");
            self.restart = None;
            self.back = Instant::now();
        }
    }

    /// Starts again what ended by itself; returns when the coordinator ended for good.
    #[expect(clippy::option_option, reason = "ended or not; and with a code, or by a signal")]
    fn watch(&mut self) -> Option<Option<i32>> {
        // A program that finds no broker at its start says so and ends: its manager tries again.
        let is_excused = self.restart.is_some() || self.back.elapsed() < PAUSE * 2;
        if let Some(status) = self.coordinator.ended() {
            if matches!(status.code(), Some(0 | 3)) {
                return Some(status.code());
            }
            if !is_excused {
                let last = self.coordinator.last_lines(5);
                self.unasked_ends.push(format!("coordinator ({status}): {last}"));
            }
            std::thread::sleep(PAUSE);
            self.coordinator.start();
        }
        for worker in &mut self.workers {
            if let Some(status) = worker.ended() {
                if !is_excused {
                    let (name, last) = (worker.name(), worker.last_lines(5));
                    self.unasked_ends.push(format!("{name} ({status}): {last}"));
                }
                std::thread::sleep(PAUSE);
                worker.start();
            }
        }
        None
    }

    fn logs(&self) -> String {
        let all = std::iter::once(&self.coordinator).chain(&self.workers);
        let shown = all.map(|process| format!("--- {}\n{}", process.name(), process.last_lines(40)));
        shown.collect::<Vec<_>>().join("\n")
    }
}
