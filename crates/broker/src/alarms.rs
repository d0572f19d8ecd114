//! Logs the alarms of the engine.

use engine::Alarm;

/// Logs an alarm.
pub(crate) fn log(alarm: &Alarm) {
    match alarm {
        Alarm::Unseen {
            group,
            topic,
            unseen_ms,
            lost,
        } => {
            let unseen_hours = unseen_ms / 3_600_000;
            if *lost {
                tracing::warn!(
                    %group,
                    %topic,
                    unseen_hours,
                    "data that a consumer group has not read was dropped: no consumer of it has come for too long"
                );
            } else {
                tracing::warn!(
                    %group,
                    %topic,
                    unseen_hours,
                    "a consumer group without consumers keeps data beyond its retention: start them, or delete the group"
                );
            }
        }
        Alarm::TransactionGivenUp {
            topic,
            message_id,
            transaction,
            checks,
        } => tracing::warn!(
            %topic,
            %message_id,
            %transaction,
            checks,
            "a transaction is given up, its producer has not ended it: the half message is kept and can still be committed or rolled back"
        ),
        Alarm::Unordered { group, topic } => tracing::warn!(
            %group,
            %topic,
            "a consumer group that is not FIFO reads a FIFO topic: its messages may come out of order; use a FIFO group"
        ),
        Alarm::FiltersDiffer { .. }
        | Alarm::NeverRead { .. }
        | Alarm::DeadLettersDropped { .. } => {
            log_loss(alarm);
        }
        Alarm::Damaged {
            topic,
            queue,
            due_ms,
            sequence,
            error,
        } => tracing::error!(
            %topic,
            queue,
            due_ms,
            sequence,
            %error,
            "a message is damaged on the disk and is not delivered: send it again, and look at the disk and the memory"
        ),
    }
}

/// Logs an alarm about messages that a group does not get.
fn log_loss(alarm: &Alarm) {
    match alarm {
        Alarm::FiltersDiffer { group, topic } => tracing::warn!(
            %group,
            %topic,
            "consumers of a consumer group ask for a topic with different filters, or their filter has changed: what one of them leaves out is skipped for the whole group"
        ),
        Alarm::NeverRead { topic, messages } => tracing::warn!(
            %topic,
            messages,
            "messages that no consumer group has read were dropped after their retention"
        ),
        Alarm::DeadLettersDropped { group, messages } => tracing::warn!(
            %group,
            messages,
            "dead letters were dropped after their retention"
        ),
        _ => {}
    }
}
