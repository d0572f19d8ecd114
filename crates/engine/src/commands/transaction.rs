//! Implements transactions: half messages off the timeline, and their outcomes.
//!
//! The rules are those of Apache RocketMQ: a producer is asked about a half message that is not ended after a
//! while, then again and again, and in the end the transaction is given up. Only questions that a producer was asked
//! count. A half message that was given up is kept, and can still be committed or rolled back. It keeps its due time:
//! a commit makes it visible then, or at once if that has passed.

use crate::delivery::append::Target;
use crate::engine::Engine;
use crate::error::Error;
use crate::format::codec::{put_place, put_varint, read_place};
use crate::format::handle::{MessageHandle, TransactionHandle};
use crate::format::keys::{
    check_key, half_key, half_state_key, outcome_end_key, outcome_ends_span, outcome_key,
    parts_of_timed_key,
};
use crate::format::message_id::made_message_id;
use crate::format::record::{MessageFields, open, read_message, seal};
use crate::ids::{TopicId, TopicKind};
use crate::limits::READ_MESSAGES_MAX;
use crate::message::{Message, NewMessage};
use crate::place::Place;
use crate::state::dedup::Stored;
use crate::state::transactions::HalfState;
use crate::store::{Space, Store, StoreError};

/// Least time between two rounds of forgetting outcomes, in ms.
const FORGET_EVERY_MS: u64 = 60_000;
/// Wait before the next round when one has not forgotten all it could, in ms.
const FORGET_MORE_MS: u64 = 10;

/// A half message that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Names the transaction, to end it.
    pub transaction: TransactionHandle,
    /// The id of the message, made by the broker if the producer gave none.
    pub message_id: String,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message is in its timeline.
    Committed(MessageHandle),
    /// The message is gone.
    RolledBack,
}

/// What a half message has beside the message.
#[derive(Clone, Copy)]
struct HalfRow {
    topic: TopicId,
    queue: u16,
    check_ms: u64,
}

/// A half message that was read from the store.
pub(crate) struct Half {
    pub(crate) state: HalfState,
    /// Whether it was taken before, to ask its producer.
    pub(crate) taken: bool,
    pub(crate) queue: u16,
    pub(crate) message: Message,
}

impl<S: Store> Engine<S> {
    /// Stores a half message: no consumer sees it until [`Engine::end_transaction`] commits it.
    ///
    /// `check_after_ms` is the wait before the producer is asked, if it shall differ from the configured one.
    pub fn prepare(
        &mut self,
        now_ms: u64,
        topic: &str,
        message: &NewMessage,
        check_after_ms: Option<u64>,
    ) -> Result<Prepared, Error> {
        let now_ms = self.stamp(now_ms);
        let topic_id = self.topic_for_send(topic)?;
        self.check_half(topic_id, message)?;
        let due_ms = self.asked_due_ms(now_ms, message.delivery)?;
        let attempt = self.attempt(topic_id, message);
        if let Some(attempt) = attempt
            && let Some(first) = self.stored_before(now_ms, attempt, due_ms)?
        {
            let Stored::Half { transaction, .. } = first.stored else {
                return Err(attempt.taken(now_ms, first));
            };
            self.counters.tallies.repeats += 1;
            return Ok(Prepared {
                transaction,
                message_id: message.message_id.clone().unwrap_or_default(),
            });
        }
        self.check_room(topic_id)?;
        let queue = self.queue_for(topic_id, None);
        let sequence = self.head.next_sequence;
        self.head.next_sequence += 1;
        let place = Place {
            due_ms,
            sequence,
            level: 0,
        };
        let message_id = message
            .message_id
            .clone()
            .unwrap_or_else(|| made_message_id(queue, place));
        let check_ms = now_ms
            .saturating_add(check_after_ms.unwrap_or(self.config.transactions.check_after_ms));
        let fields = MessageFields {
            message_id: Some(&message_id),
            ..MessageFields::of_new(message, place, now_ms)
        };
        let row = HalfRow {
            topic: topic_id,
            queue,
            check_ms,
        };
        self.put_half(row, &fields);
        let transaction = TransactionHandle {
            topic: topic_id,
            sequence,
        };
        if let Some(attempt) = attempt {
            let stored = Stored::Half {
                transaction,
                committed: None,
            };
            self.remember(now_ms, attempt, stored);
        }
        Ok(Prepared {
            transaction,
            message_id,
        })
    }

