//! A client for message brokers that speak the gRPC protocol of RocketMQ 5: Duetime, and Apache RocketMQ.
//!
//! | | |
//! |---|---|
//! | [`Producer`] | sends messages: normal ones, delayed ones, ordered ones, in transactions; cancels delayed ones |
//! | [`SimpleConsumer`] | receives messages when its user asks for them |
//! | [`PushConsumer`] | hands messages to a listener as they come |
//!
//! Each connects by itself to the servers its [`Config`] and the routes name, keeps the connections, introduces
//! itself again after a break, and refreshes the routes. A call that fails says why in an [`Error`], which carries the
//! server's own code and words if the server refused.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use client::{Config, Filter, Message, Producer, PushConsumer, Verdict};
//!
//! # async fn example() -> Result<(), client::Error> {
//! let config = Config::new("127.0.0.1:8081")?;
//!
//! let consumer = PushConsumer::builder(config.clone(), "closers")
//!     .subscribe("order-deadlines", Filter::all())
//!     .start(|message| async move {
//!         println!("close {:?}, it has not been paid", message.keys);
//!         Verdict::Done
//!     })
//!     .await?;
//!
//! let producer = Producer::builder(config).topic("order-deadlines").start().await?;
//! let deadline = Message::new("order-deadlines", "order 7")
//!     .key("7")
//!     .deliver_after(Duration::from_secs(1_800));
//! let sent = producer.send(deadline).await?;
//!
//! // The buyer has paid: nobody needs to look at the order again.
//! if let Some(handle) = &sent.recall {
//!     producer.recall(handle).await?;
//! }
//! producer.shutdown().await;
//! consumer.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/order_deadlines.rs` is this as a whole program.
//!
//! # What to know
//!
//! * A message is delivered at least once: one whose acknowledgement is lost comes again, so what a consumer does must
//!   bear being done twice.
//! * A server is spoken to in clear text unless the endpoint begins with `https://`; then its certificate must be one
//!   the operating system trusts. [`Tls`] has other choices, for servers that vouch for themselves.
//! * A body that does not fit the digest that came with it is not handed out: the message comes again.
//! * Clients run on a tokio runtime, several of them share nothing, and what goes on inside is logged by `tracing`.
//! * What only Duetime can: delayed messages in a message group, delayed messages in transactions, delays of years.

mod clock;
mod config;
mod connection;
mod delivery;
mod digest;
mod error;
mod filter;
mod framing;
mod headers;
mod identity;
mod message;
mod panic;
mod producer;
mod push;
mod route;
mod session;
mod settings;
mod simple;
mod telemetry;
mod tls;
mod transaction;

pub use grpc_api::v2::Code;

pub use crate::config::Config;
pub use crate::error::{Error, Refused};
pub use crate::filter::Filter;
pub use crate::message::{Message, Received};
pub use crate::producer::{Producer, ProducerBuilder, RecallHandle, Sent};
pub use crate::push::{PushConsumer, PushConsumerBuilder, Verdict};
pub use crate::simple::{SimpleConsumer, SimpleConsumerBuilder};
pub use crate::tls::Tls;
pub use crate::transaction::{Resolution, Transaction};
