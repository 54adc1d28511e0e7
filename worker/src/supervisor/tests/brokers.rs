//! Slices on queues that misbehave: one that fails on purpose, and a real broker that does not wait long.

use std::path::PathBuf;
use std::process::Command;

use metad2a_database::random_id;
use metad2a_queue::Delivery;

use super::*;
use crate::protocol::Paused;

/// A task of so many slices, each of which takes the same time.
struct Slow {
    store: Store,
    slices: u32,
    each: Duration,
    job: Option<Job>,
    done: Arc<std::sync::Mutex<Vec<u32>>>,
}

#[async_trait]
impl Compute for Slow {
    async fn ready(&mut self) -> anyhow::Result<Ready> {
        Ok(Ready { device: "cpu".into(), gpu: false })
    }

    async fn start(&mut self, job: &Job) -> anyhow::Result<()> {
        self.job = Some(job.clone());
        Ok(())
    }

    async fn pause(&mut self) {}

    async fn signal(&mut self) -> Signal {
        let Some(job) = self.job.clone() else { return std::future::pending().await };
        tokio::time::sleep(self.each).await;
        self.job = None;
        let slice = job.envelope.slice;
        // The work of one slice is the number that it adds.
        let before = job.checkpoints.first().map_or(0, |checkpoint| checkpoint.done);
        assert_eq!(before, u64::from(slice), "every slice goes on where the last one ended");
        self.done.lock().unwrap().push(slice);
        if slice + 1 == self.slices {
            return success();
        }
        let state = format!("{slice}");
        let file = self.store.put_checkpoint_file(&job.id, "state.json", state.into()).await.unwrap();
        let done = u64::from(slice) + 1;
        Signal::Paused(Box::new(Paused { files: vec![file], done, total: self.slices.into() }))
    }

    async fn kill(&mut self) -> Vec<String> {
        self.job = None;
        Vec::new()
    }
}

fn team(queue: &Arc<dyn Queue>, store: &Store, pipeline: &str) -> Team {
    Team {
        queue: queue.clone(),
        store: store.clone(),
        pipeline: pipeline.into(),
        name: "worker".into(),
        patience: Patience { slice: Duration::from_secs(1), grace: Duration::from_secs(25) },
        limits: Limits::default(),
    }
}

/// Much longer than any of this takes, by whatever clock the test has.
const LONGEST: Duration = Duration::from_mins(5);

/// Publishes the task and has it worked on by so many slots until it is committed; returns the slices that were done.
async fn finished(
    queue: Arc<dyn Queue>,
    pipeline: &str,
    slots: usize,
    slices: u32,
    each: Duration,
) -> (Vec<u32>, metad2a_database::Marker) {
    let store = Store::open("memory:", Access::ReadWrite).await.unwrap();
    let task = envelope(3);
    let id = task.task.id();
    let lane = Lane::new(pipeline, dialect(), Class::Gpu, Urgency::Normal);
    while queue.publish(&lane, &[Message::new(id.clone(), task.encode())]).await.is_err() {}
    let done = Arc::new(std::sync::Mutex::new(Vec::new()));
    let slow = || Slow { store: store.clone(), slices, each, job: None, done: done.clone() };
    let stop = CancellationToken::new();
    let computes = (0..slots).map(|_| slow()).collect();
    let working = tokio::spawn(team(&queue, &store, pipeline).work(computes, stop.clone()));
    let marker = tokio::time::timeout(LONGEST, committed(&store, &id)).await;
    let marker =
        marker.unwrap_or_else(|_| panic!("the task is lost after slices {:?}", done.lock().unwrap()));
    stop.cancel();
    working.await.unwrap().unwrap();
    let done = done.lock().unwrap().clone();
    (done, marker)
}

