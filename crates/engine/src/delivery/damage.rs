//! Skips damaged messages: an unreadable message is reported once and its queue continues.

use crate::engine::Engine;
use crate::limits::DAMAGED_MAX;
use crate::message::Message;
use crate::place::MessageAt;
use crate::state::alarms::Alarm;
use crate::store::{Store, StoreError};

impl<S: Store> Engine<S> {
    /// What was read, or nothing if its row is damaged.
    pub(crate) fn unless_damaged(
        &mut self,
        spot: MessageAt,
        read: Result<Message, StoreError>,
    ) -> Result<Option<Message>, StoreError> {
        match read {
            Ok(message) => Ok(Some(message)),
            Err(error) => self.set_aside(spot, error).map(|()| None),
        }
    }

    /// Notes a message whose row is damaged, once; any other error is given back.
    ///
    /// So is this one if there are too many: then the disk or the memory fails, and not one row.
    pub(crate) fn set_aside(
        &mut self,
        spot: MessageAt,
        error: StoreError,
    ) -> Result<(), StoreError> {
        if !matches!(error, StoreError::Damaged { .. }) {
            return Err(error);
        }
        if self.damaged.contains(spot) {
            return Ok(());
        }
        if self.damaged.len() >= DAMAGED_MAX {
            return Err(error);
        }
        self.damaged.add(spot);
        self.counters.tallies.damaged_messages += 1;
        let (topic, queue, place) = spot;
        let topic = self.catalog.topics.get(&topic);
        self.alarms.raise(Alarm::Damaged {
            topic: topic.map_or_else(String::new, |topic| topic.spec.name.clone()),
            queue,
            due_ms: place.due_ms,
            sequence: place.sequence,
            error: error.to_string(),
        });
        Ok(())
    }
}

impl<S: Store> Engine<S> {
    /// Counts a retry whose message is not there: a defect, unless it is damaged or was a purged dead letter.
    pub(crate) fn note_missing(&mut self, spot: MessageAt) {
        if !self.damaged.contains(spot) && self.catalog.dead_letter_group(spot.0).is_err() {
            self.counters.tallies.missing_bodies += 1;
        }
    }
}
