//! Provides `duetime payment`.

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Map, Value};

use super::super::api::path;
use super::super::confirm::{Asking, ask};
use super::super::session::Session;
use super::access::Access;
use super::orders::id_of;
use super::show;
use crate::failure::Failure;

/// Payments, payment attempts, and money that no payment can hold
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime payment list A-17                 the attempts and payments of an order\n\
    \x20 duetime payment attempts                  those that need an operator\n\
    \x20 duetime payment settle att_01ka0000000000000000000001 paid txn-9 --yes\n\
    \x20 duetime payment unmatched\n\
    \x20 duetime payment record ump_01ka0000000000000000000001 --currency EUR --yes")]
pub(crate) struct PaymentArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: PaymentCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum PaymentCommand {
    /// List the attempts and payments of an order
    List {
        /// The order's id, or the merchant's number of it
        order: String,
    },
    /// List the payment attempts that need an operator
    Attempts {
        /// Those that are still asked about after their order has ended
        #[arg(long)]
        unknown: bool,
        /// Most attempts to list
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Ask the gateway about an attempt again
    Retry {
        /// The attempt
        attempt: String,
    },
    /// Settle an attempt by hand
    Settle(SettleArguments),
    /// List money that no payment can hold
    Unmatched {
        /// Also what was settled
        #[arg(long)]
        all: bool,
        /// Most of it to list
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Record unmatched money as a payment
    Record(RecordArguments),
    /// Record that unmatched money was given back or is kept
    Book {
        /// The unmatched payment
        unmatched: String,
        /// By what, such as the number of a transfer
        reference: String,
        /// More, for a person
        #[arg(long)]
        note: Option<String>,
        #[command(flatten)]
        asking: Asking,
    },
}

#[derive(Clone, Debug, Args)]
struct SettleArguments {
    /// The attempt
    attempt: String,
    /// What became of it
    #[arg(value_enum)]
    result: Outcome,
    /// The gateway's number of the transaction, or how it is known that it failed
    reference: String,
    #[command(flatten)]
    money: MoneyArguments,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Clone, Debug, Args)]
struct RecordArguments {
    /// The unmatched payment
    unmatched: String,
    /// The attempt that it came for
    #[arg(long)]
    attempt: Option<String>,
    /// The gateway's number of the transaction
    #[arg(long, value_name = "NUMBER")]
    transaction: Option<String>,
    #[command(flatten)]
    money: MoneyArguments,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Clone, Debug, Args)]
struct MoneyArguments {
    /// The amount, in minor units
    #[arg(long, value_name = "MINOR")]
    amount: Option<i64>,
    /// ISO 4217 code of the currency
    #[arg(long, value_name = "CODE")]
    currency: Option<String>,
}

impl MoneyArguments {
    fn put(self, body: &mut Map<String, Value>) {
        if let Some(amount) = self.amount {
            body.insert("amount_minor".to_owned(), amount.into());
        }
        if let Some(currency) = self.currency {
            body.insert("currency".to_owned(), currency.into());
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Outcome {
    Paid,
    Failed,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Failed => "failed",
        }
    }
}

pub(crate) async fn run(arguments: PaymentArguments) -> Result<(), Failure> {
    let session = arguments.access.open()?;
    let client = &session.client;
    match arguments.command {
        PaymentCommand::List { order } => list(&session, &order).await,
        PaymentCommand::Attempts { unknown, limit } => {
            let state = if unknown { "unknown" } else { "needs_operator" };
            let target = path(["v1", "attempts"]).with("state", Some(state));
            let found = client.list(&target, limit).await?;
            let names = [
                "id",
                "order_id",
                "state",
                "amount_minor",
                "expires_at",
                "detail",
            ];
            show::list(&session, &found, names)
        }
        PaymentCommand::Retry { attempt } => {
            let target = path(["v1", "attempts", &attempt, "retry"]);
            let asked = client.call(Method::POST, &target, None).await?;
            show::state(&session, &format!("attempt {attempt}"), &asked)
        }
        PaymentCommand::Settle(arguments) => settle(&session, arguments).await,
        PaymentCommand::Unmatched { all, limit } => {
            let state = (!all).then_some("open");
            let target = path(["v1", "unmatched-payments"]).with("state", state);
            let found = client.list(&target, limit).await?;
            let names = [
                "id",
                "kind",
                "state",
                "amount",
                "currency",
                "subject",
                "reports",
                "created_at",
            ];
            show::list(&session, &found, names)
        }
        PaymentCommand::Record(arguments) => record(&session, arguments).await,
        PaymentCommand::Book {
            unmatched,
            reference,
            note,
            asking,
        } => {
            let what = format!("record that the money of {unmatched} was dealt with: {reference}");
            if !ask(asking, &what)? {
                return Ok(());
            }
            let mut body = Map::new();
            body.insert("reference".to_owned(), reference.into());
            if let Some(note) = note {
                body.insert("note".to_owned(), note.into());
            }
            let target = path(["v1", "unmatched-payments", &unmatched, "settle"]);
            let settled = client.post(&target, &body.into()).await?;
            show::state(&session, &unmatched, &settled)
        }
    }
}

async fn list(session: &Session, order: &str) -> Result<(), Failure> {
    let id = id_of(session, order).await?;
    let target = path(["v1", "orders", &id, "payments"]);
    let found = session.client.get(&target).await?;
    session.print(&found, |view| {
        let list = |name: &str| found.get(name).and_then(Value::as_array).cloned();
        let attempts = list("attempts").unwrap_or_default();
        let names = [
            "id",
            "state",
            "amount_minor",
            "expires_at",
            "gateway_ref",
            "detail",
        ];
        let mut shown = show::rows(&attempts, names, view);
        shown.push('\n');
        let payments = list("payments").unwrap_or_default();
        let names = [
            "id",
            "kind",
            "amount_minor",
            "refunded_minor",
            "paid_at",
            "transaction_id",
        ];
        shown.push_str(&show::rows(&payments, names, view));
        shown
    })
}

async fn settle(session: &Session, arguments: SettleArguments) -> Result<(), Failure> {
    let attempt = &arguments.attempt;
    let (result, reference) = (arguments.result.name(), arguments.reference);
    let what = format!("settle attempt {attempt} as {result}: {reference}");
    if !ask(arguments.asking, &what)? {
        return Ok(());
    }
    let mut body = Map::new();
    body.insert("result".to_owned(), result.into());
    body.insert("reference".to_owned(), reference.into());
    arguments.money.put(&mut body);
    let target = path(["v1", "attempts", attempt, "settle"]);
    let settled = session.client.post(&target, &body.into()).await?;
    show::state(session, &format!("attempt {attempt}"), &settled)
}

async fn record(session: &Session, arguments: RecordArguments) -> Result<(), Failure> {
    let unmatched = &arguments.unmatched;
    if !ask(
        arguments.asking,
        &format!("record {unmatched} as a payment"),
    )? {
        return Ok(());
    }
    let mut body = Map::new();
    for (name, value) in [
        ("attempt_id", arguments.attempt),
        ("transaction_id", arguments.transaction),
    ] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.into());
        }
    }
    arguments.money.put(&mut body);
    let target = path(["v1", "unmatched-payments", unmatched, "record"]);
    let recorded = session.client.post(&target, &body.into()).await?;
    show::state(session, unmatched, &recorded)
}