    /// Refuses what cannot be sent in a transaction, or not to this topic.
    fn check_half(&self, topic: TopicId, message: &NewMessage) -> Result<(), Error> {
        if message.message_group.is_some() {
            return Err(Error::Invalid {
                field: "message_group",
                reason: "cannot be given in a transaction",
            });
        }
        let spec = self.catalog.topics.get(&topic).map(|topic| &topic.spec);
        if let Some(spec) =
            spec.filter(|spec| !matches!(spec.kind, TopicKind::Transaction | TopicKind::Mixed))
        {
            let (topic, expected) = (spec.name.clone(), spec.kind);
            return Err(Error::WrongKind {
                topic,
                expected,
                found: TopicKind::Transaction,
            });
        }
        self.check_fields(message)
    }

    /// Ends a transaction. Ending it the same way again gets the same answer.
    pub fn end_transaction(
        &mut self,
        now_ms: u64,
        handle: &TransactionHandle,
        commit: bool,
    ) -> Result<Outcome, Error> {
        let now_ms = self.stamp(now_ms);
        if self.stage.removed.contains(&handle.sequence) {
            // It was ended within this group of changes: the store has to have the outcome.
            self.apply(now_ms)?;
        }
        let Some(half) = self.half(handle)? else {
            return self.earlier_outcome(handle, commit);
        };
        if !self.catalog.topics.contains_key(&handle.topic) {
            return Err(Error::TransactionNotFound);
        }
        let message_id = half.message.message_id.clone();
        let outcome = if commit {
            let target = Target {
                topic: handle.topic,
                queue: half.queue,
                due_ms: half.message.place.due_ms,
            };
            let identity = self.head.next_sequence;
            let place = self.append_moved(
                now_ms,
                target,
                &Message {
                    identity,
                    ..half.message
                },
                false,
            );
            self.counters.traffic.sent += 1;
            Outcome::Committed(MessageHandle {
                topic: handle.topic,
                queue: half.queue,
                place,
                identity,
            })
        } else {
            Outcome::RolledBack
        };
        let identity = match outcome {
            Outcome::Committed(message) => Some(message.identity),
            Outcome::RolledBack => None,
        };
        self.dedup.ended(*handle, &message_id, identity);
        self.no_longer_given_up(handle, half.state);
        self.finish_half(now_ms, handle, half.state.check_ms, outcome);
        Ok(outcome)
    }

    pub(crate) fn half(&self, handle: &TransactionHandle) -> Result<Option<Half>, StoreError> {
        if self.stage.removed.contains(&handle.sequence) {
            return Ok(None);
        }
        let key = half_key(handle.topic, handle.sequence);
        let Some(value) = self.store.get(Space::Meta, &key)? else {
            return Ok(None);
        };
        let changed = self.half_state(handle)?;
        let half = open(Space::Meta, &key, &value, |reader| {
            let first = HalfState {
                check_ms: reader.varint()?,
                checks: u32::try_from(reader.varint()?)
                    .map_err(|_| "a check count is too large")?,
                given_up_ms: None,
                asked_from_ms: 0,
            };
            let queue = u16::try_from(reader.varint()?).map_err(|_| "a queue is impossible")?;
            let place = read_place(reader)?;
            Ok(Half {
                state: changed.unwrap_or(first),
                taken: changed.is_some(),
                queue,
                message: read_message(reader, queue, place)?,
            })
        })?;
        Ok(Some(half))
    }

    fn put_half(&mut self, row: HalfRow, fields: &MessageFields<'_>) {
        let sequence = fields.place.sequence;
        self.stage
            .batch
            .put(Space::Meta, &half_key(row.topic, sequence), |buffer| {
                seal(buffer, |buffer| {
                    put_varint(buffer, row.check_ms);
                    put_varint(buffer, 0);
                    put_varint(buffer, u64::from(row.queue));
                    put_place(buffer, fields.place);
                    fields.encode_bare(buffer);
                });
            });
        self.stage.batch.put(
            Space::Meta,
            &check_key(row.check_ms, row.topic, sequence),
            |_| (),
        );
        self.transactions.check_added(row.check_ms);
    }

