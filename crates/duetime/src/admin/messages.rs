//! Provides `duetime message`.

use std::io::Read as _;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::api::{Answer, at};
use super::format::{Eye, Lean, count, glimpse, table, text};
use super::time::{Due, Span, parse_instant, parse_span};
use super::{Access, Desk, failed, usage};
use crate::Failure;

/// Messages
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime message send reminders hello --in 30m --id m-1 --key order-42\n\
    \x20 duetime message send reminders - --at 2026-11-24T10:00:00Z < body.json\n\
    \x20 duetime message find reminders order-42\n\
    \x20 duetime message move reminders m-1 --in 2h\n\
    \x20 duetime message recall reminders m-1      cancelled, too late or unknown\n\
    \x20 duetime message receive reminders closer --wait 1m --ack")]
pub(crate) struct MessageArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: MessageCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum MessageCommand {
    /// Send a message
    Send(SendArguments),
    /// List the messages of a topic by due time
    List {
        /// The topic
        topic: String,
        /// Those due after this instant, kept ones too; without it, those that wait
        #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
        from: Option<jiff::Timestamp>,
        /// Most messages to list
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Find messages by id or key
    Find {
        /// The topic
        topic: String,
        /// A message id or a key
        id_or_key: String,
    },
    /// Cancel a message that waits, and tell the truth about it
    Recall {
        /// The topic
        topic: String,
        /// Handle or id of the message
        message: String,
    },
    /// Move a message that waits to another instant
    Move {
        /// The topic
        topic: String,
        /// Handle or id of the message
        message: String,
        #[command(flatten)]
        due: Due,
    },
    /// Deliver a message that waits now
    Deliver {
        /// The topic
        topic: String,
        /// Handle or id of the message
        message: String,
    },
    /// Receive messages as a member of a consumer group
    Receive(ReceiveArguments),
    /// Acknowledge what was received
    Ack {
        /// The topic
        topic: String,
        /// The consumer group
        group: String,
        /// Receipts
        #[arg(required = true)]
        receipts: Vec<String>,
    },
}

#[derive(Clone, Debug, Args)]
struct SendArguments {
    /// The topic
    topic: String,
    /// The payload as text; `-` reads standard input
    #[arg(default_value = "")]
    body: String,
    #[command(flatten)]
    due: Due,
    /// What consumers may filter by
    #[arg(long)]
    tag: Option<String>,
    /// What it may be found by; may be repeated
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// A user property; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_property)]
    property: Vec<(String, String)>,
    /// Its id; sent again within two minutes it is stored once
    #[arg(long)]
    id: Option<String>,
    /// Messages of one group are delivered in order
    #[arg(long)]
    group: Option<String>,
}

fn parse_property(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "write a property as NAME=VALUE".to_owned())
}

#[derive(Clone, Debug, Args)]
struct ReceiveArguments {
    /// The topic
    topic: String,
    /// The consumer group; it comes into being with its first receive
    group: String,
    /// Most messages to receive
    #[arg(long, default_value_t = 1)]
    max: usize,
    /// How long to wait for the first one, at most 1m
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_span)]
    wait: Span,
    /// How long they stay hidden from the group's other consumers
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_span)]
    invisible: Span,
    /// Only messages with this tag; may be repeated
    #[arg(long)]
    tag: Vec<String>,
    /// Acknowledge them once they are printed
    #[arg(long)]
    ack: bool,
}

