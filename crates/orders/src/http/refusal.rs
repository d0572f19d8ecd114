//! Converts the errors of the platform to problem documents.

use super::problem::{Problem, ProblemKind};
use crate::error::Error;
use crate::store::sql::{DbError, DbErrorKind};
use edge::instant::Instant;
use gateway::CallbackError;

/// The `Retry-After`, in s, while the platform starts, stops or waits for its database.
const RETRY_AFTER_S: u32 = 1;
/// How long to wait before trying again, in s, while messages cannot be published.
const PUBLISHING_RETRY_AFTER_S: u32 = 5;

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::NotFound { .. } => Self::new(ProblemKind::NotFound, detail),
            Error::Invalid { field, .. } => Self::invalid(field, detail),
            Error::OrderState { id, state, .. } => Self::new(ProblemKind::OrderState, detail)
                .with("order_id", id.to_string())
                .with("state", state.as_str()),
            Error::RefundState { id, state, .. } => Self::new(ProblemKind::RefundState, detail)
                .with("refund_id", id.to_string())
                .with("state", state.as_str()),
            Error::AttemptState { id, state, .. } => Self::new(ProblemKind::AttemptState, detail)
                .with("attempt_id", id.to_string())
                .with("state", state.as_str()),
            Error::Settled { .. } => Self::new(ProblemKind::Settled, detail),
            Error::DeadlineReached { id, deadline_at_ms } => {
                let deadline = Instant(deadline_at_ms).to_string();
                let detail = format!("the deadline of order {id} was reached at {deadline}");
                Self::new(ProblemKind::DeadlineReached, detail)
                    .with("order_id", id.to_string())
                    .with("deadline", deadline)
            }
            Error::Duplicate { .. } => Self::new(ProblemKind::Duplicate, detail),
            Error::InsufficientStock { id, available, .. } => {
                Self::new(ProblemKind::InsufficientStock, detail)
                    .with("product_id", id.to_string())
                    .with("available", available)
            }
            Error::CouponUnusable { id, .. } => {
                Self::new(ProblemKind::CouponUnusable, detail).with("coupon_id", id.to_string())
            }
            Error::RefundTooLarge { id, left_minor, .. } => {
                Self::new(ProblemKind::RefundTooLarge, detail)
                    .with("payment_id", id.to_string())
                    .with("left_minor", left_minor)
            }
            Error::IdempotencyKeyReused { .. } => {
                Self::new(ProblemKind::IdempotencyKeyReused, detail)
            }
            Error::EventsGone => Self::new(ProblemKind::CursorExpired, detail),
            Error::TooManyFollowers => {
                Self::new(ProblemKind::TooManyRequests, detail).retry_after(RETRY_AFTER_S)
            }
            Error::GatewayRefused { .. } => Self::new(ProblemKind::GatewayRefused, detail),
            Error::Callback(CallbackError::Body(_)) => {
                Self::new(ProblemKind::MalformedRequest, detail)
            }
            Error::Callback(_) => Self::new(ProblemKind::CallbackRejected, detail),
            Error::Stopped => {
                Self::new(ProblemKind::Unavailable, detail).retry_after(RETRY_AFTER_S)
            }
            Error::NotPublishing { .. } => {
                Self::new(ProblemKind::Unavailable, detail).retry_after(PUBLISHING_RETRY_AFTER_S)
            }
            Error::Database(error) => of_database(&error),
            _ => Self::internal(detail),
        }
    }
}

fn of_database(error: &DbError) -> Problem {
    match error.kind {
        DbErrorKind::Unavailable => {
            Problem::new(ProblemKind::Unavailable, "the database does not answer")
                .retry_after(RETRY_AFTER_S)
                .cause(error.to_string())
        }
        DbErrorKind::Full => {
            let detail = "the disk of the database has no room left";
            Problem::new(ProblemKind::InsufficientStorage, detail).cause(error.to_string())
        }
        _ => Problem::internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::OrderId;
    use crate::model::order::OrderState;

    #[test]
    fn a_lost_race_reports_the_current_state() {
        let id = OrderId::new(0);
        let problem = Problem::from(Error::OrderState {
            id,
            state: OrderState::Closed,
            wanted: "paid",
        });
        let body = problem.to_json();
        assert_eq!(problem.kind(), ProblemKind::OrderState);
        assert_eq!(body["state"], "closed");
        assert_eq!(body["order_id"], id.to_string());
        assert_eq!(body["status"], 409);
    }

    #[test]
    fn the_cause_of_a_failure_is_not_in_the_answer() {
        let problem = Problem::from(Error::Unreadable {
            what: "order state",
            detail: "secret 17".to_owned(),
        });
        assert_eq!(problem.kind(), ProblemKind::Internal);
        assert!(!problem.to_json().to_string().contains("secret"));
        let problem = Problem::from(Error::Database(DbError::unavailable("no answer")));
        assert_eq!(problem.kind(), ProblemKind::Unavailable);
    }

    #[test]
    fn a_reached_deadline_is_reported_as_an_instant() {
        let error = Error::DeadlineReached {
            id: OrderId::new(0),
            deadline_at_ms: 1_000,
        };
        let body = Problem::from(error).to_json();
        assert_eq!(body["deadline"], "1970-01-01T00:00:01.000Z");
    }
}
