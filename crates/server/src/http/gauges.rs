//! Renders the metrics of the broker when the page is read, so that it has no lines of deleted topics.

use std::fmt::Write as _;

use broker::{
    DEAD_LETTER_PREFIX, GroupStats, Health, Space, Tallies, TopicStats, Traffic, Warnings,
};

use super::ApiState;
use super::limits::{METRIC_PAIRS_MAX, METRIC_TOPICS_MAX};
use super::problem::Problem;
use super::refusal::of_broker;

/// The metrics of the whole broker.
struct Whole {
    traffic: Traffic,
    tallies: Tallies,
    space: Space,
    connections: usize,
    topics: usize,
    groups: usize,
    warnings: Warnings,
}

/// A metric: its name, its help text, and its value in a `T`.
type Figure<T> = (&'static str, &'static str, fn(&T) -> u64);

/// The counters since the start.
const COUNTERS: &[Figure<Whole>] = &[
    (
        "duetime_broker_sent_messages_total",
        "Messages stored",
        |whole| whole.traffic.sent,
    ),
    (
        "duetime_broker_deliveries_total",
        "Deliveries, including repeated ones",
        |whole| whole.traffic.delivered,
    ),
    (
        "duetime_broker_acknowledgements_total",
        "Deliveries acknowledged",
        |whole| whole.traffic.acked,
    ),
    (
        "duetime_broker_handed_back_total",
        "Deliveries handed back by consumers",
        |whole| whole.traffic.handed_back,
    ),
    (
        "duetime_broker_recalled_messages_total",
        "Messages cancelled before they were due",
        |whole| whole.traffic.recalled,
    ),
    (
        "duetime_broker_rescheduled_messages_total",
        "Messages moved to another due time",
        |whole| whole.traffic.rescheduled,
    ),
    (
        "duetime_broker_buried_messages_total",
        "Messages that became dead letters",
        |whole| whole.tallies.dead_letters,
    ),
    (
        "duetime_broker_replayed_dead_letters_total",
        "Dead letters replayed to their group",
        |whole| whole.traffic.replayed,
    ),
    (
        "duetime_broker_purged_dead_letters_total",
        "Dead letters purged",
        |whole| whole.traffic.purged,
    ),
    (
        "duetime_broker_repeated_sends_total",
        "Sends recognised as repetitions",
        |whole| whole.tallies.repeats,
    ),
    (
        "duetime_broker_missing_bodies_total",
        "Retries whose message was not found: always a defect",
        |whole| whole.tallies.missing_bodies,
    ),
    (
        "duetime_broker_damaged_messages_total",
        "Messages that are damaged on the disk and not delivered",
        |whole| whole.tallies.damaged_messages,
    ),
    (
        "duetime_broker_groups_given_up_total",
        "Idle groups whose messages were released",
        |whole| whole.tallies.groups_given_up,
    ),
    (
        "duetime_broker_partitions_dropped_total",
        "Partitions dropped after retention",
        |whole| whole.tallies.partitions_dropped,
    ),
    (
        "duetime_broker_transactions_given_up_total",
        "Transactions given up because no producer has ended them; their half messages are kept",
        |whole| whole.tallies.transactions_given_up,
    ),
    (
        "duetime_broker_never_read_messages_total",
        "Messages dropped after their retention that no consumer group was there to read",
        |whole| whole.warnings.losses.never_read,
    ),
    (
        "duetime_broker_dropped_dead_letters_total",
        "Dead letters dropped after their retention",
        |whole| whole.warnings.losses.dead_letters_dropped,
    ),
];

/// The gauges.
const GAUGES: &[Figure<Whole>] = &[
    (
        "duetime_broker_free_bytes",
        "Bytes free on the broker's disk",
        |whole| whole.space.free_bytes,
    ),
    (
        "duetime_broker_reserve_bytes",
        "Bytes free below which new messages are refused",
        |whole| whole.space.reserve_bytes,
    ),
    (
        "duetime_broker_store_bytes",
        "Size of the broker's store in bytes",
        |whole| whole.space.store_bytes,
    ),
    (
        "duetime_broker_held_bytes",
        "Bytes of messages held in memory for readers, bounded by limits.queue_heads",
        |whole| whole.space.held_bytes,
    ),
    (
        "duetime_broker_connections",
        "Clients connected to front ends that keep connections",
        |whole| whole.connections as u64,
    ),
    (
        "duetime_broker_topics",
        "Topics, including dead-letter topics",
        |whole| whole.topics as u64,
    ),
    ("duetime_broker_groups", "Consumer groups", |whole| {
        whole.groups as u64
    }),
    (
        "duetime_broker_given_up_transactions",
        "Transactions that were given up and wait for an operator",
        |whole| whole.warnings.given_up_transactions,
    ),
    (
        "duetime_broker_differing_filters",
        "Groups whose consumers ask for a topic with different filters: what one leaves out is skipped for all",
        |whole| whole.warnings.differing_filters as u64,
    ),
    (
        "duetime_broker_unordered_subscriptions",
        "Groups that are not FIFO and read a FIFO topic",
        |whole| whole.warnings.unordered_subscriptions as u64,
    ),
];

