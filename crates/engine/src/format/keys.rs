//! Defines the keys of all rows, so that the order of bytes is the order of due times.

use crate::format::handle::TransactionHandle;
use crate::ids::{GroupId, SubscriptionKey, TopicId};
use crate::place::{HOUR_MS, PartitionId, Place};

/// First byte of every key in [`Space::Meta`].
mod meta {
    pub(super) const HEAD: u8 = 1;
    pub(super) const TOPIC: u8 = 2;
    pub(super) const GROUP: u8 = 3;
    pub(super) const PROGRESS: u8 = 4;
    pub(super) const RETRY: u8 = 5;
    pub(super) const IDENTITY: u8 = 6;
    pub(super) const IDENTITY_END: u8 = 7;
    pub(super) const PINS: u8 = 8;
    pub(super) const TOTALS: u8 = 9;
    pub(super) const HALF: u8 = 10;
    pub(super) const CHECK: u8 = 11;
    pub(super) const OUTCOME: u8 = 12;
    pub(super) const OUTCOME_END: u8 = 13;
    pub(super) const HALF_STATE: u8 = 14;
    pub(super) const GIVEN_UP: u8 = 15;
    pub(super) const SEEN: u8 = 16;
    pub(super) const VOID_RETRIES: u8 = 17;
}

/// First byte of every key in a partition.
mod part {
    pub(super) const TIMELINE: u8 = 1;
    pub(super) const INDEX: u8 = 2;
    pub(super) const COUNTS: u8 = 3;
}

/// A key of a fixed number of bytes, built on the stack.
macro_rules! key {
    ($kind:expr $(, $part:expr)*) => {{
        let parts: &[&[u8]] = &[&[$kind] $(, &$part.to_be_bytes())*];
        parts.concat()
    }};
}

pub(crate) fn head_key() -> Vec<u8> {
    key!(meta::HEAD)
}

pub(crate) fn topic_key(topic: TopicId) -> Vec<u8> {
    key!(meta::TOPIC, topic)
}

pub(crate) fn group_key(group: GroupId) -> Vec<u8> {
    key!(meta::GROUP, group)
}

pub(crate) fn progress_key(group: GroupId, topic: TopicId, queue: u16) -> Vec<u8> {
    key!(meta::PROGRESS, group, topic, queue)
}

pub(crate) fn seen_key(group: GroupId, topic: TopicId) -> Vec<u8> {
    key!(meta::SEEN, group, topic)
}

pub(crate) fn void_retries_key((group, topic): SubscriptionKey) -> Vec<u8> {
    key!(meta::VOID_RETRIES, group, topic)
}

pub(crate) fn retry_key(group: GroupId, topic: TopicId, place: Place) -> Vec<u8> {
    key!(meta::RETRY, group, topic, place.due_ms, place.sequence)
}

pub(crate) fn identity_key(topic: TopicId, identity: u64) -> Vec<u8> {
    key!(meta::IDENTITY, topic, identity)
}

pub(crate) fn identity_end_key(end_hour: u64, topic: TopicId, identity: u64) -> Vec<u8> {
    key!(meta::IDENTITY_END, end_hour, topic, identity)
}

pub(crate) fn pins_key(partition: PartitionId) -> Vec<u8> {
    key!(meta::PINS, partition.start_hour, partition.level)
}

pub(crate) fn totals_key(topic: TopicId) -> Vec<u8> {
    key!(meta::TOTALS, topic)
}

pub(crate) fn half_key(topic: TopicId, sequence: u64) -> Vec<u8> {
    key!(meta::HALF, topic, sequence)
}

pub(crate) fn half_state_key(topic: TopicId, sequence: u64) -> Vec<u8> {
    key!(meta::HALF_STATE, topic, sequence)
}

pub(crate) fn given_up_key(topic: TopicId, sequence: u64) -> Vec<u8> {
    key!(meta::GIVEN_UP, topic, sequence)
}

/// Transactions that were given up, of one topic or of all, after `after`.
pub(crate) fn given_up_span(
    topic: Option<TopicId>,
    after: Option<TransactionHandle>,
) -> (Vec<u8>, Vec<u8>) {
    let (from, to) = match topic {
        Some(topic) => span(&key!(meta::GIVEN_UP, topic)),
        None => span(&[meta::GIVEN_UP]),
    };
    let after = after.map(|after| given_up_key(after.topic, after.sequence.saturating_add(1)));
    let from = std::cmp::max(after.unwrap_or_default(), from);
    // A cursor of a later topic leaves nothing.
    (std::cmp::min(from, to.clone()), to)
}

pub(crate) fn transaction_of_given_up_key(key: &[u8]) -> Option<TransactionHandle> {
    Some(TransactionHandle {
        topic: u32::from_be_bytes(key.get(1..5)?.try_into().ok()?),
        sequence: u64::from_be_bytes(key.get(5..13)?.try_into().ok()?),
    })
}

pub(crate) fn check_key(check_ms: u64, topic: TopicId, sequence: u64) -> Vec<u8> {
    key!(meta::CHECK, check_ms, topic, sequence)
}

pub(crate) fn outcome_key(topic: TopicId, sequence: u64) -> Vec<u8> {
    key!(meta::OUTCOME, topic, sequence)
}

pub(crate) fn outcome_end_key(end_ms: u64, topic: TopicId, sequence: u64) -> Vec<u8> {
    key!(meta::OUTCOME_END, end_ms, topic, sequence)
}

/// Checks of transactions that are due by `now_ms`.
pub(crate) fn checks_due_by(now_ms: u64) -> (Vec<u8>, Vec<u8>) {
    (
        vec![meta::CHECK],
        key!(meta::CHECK, now_ms.saturating_add(1)),
    )
}

