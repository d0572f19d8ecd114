//! Provides `duetime refund`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::super::api::path;
use super::super::confirm::{Asking, ask};
use super::super::session::Session;
use super::access::Access;
use super::orders::id_of;
use super::show;
use crate::failure::Failure;

/// Refunds
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime refund list --state needs_operator\n\
    \x20 duetime refund create A-17 R-1 --amount 500\n\
    \x20 duetime refund retry ref_01ka0000000000000000000001\n\
    \x20 duetime refund settle ref_01ka0000000000000000000001 transfer-7 --yes")]
pub(crate) struct RefundArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: RefundCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum RefundCommand {
    /// List refunds, oldest first
    List {
        /// Only those in this state, such as `needs_operator`
        #[arg(long)]
        state: Option<String>,
        /// Only those of this order
        #[arg(long, conflicts_with = "state")]
        order: Option<String>,
        /// Most refunds to list
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show a refund
    Show {
        /// The refund
        refund: String,
    },
    /// Give money of a paid order back
    Create {
        /// The order's id, or the merchant's number of it
        order: String,
        /// The merchant's number of the refund
        number: String,
        /// How much, in minor units; all that is left by default
        #[arg(long, value_name = "MINOR")]
        amount: Option<i64>,
        /// Put the units back into stock; only with all that is left
        #[arg(long, conflicts_with = "amount")]
        restock: bool,
    },
    /// Try a refund again that needs an operator
    Retry {
        /// The refund
        refund: String,
    },
    /// Withdraw a refund that needs an operator
    Abandon {
        /// The refund
        refund: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Record that the money went back by other means
    Settle {
        /// The refund
        refund: String,
        /// By what, such as the number of a transfer
        reference: String,
        #[command(flatten)]
        asking: Asking,
    },
}

const MEMBERS: [&str; 12] = [
    "id",
    "refund_no",
    "order_id",
    "payment_id",
    "state",
    "cause",
    "amount_minor",
    "restock",
    "reference",
    "detail",
    "created_at",
    "ended_at",
];

pub(crate) async fn run(arguments: RefundArguments) -> Result<(), Failure> {
    let access = arguments.access;
    let session = match &arguments.command {
        RefundCommand::Create { .. } => access.open_to_create()?,
        _ => access.open()?,
    };
    let client = &session.client;
    match arguments.command {
        RefundCommand::List {
            state,
            order,
            limit,
        } => {
            let found = if let Some(order) = order {
                let id = id_of(&session, &order).await?;
                let target = path(["v1", "orders", &id, "refunds"]);
                client.whole_list(&target).await?
            } else {
                let target = path(["v1", "refunds"]).with("state", state.as_deref());
                client.list(&target, limit).await?
            };
            let names = ["id", "order_id", "state", "cause", "amount_minor", "detail"];
            show::list(&session, &found, names)
        }
        RefundCommand::Show { refund } => {
            let target = path(["v1", "refunds", &refund]);
            show::object(&session, &client.get(&target).await?, &MEMBERS)
        }
        RefundCommand::Create {
            order,
            number,
            amount,
            restock,
        } => {
            let mut body = json!({ "refund_no": number, "restock": restock });
            if let (Some(members), Some(amount)) = (body.as_object_mut(), amount) {
                members.insert("amount_minor".to_owned(), amount.into());
            }
            create(&session, &order, body).await
        }
        RefundCommand::Retry { refund } => {
            let target = path(["v1", "refunds", &refund, "retry"]);
            let retried = client.call(Method::POST, &target, None).await?;
            show::state(&session, &format!("refund {refund}"), &retried)
        }
        RefundCommand::Abandon { refund, asking } => {
            if !ask(asking, &format!("withdraw refund {refund}"))? {
                return Ok(());
            }
            let target = path(["v1", "refunds", &refund, "abandon"]);
            let withdrawn = client.call(Method::POST, &target, None).await?;
            show::state(&session, &format!("refund {refund}"), &withdrawn)
        }
        RefundCommand::Settle {
            refund,
            reference,
            asking,
        } => {
            if !ask(asking, &format!("settle refund {refund} by {reference}"))? {
                return Ok(());
            }
            let target = path(["v1", "refunds", &refund]).and("settle");
            let settled = client
                .post(&target, &json!({ "reference": reference }))
                .await?;
            show::state(&session, &format!("refund {refund}"), &settled)
        }
    }
}

async fn create(session: &Session, order: &str, body: Value) -> Result<(), Failure> {
    let id = id_of(session, order).await?;
    let target = path(["v1", "orders", &id, "refunds"]);
    let made = session.client.post(&target, &body).await?;
    show::object(session, &made, &MEMBERS)
}
