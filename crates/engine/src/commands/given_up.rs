//! Implements what an operator does with transactions that were given up: lists them, looks at one, has it checked again.

use std::sync::Arc;

use crate::commands::transaction::Half;
use crate::engine::Engine;
use crate::error::{Error, within};
use crate::format::handle::TransactionHandle;
use crate::format::keys::{given_up_key, given_up_span, transaction_of_given_up_key};
use crate::ids::TopicId;
use crate::limits::{READ_BYTES_MAX, READ_MESSAGES_MAX};
use crate::message::Message;
use crate::state::transactions::HalfState;
use crate::store::{Space, Store, StoreError};

/// A transaction that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Names it, to end it.
    pub transaction: TransactionHandle,
    /// The topic.
    pub topic: String,
    /// The half message; its place has the due time that was asked for.
    pub message: Arc<Message>,
    /// How often its producer was asked.
    pub checks: u32,
    /// When its producer is asked next, in ms; `None`: it was given up.
    pub check_ms: Option<u64>,
    /// When it was given up, in ms.
    pub given_up_ms: Option<u64>,
}

/// Transactions that were given up, by topic and age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// The transactions.
    pub found: Vec<OpenTransaction>,
    /// The last one that was looked at; `None`: there are no more.
    pub next: Option<TransactionHandle>,
}

impl<S: Store> Engine<S> {
    /// Transactions that were given up, after `after`, of one topic or of all; ends after `transactions_max`, or after
    /// about a megabyte.
    pub fn given_up(
        &mut self,
        now_ms: u64,
        topic: Option<&str>,
        after: Option<TransactionHandle>,
        transactions_max: usize,
    ) -> Result<GivenUp, Error> {
        let now_ms = self.stamp(now_ms);
        within("transactions_max", transactions_max, READ_MESSAGES_MAX)?;
        let topic = topic
            .map(|topic| self.catalog.topic_id(topic))
            .transpose()?;
        self.apply(now_ms)?;
        let (from, to) = given_up_span(topic, after);
        let keys: Vec<_> = self
            .store
            .scan(Space::Meta, &from, &to)?
            .take(transactions_max)
            .map(|row| row.map(|(key, _)| key))
            .collect::<Result<_, _>>()?;
        let is_full = keys.len() == transactions_max;
        let mut page = GivenUp::default();
        let (mut bytes, mut last) = (0, None);
        for transaction in keys
            .iter()
            .filter_map(|key| transaction_of_given_up_key(key))
        {
            if bytes >= READ_BYTES_MAX {
                page.next = last;
                return Ok(page);
            }
            last = Some(transaction);
            // That of a topic that was deleted is skipped.
            let name = self.topic_name(transaction.topic).map(str::to_owned);
            let half = self.half(&transaction)?;
            if let Some((topic, half)) = name.zip(half) {
                bytes += half.message.weight();
                page.found.push(open_transaction(transaction, topic, half));
            }
        }
        page.next = last.filter(|_| is_full);
        Ok(page)
    }

    /// What is known of a transaction that has not ended.
    pub fn open_transaction(
        &mut self,
        now_ms: u64,
        handle: &TransactionHandle,
    ) -> Result<OpenTransaction, Error> {
        let (topic, half) = self.known_half(now_ms, handle)?;
        Ok(open_transaction(*handle, topic, half))
    }

    /// Lets a transaction be checked again from now on, as often as a new one, whether it was given up or not.
    pub fn check_again(
        &mut self,
        now_ms: u64,
        handle: &TransactionHandle,
    ) -> Result<OpenTransaction, Error> {
        let (topic, mut half) = self.known_half(now_ms, handle)?;
        let now_ms = self.stamp_ms;
        let former = half.state;
        half.state = HalfState {
            check_ms: now_ms,
            checks: 0,
            given_up_ms: None,
            asked_from_ms: now_ms,
        };
        self.no_longer_given_up(handle, former);
        self.move_check(*handle, former.check_ms, half.state);
        Ok(open_transaction(*handle, topic, half))
    }

    fn known_half(
        &mut self,
        now_ms: u64,
        handle: &TransactionHandle,
    ) -> Result<(String, Half), Error> {
        let now_ms = self.stamp(now_ms);
        self.apply(now_ms)?;
        let Some(half) = self.half(handle)? else {
            return Err(match self.earlier_outcome(handle, true) {
                Ok(_) => Error::TransactionEnded { ended: "committed" },
                Err(error) => error,
            });
        };
        let topic = self.topic_name(handle.topic).map(str::to_owned);
        Ok((topic.ok_or(Error::TransactionNotFound)?, half))
    }

