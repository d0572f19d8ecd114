//! Provides the judge of a simulated shop: it remembers what was promised and compares it with what the platform says.

use std::collections::{BTreeMap, BTreeSet};

use orders::{
    CloseReason, MerchantId, Order, OrderId, OrderState, PaymentKind, Platform, ProductId, Refund,
    RefundState, Swept,
};

use crate::oracle::Violation;
use crate::shop::gateway::{Book, GivenState};
use crate::shop::scene::{Stage, defect};

/// How late an order may close when nothing fails any longer, in ms, on a disk that syncs at once.
const LAG_MS_MAX: i64 = 1_000;
/// Syncs that may stand between a deadline and the end of its order: each consumer waits for one in turn.
const LAG_SYNCS_MAX: i64 = 12;
/// Coupons of a buyer that are looked at.
const COUPONS_MAX: usize = 200;

/// What is to be refunded of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Nothing,
    /// Money.
    Money,
    /// Money, and the units go back into stock.
    Restock,
}

/// What is known of an order.
#[derive(Clone, Debug)]
struct Known {
    state: OrderState,
    /// The latest deadline that was promised.
    deadline_ms: i64,
    lines: Vec<(ProductId, i64)>,
    buyer_id: String,
    /// Its cancellation was asked for.
    cancelled: bool,
    refund: Wish,
    /// Nothing failed any longer when its deadline came.
    punctual: bool,
}

/// The judge.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    orders: BTreeMap<OrderId, Known>,
    /// What was put into stock.
    stock: BTreeMap<ProductId, i64>,
}

/// Names the invariant that is broken.
fn broken<T>(invariant: u8, what: impl Into<String>) -> Result<T, Violation> {
    let what = what.into();
    Err(Violation { invariant, what })
}

fn ensure(holds: bool, invariant: u8, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds {
        return Ok(());
    }
    broken(invariant, what())
}

fn is_final(state: OrderState) -> bool {
    matches!(state, OrderState::Paid | OrderState::Closed)
}

impl Judge {
    /// A product was made with so many units.
    pub(crate) fn stocked(&mut self, id: ProductId, units: i64) {
        self.stock.insert(id, units);
    }

    /// An order was made.
    pub(crate) fn created(&mut self, order: &Order) {
        let lines = order.lines.iter();
        let known = Known {
            state: OrderState::Pending,
            deadline_ms: order.deadline_ms,
            lines: lines.map(|line| (line.product_id, line.quantity)).collect(),
            buyer_id: order.buyer_id.clone(),
            cancelled: false,
            refund: Wish::Nothing,
            punctual: false,
        };
        self.orders.insert(order.id, known);
    }

    fn known(&mut self, id: OrderId) -> Result<&mut Known, Violation> {
        match self.orders.get_mut(&id) {
            Some(known) => Ok(known),
            None => broken(13, format!("order {id} was never created")),
        }
    }

    /// The latest deadline that was promised, in ms.
    pub(crate) fn deadline_ms(&self, id: OrderId) -> Option<i64> {
        self.orders.get(&id).map(|known| known.deadline_ms)
    }

    /// Its deadline was moved.
    pub(crate) fn promised(&mut self, id: OrderId, deadline_ms: i64) -> Result<(), Violation> {
        let known = self.known(id)?;
        ensure(deadline_ms >= known.deadline_ms, 10, || {
            format!(
                "the deadline of order {id} went from {} back to {deadline_ms}",
                known.deadline_ms
            )
        })?;
        known.deadline_ms = deadline_ms;
        Ok(())
    }

    /// Its cancellation was asked for.
    pub(crate) fn cancelled(&mut self, id: OrderId) {
        if let Some(known) = self.orders.get_mut(&id) {
            known.cancelled = true;
        }
    }

    /// A refund was asked for.
    pub(crate) fn refunded(&mut self, id: OrderId, restock: bool) {
        if let Some(known) = self.orders.get_mut(&id) {
            let wish = if restock { Wish::Restock } else { Wish::Money };
            known.refund = std::cmp::max(known.refund, wish);
        }
    }

    /// Nothing fails any longer: orders that wait and whose deadline is far enough ahead close in time.
    pub(crate) fn calm(&mut self, from_ms: i64) {
        for known in self.orders.values_mut() {
            known.punctual = known.state == OrderState::Pending && known.deadline_ms > from_ms;
        }
    }

