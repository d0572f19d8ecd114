//! Checks the invariants of the order platform in the database, from SQL alone.
//!
//! Every check is one statement that finds the rows which break a rule. The demo, the simulator and the tests run the
//! same checks.

use crate::error::Result;
use crate::ids::OrderId;
use crate::store::rows::column;
use crate::store::sql::{Readers, query, query_scalar};

/// Rows a check names at the most.
const EXAMPLES_MAX: i64 = 5;

/// One rule and what breaks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule, in a few words.
    pub rule: &'static str,
    /// How many rows break it.
    pub broken: u64,
    /// Ids of some of them.
    pub examples: Vec<String>,
}

/// What the platform holds, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Orders that wait for their payment or their deadline.
    pub pending: u64,
    /// Orders whose attempts are being closed at the gateway.
    pub closing: u64,
    /// Orders that were paid.
    pub paid: u64,
    /// Orders closed because their deadline passed.
    pub closed_by_timeout: u64,
    /// Orders closed by the buyer or the merchant.
    pub cancelled: u64,
    /// Payments of every kind.
    pub payments: u64,
    /// Payments that came for an order that could not take them, or were not what was asked.
    pub payments_to_give_back: u64,
    /// Of those, the ones whose refund the gateway has confirmed.
    pub payments_given_back: u64,
    /// How long the slowest of those refunds took, in ms.
    pub slowest_refund_ms: Option<u64>,
    /// Coupons issued.
    pub coupons: u64,
    /// Units put into stock, of all products.
    pub stocked: u64,
    /// Units available now.
    pub available: u64,
    /// Units held by orders that wait.
    pub held: u64,
    /// Units sold.
    pub sold: u64,
}

/// The rules: a name, and a statement that yields the id of every row that breaks it.
const RULES: [(&str, &str); 15] = [
    (
        "an order is never both paid and closed",
        "select o.id from orders o join payment p on p.order_id = o.id where o.state = 4 and p.kind = 1
         union select id from orders where paid_ms is not null and closed_ms is not null",
    ),
    (
        "no order is closed by timeout before its deadline",
        "select id from orders where state = 4 and close_reason = 1 and closed_ms < deadline_ms",
    ),
    (
        "a paid order has its payment, or nothing to pay",
        "select o.id from orders o left join payment p on p.id = o.payment_id and p.kind = 1
         where o.state = 3 and p.id is null and o.total_minor > o.discount_minor",
    ),
    (
        "stock is conserved",
        "select p.id from product p where p.stocked <> p.available + (select coalesce(sum(h.quantity - h.returned), 0)
         from hold h where h.product_id = p.id and h.state in (1, 2))",
    ),
    (
        "a closed order holds no stock",
        "select o.id from orders o join hold h on h.order_id = o.id where o.state = 4 and h.state <> 3",
    ),
    (
        "an order that waits holds its stock, a paid one has consumed it",
        "select o.id from orders o join hold h on h.order_id = o.id
         where (o.state in (1, 2) and h.state <> 1) or (o.state = 3 and h.state not in (2, 4))",
    ),
    (
        "money that could not be taken is refunded, once",
        "select p.id from payment p where p.kind <> 1
         and (select count(*) from refund r where r.auto_payment_id = p.id) <> 1",
    ),
    (
        "no payment is refunded beyond its amount",
        "select p.id from payment p where (select coalesce(sum(r.amount_minor), 0) from refund r
         where r.payment_id = p.id and r.released = 0) > p.amount_minor",
    ),
    (
        "an order has at most one coupon of a rule",
        "select source_order_id as id from coupon group by source_order_id, rule_id having count(*) > 1",
    ),
    (
        "a coupon was earned by a paid order",
        "select c.id from coupon c join orders o on o.id = c.source_order_id where o.state <> 3",
    ),
    (
        "every order that waits has its timer",
        "select o.id from orders o where o.state in (1, 2)
         and not exists (select 1 from timer t where t.kind = o.state and t.id = o.id)",
    ),
    (
        "every attempt and refund under way has its timer",
        "select a.id from attempt a where a.state = 1
         and not exists (select 1 from timer t where t.kind = 3 and t.id = a.id)
         union all select r.id from refund r where r.state in (1, 2, 3, 5)
         and not exists (select 1 from timer t where t.kind = 4 and t.id = r.id)",
    ),
    (
        "every webhook delivery that is due has its timer",
        "select d.id from webhook_delivery d where d.state = 1
         and not exists (select 1 from timer t where t.kind = 6 and t.id = d.id)",
    ),
    (
        "a webhook delivery waits only for one of its subject that is due",
        "select d.id from webhook_delivery d where d.state = 2
         and not exists (select 1 from webhook_delivery e
             where e.webhook_id = d.webhook_id and e.subject = d.subject and e.state = 1)",
    ),
    (
        "a parked timer has its pause",
        "select t.id from timer t where t.parked = 1 and not exists (select 1 from pause p
         where p.state <> 3 and (p.scope = 1 or p.merchant_id = t.merchant_id))",
    ),
];

