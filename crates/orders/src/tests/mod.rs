//! Tests of the platform as a whole, on a real database file and a clock moved by hand.

mod attempts;
mod batches;
mod broker;
mod clock;
mod closing;
mod coupons;
mod events;
mod flows;
mod gate;
mod gateway;
mod layers;
mod orders;
mod outbox;
mod pauses;
mod races;
mod refunds;
mod schema;
pub(crate) mod shop;
mod sweep;
mod tasks;
mod unmatched;
mod verify;
mod webhooks;
mod writer;