    /// An order as it is seen when the engine clock has come to `latest_ms`.
    pub(crate) fn observe(&mut self, order: &Order, latest_ms: i64) -> Result<(), Violation> {
        let id = order.id;
        let known = self.known(id)?;
        let state = order.state;
        let legal = match known.state {
            OrderState::Pending => true,
            OrderState::Closing => state != OrderState::Pending,
            // A paid order that there was nothing to pay for can be cancelled.
            OrderState::Paid if order.payable_minor == 0 && known.cancelled => true,
            OrderState::Paid | OrderState::Closed => state == known.state,
        };
        ensure(legal, 9, || {
            format!("order {id} went from {} to {state}", known.state)
        })?;
        known.state = state;
        ensure(order.deadline_ms >= known.deadline_ms, 10, || {
            format!(
                "order {id} was promised {} and has {}",
                known.deadline_ms, order.deadline_ms
            )
        })?;
        known.deadline_ms = order.deadline_ms;
        match order.close_reason {
            Some(reason) if state == OrderState::Paid => ensure(false, 9, || {
                format!("order {id} is paid and closed by {}", reason.as_str())
            }),
            Some(CloseReason::Timeout) if state == OrderState::Closed => {
                let closed_ms = order.closed_ms.unwrap_or(0);
                let in_time = closed_ms >= order.deadline_ms && latest_ms >= order.deadline_ms;
                ensure(in_time, 10, || {
                    format!(
                        "order {id} closed at {closed_ms}, seen at {latest_ms}, before its deadline {}",
                        order.deadline_ms
                    )
                })
            }
            Some(CloseReason::Buyer | CloseReason::Merchant) => ensure(known.cancelled, 10, || {
                format!("order {id} was cancelled without a request")
            }),
            _ => Ok(()),
        }
    }