/// The metrics of each topic.
const OF_TOPICS: [Figure<TopicStats>; 3] = [
    (
        "duetime_broker_waiting_messages",
        "Messages that are not due yet; estimated within the present minute if it has many",
        |topic| topic.waiting,
    ),
    (
        "duetime_broker_stored_messages",
        "Messages on disk, waiting and retained",
        |topic| topic.messages,
    ),
    (
        "duetime_broker_stored_bytes",
        "Bytes of the messages on disk",
        |topic| topic.bytes,
    ),
];

/// The metrics of each pair of topic and group.
const OF_PAIRS: [Figure<GroupStats>; 3] = [
    (
        "duetime_broker_ready_messages",
        "Messages due and not yet delivered to the group; many are estimated",
        |pair| pair.ready,
    ),
    (
        "duetime_broker_in_flight_messages",
        "Messages with a consumer of the group",
        |pair| pair.in_flight,
    ),
    (
        "duetime_broker_retrying_messages",
        "Messages of the group that failed and are delivered again",
        |pair| pair.retrying,
    ),
];

/// The text of the page.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// Writes the head of a metric; its values follow.
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Writes a value; `labels` includes the braces, if there are labels.
    fn value(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }
}

/// Returns the metrics of the broker, in Prometheus' text format.
pub(super) async fn render(state: &ApiState) -> Result<String, Problem> {
    let mut page = Page::default();
    let running = state.broker().health() == Health::Running;
    let up = "duetime_broker_up";
    page.begin(up, "gauge", "Whether the broker is ready");
    page.value(up, "", u64::from(running));
    if !running {
        return Ok(page.text);
    }
    let topics = state.broker().topics().await.map_err(of_broker)?;
    let whole = Whole {
        traffic: state.broker().traffic().await.map_err(of_broker)?,
        tallies: state.broker().tallies().await.map_err(of_broker)?,
        space: state.broker().space().await.map_err(of_broker)?,
        connections: state.settings().connections.connections().len(),
        topics: topics.len(),
        groups: state.broker().groups().await.map_err(of_broker)?.len(),
        warnings: state.broker().warnings().await.map_err(of_broker)?,
    };
    for (kind, singles) in [("counter", COUNTERS), ("gauge", GAUGES)] {
        for (name, help, read) in singles {
            page.begin(name, kind, help);
            page.value(name, "", read(&whole));
        }
    }
    write_topics(state, &topics, &mut page).await;
    write_pairs(state, &topics, &mut page).await;
    Ok(page.text)
}

async fn write_topics(state: &ApiState, topics: &[String], page: &mut Page) {
    let (letters, plain): (Vec<_>, Vec<_>) = topics
        .iter()
        .partition(|name| name.starts_with(DEAD_LETTER_PREFIX));
    let mut rows = Vec::new();
    for name in plain.into_iter().take(METRIC_TOPICS_MAX) {
        // A topic may have been deleted since the names were read.
        rows.extend(state.broker().topic_stats(name).await.ok());
    }
    for (name, help, read) in OF_TOPICS {
        page.begin(name, "gauge", help);
        for topic in &rows {
            let labels = format!("{{topic=\"{}\"}}", topic.spec.name);
            page.value(name, &labels, read(topic));
        }
    }
    let name = "duetime_broker_dead_letters";
    page.begin(name, "gauge", "Dead letters of the group");
    for topic in letters.into_iter().take(METRIC_TOPICS_MAX) {
        if let Ok(found) = state.broker().topic_stats(topic).await {
            let group = topic.trim_start_matches(DEAD_LETTER_PREFIX);
            page.value(name, &format!("{{group=\"{group}\"}}"), found.messages);
        }
    }
}

async fn write_pairs(state: &ApiState, topics: &[String], page: &mut Page) {
    let mut rows = Vec::new();
    for topic in topics {
        let groups = state.broker().groups_of(topic).await.unwrap_or_default();
        for group in groups {
            if rows.len() < METRIC_PAIRS_MAX
                && let Ok(found) = state.broker().group_stats(topic, &group).await
                && let Ok(skipped) = state.broker().skipped_by_filter(topic, &group).await
            {
                let labels = format!("{{topic=\"{topic}\",group=\"{group}\"}}");
                rows.push((labels, found, skipped));
            }
        }
        if rows.len() >= METRIC_PAIRS_MAX {
            break;
        }
    }
    for (name, help, read) in OF_PAIRS {
        page.begin(name, "gauge", help);
        for (labels, pair, _) in &rows {
            page.value(name, labels, read(pair));
        }
    }
    let name = "duetime_broker_skipped_messages_total";
    let help = "Messages that a filter of the group has left out";
    page.begin(name, "counter", help);
    for (labels, _, skipped) in &rows {
        page.value(name, labels, *skipped);
    }
}
