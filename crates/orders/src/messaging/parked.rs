//! Lists what has not been published, and lets what is parked be published again.

use crate::error::Result;
use crate::model::audit::{Actor, NewAudit};
use crate::model::outbox::{OutboxMessage, OutboxState, Topic};
use crate::platform::Platform;
use crate::store::Tx;
use crate::store::outbox::parked::{self, OutboxFilter, OutboxPlace};

/// Messages that one transaction unparks.
const BATCH: i64 = 500;

impl Platform {
    /// Up to `limit` messages that have not been published, by topic, then by age, those after a place.
    pub async fn outbox(
        &self,
        state: OutboxState,
        topic: Option<Topic>,
        after: Option<OutboxPlace>,
        limit: usize,
    ) -> Result<Vec<OutboxMessage>> {
        let filter = OutboxFilter {
            state,
            topic,
            after,
        };
        parked::page(self.readers(), filter, limit).await
    }

    /// Lets a parked message be published again. One that waits goes on waiting.
    pub async fn unpark(&self, seq: i64) -> Result<OutboxMessage> {
        self.writer()
            .run(seq, |tx, seq| Box::pin(unpark_one(tx, *seq)))
            .await
    }

    /// Lets all parked messages be published again, or those of one topic; answers how many.
    pub async fn unpark_all(&self, topic: Option<Topic>) -> Result<usize> {
        let topics = Topic::ALL.into_iter();
        let topics = topics.filter(|each| topic.is_none_or(|topic| topic == *each));
        let mut count = 0;
        for topic in topics {
            // One that is refused again meanwhile is not taken twice.
            let mut place = Some(0);
            while let Some(after_seq) = place {
                let (unparked, last) = self
                    .writer()
                    .run((topic, after_seq), |tx, (topic, after_seq)| {
                        Box::pin(unpark_some(tx, *topic, *after_seq))
                    })
                    .await?;
                count += unparked;
                place = last;
            }
        }
        Ok(count)
    }
}

async fn unpark_one(tx: &mut Tx, seq: i64) -> Result<OutboxMessage> {
    let message = parked::get(tx, seq).await?;
    if message.state == OutboxState::Waiting {
        return Ok(message);
    }
    unpark(tx, std::slice::from_ref(&message)).await?;
    parked::get(tx, seq).await
}

/// Unparks the next messages of the topic; answers how many, and the last one's number if there were any.
async fn unpark_some(tx: &mut Tx, topic: Topic, after_seq: i64) -> Result<(usize, Option<i64>)> {
    let messages = parked::next(tx, topic, after_seq, BATCH).await?;
    unpark(tx, &messages).await?;
    Ok((messages.len(), messages.last().map(|message| message.seq)))
}

async fn unpark(tx: &mut Tx, messages: &[OutboxMessage]) -> Result<()> {
    let seqs: Vec<i64> = messages.iter().map(|message| message.seq).collect();
    parked::unpark(tx, &seqs).await?;
    for message in messages {
        tx.wake(message.topic);
        tx.audit(NewAudit {
            subject: message.subject.clone(),
            merchant_id: message.merchant_id.clone(),
            entity: message.message_id.clone(),
            actor: Actor::Operator,
            action: "unpark",
            from: Some("parked"),
            to: Some("waiting"),
            detail: message.refusal.clone(),
        });
    }
    Ok(())
}
