//! Publishes the events of orders.

use crate::messaging::event::{self, NewEvent};
use crate::model::order::Order;
use crate::store::Tx;

/// Publishes an event of the order, with the order as its data.
pub(crate) fn emit(tx: &mut Tx, kind: &'static str, order: &Order) {
    event::emit(
        tx,
        NewEvent {
            kind,
            merchant_id: &order.merchant_id,
            subject: order.id.to_string(),
            data: order,
        },
    );
}
