//! The order platform: orders, deadlines, payments, refunds, stock and coupons, over SQL and delayed messages.
//!
//! An order holds its stock until it is paid or its deadline comes. Creating it also schedules one delayed message;
//! when the message arrives, a consumer closes the order if it is still unpaid. The rows of SQL decide, a message is
//! only a hint, and every timer can be rebuilt from SQL alone.
//!
//! [`Running`] owns the tasks of a platform, [`Platform`] is the handle whose methods are the operations. The platform
//! needs a message broker through the [`messaging`] traits; [`embedded`] is the one in this process.
//!
//! ```
//! use std::sync::Arc;
//!
//! use broker::{Broker, BrokerConfig};
//! use orders::embedded::Embedded;
//! use orders::gateway::Gateways;
//! use orders::{Config, Deadline, NewLine, NewOrder, NewProduct, OrderState, Running};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let broker = Broker::open(&folder.path().join("broker"), BrokerConfig::default())?;
//! let running = Running::start(
//!     Config::new(folder.path().join("orders.db")),
//!     Arc::clone(broker.clock()),
//!     Arc::new(Embedded::new(broker.clone())),
//!     Gateways::default(),
//! )
//! .await?;
//! let platform = &running.platform;
//!
//! platform.ensure_default_merchant().await?;
//! let merchant = orders::MerchantId::fallback();
//! let tea = NewProduct {
//!     name: "Tea".to_owned(),
//!     price_minor: 450,
//!     currency: "EUR".parse()?,
//!     stock: 10,
//! };
//! let tea = platform.create_product(&merchant, tea, None).await?.value;
//! let order = NewOrder {
//!     merchant_order_no: "2026-0001".to_owned(),
//!     buyer_id: "buyer-1".to_owned(),
//!     lines: vec![NewLine {
//!         product_id: tea.id,
//!         quantity: 2,
//!     }],
//!     coupon_id: None,
//!     deadline: Deadline::Standard,
//! };
//! let created = platform.create_order(&merchant, order, None).await?.value;
//!
//! let order = platform.order(&merchant, created.id).await?;
//! assert_eq!(order.state, OrderState::Pending);
//! assert_eq!(order.payable_minor, 900);
//! assert_eq!(platform.product(&merchant, tea.id).await?.available, 8);
//!
//! running.stop().await;
//! broker.shutdown().await;
//! # Ok(())
//! # }
//! ```

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
mod webhook;

pub use config::{Config, Durability, UnknownPolicy};
pub use error::{Error, Result};
pub use gateway;
pub use ids::{
    ApiKeyId, AttemptId, CouponId, CouponRuleId, EventId, GatewayAccountId, IdError, MerchantId,
    OrderId, PaymentId, ProductId, RefundId, UnmatchedPaymentId, WebhookDeliveryId, WebhookId,
};
pub use messaging::embedded;
pub use model::audit::{Actor, AuditEntry, PlacedEntry, Who};
pub use model::coupon::{Coupon, CouponRule, CouponState, NewCouponRule, OnFullRefund};
pub use model::event::{EventPage, EventType, StoredEvent};
pub use model::merchant::{
    ApiKey, GatewayAccount, KeyHolder, KeyTerms, Merchant, NewApiKey, NewGatewayAccount, Scope,
    Scopes,
};
pub use model::order::{CloseReason, Order, OrderLine, OrderState};
pub use model::outbox::{OutboxMessage, OutboxState, Topic};
pub use model::pause::{Pause, PauseCause, PauseScope, PauseState};
pub use model::payment::{Attempt, AttemptState, Payment, PaymentKind, WaitingAttempt};
pub use model::product::{NewProduct, Product};
pub use model::refund::{Refund, RefundCause, RefundLine, RefundState};
pub use model::timer::TimerKind;
pub use model::unmatched::{UnmatchedKind, UnmatchedPayment, UnmatchedState};
pub use model::webhook::{
    Delivery, DeliveryState, DeliveryTry, NewWebhook, Webhook, WebhookChange, WebhookState,
};
pub use money::{Currency, CurrencyError};
pub use order::create::{Deadline, NewLine, NewOrder};
pub use order::query::{OrderPage, OrderTrail};
pub use payment::OrderMoney;
pub use payment::by_hand::{AttemptSettlement, MoneyRecord};
pub use payment::start::NewAttempt;
pub use platform::Platform;
pub use refund::RefundPage;
pub use refund::request::NewRefund;
pub use run::{Running, step};
pub use store::history::OrderTimes;
pub use store::idempotency::{Answered, Idempotency};
pub use store::outbox::parked::OutboxPlace;
pub use store::sql::{DbError, DbErrorKind};
pub use store::verify::{Finding, Tally};
pub use timer::sweep::Swept;
pub use webhook::sender::{WebhookRequest, WebhookSender};