    /// The name of a topic by its number, which handles carry.
    pub fn topic_name(&self, number: TopicId) -> Option<&str> {
        let topic = self.catalog.topics.get(&number);
        topic.map(|topic| topic.spec.name.as_str())
    }

    /// How many transactions were given up and have not ended.
    pub fn given_up_transactions(&self) -> u64 {
        self.transactions.given_up()
    }

    /// Notes that a transaction is given up.
    pub(crate) fn now_given_up(&mut self, handle: &TransactionHandle) {
        let key = given_up_key(handle.topic, handle.sequence);
        self.stage.batch.put(Space::Meta, &key, |_| ());
        self.transactions.add_given_up(handle.topic);
    }

    /// Notes that a transaction has ended, or is checked again.
    pub(crate) fn no_longer_given_up(&mut self, handle: &TransactionHandle, former: HalfState) {
        if former.given_up_ms.is_some() {
            let key = given_up_key(handle.topic, handle.sequence);
            self.stage.batch.remove(Space::Meta, &key);
            self.transactions.remove_given_up(handle.topic);
        }
    }

    /// Counts the transactions that were given up.
    pub(crate) fn load_given_up(&mut self) -> Result<(), StoreError> {
        let (from, to) = given_up_span(None, None);
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, _) = row?;
            let transaction = transaction_of_given_up_key(&key);
            if let Some(TransactionHandle { topic, .. }) = transaction
                && self.catalog.topics.contains_key(&topic)
            {
                self.transactions.add_given_up(topic);
            }
        }
        Ok(())
    }
}

