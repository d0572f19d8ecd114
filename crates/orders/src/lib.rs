//! The order platform: orders, deadlines, payments, refunds, coupons, over SQL and delayed messages.

mod config;
mod coupon;
mod error;
mod hex;
pub mod http;
mod ids;
pub mod limits;
mod merchant;
pub mod messaging;
mod metrics;
mod model;
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
pub use error::{Error, Result};
pub use gateway;
pub use ids::{
    ApiKeyId, AttemptId, CouponId, CouponRuleId, EventId, GatewayAccountId, IdError, MerchantId,
    OrderId, PaymentId, ProductId, RefundId,
};
pub use messaging::embedded;
pub use model::audit::{Actor, AuditEntry};
pub use model::coupon::{Coupon, CouponRule, CouponState, NewCouponRule};
pub use model::merchant::{ApiKey, GatewayAccount, Merchant, NewApiKey, NewGatewayAccount};
pub use model::order::{CloseReason, Order, OrderLine, OrderState};
pub use model::outbox::Topic;
pub use model::pause::{Pause, PauseScope, PauseState};
pub use model::payment::{Attempt, AttemptState, Payment, PaymentKind};
pub use model::product::{NewProduct, Product};
pub use model::refund::{Refund, RefundCause, RefundState};
pub use model::timer::TimerKind;
pub use money::{Currency, CurrencyError};
pub use order::create::{Deadline, NewLine, NewOrder};
pub use order::query::OrderPage;
pub use payment::start::NewAttempt;
pub use platform::Platform;
pub use refund::request::NewRefund;
pub use run::{Running, step};
pub use store::history::OrderTimes;
pub use store::idempotency::{Answered, Idempotency};
pub use store::verify::{Finding, Tally};
pub use timer::sweep::Swept;
