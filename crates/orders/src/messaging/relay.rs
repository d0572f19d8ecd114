//! Relays the outbox: publishes what commits have written there, woken by the commit.
//!
//! A row is published at least once and always under the same message id. Of the events of one subject only one
//! is under way at a time, so they keep their order. A row that the broker refuses for good is parked and delays
//! no other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::error::Result;
use crate::limits::OUTBOX_SHARDS;
use crate::messaging::{Messaging, MessagingError, Outgoing};
use crate::metrics::{count_timers, seconds};
use crate::model::outbox::Topic;
use crate::platform::Platform;
use crate::store::outbox::{self, Lease, Published, Unsent};

/// First wait after a failure, in ms; it doubles with each further one.
const BACKOFF_MS: u64 = 100;
/// How often the wait doubles, at most: the longest is some 6 s.
const BACKOFF_DOUBLINGS_MAX: u32 = 6;

/// A row on its way to the broker.
struct Row {
    seq: i64,
    topic: Topic,
    subject: String,
    created_ms: i64,
    outgoing: Outgoing,
}

/// The result of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pumped {
    /// Rows read.
    pub(crate) rows: usize,
    /// Rows that could not be published now.
    pub(crate) failed: usize,
}

/// Publishes until stopped, then until the outbox is empty or the broker is away.
pub(crate) async fn run(
    platform: Platform,
    messaging: Arc<dyn Messaging>,
    written: Arc<Notify>,
    mut stop: watch::Receiver<bool>,
) {
    let mut failures = 0;
    loop {
        let pumped = pump(&platform, messaging.as_ref()).await;
        let failed = match &pumped {
            Ok(pumped) if pumped.failed == 0 && pumped.rows > 0 => {
                failures = 0;
                continue;
            }
            Ok(pumped) => pumped.failed > 0,
            Err(error) => {
                tracing::warn!(%error, "relay the outbox");
                true
            }
        };
        if *stop.borrow() {
            return;
        }
        if failed {
            let doubled_ms = BACKOFF_MS << std::cmp::min(failures, BACKOFF_DOUBLINGS_MAX);
            failures += 1;
            let backoff = Duration::from_millis(doubled_ms);
            tokio::select! {
                () = platform.clock().sleep(backoff) => {}
                _ = stop.changed() => {}
            }
        } else {
            failures = 0;
            tokio::select! {
                () = written.notified() => {}
                _ = stop.changed() => {}
            }
        }
    }
}

/// Publishes one batch.
pub(crate) async fn pump(platform: &Platform, messaging: &dyn Messaging) -> Result<Pumped> {
    // Asked of the readers, so that an idle relay writes nothing.
    if !outbox::is_waiting(platform.readers()).await? {
        metrics::gauge!("duetime_outbox_age_seconds").set(0.0);
        platform.publishing().set_waiting_since(None);
        return Ok(Pumped::default());
    }
    let waiting_ms = outbox::waiting_since(platform.readers()).await?;
    let oldest_ms = waiting_ms.into_iter().flatten().min();
    platform.publishing().set_waiting_since(oldest_ms);
    let rows = next_rows(platform, messaging).await?;
    if rows.is_empty() {
        // Another process has the shards; if it is gone, its leases run out.
        let (rows, failed) = (0, 1);
        platform.publishing().end_round(true, platform.now_ms());
        return Ok(Pumped { rows, failed });
    }
    let oldest_ms = rows.first().map_or(0, |row| row.created_ms);
    metrics::gauge!("duetime_outbox_age_seconds").set(seconds(platform.now_ms() - oldest_ms));
    let batch = rows.iter().map(|row| row.outgoing.clone()).collect();
    let results = messaging.publish(batch).await;
    let mut outcome = Outcome::default();
    for (row, result) in rows.iter().zip(results) {
        outcome.add(row, result);
    }
    let pumped = Pumped {
        rows: rows.len(),
        failed: outcome.failed,
    };
    outcome.count();
    let failed = pumped.failed > 0;
    platform.publishing().end_round(failed, platform.now_ms());
    if !failed {
        platform.publishing().set_waiting_since(None);
    }
    platform
        .writer_ahead()
        .run(outcome.published, |tx, published| {
            Box::pin(outbox::record_published(tx, published))
        })
        .await?;
    Ok(pumped)
}

