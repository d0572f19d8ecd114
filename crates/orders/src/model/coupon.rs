//! Defines coupons, their states, and the rules that issue them.

use serde::{Deserialize, Serialize};

use crate::ids::{CouponId, CouponRuleId, MerchantId, OrderId};
use crate::model::stored::stored_enum;
use crate::money::Currency;

stored_enum! {
    /// The state of a coupon.
    pub enum CouponState ("coupon state") {
        /// It can be used or transferred.
        Available = 1 "free",
        /// A pending order holds it.
        Held = 2 "held",
        /// A paid order used it. Final, unless that order is undone.
        Used = 3 "used",
        /// Its validity ended. Final.
        Expired = 4 "expired",
        /// The order it was issued for was refunded in full. Final.
        Revoked = 5 "revoked",
    }
}

stored_enum! {
    /// What becomes of a used coupon when the order that used it is refunded in full.
    pub enum OnFullRefund ("rule for full refunds") {
        /// It stays used.
        Keep = 1 "keep",
        /// It can be used again, unless it has expired.
        Return = 2 "return",
    }
}

/// A coupon: an amount off one order of its buyer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coupon {
    /// Its id.
    pub id: CouponId,
    /// The merchant whose orders it counts for.
    pub merchant_id: MerchantId,
    /// The rule that issued it.
    pub rule_id: CouponRuleId,
    /// The paid order it was issued for.
    pub source_order_id: OrderId,
    /// The buyer who may use it.
    pub buyer_id: String,
    /// What it takes off, in minor units.
    pub amount_off_minor: i64,
    /// The currency of the orders it counts for.
    pub currency: Currency,
    /// Its state.
    pub state: CouponState,
    /// Rises with every change.
    pub version: i64,
    /// The order that holds it or used it.
    pub held_by: Option<OrderId>,
    /// From this instant it cannot be used, in ms since the Unix epoch.
    pub expires_ms: i64,
    /// When it was issued, in ms since the Unix epoch.
    pub created_ms: i64,
}

/// Issues a coupon to the buyer of every paid order that is large enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponRule {
    /// Its id.
    pub id: CouponRuleId,
    /// The merchant it belongs to.
    pub merchant_id: MerchantId,
    /// Its name; unique for the merchant.
    pub name: String,
    /// What its coupons take off, in minor units.
    pub amount_off_minor: i64,
    /// Currency of the orders that it is for.
    pub currency: Currency,
    /// The least that must have been paid, in minor units.
    pub min_total_minor: i64,
    /// How long its coupons are valid, in days.
    pub valid_days: i64,
    /// Whether it issues coupons.
    pub active: bool,
    /// What becomes of its used coupons when the orders that used them are refunded in full.
    pub on_full_refund: OnFullRefund,
    /// When it was created, in ms since the Unix epoch.
    pub created_ms: i64,
}

/// A rule to create.
#[derive(Clone, Debug)]
pub struct NewCouponRule {
    /// Its name; unique for the merchant.
    pub name: String,
    /// What its coupons take off, in minor units.
    pub amount_off_minor: i64,
    /// Currency of the orders that it is for.
    pub currency: Currency,
    /// The least that must have been paid, in minor units.
    pub min_total_minor: i64,
    /// How long its coupons are valid, in days.
    pub valid_days: i64,
    /// What becomes of its used coupons when the orders that used them are refunded in full.
    pub on_full_refund: OnFullRefund,
}
