//! Provides `duetime timer`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Map;

use super::api::{Access, path};
use super::confirm::Force;
use super::format::{fields, preview, text};
use super::messages::{put_payload, report_recall};
use super::session::Session;
use super::time::{When, parse_when};
use crate::failure::Failure;

/// Keyed timers: at most one message waits under a key
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime timer set reminders order-42 30m \"close order 42\"\n\
    \x20 duetime timer set reminders order-42 45m  moves it and keeps its body\n\
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
    /// Set a timer: create it, or move the one waiting under this key
    Set {
        /// The topic its message is delivered from
        topic: String,
        /// The key
        key: String,
        /// When it is due: 30m, 2h, 3d, or an instant as in RFC 3339
        #[arg(value_parser = parse_when)]
        when: When,
        /// The payload; `-` reads standard input; without one, a waiting timer keeps its own
        body: Option<String>,
        /// A tag that consumers may filter by; needs a body
        #[arg(long, requires = "body")]
        tag: Option<String>,
        /// The message group, for topics that require one
        #[arg(long)]
        group: Option<String>,
        #[command(flatten)]
        force: Force,
    },
    /// Show when a timer is due
    Show {
        /// The topic
        topic: String,
        /// The key
        key: String,
    },
    /// Cancel a timer: cancelled, too late or unknown
    Cancel {
        /// The topic
        topic: String,
        /// The key
        key: String,
        #[command(flatten)]
        force: Force,
    },
}

pub(super) async fn run(arguments: TimerArguments) -> Result<(), Failure> {
    let session = Session::open(&arguments.access)?;
    match arguments.command {
        TimerCommand::Set {
            topic,
            key,
            when,
            body: payload,
            tag,
            group,
            force,
        } => {
            let mut body = Map::new();
            when.put(&mut body);
            if let Some(payload) = payload {
                put_payload(&mut body, payload)?;
            }
            body.extend(tag.map(|tag| ("tag".to_owned(), tag.into())));
            body.extend(group.map(|group| ("message_group".to_owned(), group.into())));
            let target = path(["v1", "timers", &topic, &key]).with("force", force.parameter());
            let set = session
                .client
                .call(Method::PUT, &target, Some(&body.into()))
                .await?;
            session.print(&set, |view| {
                let (outcome, due) = (text(set.get("outcome")), view.instant(set.get("due_at")));
                format!("{key}  {outcome}, due {due}\n")
            })
        }
        TimerCommand::Show { topic, key } => {
            let timer = session
                .client
                .get(&path(["v1", "timers", &topic, &key]))
                .await?;
            session.print(&timer, |view| {
                let message = timer.get("message");
                let member = |name: &str| message.and_then(|message| message.get(name));
                fields(&[
                    ("timer", key.clone()),
                    ("state", text(timer.get("state"))),
                    ("due", view.instant(timer.get("due_at"))),
                    ("message", text(member("message_id"))),
                    ("tag", text(member("tag"))),
                    ("body", preview(message)),
                ])
            })
        }
        TimerCommand::Cancel { topic, key, force } => {
            let target = path(["v1", "timers", &topic, &key]).with("force", force.parameter());
            let answer = session
                .client
                .try_call(Method::DELETE, &target, None)
                .await?;
            report_recall(&session, answer, &format!("timer {key}"))
        }
    }
}
