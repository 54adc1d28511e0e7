//! The compute process of one slot, seen from the supervisor.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::device::Choice;
use crate::protocol::{Finished, Job, Order, Paused, Report};

/// Log lines kept to explain a death.
const LAST_LINES: usize = 20;
/// Loading libtorch with its CUDA half from a cold disk takes most of a minute.
const START_UP: Duration = Duration::from_mins(5);
/// A dead process's pipes are closed by then, unless a grandchild holds them.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// For glibc's allocator: memory of tensors that come and go at every step stays with the process, which saves the kernel
/// from handing it out, and wiping it, each time. Trainings are 5 to 15 % faster. Other allocators ignore them.
const ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "33554432"), ("MALLOC_TRIM_THRESHOLD_", "8589934592")];

/// What a running job says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Signal {
    Progress {
        done: u64,
        total: u64,
    },
    Finished(Box<Finished>),
    /// The slice is over, with a checkpoint unless it ended before the first batch.
    Paused(Box<Paused>),
    Failed {
        reason: String,
        permanent: bool,
    },
    /// The store could not be reached.
    Interrupted {
        reason: String,
    },
    /// The process is gone; the job with it.
    Died {
        how: String,
        last_lines: Vec<String>,
    },
}

/// What a compute process says of itself when it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) device: String,
    pub(super) gpu: bool,
}

/// Does one job at a time. The supervisor's tests have one without a process.
#[async_trait]
pub(super) trait Compute: Send {
    /// Makes sure that there is a live process; starts one where the last was killed or died. A process that does not
    /// get ready is this worker's fault, not any task's.
    async fn ready(&mut self) -> anyhow::Result<Ready>;
    /// Gives a job to the ready process. A process that is gone shows in [`Compute::signal`].
    async fn start(&mut self, job: &Job) -> anyhow::Result<()>;
    /// Asks for a checkpoint of the running job at once; the answer comes as a signal.
    async fn pause(&mut self);
    /// The next sign of the running job. Cancel safe.
    async fn signal(&mut self) -> Signal;
    /// Ends the process at once; returns its last log lines.
    async fn kill(&mut self) -> Vec<String>;
}

/// How compute processes are started.
#[derive(Debug, Clone)]
pub(super) struct ProcessOptions {
    pub(super) store: String,
    pub(super) device: Choice,
    pub(super) log_arguments: Vec<String>,
}

/// A compute process: this program itself, with the subcommand `compute`.
pub(super) struct ProcessCompute {
    options: ProcessOptions,
    running: Option<Running>,
}

struct Running {
    child: Child,
    input: ChildStdin,
    reports: mpsc::UnboundedReceiver<Report>,
    last_lines: Arc<Mutex<VecDeque<String>>>,
    log: JoinHandle<()>,
    ready: Ready,
}

impl ProcessCompute {
    pub(super) fn new(options: ProcessOptions) -> Self {
        Self { options, running: None }
    }

    async fn spawn(&self) -> anyhow::Result<Running> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .arg("compute")
            .arg(format!("--device={}", self.options.device))
            .args(&self.options.log_arguments)
            .env("METAD2A_STORE", &self.options.store)
            .envs(ALLOCATOR.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()))
            .env_remove("METAD2A_QUEUE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal goes to the whole group, and would look like the task's own crash.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a compute process")?;
        let input = child.stdin.take().context("the compute process has no standard input")?;
        let output = child.stdout.take().context("the compute process has no standard output")?;
        let errors = child.stderr.take().context("the compute process has no standard error")?;
        let last_lines = Arc::new(Mutex::new(VecDeque::new()));
        let log = tokio::spawn(pass_on_log(errors, last_lines.clone()));
        let (sender, reports) = mpsc::unbounded_channel();
        tokio::spawn(read_reports(output, sender));
        let ready = Ready { device: String::new(), gpu: false };
        let mut running = Running { child, input, reports, last_lines, log, ready };
        match tokio::time::timeout(START_UP, running.reports.recv()).await {
            Ok(Some(Report::Ready { device, gpu })) => running.ready = Ready { device, gpu },
            Ok(Some(other)) => bail!("the compute process began with {other:?} instead of getting ready"),
            Ok(None) => {
                let (how, last_lines) = running.last_words().await;
                bail!("the compute process {how} before it was ready: {}", last_lines.join(" | "))
            }
            Err(_) => bail!("the compute process was not ready after {} s", START_UP.as_secs()),
        }
        Ok(running)
    }
}