    /// The orders that are open as far as is known, or all.
    pub(crate) fn ids(&self, all: bool) -> Vec<OrderId> {
        let known = self.orders.iter();
        known
            .filter(|(_, known)| all || !is_final(known.state))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Everybody who bought something.
    fn buyers(&self) -> BTreeSet<String> {
        let known = self.orders.values();
        known.map(|known| known.buyer_id.clone()).collect()
    }
}

/// Rules that hold at any moment, as the platform itself knows them.
pub(crate) async fn check_rules(platform: &Platform) -> Result<(), Violation> {
    let findings = platform.verify().await;
    for finding in findings.or_else(|error| defect("verify", &error))? {
        ensure(finding.broken == 0, 13, || {
            format!("{}: {:?}", finding.rule, finding.examples)
        })?;
    }
    Ok(())
}

/// What holds once everything has come to its end.
pub(crate) async fn check_end(stage: &Stage, platform: &Platform) -> Result<(), Violation> {
    check_rules(platform).await?;
    let merchant = MerchantId::fallback();
    let known: Vec<(OrderId, Known)> = {
        let scene = stage.scene();
        let orders = scene.judge.orders.iter();
        orders.map(|(id, known)| (*id, known.clone())).collect()
    };
    for (id, known) in &known {
        let order = platform.order(&merchant, *id).await;
        let order = order.or_else(|error| defect("an order", &error))?;
        ensure(is_final(order.state), 11, || {
            format!(
                "order {id} is {} long after its deadline {}",
                order.state, order.deadline_ms
            )
        })?;
        if known.punctual && order.close_reason == Some(CloseReason::Timeout) {
            let attempts = platform.attempts(&merchant, *id).await;
            let attempts = attempts.or_else(|error| defect("attempts", &error))?;
            let lag_ms = order.closed_ms.unwrap_or(i64::MAX) - order.deadline_ms;
            let most_ms = LAG_MS_MAX + LAG_SYNCS_MAX * stage.sync_ms_max;
            ensure(!attempts.is_empty() || lag_ms <= most_ms, 8, || {
                format!("order {id} closed {lag_ms} ms late, with nothing broken")
            })?;
        }
        check_money(stage, platform, &order).await?;
    }
    check_stock(stage, platform, &known).await?;
    check_coupons(stage, platform, &known).await?;
    check_rest(stage, platform).await
}

/// Nothing is left over: no message, no timer that should have fired, no misuse of the gateway.
async fn check_rest(stage: &Stage, platform: &Platform) -> Result<(), Violation> {
    let unpublished = platform.unpublished().await;
    let unpublished = unpublished.or_else(|error| defect("the outbox", &error))?;
    ensure(unpublished == 0, 11, || {
        format!("{unpublished} messages were never published")
    })?;
    let swept = platform.sweep().await;
    let swept = swept.or_else(|error| defect("sweep", &error))?;
    ensure(swept == Swept::default(), 14, || {
        format!("the sweeper found something: {swept:?}")
    })?;
    let misuse = stage.scene().book.misuse.clone();
    misuse.map_or(Ok(()), |misuse| broken(9, misuse))
}

/// All money that came is recorded once, and what did not pay the order went back, once.
async fn check_money(stage: &Stage, platform: &Platform, order: &Order) -> Result<(), Violation> {
    let (merchant, id) = (MerchantId::fallback(), order.id);
    let payments = platform.payments(&merchant, id).await;
    let payments = payments.or_else(|error| defect("payments", &error))?;
    let refunds = platform.refunds(&merchant, id).await;
    let refunds = refunds.or_else(|error| defect("refunds", &error))?;
    let scene = stage.scene();
    let text = id.to_string();
    let attempts = scene.book.attempts.values();
    let taken: BTreeMap<&str, i64> = attempts
        .filter(|entry| entry.order_id == text)
        .flat_map(|entry| &entry.payments)
        .map(|paid| (paid.transaction_id.as_str(), paid.money.amount))
        .collect();
    let recorded: BTreeMap<&str, i64> = payments
        .iter()
        .map(|payment| (payment.gateway_txn.as_str(), payment.amount_minor))
        .collect();
    ensure(
        taken == recorded && recorded.len() == payments.len(),
        9,
        || format!("order {id}: the gateway took {taken:?}, the platform knows {recorded:?}"),
    )?;
    let accepted = payments
        .iter()
        .filter(|payment| payment.kind == PaymentKind::Accepted)
        .count();
    let wanted = usize::from(order.state == OrderState::Paid && order.payable_minor > 0);
    ensure(accepted == wanted, 9, || {
        format!(
            "order {id} is {} with {accepted} accepted payments",
            order.state
        )
    })?;
    for payment in &payments {
        let given: i64 = refunds
            .iter()
            .filter(|refund| refund.payment_id == payment.id && !refund.released)
            .map(|refund| refund.amount_minor)
            .sum();
        let right = match payment.kind {
            PaymentKind::Accepted => given <= payment.amount_minor,
            _ => given == payment.amount_minor,
        };
        ensure(right && given == payment.refunded_minor, 9, || {
            format!("order {id}: {given} given back of {payment:?}")
        })?;
    }
    for refund in &refunds {
        let payment = payments
            .iter()
            .find(|payment| payment.id == refund.payment_id);
        let transaction_id = payment.map_or("", |payment| payment.gateway_txn.as_str());
        check_refund(&scene.book, refund, transaction_id)?;
    }
    Ok(())
}

/// A refund ended as the gateway's book says.
fn check_refund(book: &Book, refund: &Refund, transaction_id: &str) -> Result<(), Violation> {
    let given = book.refunds.get(&refund.id.to_string());
    let right = match (refund.state, given) {
        // A person gave it back by other means.
        (RefundState::Succeeded, given) if refund.reference.is_some() => {
            given.is_none_or(|given| given.state != GivenState::Done)
        }
        (RefundState::Succeeded, Some(given)) => {
            given.state == GivenState::Done
                && given.amount == refund.amount_minor
                && given.transaction_id == transaction_id
        }
        (RefundState::NeedsOperator | RefundState::Withdrawn, Some(given)) => {
            given.state != GivenState::Done
        }
        (RefundState::NeedsOperator | RefundState::Withdrawn, None) => true,
        _ => false,
    };
    ensure(right, 9, || {
        format!("{refund:?} of {transaction_id}, the gateway says {given:?}")
    })
}

/// Each product has what was put there less what was sold.
async fn check_stock(
    stage: &Stage,
    platform: &Platform,
    known: &[(OrderId, Known)],
) -> Result<(), Violation> {
    let stock = stage.scene().judge.stock.clone();
    for (product_id, units) in stock {
        let (mut sold, mut restocked) = (0, 0);
        for (_, order) in known {
            if order.state != OrderState::Paid {
                continue;
            }
            let lines = order.lines.iter().filter(|(id, _)| *id == product_id);
            let quantity: i64 = lines.map(|(_, quantity)| quantity).sum();
            sold += quantity;
            restocked += if order.refund == Wish::Restock {
                quantity
            } else {
                0
            };
        }
        let product = platform.product(&MerchantId::fallback(), product_id).await;
        let product = product.or_else(|error| defect("a product", &error))?;
        let most = units - sold + restocked;
        ensure(
            (units - sold..=most).contains(&product.available),
            12,
            || {
                format!(
                    "{} of product {product_id} are available; {units} were stocked, {sold} sold, up to {restocked} came back",
                    product.available
                )
            },
        )?;
    }
    Ok(())
}

/// A paid order earns one coupon, nothing else earns any, and a coupon pays for one order.
async fn check_coupons(
    stage: &Stage,
    platform: &Platform,
    known: &[(OrderId, Known)],
) -> Result<(), Violation> {
    let merchant = MerchantId::fallback();
    let buyers = stage.scene().judge.buyers();
    let mut earned: BTreeMap<OrderId, u32> = BTreeMap::new();
    for buyer_id in buyers {
        let coupons = platform
            .coupons_of_buyer(&merchant, &buyer_id, None, COUPONS_MAX)
            .await;
        for coupon in coupons.or_else(|error| defect("coupons", &error))? {
            *earned.entry(coupon.source_order_id).or_default() += 1;
        }
    }
    let mut spent = BTreeSet::new();
    for (id, order) in known {
        let count = earned.remove(id).unwrap_or(0);
        let found = platform.order(&merchant, *id).await;
        let found = found.or_else(|error| defect("an order", &error))?;
        let paid = found.state == OrderState::Paid;
        let most = u32::from(paid && found.payable_minor > 0);
        let least = if order.refund > Wish::Nothing {
            0
        } else {
            most
        };
        ensure((least..=most).contains(&count), 12, || {
            format!("order {id} is {} and earned {count} coupons", found.state)
        })?;
        if let Some(coupon_id) = found.coupon_id.filter(|_| paid) {
            ensure(spent.insert(coupon_id), 12, || {
                format!("coupon {coupon_id} paid for order {id} and for another")
            })?;
        }
    }
    ensure(earned.is_empty(), 12, || {
        format!("orders that were never created earned coupons: {earned:?}")
    })
}
