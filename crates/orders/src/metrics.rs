//! Defines the business metrics, recorded after their transaction commits.

use crate::model::order::CloseReason;
use crate::model::pause::PauseCause;
use crate::model::payment::PaymentKind;
use crate::model::timer::TimerKind;
use crate::model::unmatched::UnmatchedKind;
use crate::model::webhook::DeliveryState;

/// What needs an operator now, counted in the database.
pub(crate) const NEEDS_OPERATOR: &str = "duetime_needs_operator";

/// One change to the metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Metric {
    /// An order closed, this many ms after it should have.
    Closed { reason: CloseReason, lag_ms: i64 },
    /// An order was paid.
    Paid,
    /// Money came that was not accepted.
    NotAccepted(PaymentKind),
    /// Money was reported that no payment can hold.
    Unmatched(UnmatchedKind),
    /// Timers were armed again.
    Rearmed { kind: TimerKind, count: usize },
    /// The sweeper found something that its timer or event should have done.
    Swept { kind: &'static str, count: usize },
    /// A thing was given up until a person looks at it.
    NeedsOperator(&'static str),
    /// A delivery to a webhook ended.
    Delivery(DeliveryState),
}

impl Metric {
    /// Adds it to the metrics.
    pub(crate) fn record(self) {
        match self {
            Self::Closed { reason, lag_ms } => {
                metrics::counter!("duetime_orders_closed_total", "reason" => reason.as_str())
                    .increment(1);
                if reason == CloseReason::Timeout {
                    metrics::histogram!("duetime_close_lag_seconds").record(seconds(lag_ms));
                }
            }
            Self::Paid => metrics::counter!("duetime_orders_paid_total").increment(1),
            Self::Delivery(state) => {
                metrics::counter!("duetime_webhook_deliveries_total", "outcome" => state.as_str())
                    .increment(1);
            }
            Self::NotAccepted(kind) => {
                metrics::counter!("duetime_payments_not_accepted_total", "kind" => kind.as_str())
                    .increment(1);
            }
            Self::Unmatched(kind) => {
                metrics::counter!("duetime_unmatched_payments_total", "kind" => kind.as_str())
                    .increment(1);
            }
            Self::Rearmed { kind, count } => {
                metrics::counter!("duetime_timers_rearmed_total", "kind" => kind.as_str())
                    .increment(whole(count));
            }
            Self::Swept { kind, count } => {
                metrics::counter!("duetime_sweeper_finds_total", "kind" => kind)
                    .increment(whole(count));
            }
            Self::NeedsOperator(what) => {
                metrics::counter!("duetime_needs_operator_total", "what" => what).increment(1);
            }
        }
    }
}

/// Sets how many things of a kind need an operator now.
#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 things need an operator"
)]
pub(crate) fn set_needs_operator(what: &'static str, count: i64) {
    metrics::gauge!(NEEDS_OPERATOR, "what" => what).set(count as f64);
}

/// Sets how many pauses of a cause are in force.
#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 pauses are in force"
)]
pub(crate) fn set_closing_paused(cause: PauseCause, count: i64) {
    metrics::gauge!("duetime_closing_paused", "cause" => cause.as_str()).set(count as f64);
}

/// Sets how long the oldest message has waited to be published, in ms.
pub(crate) fn set_outbox_age(age_ms: i64) {
    metrics::gauge!("duetime_outbox_age_seconds").set(seconds(age_ms));
}

/// Sets how many messages of a topic wait to be published.
#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 messages wait"
)]
pub(crate) fn set_outbox_waiting(topic: String, messages: i64) {
    metrics::gauge!("duetime_outbox_waiting", "topic" => topic).set(messages as f64);
}

/// Sets how many messages are parked.
#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 messages are parked"
)]
pub(crate) fn set_outbox_parked(messages: i64) {
    metrics::gauge!("duetime_outbox_parked").set(messages as f64);
}

/// Counts a transition that came too late. Its request fails, so there is no commit to wait for.
pub(crate) fn lost_race(transition: &'static str, cause: &'static str) {
    metrics::counter!("duetime_lost_races_total", "transition" => transition, "cause" => cause)
        .increment(1);
}

/// Counts timer messages by their outcome.
pub(crate) fn count_timers(outcome: &'static str, kind: TimerKind, count: usize) {
    if count > 0 {
        metrics::counter!("duetime_timers_total", "outcome" => outcome, "kind" => kind.as_str())
            .increment(whole(count));
    }
}

/// Counts overdue timers that the sweeper handled although they were not lost.
pub(crate) fn count_handled(kind: TimerKind, count: usize) {
    if count > 0 {
        metrics::counter!("duetime_sweep_handled_total", "kind" => kind.as_str())
            .increment(whole(count));
    }
}

/// Milliseconds in the base unit of metrics.
#[expect(
    clippy::cast_precision_loss,
    reason = "lags and ages are far below 2^52 ms"
)]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1_000.0
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
