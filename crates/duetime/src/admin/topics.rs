//! Provides `duetime topic`.

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::api::{Access, path};
use super::confirm::{Confirmation, Force, confirm};
use super::format::{
    Align, View, count, count_of, estimate, fields, platform_warning, size, table, text,
};
use super::groups::positions;
use super::session::Session;
use super::time::{Span, parse_span};
use crate::config::parse_size_bytes;
use crate::failure::{Failure, usage};

/// Topics
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime topic create reminders --kind mixed --quota 4GiB\n\
    \x20 duetime topic show reminders              with the progress of each group\n\
    \x20 duetime topic change reminders --quota 8GiB\n\
    \x20 duetime topic future reminders --step 10m --steps 12\n\
    \x20 duetime topic list --json | jq .name")]
pub(crate) struct TopicArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TopicCommand {
    /// List the topics
    List {
        /// Most topics to list
        #[arg(long, default_value_t = 200)]
        limit: usize,
    },
    /// Show a topic and the progress of each group on it
    Show {
        /// The topic
        topic: String,
    },
    /// Create a topic; one that exists with the same settings is fine
    Create(CreateArguments),
    /// Change settings of a topic; its messages stay
    Change(ChangeArguments),
    /// Delete a topic with its messages
    Delete {
        /// The topic
        topic: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Show how many messages are due when
    Future {
        /// The topic
        topic: String,
        /// Length of a span
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_span)]
        step: Span,
        /// Number of spans; the last one holds the rest
        #[arg(long, default_value_t = 24)]
        steps: usize,
    },
}

#[derive(Clone, Debug, Args)]
struct CreateArguments {
    /// The topic
    topic: String,
    /// What it holds
    #[arg(long, value_enum, default_value_t = Kind::Delay)]
    kind: Kind,
    /// Number of message queues
    #[arg(long, default_value_t = 1)]
    queues: u16,
    /// Do not index messages by key, which saves a small row for each
    #[arg(long)]
    no_index: bool,
    /// Bytes it may hold, retained messages included: 512MiB, 4GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_quota)]
    quota: Option<u64>,
}

#[derive(Clone, Debug, Args)]
struct ChangeArguments {
    /// The topic
    topic: String,
    /// Number of message queues; it can only grow
    #[arg(long)]
    queues: Option<u16>,
    /// Whether messages sent from now on are indexed by key
    #[arg(long, value_name = "true|false")]
    index: Option<bool>,
    /// Bytes it may hold, retained messages included: 512MiB, 4GiB, or none
    #[arg(long, value_name = "SIZE", value_parser = parse_new_quota)]
    quota: Option<NewQuota>,
    #[command(flatten)]
    force: Force,
}

/// A quota to set; `None` for no limit.
#[derive(Clone, Copy, Debug)]
struct NewQuota(Option<u64>);

fn parse_new_quota(text: &str) -> Result<NewQuota, String> {
    if text == "none" {
        return Ok(NewQuota(None));
    }
    parse_quota(text).map(|bytes| NewQuota(Some(bytes)))
}

fn parse_quota(text: &str) -> Result<u64, String> {
    parse_size_bytes(text).ok_or_else(|| "write a size as 512MiB or 4GiB".to_owned())
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Normal,
    Fifo,
    Delay,
    Transaction,
    Mixed,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Fifo => "fifo",
            Self::Delay => "delay",
            Self::Transaction => "transaction",
            Self::Mixed => "mixed",
        }
    }
}

pub(super) async fn run(arguments: TopicArguments) -> Result<(), Failure> {
    let session = Session::open(&arguments.access)?;
    match arguments.command {
        TopicCommand::List { limit } => {
            let list = session.client.list(&path(["v1", "topics"]), limit).await?;
            session.print_list(&list, |_| list_table(&list.items))
        }
        TopicCommand::Show { topic } => show(&session, &topic).await,
        TopicCommand::Create(arguments) => create(&session, &arguments).await,
        TopicCommand::Change(arguments) => change(&session, &arguments).await,
        TopicCommand::Delete {
            topic,
            confirmation,
        } => delete(&session, &topic, confirmation).await,
        TopicCommand::Future { topic, step, steps } => {
            let target = path(["v1", "topics", &topic, "histogram"])
                .with("step", Some(&step.text()))
                .with("steps", Some(&steps.to_string()));
            let histogram = session.client.get(&target).await?;
            session.print(&histogram, |view| histogram_bars(&histogram, view))
        }
    }
}

fn list_table(topics: &[Value]) -> String {
    let heads = [
        ("TOPIC", Align::Left),
        ("KIND", Align::Left),
        ("QUEUES", Align::Right),
        ("WAITING", Align::Right),
        ("ON DISK", Align::Right),
        ("BYTES", Align::Right),
    ];
    let row = |topic: &Value| {
        [
            text(topic.get("name")),
            text(topic.get("kind")),
            count(topic.get("queues")),
            estimate(topic, "waiting"),
            count(topic.get("messages")),
            size(topic.get("bytes")),
        ]
    };
    table(heads, topics.iter().map(row).collect())
}

