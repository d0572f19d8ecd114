//! Implements sending many messages of one topic in commands of a bounded size.

use std::sync::Arc;

use engine::{Engine, NewMessage, Sent};
use storage::FjallStore;

use crate::broker::{Broker, lane};
use crate::command::weight_of;
use crate::error::Error;
use crate::limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX};

impl Broker {
    /// Stores messages of one topic, in this order; each has its own outcome, in the same order.
    pub async fn send_batch(
        &self,
        topic: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<Sent, Error>>, Error> {
        let topic: Arc<str> = Arc::from(topic);
        let lane = lane(&topic);
        let mut results = Vec::with_capacity(messages.len());
        let mut started = Vec::new();
        // All are handed in before the first is awaited, so that they become durable together.
        for part in parts(messages) {
            let weight = part.iter().map(weight_of).sum();
            let topic = Arc::clone(&topic);
            let work = move |engine: &mut Engine<FjallStore>, now_ms: u64| {
                let send = |message: &NewMessage| {
                    engine.send(now_ms, &topic, message).map_err(Error::Refused)
                };
                Ok(part.iter().map(send).collect::<Vec<_>>())
            };
            started.push(self.start(lane, weight, work).await?);
        }
        for part in started {
            results.extend(part.await?);
        }
        Ok(results)
    }
}

/// Parts a batch into stretches of a bounded size.
fn parts(messages: Vec<NewMessage>) -> Vec<Vec<NewMessage>> {
    let mut parts: Vec<Vec<NewMessage>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        bytes += message.body.len();
        let last = parts.last();
        let fits = last.is_some_and(|part| part.len() < BATCH_MESSAGES_MAX);
        if !fits || bytes > BATCH_BYTES_MAX {
            bytes = message.body.len();
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push(message);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_parted_by_number_and_by_bytes_and_keeps_its_order() {
        let message = |bytes: usize| NewMessage {
            body: vec![b'x'; bytes].into(),
            ..NewMessage::default()
        };
        let sizes = |messages: Vec<NewMessage>| -> Vec<usize> {
            parts(messages).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(vec![message(1); 300]), [128, 128, 44]);
        assert_eq!(sizes(vec![message(200 * 1024); 5]), [2, 2, 1]);
        assert_eq!(sizes(vec![message(4 << 20); 2]), [1, 1]);
        assert!(sizes(Vec::new()).is_empty());
        let numbered = (0..300).map(message).collect();
        let joined: Vec<_> = parts(numbered).concat();
        let mut numbered = joined.iter().enumerate();
        assert!(numbered.all(|(at, one)| one.body.len() == at));
    }
}
