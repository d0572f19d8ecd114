//! Provides `duetime group`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::api::at;
use super::format::{Eye, Lean, count, facts, of_platform, table, text};
use super::time::{Span, parse_instant, parse_span};
use super::{Access, Desk, Sure, confirm};
use crate::Failure;

/// Consumer groups
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime group create closer --attempts 3 --backoff 10s,30s,5m\n\
    \x20 duetime group show closer\n\
    \x20 duetime group reset closer reminders --to 2026-11-24T09:00:00+01:00 --dry-run\n\
    \x20 duetime group clients                     who is connected")]
pub(crate) struct GroupArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum GroupCommand {
    /// List the consumer groups
    List {
        /// Most groups to list
        #[arg(long, default_value_t = 200)]
        limit: usize,
    },
    /// Show a consumer group and how far it has come on each topic
    Show {
        /// The consumer group
        group: String,
    },
    /// Create a consumer group, or confirm that it exists
    Create(CreateArguments),
    /// Delete a consumer group with its positions and retries
    Delete {
        /// The consumer group
        group: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Move a consumer group on a topic to an instant
    Reset {
        /// The consumer group
        group: String,
        /// The topic
        topic: String,
        /// What is due from this instant on is delivered again
        #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
        to: jiff::Timestamp,
        #[command(flatten)]
        sure: Sure,
    },
    /// List who is connected
    Clients,
}

#[derive(Clone, Debug, Args)]
struct CreateArguments {
    /// The consumer group
    group: String,
    /// Deliver messages of one message group one at a time, in order
    #[arg(long)]
    fifo: bool,
    /// Deliveries after which a message becomes a dead letter
    #[arg(long, value_name = "NUMBER")]
    attempts: Option<u16>,
    /// Waits before the second delivery, the third and so on: 10s,30s,5m
    #[arg(long, value_name = "DURATION", value_delimiter = ',', value_parser = parse_span)]
    backoff: Vec<Span>,
    /// Begin with what becomes due from now on, not with the oldest message kept
    #[arg(long)]
    latest: bool,
}

pub(super) async fn run(arguments: GroupArguments) -> Result<(), Failure> {
    let desk = Desk::open(&arguments.access)?;
    match arguments.command {
        GroupCommand::List { limit } => {
            let list = desk.client.list(&at(["v1", "groups"]), limit).await?;
            desk.print_list(&list, |eye| listed(&list.items, eye))
        }
        GroupCommand::Show { group } => show(&desk, &group).await,
        GroupCommand::Create(arguments) => create(&desk, &arguments).await,
        GroupCommand::Delete { group, sure } => delete(&desk, &group, sure).await,
        GroupCommand::Reset {
            group,
            topic,
            to,
            sure,
        } => reset(&desk, [&group, &topic], to, sure).await,
        GroupCommand::Clients => {
            let list = desk
                .client
                .list(&at(["v1", "connections"]), usize::MAX)
                .await?;
            desk.print_list(&list, |eye| clients(&list.items, eye))
        }
    }
}

fn listed(groups: &[Value], eye: &Eye) -> String {
    let heads = [
        ("GROUP", Lean::Left),
        ("ATTEMPTS", Lean::Right),
        ("FIFO", Lean::Left),
        ("TOPICS", Lean::Left),
        ("LAST SEEN", Lean::Left),
    ];
    let row = |group: &Value| {
        [
            text(group.get("name")),
            count(group.get("attempts_max")),
            text(group.get("fifo")),
            text(group.get("topics")),
            eye.instant(group.get("last_seen_at")),
        ]
    };
    table(heads, groups.iter().map(row).collect())
}

/// How far groups have come on topics.
pub(super) fn pairs(pairs: &[Value], eye: &Eye) -> String {
    let heads = [
        ("TOPIC", Lean::Left),
        ("GROUP", Lean::Left),
        ("READY", Lean::Right),
        ("IN FLIGHT", Lean::Right),
        ("RETRYING", Lean::Right),
        ("DEAD", Lean::Right),
        ("DONE TO", Lean::Left),
    ];
    let row = |pair: &Value| {
        [
            text(pair.get("topic")),
            text(pair.get("group")),
            count(pair.get("ready")),
            count(pair.get("in_flight")),
            count(pair.get("retrying")),
            count(pair.get("dead_letters")),
            eye.instant(pair.get("done_to")),
        ]
    };
    table(heads, pairs.iter().map(row).collect())
}

fn clients(clients: &[Value], eye: &Eye) -> String {
    let heads = [
        ("CLIENT", Lean::Left),
        ("FROM", Lean::Left),
        ("PROTOCOL", Lean::Left),
        ("ROLE", Lean::Left),
        ("LIBRARY", Lean::Left),
        ("GROUP", Lean::Left),
        ("TOPICS", Lean::Left),
        ("SINCE", Lean::Left),
    ];
    let row = |client: &Value| {
        [
            text(client.get("client_id")),
            text(client.get("remote")),
            text(client.get("protocol")),
            text(client.get("role")),
            text(client.get("library")),
            text(client.get("group")),
            text(client.get("topics")),
            eye.instant(client.get("since")),
        ]
    };
    table(heads, clients.iter().map(row).collect())
}

async fn show(desk: &Desk, group: &str) -> Result<(), Failure> {
    let found = desk.client.get(&at(["v1", "groups", group])).await?;
    let topics = found.get("topics").and_then(Value::as_array);
    let mut on_topics = Vec::new();
    for topic in topics.into_iter().flatten().filter_map(Value::as_str) {
        on_topics.push(
            desk.client
                .get(&at(["v1", "topics", topic, "groups", group]))
                .await?,
        );
    }
    let mut whole = found.clone();
    if let Some(members) = whole.as_object_mut() {
        members.insert("on_topics".to_owned(), on_topics.clone().into());
    }
    desk.print(&whole, |eye| {
        let mut shown = facts(&[
            ("group", text(found.get("name"))),
            ("fifo", text(found.get("fifo"))),
            ("attempts", count(found.get("attempts_max"))),
            ("back-off", text(found.get("backoff"))),
            ("began at", text(found.get("start_from"))),
            ("last seen", eye.instant(found.get("last_seen_at"))),
        ]);
        if !on_topics.is_empty() {
            shown.push('\n');
            shown.push_str(&pairs(&on_topics, eye));
        }
        shown
    })
}

async fn create(desk: &Desk, arguments: &CreateArguments) -> Result<(), Failure> {
    let group = &arguments.group;
    let mut body = Map::new();
    body.insert("name".to_owned(), group.as_str().into());
    body.insert("fifo".to_owned(), arguments.fifo.into());
    if let Some(attempts) = arguments.attempts {
        body.insert("attempts_max".to_owned(), attempts.into());
    }
    if !arguments.backoff.is_empty() {
        let steps: Vec<_> = arguments.backoff.iter().map(|step| step.text()).collect();
        body.insert("backoff".to_owned(), steps.into());
    }
    if arguments.latest {
        body.insert("start_from".to_owned(), "latest".into());
    }
    let made = desk
        .client
        .post(&at(["v1", "groups"]), &body.into())
        .await?;
    desk.done(&made, |_| format!("consumer group {group} is there"))
}

async fn delete(desk: &Desk, group: &str, sure: Sure) -> Result<(), Failure> {
    let place = at(["v1", "groups", group]);
    let found = desk.client.get(&place).await?;
    let topics = text(found.get("topics"));
    let platform = of_platform(group);
    let what = format!(
        "delete consumer group {group} with its positions and retries (topics: {topics}){platform}"
    );
    if !confirm(sure, &what)? {
        return Ok(());
    }
    desk.client.call(Method::DELETE, &place, None).await?;
    desk.done(&json!({ "deleted": group }), |_| {
        format!("deleted consumer group {group}")
    })
}

async fn reset(
    desk: &Desk,
    [group, topic]: [&str; 2],
    to: jiff::Timestamp,
    sure: Sure,
) -> Result<(), Failure> {
    // Both must be there, whatever is said about being sure.
    desk.client
        .get(&at(["v1", "topics", topic, "groups", group]))
        .await?;
    let instant = json!(format!("{to:.3}"));
    let when = desk.eye.instant(Some(&instant));
    let what = format!(
        "move consumer group {group} on topic {topic} to {when}: what is due from then on is delivered again, and its retries there are forgotten{}",
        of_platform(group)
    );
    if !confirm(sure, &what)? {
        return Ok(());
    }
    let place = at(["v1", "topics", topic, "groups", group, "reset"]);
    let moved = desk.client.post(&place, &json!({ "to": instant })).await?;
    desk.done(&moved, |_| {
        format!("consumer group {group} reads topic {topic} from {when} on")
    })
}
