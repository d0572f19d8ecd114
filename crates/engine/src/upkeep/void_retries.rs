//! Implements the end of all retries of a subscription: they are void at once, and their rows go bit by bit.

use crate::engine::Engine;
use crate::format::codec::{Reader, put_varint};
use crate::format::keys::{
    place_of_key, retry_key, retry_span, void_retries_key, void_retries_span,
};
use crate::format::record::{open, seal};
use crate::ids::SubscriptionKey;
use crate::limits::{READ_BYTES_MAX, VOID_ROWS_PER_ROUND_MAX};
use crate::place::Place;
use crate::state::subscription::RetryRow;
use crate::state::work::row_units;
use crate::store::{Space, Store, StoreError};
use crate::upkeep::recovery::id_of_key;

/// What a round has read of void retries.
#[derive(Default)]
struct Round {
    rows: Vec<(Place, RetryRow)>,
    /// How far it came; `None`: to the end.
    last: Option<Place>,
    units: u64,
}

impl<S: Store> Engine<S> {
    /// Ends all retries a subscription has. Those that are added from now on are not meant.
    pub(crate) fn void_retries(&mut self, key: SubscriptionKey) {
        let before = self.head.next_sequence;
        self.stage
            .batch
            .put(Space::Meta, &void_retries_key(key), |buffer| {
                seal(buffer, |buffer| put_varint(buffer, before));
            });
        // Some of the rows may be among the changes that are not applied yet.
        self.void_retries.add(key, before, self.pending_epoch());
    }

    /// Whether rows of void retries can be removed now.
    pub(crate) fn has_void_retries(&self) -> bool {
        let first = self.void_retries.first_readable(self.applied_epoch());
        first.is_some_and(|(key, _)| !self.stage.retried.contains(&key))
    }

    /// Removes some rows of void retries, so that they pin nothing. The next ones go when these changes are applied.
    pub(crate) fn remove_void_retries(&mut self) -> Result<(), StoreError> {
        if !self.has_void_retries() || self.is_spent() {
            return Ok(());
        }
        let Some((key, void)) = self.void_retries.first_readable(self.applied_epoch()) else {
            return Ok(());
        };
        let round = self.read_void_retries(key, (void.after, void.before))?;
        self.spend(round.units + round.rows.len() as u64);
        for (retry, row) in round.rows {
            let row_key = retry_key(key.0, key.1, retry);
            self.stage.batch.remove(Space::Meta, &row_key);
            self.stage.removed.insert(retry.sequence);
            if row.inline.is_none() {
                let partition = row.place.partition();
                self.partitions.unpin(partition);
                self.stage.pins.insert(partition);
            }
        }
        if let Some(last) = round.last {
            self.void_retries.pass(key, last, self.pending_epoch());
        } else {
            let row_key = void_retries_key(key);
            self.stage.batch.remove(Space::Meta, &row_key);
            self.void_retries.remove(key);
        }
        Ok(())
    }

    fn read_void_retries(
        &self,
        key: SubscriptionKey,
        (after, before): (Place, u64),
    ) -> Result<Round, StoreError> {
        let (from, to) = retry_span(key.0, key.1, after);
        let (mut round, mut looked, mut bytes) = (Round::default(), 0, 0);
        for row in self.store.scan(Space::Meta, &from, &to)? {
            if looked >= VOID_ROWS_PER_ROUND_MAX || bytes >= READ_BYTES_MAX {
                return Ok(round);
            }
            let (row_key, value) = row?;
            looked += 1;
            bytes += value.len();
            round.units += row_units(value.len());
            let Some(retry) = place_of_key(&row_key, 0) else {
                continue;
            };
            round.last = Some(retry);
            if retry.sequence < before {
                let row = open(Space::Meta, &row_key, &value, RetryRow::read)?;
                round.rows.push((retry, row));
            }
        }
        round.last = None;
        Ok(round)
    }

    /// Reads which retries are void; the removal of their rows begins anew.
    pub(crate) fn load_void_retries(&mut self) -> Result<(), StoreError> {
        let (from, to) = void_retries_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (row_key, value) = row?;
            let before = open(Space::Meta, &row_key, &value, Reader::varint)?;
            let topic = row_key.get(4..).map(id_of_key).transpose()?;
            let key = (id_of_key(&row_key)?, topic.unwrap_or_default());
            self.void_retries.add(key, before, 0);
        }
        Ok(())
    }
}
