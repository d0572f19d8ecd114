//! Measures sends, receives and acknowledgements with few and with many calls in flight.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use client::Producer;

use super::server::Server;
use super::{Scale, config, double, receive, send};
use crate::process::Usage;
use crate::report::Figure;

/// Calls in flight, the topic that is sent to, and the topic that is filled first and then received.
const LEVELS: [(u64, &str, &str); 4] = [
    (1, "sent-1", "due-1"),
    (16, "sent-16", "due-16"),
    (64, "sent-64", "due-64"),
    (256, "sent-256", "due-256"),
];

/// The results of one level.
struct Level {
    in_flight: u64,
    send_per_s: f64,
    send_p50_ms: f64,
    send_p99_ms: f64,
    receive_ack_per_s: f64,
    /// CPU time of the server, of one message sent, and of one received and acknowledged.
    send_cpu_us: f64,
    receive_ack_cpu_us: f64,
    /// CPU time of this process, of one message sent.
    client_send_cpu_us: f64,
    /// How often threads of the server waited, for one message sent and for one received and acknowledged.
    send_switches: f64,
    receive_ack_switches: f64,
}

pub(super) async fn run(folder: &Path, scale: Scale) -> Result<Vec<Figure>> {
    let server = Server::start(folder).await?;
    let producer = Producer::builder(config(&server.address)?)
        .start()
        .await
        .context("start the producer")?;
    let mut figures = Vec::new();
    let mut last = None;
    let mut resident_mib = 0.0_f64;
    for (in_flight, sent, due) in LEVELS {
        server.create_topic(sent).await?;
        server.create_topic(due).await?;
        let level = run_level(&server, &producer, scale, (in_flight, sent, due)).await?;
        resident_mib = resident_mib.max(server.usage()?.resident_mib);
        figures.extend(level.figures(&format!("_at_{in_flight}"), scale));
        last = Some(level);
    }
    let highest = last.context("there is a level")?;
    figures.extend(highest.figures("", scale));
    figures.push(Figure::new(
        "server_rss_mb",
        resident_mib,
        "MiB",
        "the most after any of the loads",
    ));
    Ok(figures)
}

async fn run_level(
    server: &Server,
    producer: &Producer,
    scale: Scale,
    (in_flight, sent, due): (u64, &'static str, &'static str),
) -> Result<Level> {
    let (before, own_before) = (server.usage()?, Usage::now()?);
    let time = Duration::from_secs(scale.seconds);
    let load = send::steadily(producer, sent, in_flight, time).await?;
    let (after, own_after) = (server.usage()?, Usage::now()?);
    let messages = double(load.messages);
    let ms = |quantile: f64| double(load.latency.value_at_quantile(quantile)) / 1_000.0;
    send::fill(producer, due, scale.messages, |message, _| {
        message.deliver_after(Duration::ZERO)
    })
    .await?;
    let consumer = receive::consumer(&server.address, due).await?;
    let filled = server.usage()?;
    let seconds = receive::drain(&consumer, scale.messages, in_flight).await?;
    let drained = server.usage()?;
    consumer.shutdown().await;
    let received = double(scale.messages);
    Ok(Level {
        in_flight,
        send_per_s: messages / load.seconds,
        send_p50_ms: ms(0.5),
        send_p99_ms: ms(0.99),
        receive_ack_per_s: received / seconds,
        send_cpu_us: (after.cpu_us - before.cpu_us) / messages,
        client_send_cpu_us: (own_after.cpu_us - own_before.cpu_us) / messages,
        receive_ack_cpu_us: (drained.cpu_us - filled.cpu_us) / received,
        send_switches: (after.switches - before.switches) / messages,
        receive_ack_switches: (drained.switches - filled.switches) / received,
    })
}

impl Level {
    fn figures(&self, suffix: &str, scale: Scale) -> Vec<Figure> {
        let sending = format!(
            "{} in flight, one message a call, 256 B random, due over 2 days, fsync, {} s",
            self.in_flight, scale.seconds
        );
        let receiving = format!(
            "{} in flight, {} messages, up to 32 a call, acks durable",
            self.in_flight, scale.messages
        );
        let figure = |name: &str, value: f64, unit: &str, note: &str| {
            Figure::new(&format!("{name}{suffix}"), value, unit, note)
        };
        vec![
            figure("send_per_s", self.send_per_s, "/s", &sending),
            figure("send_p50_ms", self.send_p50_ms, "ms", "from call to answer"),
            figure("send_p99_ms", self.send_p99_ms, "ms", "from call to answer"),
            figure(
                "receive_ack_per_s",
                self.receive_ack_per_s,
                "/s",
                &receiving,
            ),
            figure(
                "server_cpu_us_per_message",
                self.send_cpu_us + self.receive_ack_cpu_us,
                "us",
                &format!(
                    "of the server alone: send {:.1}, receive and ack {:.1}",
                    self.send_cpu_us, self.receive_ack_cpu_us
                ),
            ),
            figure(
                "client_cpu_us_per_send",
                self.client_send_cpu_us,
                "us",
                "of the client's process, load generator included",
            ),
            figure(
                "switches_per_send",
                self.send_switches,
                "",
                "times a thread of the server waited",
            ),
            figure(
                "switches_per_delivery",
                self.receive_ack_switches,
                "",
                "the same, of a message received and acknowledged",
            ),
        ]
    }
}
