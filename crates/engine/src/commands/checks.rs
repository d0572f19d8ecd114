//! Implements the checks of open transactions: whose producer is to be asked, and which are given up.

use std::sync::Arc;

use crate::commands::transaction::Half;
use crate::engine::Engine;
use crate::error::{Error, within};
use crate::format::handle::TransactionHandle;
use crate::format::keys::{
    check_key, checks_due_by, checks_span, given_up_key, half_key, half_state_key,
    parts_of_timed_key,
};
use crate::format::record::open;
use crate::limits::READ_MESSAGES_MAX;
use crate::message::Message;
use crate::state::alarms::Alarm;
use crate::state::transactions::HalfState;
use crate::store::{Space, Store, StoreError};

/// A transaction its producer has to be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Names the transaction, to end it.
    pub transaction: TransactionHandle,
    /// The topic.
    pub topic: String,
    /// The half message.
    pub message: Arc<Message>,
    /// How often its producer was asked, this time included.
    pub checks: u32,
}

impl<S: Store> Engine<S> {
    /// Takes open transactions whose checks are due: their producers are to be asked, and those that were are
    /// reported by [`Engine::checked`].
    ///
    /// Those asked about often enough are given up instead, and so are those older than the retention.
    pub fn take_checks(&mut self, now_ms: u64, checks_max: usize) -> Result<Vec<Check>, Error> {
        let now_ms = self.stamp(now_ms);
        within("checks_max", checks_max, READ_MESSAGES_MAX)?;
        self.apply(now_ms)?;
        if now_ms >= self.transactions.next_forget_ms() {
            self.forget_outcomes(now_ms)?;
        }
        let (from, to) = checks_due_by(now_ms);
        let rows: Vec<_> = self
            .store
            .scan(Space::Meta, &from, &to)?
            .take(checks_max)
            .collect::<Result<_, _>>()?;
        let mut due = Vec::new();
        for (key, _) in rows {
            let Some((check_ms, topic, sequence)) = parts_of_timed_key(&key) else {
                continue;
            };
            let transaction = TransactionHandle { topic, sequence };
            let name = self
                .catalog
                .topics
                .get(&topic)
                .map(|topic| topic.spec.name.clone());
            let half = self.half(&transaction)?;
            let (Some(half), Some(topic)) = (half, name) else {
                // The topic was deleted: no producer is asked, and the half message is removed.
                let (topic, batch) = (transaction.topic, &mut self.stage.batch);
                batch.remove(Space::Meta, &key);
                batch.remove(Space::Meta, &half_key(topic, sequence));
                batch.remove(Space::Meta, &half_state_key(topic, sequence));
                batch.remove(Space::Meta, &given_up_key(topic, sequence));
                continue;
            };
            if check_ms < half.state.check_ms {
                self.stage.batch.remove(Space::Meta, &key);
                continue;
            }
            due.extend(self.take_check(now_ms, transaction, topic, half));
        }
        self.transactions.set_next_check_ms(None);
        Ok(due)
    }

    /// Takes a transaction whose check is due, or gives it up.
    fn take_check(
        &mut self,
        now_ms: u64,
        transaction: TransactionHandle,
        topic: String,
        half: Half,
    ) -> Option<Check> {
        let config = self.config.transactions;
        let from_ms = std::cmp::max(half.message.stored_ms, half.state.asked_from_ms);
        let old_ms = from_ms.saturating_add(self.config.retention_ms);
        let given_up = half.state.given_up_ms.is_some();
        if !given_up && half.state.checks < config.checks_max && (!half.taken || now_ms < old_ms) {
            let state = HalfState {
                check_ms: now_ms.saturating_add(config.check_every_ms),
                ..half.state
            };
            self.move_check(transaction, half.state.check_ms, state);
            return Some(Check {
                transaction,
                topic,
                message: Arc::new(half.message),
                checks: half.state.checks + 1,
            });
        }
        if !given_up {
            self.counters.tallies.transactions_given_up += 1;
            self.now_given_up(&transaction);
        }
        // It is looked at again from time to time: the topic may be deleted, and the operator is reminded.
        let state = HalfState {
            check_ms: now_ms.saturating_add(self.config.retention_ms),
            given_up_ms: half.state.given_up_ms.or(Some(now_ms)),
            ..half.state
        };
        self.move_check(transaction, half.state.check_ms, state);
        self.alarms.raise(Alarm::TransactionGivenUp {
            topic,
            message_id: half.message.message_id,
            transaction,
            checks: half.state.checks,
        });
        None
    }

