//! Provides `duetime outbox`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::super::api::path;
use super::super::format::count;
use super::access::Access;
use super::show;
use crate::failure::Failure;

/// Messages that have not been published
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime outbox list                       those that the broker refuses permanently\n\
    \x20 duetime outbox list --waiting\n\
    \x20 duetime outbox unpark --topic duetime-order-events")]
pub(crate) struct OutboxArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: OutboxCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum OutboxCommand {
    /// List messages that the broker refuses permanently
    List {
        /// Those that wait for the broker instead
        #[arg(long)]
        waiting: bool,
        /// Only those of this topic
        #[arg(long)]
        topic: Option<String>,
        /// Most messages to list
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Publish refused messages again: one, or those of a topic, or all
    Unpark {
        /// The number of one message
        seq: Option<i64>,
        /// Only those of this topic
        #[arg(long, conflicts_with = "seq")]
        topic: Option<String>,
    },
}

pub(crate) async fn run(arguments: OutboxArguments) -> Result<(), Failure> {
    let session = arguments.access.open()?;
    let client = &session.client;
    match arguments.command {
        OutboxCommand::List {
            waiting,
            topic,
            limit,
        } => {
            let target = path(["v1", "outbox"])
                .with("state", waiting.then_some("waiting"))
                .with("topic", topic.as_deref());
            let found = client.list(&target, limit).await?;
            let names = ["seq", "topic", "subject", "tag", "created_at", "refusal"];
            show::list(&session, &found, names)
        }
        OutboxCommand::Unpark { seq: Some(seq), .. } => {
            let target = path(["v1", "outbox", &seq.to_string(), "unpark"]);
            let message = client.call(Method::POST, &target, None).await?;
            show::state(&session, &format!("message {seq}"), &message)
        }
        OutboxCommand::Unpark { topic, .. } => {
            let body = topic.map_or_else(|| json!({}), |topic| json!({ "topic": topic }));
            let target = path(["v1", "outbox", "unpark"]);
            let unparked = client.post(&target, &body).await?;
            session.done(&unparked, |_| {
                format!(
                    "{} messages are published again",
                    count(unparked.get("unparked"))
                )
            })
        }
    }
}
