//! Creates, extends, cancels, closes and reads orders.

pub(crate) mod cancel;
pub(crate) mod close;
pub(crate) mod create;
pub(crate) mod event;
pub(crate) mod extend;
pub(crate) mod force;
pub(crate) mod query;

use crate::error::Error;
use crate::metrics::lost_race;
use crate::model::order::{Order, OrderState};

/// Why nothing that needs a pending order ahead of its deadline can be done to this one, if so; the lost race is
/// counted. The names are those of the transition and of what was wanted.
pub(crate) fn not_open(
    order: &Order,
    now_ms: i64,
    [transition, wanted]: [&'static str; 2],
) -> Option<Error> {
    let (id, state) = (order.id, order.state);
    if state != OrderState::Pending {
        lost_race(transition, state.as_str());
        return Some(Error::OrderState { id, state, wanted });
    }
    if order.deadline_ms <= now_ms {
        lost_race(transition, "deadline");
        let deadline_at_ms = order.deadline_at_ms;
        return Some(Error::DeadlineReached { id, deadline_at_ms });
    }
    None
}
