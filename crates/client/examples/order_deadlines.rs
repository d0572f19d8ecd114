//! Two orders have a deadline; one is paid in time, the other is closed.
//!
//! ```text
//! duetime serve
//! duetime topic create order-deadlines --kind delay
//! cargo run -p client --example order_deadlines -- [ENDPOINT]
//! ```
//!
//! The endpoint is `127.0.0.1:8081` by default; the proxy of Apache RocketMQ works as well.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what it does"
)]

use std::process::ExitCode;
use std::time::Duration;

use client::{Config, Filter, Message, Producer, PushConsumer, Verdict};
use tokio::sync::mpsc;

const TOPIC: &str = "order-deadlines";

#[tokio::main]
async fn main() -> ExitCode {
    let endpoint = std::env::args().nth(1);
    let endpoint = endpoint.as_deref().unwrap_or("127.0.0.1:8081");
    match run(endpoint).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The error says what failed, its sources say why.
            let mut message = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                message = format!("{message}: {cause}");
                source = cause.source();
            }
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(endpoint: &str) -> Result<(), client::Error> {
    let config = Config::new(endpoint)?;

    let (sender, mut closed) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder(config.clone(), "order-closers")
        .subscribe(TOPIC, Filter::all())
        .start(move |message| {
            let sender = sender.clone();
            async move {
                // A shop closes the order here if it is still unpaid: a message may be delivered twice.
                let order = message.keys.concat();
                // The send fails only if the example has ended.
                match sender.send(order) {
                    Ok(()) => Verdict::Done,
                    Err(_) => Verdict::Retry,
                }
            }
        })
        .await?;

    let producer = Producer::builder(config).topic(TOPIC).start().await?;
    let deadline = |order: &str| {
        Message::new(TOPIC, format!("order {order} is due"))
            .key(order)
            .deliver_after(Duration::from_secs(2))
    };
    producer.send(deadline("7")).await?;
    let paid = producer.send(deadline("8")).await?;

    // The buyer of order 8 pays: its deadline is cancelled.
    if let Some(handle) = &paid.recall {
        producer.recall(handle).await?;
        println!("order 8 is paid");
    }
    if let Some(order) = closed.recv().await {
        println!("order {order} is closed");
    }

    producer.shutdown().await;
    consumer.shutdown().await;
    Ok(())
}
