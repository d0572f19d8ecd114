//! Defines the counters of a broker since its start.

/// Counters of faults, and of repeated sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Retries whose message was not found: always a defect.
    pub missing_bodies: u64,
    /// Messages whose row on the disk is damaged; they are skipped.
    pub damaged_messages: u64,
    /// Repeated sends that were recognised.
    pub repeats: u64,
    /// Groups whose data was dropped because they had been unseen for too long.
    pub groups_given_up: u64,
    /// Partitions dropped.
    pub partitions_dropped: u64,
    /// Messages moved to dead-letter topics.
    pub dead_letters: u64,
    /// Transactions given up because no producer has ended them; their half messages are kept.
    pub transactions_given_up: u64,
}

/// What went in and out since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages stored, committed transactions among them.
    pub sent: u64,
    /// Deliveries, repeated ones among them.
    pub delivered: u64,
    /// Deliveries acknowledged.
    pub acked: u64,
    /// Deliveries handed back by their consumer.
    pub handed_back: u64,
    /// Deliveries handed back because no consumer had worked on them.
    pub given_back: u64,
    /// Messages cancelled before they were due.
    pub recalled: u64,
    /// Messages moved to another instant.
    pub rescheduled: u64,
    /// Dead letters replayed to their group.
    pub replayed: u64,
    /// Dead letters purged.
    pub purged: u64,
}

/// Messages that were dropped after their retention, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Of topics that no consumer group reads.
    pub never_read: u64,
    /// Dead letters.
    pub dead_letters_dropped: u64,
}

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) tallies: Tallies,
    pub(crate) traffic: Traffic,
    pub(crate) losses: Losses,
}
