//! Provides the outbox: messages written in the transaction of their cause and published after its commit.

use sqlx::SqliteConnection;

use crate::error::{Error, Result};
use crate::ids::MerchantId;
use crate::limits::OUTBOX_SHARDS;
use crate::timer::TimerKind;

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// The timers of one kind.
    Timers(TimerKind),
    /// The events for other systems.
    Events,
}

/// The number under which the topic of events is stored; timer topics are stored as their kind.
const EVENTS: i64 = 10;

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 6] = [
        Self::Timers(TimerKind::OrderDeadline),
        Self::Timers(TimerKind::OrderClosing),
        Self::Timers(TimerKind::Attempt),
        Self::Timers(TimerKind::Refund),
        Self::Timers(TimerKind::CouponExpiry),
        Self::Events,
    ];

    /// The name at the broker, behind the configured prefix.
    pub fn name(self, prefix: &str) -> String {
        let name = match self {
            Self::Timers(TimerKind::OrderDeadline) => "order-deadlines",
            Self::Timers(TimerKind::OrderClosing) => "order-closings",
            Self::Timers(TimerKind::Attempt) => "payment-attempts",
            Self::Timers(TimerKind::Refund) => "refunds",
            Self::Timers(TimerKind::CouponExpiry) => "coupon-expiries",
            Self::Events => "order-events",
        };
        format!("{prefix}-{name}")
    }

    pub(crate) fn stored(self) -> i64 {
        match self {
            Self::Timers(kind) => kind.stored(),
            Self::Events => EVENTS,
        }
    }

    pub(crate) fn from_stored(stored: i64) -> Result<Self> {
        if stored == EVENTS {
            return Ok(Self::Events);
        }
        TimerKind::from_stored(stored)
            .map(Self::Timers)
            .ok_or_else(|| Error::Unreadable {
                what: "topic",
                detail: format!("{stored} is not the number of a topic"),
            })
    }
}

/// A message to publish.
#[derive(Clone, Debug)]
pub(crate) struct OutboxRow {
    pub(crate) merchant_id: MerchantId,
    pub(crate) topic: Topic,
    /// The same for every publication, so that a broker or a consumer can drop repetitions.
    pub(crate) message_id: String,
    /// The id of what it is about; events of one subject keep their order.
    pub(crate) subject: String,
    pub(crate) tag: &'static str,
    pub(crate) deliver_at_ms: Option<i64>,
    pub(crate) body: String,
    pub(crate) created_ms: i64,
}

/// The shard of a subject: FNV-1a, written out because it must stay the same for ever.
fn shard_of(subject: &str) -> u16 {
    let hash = subject
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // Folded, since a last character alone moves few of its bits.
    let folded = hash ^ (hash >> 32);
    u16::try_from(folded % u64::from(OUTBOX_SHARDS)).unwrap_or(0)
}

pub(crate) async fn insert(connection: &mut SqliteConnection, rows: &[OutboxRow]) -> Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                &row.merchant_id,
                shard_of(&row.subject),
                row.topic.stored(),
                &row.message_id,
                &row.subject,
                row.tag,
                row.deliver_at_ms,
                &row.body,
                row.created_ms,
            )
        })
        .collect();
    let rows = serde_json::to_string(&rows).expect("texts and numbers are always JSON");
    sqlx::query(
        "insert into outbox
             (merchant_id, shard, topic, message_id, subject, tag, deliver_at_ms, body, created_ms, unsent)
         select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                value ->> 7, value ->> 8, ?
         from json_each(?)",
    )
    .bind(WAITING)
    .bind(rows)
    .execute(connection)
    .await?;
    Ok(())
}

/// `unsent` of a row that waits to be published.
pub(crate) const WAITING: i64 = 1;
/// `unsent` of a row that has been published.
pub(crate) const SENT: i64 = 0;
/// `unsent` of a row that the broker refuses for good.
pub(crate) const PARKED: i64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_survives_its_stored_form() {
        for topic in Topic::ALL {
            assert_eq!(Topic::from_stored(topic.stored()).unwrap(), topic);
        }
        assert!(Topic::from_stored(7).is_err());
    }

    #[test]
    fn the_shard_of_a_subject_never_changes() {
        assert_eq!(shard_of("ord_01h455vb4pex5vsknk084sn02q"), 14);
        let shards: std::collections::BTreeSet<u16> =
            (0..1_000).map(|n| shard_of(&format!("ord_{n}"))).collect();
        assert_eq!(shards.len(), usize::from(OUTBOX_SHARDS));
    }
}
