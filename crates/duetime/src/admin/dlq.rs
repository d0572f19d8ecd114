//! Provides `duetime dlq`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::api::{Place, at};
use super::format::{Eye, Lean, count, glimpse, some, table, text};
use super::{Access, Desk, Sure, confirm, failed, usage};
use crate::{Failure, tell};

/// Dead letters: messages whose deliveries are used up
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime dlq list closer --tag paid\n\
    \x20 duetime dlq replay closer --key order-42 --yes\n\
    \x20 duetime dlq purge closer --all --dry-run")]
pub(crate) struct LetterArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: LetterCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum LetterCommand {
    /// List the dead letters of a consumer group
    List {
        /// The consumer group
        group: String,
        #[command(flatten)]
        filter: Filter,
        /// Most letters to list
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Give dead letters to their group again, with all their deliveries before them
    Replay(ActArguments),
    /// Remove dead letters for good
    Purge(ActArguments),
}

#[derive(Clone, Debug, Args)]
struct ActArguments {
    /// The consumer group
    group: String,
    #[command(flatten)]
    filter: Filter,
    /// All of them: needed where nothing else is given
    #[arg(long, conflicts_with_all = ["key", "tag", "id", "topic"])]
    all: bool,
    #[command(flatten)]
    sure: Sure,
}

/// Letters that fit everything that is given.
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

    /// What it picks, in words.
    fn words(&self) -> String {
        let words: Vec<_> = self
            .parts()
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{} {}", name.replace('_', " "), value?)))
            .collect();
        match &words[..] {
            [] => String::new(),
            words => format!(" with {}", words.join(" and ")),
        }
    }
}

#[derive(Clone, Copy)]
enum Act {
    Replay,
    Purge,
}

impl Act {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Replay => ("replay", "replayed"),
            Self::Purge => ("purge", "purged"),
        }
    }
}

pub(super) async fn run(arguments: LetterArguments) -> Result<(), Failure> {
    let desk = Desk::open(&arguments.access)?;
    match arguments.command {
        LetterCommand::List {
            group,
            filter,
            limit,
        } => {
            let mut place = at(["v1", "groups", &group, "dead-letters"]);
            for (name, value) in filter.parts() {
                place = place.with(name, value);
            }
            let list = desk.client.list(&place, limit).await?;
            desk.print_list(&list, |eye| listed(&list.items, eye))
        }
        LetterCommand::Replay(arguments) => act(&desk, &arguments, Act::Replay).await,
        LetterCommand::Purge(arguments) => act(&desk, &arguments, Act::Purge).await,
    }
}

fn listed(letters: &[Value], eye: &Eye) -> String {
    let heads = [
        ("BURIED", Lean::Left),
        ("FROM", Lean::Left),
        ("ATTEMPTS", Lean::Right),
        ("MESSAGE", Lean::Left),
        ("TAG", Lean::Left),
        ("KEYS", Lean::Left),
        ("BODY", Lean::Left),
    ];
    let row = |letter: &Value| {
        let message = letter.get("message");
        let member = |name: &str| message.and_then(|message| message.get(name));
        [
            eye.instant(member("stored_at")),
            text(letter.get("topic")),
            count(letter.get("attempts")),
            text(member("message_id")),
            text(member("tag")),
            text(member("keys")),
            glimpse(message),
        ]
    };
    table(heads, letters.iter().map(row).collect())
}

async fn act(desk: &Desk, arguments: &ActArguments, act: Act) -> Result<(), Failure> {
    let (verb, done) = act.words();
    let group = &arguments.group;
    let mut body = Map::new();
    for (name, value) in arguments.filter.parts() {
        body.extend(value.map(|value| (name.to_owned(), value.into())));
    }
    if body.is_empty() && !arguments.all {
        return Err(usage(format!(
            "say which letters to {verb}: --key, --tag, --id, --topic or --all"
        )));
    }
    body.insert("all".to_owned(), arguments.all.into());
    let place = at(["v1", "groups", group, "dead-letters", verb]);
    let matched = count_matches(desk, &place, &body).await?;
    let which = arguments.filter.words();
    let what = format!(
        "{verb} {} of consumer group {group}{which}",
        some(matched, "dead letter")
    );
    if matched == 0 {
        return desk.done(&json!({ "matched": 0, "done": 0 }), |_| {
            format!("consumer group {group} has no dead letters{which}")
        });
    }
    if !confirm(arguments.sure, &what)? {
        return Ok(());
    }
    let (mut finished, mut left) = (0, Vec::new());
    loop {
        let answer = desk.client.post(&place, &body.clone().into()).await?;
        finished += answer.get("done").and_then(Value::as_u64).unwrap_or(0);
        let failed = answer.get("failed").and_then(Value::as_array);
        left.extend(failed.into_iter().flatten().cloned());
        // Letters that cannot be dealt with stay in front; going on would meet them for ever.
        if answer.get("more") != Some(&Value::Bool(true)) || !left.is_empty() {
            break;
        }
    }
    let value = json!({ "matched": matched, "done": finished, "failed": left });
    desk.done(&value, |_| {
        format!(
            "{done} {} of consumer group {group}{which}",
            some(finished, "dead letter")
        )
    })?;
    if left.is_empty() {
        return Ok(());
    }
    for letter in &left {
        tell(&format!(
            "{}: {}",
            text(letter.get("message_id")),
            text(letter.get("detail"))
        ));
    }
    Err(failed(format!(
        "{} not {done}",
        some(matched.saturating_sub(finished), "dead letter")
    )))
}

/// How many letters fit, as far as one request looks.
async fn count_matches(
    desk: &Desk,
    place: &Place,
    body: &Map<String, Value>,
) -> Result<u64, Failure> {
    let mut body = body.clone();
    body.insert("dry_run".to_owned(), true.into());
    let answer = desk.client.post(place, &body.into()).await?;
    Ok(answer.get("matched").and_then(Value::as_u64).unwrap_or(0))
}
