//! A store that cannot be reached: no task's fault.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::stream::{self, BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::*;

/// A store in memory that can be switched off.
#[derive(Debug, Default)]
struct Switched {
    inner: InMemory,
    is_off: AtomicBool,
    /// How often it was asked for a marker while it was off.
    vain_marker_reads: AtomicUsize,
}

impl Switched {
    fn check(&self) -> Result<()> {
        if self.is_off.load(Ordering::Relaxed) {
            return Err(object_store::Error::Generic { store: "switched", source: "503 Slow Down".into() });
        }
        Ok(())
    }
}

impl fmt::Display for Switched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("switched")
    }
}

#[async_trait]
impl ObjectStore for Switched {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.check()?;
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check()?;
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let is_vain = self.check().is_err() && path.as_ref().starts_with("done/");
        self.vain_marker_reads.fetch_add(usize::from(is_vain), Ordering::Relaxed);
        self.check()?;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.check() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.check()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check()?;
        self.inner.copy_opts(from, to, options).await
    }
}

fn interrupted() -> Signal {
    Signal::Interrupted { reason: "cannot read `results/x`: 503 Slow Down".into() }
}

#[tokio::test(start_paused = true)]
async fn an_interruption_by_the_store_is_no_attempt() {
    let world = World::new().await;
    // One failure would be the last.
    let envelope = envelope(1);
    world.publish(&envelope).await;
    let signals = [interrupted(), interrupted(), interrupted(), success()];
    world.work_until(world.compute(signals), is_finished).await;
    let marker = world.store.marker("search", &envelope.task.id()).await.unwrap().unwrap();
    assert_eq!(marker.attempt, 1);
    assert_eq!(world.jobs.lock().unwrap().len(), 4);
    assert_eq!(world.queue.dead_letters(PIPELINE).await.unwrap(), 0);
    assert!(world.next_message().await.is_none(), "no copy is left");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_alone_is_interrupted_for_ever_is_given_up_in_the_end() {
    let world = World::new().await;
    world.publish(&envelope(1)).await;
    let signals = std::iter::repeat_with(interrupted).take(100);
    let events = world.work_until(world.compute(signals), is_failed).await;
    let Some(Event::Failed { reason, gave_up: true, .. }) = events.last() else { panic!("{events:?}") };
    assert!(reason.contains("503"), "{reason}");
    assert_eq!(world.jobs.lock().unwrap().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_out_of_reach_no_task_is_taken_and_afterwards_all_are_done() {
    let mut world = World::new().await;
    let switched = Arc::new(Switched::default());
    world.store = Store::open_in(switched.clone(), "switched:", Access::ReadWrite).await.unwrap();
    switched.is_off.store(true, Ordering::Relaxed);
    world.publish(&envelope(1)).await;
    let stop = CancellationToken::new();
    let working = tokio::spawn(world.team().work(vec![world.compute([success()])], stop.clone()));
    let mut events = world.queue.events(PIPELINE).await.unwrap();
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(
        switched.vain_marker_reads.load(Ordering::Relaxed),
        1,
        "the first task was taken in good faith"
    );
    assert_eq!(world.queue.ready(&lane(Urgency::Normal)).await.unwrap(), 1);

    switched.is_off.store(false, Ordering::Relaxed);
    while !is_finished(&serde_json::from_slice(&events.next().await.unwrap()).unwrap()) {}
    stop.cancel();
    working.await.unwrap().unwrap();
    assert_eq!(world.queue.dead_letters(PIPELINE).await.unwrap(), 0);
}

/// A compute whose process needs the store to start.
struct Dependent {
    inner: Scripted,
    store: Arc<Switched>,
    failed_starts: Arc<AtomicUsize>,
}

#[async_trait]
impl Compute for Dependent {
    async fn ready(&mut self) -> anyhow::Result<Ready> {
        if self.store.is_off.load(Ordering::Relaxed) {
            self.failed_starts.fetch_add(1, Ordering::Relaxed);
            anyhow::bail!(
                "the compute process exited with code 1 before it was ready: cannot open the store"
            );
        }
        self.inner.ready().await
    }

    async fn start(&mut self, job: &Job) -> anyhow::Result<()> {
        self.inner.start(job).await
    }

    async fn pause(&mut self) {
        self.inner.pause().await;
    }

    async fn signal(&mut self) -> Signal {
        self.inner.signal().await
    }

    async fn kill(&mut self) -> Vec<String> {
        self.inner.kill().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_cannot_start_while_the_store_is_out_of_reach_ends_no_slot() {
    let mut world = World::new().await;
    let switched = Arc::new(Switched::default());
    world.store = Store::open_in(switched.clone(), "switched:", Access::ReadWrite).await.unwrap();
    switched.is_off.store(true, Ordering::Relaxed);
    world.publish(&envelope(1)).await;
    let failed_starts = Arc::new(AtomicUsize::new(0));
    let compute = Dependent {
        inner: world.compute([success()]),
        store: switched.clone(),
        failed_starts: failed_starts.clone(),
    };
    let mut events = world.queue.events(PIPELINE).await.unwrap();
    let stop = CancellationToken::new();
    let working = tokio::spawn(world.team().work(vec![compute], stop.clone()));
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert!(failed_starts.load(Ordering::Relaxed) > 20, "{failed_starts:?}");

    switched.is_off.store(false, Ordering::Relaxed);
    while !is_finished(&serde_json::from_slice(&events.next().await.unwrap()).unwrap()) {}
    stop.cancel();
    working.await.unwrap().unwrap();
}