async fn committed(store: &Store, id: &str) -> metad2a_database::Marker {
    loop {
        if let Some(marker) = store.marker("search", id).await.unwrap() {
            return marker;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn however_badly_the_queue_behaves_every_slice_is_done_and_the_task_is_committed() {
    for seed in 0..40 {
        let queue = metad2a_queue::open(&format!("unreliable:{seed}:memory:{}", random_id())).await.unwrap();
        let (mut done, _) = finished(queue, PIPELINE, 3, 6, Duration::from_secs(1)).await;
        done.sort_unstable();
        done.dedup();
        assert_eq!(done, [0, 1, 2, 3, 4, 5], "seed {seed}");
    }
}

/// A broker that gives up a delivery after two seconds, and looks every half one.
struct HastyBroker {
    script: PathBuf,
    folder: PathBuf,
    url: String,
}

const HASTE: Duration = Duration::from_secs(2);

impl HastyBroker {
    fn start() -> Self {
        let variable = |name: &str| {
            let value = std::env::var(name);
            PathBuf::from(
                value.unwrap_or_else(|_| panic!("run under scripts/services/with-broker.sh: no {name}")),
            )
        };
        let script = variable("METAD2A_TEST_BROKER");
        let folder = variable("METAD2A_TEST_BROKERS").join(format!("hasty-{}", random_id()));
        std::fs::create_dir(&folder).unwrap();
        let limit = format!("consumer_timeout = {}\n", HASTE.as_millis());
        std::fs::write(folder.join("extra.conf"), limit).unwrap();
        let mut broker = Self { script, folder, url: String::new() };
        let started = broker.call("start", &[]);
        broker.url = started.lines().next().unwrap().to_owned();
        broker.call("ctl", &["eval", "application:set_env(rabbit, channel_tick_interval, 500)."]);
        broker
    }

    fn call(&self, command: &str, arguments: &[&str]) -> String {
        let output =
            Command::new(&self.script).arg(command).arg(&self.folder).args(arguments).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Deliveries that it gave up, by its own log.
    fn given_up(&self) -> usize {
        let logs = std::fs::read_dir(self.folder.join("log")).unwrap();
        let texts = logs.map(|log| std::fs::read_to_string(log.unwrap().path()).unwrap_or_default());
        texts.map(|text| text.matches("has timed out waiting for").count()).sum()
    }
}

impl Drop for HastyBroker {
    fn drop(&mut self) {
        self.call("stop", &[]);
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn a_task_longer_than_the_brokers_patience_is_done_in_slices_and_no_delivery_is_given_up() {
    let broker = HastyBroker::start();
    let queue = metad2a_queue::open(&broker.url).await.unwrap();
    let each = Duration::from_millis(800);
    let slices = 8;
    assert!(each * slices > HASTE * 3 && each < HASTE);
    let (done, marker) = finished(queue.clone(), "sliced", 1, slices, each).await;
    assert_eq!(done, (0..slices).collect::<Vec<_>>(), "every slice once");
    assert!(marker.seconds > HASTE.as_secs_f64() * 3.0, "{}", marker.seconds);
    assert_eq!(queue.ready(&Lane::new("sliced", dialect(), Class::Gpu, Urgency::Normal)).await.unwrap(), 0);
    assert_eq!(queue.ready(&Lane::new("sliced", dialect(), Class::Gpu, Urgency::High)).await.unwrap(), 0);
    assert_eq!(broker.given_up(), 0);

    // The broker means it: what is held longer is taken away, which is what the slices are for.
    let lane = Lane::new("whole", dialect(), Class::Gpu, Urgency::Normal);
    queue.publish(&lane, &[Message::new("whole", *b"{}")]).await.unwrap();
    let held: Box<dyn Delivery> = queue.subscribe(&[lane]).await.unwrap().take().await.unwrap();
    let seen = async {
        while broker.given_up() == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), seen).await.expect("the broker loses its patience");
    assert!(!held.acknowledge().await.unwrap(), "it is no longer ours");
    queue.close().await.unwrap();
}

/// Has nothing to keep so often, as one that is stopped before its first batch; then it is done.
struct Reluctant {
    returns: u32,
    is_busy: bool,
}

#[async_trait]
impl Compute for Reluctant {
    async fn ready(&mut self) -> anyhow::Result<Ready> {
        Ok(Ready { device: "cpu".into(), gpu: false })
    }

    async fn start(&mut self, _job: &Job) -> anyhow::Result<()> {
        self.is_busy = true;
        Ok(())
    }

    async fn pause(&mut self) {}

    async fn signal(&mut self) -> Signal {
        if !std::mem::take(&mut self.is_busy) {
            return std::future::pending().await;
        }
        if self.returns == 0 {
            return success();
        }
        self.returns -= 1;
        Signal::Paused(Box::new(Paused { files: Vec::new(), done: 0, total: 1 }))
    }

    async fn kill(&mut self) -> Vec<String> {
        Vec::new()
    }
}

#[tokio::test]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn a_task_that_is_handed_back_150_times_is_done_all_the_same_and_counts_the_attempts_it_had() {
    let url = std::env::var("METAD2A_TEST_AMQP_URL").expect("run under scripts/services/with-broker.sh");
    let queue = metad2a_queue::open(&url).await.unwrap();
    let store = Store::open("memory:", Access::ReadWrite).await.unwrap();
    let pipeline = format!("returned-{}", random_id());
    let task = Envelope { failures: vec!["it crashed".into()], ..envelope(3) };
    let id = task.task.id();
    let lane = Lane::new(&pipeline, dialect(), Class::Gpu, Urgency::Normal);
    queue.publish(&lane, &[Message::new(id.clone(), task.encode())]).await.unwrap();
    let stop = CancellationToken::new();
    let compute = Reluctant { returns: 150, is_busy: false };
    let working = tokio::spawn(team(&queue, &store, &pipeline).work(vec![compute], stop.clone()));
    let marker = tokio::time::timeout(LONGEST, committed(&store, &id)).await.expect("the task is not lost");
    assert_eq!(marker.attempt, 2, "the crash is the only failure that counts");
    assert_eq!(queue.dead_letters(&pipeline).await.unwrap(), 0);
    stop.cancel();
    working.await.unwrap().unwrap();
    queue.close().await.unwrap();
}
