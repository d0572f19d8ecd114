//! Provides `duetime dlq`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::api::{Access, Target, path};
use super::confirm::{Confirmation, confirm};
use super::format::{Align, View, count, count_of, preview, table, text};
use super::session::Session;
use crate::failure::{Failure, failed, usage};
use crate::terminal::note;

/// Dead letters: messages that used up their deliveries
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime dlq list closer --tag paid\n\
    \x20 duetime dlq replay closer --key order-42 --yes\n\
    \x20 duetime dlq purge closer --all --dry-run")]
pub(crate) struct DlqArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum DlqCommand {
    /// List the dead letters of a consumer group
    List {
        /// The consumer group
        group: String,
        #[command(flatten)]
        filter: Filter,
        /// Most dead letters to list
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Deliver dead letters to their group again, with all attempts anew
    Replay(ActArguments),
    /// Delete dead letters
    Purge(ActArguments),
}

#[derive(Clone, Debug, Args)]
struct ActArguments {
    /// The consumer group
    group: String,
    #[command(flatten)]
    filter: Filter,
    /// All of them; required without a filter
    #[arg(long, conflicts_with_all = ["key", "tag", "id", "topic"])]
    all: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// Dead letters that match every given option.
#[derive(Clone, Debug, Args)]
struct Filter {
    /// Only those with this key
    #[arg(long)]
    key: Option<String>,
    /// Only those with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Only the one with this message id
    #[arg(long)]
    id: Option<String>,
    /// Only those that came from this topic
    #[arg(long)]
    topic: Option<String>,
}

impl Filter {
    fn parts(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("key", self.key.as_deref()),
            ("tag", self.tag.as_deref()),
            ("message_id", self.id.as_deref()),
            ("topic", self.topic.as_deref()),
        ]
    }

    /// The filter as text.
    fn description(&self) -> String {
        let parts: Vec<_> = self
            .parts()
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{} {}", name.replace('_', " "), value?)))
            .collect();
        match &parts[..] {
            [] => String::new(),
            parts => format!(" with {}", parts.join(" and ")),
        }
    }
}

#[derive(Clone, Copy)]
enum Act {
    Replay,
    Purge,
}

impl Act {
    fn verbs(self) -> (&'static str, &'static str) {
        match self {
            Self::Replay => ("replay", "replayed"),
            Self::Purge => ("purge", "purged"),
        }
    }
}

pub(super) async fn run(arguments: DlqArguments) -> Result<(), Failure> {
    let session = Session::open(&arguments.access)?;
    match arguments.command {
        DlqCommand::List {
            group,
            filter,
            limit,
        } => {
            let mut target = path(["v1", "groups", &group, "dead-letters"]);
            for (name, value) in filter.parts() {
                target = target.with(name, value);
            }
            let list = session.client.list(&target, limit).await?;
            session.print_list(&list, |view| list_table(&list.items, view))
        }
        DlqCommand::Replay(arguments) => act(&session, &arguments, Act::Replay).await,
        DlqCommand::Purge(arguments) => act(&session, &arguments, Act::Purge).await,
    }
}

fn list_table(dead_letters: &[Value], view: &View) -> String {
    let heads = [
        ("BURIED", Align::Left),
        ("FROM", Align::Left),
        ("ATTEMPTS", Align::Right),
        ("MESSAGE", Align::Left),
        ("TAG", Align::Left),
        ("KEYS", Align::Left),
        ("BODY", Align::Left),
    ];
    let row = |dead_letter: &Value| {
        let message = dead_letter.get("message");
        let member = |name: &str| message.and_then(|message| message.get(name));
        [
            view.instant(member("stored_at")),
            text(dead_letter.get("topic")),
            count(dead_letter.get("attempts")),
            text(member("message_id")),
            text(member("tag")),
            text(member("keys")),
            preview(message),
        ]
    };
    table(heads, dead_letters.iter().map(row).collect())
}

async fn act(session: &Session, arguments: &ActArguments, act: Act) -> Result<(), Failure> {
    let (verb, done) = act.verbs();
    let group = &arguments.group;
    let mut body = Map::new();
    for (name, value) in arguments.filter.parts() {
        body.extend(value.map(|value| (name.to_owned(), value.into())));
    }
    if body.is_empty() && !arguments.all {
        return Err(usage(format!(
            "select dead letters to {verb}: --key, --tag, --id, --topic or --all"
        )));
    }
    body.insert("all".to_owned(), arguments.all.into());
    let force = match act {
        Act::Purge => arguments.confirmation.force(),
        Act::Replay => None,
    };
    let target = path(["v1", "groups", group, "dead-letters", verb]).with("force", force);
    let matched = count_matches(session, &target, &body).await?;
    let which = arguments.filter.description();
    let what = format!(
        "{verb} {} of consumer group {group}{which}",
        count_of(matched, "dead letter")
    );
    if matched == 0 {
        return session.done(&json!({ "matched": 0, "done": 0 }), |_| {
            format!("consumer group {group} has no dead letters{which}")
        });
    }
    if !confirm(arguments.confirmation, &what)? {
        return Ok(());
    }
    let (mut finished, mut left) = (0, Vec::new());
    loop {
        let answer = session.client.post(&target, &body.clone().into()).await?;
        finished += answer.get("done").and_then(Value::as_u64).unwrap_or(0);
        let failed = answer.get("failed").and_then(Value::as_array);
        left.extend(failed.into_iter().flatten().cloned());
        // Dead letters that fail stay in front; another round would only find them again.
        if answer.get("more") != Some(&Value::Bool(true)) || !left.is_empty() {
            break;
        }
    }
    let value = json!({ "matched": matched, "done": finished, "failed": left });
    session.done(&value, |_| {
        format!(
            "{done} {} of consumer group {group}{which}",
            count_of(finished, "dead letter")
        )
    })?;
    if left.is_empty() {
        return Ok(());
    }
    for dead_letter in &left {
        note(&format!(
            "{}: {}",
            text(dead_letter.get("message_id")),
            text(dead_letter.get("detail"))
        ));
    }
    Err(failed(format!(
        "{} not {done}",
        count_of(matched.saturating_sub(finished), "dead letter")
    )))
}

/// How many dead letters match, as far as one request looks.
async fn count_matches(
    session: &Session,
    target: &Target,
    body: &Map<String, Value>,
) -> Result<u64, Failure> {
    let mut body = body.clone();
    body.insert("dry_run".to_owned(), true.into());
    let answer = session.client.post(target, &body.into()).await?;
    Ok(answer.get("matched").and_then(Value::as_u64).unwrap_or(0))
}