fn open_transaction(transaction: TransactionHandle, topic: String, half: Half) -> OpenTransaction {
    let state = half.state;
    OpenTransaction {
        transaction,
        topic,
        message: Arc::new(half.message),
        checks: state.checks,
        check_ms: state.given_up_ms.is_none().then_some(state.check_ms),
        given_up_ms: state.given_up_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::transaction::Outcome;
    use crate::config::Config;
    use crate::ids::TopicKind;
    use crate::memory_store::MemoryStore;
    use crate::message::NewMessage;
    use crate::state::alarms::Alarm;
    use crate::state::spec::TopicSpec;

    /// An engine with the topics a and b, and `count` transactions of each that were given up; and the instant then.
    fn engine(count: usize) -> (Engine<MemoryStore>, u64) {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        for topic in ["a", "b"] {
            let spec = TopicSpec::new(topic, TopicKind::Transaction);
            engine.create_topic(spec).unwrap();
        }
        for number in 0..count {
            for topic in ["a", "b"] {
                let message = NewMessage {
                    message_id: Some(format!("{topic}{number}")),
                    ..NewMessage::default()
                };
                engine.prepare(0, topic, &message, None).unwrap();
            }
        }
        let mut now_ms = 6_000;
        for _ in 0..16 {
            let due = engine.take_checks(now_ms, 100).unwrap();
            let asked: Vec<_> = due.iter().map(|check| check.transaction).collect();
            engine.checked(now_ms, &asked).unwrap();
            now_ms += 30_000;
        }
        engine.take_alarms();
        (engine, now_ms)
    }

    fn ids(page: &GivenUp) -> String {
        let found = page.found.iter();
        found
            .map(|one| one.message.message_id.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn what_was_given_up_is_listed_by_page_and_topic() {
        let (mut engine, now_ms) = engine(3);
        let page = engine.given_up(now_ms, None, None, 4).unwrap();
        assert_eq!(ids(&page), "a0 a1 a2 b0");
        assert_eq!((page.found[0].checks, page.found[0].check_ms), (15, None));
        assert_eq!(page.found[0].given_up_ms, Some(now_ms - 30_000));
        let rest = engine.given_up(now_ms, None, page.next, 4).unwrap();
        assert_eq!((ids(&rest).as_str(), rest.next), ("b1 b2", None));
        let page = engine.given_up(now_ms, Some("b"), None, 2).unwrap();
        let rest = engine.given_up(now_ms, Some("b"), page.next, 2).unwrap();
        assert_eq!((ids(&page), ids(&rest)), ("b0 b1".into(), "b2".into()));
        let page = engine.given_up(now_ms, Some("a"), None, 3).unwrap();
        let rest = engine.given_up(now_ms, Some("a"), page.next, 3).unwrap();
        assert_eq!((ids(&page), ids(&rest)), ("a0 a1 a2".into(), String::new()));
        assert!(engine.given_up(now_ms, Some("c"), None, 3).is_err());
    }

    #[test]
    fn a_list_ends_after_about_a_megabyte() {
        let (mut engine, mut now_ms) = engine(0);
        let large = NewMessage {
            body: vec![0; READ_BYTES_MAX - 100].into(),
            ..NewMessage::default()
        };
        for _ in 0..3 {
            engine.prepare(now_ms, "a", &large, None).unwrap();
        }
        now_ms += 6_000;
        engine.take_checks(now_ms, 100).unwrap();
        now_ms += Config::default().retention_ms;
        engine.take_checks(now_ms, 100).unwrap();
        let mut sizes = Vec::new();
        let mut after = None;
        loop {
            let page = engine.given_up(now_ms, None, after, 100).unwrap();
            sizes.push(page.found.len());
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(sizes, [1, 1, 1]);
    }

    #[test]
    fn what_was_given_up_is_counted_until_it_ends_and_over_a_restart() {
        let (mut engine, now_ms) = engine(2);
        assert_eq!(engine.given_up_transactions(), 4);
        let all = engine.given_up(now_ms, None, None, 9).unwrap().found;
        let committed = engine.end_transaction(now_ms, &all[0].transaction, true);
        assert!(matches!(committed, Ok(Outcome::Committed(_))));
        let rolled_back = engine.end_transaction(now_ms, &all[2].transaction, false);
        assert!(matches!(rolled_back, Ok(Outcome::RolledBack)));
        assert_eq!(engine.given_up_transactions(), 2);
        let left = engine.given_up(now_ms, None, None, 9).unwrap();
        assert_eq!(ids(&left), "a1 b1");
        for (transaction, words) in [
            (all[0].transaction, "committed"),
            (all[2].transaction, "rolled back"),
        ] {
            let looked = engine.open_transaction(now_ms, &transaction).unwrap_err();
            assert_eq!(
                looked.to_string(),
                format!("the transaction was {words} before")
            );
            assert!(engine.check_again(now_ms, &transaction).is_err());
        }
        engine.delete_topic("b").unwrap();
        assert_eq!(engine.given_up_transactions(), 1);
        let left = engine.given_up(now_ms, None, None, 9).unwrap();
        assert_eq!(ids(&left), "a1");
        let mut engine = Engine::open(engine.store, Config::default()).unwrap();
        assert_eq!(engine.given_up_transactions(), 1);
        let left = engine.given_up(now_ms, None, None, 9).unwrap();
        assert_eq!(ids(&left), "a1");
        // The rows of the topic that was deleted go when they are looked at next.
        let rows = engine.store.rows();
        engine
            .take_checks(now_ms + Config::default().retention_ms, 10)
            .unwrap();
        engine.apply(now_ms).unwrap();
        assert!(engine.store.rows() < rows);
        let (from, to) = given_up_span(None, None);
        assert_eq!(
            engine.store.scan(Space::Meta, &from, &to).unwrap().count(),
            1
        );
    }

    #[test]
    fn a_transaction_is_checked_again_as_often_as_a_new_one() {
        let (mut engine, mut now_ms) = engine(1);
        // Long after the retention of its message.
        now_ms += 10 * Config::default().retention_ms;
        engine.take_checks(now_ms, 10).unwrap();
        engine.take_alarms();
        let transaction = engine.given_up(now_ms, Some("a"), None, 9).unwrap().found[0].transaction;
        let again = engine.check_again(now_ms, &transaction).unwrap();
        assert_eq!((again.checks, again.check_ms), (0, Some(now_ms)));
        assert_eq!(engine.given_up_transactions(), 1);
        assert_eq!(engine.next_check_ms().unwrap(), Some(now_ms));
        let mut asked = 0;
        loop {
            let due = engine.take_checks(now_ms, 10).unwrap();
            let Some(check) = due.first() else {
                break;
            };
            assert_eq!((due.len(), check.transaction), (1, transaction));
            asked += 1;
            assert_eq!(check.checks, asked);
            engine.checked(now_ms, &[transaction]).unwrap();
            now_ms += 30_000;
        }
        assert_eq!(asked, 15);
        assert_eq!(engine.given_up_transactions(), 2);
        let alarms = engine.take_alarms();
        assert!(matches!(
            alarms[..],
            [Alarm::TransactionGivenUp { checks: 15, .. }]
        ));
        let opened = engine.open_transaction(now_ms, &transaction).unwrap();
        assert_eq!(opened.given_up_ms, Some(now_ms));
    }
}
