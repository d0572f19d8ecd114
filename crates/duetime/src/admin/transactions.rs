//! Provides `duetime transaction`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api::{Access, List, path};
use super::confirm::{Confirmation, confirm};
use super::format::{Align, View, count, count_of, fields, preview, table, text};
use super::session::Session;
use crate::failure::{Failure, failed, message, usage};
use crate::terminal::note;

/// Transactions that were given up: their producers have not ended them
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime transaction list --topic orders\n\
    \x20 duetime transaction check --topic orders\n\
    \x20 duetime transaction rollback AwEB8qv8 --dry-run")]
pub(crate) struct TransactionArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: TransactionCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TransactionCommand {
    /// List transactions that were given up
    List {
        /// Only those of this topic
        #[arg(long)]
        topic: Option<String>,
        /// Most transactions to list
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show a transaction that has not ended
    Show {
        /// The transaction
        transaction: String,
    },
    /// Commit transactions: their messages are delivered when they are due
    Commit(EndArguments),
    /// Roll transactions back: their messages are deleted
    Rollback(EndArguments),
    /// Ask the producers of transactions again, as often as about new ones
    Check {
        /// The transactions
        #[arg(required_unless_present_any = ["topic", "all"])]
        transactions: Vec<String>,
        /// All of this topic that were given up
        #[arg(long, conflicts_with = "transactions")]
        topic: Option<String>,
        /// All that were given up
        #[arg(long, conflicts_with_all = ["transactions", "topic"])]
        all: bool,
    },
}

#[derive(Clone, Debug, Args)]
struct EndArguments {
    /// The transactions
    #[arg(required = true)]
    transactions: Vec<String>,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// What is done with a transaction.
#[derive(Clone, Copy)]
enum Act {
    Commit,
    Rollback,
    Check,
}

impl Act {
    /// The last segment of the path, and what was done.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Commit => ("commit", "committed"),
            Self::Rollback => ("rollback", "rolled back"),
            Self::Check => ("check", "asked the producers again about"),
        }
    }
}

pub(super) async fn run(arguments: TransactionArguments) -> Result<(), Failure> {
    let session = Session::open(&arguments.access)?;
    match arguments.command {
        TransactionCommand::List { topic, limit } => {
            let list = given_up(&session, topic.as_deref(), limit).await?;
            session.print_list(&list, |view| list_table(&list.items, view))
        }
        TransactionCommand::Show { transaction } => show(&session, &transaction).await,
        TransactionCommand::Commit(arguments) => end(&session, &arguments, Act::Commit).await,
        TransactionCommand::Rollback(arguments) => end(&session, &arguments, Act::Rollback).await,
        TransactionCommand::Check {
            transactions,
            topic,
            all: _,
        } => {
            let transactions = match transactions {
                none if none.is_empty() => {
                    let list = given_up(&session, topic.as_deref(), usize::MAX).await?;
                    let names = list.items.iter().map(|item| text(item.get("transaction")));
                    names.collect()
                }
                transactions => transactions,
            };
            each(&session, &transactions, Act::Check).await
        }
    }
}

async fn given_up(session: &Session, topic: Option<&str>, limit: usize) -> Result<List, Failure> {
    let target = path(["v1", "transactions"]).with("topic", topic);
    session.client.list(&target, limit).await
}

fn list_table(transactions: &[Value], view: &View) -> String {
    let heads = [
        ("GIVEN UP", Align::Left),
        ("TOPIC", Align::Left),
        ("CHECKS", Align::Right),
        ("MESSAGE", Align::Left),
        ("BODY", Align::Left),
        ("TRANSACTION", Align::Left),
    ];
    let row = |transaction: &Value| {
        let message = transaction.get("message");
        [
            view.instant(transaction.get("given_up_at")),
            text(transaction.get("topic")),
            count(transaction.get("checks")),
            text(message.and_then(|message| message.get("message_id"))),
            preview(message),
            text(transaction.get("transaction")),
        ]
    };
    table(heads, transactions.iter().map(row).collect())
}

async fn show(session: &Session, transaction: &str) -> Result<(), Failure> {
    let target = path(["v1", "transactions", transaction]);
    let found = session.client.get(&target).await?;
    session.print(&found, |view| {
        let message = found.get("message");
        let member = |name: &str| message.and_then(|message| message.get(name));
        fields(&[
            ("transaction", transaction.to_owned()),
            ("topic", text(found.get("topic"))),
            ("state", text(found.get("state"))),
            ("checks", count(found.get("checks"))),
            ("next check", view.instant(found.get("check_at"))),
            ("given up", view.instant(found.get("given_up_at"))),
            ("message", text(member("message_id"))),
            ("stored", view.instant(member("stored_at"))),
            ("due", view.instant(member("due_at"))),
            ("tag", text(member("tag"))),
            ("keys", text(member("keys"))),
            ("body", preview(message)),
        ])
    })
}

async fn end(session: &Session, arguments: &EndArguments, act: Act) -> Result<(), Failure> {
    let (what, effect) = match act {
        Act::Commit => ("commit", "their messages are delivered"),
        Act::Rollback | Act::Check => ("roll back", "their messages are deleted"),
    };
    if arguments.confirmation.force().is_some() {
        return Err(usage("the order platform has no transactions".to_owned()));
    }
    let transactions = &arguments.transactions;
    for transaction in transactions {
        // Each must exist, even for a dry run.
        let target = path(["v1", "transactions", transaction]);
        session.client.get(&target).await?;
    }
    let number = count_of(transactions.len() as u64, "transaction");
    if !confirm(
        arguments.confirmation,
        &format!("{what} {number}: {effect}"),
    )? {
        return Ok(());
    }
    each(session, transactions, act).await
}

/// Does the same with each transaction; those that are refused do not keep back the others.
async fn each(session: &Session, transactions: &[String], act: Act) -> Result<(), Failure> {
    let (verb, done) = act.words();
    let (mut finished, mut refused) = (0, 0);
    for transaction in transactions {
        let target = path(["v1", "transactions", transaction, verb]);
        match session.client.post(&target, &json!({})).await {
            Ok(_) => finished += 1,
            Err(Failure::Usage(error) | Failure::Work(error)) if transactions.len() > 1 => {
                note(&format!("{transaction}: {}", message(&error)));
                refused += 1;
            }
            Err(failure) => return Err(failure),
        }
    }
    session.done(&json!({ "done": finished, "failed": refused }), |_| {
        format!("{done} {}", count_of(finished, "transaction"))
    })?;
    match refused {
        0 => Ok(()),
        refused => Err(failed(format!(
            "{} not {done}",
            count_of(refused, "transaction")
        ))),
    }
}