async fn show(session: &Session, topic: &str) -> Result<(), Failure> {
    let found = session.client.get(&path(["v1", "topics", topic])).await?;
    let target = path(["v1", "topics", topic, "groups"]);
    let groups = session.client.list(&target, usize::MAX).await?;
    let mut whole = found.clone();
    if let Some(members) = whole.as_object_mut() {
        members.insert("groups".to_owned(), groups.items.clone().into());
    }
    session.print(&whole, |view| {
        let mut shown = fields(&[
            ("topic", text(found.get("name"))),
            ("kind", text(found.get("kind"))),
            ("queues", count(found.get("queues"))),
            ("indexed", text(found.get("indexed"))),
            ("quota", size(found.get("quota_bytes"))),
            ("waiting", estimate(&found, "waiting")),
            ("on disk", count(found.get("messages"))),
            ("bytes", size(found.get("bytes"))),
            ("damaged", count(found.get("damaged"))),
        ]);
        if !groups.items.is_empty() {
            shown.push('\n');
            shown.push_str(&positions(&groups.items, view));
        }
        shown
    })
}

async fn create(session: &Session, arguments: &CreateArguments) -> Result<(), Failure> {
    let topic = &arguments.topic;
    let mut body = json!({
        "name": topic,
        "kind": arguments.kind.name(),
        "queues": arguments.queues,
        "indexed": !arguments.no_index,
    });
    if let (Some(members), Some(quota)) = (body.as_object_mut(), arguments.quota) {
        members.insert("quota_bytes".to_owned(), quota.into());
    }
    let made = session.client.post(&path(["v1", "topics"]), &body).await?;
    let kind = arguments.kind.name().to_uppercase();
    session.done(&made, |_| format!("topic {topic} exists, kind {kind}"))
}

async fn change(session: &Session, arguments: &ChangeArguments) -> Result<(), Failure> {
    let topic = &arguments.topic;
    let mut body = Map::new();
    if let Some(queues) = arguments.queues {
        body.insert("queues".to_owned(), queues.into());
    }
    if let Some(indexed) = arguments.index {
        body.insert("indexed".to_owned(), indexed.into());
    }
    if let Some(NewQuota(quota)) = arguments.quota {
        body.insert("quota_bytes".to_owned(), quota.into());
    }
    if body.is_empty() {
        return Err(usage("name a setting: --queues, --index or --quota"));
    }
    let target = path(["v1", "topics", topic]).with("force", arguments.force.parameter());
    let changed = session
        .client
        .call(Method::PATCH, &target, Some(&body.into()))
        .await?;
    session.done(&changed, |_| format!("changed topic {topic}"))
}

async fn delete(session: &Session, topic: &str, confirmation: Confirmation) -> Result<(), Failure> {
    let target = path(["v1", "topics", topic]);
    let found = session.client.get(&target).await?;
    let member = |name: &str| found.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (messages, waiting) = (
        count_of(member("messages"), "message"),
        estimate(&found, "waiting"),
    );
    let what = format!(
        "delete topic {topic} with {messages}, {waiting} not yet due{}",
        platform_warning(topic)
    );
    if !confirm(confirmation, &what)? {
        return Ok(());
    }
    let target = target.with("force", confirmation.force());
    session.client.call(Method::DELETE, &target, None).await?;
    session.done(&json!({ "deleted": topic }), |_| {
        format!("deleted topic {topic}")
    })
}

/// The messages of a span; `~` before an estimate.
fn counted(bucket: &Value) -> String {
    let mark = if bucket.get("resolution").is_some() {
        "~"
    } else {
        ""
    };
    format!("{mark}{}", count(bucket.get("messages")))
}

/// The histogram of due times, as bars.
fn histogram_bars(histogram: &Value, view: &View) -> String {
    const BAR: usize = 40;
    let buckets = histogram.get("buckets").and_then(Value::as_array);
    let buckets = buckets.map_or(&[][..], Vec::as_slice);
    let messages = |bucket: &Value| bucket.get("messages").and_then(Value::as_u64).unwrap_or(0);
    let most = buckets.iter().map(messages).max().unwrap_or(0);
    let row = |bucket: &Value| {
        // Any message gets at least one mark.
        let marks = (messages(bucket) * BAR as u64).div_ceil(std::cmp::max(most, 1));
        let last = if bucket.get("to").is_none() {
            " and later"
        } else {
            ""
        };
        [
            format!("{}{last}", view.instant(bucket.get("from"))),
            counted(bucket),
            "#".repeat(usize::try_from(marks).unwrap_or(BAR)),
        ]
    };
    let heads = [
        ("FROM", Align::Left),
        ("DUE", Align::Right),
        ("", Align::Left),
    ];
    table(heads, buckets.iter().map(row).collect())
}
