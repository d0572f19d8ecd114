//! Relays the outbox: publishes what commits have written there, woken by the commit.
//!
//! A row is published at least once and always under the same message id. Of the events of one subject only one
//! is under way at a time, so they keep their order. A row that the broker refuses for good is parked and delays
//! no other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use tokio::sync::watch;

use crate::error::Result;
use crate::limits::OUTBOX_SHARDS;
use crate::messaging::progress::Pass;
use crate::messaging::{Messaging, MessagingError, Outgoing, topics};
use crate::metrics::count_timers;
use crate::model::outbox::Topic;
use crate::platform::Platform;
use crate::store::outbox::{self, Lease, Next, OutboxWritten, Published, Unsent};

/// First wait after a failure, in ms; it doubles with each further one.
const BACKOFF_MS: u64 = 100;
/// How often the wait doubles, at most: the longest is some 6 s.
const BACKOFF_DOUBLINGS_MAX: u32 = 6;

/// A row on its way to the broker.
struct Row {
    seq: i64,
    subject: String,
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

/// What a topic's relay does after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// There may be more.
    GoOn,
    /// The broker does not take messages at present.
    BackOff,
    /// Nothing waits.
    Wait,
}

/// Publishes until stopped, then until the outbox is empty or the broker is away.
///
/// Each topic has a relay of its own, so that none waits for another.
pub(crate) async fn run(
    platform: Platform,
    messaging: Arc<dyn Messaging>,
    written: Arc<OutboxWritten>,
    stop: watch::Receiver<bool>,
) {
    let relays = Topic::ALL.map(|topic| {
        let relay = Relay {
            platform: &platform,
            messaging: messaging.as_ref(),
            topic,
        };
        relay.run(&written, stop.clone())
    });
    future::join_all(relays).await;
}

/// Publishes one batch of each topic, timers first.
pub(crate) async fn pump(platform: &Platform, messaging: &dyn Messaging) -> Result<Pumped> {
    let mut total = Pumped::default();
    for topic in Topic::ALL {
        let relay = Relay {
            platform,
            messaging,
            topic,
        };
        let (pumped, _) = relay.pump().await?;
        total.rows += pumped.rows;
        total.failed += pumped.failed;
    }
    Ok(total)
}

/// The relay of a topic.
#[derive(Clone, Copy)]
struct Relay<'a> {
    platform: &'a Platform,
    messaging: &'a dyn Messaging,
    topic: Topic,
}

impl Relay<'_> {
    async fn run(self, written: &OutboxWritten, mut stop: watch::Receiver<bool>) {
        let mut failures = 0;
        loop {
            let then = match self.pump().await {
                Ok((_, then)) => then,
                Err(error) => {
                    tracing::warn!(%error, topic = ?self.topic, "relay the outbox");
                    Then::BackOff
                }
            };
            if then == Then::GoOn {
                failures = 0;
                continue;
            }
            if *stop.borrow() {
                return;
            }
            if then == Then::BackOff {
                let doubled_ms = BACKOFF_MS << std::cmp::min(failures, BACKOFF_DOUBLINGS_MAX);
                failures += 1;
                let backoff = Duration::from_millis(doubled_ms);
                tokio::select! {
                    () = self.platform.clock().sleep(backoff) => {}
                    _ = stop.changed() => {}
                }
            } else {
                failures = 0;
                tokio::select! {
                    () = written.written(self.topic) => {}
                    _ = stop.changed() => {}
                }
            }
        }
    }

    /// Publishes one batch.
    async fn pump(&self) -> Result<(Pumped, Then)> {
        let (platform, topic) = (self.platform, self.topic);
        // Asked of the readers, so that an idle relay writes nothing.
        let oldest_ms = outbox::oldest_waiting(platform.readers(), topic).await?;
        platform.publishing().set_waiting_since(topic, oldest_ms);
        if oldest_ms.is_none() {
            platform.progress().set_pass(topic, Pass::default());
            platform.publishing().set_working(topic, platform.now_ms());
            return Ok((Pumped::default(), Then::Wait));
        }
        let shards = leased_shards(platform).await?;
        let mut pass = platform.progress().pass(topic);
        let rows = self.next_rows(&shards, pass.after_seq).await?;
        let Some(last_seq) = rows.last().map(|row| row.seq) else {
            return Ok(self.end_pass(pass));
        };
        let outcome = self.publish(&rows).await;
        let pumped = Pumped {
            rows: rows.len(),
            failed: outcome.failed,
        };
        outcome.count();
        if outcome.missing {
            self.make_again().await;
        }
        if pumped.failed > 0 {
            platform.publishing().set_failing(topic, platform.now_ms());
        }
        pass.failed |= pumped.failed > 0;
        if !pass.failed && pass.after_seq == 0 {
            platform.publishing().set_working(topic, platform.now_ms());
        }
        let then = self.after_batch(pass, &pumped, last_seq);
        platform
            .writer_ahead()
            .run(outcome.published, |tx, published| {
                Box::pin(outbox::record_published(tx, published))
            })
            .await?;
        Ok((pumped, then))
    }

    /// Makes the topic again. What it did not take is published to it next.
    async fn make_again(&self) {
        if let Err(error) = topics::ensure(self.platform, self.messaging, self.topic).await {
            tracing::warn!(%error, topic = ?self.topic, "make a topic again");
        }
    }

    /// What to do after a batch.
    ///
    /// Timers that the broker does not take now are passed by until everything after them has been tried. Events are not:
    /// those of one subject keep their order.
    fn after_batch(&self, pass: Pass, pumped: &Pumped, last_seq: i64) -> Then {
        let full = pumped.rows >= self.platform.config().relay_batch;
        let passes_by = matches!(self.topic, Topic::Timers(_)) && full && pass.failed;
        let next = Pass {
            after_seq: if passes_by { last_seq } else { 0 },
            failed: passes_by,
        };
        self.platform.progress().set_pass(self.topic, next);
        let whole = pumped.failed == pumped.rows;
        if whole || (pass.failed && !passes_by) {
            return Then::BackOff;
        }
        Then::GoOn
    }

    /// Nothing is left of a pass: the next one begins at the oldest row.
    fn end_pass(&self, pass: Pass) -> (Pumped, Then) {
        let (platform, topic) = (self.platform, self.topic);
        platform.progress().set_pass(topic, Pass::default());
        if pass.after_seq > 0 {
            return (Pumped::default(), Then::BackOff);
        }
        // Another process has the shards; if it is gone, its leases run out.
        platform.publishing().set_failing(topic, platform.now_ms());
        let (rows, failed) = (0, 1);
        (Pumped { rows, failed }, Then::BackOff)
    }

    async fn publish(&self, rows: &[Row]) -> Outcome {
        let (publishing, topic) = (self.platform.publishing(), self.topic);
        publishing.set_asking_since(topic, Some(self.platform.now_ms()));
        let batch = rows.iter().map(|row| row.outgoing.clone()).collect();
        let results = self.messaging.publish(batch).await;
        publishing.set_asking_since(topic, None);
        let mut outcome = Outcome::new(topic);
        for (row, result) in rows.iter().zip(results) {
            outcome.add(row, result);
        }
        outcome
    }

    /// The next rows of the shards that this process has leased.
    async fn next_rows(&self, shards: &[i64], after_seq: i64) -> Result<Vec<Row>> {
        let config = self.platform.config();
        let wanted = Next {
            topic: self.topic,
            shards,
            after_seq,
            limit: config.relay_batch,
        };
        let unsent = outbox::next(self.platform.readers(), wanted).await?;
        let longest_ms = self.messaging.longest_delay().as_millis();
        let longest_ms = i64::try_from(longest_ms).unwrap_or(i64::MAX);
        let latest_ms = self.platform.now_ms().saturating_add(longest_ms);
        let name = self.topic.name(&config.prefix);
        let mut batch = Vec::with_capacity(unsent.len());
        let mut subjects = HashSet::new();
        for unsent in unsent {
            if self.topic != Topic::Events || subjects.insert(unsent.subject.clone()) {
                batch.push(row(self.topic, &name, unsent, latest_ms));
            }
        }
        Ok(batch)
    }
}

