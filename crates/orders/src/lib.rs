//! The order platform: orders, deadlines, payments, refunds, coupons, over SQL and delayed messages.

mod config;
mod coupon;
mod error;
pub mod gateway;
pub mod http;
mod ids;
pub mod limits;
mod merchant;
pub mod messaging;
mod metrics;
mod money;
mod order;
mod payment;
mod platform;
mod product;
mod random;
mod refund;
mod run;
mod store;
#[cfg(test)]
mod tests;
mod timer;

pub use config::{Config, Durability, UnknownPolicy};
pub use coupon::{Coupon, CouponRule, CouponState, NewCouponRule};
pub use error::{Error, Result};
pub use ids::{
    ApiKeyId, AttemptId, CouponId, CouponRuleId, EventId, GatewayAccountId, IdError, MerchantId,
    OrderId, PaymentId, ProductId, RefundId,
};
pub use merchant::{ApiKey, GatewayAccount, Merchant, NewApiKey, NewGatewayAccount};
pub use messaging::embedded;
pub use money::{Currency, CurrencyError};
pub use order::{
    CloseReason, Deadline, NewLine, NewOrder, Order, OrderLine, OrderPage, OrderState,
};
pub use payment::{Attempt, AttemptState, NewAttempt, Payment, PaymentKind};
pub use platform::Platform;
pub use product::{NewProduct, Product};
pub use refund::{NewRefund, Refund, RefundCause, RefundState};
pub use run::{Running, step};
pub use store::audit::{Actor, AuditEntry};
pub use store::idempotency::{Answered, Idempotency};
pub use store::outbox::Topic;
pub use store::verify::{Finding, Tally};
pub use timer::TimerKind;
pub use timer::pause::{Pause, PauseScope, PauseState};
pub use timer::sweep::Swept;

/// The clock's time as the database stores it, in ms since the Unix epoch.
fn now_ms(clock: &dyn broker::clock::Clock) -> i64 {
    i64::try_from(clock.now_ms()).unwrap_or(i64::MAX)
}

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}