pub(super) async fn run(arguments: MessageArguments) -> Result<(), Failure> {
    let desk = Desk::open(&arguments.access)?;
    match arguments.command {
        MessageCommand::Send(arguments) => send(&desk, arguments).await,
        MessageCommand::List { topic, from, limit } => {
            let from = from.map(|from| format!("{from:.3}"));
            let place = at(["v1", "topics", &topic, "messages"]).with("from", from.as_deref());
            let list = desk.client.list(&place, limit).await?;
            desk.print_list(&list, |eye| listed(&list.items, eye))
        }
        MessageCommand::Find { topic, id_or_key } => {
            let place = at(["v1", "topics", &topic, "messages"]).with("find", Some(&id_or_key));
            let list = desk.client.list(&place, 200).await?;
            if list.items.is_empty() {
                return Err(failed(format!(
                    "topic {topic} has no message with the id or key {id_or_key}"
                )));
            }
            desk.print_list(&list, |eye| listed(&list.items, eye))
        }
        MessageCommand::Recall { topic, message } => {
            let place = at(["v1", "topics", &topic, "messages", &message]);
            let answer = desk.client.try_call(Method::DELETE, &place, None).await?;
            tell_outcome(&desk, answer, &format!("message {message}"))
        }
        MessageCommand::Move {
            topic,
            message,
            due,
        } => {
            let when = due
                .when()
                .ok_or_else(|| usage("say when: --in 30m or --at INSTANT".to_owned()))?;
            let mut body = Map::new();
            when.put(&mut body);
            let place = at(["v1", "topics", &topic, "messages", &message, "due"]);
            let moved = desk
                .client
                .call(Method::PUT, &place, Some(&body.into()))
                .await?;
            desk.done(&moved, |eye| told_due("moved", &moved, eye))
        }
        MessageCommand::Deliver { topic, message } => {
            let place = at(["v1", "topics", &topic, "messages", &message, "deliver"]);
            let moved = desk.client.call(Method::POST, &place, None).await?;
            desk.done(&moved, |eye| told_due("delivered", &moved, eye))
        }
        MessageCommand::Receive(arguments) => receive(&desk, arguments).await,
        MessageCommand::Ack {
            topic,
            group,
            receipts,
        } => ack(&desk, [&topic, &group], &receipts).await,
    }
}

