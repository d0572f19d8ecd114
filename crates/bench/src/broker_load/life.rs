//! Measures the whole life of messages: sent, due, received, acknowledged.

use std::path::Path;

use broker::Delivery;

use super::drain::{drain, fill};
use super::{Scale, Subject, TOPIC};
use crate::process::Usage;
use crate::report::Figure;

pub(crate) async fn run(folder: &Path, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let subject = Subject::open(folder)?;
    subject.create_topic(TOPIC).await?;
    let messages = scale.messages / 5;
    let before = Usage::now()?;
    // Due in the next seconds, in random order, so that nothing is written in the order in which it is read.
    let spread_ms = 3_000 + messages / 100;
    fill(&subject.broker, TOPIC, messages, |bodies| {
        let delay_ms = bodies.below(spread_ms);
        bodies.message(Delivery::After { delay_ms })
    })
    .await?;
    drain(&subject.broker, TOPIC, messages).await?;
    let after = Usage::now()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of messages fits a double"
    )]
    let count = messages as f64;
    let note = format!("{messages} sent, received and acknowledged, load included");
    Ok(vec![
        Figure::new(
            "cpu_us_per_message",
            (after.cpu_us - before.cpu_us) / count,
            "us",
            note.clone(),
        ),
        Figure::new(
            "bytes_written_per_message",
            (after.written_bytes - before.written_bytes) / count,
            "B",
            note,
        ),
    ])
}
