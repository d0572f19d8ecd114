//! Defines what the oracle keeps of a message: what may be true of it, and its state in each consumer group.

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
    pub(super) fn pass(&mut self, turn: u64, place: Place, again: bool) -> bool {
        if turn > self.turn {
            self.before = std::cmp::max(self.before, self.newest);
            self.turn = turn;
        }
        self.newest = std::cmp::max(self.newest, place);
        place > self.before || (again && place == self.before)
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
