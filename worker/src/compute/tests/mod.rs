//! The handlers on a memory store, with tiny pictures, networks and models.

mod halving;
mod models;
mod pauses;
mod pictures;
mod teaching;
mod troubles;

use std::collections::BTreeMap;

use metad2a_pipeline::envelope::Envelope;
use metad2a_pipeline::tasks::Task;
use tch::Device;

use super::{Engine, Slice};
use crate::protocol::{Finished, Job, Outcome};

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
        slice: 0,
        failures: Vec::new(),
        max_attempts: 1,
        patience_seconds: 60,
        measure_latency: false,
    }
}

fn job(envelope: Envelope) -> Job {
    Job { id: envelope.task.id(), envelope, slice_seconds: u64::MAX, checkpoints: Vec::new() }
}

/// Works without a pause.
fn work(engine: &mut Engine, envelope: Envelope) -> anyhow::Result<Finished> {
    match engine.work(&job(envelope), &mut Slice::new(&mut |_, _| {}, &mut || false))? {
        Outcome::Finished(finished) => Ok(finished),
        Outcome::Paused(paused) => panic!("nobody asked for a pause: {paused:?}"),
    }
}