/// Reads a payload from the command line, or from standard input.
pub(super) fn put_payload(body: &mut Map<String, Value>, payload: String) -> Result<(), Failure> {
    if payload != "-" {
        body.insert("body".to_owned(), payload.into());
        return Ok(());
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|error| failed(format!("read standard input: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        failed("standard input is not text; send bytes with body_base64 over HTTP".to_owned())
    })?;
    body.insert("body".to_owned(), text.into());
    Ok(())
}

async fn send(desk: &Desk, arguments: SendArguments) -> Result<(), Failure> {
    let mut body = Map::new();
    put_payload(&mut body, arguments.body)?;
    if let Some(when) = arguments.due.when() {
        when.put(&mut body);
    }
    for (name, value) in [
        ("tag", arguments.tag),
        ("message_id", arguments.id),
        ("message_group", arguments.group),
    ] {
        body.extend(value.map(|value| (name.to_owned(), value.into())));
    }
    body.insert("keys".to_owned(), arguments.key.into());
    let properties: Map<String, Value> = arguments
        .property
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    body.insert("properties".to_owned(), properties.into());
    let place = at(["v1", "topics", &arguments.topic, "messages"]);
    let sent = desk.client.post(&place, &body.into()).await?;
    desk.print(&sent, |eye| {
        let repeated = sent.get("repeated").and_then(Value::as_bool) == Some(true);
        let note = if repeated { "  (stored before)" } else { "" };
        format!(
            "{}  due {}{note}\n",
            text(sent.get("message_id")),
            eye.instant(sent.get("due_at"))
        )
    })
}

fn told_due(what: &str, moved: &Value, eye: &Eye) -> String {
    let (id, due) = (
        text(moved.get("message_id")),
        eye.instant(moved.get("due_at")),
    );
    format!("{what}: message {id} is due {due}")
}

fn listed(messages: &[Value], eye: &Eye) -> String {
    let heads = [
        ("DUE", Lean::Left),
        ("STATE", Lean::Left),
        ("MESSAGE", Lean::Left),
        ("TAG", Lean::Left),
        ("KEYS", Lean::Left),
        ("BODY", Lean::Left),
    ];
    let row = |message: &Value| {
        [
            eye.instant(message.get("due_at")),
            text(message.get("state")),
            text(message.get("message_id")),
            text(message.get("tag")),
            text(message.get("keys")),
            glimpse(Some(message)),
        ]
    };
    table(heads, messages.iter().map(row).collect())
}

/// Tells the truth about a recall; all but `cancelled` is a failure.
pub(super) fn tell_outcome(desk: &Desk, answer: Answer, what: &str) -> Result<(), Failure> {
    match answer {
        Answer::Done(value) => desk.done(&value, |_| {
            format!("cancelled: {what} is never delivered to anyone")
        }),
        Answer::Refused(status, problem) => {
            let member = |name: &str| problem.get(name).and_then(Value::as_str);
            let detail = member("detail").map_or_else(|| status.to_string(), str::to_owned);
            if let (true, Some(outcome)) = (desk.json, member("outcome")) {
                desk.done(&json!({ "outcome": outcome }), |_| String::new())?;
            }
            Err(match member("outcome") {
                Some("too_late") => failed(format!("too late: {detail}")),
                Some("unknown") => failed(format!("unknown: {detail}")),
                _ => failed(detail),
            })
        }
    }
}

async fn receive(desk: &Desk, arguments: ReceiveArguments) -> Result<(), Failure> {
    let (topic, group) = (&arguments.topic, &arguments.group);
    let body = json!({
        "max": arguments.max,
        "wait_for": arguments.wait.text(),
        "invisible_for": arguments.invisible.text(),
        "tags": arguments.tag,
    });
    let place = at(["v1", "topics", topic, "groups", group, "receive"]);
    let mut received = desk.client.post(&place, &body).await?;
    let items = match received.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let list = super::List { items, more: false };
    desk.print_list(&list, |eye| {
        let heads = [
            ("DUE", Lean::Left),
            ("ATTEMPT", Lean::Right),
            ("MESSAGE", Lean::Left),
            ("BODY", Lean::Left),
            ("RECEIPT", Lean::Left),
        ];
        let row = |delivery: &Value| {
            let message = delivery.get("message");
            let member = |name: &str| message.and_then(|message| message.get(name));
            [
                eye.instant(member("due_at")),
                count(delivery.get("attempt")),
                text(member("message_id")),
                glimpse(message),
                text(delivery.get("receipt")),
            ]
        };
        table(heads, list.items.iter().map(row).collect())
    })?;
    if !arguments.ack || list.items.is_empty() {
        return Ok(());
    }
    let receipts = list
        .items
        .iter()
        .filter_map(|item| item.get("receipt")?.as_str());
    let receipts: Vec<String> = receipts.map(str::to_owned).collect();
    settle(desk, [topic, group], &receipts).await.map(drop)
}

async fn ack(desk: &Desk, pair: [&str; 2], receipts: &[String]) -> Result<(), Failure> {
    let acked = settle(desk, pair, receipts).await?;
    desk.done(&acked, |_| format!("acknowledged {}", receipts.len()))
}

/// Acknowledges; a receipt that does not hold any more is a failure.
async fn settle(
    desk: &Desk,
    [topic, group]: [&str; 2],
    receipts: &[String],
) -> Result<Value, Failure> {
    let place = at(["v1", "topics", topic, "groups", group, "ack"]);
    let acked = desk
        .client
        .post(&place, &json!({ "receipts": receipts }))
        .await?;
    let items = acked.get("items").and_then(Value::as_array);
    let is_expired = |item: &&Value| item.get("outcome").and_then(Value::as_str) == Some("expired");
    match items.into_iter().flatten().filter(is_expired).count() {
        0 => Ok(acked),
        expired => Err(failed(format!(
            "{expired} of {} receipts do not hold any more: those messages were delivered again or finished since",
            receipts.len()
        ))),
    }
}
