//! Defines coupons and their states, and moves them between those states.
//!
//! A coupon is FREE, HELD by a pending order, USED by a paid one, EXPIRED or REVOKED. Giving, holding and expiring
//! require FREE; giving and holding also require that it has not expired, whether its timer has come or not.

pub(crate) mod expiry;
pub(crate) mod issue;
mod rule;
mod transfer;

use serde::{Deserialize, Serialize};
use sqlx::SqliteExecutor;
use sqlx::sqlite::SqliteRow;

use crate::error::{Error, Result};
use crate::ids::{CouponId, CouponRuleId, MerchantId, OrderId};
use crate::messaging::event::{self, NewEvent};
use crate::money::Currency;
use crate::order::Order;
use crate::product::currency;
use crate::store::audit::{Actor, NewAudit};
use crate::store::{Tx, column, hex_json};
use crate::timer::{self, TimerKind};

pub use rule::{CouponRule, NewCouponRule};

/// Where a coupon stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CouponState {
    /// It can be used or given.
    Free,
    /// A pending order holds it.
    Held,
    /// A paid order used it. Final.
    Used,
    /// Its validity ended. Final.
    Expired,
    /// The order it was given for was refunded in full. Final.
    Revoked,
}

impl CouponState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Free,
        Self::Held,
        Self::Used,
        Self::Expired,
        Self::Revoked,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Held => "held",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    pub(crate) fn stored(self) -> i64 {
        match self {
            Self::Free => 1,
            Self::Held => 2,
            Self::Used => 3,
            Self::Expired => 4,
            Self::Revoked => 5,
        }
    }

    fn from_stored(stored: i64) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|state| state.stored() == stored);
        found.ok_or_else(|| Error::Unreadable {
            what: "coupon state",
            detail: stored.to_string(),
        })
    }
}

/// A coupon: an amount off one order of its buyer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coupon {
    /// Its id.
    pub id: CouponId,
    /// Whose orders it counts for.
    pub merchant_id: MerchantId,
    /// The rule that issued it.
    pub rule_id: CouponRuleId,
    /// The paid order it was issued for.
    pub source_order_id: OrderId,
    /// Who may use it.
    pub buyer_id: String,
    /// What it takes off, in minor units.
    pub amount_off_minor: i64,
    /// The currency of the orders it counts for.
    pub currency: Currency,
    /// Where it stands.
    pub state: CouponState,
    /// Rises with every change.
    pub version: i64,
    /// The order that holds it or used it.
    pub held_by: Option<OrderId>,
    /// From this instant it counts no more, in ms since the Unix epoch.
    pub expires_ms: i64,
    /// When it was issued, in ms since the Unix epoch.
    pub created_ms: i64,
}

/// The columns that [`from_row`] reads, for statements put together by `concat!`.
macro_rules! coupon_columns {
    () => {
        "id, merchant_id, rule_id, source_order_id, buyer_id, amount_off_minor, currency, state, \
         version, held_by, expires_ms, created_ms"
    };
}
pub(crate) use coupon_columns;

fn from_row(row: &SqliteRow) -> Result<Coupon> {
    Ok(Coupon {
        id: column(row, "id")?,
        merchant_id: MerchantId::from_stored(column(row, "merchant_id")?),
        rule_id: column(row, "rule_id")?,
        source_order_id: column(row, "source_order_id")?,
        buyer_id: column(row, "buyer_id")?,
        amount_off_minor: column(row, "amount_off_minor")?,
        currency: currency(row)?,
        state: CouponState::from_stored(column(row, "state")?)?,
        version: column(row, "version")?,
        held_by: column(row, "held_by")?,
        expires_ms: column(row, "expires_ms")?,
        created_ms: column(row, "created_ms")?,
    })
}

/// A coupon's change, for its audit trail and its event.
struct Change {
    action: &'static str,
    event: &'static str,
    from: Option<CouponState>,
    actor: Actor,
}

/// Records the change that the coupon has just made.
fn tell(tx: &mut Tx, coupon: &Coupon, change: &Change) {
    tx.audit(NewAudit {
        subject: coupon.id.to_string(),
        merchant_id: coupon.merchant_id.clone(),
        entity: coupon.id.to_string(),
        actor: change.actor,
        action: change.action,
        from: change.from.map(CouponState::as_str),
        to: Some(coupon.state.as_str()),
        detail: coupon.held_by.map(|order_id| order_id.to_string()),
    });
    event::emit(
        tx,
        NewEvent {
            kind: change.event,
            merchant_id: &coupon.merchant_id,
            subject: coupon.id.to_string(),
            data: coupon,
        },
    );
}

/// Holds the coupon for an order about to be inserted; answers what it takes off, in minor units.
pub(crate) async fn hold(tx: &mut Tx, id: CouponId, order: &Order) -> Result<i64> {
    let now_ms = tx.now_ms();
    let row = sqlx::query(concat!(
        "update coupon set state = ?, held_by = ?, version = version + 1
         where id = ? and merchant_id = ? and buyer_id = ? and currency = ? and state = ?
           and expires_ms > ? returning ",
        coupon_columns!()
    ))
    .bind(CouponState::Held.stored())
    .bind(order.id)
    .bind(id)
    .bind(order.merchant_id.as_str())
    .bind(&order.buyer_id)
    .bind(order.currency.as_str())
    .bind(CouponState::Free.stored())
    .bind(now_ms)
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else {
        return Err(hold_refusal(tx, id, order).await?);
    };
    let coupon = from_row(&row)?;
    tell(
        tx,
        &coupon,
        &Change {
            action: "hold",
            event: "coupon.held",
            from: Some(CouponState::Free),
            actor: Actor::Buyer,
        },
    );
    Ok(coupon.amount_off_minor)
}