#[async_trait]
impl Compute for ProcessCompute {
    async fn ready(&mut self) -> anyhow::Result<Ready> {
        // One that died between two jobs is replaced silently: no task was hurt.
        let gone = match &mut self.running {
            Some(running) => running.child.try_wait().map_or(true, |status| status.is_some()),
            None => true,
        };
        if gone {
            self.running = None;
            self.running = Some(self.spawn().await?);
        }
        let running = self.running.as_ref().context("no compute process")?;
        Ok(running.ready.clone())
    }

    async fn start(&mut self, job: &Job) -> anyhow::Result<()> {
        let running = self.running.as_mut().context("no compute process is ready")?;
        running.order(&Order::Work(Box::new(job.clone()))).await
    }

    async fn pause(&mut self) {
        if let Some(running) = &mut self.running
            && let Err(error) = running.order(&Order::Pause).await
        {
            tracing::debug!("the compute process was not asked to pause: {error:#}");
        }
    }

    async fn signal(&mut self) -> Signal {
        let Some(running) = &mut self.running else {
            return Signal::Died { how: "was not running".to_owned(), last_lines: Vec::new() };
        };
        loop {
            match running.reports.recv().await {
                Some(Report::Progress { done, total }) => return Signal::Progress { done, total },
                Some(Report::Finished(finished)) => return Signal::Finished(finished),
                Some(Report::Paused(paused)) => return Signal::Paused(paused),
                Some(Report::Failed { reason, permanent }) => return Signal::Failed { reason, permanent },
                Some(Report::Interrupted { reason }) => return Signal::Interrupted { reason },
                Some(Report::Ready { .. }) => {}
                None => {
                    // Should this future be dropped while it waits, the channel stays closed and the next call ends here.
                    let (how, last_lines) = running.last_words().await;
                    return Signal::Died { how, last_lines };
                }
            }
        }
    }

    async fn kill(&mut self) -> Vec<String> {
        let Some(mut running) = self.running.take() else { return Vec::new() };
        if let Err(error) = running.child.kill().await {
            tracing::debug!("the compute process cannot be killed: {error}");
        }
        running.last_words().await.1
    }
}

impl Running {
    async fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(order).context("an order cannot be written as JSON")?;
        line.push(b'\n');
        // A broken pipe means that the process is gone, which `signal` reports with its reason.
        if let Err(error) = self.input.write_all(&line).await {
            tracing::debug!("the compute process takes no order: {error}");
        }
        Ok(())
    }

    /// How the process ended and what it logged last.
    async fn last_words(&mut self) -> (String, Vec<String>) {
        let how = match tokio::time::timeout(LAST_WORDS, self.child.wait()).await {
            Ok(Ok(status)) => describe(status),
            Ok(Err(error)) => format!("ended in an unknown way ({error})"),
            Err(_) => {
                // It closed its output but lives: of no more use.
                let _ = self.child.start_kill();
                "closed its standard output".to_owned()
            }
        };
        // A finished task must not be awaited a second time.
        if !self.log.is_finished() {
            let _ = tokio::time::timeout(LAST_WORDS, &mut self.log).await;
        }
        let lines = self.last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        (how, lines.iter().cloned().collect())
    }
}

/// Completes the sentence "the compute process …".
fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) => "was killed by signal 9 (often: out of memory)".to_owned(),
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

async fn read_reports(output: tokio::process::ChildStdout, sender: mpsc::UnboundedSender<Report>) {
    let mut lines = BufReader::new(output).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let Ok(report) = serde_json::from_slice(&line) else {
            // Some library's own words; standard output is ours by agreement only.
            let line = String::from_utf8_lossy(&line);
            tracing::debug!(%line, "the compute process printed something else than a report");
            continue;
        };
        if sender.send(report).is_err() {
            return;
        }
    }
}

async fn pass_on_log(errors: tokio::process::ChildStderr, last_lines: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(errors).split(b'\n');
    let mut terminal = tokio::io::stderr();
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).into_owned();
        // The lines carry time and level already. A log that cannot be written must not stop the work.
        let _ = terminal.write_all(format!("{line}\n").as_bytes()).await;
        let mut kept = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LAST_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}
