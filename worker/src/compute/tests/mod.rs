//! The handlers on a memory store, with tiny pictures, networks and models.

mod models;
mod pictures;

use std::collections::BTreeMap;

use metad2a_pipeline::envelope::Envelope;
use metad2a_pipeline::tasks::Task;
use tch::Device;

use super::Engine;
use crate::protocol::{Finished, Job};

/// Engines on stores of one name share the store.
fn engine(store: &str) -> Engine {
    tch::set_num_threads(1);
    Engine::open(&format!("memory:{store}"), Device::Cpu).unwrap()
}

fn envelope(task: Task) -> Envelope {
    Envelope {
        task,
        sources: BTreeMap::new(),
        weights: BTreeMap::new(),
        failures: Vec::new(),
        max_attempts: 1,
        patience_seconds: 60,
    }
}

fn work(engine: &mut Engine, envelope: Envelope) -> anyhow::Result<Finished> {
    let job = Job { id: envelope.task.id(), envelope };
    engine.work(&job, &mut |_, _| {})
}
