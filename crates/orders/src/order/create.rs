//! Creates orders: takes the stock, holds the coupon and arms the deadline in one transaction.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::coupon;
use crate::error::{Error, Result, check_range, check_text};
use crate::ids::{CouponId, MerchantId, OrderId, ProductId};
use crate::limits::{AMOUNT_MINOR_MAX, LINES_MAX, QUANTITY_MAX, REFERENCE_CHARS_MAX};
use crate::model::audit::{Actor, NewAudit};
use crate::model::event::EventType;
use crate::model::order::{HoldState, Order, OrderLine, OrderState};
use crate::model::product::Taken;
use crate::model::timer::{NewTimer, TimerKind};
use crate::order::event::emit;
use crate::platform::Platform;
use crate::product;
use crate::store::idempotency::{Answered, Idempotency, Keyed};
use crate::store::{Tx, orders};
use crate::timer;

/// When a new order must be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// After the platform's configured time.
    Standard,
    /// This many ms after the order's creation.
    AfterMs(i64),
    /// At this instant of the wall clock, in ms since the Unix epoch.
    AtWallMs(i64),
}

/// One line of an order to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewLine {
    /// The product that is bought.
    pub product_id: ProductId,
    /// How many units.
    pub quantity: i64,
}

/// An order to create.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// The merchant's own number, unique for the merchant.
    pub merchant_order_no: String,
    /// The buyer, by the merchant's own naming.
    pub buyer_id: String,
    /// Its lines; prices are the products' own.
    pub lines: Vec<NewLine>,
    /// A coupon of the buyer to use.
    pub coupon_id: Option<CouponId>,
    /// When it must be paid.
    pub deadline: Deadline,
}

/// The bounds of deadlines, from the configuration.
struct DeadlineBounds {
    default_ms: i64,
    allowed: RangeInclusive<i64>,
}

impl DeadlineBounds {
    /// The deadline on the engine clock.
    fn resolve(&self, deadline: Deadline, tx: &Tx) -> Result<i64> {
        let now_ms = tx.now_ms();
        let after_ms = match deadline {
            Deadline::Standard => self.default_ms,
            Deadline::AfterMs(after_ms) => after_ms,
            Deadline::AtWallMs(at_ms) => at_ms.saturating_sub(tx.wall_now_ms()),
        };
        if self.allowed.contains(&after_ms) {
            return Ok(now_ms + after_ms);
        }
        Err(Error::invalid(
            "/deadline",
            format!(
                "the deadline is {after_ms} ms ahead; {} to {} ms are allowed",
                self.allowed.start(),
                self.allowed.end()
            ),
        ))
    }
}

struct Input {
    new: NewOrder,
    /// Units per product, in the order in which products are locked everywhere.
    wanted: Vec<(ProductId, i64)>,
    bounds: DeadlineBounds,
    /// Why no order is taken, in ms that timers have waited to be published.
    stalled_ms: Option<i64>,
}

impl Platform {
    /// Creates an order: its stock is held and its deadline armed when this returns.
    pub async fn create_order(
        &self,
        merchant_id: &MerchantId,
        new: NewOrder,
        idempotency: Option<Idempotency>,
    ) -> Result<Answered<Order>> {
        let wanted = check(&new)?;
        let config = self.config();
        let bounds = DeadlineBounds {
            default_ms: config.deadline_default_ms,
            allowed: config.deadline_min_ms..=config.deadline_max_ms,
        };
        let waits_ms = self.publishing().waits_ms(self.now_ms());
        self.run_keyed(Keyed {
            merchant_id: merchant_id.clone(),
            idempotency,
            input: Input {
                new,
                wanted,
                bounds,
                stalled_ms: Some(waits_ms).filter(|ms| *ms > config.publish_grace_ms),
            },
            operation: |tx, merchant_id, input| Box::pin(create(tx, merchant_id, input)),
        })
        .await
    }
}

fn check(new: &NewOrder) -> Result<Vec<(ProductId, i64)>> {
    check_text(
        "/merchant_order_no",
        &new.merchant_order_no,
        REFERENCE_CHARS_MAX,
    )?;
    check_text("/buyer_id", &new.buyer_id, REFERENCE_CHARS_MAX)?;
    let lines = i64::try_from(new.lines.len()).unwrap_or(i64::MAX);
    check_range("/lines", lines, 1..=i64::try_from(LINES_MAX).unwrap_or(0))?;
    let mut wanted = BTreeMap::new();
    for line in &new.lines {
        check_range("/lines/quantity", line.quantity, 1..=QUANTITY_MAX)?;
        *wanted.entry(line.product_id).or_insert(0) += line.quantity;
    }
    Ok(wanted.into_iter().collect())
}

