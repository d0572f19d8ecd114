//! Provides `duetime topic`.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::at;
use super::format::{Eye, Lean, count, facts, of_platform, size, some, table, text};
use super::groups::pairs;
use super::time::{Span, parse_span};
use super::{Access, Desk, Sure, confirm};
use crate::Failure;
use crate::config::parse_size_bytes;

/// Topics
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime topic create reminders --kind mixed --quota 4GiB\n\
    \x20 duetime topic show reminders              how far each group has come\n\
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
    /// Show a topic and how far each group has come on it
    Show {
        /// The topic
        topic: String,
    },
    /// Create a topic, or confirm that it exists
    Create(CreateArguments),
    /// Delete a topic with its messages
    Delete {
        /// The topic
        topic: String,
        #[command(flatten)]
        sure: Sure,
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
    /// Do not find messages by key, which saves a small row each
    #[arg(long)]
    no_index: bool,
    /// Bytes it may hold, retained messages included: 512MiB, 4GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_quota)]
    quota: Option<u64>,
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
    let desk = Desk::open(&arguments.access)?;
    match arguments.command {
        TopicCommand::List { limit } => {
            let list = desk.client.list(&at(["v1", "topics"]), limit).await?;
            desk.print_list(&list, |_| listed(&list.items))
        }
        TopicCommand::Show { topic } => show(&desk, &topic).await,
        TopicCommand::Create(arguments) => create(&desk, &arguments).await,
        TopicCommand::Delete { topic, sure } => delete(&desk, &topic, sure).await,
        TopicCommand::Future { topic, step, steps } => {
            let place = at(["v1", "topics", &topic, "histogram"])
                .with("step", Some(&step.text()))
                .with("steps", Some(&steps.to_string()));
            let histogram = desk.client.get(&place).await?;
            desk.print(&histogram, |eye| drawn(&histogram, eye))
        }
    }
}

fn listed(topics: &[Value]) -> String {
    let heads = [
        ("TOPIC", Lean::Left),
        ("KIND", Lean::Left),
        ("QUEUES", Lean::Right),
        ("WAITING", Lean::Right),
        ("ON DISK", Lean::Right),
        ("BYTES", Lean::Right),
    ];
    let row = |topic: &Value| {
        [
            text(topic.get("name")),
            text(topic.get("kind")),
            count(topic.get("queues")),
            count(topic.get("waiting")),
            count(topic.get("messages")),
            size(topic.get("bytes")),
        ]
    };
    table(heads, topics.iter().map(row).collect())
}

async fn show(desk: &Desk, topic: &str) -> Result<(), Failure> {
    let found = desk.client.get(&at(["v1", "topics", topic])).await?;
    let place = at(["v1", "topics", topic, "groups"]);
    let groups = desk.client.list(&place, usize::MAX).await?;
    let mut whole = found.clone();
    if let Some(members) = whole.as_object_mut() {
        members.insert("groups".to_owned(), groups.items.clone().into());
    }
    desk.print(&whole, |eye| {
        let mut shown = facts(&[
            ("topic", text(found.get("name"))),
            ("kind", text(found.get("kind"))),
            ("queues", count(found.get("queues"))),
            ("indexed", text(found.get("indexed"))),
            ("quota", size(found.get("quota_bytes"))),
            ("waiting", count(found.get("waiting"))),
            ("on disk", count(found.get("messages"))),
            ("bytes", size(found.get("bytes"))),
            ("damaged", count(found.get("damaged"))),
        ]);
        if !groups.items.is_empty() {
            shown.push('\n');
            shown.push_str(&pairs(&groups.items, eye));
        }
        shown
    })
}

async fn create(desk: &Desk, arguments: &CreateArguments) -> Result<(), Failure> {
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
    let made = desk.client.post(&at(["v1", "topics"]), &body).await?;
    let kind = arguments.kind.name().to_uppercase();
    desk.done(&made, |_| {
        format!("topic {topic} is there; it holds {kind} messages")
    })
}

async fn delete(desk: &Desk, topic: &str, sure: Sure) -> Result<(), Failure> {
    let place = at(["v1", "topics", topic]);
    let found = desk.client.get(&place).await?;
    let member = |name: &str| found.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (messages, waiting) = (
        some(member("messages"), "message"),
        count(found.get("waiting")),
    );
    let what = format!(
        "delete topic {topic} with {messages}, {waiting} not yet due{}",
        of_platform(topic)
    );
    if !confirm(sure, &what)? {
        return Ok(());
    }
    desk.client.call(Method::DELETE, &place, None).await?;
    desk.done(&json!({ "deleted": topic }), |_| {
        format!("deleted topic {topic}")
    })
}

/// The histogram of the future, drawn.
fn drawn(histogram: &Value, eye: &Eye) -> String {
    const BAR: usize = 40;
    let buckets = histogram.get("buckets").and_then(Value::as_array);
    let buckets = buckets.map_or(&[][..], Vec::as_slice);
    let messages = |bucket: &Value| bucket.get("messages").and_then(Value::as_u64).unwrap_or(0);
    let most = buckets.iter().map(messages).max().unwrap_or(0);
    let row = |bucket: &Value| {
        // At least one mark for anything at all.
        let marks = (messages(bucket) * BAR as u64).div_ceil(std::cmp::max(most, 1));
        let last = if bucket.get("to").is_none() {
            " and later"
        } else {
            ""
        };
        [
            format!("{}{last}", eye.instant(bucket.get("from"))),
            count(bucket.get("messages")),
            "#".repeat(usize::try_from(marks).unwrap_or(BAR)),
        ]
    };
    let heads = [("FROM", Lean::Left), ("DUE", Lean::Right), ("", Lean::Left)];
    table(heads, buckets.iter().map(row).collect())
}
