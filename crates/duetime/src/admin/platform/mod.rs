//! Provides `duetime order`, `refund`, `payment`, `product`, `merchant` and `outbox`: clients of the order platform's API.

mod access;
mod merchants;
mod orders;
mod outbox;
mod payments;
mod products;
mod refunds;
mod show;

pub(crate) use self::merchants::{MerchantArguments, run as merchant};
pub(crate) use self::orders::{OrderArguments, run as order};
pub(crate) use self::outbox::{OutboxArguments, run as outbox};
pub(crate) use self::payments::{PaymentArguments, run as payment};
pub(crate) use self::products::{ProductArguments, run as product};
pub(crate) use self::refunds::{RefundArguments, run as refund};