    fn finish_half(
        &mut self,
        now_ms: u64,
        handle: &TransactionHandle,
        check_ms: u64,
        outcome: Outcome,
    ) {
        let (topic, sequence) = (handle.topic, handle.sequence);
        let batch = &mut self.stage.batch;
        batch.remove(Space::Meta, &half_key(topic, sequence));
        batch.remove(Space::Meta, &half_state_key(topic, sequence));
        batch.remove(Space::Meta, &check_key(check_ms, topic, sequence));
        batch.put(Space::Meta, &outcome_key(topic, sequence), |buffer| {
            seal(buffer, |buffer| {
                if let Outcome::Committed(message) = outcome {
                    put_varint(buffer, u64::from(message.queue));
                    put_place(buffer, message.place);
                    put_varint(buffer, message.identity);
                }
            });
        });
        let end_ms = now_ms.saturating_add(self.config.transactions.remember_ms);
        batch.put(
            Space::Meta,
            &outcome_end_key(end_ms, topic, sequence),
            |_| (),
        );
        self.stage.removed.insert(sequence);
        self.transactions.forget_by(end_ms);
    }

    pub(crate) fn earlier_outcome(
        &self,
        handle: &TransactionHandle,
        commit: bool,
    ) -> Result<Outcome, Error> {
        let key = outcome_key(handle.topic, handle.sequence);
        let value = self
            .store
            .get(Space::Meta, &key)?
            .ok_or(Error::TransactionNotFound)?;
        let outcome = open(Space::Meta, &key, &value, |reader| {
            if reader.is_empty() {
                return Ok(Outcome::RolledBack);
            }
            let queue = u16::try_from(reader.varint()?).map_err(|_| "a queue is impossible")?;
            let (place, identity) = (read_place(reader)?, reader.varint()?);
            Ok(Outcome::Committed(MessageHandle {
                topic: handle.topic,
                queue,
                place,
                identity,
            }))
        })?;
        match (outcome, commit) {
            (Outcome::Committed(_), true) | (Outcome::RolledBack, false) => Ok(outcome),
            (Outcome::Committed(_), false) => Err(Error::TransactionEnded { ended: "committed" }),
            (Outcome::RolledBack, true) => Err(Error::TransactionEnded {
                ended: "rolled back",
            }),
        }
    }

