//! The brokers of these tests: the one that all share, and ones of their own, which they may kill.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use metad2a_queue::{RabbitAccess, RabbitOptions, RabbitQueue};
use tracing_subscriber::filter::LevelFilter;

const NEEDED: &str = "run under scripts/services/with-broker.sh";

/// A RabbitMQ in a folder. All methods block: a broker takes seconds to start.
pub(crate) struct Broker {
    program: PathBuf,
    folder: PathBuf,
    /// Stopped and removed with it when dropped. What is left by a killed test, with-broker.sh stops.
    is_own: bool,
}

impl Broker {
    /// The one of all tests: use names of your own, and leave it running.
    pub(crate) fn shared() -> Self {
        Self { program: variable("METAD2A_TEST_BROKER"), folder: brokers().join("shared"), is_own: false }
    }

    /// A broker for one test alone, not started.
    pub(crate) fn own() -> Self {
        let folder = tempfile::Builder::new().prefix("own.").tempdir_in(brokers()).expect("a folder").keep();
        Self { program: variable("METAD2A_TEST_BROKER"), folder, is_own: true }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts it, again with the same data and ports if it was killed. Returns its addresses: plain, and TLS if set up.
    pub(crate) fn start(&self) -> Vec<String> {
        self.control("start", &[]).lines().map(str::to_owned).collect()
    }

    pub(crate) fn kill(&self) {
        self.control("kill", &[]);
    }

    /// Whether the broker would find this quorum queue again after a kill. RabbitMQ writes the directory of its quorum
    /// queues to disk half a second after a queue was made (Ra's `names.dets`). Killed before that, it forgets which log
    /// belongs to the queue and starts it anew, empty and without a leader: whatever was confirmed is gone, and nothing is
    /// answered until an operator deletes the queue. No client can mend that.
    pub(crate) fn remembers(&self, queue: &str) -> bool {
        let directories = std::fs::read_dir(self.folder.join("mnesia")).into_iter().flatten().flatten();
        let mut names =
            directories.flat_map(|node| std::fs::read_dir(node.path().join("quorum")).into_iter().flatten());
        names.any(|system| {
            let path = system.expect("listed").path().join("names.dets");
            let registered = std::fs::read(path).unwrap_or_default();
            registered.windows(queue.len()).any(|window| window == queue.as_bytes())
        })
    }

    /// `rabbitmqctl`.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        self.control("ctl", arguments)
    }

    fn control(&self, command: &str, arguments: &[&str]) -> String {
        let output = Command::new(&self.program)
            .arg(command)
            .arg(&self.folder)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .expect("broker.sh runs");
        assert!(output.status.success(), "broker.sh {command} {arguments:?}: {}", output.status);
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.is_own {
            let _stopped = Command::new(&self.program).arg("stop").arg(&self.folder).status();
        }
    }
}

fn variable(name: &str) -> PathBuf {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: {NEEDED}")).into()
}

fn brokers() -> PathBuf {
    variable("METAD2A_TEST_BROKERS")
}

pub(crate) fn shared_url() -> String {
    std::env::var("METAD2A_TEST_AMQP_URL").expect(NEEDED)
}

/// Connects with these options and nothing from the environment.
pub(crate) async fn connect(url: &str, options: RabbitOptions) -> metad2a_queue::Result<RabbitQueue> {
    let access = RabbitAccess::default();
    RabbitQueue::connect(url.parse().expect("an address"), options, &access).await
}

/// All lines that this process has logged.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Recorder;

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        std::io::stderr().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps the log for [`logged`], and shows it when the test fails.
pub(crate) fn record_log() {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(|| Recorder)
        .with_max_level(LevelFilter::INFO)
        .try_init()
        .expect("each test has a process of its own: run it with nextest");
}

pub(crate) fn logged(text: &str) -> bool {
    String::from_utf8_lossy(&LOG.lock().unwrap_or_else(PoisonError::into_inner)).contains(text)
}
