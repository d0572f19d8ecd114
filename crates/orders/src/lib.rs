//! The order platform: orders, deadlines, payments, refunds, coupons, over SQL and delayed messages.

mod answer;
mod audit;
mod chance;
mod closer;
mod config;
mod consumer;
mod coupon;
mod db;
pub mod embedded;
mod error;
mod event;
mod facts;
pub mod gateway;
pub mod http;
mod idempotency;
mod ids;
pub mod limits;
mod merchant;
pub mod messaging;
mod missing;
mod money;
mod order;
mod outbox;
mod pause;
mod payment;
mod platform;
mod product;
mod refund;
mod relay;
mod start;
pub mod step;
mod sweeper;
#[cfg(test)]
mod tests;
mod timer;
mod verify;

pub use audit::{Actor, AuditEntry};
pub use config::{Config, Durability, UnknownPolicy};
pub use coupon::{Coupon, CouponRule, CouponState, NewCouponRule};
pub use error::{Error, Result};
pub use idempotency::{Answered, Idempotency};
pub use ids::{
    ApiKeyId, AttemptId, CouponId, CouponRuleId, EventId, GatewayAccountId, IdError, MerchantId,
    OrderId, PaymentId, ProductId, RefundId,
};
pub use merchant::{ApiKey, GatewayAccount, Merchant, NewApiKey, NewGatewayAccount};
pub use money::{Currency, CurrencyError};
pub use order::{
    CloseReason, Deadline, NewLine, NewOrder, Order, OrderLine, OrderPage, OrderState,
};
pub use outbox::Topic;
pub use pause::{Pause, PauseScope, PauseState};
pub use payment::{Attempt, AttemptState, NewAttempt, Payment, PaymentKind};
pub use platform::Platform;
pub use product::{NewProduct, Product};
pub use refund::{NewRefund, Refund, RefundCause, RefundState};
pub use start::Running;
pub use sweeper::Swept;
pub use timer::TimerKind;
pub use verify::{Finding, Tally};

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