async fn create(tx: &mut Tx, merchant_id: &MerchantId, input: &Input) -> Result<Order> {
    // Only here: a repeated request gets the answer that is stored.
    if let Some(waits_ms) = input.stalled_ms {
        return Err(Error::NotPublishing { waits_ms });
    }
    let now_ms = tx.now_ms();
    let new = &input.new;
    let deadline_ms = input.bounds.resolve(new.deadline, tx)?;
    let taken = product::take(tx, merchant_id, &input.wanted).await?;
    let lines = lines(new, &taken)?;
    let mut order = Order {
        id: OrderId::new(now_ms),
        merchant_id: merchant_id.clone(),
        merchant_order_no: new.merchant_order_no.clone(),
        buyer_id: new.buyer_id.clone(),
        state: OrderState::Pending,
        version: 1,
        live_attempts: 0,
        currency: currency(&taken)?,
        total_minor: total(&lines)?,
        discount_minor: 0,
        payable_minor: 0,
        coupon_id: new.coupon_id,
        deadline_ms,
        deadline_at_ms: deadline_ms.saturating_sub(tx.ahead_ms()),
        created_ms: now_ms,
        needs_operator_ms: None,
        paid_ms: None,
        payment_id: None,
        closed_ms: None,
        close_reason: None,
        lines,
    };
    if let Some(coupon_id) = new.coupon_id {
        let off_minor = coupon::hold(tx, coupon_id, &order).await?;
        order.discount_minor = std::cmp::min(off_minor, order.total_minor);
    }
    order.payable_minor = order.total_minor - order.discount_minor;
    // Nothing to pay: no gateway will ever report a payment.
    if order.payable_minor == 0 {
        order.state = OrderState::Paid;
        order.paid_ms = Some(now_ms);
    }
    let holds = match order.state {
        OrderState::Paid => HoldState::Consumed,
        _ => HoldState::Held,
    };
    orders::insert(tx, &order).await?;
    orders::insert_holds(tx, &order, holds).await?;
    follow_up(tx, &order).await?;
    Ok(order)
}

/// Writes what goes with a new order: its timer, its events, its audit row, the use of its coupon.
async fn follow_up(tx: &mut Tx, order: &Order) -> Result<()> {
    tx.audit(NewAudit {
        subject: order.id.to_string(),
        merchant_id: order.merchant_id.clone(),
        entity: order.id.to_string(),
        actor: Actor::Merchant,
        action: "create",
        from: None,
        to: Some(order.state.as_str()),
        detail: None,
    });
    emit(tx, EventType::OrderCreated, order);
    if order.state == OrderState::Paid {
        emit(tx, EventType::OrderPaid, order);
        return coupon::use_held(tx, order).await;
    }
    timer::arm(
        tx,
        NewTimer {
            kind: TimerKind::OrderDeadline,
            id: order.id.uuid(),
            merchant_id: order.merchant_id.clone(),
            due_ms: order.deadline_ms,
            fire_ms: order.deadline_ms,
            version: order.version,
        },
    );
    Ok(())
}

fn lines(new: &NewOrder, taken: &[Taken]) -> Result<Vec<OrderLine>> {
    new.lines
        .iter()
        .map(|line| {
            let product = taken.iter().find(|taken| taken.id == line.product_id);
            let product = product.ok_or_else(|| Error::not_found("product", &line.product_id))?;
            Ok(OrderLine {
                product_id: line.product_id,
                name: product.name.clone(),
                quantity: line.quantity,
                unit_price_minor: product.price_minor,
            })
        })
        .collect()
}

fn currency(taken: &[Taken]) -> Result<crate::money::Currency> {
    let mut currencies = taken.iter().map(|taken| taken.currency);
    let first = currencies.next().expect("an order has at least one line");
    if let Some(other) = currencies.find(|currency| *currency != first) {
        return Err(Error::invalid(
            "/lines",
            format!("the products are priced in {first} and in {other}; an order has one currency"),
        ));
    }
    Ok(first)
}

fn total(lines: &[OrderLine]) -> Result<i64> {
    lines
        .iter()
        .try_fold(0_i64, |sum, line| {
            sum.checked_add(line.unit_price_minor.checked_mul(line.quantity)?)
        })
        .filter(|total| *total <= AMOUNT_MINOR_MAX)
        .ok_or_else(|| {
            Error::invalid(
                "/lines",
                format!("the total is more than {AMOUNT_MINOR_MAX} minor units"),
            )
        })
}