/// Checks every rule; answers what breaks each. Reads whole tables.
pub(crate) async fn check(readers: &Readers) -> Result<Vec<Finding>> {
    let mut findings = Vec::with_capacity(RULES.len());
    for (rule, statement) in RULES {
        let count = format!("select count(*) from ({statement})");
        let broken: i64 = query_scalar(count).fetch_one(readers).await?;
        let examples = if broken == 0 {
            Vec::new()
        } else {
            examples(readers, statement).await?
        };
        findings.push(Finding {
            rule,
            broken: u64::try_from(broken).unwrap_or(0),
            examples,
        });
    }
    Ok(findings)
}

async fn examples(readers: &Readers, statement: &'static str) -> Result<Vec<String>> {
    let some = format!("select hex(id) as id from ({statement}) limit ?");
    let rows = query(some).bind(EXAMPLES_MAX).fetch_all(readers).await?;
    rows.iter().map(|row| column(row, "id")).collect()
}

/// Counts what the platform holds.
pub(crate) async fn tally(readers: &Readers) -> Result<Tally> {
    let row = query(
        "select
           (select count(*) from orders where state = 1) as pending,
           (select count(*) from orders where state = 2) as closing,
           (select count(*) from orders where state = 3) as paid,
           (select count(*) from orders where state = 4 and close_reason = 1) as closed_by_timeout,
           (select count(*) from orders where state = 4 and close_reason <> 1) as cancelled,
           (select count(*) from payment) as payments,
           (select count(*) from payment where kind <> 1) as payments_to_give_back,
           (select count(*) from refund where auto_payment_id is not null and state = 4) as payments_given_back,
           (select max(final_ms - created_ms) from refund where auto_payment_id is not null and state = 4) as slowest_refund_ms,
           (select count(*) from coupon) as coupons,
           (select coalesce(sum(stocked), 0) from product) as stocked,
           (select coalesce(sum(available), 0) from product) as available,
           (select coalesce(sum(quantity), 0) from hold where state = 1) as held,
           (select coalesce(sum(quantity - returned), 0) from hold where state = 2) as sold",
    )
    .fetch_one(readers)
    .await?;
    let number = |name: &'static str| -> Result<u64> {
        let number: i64 = column(&row, name)?;
        Ok(u64::try_from(number).unwrap_or(0))
    };
    Ok(Tally {
        pending: number("pending")?,
        closing: number("closing")?,
        paid: number("paid")?,
        closed_by_timeout: number("closed_by_timeout")?,
        cancelled: number("cancelled")?,
        payments: number("payments")?,
        payments_to_give_back: number("payments_to_give_back")?,
        payments_given_back: number("payments_given_back")?,
        slowest_refund_ms: column::<Option<i64>>(&row, "slowest_refund_ms")?
            .and_then(|ms| u64::try_from(ms).ok()),
        coupons: number("coupons")?,
        stocked: number("stocked")?,
        available: number("available")?,
        held: number("held")?,
        sold: number("sold")?,
    })
}

/// Orders that wait for their payment, their deadline or a gateway.
pub(crate) async fn open_orders(readers: &Readers) -> Result<u64> {
    let open: i64 = query_scalar("select count(*) from orders where merchant_id in (select id from merchant) and state in (1, 2)")
        .fetch_one(readers)
        .await?;
    Ok(u64::try_from(open).unwrap_or(0))
}

/// How long after its deadline each order that was closed by timeout was closed, in ms.
pub(crate) async fn close_lags_ms(readers: &Readers) -> Result<Vec<(OrderId, i64)>> {
    let rows = query("select id, closed_ms - deadline_ms as lag_ms from orders where state = 4 and close_reason = 1")
        .fetch_all(readers)
        .await?;
    rows.iter()
        .map(|row| Ok((column(row, "id")?, column(row, "lag_ms")?)))
        .collect()
}
