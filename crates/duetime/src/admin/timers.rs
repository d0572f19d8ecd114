//! Provides `duetime timer`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Map;

use super::api::at;
use super::format::{facts, glimpse, text};
use super::messages::{put_payload, tell_outcome};
use super::time::{When, parse_when};
use super::{Access, Desk};
use crate::Failure;

/// Keyed timers: at most one message waits under a key
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime timer set reminders order-42 30m \"close order 42\"\n\
    \x20 duetime timer set reminders order-42 45m  moves it, and keeps what it brings\n\
    \x20 duetime timer show reminders order-42\n\
    \x20 duetime timer cancel reminders order-42   cancelled, too late or unknown")]
pub(crate) struct TimerArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: TimerCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TimerCommand {
    /// Set a timer: make it, or move the one that waits under this key
    Set {
        /// The topic its message comes from
        topic: String,
        /// The key
        key: String,
        /// When it is due: 30m, 2h, 3d, or an instant as in RFC 3339
        #[arg(value_parser = parse_when)]
        when: When,
        /// What it brings; `-` reads standard input; without it a timer that waits keeps what it has
        body: Option<String>,
        /// What consumers may filter by; goes with a body
        #[arg(long, requires = "body")]
        tag: Option<String>,
        /// The message group, on topics that want one
        #[arg(long)]
        group: Option<String>,
    },
    /// Show when a timer is due
    Show {
        /// The topic
        topic: String,
        /// The key
        key: String,
    },
    /// Cancel a timer, and tell the truth about it
    Cancel {
        /// The topic
        topic: String,
        /// The key
        key: String,
    },
}

pub(super) async fn run(arguments: TimerArguments) -> Result<(), Failure> {
    let desk = Desk::open(&arguments.access)?;
    match arguments.command {
        TimerCommand::Set {
            topic,
            key,
            when,
            body: payload,
            tag,
            group,
        } => {
            let mut body = Map::new();
            when.put(&mut body);
            if let Some(payload) = payload {
                put_payload(&mut body, payload)?;
            }
            body.extend(tag.map(|tag| ("tag".to_owned(), tag.into())));
            body.extend(group.map(|group| ("message_group".to_owned(), group.into())));
            let place = at(["v1", "timers", &topic, &key]);
            let set = desk
                .client
                .call(Method::PUT, &place, Some(&body.into()))
                .await?;
            desk.print(&set, |eye| {
                let (outcome, due) = (text(set.get("outcome")), eye.instant(set.get("due_at")));
                format!("{key}  {outcome}, due {due}\n")
            })
        }
        TimerCommand::Show { topic, key } => {
            let timer = desk.client.get(&at(["v1", "timers", &topic, &key])).await?;
            desk.print(&timer, |eye| {
                let message = timer.get("message");
                let member = |name: &str| message.and_then(|message| message.get(name));
                facts(&[
                    ("timer", key.clone()),
                    ("state", text(timer.get("state"))),
                    ("due", eye.instant(timer.get("due_at"))),
                    ("message", text(member("message_id"))),
                    ("tag", text(member("tag"))),
                    ("body", glimpse(message)),
                ])
            })
        }
        TimerCommand::Cancel { topic, key } => {
            let place = at(["v1", "timers", &topic, &key]);
            let answer = desk.client.try_call(Method::DELETE, &place, None).await?;
            tell_outcome(&desk, answer, &format!("timer {key}"))
        }
    }
}
