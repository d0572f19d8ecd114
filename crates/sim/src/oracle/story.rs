//! Defines what the oracle keeps of a message: what may be true of it, and its state in each consumer group.

use std::collections::BTreeMap;

use engine::{MessageHandle, Place};

/// What may be true of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Possible {
    /// It was never stored.
    Absent,
    Cancelled,
    /// It waits, or has come, at a place; one that is not known is not before `due_ms`.
    At {
        due_ms: u64,
        place: Option<Place>,
    },
}

impl Possible {
    pub(super) fn not_before(due_ms: u64) -> Self {
        Self::At {
            due_ms,
            place: None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) until_ms: u64,
    /// In which turn it was given.
    pub(super) turn: u64,
    /// With which answer.
    pub(super) answer: u64,
}

/// What is known of a message in a consumer group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InGroup {
    pub(super) lease: Option<Lease>,
    pub(super) deliveries: u32,
    pub(super) acked: bool,
    pub(super) dead: bool,
    /// Other ends of deliveries that were begun and not answered.
    pub(super) ending: u32,
    /// Acknowledgements that were begun and not answered.
    pub(super) acking: u32,
    /// How often the group was moved back, or perhaps was: it may come again or not, whatever became of it before.
    pub(super) resets: u32,
    /// A crash came between an acknowledgement and its answer, and the message has not come since.
    pub(super) maybe_acked: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) topic: usize,
    pub(super) message_group: Option<u8>,
    pub(super) possible: Vec<Possible>,
    /// A recall or reschedule that was begun and not answered added these.
    pub(super) asked: Option<Possible>,
    pub(super) handle: Option<MessageHandle>,
    /// Its row may be damaged: then it may never come.
    pub(super) damaged: bool,
    pub(super) groups: Vec<InGroup>,
    /// Where it is noted among the awaited.
    pub(super) awaited: Option<Place>,
}

/// The newest place delivered in earlier turns, and the newest of the turn that goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    pub(super) before: Place,
    pub(super) turn: u64,
    pub(super) newest: Place,
}

impl Reached {
    /// Records a place; answers whether it is in order.
    pub(super) fn pass(&mut self, turn: u64, place: Place) -> bool {
        if turn > self.turn {
            self.before = std::cmp::max(self.before, self.newest);
            self.turn = turn;
        }
        self.newest = std::cmp::max(self.newest, place);
        place > self.before
    }
}

/// What is known of a message group in a consumer group.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// Deliveries since the last crash: where, and in which turn and with which answer it was the last time.
    pub(super) delivered: BTreeMap<Place, (u64, u64)>,
    /// Messages that came.
    pub(super) came: BTreeMap<Place, u64>,
}

impl Line {
    /// Records a delivery; answers whether it is in order: nothing later was delivered since it came the last time,
    /// but with the answer with which it came then.
    pub(super) fn pass(&mut self, place: Place, lease: Lease) -> bool {
        let this = (lease.turn, lease.answer);
        let last = self.delivered.insert(place, this).unwrap_or((0, 0));
        let beyond = (std::ops::Bound::Excluded(place), std::ops::Bound::Unbounded);
        let mut later = self.delivered.range(beyond);
        // Within a turn the order is not known.
        later.all(|(_, (turn, answer))| {
            *turn <= last.0 || *turn == lease.turn || [last.1, lease.answer].contains(answer)
        })
    }

    /// What came of the places before one.
    pub(super) fn before(&self, place: Place) -> Vec<u64> {
        self.came
            .range(..place)
            .map(|(_, number)| *number)
            .collect()
    }

    /// What came and follows a message.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = u64> {
        let mut came = self.came.values().copied();
        came.find(|other| *other == number);
        came
    }
}

impl Default for Reached {
    fn default() -> Self {
        Self {
            before: Place::START,
            turn: 0,
            newest: Place::START,
        }
    }
}

/// Whether a message that may be so may stand at a place.
pub(super) fn fits(possible: Possible, at: Place) -> bool {
    match possible {
        Possible::At {
            place: Some(place), ..
        } => place == at,
        Possible::At {
            due_ms,
            place: None,
        } => at.due_ms >= due_ms,
        Possible::Absent | Possible::Cancelled => false,
    }
}