/// The broker's answers for the rows of a batch.
#[derive(Debug)]
struct Outcome {
    published: Published,
    failed: usize,
    /// Whether the topic does not exist.
    missing: bool,
}

impl Outcome {
    fn new(topic: Topic) -> Self {
        Self {
            published: Published {
                topic,
                timers: Vec::new(),
                events: Vec::new(),
                refused: Vec::new(),
            },
            failed: 0,
            missing: false,
        }
    }

    fn add(&mut self, row: &Row, result: Result<(), MessagingError>) {
        match (result, self.published.topic) {
            (Ok(()), Topic::Events) => self.published.events.push(row.seq),
            (Ok(()), Topic::Timers(_)) => self.published.timers.push(row.seq),
            (Err(MessagingError::Rejected(reason)), _) => {
                tracing::error!(subject = %row.subject, %reason, "park a message that the broker refuses");
                self.published.refused.push((row.seq, reason));
            }
            (Err(error), _) => {
                self.missing |= matches!(error, MessagingError::Missing(_));
                tracing::debug!(subject = %row.subject, %error, "publish a message");
                self.failed += 1;
            }
        }
    }

    fn count(&self) {
        if let Topic::Timers(kind) = self.published.topic {
            count_timers("armed", kind, self.published.timers.len());
        }
        if !self.published.refused.is_empty() {
            metrics::counter!("duetime_outbox_parked_total")
                .increment(u64::try_from(self.published.refused.len()).unwrap_or(u64::MAX));
        }
    }
}

fn row(topic: Topic, name: &str, unsent: Unsent, latest_ms: i64) -> Row {
    let Unsent { seq, subject, .. } = unsent;
    // A delay beyond what the broker keeps is cut: the message comes early and its timer is armed again.
    let deliver_at_ms = unsent
        .deliver_at_ms
        .map(|at_ms| std::cmp::min(at_ms, latest_ms));
    Row {
        seq,
        outgoing: Outgoing {
            topic: name.to_owned(),
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
async fn leased_shards(platform: &Platform) -> Result<Arc<[i64]>> {
    let config = platform.config();
    let half_time_ms = platform.now_ms() + config.relay_lease_ms / 2;
    if let Some(held) = platform.progress().held_shards(half_time_ms)
        && held.len() == usize::from(OUTBOX_SHARDS)
    {
        return Ok(held);
    }
    // Read before the writer does, which sets the lease from its own time on: never later than what is stored.
    let until_ms = platform.now_ms() + config.relay_lease_ms;
    let lease = Lease {
        owner: config.relay_owner.clone(),
        lease_ms: config.relay_lease_ms,
    };
    let leased = platform
        .writer_ahead()
        .run(lease, |tx, lease| Box::pin(outbox::lease_shards(tx, lease)))
        .await?;
    let leased = Arc::from(leased);
    platform
        .progress()
        .set_held_shards(Arc::clone(&leased), until_ms);
    Ok(leased)
}