/// The broker's answers for the rows of a batch.
#[derive(Debug, Default)]
struct Outcome {
    published: Published,
    failed: usize,
    armed: Vec<Topic>,
}

impl Outcome {
    fn add(&mut self, row: &Row, result: Result<(), MessagingError>) {
        match (result, row.topic) {
            (Ok(()), Topic::Events) => self.published.events.push(row.seq),
            (Ok(()), topic @ Topic::Timers(_)) => {
                self.published.timers.push(row.seq);
                self.armed.push(topic);
            }
            (Err(MessagingError::Rejected(reason)), _) => {
                tracing::error!(subject = %row.subject, %reason, "park a message that the broker refuses");
                self.published.refused.push(row.seq);
            }
            (Err(error), _) => {
                tracing::debug!(subject = %row.subject, %error, "publish a message");
                self.failed += 1;
            }
        }
    }

    fn count(&self) {
        for topic in Topic::ALL {
            if let Topic::Timers(kind) = topic {
                let armed = self.armed.iter().filter(|armed| **armed == topic).count();
                count_timers("armed", kind, armed);
            }
        }
        if !self.published.refused.is_empty() {
            metrics::counter!("duetime_outbox_parked_total")
                .increment(u64::try_from(self.published.refused.len()).unwrap_or(u64::MAX));
        }
    }
}

/// The next rows of the shards that this process has leased.
async fn next_rows(platform: &Platform, messaging: &dyn Messaging) -> Result<Vec<Row>> {
    let config = platform.config();
    let shards = leased_shards(platform).await?;
    let unsent = outbox::next(platform.readers(), &shards, config.relay_batch).await?;
    let longest_ms = i64::try_from(messaging.longest_delay().as_millis()).unwrap_or(i64::MAX);
    let latest_ms = platform.now_ms().saturating_add(longest_ms);
    let mut batch = Vec::with_capacity(unsent.len());
    let mut subjects = HashSet::new();
    for unsent in unsent {
        let row = row(unsent, &config.prefix, latest_ms);
        if row.topic != Topic::Events || subjects.insert(row.subject.clone()) {
            batch.push(row);
        }
    }
    Ok(batch)
}

fn row(unsent: Unsent, prefix: &str, latest_ms: i64) -> Row {
    let Unsent { topic, subject, .. } = unsent;
    // A delay beyond what the broker keeps is cut: the message comes early and its timer is armed again.
    let deliver_at_ms = unsent
        .deliver_at_ms
        .map(|at_ms| std::cmp::min(at_ms, latest_ms));
    Row {
        seq: unsent.seq,
        topic,
        created_ms: unsent.created_ms,
        outgoing: Outgoing {
            topic: topic.name(prefix),
            message_id: unsent.message_id,
            key: Some(subject.clone()),
            tag: Some(unsent.tag),
            message_group: (topic == Topic::Events).then(|| subject.clone()),
            deliver_at_ms: deliver_at_ms.and_then(|at_ms| u64::try_from(at_ms).ok()),
            body: unsent.body.into_bytes(),
        },
        subject,
    }
}

/// The shards that this process has leased. Renewed at half time, so that most batches do not pass the writer here.
async fn leased_shards(platform: &Platform) -> Result<Vec<i64>> {
    let config = platform.config();
    let half_time_ms = platform.now_ms() + config.relay_lease_ms / 2;
    let held = outbox::held_shards(platform.readers(), &config.relay_owner, half_time_ms).await?;
    if held.len() == usize::from(OUTBOX_SHARDS) {
        return Ok(held);
    }
    let lease = Lease {
        owner: config.relay_owner.clone(),
        lease_ms: config.relay_lease_ms,
    };
    platform
        .writer_ahead()
        .run(lease, |tx, lease| Box::pin(outbox::lease_shards(tx, lease)))
        .await
}
