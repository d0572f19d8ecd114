//! Provides the open transaction as an operation sees it: the connection, the time, and the rows that are collected
//! to be written together.

use std::sync::Arc;

use broker::clock::Clock;

use crate::metrics::Metric;
use crate::model::audit::{Actor, AuditRow, NewAudit, Who};
use crate::model::outbox::{OutboxRow, Topic, TopicSet};
use crate::model::timer::TimerRow;
use crate::store::sql::Connection;

/// Rows of one table that are written by one statement for many requests.
///
/// Rows stay here until the transaction ends, `flushed` of them already written: a request that is rolled back
/// takes back what it wrote of earlier requests' rows too, and they must be written again.
#[derive(Debug)]
struct Buffer<T> {
    rows: Vec<T>,
    flushed: usize,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        let rows = Vec::new();
        Self { rows, flushed: 0 }
    }
}

impl<T> Buffer<T> {
    fn mark(&self) -> (usize, usize) {
        (self.rows.len(), self.flushed)
    }

    fn return_to(&mut self, (rows, flushed): (usize, usize)) {
        self.rows.truncate(rows);
        self.flushed = flushed;
    }

    fn waiting(&self) -> &[T] {
        self.rows.get(self.flushed..).unwrap_or_default()
    }
}

/// The clock's time as the database stores it, in ms since the Unix epoch.
pub(crate) fn clock_ms(clock: &dyn Clock) -> i64 {
    i64::try_from(clock.now_ms()).unwrap_or(i64::MAX)
}

/// The open transaction.
///
/// Audit, outbox and new timer rows are only written, never read by the same operation, so they are collected
/// and written once for all requests of a commit.
pub(crate) struct Tx {
    pub(super) connection: Connection,
    clock: Arc<dyn Clock>,
    now_ms: i64,
    ahead_ms: i64,
    who: Option<Who>,
    audit: Buffer<AuditRow>,
    outbox: Buffer<OutboxRow>,
    woken: TopicSet,
    timers: Buffer<TimerRow>,
    metrics: Vec<Metric>,
}

/// Where a request began, to return to if it fails.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    audit: (usize, usize),
    outbox: (usize, usize),
    timers: (usize, usize),
    metrics: usize,
}

impl Tx {
    pub(super) fn new(connection: Connection, clock: Arc<dyn Clock>) -> Self {
        Self {
            connection,
            clock,
            now_ms: 0,
            ahead_ms: 0,
            who: None,
            audit: Buffer::default(),
            outbox: Buffer::default(),
            woken: TopicSet::default(),
            timers: Buffer::default(),
            metrics: Vec::new(),
        }
    }

    /// The connection.
    pub(crate) fn conn(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The time that all guards of this request use, in ms since the Unix epoch.
    ///
    /// Read once, inside the writer: requests run one after the other, so the order of their times is the order
    /// of their effects.
    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// What the clock shows now, in ms since the Unix epoch.
    pub(super) fn clock_ms(&self) -> i64 {
        clock_ms(&*self.clock)
    }

    /// How far the engine clock is ahead of the wall clock at this request, in ms; never negative.
    pub(crate) fn ahead_ms(&self) -> i64 {
        self.ahead_ms
    }

    /// The instant of the wall clock at this request, in ms since the Unix epoch.
    pub(crate) fn wall_now_ms(&self) -> i64 {
        self.now_ms - self.ahead_ms
    }

    /// Sets who asked for this request.
    pub(super) fn set_who(&mut self, who: Option<Who>) {
        self.who = who;
    }

    /// Who asked for this request, if it is known.
    pub(crate) fn who(&self) -> Option<&str> {
        self.who.as_ref().map(Who::as_str)
    }

    /// Who does what only `asking` can ask for: the platform itself does it without a request.
    pub(crate) fn actor(&self, asking: Actor) -> Actor {
        if self.who.is_some() {
            asking
        } else {
            Actor::System
        }
    }

    /// Writes an audit row with this request.
    pub(crate) fn audit(&mut self, new: NewAudit) {
        let who = self.who.clone().filter(|_| new.actor.asks());
        self.audit.rows.push(AuditRow {
            at_ms: self.now_ms,
            who,
            new,
        });
    }

    /// Writes a message to the outbox with this request.
    pub(crate) fn publish(&mut self, row: OutboxRow) {
        self.outbox.rows.push(row);
    }

    /// Wakes the relay of a topic after the commit: rows that were there before are to be published.
    pub(crate) fn wake(&mut self, topic: Topic) {
        self.woken.insert(topic);
    }

    /// Topics whose relay is to be woken.
    pub(super) fn woken(&self) -> TopicSet {
        self.woken
    }

    /// Writes a new timer row with this request.
    pub(crate) fn arm(&mut self, row: TimerRow) {
        self.timers.rows.push(row);
    }

    /// Measures something once this request is committed.
    pub(crate) fn record(&mut self, metric: Metric) {
        self.metrics.push(metric);
    }

    /// The connection, and the new timer rows that are not written yet.
    pub(super) fn waiting_timers(&mut self) -> (&mut Connection, &[TimerRow]) {
        (&mut self.connection, self.timers.waiting())
    }

    /// Marks the new timer rows as written.
    pub(super) fn set_timers_written(&mut self) {
        self.timers.flushed = self.timers.rows.len();
    }

    /// The connection, and the audit rows that are not written yet.
    pub(super) fn waiting_audit(&mut self) -> (&mut Connection, &[AuditRow]) {
        (&mut self.connection, self.audit.waiting())
    }

    /// The connection, and the outbox rows that are not written yet.
    pub(super) fn waiting_outbox(&mut self) -> (&mut Connection, &[OutboxRow]) {
        (&mut self.connection, self.outbox.waiting())
    }

    /// Begins a request.
    pub(super) fn begin_request(&mut self) -> Mark {
        self.now_ms = self.clock_ms();
        self.ahead_ms = i64::try_from(self.clock.ahead_ms()).unwrap_or(0);
        Mark {
            audit: self.audit.mark(),
            outbox: self.outbox.mark(),
            timers: self.timers.mark(),
            metrics: self.metrics.len(),
        }
    }

    /// Forgets what the request collected since the mark.
    pub(super) fn return_to(&mut self, mark: Mark) {
        self.audit.return_to(mark.audit);
        self.outbox.return_to(mark.outbox);
        self.timers.return_to(mark.timers);
        self.metrics.truncate(mark.metrics);
    }

    /// Records the metrics of the transaction, which has just been committed.
    pub(super) fn record_metrics(&mut self) {
        self.metrics.drain(..).for_each(Metric::record);
    }

    /// Forgets everything collected, after the transaction has ended.
    pub(super) fn clear(&mut self) {
        self.audit.return_to((0, 0));
        self.outbox.return_to((0, 0));
        self.woken = TopicSet::default();
        self.timers.return_to((0, 0));
        self.metrics.clear();
    }
}