pub(crate) fn checks_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::CHECK])
}

pub(crate) fn outcome_ends_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::OUTCOME_END])
}

/// Reads the instant, the topic and the sequence of a key of a check or of an outcome's end.
pub(crate) fn parts_of_timed_key(key: &[u8]) -> Option<(u64, TopicId, u64)> {
    let instant = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
    let topic = u32::from_be_bytes(key.get(9..13)?.try_into().ok()?);
    let sequence = u64::from_be_bytes(key.get(13..21)?.try_into().ok()?);
    Some((instant, topic, sequence))
}

pub(crate) fn counts_key(topic: TopicId) -> Vec<u8> {
    key!(part::COUNTS, topic)
}

pub(crate) fn index_key(topic: TopicId, hash: u64, place: Place, queue: u16) -> Vec<u8> {
    key!(
        part::INDEX,
        topic,
        hash,
        place.due_ms,
        place.sequence,
        queue
    )
}

/// Rows of one kind: from the first possible key to past the last.
fn span(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut to = prefix.to_vec();
    while to.last() == Some(&u8::MAX) {
        to.pop();
    }
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    (prefix.to_vec(), to)
}

pub(crate) fn topics_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::TOPIC])
}

pub(crate) fn groups_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::GROUP])
}

pub(crate) fn progress_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::PROGRESS])
}

pub(crate) fn seen_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::SEEN])
}

pub(crate) fn void_retries_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::VOID_RETRIES])
}

pub(crate) fn pins_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::PINS])
}

pub(crate) fn totals_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::TOTALS])
}

pub(crate) fn counts_span() -> (Vec<u8>, Vec<u8>) {
    span(&[part::COUNTS])
}

pub(crate) fn identity_ends_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::IDENTITY_END])
}

pub(crate) fn index_span(topic: TopicId, hash: u64) -> (Vec<u8>, Vec<u8>) {
    span(&key!(part::INDEX, topic, hash))
}

/// All rows of a topic in a partition but its counts.
pub(crate) fn topic_spans(topic: TopicId) -> [(Vec<u8>, Vec<u8>); 2] {
    [part::TIMELINE, part::INDEX].map(|kind| span(&key!(kind, topic)))
}

/// Retry rows of a subscription after `after`.
pub(crate) fn retry_span(group: GroupId, topic: TopicId, after: Place) -> (Vec<u8>, Vec<u8>) {
    let (_, to) = span(&key!(meta::RETRY, group, topic));
    (
        key!(
            meta::RETRY,
            group,
            topic,
            after.due_ms,
            after.sequence.saturating_add(1)
        ),
        to,
    )
}

pub(crate) fn timeline_key(topic: TopicId, queue: u16, place: Place) -> [u8; 23] {
    let mut key = [0_u8; 23];
    key[0] = part::TIMELINE;
    key[1..5].copy_from_slice(&topic.to_be_bytes());
    key[5..7].copy_from_slice(&queue.to_be_bytes());
    key[7..15].copy_from_slice(&place.due_ms.to_be_bytes());
    key[15..23].copy_from_slice(&place.sequence.to_be_bytes());
    key
}

/// Messages of a queue after `after`, up to the end of the queue.
pub(crate) fn timeline_span(topic: TopicId, queue: u16, after: Place) -> ([u8; 23], Vec<u8>) {
    let (_, to) = span(&key!(part::TIMELINE, topic, queue));
    let next = Place {
        sequence: after.sequence.saturating_add(1),
        ..after
    };
    (timeline_key(topic, queue, next), to)
}

/// Reads the due time and sequence that end the keys of timelines and retries.
pub(crate) fn place_of_key(key: &[u8], level: u8) -> Option<Place> {
    let tail = key.get(key.len().checked_sub(16)?..)?;
    let (due, sequence) = tail.split_at(8);
    Some(Place {
        due_ms: u64::from_be_bytes(due.try_into().ok()?),
        sequence: u64::from_be_bytes(sequence.try_into().ok()?),
        level,
    })
}

/// Reads the place and the queue that end an index key.
pub(crate) fn place_of_index_key(key: &[u8], level: u8) -> Option<(Place, u16)> {
    let (head, queue) = key.split_at_checked(key.len().checked_sub(2)?)?;
    Some((
        place_of_key(head, level)?,
        u16::from_be_bytes(queue.try_into().ok()?),
    ))
}

/// When identities that end in this hour may be forgotten, in ms.
pub(crate) fn identities_gone_ms(end_hour: u64) -> u64 {
    end_hour.saturating_add(1).saturating_mul(HOUR_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeline_keys_sort_as_places_do() {
        let places = [(1, 9), (2, 1), (2, 2), (256, 0), (1 << 40, 3)];
        let keys: Vec<_> = places
            .iter()
            .map(|&(due_ms, sequence)| {
                timeline_key(
                    7,
                    1,
                    Place {
                        due_ms,
                        sequence,
                        level: 0,
                    },
                )
            })
            .collect();
        assert!(keys.is_sorted());
        for (key, (due_ms, sequence)) in keys.iter().zip(places) {
            assert_eq!(
                place_of_key(key, 2),
                Some(Place {
                    due_ms,
                    sequence,
                    level: 2
                })
            );
        }
    }

    #[test]
    fn spans_end_behind_the_last_key() {
        let (from, to) = span(&[1, u8::MAX]);
        assert_eq!((from, to), (vec![1, u8::MAX], vec![2]));
    }
}
