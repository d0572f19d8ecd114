//! Provides `duetime merchant`.

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Map, json};

use super::super::api::path;
use super::super::confirm::{Asking, ask};
use super::super::session::Session;
use super::super::time::parse_instant;
use super::access::Access;
use super::orders::TRAIL;
use super::show;
use crate::failure::Failure;

/// Merchants, their API keys and gateway accounts, and audit trails
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime merchant create shop-1 Shop-One\n\
    \x20 duetime merchant key shop-1 web-shop --scope read --scope write\n\
    \x20 duetime merchant keys shop-1\n\
    \x20 duetime merchant audit prd_01ka0000000000000000000001")]
pub(crate) struct MerchantArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: MerchantCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum MerchantCommand {
    /// List the merchants
    List,
    /// Create a merchant
    Create {
        /// Its id: 1 to 32 of `a-z`, `0-9`, `_` and `-`
        merchant: String,
        /// Its name
        name: String,
    },
    /// List the API keys of a merchant
    Keys {
        /// The merchant
        merchant: String,
    },
    /// Create an API key and print it
    Key(KeyArguments),
    /// Revoke an API key
    Revoke {
        /// The merchant
        merchant: String,
        /// The key's id
        key: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// List the gateway accounts of the merchant
    Accounts,
    /// Show what was done to a thing of the merchant
    Audit {
        /// The id of an order, product, coupon, rule, unmatched payment or merchant
        subject: String,
        /// Most entries to list
        #[arg(long, default_value_t = 200)]
        limit: usize,
    },
}

#[derive(Clone, Debug, Args)]
struct KeyArguments {
    /// The merchant
    merchant: String,
    /// Its name
    label: String,
    /// What it may do; everything by default
    #[arg(long = "scope", value_enum)]
    scopes: Vec<Scope>,
    /// From when on it is not accepted, as in RFC 3339
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
    expires: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scope {
    Read,
    Write,
    Refund,
    Admin,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Refund => "refund",
            Self::Admin => "admin",
        }
    }
}

pub(crate) async fn run(arguments: MerchantArguments) -> Result<(), Failure> {
    let session = arguments.access.open()?;
    let client = &session.client;
    match arguments.command {
        MerchantCommand::List => {
            let found = client.whole_list(&path(["v1", "merchants"])).await?;
            show::list(&session, &found, ["id", "name", "created_at"])
        }
        MerchantCommand::Create { merchant, name } => {
            let body = json!({ "id": merchant, "name": name });
            let made = client.post(&path(["v1", "merchants"]), &body).await?;
            session.done(&made, |_| format!("created merchant {merchant}"))
        }
        MerchantCommand::Keys { merchant } => {
            let target = path(["v1", "merchants", &merchant, "keys"]);
            let found = client.whole_list(&target).await?;
            let names = [
                "id",
                "label",
                "scopes",
                "created_at",
                "expires_at",
                "last_used_at",
                "revoked_at",
            ];
            show::list(&session, &found, names)
        }
        MerchantCommand::Key(arguments) => key(&session, arguments).await,
        MerchantCommand::Revoke {
            merchant,
            key,
            asking,
        } => {
            if !ask(asking, &format!("revoke key {key} of merchant {merchant}"))? {
                return Ok(());
            }
            let target = path(["v1", "merchants", &merchant, "keys", &key]);
            client.call(Method::DELETE, &target, None).await?;
            session.done(&json!({ "revoked": key }), |_| format!("revoked key {key}"))
        }
        MerchantCommand::Accounts => {
            let found = client.whole_list(&path(["v1", "gateways"])).await?;
            show::list(&session, &found, ["id", "gateway", "name", "created_at"])
        }
        MerchantCommand::Audit { subject, limit } => {
            let target = path(["v1", "audit"]).with("subject", Some(&subject));
            let found = client.list(&target, limit).await?;
            show::list(&session, &found, TRAIL)
        }
    }
}

async fn key(session: &Session, arguments: KeyArguments) -> Result<(), Failure> {
    let mut body = Map::new();
    body.insert("label".to_owned(), arguments.label.into());
    if !arguments.scopes.is_empty() {
        let names: Vec<_> = arguments.scopes.iter().map(|scope| scope.name()).collect();
        body.insert("scopes".to_owned(), names.into());
    }
    if let Some(expires) = arguments.expires {
        body.insert("expires_at".to_owned(), format!("{expires:.3}").into());
    }
    let target = path(["v1", "merchants", &arguments.merchant, "keys"]);
    let made = session.client.post(&target, &body.into()).await?;
    show::object(
        session,
        &made,
        &["id", "label", "scopes", "expires_at", "secret"],
    )
}
