//! Provides `duetime order`.

use std::time::Duration;

use broker::clock::monotonic;
use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Value, json};

use super::super::api::{Target, path};
use super::super::confirm::{Asking, ask};
use super::super::format::{View, text};
use super::super::session::Session;
use super::super::time::{Span, parse_instant, parse_span};
use super::access::Access;
use super::show;
use crate::failure::{Failure, failed, usage};

/// Orders
#[derive(Clone, Debug, Args)]
#[command(disable_help_subcommand = true)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime order list --state closing\n\
    \x20 duetime order show A-17                   by its id or the merchant's number\n\
    \x20 duetime order watch A-17                  until it is paid or closed\n\
    \x20 duetime order close A-17 --yes            whatever its gateway says\n\
    \x20 duetime order pause maintenance --all\n\
    \x20 duetime order list --as shop-1 --json | jq .id")]
pub(crate) struct OrderArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: OrderCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum OrderCommand {
    /// List orders, oldest first
    List {
        /// Only those in this state
        #[arg(long, value_enum)]
        state: Option<State>,
        /// Most orders to list
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show an order with its audit trail
    Show {
        /// The order's id, or the merchant's number of it
        order: String,
    },
    /// Print what happens to an order until it is paid or closed
    Watch {
        /// The order's id, or the merchant's number of it
        order: String,
        /// How often to look
        #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_span)]
        every: Span,
    },
    /// Cancel an order that is not paid
    Cancel {
        /// The order's id, or the merchant's number of it
        order: String,
        /// On behalf of the buyer
        #[arg(long)]
        buyer: bool,
    },
    /// Move the deadline of an order
    Extend {
        /// The order's id, or the merchant's number of it
        order: String,
        /// The new deadline, as in RFC 3339
        #[arg(value_parser = parse_instant)]
        deadline: jiff::Timestamp,
    },
    /// Close an order now, whatever its gateway says
    Close {
        /// The order's id, or the merchant's number of it
        order: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Pause closing: of the merchant, an account, or everything
    Pause {
        /// Why
        reason: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// End a pause, or list the pauses
    Resume {
        /// Only list the pauses that have not ended
        #[arg(long)]
        list: bool,
        #[command(flatten)]
        scope: Scope,
    },
}

#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
struct Scope {
    /// Everything, of all merchants
    #[arg(long)]
    all: bool,
    /// Orders that go through this gateway account
    #[arg(long, value_name = "ACCOUNT")]
    gateway: Option<String>,
}

impl Scope {
    /// As the API takes it.
    fn body(&self) -> Value {
        match &self.gateway {
            Some(account) => json!({ "scope": "gateway", "account_id": account }),
            None if self.all => json!({ "scope": "all" }),
            None => json!({ "scope": "merchant" }),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Pending,
    Closing,
    Paid,
    Closed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Closing => "closing",
            Self::Paid => "paid",
            Self::Closed => "closed",
        }
    }
}

/// What is shown of one order.
const MEMBERS: [&str; 13] = [
    "id",
    "merchant_order_no",
    "buyer_id",
    "state",
    "close_reason",
    "total_minor",
    "discount_minor",
    "payable_minor",
    "deadline",
    "created_at",
    "paid_at",
    "closed_at",
    "version",
];

/// What is shown of an entry of an audit trail.
pub(super) const TRAIL: [&str; 7] = [
    "at",
    "actor",
    "who",
    "action",
    "from_state",
    "to_state",
    "detail",
];

pub(crate) async fn run(arguments: OrderArguments) -> Result<(), Failure> {
    let session = arguments.access.open()?;
    match arguments.command {
        OrderCommand::List { state, limit } => {
            let target = path(["v1", "orders"]).with("state", state.map(State::name));
            let found = session.client.list(&target, limit).await?;
            let names = [
                "id",
                "merchant_order_no",
                "state",
                "payable_minor",
                "deadline",
            ];
            show::list(&session, &found, names)
        }
        OrderCommand::Show { order } => {
            let found = session
                .client
                .get(&target(&session, &order, []).await?)
                .await?;
            session.print(&found, |view| with_lines(&found, view))
        }
        OrderCommand::Watch { order, every } => watch(&session, &order, every).await,
        OrderCommand::Cancel { order, buyer } => {
            let target = target(&session, &order, ["cancel"]).await?;
            let reason = if buyer { "buyer" } else { "merchant" };
            let body = json!({ "reason": reason });
            let cancelled = session.client.post(&target, &body).await?;
            show::state(&session, &format!("order {order}"), &cancelled)
        }
        OrderCommand::Extend { order, deadline } => {
            let target = target(&session, &order, ["deadline"]).await?;
            let body = json!({ "deadline": format!("{deadline:.3}") });
            let extended = session
                .client
                .call(Method::PUT, &target, Some(&body))
                .await?;
            session.done(&extended, |view| {
                let deadline = show::member(&extended, "deadline", view);
                format!("order {order} is due {deadline}")
            })
        }
        OrderCommand::Close { order, asking } => close(&session, &order, asking).await,
        OrderCommand::Pause { reason, scope } => {
            let mut body = scope.body();
            if let Some(members) = body.as_object_mut() {
                members.insert("reason".to_owned(), reason.into());
            }
            let paused = session.client.post(&path(["v1", "pause"]), &body).await?;
            show::state(&session, "closing", &paused)
        }
        OrderCommand::Resume { list: true, .. } => {
            let pauses = session.client.whole_list(&path(["v1", "pauses"])).await?;
            let names = ["scope", "subject", "state", "cause", "since", "reason"];
            show::list(&session, &pauses, names)
        }
        OrderCommand::Resume { scope, .. } => {
            let target = path(["v1", "resume"]);
            let resumed = session.client.post(&target, &scope.body()).await?;
            show::state(&session, "the pause", &resumed)
        }
    }
}

/// The path of an order and what is below it. An order that is no id is looked up by the merchant's number.
async fn target<const N: usize>(
    session: &Session,
    order: &str,
    below: [&str; N],
) -> Result<Target, Failure> {
    let id = id_of(session, order).await?;
    let order = path(["v1", "orders", &id]);
    Ok(below.into_iter().fold(order, Target::and))
}

/// The id of an order that is named by its id or by the merchant's number.
pub(super) async fn id_of(session: &Session, order: &str) -> Result<String, Failure> {
    if order.starts_with("ord_") {
        return Ok(order.to_owned());
    }
    let numbered = path(["v1", "orders"]).with("merchant_order_no", Some(order));
    let found = session.client.whole_list(&numbered).await?;
    let id = found.items.first().and_then(|order| order.get("id"));
    let id = id.and_then(Value::as_str);
    id.map(str::to_owned)
        .ok_or_else(|| failed(format!("the merchant has no order {order}")))
}

async fn close(session: &Session, order: &str, asking: Asking) -> Result<(), Failure> {
    let found = session
        .client
        .get(&target(session, order, []).await?)
        .await?;
    let what = format!(
        "close order {order}, which is {}, and refund money that still comes",
        text(found.get("state"))
    );
    if !ask(asking, &what)? {
        return Ok(());
    }
    let target = target(session, order, ["close"]).await?;
    let closed = session.client.call(Method::POST, &target, None).await?;
    show::state(session, &format!("order {order}"), &closed)
}

/// Prints each entry of the order's audit trail once, as it comes.
async fn watch(session: &Session, order: &str, every: Span) -> Result<(), Failure> {
    let every = Duration::from_millis(every.ms());
    if every.is_zero() {
        return Err(usage("--every is more than 0s"));
    }
    let target = target(session, order, []).await?;
    let mut seen = 0;
    loop {
        let found = session.client.get(&target).await?;
        let trail = found.get("audit").and_then(Value::as_array);
        let trail = trail.map_or(&[][..], Vec::as_slice);
        for entry in trail.iter().skip(seen) {
            session.print(entry, |view| line(entry, view))?;
        }
        seen = std::cmp::max(seen, trail.len());
        let state = text(found.get("state"));
        if state == "paid" || state == "closed" {
            return Ok(());
        }
        monotonic::sleep(every).await;
    }
}

/// An entry of an audit trail on one line.
fn line(entry: &Value, view: &View) -> String {
    let member = |name: &str| show::member(entry, name, view);
    let states = match (entry.get("from_state"), entry.get("to_state")) {
        (Some(from), Some(to)) => format!("  {} -> {}", text(Some(from)), text(Some(to))),
        (None, Some(to)) => format!("  {}", text(Some(to))),
        _ => String::new(),
    };
    let detail = entry
        .get("detail")
        .map(|detail| format!("  {}", text(Some(detail))));
    format!(
        "{}  {} {}{states}{}\n",
        member("at"),
        member("actor"),
        member("action"),
        detail.unwrap_or_default()
    )
}

fn with_lines(order: &Value, view: &View) -> String {
    let mut shown = show::members(order, &MEMBERS, view);
    let list = |name: &str| order.get(name).and_then(Value::as_array).cloned();
    let mut lines = list("lines").unwrap_or_default();
    for line in &mut lines {
        if let (Some(members), Some(currency)) = (line.as_object_mut(), order.get("currency")) {
            members.insert("currency".to_owned(), currency.clone());
        }
    }
    shown.push('\n');
    let names = [
        "line_no",
        "product_id",
        "name",
        "quantity",
        "unit_price_minor",
    ];
    shown.push_str(&show::rows(&lines, names, view));
    if let Some(trail) = list("audit") {
        shown.push('\n');
        shown.push_str(&show::rows(&trail, TRAIL, view));
    }
    shown
}
