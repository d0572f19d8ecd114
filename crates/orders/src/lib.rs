//! The order platform: orders, deadlines, payments, refunds, coupons, over SQL and delayed messages.

pub mod embedded;
pub mod gateway;
pub mod messaging;
