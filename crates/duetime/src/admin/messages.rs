//! Provides `duetime message`.

use std::io::Read as _;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::api::{Access, Answer, List, path};
use super::confirm::Force;
use super::format::{Align, View, count, preview, table, text};
use super::session::Session;
use super::time::{Due, Span, parse_instant, parse_span};
use crate::failure::{Failure, failed, usage};

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
        /// Messages due after this instant, delivered ones too; without it, waiting ones
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
    /// Cancel a waiting message: cancelled, too late or unknown
    Recall {
        /// The topic
        topic: String,
        /// Handle or id of the message
        message: String,
        #[command(flatten)]
        force: Force,
    },
    /// Move a waiting message to another instant
    Move {
        /// The topic
        topic: String,
        /// Handle or id of the message
        message: String,
        #[command(flatten)]
        due: Due,
        #[command(flatten)]
        force: Force,
    },
    /// Deliver a waiting message now
    Deliver {
        /// The topic
        topic: String,
        /// Handle or id of the message
        message: String,
        #[command(flatten)]
        force: Force,
    },
    /// Receive messages as a member of a consumer group
    Receive(ReceiveArguments),
    /// Acknowledge received messages
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
    /// A tag that consumers may filter by
    #[arg(long)]
    tag: Option<String>,
    /// A key to find it by; may be repeated
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// A user property; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_property)]
    property: Vec<(String, String)>,
    /// Its id; a repeated send within two minutes is stored once
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
    /// The consumer group; its first receive creates it
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
    #[command(flatten)]
    force: Force,
}

pub(super) async fn run(arguments: MessageArguments) -> Result<(), Failure> {
    let session = Session::open(&arguments.access)?;
    match arguments.command {
        MessageCommand::Send(arguments) => send(&session, arguments).await,
        MessageCommand::List { topic, from, limit } => {
            let from = from.map(|from| format!("{from:.3}"));
            let target = path(["v1", "topics", &topic, "messages"]).with("from", from.as_deref());
            let list = session.client.list(&target, limit).await?;
            session.print_list(&list, |view| list_table(&list.items, view))
        }
        MessageCommand::Find { topic, id_or_key } => {
            let target = path(["v1", "topics", &topic, "messages"]).with("find", Some(&id_or_key));
            let list = session.client.list(&target, 200).await?;
            if list.items.is_empty() {
                return Err(failed(format!(
                    "topic {topic} has no message with the id or key {id_or_key}"
                )));
            }
            session.print_list(&list, |view| list_table(&list.items, view))
        }
        MessageCommand::Recall {
            topic,
            message,
            force,
        } => {
            let target = path(["v1", "topics", &topic, "messages", &message]);
            let target = target.with("force", force.parameter());
            let answer = session
                .client
                .try_call(Method::DELETE, &target, None)
                .await?;
            report_recall(&session, answer, &format!("message {message}"))
        }
        MessageCommand::Move {
            topic,
            message,
            due,
            force,
        } => {
            let when = due
                .when()
                .ok_or_else(|| usage("say when: --in 30m or --at INSTANT".to_owned()))?;
            let mut body = Map::new();
            when.put(&mut body);
            let target = path(["v1", "topics", &topic, "messages", &message, "due"]);
            let target = target.with("force", force.parameter());
            let moved = session
                .client
                .call(Method::PUT, &target, Some(&body.into()))
                .await?;
            session.done(&moved, |view| due_note("moved", &moved, view))
        }
        MessageCommand::Deliver {
            topic,
            message,
            force,
        } => {
            let target = path(["v1", "topics", &topic, "messages", &message, "deliver"]);
            let target = target.with("force", force.parameter());
            let moved = session.client.call(Method::POST, &target, None).await?;
            session.done(&moved, |view| due_note("delivered", &moved, view))
        }
        MessageCommand::Receive(arguments) => receive(&session, arguments).await,
        MessageCommand::Ack {
            topic,
            group,
            receipts,
        } => ack(&session, [&topic, &group], &receipts).await,
    }
}

/// Adds the payload to a request, from the command line or from standard input.
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