    /// Counts a check of each of these transactions: a producer was asked.
    ///
    /// A transaction that has ended meanwhile is passed over.
    pub fn checked(
        &mut self,
        now_ms: u64,
        transactions: &[TransactionHandle],
    ) -> Result<(), Error> {
        self.stamp(now_ms);
        within("transactions", transactions.len(), READ_MESSAGES_MAX)?;
        for transaction in transactions {
            if self.stage.removed.contains(&transaction.sequence) {
                continue;
            }
            if let Some(mut state) = self.half_state(transaction)? {
                state.checks = state.checks.saturating_add(1);
                self.put_half_state(*transaction, state);
            }
        }
        Ok(())
    }

    /// When [`Engine::take_checks`] has something to give, in ms; `None`: no transaction is open.
    pub fn next_check_ms(&mut self) -> Result<Option<u64>, Error> {
        let next_ms = if let Some(next_ms) = self.transactions.next_check_ms() {
            next_ms
        } else {
            let now_ms = self.stamp_ms;
            self.apply(now_ms)?;
            let (from, to) = checks_span();
            let first = self
                .store
                .scan(Space::Meta, &from, &to)?
                .next()
                .transpose()?;
            let parts = first.and_then(|(key, _)| parts_of_timed_key(&key));
            let next_ms = parts.map_or(u64::MAX, |(check_ms, _, _)| check_ms);
            self.transactions.set_next_check_ms(Some(next_ms));
            next_ms
        };
        Ok(Some(next_ms).filter(|next_ms| *next_ms < u64::MAX))
    }

    /// When the first check may be due, in ms, `u64::MAX` without a transaction; `None`: only
    /// [`Engine::next_check_ms`] can say, which reads the store.
    pub fn known_check_ms(&self) -> Option<u64> {
        self.transactions.next_check_ms()
    }

    /// The state of a half message since it was first taken; before that it is in its row.
    pub(crate) fn half_state(
        &self,
        handle: &TransactionHandle,
    ) -> Result<Option<HalfState>, StoreError> {
        if let Some(state) = self.stage.halves.get(&(handle.topic, handle.sequence)) {
            return Ok(Some(*state));
        }
        let key = half_state_key(handle.topic, handle.sequence);
        let value = self.store.get(Space::Meta, &key)?;
        value
            .map(|value| open(Space::Meta, &key, &value, HalfState::read))
            .transpose()
    }

    fn put_half_state(&mut self, handle: TransactionHandle, state: HalfState) {
        let (topic, sequence) = (handle.topic, handle.sequence);
        self.stage.halves.insert((topic, sequence), state);
        self.stage
            .batch
            .put(Space::Meta, &half_state_key(topic, sequence), |buffer| {
                state.encode(buffer);
            });
    }

    /// Moves the check of a half message from `check_ms` to that of `state`. The message itself is not written again.
    pub(crate) fn move_check(
        &mut self,
        handle: TransactionHandle,
        check_ms: u64,
        state: HalfState,
    ) {
        let (topic, sequence) = (handle.topic, handle.sequence);
        let batch = &mut self.stage.batch;
        if check_ms != state.check_ms {
            batch.remove(Space::Meta, &check_key(check_ms, topic, sequence));
        }
        let next_key = check_key(state.check_ms, topic, sequence);
        batch.put(Space::Meta, &next_key, |_| ());
        self.transactions.check_added(state.check_ms);
        self.put_half_state(handle, state);
    }
}