async fn hold_refusal(tx: &mut Tx, id: CouponId, order: &Order) -> Result<Error> {
    let coupon = find(tx.conn(), &order.merchant_id, id).await?;
    let reason = if coupon.buyer_id != order.buyer_id {
        "it belongs to another buyer"
    } else if coupon.currency != order.currency {
        "it is in another currency"
    } else {
        not_free_reason(&coupon)
    };
    Ok(Error::CouponUnusable { id, reason })
}

/// Why a coupon of the right buyer cannot be held or given.
fn not_free_reason(coupon: &Coupon) -> &'static str {
    match coupon.state {
        CouponState::Held => "another order holds it",
        CouponState::Used => "it was used",
        CouponState::Revoked => "it was revoked",
        CouponState::Free | CouponState::Expired => "it has expired",
    }
}

async fn find(
    connection: impl SqliteExecutor<'_>,
    merchant_id: &MerchantId,
    id: CouponId,
) -> Result<Coupon> {
    let row = sqlx::query(concat!(
        "select ",
        coupon_columns!(),
        " from coupon where id = ? and merchant_id = ?"
    ))
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(connection)
    .await?;
    from_row(&row.ok_or_else(|| Error::not_found("coupon", &id))?)
}

/// Uses up the coupon that the order, just paid, holds.
pub(crate) async fn use_held(tx: &mut Tx, order: &Order) -> Result<()> {
    let Some(id) = order.coupon_id else {
        return Ok(());
    };
    let row = sqlx::query(concat!(
        "update coupon set state = ?, version = version + 1
         where id = ? and held_by = ? and state = ? returning ",
        coupon_columns!()
    ))
    .bind(CouponState::Used.stored())
    .bind(id)
    .bind(order.id)
    .bind(CouponState::Held.stored())
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else { return Ok(()) };
    let coupon = from_row(&row)?;
    timer::disarm(tx, TimerKind::CouponExpiry, [id.uuid()]).await?;
    tell(
        tx,
        &coupon,
        &Change {
            action: "use",
            event: "coupon.used",
            from: Some(CouponState::Held),
            actor: Actor::System,
        },
    );
    Ok(())
}

/// Gives coupons back whose orders have just closed.
pub(crate) async fn return_held(tx: &mut Tx, ids: Vec<CouponId>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let now_ms = tx.now_ms();
    let rows = sqlx::query(concat!(
        "update coupon set held_by = null, version = version + 1,
                state = case when revoke_on_return = 1 then ? when expires_ms <= ? then ? else ? end
         where id in (select unhex(value) from json_each(?)) and state = ? returning ",
        coupon_columns!()
    ))
    .bind(CouponState::Revoked.stored())
    .bind(now_ms)
    .bind(CouponState::Expired.stored())
    .bind(CouponState::Free.stored())
    .bind(hex_json(ids.iter().map(|id| id.uuid())))
    .bind(CouponState::Held.stored())
    .fetch_all(tx.conn())
    .await?;
    for row in &rows {
        let coupon = from_row(row)?;
        let event = match coupon.state {
            CouponState::Expired => "coupon.expired",
            CouponState::Revoked => "coupon.revoked",
            _ => "coupon.returned",
        };
        if coupon.state != CouponState::Free {
            timer::disarm(tx, TimerKind::CouponExpiry, [coupon.id.uuid()]).await?;
        }
        tell(
            tx,
            &coupon,
            &Change {
                action: "return",
                event,
                from: Some(CouponState::Held),
                actor: Actor::System,
            },
        );
    }
    Ok(())
}

/// Takes the coupon of a fully refunded order away: at once if free, when it comes back if held; never if used.
pub(crate) async fn revoke(tx: &mut Tx, source_order_id: OrderId) -> Result<()> {
    let rows = sqlx::query(concat!(
        "update coupon set state = ?, version = version + 1
         where source_order_id = ? and state = ? returning ",
        coupon_columns!()
    ))
    .bind(CouponState::Revoked.stored())
    .bind(source_order_id)
    .bind(CouponState::Free.stored())
    .fetch_all(tx.conn())
    .await?;
    for row in &rows {
        let coupon = from_row(row)?;
        timer::disarm(tx, TimerKind::CouponExpiry, [coupon.id.uuid()]).await?;
        tell(
            tx,
            &coupon,
            &Change {
                action: "revoke",
                event: "coupon.revoked",
                from: Some(CouponState::Free),
                actor: Actor::System,
            },
        );
    }
    sqlx::query(
        "update coupon set revoke_on_return = 1, version = version + 1
         where source_order_id = ? and state = ?",
    )
    .bind(source_order_id)
    .bind(CouponState::Held.stored())
    .execute(tx.conn())
    .await?;
    Ok(())
}