    /// Forgets outcomes that have been remembered long enough, a bounded number at a time, and notes when there
    /// will be more of them.
    pub(crate) fn forget_outcomes(&mut self, now_ms: u64) -> Result<(), StoreError> {
        self.apply(now_ms)?;
        let (from, to) = outcome_ends_span();
        let rows: Vec<_> = self
            .store
            .scan(Space::Meta, &from, &to)?
            .take(READ_MESSAGES_MAX + 1)
            .collect::<Result<_, _>>()?;
        let mut next_ms = u64::MAX;
        for (number, (key, _)) in rows.into_iter().enumerate() {
            let parts = parts_of_timed_key(&key);
            let end_ms = parts.map_or(0, |(end_ms, _, _)| end_ms);
            if end_ms > now_ms {
                next_ms = std::cmp::max(end_ms, now_ms.saturating_add(FORGET_EVERY_MS));
                break;
            }
            if number == READ_MESSAGES_MAX {
                next_ms = now_ms.saturating_add(FORGET_MORE_MS);
                break;
            }
            let batch = &mut self.stage.batch;
            batch.remove(Space::Meta, &key);
            if let Some((_, topic, sequence)) = parts {
                batch.remove(Space::Meta, &outcome_key(topic, sequence));
            }
        }
        self.transactions.forget_at(next_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::receive::ReceiveRequest;
    use crate::config::Config;
    use crate::memory_store::MemoryStore;
    use crate::message::{Delivery, TagFilter};
    use crate::state::alarms::Alarm;
    use crate::state::spec::TopicSpec;

    fn engine() -> Engine<MemoryStore> {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        engine
            .create_topic(TopicSpec::new("t", TopicKind::Transaction))
            .unwrap();
        engine
    }

    fn sync(engine: &mut Engine<MemoryStore>, now_ms: u64) {
        engine.apply(now_ms).unwrap();
        let epoch = engine.applied_epoch();
        engine.durable(epoch);
    }

    fn message(delay_ms: u64) -> NewMessage {
        let delivery = Delivery::After { delay_ms };
        NewMessage {
            body: "paid".into(),
            delivery,
            ..NewMessage::default()
        }
    }

    fn receive(engine: &mut Engine<MemoryStore>, now_ms: u64) -> Vec<String> {
        let request = ReceiveRequest {
            topic: "t".into(),
            group: "g".into(),
            messages_max: 10,
            invisible_ms: 60_000,
            filter: TagFilter::All,
            run: false,
        };
        // The second look comes after the floor was renewed, which the first one may ask for.
        for _ in 0..2 {
            engine.tick(now_ms).unwrap();
            sync(engine, now_ms);
            let delivered = engine.receive(now_ms, &request).unwrap();
            if !delivered.is_empty() {
                return delivered
                    .iter()
                    .map(|one| one.message.message_id.clone())
                    .collect();
            }
        }
        Vec::new()
    }

    #[test]
    fn a_half_message_is_seen_after_its_commit_and_not_before_it_is_due() {
        let mut engine = engine();
        let prepared = engine.prepare(1_000, "t", &message(5_000), None).unwrap();
        sync(&mut engine, 1_000);
        assert!(receive(&mut engine, 9_000).is_empty());
        let outcome = engine
            .end_transaction(9_000, &prepared.transaction, true)
            .unwrap();
        assert_eq!(
            engine
                .end_transaction(9_000, &prepared.transaction, true)
                .unwrap(),
            outcome
        );
        sync(&mut engine, 9_000);
        assert_eq!(receive(&mut engine, 9_001), [prepared.message_id]);

        let later = engine.prepare(10_000, "t", &message(5_000), None).unwrap();
        engine.apply(10_000).unwrap();
        engine
            .end_transaction(10_000, &later.transaction, true)
            .unwrap();
        sync(&mut engine, 10_000);
        assert!(receive(&mut engine, 14_999).is_empty());
        assert_eq!(receive(&mut engine, 15_000), [later.message_id]);
    }

    #[test]
    fn a_rolled_back_one_is_never_seen_and_says_so_after_a_restart() {
        let mut engine = engine();
        let prepared = engine.prepare(1_000, "t", &message(0), None).unwrap();
        engine.apply(1_000).unwrap();
        assert_eq!(
            engine
                .end_transaction(2_000, &prepared.transaction, false)
                .unwrap(),
            Outcome::RolledBack
        );
        sync(&mut engine, 2_000);
        let mut engine = Engine::open(engine.into_store(), Config::default()).unwrap();
        assert_eq!(
            engine
                .end_transaction(3_000, &prepared.transaction, false)
                .unwrap(),
            Outcome::RolledBack
        );
        let error = engine
            .end_transaction(3_000, &prepared.transaction, true)
            .unwrap_err();
        assert_eq!(error.to_string(), "the transaction was rolled back before");
        assert!(receive(&mut engine, 4_000).is_empty());
        assert_eq!(engine.next_check_ms().unwrap(), None);
        engine.take_checks(5_000_000, 10).unwrap();
        engine.apply(5_000_000).unwrap();
        let gone = engine.end_transaction(5_000_001, &prepared.transaction, false);
        assert!(matches!(gone, Err(Error::TransactionNotFound)));
    }

    #[test]
    fn an_orphan_is_asked_about_and_given_up_in_the_end() {
        let mut engine = engine();
        let prepared = engine.prepare(0, "t", &message(0), None).unwrap();
        let mut now_ms = 6_000;
        for checks in 1..=15 {
            assert_eq!(engine.next_check_ms().unwrap(), Some(now_ms));
            assert!(engine.take_checks(now_ms - 1, 10).unwrap().is_empty());
            let due = engine.take_checks(now_ms, 10).unwrap();
            assert_eq!(
                (due.len(), due[0].checks, due[0].transaction),
                (1, checks, prepared.transaction)
            );
            engine.checked(now_ms, &[prepared.transaction]).unwrap();
            now_ms += 30_000;
        }
        assert!(engine.take_checks(now_ms, 10).unwrap().is_empty());
        assert_eq!(engine.tallies().transactions_given_up, 1);
        let alarm = Alarm::TransactionGivenUp {
            topic: "t".into(),
            message_id: prepared.message_id.clone(),
            transaction: prepared.transaction,
            checks: 15,
        };
        assert_eq!(engine.take_alarms(), std::slice::from_ref(&alarm));
        sync(&mut engine, now_ms);

        // It is kept over a restart, the operator is reminded of it, and it can still be committed.
        let mut engine = Engine::open(engine.into_store(), Config::default()).unwrap();
        let again_ms = now_ms + Config::default().retention_ms;
        assert_eq!(engine.next_check_ms().unwrap(), Some(again_ms));
        assert!(engine.take_checks(again_ms, 10).unwrap().is_empty());
        assert_eq!(engine.take_alarms(), [alarm]);
        assert_eq!(engine.tallies().transactions_given_up, 0);
        engine
            .end_transaction(again_ms, &prepared.transaction, true)
            .unwrap();
        assert_eq!(receive(&mut engine, again_ms + 1), [prepared.message_id]);
        assert_eq!(engine.next_check_ms().unwrap(), None);
    }

    #[test]
    fn a_check_counts_only_when_a_producer_was_asked() {
        let mut engine = engine();
        let prepared = engine.prepare(0, "t", &message(0), None).unwrap();
        let mut now_ms = 6_000;
        for _ in 0..100 {
            let due = engine.take_checks(now_ms, 10).unwrap();
            assert_eq!((due.len(), due[0].checks), (1, 1));
            sync(&mut engine, now_ms);
            now_ms += 30_000;
        }
        // A question in the group of changes that took it, and one of an ended transaction.
        assert_eq!(engine.take_checks(now_ms, 10).unwrap()[0].checks, 1);
        engine.checked(now_ms, &[prepared.transaction]).unwrap();
        engine.checked(now_ms, &[prepared.transaction]).unwrap();
        sync(&mut engine, now_ms);
        let mut engine = Engine::open(engine.into_store(), Config::default()).unwrap();
        now_ms += 30_000;
        assert_eq!(engine.take_checks(now_ms, 10).unwrap()[0].checks, 3);
        engine
            .end_transaction(now_ms, &prepared.transaction, false)
            .unwrap();
        engine.checked(now_ms, &[prepared.transaction]).unwrap();
        sync(&mut engine, now_ms);
        engine.checked(now_ms, &[prepared.transaction]).unwrap();
        assert!(!engine.has_staged());
        assert_eq!(engine.next_check_ms().unwrap(), None);
    }

    #[test]
    fn a_transaction_no_producer_could_be_asked_about_is_given_up_after_the_retention() {
        let mut engine = engine();
        let prepared = engine.prepare(0, "t", &message(0), None).unwrap();
        let old_ms = Config::default().retention_ms;
        // The first question is asked in any case.
        assert_eq!(engine.take_checks(old_ms, 10).unwrap().len(), 1);
        assert!(engine.take_checks(old_ms + 30_000, 10).unwrap().is_empty());
        assert_eq!(engine.tallies().transactions_given_up, 1);
        sync(&mut engine, old_ms + 30_000);
        engine
            .end_transaction(old_ms + 30_001, &prepared.transaction, true)
            .unwrap();
    }

    #[test]
    fn a_check_does_not_write_the_message_again() {
        let mut engine = engine();
        let large = NewMessage {
            body: vec![0; 1 << 20].into(),
            ..message(0)
        };
        engine.prepare(0, "t", &large, None).unwrap();
        sync(&mut engine, 0);
        assert_eq!(engine.take_checks(6_000, 10).unwrap().len(), 1);
        assert!(engine.staged_bytes() < 1_000, "{}", engine.staged_bytes());
    }

    #[test]
    fn what_was_given_up_goes_with_its_topic() {
        let mut engine = engine();
        let rows = engine.store.rows();
        let prepared = engine.prepare(0, "t", &message(0), None).unwrap();
        let mut now_ms = 6_000;
        for _ in 0..16 {
            engine.take_checks(now_ms, 10).unwrap();
            engine.checked(now_ms, &[prepared.transaction]).unwrap();
            now_ms += 30_000;
        }
        assert_eq!(engine.tallies().transactions_given_up, 1);
        engine.delete_topic("t").unwrap();
        sync(&mut engine, now_ms);
        now_ms += Config::default().retention_ms;
        assert!(engine.take_checks(now_ms, 10).unwrap().is_empty());
        sync(&mut engine, now_ms);
        // The head record has come, the topic has gone.
        assert_eq!(engine.store.rows(), rows + 1);
        assert_eq!(engine.next_check_ms().unwrap(), None);
    }

    #[test]
    fn a_repeated_half_message_is_stored_once() {
        let mut engine = engine();
        let half = NewMessage {
            message_id: Some("m-1".into()),
            ..message(0)
        };
        let first = engine.prepare(0, "t", &half, None).unwrap();
        let other = NewMessage {
            body: "other".into(),
            ..half.clone()
        };
        let refused = engine.prepare(1, "t", &other, None).unwrap_err();
        assert!(matches!(refused, Error::IdTaken { .. }), "{refused}");
        assert_eq!(engine.prepare(2, "t", &half, None).unwrap(), first);
        sync(&mut engine, 2);
        let committed = engine.end_transaction(3, &first.transaction, true).unwrap();
        sync(&mut engine, 3);
        // The answer to the commit was lost, and the producer begins again: it gets the same outcome.
        let again = engine.prepare(4, "t", &half, None).unwrap();
        assert_eq!(again, first);
        let outcome = engine.end_transaction(4, &again.transaction, true).unwrap();
        assert_eq!(outcome, committed);
        assert_eq!(receive(&mut engine, 5), ["m-1"]);
        assert!(receive(&mut engine, 6).is_empty());
        assert!(engine.take_checks(7_000, 10).unwrap().is_empty());
        assert_eq!(engine.tallies().repeats, 2);
    }

    #[test]
    fn a_half_message_that_is_gone_frees_its_id() {
        let mut engine = engine();
        let half = NewMessage {
            message_id: Some("m-1".into()),
            ..message(60_000)
        };
        let first = engine.prepare(0, "t", &half, None).unwrap();
        sync(&mut engine, 0);
        engine
            .end_transaction(1, &first.transaction, false)
            .unwrap();
        let second = engine.prepare(2, "t", &half, None).unwrap();
        assert_ne!(second, first, "the first was rolled back");
        sync(&mut engine, 2);
        let outcome = engine
            .end_transaction(3, &second.transaction, true)
            .unwrap();
        let Outcome::Committed(handle) = outcome else {
            panic!("{outcome:?}");
        };
        sync(&mut engine, 3);
        engine.recall(4, &handle).unwrap();
        let third = engine.prepare(5, "t", &half, None).unwrap();
        assert_ne!(third, second, "the second was cancelled");
    }

    #[test]
    fn half_messages_go_with_their_topic() {
        let mut engine = engine();
        let open = engine.prepare(0, "t", &message(0), None).unwrap();
        sync(&mut engine, 0);
        engine.delete_topic("t").unwrap();
        sync(&mut engine, 0);
        let late = engine.end_transaction(1, &open.transaction, true);
        assert!(matches!(late, Err(Error::TransactionNotFound)), "{late:?}");
        assert!(engine.take_checks(6_000, 10).unwrap().is_empty());
        engine.apply(6_000).unwrap();
        let (topic, sequence) = (open.transaction.topic, open.transaction.sequence);
        let left = engine.store.get(Space::Meta, &half_key(topic, sequence));
        assert_eq!(left.unwrap(), None);
        assert_eq!(engine.next_check_ms().unwrap(), None);
        assert_eq!(engine.store.partitions(), [], "the commit wrote nothing");
    }

    #[test]
    fn other_topics_and_message_groups_are_refused() {
        let mut engine = engine();
        engine
            .create_topic(TopicSpec::new("d", TopicKind::Delay))
            .unwrap();
        let error = engine.prepare(0, "d", &message(0), None).unwrap_err();
        assert!(matches!(error, Error::WrongKind { .. }), "{error}");
        let grouped = NewMessage {
            message_group: Some("m".into()),
            ..message(0)
        };
        assert!(engine.prepare(0, "t", &grouped, None).is_err());
        let text = TransactionHandle {
            topic: 3,
            sequence: 9,
        }
        .to_string();
        assert_eq!(
            text.parse(),
            Ok(TransactionHandle {
                topic: 3,
                sequence: 9
            })
        );
    }
}