async fn send(session: &Session, arguments: SendArguments) -> Result<(), Failure> {
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
    let target = path(["v1", "topics", &arguments.topic, "messages"]);
    let sent = session.client.post(&target, &body.into()).await?;
    session.print(&sent, |view| {
        let repeated = sent.get("repeated").and_then(Value::as_bool) == Some(true);
        let note = if repeated { "  (stored before)" } else { "" };
        format!(
            "{}  due {}{note}\n",
            text(sent.get("message_id")),
            view.instant(sent.get("due_at"))
        )
    })
}

fn due_note(what: &str, moved: &Value, view: &View) -> String {
    let (id, due) = (
        text(moved.get("message_id")),
        view.instant(moved.get("due_at")),
    );
    format!("{what}: message {id} is due {due}")
}

fn list_table(messages: &[Value], view: &View) -> String {
    let heads = [
        ("DUE", Align::Left),
        ("STATE", Align::Left),
        ("MESSAGE", Align::Left),
        ("TAG", Align::Left),
        ("KEYS", Align::Left),
        ("BODY", Align::Left),
    ];
    let row = |message: &Value| {
        [
            view.instant(message.get("due_at")),
            text(message.get("state")),
            text(message.get("message_id")),
            text(message.get("tag")),
            text(message.get("keys")),
            preview(Some(message)),
        ]
    };
    table(heads, messages.iter().map(row).collect())
}

/// Reports the outcome of a recall; every one but `cancelled` is a failure.
pub(super) fn report_recall(session: &Session, answer: Answer, what: &str) -> Result<(), Failure> {
    match answer {
        Answer::Done(value) => session.done(&value, |_| {
            format!("cancelled: {what} is never delivered to anyone")
        }),
        Answer::Refused(status, problem) => {
            let member = |name: &str| problem.get(name).and_then(Value::as_str);
            let detail = member("detail").map_or_else(|| status.to_string(), str::to_owned);
            if let (true, Some(outcome)) = (session.json, member("outcome")) {
                session.done(&json!({ "outcome": outcome }), |_| String::new())?;
            }
            Err(match member("outcome") {
                Some("too_late") => failed(format!("too late: {detail}")),
                Some("unknown") => failed(format!("unknown: {detail}")),
                _ => failed(detail),
            })
        }
    }
}

async fn receive(session: &Session, arguments: ReceiveArguments) -> Result<(), Failure> {
    let (topic, group) = (&arguments.topic, &arguments.group);
    let body = json!({
        "max": arguments.max,
        "wait_for": arguments.wait.text(),
        "invisible_for": arguments.invisible.text(),
        "tags": arguments.tag,
    });
    let target = path(["v1", "topics", topic, "groups", group, "receive"])
        .with("force", arguments.force.parameter());
    let mut received = session.client.post(&target, &body).await?;
    let items = match received.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let list = List { items, more: false };
    session.print_list(&list, |view| {
        let heads = [
            ("DUE", Align::Left),
            ("ATTEMPT", Align::Right),
            ("MESSAGE", Align::Left),
            ("BODY", Align::Left),
            ("RECEIPT", Align::Left),
        ];
        let row = |delivery: &Value| {
            let message = delivery.get("message");
            let member = |name: &str| message.and_then(|message| message.get(name));
            [
                view.instant(member("due_at")),
                count(delivery.get("attempt")),
                text(member("message_id")),
                preview(message),
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
    acknowledge(session, [topic, group], &receipts)
        .await
        .map(drop)
}

async fn ack(session: &Session, position: [&str; 2], receipts: &[String]) -> Result<(), Failure> {
    let acked = acknowledge(session, position, receipts).await?;
    session.done(&acked, |_| format!("acknowledged {}", receipts.len()))
}

/// Acknowledges; an expired receipt is a failure.
async fn acknowledge(
    session: &Session,
    [topic, group]: [&str; 2],
    receipts: &[String],
) -> Result<Value, Failure> {
    let target = path(["v1", "topics", topic, "groups", group, "ack"]);
    let acked = session
        .client
        .post(&target, &json!({ "receipts": receipts }))
        .await?;
    let items = acked.get("items").and_then(Value::as_array);
    let is_expired = |item: &&Value| item.get("outcome").and_then(Value::as_str) == Some("expired");
    match items.into_iter().flatten().filter(is_expired).count() {
        0 => Ok(acked),
        expired => Err(failed(format!(
            "{expired} of {} receipts have expired: their messages were delivered again or are finished",
            receipts.len()
        ))),
    }
}
