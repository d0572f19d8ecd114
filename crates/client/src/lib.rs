//! A client for message brokers that speak the gRPC protocol of RocketMQ 5: Duetime, and Apache RocketMQ.
//!
//! | | |
//! |---|---|
//! | [`Producer`] | sends messages: normal ones, delayed ones, ordered ones, in transactions; cancels delayed ones |
//! | [`SimpleConsumer`] | receives messages on request |
//! | [`PushConsumer`] | passes messages to a listener as they arrive |
//!
//! Each connects to the servers that its [`Config`] and the routes name, reconnects and registers again after a
//! failure, and refreshes the routes. A failed call returns an [`Error`], with the server's own code and message if the
//! server refused it.
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
//! // The buyer has paid: the deadline is cancelled.
//! if let Some(handle) = &sent.recall {
//!     producer.recall(handle).await?;
//! }
//! producer.shutdown().await;
//! consumer.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/order_deadlines.rs` is the whole program.
//!
//! # What to know
//!
//! * A message is delivered at least once: if its acknowledgement is lost it is delivered again, so consumers must be
//!   idempotent.
//! * Connections are in clear text unless the endpoint begins with `https://`; then the server needs a certificate that
//!   the operating system trusts. [`Tls`] has other choices, for servers with a self-signed certificate.
//! * A body that does not match its digest is not passed on: the message is delivered again.
//! * Clients run on a tokio runtime and log with `tracing`. Several clients share nothing.
//! * Only Duetime supports delayed messages in a message group, delayed messages in transactions, and delays of years.

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
mod stream;
mod telemetry;
mod timestamp;
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
