//! Measures `duetime serve` over gRPC: the server and the client of each phase are separate processes.

mod lateness;
mod levels;
mod receive;
mod send;
mod server;
mod start;

use std::path::Path;

use anyhow::Result;
use client::{Config, Message};
use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};

use crate::report::Figure;

/// The consumer group of every phase.
const GROUP: &str = "workers";
/// Bytes of a body.
const BODY_BYTES: usize = 256;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Seconds of each load.
    pub(crate) seconds: u64,
    /// Messages that are received at each level.
    pub(crate) messages: u64,
}

impl Scale {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self {
                seconds: 3,
                messages: 50_000,
            }
        } else {
            Self {
                seconds: 15,
                messages: 250_000,
            }
        }
    }
}

/// The phases, each in a process and a folder of its own.
pub(crate) const PHASES: [&str; 3] = ["grpc-start", "grpc-load", "grpc-lateness"];

/// Runs one phase in this process and returns its results.
pub(crate) async fn run_phase(name: &str, folder: &Path, scale: Scale) -> Result<Vec<Figure>> {
    match name {
        "grpc-start" => start::run(folder).await,
        "grpc-load" => levels::run(folder, scale).await,
        "grpc-lateness" => lateness::run(folder, scale).await,
        other => anyhow::bail!("there is no phase {other:?}"),
    }
}

/// Messages of random bytes, which cannot be compressed.
struct Messages {
    topic: &'static str,
    rng: SmallRng,
}

impl Messages {
    fn new(topic: &'static str, seed: u64) -> Self {
        Self {
            topic,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    fn next(&mut self) -> Message {
        let mut body = vec![0; BODY_BYTES];
        self.rng.fill_bytes(&mut body);
        Message::new(self.topic, body)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }
}

/// A producer's settings for the server at an address.
fn config(address: &str) -> Result<Config> {
    Ok(Config::new(address)?)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of messages and of us fit a double"
)]
fn double(count: u64) -> f64 {
    count as f64
}
