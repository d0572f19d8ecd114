//! Shows the broker as a library: send with a delay, receive when it is due, acknowledge.
//!
//! `cargo run -p broker --example embedded-broker [FOLDER]`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use broker::{Broker, BrokerConfig, Delivery, NewMessage, ReceiveRequest};
use broker::{TagFilter, TopicKind, TopicSpec};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let named = std::env::args().nth(1).map(Into::into);
    let folder = named.unwrap_or_else(|| temporary.path().join("data"));
    let broker = Broker::open(&folder, BrokerConfig::default())?;
    let topic = TopicSpec::new("reminders", TopicKind::Mixed);
    broker.create_topic(topic).await?;

    // The call returns once the message is on the disk.
    let message = NewMessage {
        body: "close order 42".into(),
        delivery: Delivery::After { delay_ms: 2_000 },
        ..NewMessage::default()
    };
    let sent = broker.send("reminders", message).await?;
    println!("sent {}", sent.made_message_id());

    let request = ReceiveRequest {
        topic: "reminders".into(),
        group: "closer".into(),
        messages_max: 10,
        invisible_ms: 30_000,
        filter: TagFilter::All,
        run: false,
    };
    // Waits until something is due: here two seconds.
    for delivered in broker.receive(request, Duration::from_secs(10)).await? {
        let body = String::from_utf8_lossy(&delivered.message.body);
        println!("received \"{body}\", attempt {}", delivered.attempt);
        broker.ack(vec![delivered.handle]).await?;
    }
    broker.shutdown().await;
    Ok(())
}
