//! Defines the records of the platform and their states: plain data, without SQL and without the platform.

pub(crate) mod audit;
pub(crate) mod coupon;
pub(crate) mod event;
pub(crate) mod merchant;
pub(crate) mod order;
pub(crate) mod outbox;
pub(crate) mod pause;
pub(crate) mod payment;
pub(crate) mod product;
pub(crate) mod refund;
pub(crate) mod stored;
pub(crate) mod timer;
pub(crate) mod unmatched;
pub(crate) mod webhook;
