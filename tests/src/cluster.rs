//! A cluster on one machine: the programs over a broker and an S3 server.

use std::process::Command;

use metad2a_pipeline::envelope::dialect;
use metad2a_queue::{Class, Lane, Urgency};

use crate::{Process, Project, program};

/// Addresses that coordinator and workers are given.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Of the broker, with user and password.
    pub queue: String,
    pub store: String,
    /// Where the programs find the S3 server; `None`: where this process finds it.
    pub endpoint: Option<String>,
}

impl Cluster {
    /// The coordinator without workers of its own.
    pub fn coordinator(&self, project: &Project) -> Process {
        let command = self.command(project, &["run", "--workers", "0", "--format", "json"]);
        Self::process(project, "coordinator", command)
    }

    /// Over the broker that tests share, with a store in the project's folder. Give the project a name of its own.
    pub fn shared(project: &Project) -> Self {
        Self { queue: service("METAD2A_TEST_AMQP_URL"), store: project.store(), endpoint: None }
    }

    /// Over the broker and the S3 server that tests share. Give the project a name of its own.
    pub fn services(project: &Project) -> Self {
        let store = format!("{}/{}", service("METAD2A_TEST_S3_URL"), project.pipeline());
        Self { store, ..Self::shared(project) }
    }

    /// `metad2a` in the project's folder.
    pub fn command(&self, project: &Project, arguments: &[&str]) -> Command {
        let mut command = project.command(arguments);
        self.address(&mut command);
        command
    }

    /// A worker whose slots work side by side.
    pub fn worker(&self, project: &Project, name: &str, slots: usize) -> Process {
        let mut command = Command::new(program("metad2a-worker"));
        command.current_dir(project.path()).args([
            "--pipeline",
            project.pipeline(),
            "--device",
            "cpu",
            "--slots",
            &slots.to_string(),
            "--name",
            name,
        ]);
        self.address(&mut command);
        Self::process(project, name, command)
    }

    fn address(&self, command: &mut Command) {
        command.env("METAD2A_QUEUE", &self.queue).env("METAD2A_STORE", &self.store).env_remove("RUST_LOG");
        if let Some(endpoint) = &self.endpoint {
            command.env("AWS_ENDPOINT_URL", endpoint);
        }
    }

    fn process(project: &Project, name: &str, command: Command) -> Process {
        Process::new(name, command, project.path().join(format!("{name}.log")))
    }
}

/// The lanes that the coordinator of a project publishes to.
pub fn lanes(project: &Project) -> Vec<Lane> {
    [Urgency::High, Urgency::Normal]
        .map(|urgency| Lane::new(project.pipeline(), dialect(), Class::Gpu, urgency))
        .to_vec()
}

/// What `scripts/services/with-broker.sh` and `with-s3.sh` tell.
///
/// # Panics
/// If the variable is not set.
pub fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("set {variable}, or run under scripts/services/with-broker.sh scripts/services/with-s3.sh")
    })
}
