//! Files from outside, good and bad, through the public functions. All of them are made here.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

mod evaluations;
mod features;
mod latencies;
mod nats_bench;

use bytes::Bytes;
use chrono::DateTime;
use metad2a_exchange::{NetworkShape, SourceFile, Stamp};

const SHAPE: NetworkShape = NetworkShape { channels: 16, cells_per_stage: 5 };

fn file(name: &str, content: impl Into<Bytes>) -> SourceFile {
    SourceFile { name: name.to_owned(), bytes: content.into() }
}

fn text(name: &str, content: &str) -> SourceFile {
    file(name, content.as_bytes().to_vec())
}

fn stamp() -> Stamp {
    Stamp {
        import: "the-import".to_owned(),
        at: DateTime::from_timestamp_micros(1_760_000_000_000_000).unwrap(),
    }
}
