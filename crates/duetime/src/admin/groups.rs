//! Provides `duetime group`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::api::{Access, path};
use super::confirm::{Confirmation, Force, confirm};
use super::format::{
    Align, View, count, count_of, estimate, fields, platform_warning, table, text,
};
use super::session::Session;
use super::time::{Span, parse_instant, parse_span};
use crate::failure::{Failure, usage};

/// Consumer groups
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime group create closer --attempts 3 --backoff 10s,30s,5m\n\
    \x20 duetime group show closer\n\
    \x20 duetime group change closer --attempts 5\n\
    \x20 duetime group reset closer reminders --to 2026-11-24T09:00:00+01:00 --dry-run\n\
    \x20 duetime group clients")]
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
    /// Show a consumer group and its progress on each topic
    Show {
        /// The consumer group
        group: String,
    },
    /// Create a consumer group; one that exists with the same settings is fine
    Create(CreateArguments),
    /// Change settings of a consumer group; its positions are kept
    Change(ChangeArguments),
    /// Delete a consumer group with its positions and retries
    Delete {
        /// The consumer group
        group: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Let a consumer group no longer read a topic; its position and its retries there are dropped
    Unsubscribe {
        /// The consumer group
        group: String,
        /// The topic
        topic: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Set the position of a consumer group on a topic to an instant
    Reset {
        /// The consumer group
        group: String,
        /// The topic
        topic: String,
        /// Messages due from this instant on are delivered again
        #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
        to: jiff::Timestamp,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// List the connected clients
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
    /// Start with messages due from now on, not with the oldest one kept
    #[arg(long)]
    latest: bool,
}

#[derive(Clone, Debug, Args)]
struct ChangeArguments {
    /// The consumer group
    group: String,
    /// Deliver messages of one message group one at a time, in order; needs a group with nothing in flight
    #[arg(long, value_name = "true|false")]
    fifo: Option<bool>,
    /// Deliveries after which a message becomes a dead letter
    #[arg(long, value_name = "NUMBER")]
    attempts: Option<u16>,
    /// Waits before the second delivery, the third and so on: 10s,30s,5m
    #[arg(long, value_name = "DURATION", value_delimiter = ',', value_parser = parse_span)]
    backoff: Vec<Span>,
    #[command(flatten)]
    force: Force,
}

pub(super) async fn run(arguments: GroupArguments) -> Result<(), Failure> {
    let session = Session::open(&arguments.access)?;
    match arguments.command {
        GroupCommand::List { limit } => {
            let list = session.client.list(&path(["v1", "groups"]), limit).await?;
            session.print_list(&list, |view| list_table(&list.items, view))
        }
        GroupCommand::Show { group } => show(&session, &group).await,
        GroupCommand::Create(arguments) => create(&session, &arguments).await,
        GroupCommand::Change(arguments) => change(&session, &arguments).await,
        GroupCommand::Delete {
            group,
            confirmation,
        } => delete(&session, &group, confirmation).await,
        GroupCommand::Unsubscribe {
            group,
            topic,
            confirmation,
        } => unsubscribe(&session, [&group, &topic], confirmation).await,
        GroupCommand::Reset {
            group,
            topic,
            to,
            confirmation,
        } => reset(&session, [&group, &topic], to, confirmation).await,
        GroupCommand::Clients => {
            let target = path(["v1", "connections"]);
            let list = session.client.whole_list(&target).await?;
            session.print_list(&list, |view| clients_table(&list.items, view))
        }
    }
}

fn list_table(groups: &[Value], view: &View) -> String {
    let heads = [
        ("GROUP", Align::Left),
        ("ATTEMPTS", Align::Right),
        ("FIFO", Align::Left),
        ("TOPICS", Align::Left),
        ("LAST SEEN", Align::Left),
    ];
    let row = |group: &Value| {
        [
            text(group.get("name")),
            count(group.get("attempts_max")),
            text(group.get("fifo")),
            text(group.get("topics")),
            view.instant(group.get("last_seen_at")),
        ]
    };
    table(heads, groups.iter().map(row).collect())
}

/// The progress of groups on topics.
pub(super) fn positions(positions: &[Value], view: &View) -> String {
    let heads = [
        ("TOPIC", Align::Left),
        ("GROUP", Align::Left),
        ("READY", Align::Right),
        ("IN FLIGHT", Align::Right),
        ("RETRYING", Align::Right),
        ("DEAD", Align::Right),
        ("DONE TO", Align::Left),
    ];
    let row = |position: &Value| {
        [
            text(position.get("topic")),
            text(position.get("group")),
            estimate(position, "ready"),
            count(position.get("in_flight")),
            count(position.get("retrying")),
            count(position.get("dead_letters")),
            view.instant(position.get("done_to")),
        ]
    };
    table(heads, positions.iter().map(row).collect())
}

fn clients_table(clients: &[Value], view: &View) -> String {
    let heads = [
        ("CLIENT", Align::Left),
        ("FROM", Align::Left),
        ("PROTOCOL", Align::Left),
        ("ROLE", Align::Left),
        ("LIBRARY", Align::Left),
        ("GROUP", Align::Left),
        ("TOPICS", Align::Left),
        ("SINCE", Align::Left),
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
            view.instant(client.get("since")),
        ]
    };
    table(heads, clients.iter().map(row).collect())
}

async fn show(session: &Session, group: &str) -> Result<(), Failure> {
    let found = session.client.get(&path(["v1", "groups", group])).await?;
    let topics = found.get("topics").and_then(Value::as_array);
    let mut on_topics = Vec::new();
    for topic in topics.into_iter().flatten().filter_map(Value::as_str) {
        on_topics.push(
            session
                .client
                .get(&path(["v1", "topics", topic, "groups", group]))
                .await?,
        );
    }
    let mut whole = found.clone();
    if let Some(members) = whole.as_object_mut() {
        members.insert("on_topics".to_owned(), on_topics.clone().into());
    }
    session.print(&whole, |view| {
        let mut shown = fields(&[
            ("group", text(found.get("name"))),
            ("fifo", text(found.get("fifo"))),
            ("attempts", count(found.get("attempts_max"))),
            ("back-off", text(found.get("backoff"))),
            ("began at", text(found.get("start_from"))),
            ("last seen", view.instant(found.get("last_seen_at"))),
        ]);
        if !on_topics.is_empty() {
            shown.push('\n');
            shown.push_str(&positions(&on_topics, view));
        }
        shown
    })
}

async fn create(session: &Session, arguments: &CreateArguments) -> Result<(), Failure> {
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
    let made = session
        .client
        .post(&path(["v1", "groups"]), &body.into())
        .await?;
    session.done(&made, |_| format!("consumer group {group} exists"))
}

async fn change(session: &Session, arguments: &ChangeArguments) -> Result<(), Failure> {
    let group = &arguments.group;
    let mut body = Map::new();
    if let Some(fifo) = arguments.fifo {
        body.insert("fifo".to_owned(), fifo.into());
    }
    if let Some(attempts) = arguments.attempts {
        body.insert("attempts_max".to_owned(), attempts.into());
    }
    if !arguments.backoff.is_empty() {
        let steps: Vec<_> = arguments.backoff.iter().map(|step| step.text()).collect();
        body.insert("backoff".to_owned(), steps.into());
    }
    if body.is_empty() {
        return Err(usage("name a setting: --attempts, --backoff or --fifo"));
    }
    let target = path(["v1", "groups", group]).with("force", arguments.force.parameter());
    let changed = session
        .client
        .call(Method::PATCH, &target, Some(&body.into()))
        .await?;
    session.done(&changed, |_| format!("changed consumer group {group}"))
}

async fn delete(session: &Session, group: &str, confirmation: Confirmation) -> Result<(), Failure> {
    let target = path(["v1", "groups", group]);
    let found = session.client.get(&target).await?;
    let topics = text(found.get("topics"));
    let platform = platform_warning(group);
    let unfinished = match unfinished(session, group, &found).await? {
        0 => String::new(),
        number => format!("; {} not finished", count_of(number, "message")),
    };
    let what = format!(
        "delete consumer group {group} with its positions and retries (topics: {topics}){unfinished}{platform}"
    );
    if !confirm(confirmation, &what)? {
        return Ok(());
    }
    let target = target.with("force", confirmation.force());
    let lost = session.client.call(Method::DELETE, &target, None).await?;
    let value = json!({ "deleted": group, "lost": lost });
    session.done(&value, |_| {
        format!("deleted consumer group {group}{}", lost_note(&lost))
    })
}

/// How many messages a group has not finished, on all its topics.
async fn unfinished(session: &Session, group: &str, found: &Value) -> Result<u64, Failure> {
    let topics = found.get("topics").and_then(Value::as_array);
    let mut number = 0;
    for topic in topics.into_iter().flatten().filter_map(Value::as_str) {
        let target = path(["v1", "topics", topic, "groups", group]);
        let pair = session.client.get(&target).await?;
        let member = |name: &str| pair.get(name).and_then(Value::as_u64).unwrap_or(0);
        // A retry that is with a consumer counts once.
        number += member("ready") + std::cmp::max(member("in_flight"), member("retrying"));
    }
    Ok(number)
}

/// What was lost with a deletion, for the note on it.
fn lost_note(lost: &Value) -> String {
    let member = |name: &str| lost.get(name).and_then(Value::as_u64).unwrap_or(0);
    match member("messages") + member("retrying") {
        0 => String::new(),
        number => format!("; {} not finished", count_of(number, "message")),
    }
}

async fn unsubscribe(
    session: &Session,
    [group, topic]: [&str; 2],
    confirmation: Confirmation,
) -> Result<(), Failure> {
    let target = path(["v1", "topics", topic, "groups", group]);
    let found = session.client.get(&target).await?;
    let what = format!(
        "let consumer group {group} no longer read topic {topic}: {} ready, {} to be delivered again{}",
        estimate(&found, "ready"),
        count(found.get("retrying")),
        platform_warning(group)
    );
    if !confirm(confirmation, &what)? {
        return Ok(());
    }
    let target = target.with("force", confirmation.force());
    let lost = session.client.call(Method::DELETE, &target, None).await?;
    let value = json!({ "unsubscribed": group, "topic": topic, "lost": lost });
    session.done(&value, |_| {
        let note = lost_note(&lost);
        format!("consumer group {group} no longer reads topic {topic}{note}")
    })
}

async fn reset(
    session: &Session,
    [group, topic]: [&str; 2],
    to: jiff::Timestamp,
    confirmation: Confirmation,
) -> Result<(), Failure> {
    let target = path(["v1", "topics", topic, "groups", group, "reset"]);
    let instant = json!(format!("{to:.3}"));
    let when = session.view.instant(Some(&instant));
    let asked = json!({ "to": instant, "dry_run": true });
    let effect = session.client.post(&target, &asked).await?;
    let member = |name: &str| effect.get(name).and_then(Value::as_u64).unwrap_or(0);
    let skipped = match member("skipped") {
        0 => String::new(),
        number => format!(
            "; {} not finished, due before then, skipped",
            count_of(number, "message")
        ),
    };
    let retries = match member("retries_dropped") {
        0 => String::new(),
        number => format!(" ({})", count(Some(&number.into()))),
    };
    let what = format!(
        "move consumer group {group} on topic {topic} to {when}: messages due from then on are delivered again, and its retries there are dropped{retries}{skipped}{}",
        platform_warning(group)
    );
    if !confirm(confirmation, &what)? {
        return Ok(());
    }
    let target = target.with("force", confirmation.force());
    let moved = session
        .client
        .post(&target, &json!({ "to": instant }))
        .await?;
    session.done(&moved, |_| {
        format!("consumer group {group} reads topic {topic} from {when} on")
    })
}
