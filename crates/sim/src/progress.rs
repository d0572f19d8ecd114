//! Checks that a simulated broker goes on: consumers get what is due, and no step is repeated for nothing.

use engine::limits::READ_MESSAGES_MAX;

use crate::client::Question;
use crate::oracle::Violation;
use crate::plan::{Canary, GROUPS, TOPICS};
use crate::world::World;

/// Steps that the broker may take in a row that do nothing and leave work.
const IDLE_STEPS_MAX: u32 = 64;

impl World {
    /// The broker may not work for ever on nothing.
    pub(crate) fn look_for_spins(&self, now_ms: u64) -> Result<(), Violation> {
        if self.idle_steps <= IDLE_STEPS_MAX {
            return Ok(());
        }
        let what = format!("at {now_ms} the broker takes step after step and does nothing");
        Err(Violation { invariant: 7, what })
    }

    /// No step may take more of the store, or more work by its own count, than is allowed.
    pub(crate) fn look_for_long_steps(&self, now_ms: u64) -> Result<(), Violation> {
        let Some(units) = self.plan.step_units else {
            return Ok(());
        };
        // Beyond its own a step takes one command and one poll, and each reads the store once more.
        let beyond = 2 * (units + READ_MESSAGES_MAX as u64);
        let most = units + units / 4 + beyond;
        let (reads, spent) = self.last_step;
        if reads <= most && spent <= most {
            return Ok(());
        }
        let what = format!(
            "at {now_ms} a step of {units} units read {reads} rows and spent {spent} units"
        );
        Err(Violation { invariant: 7, what })
    }

    /// Whether a question that changes what is in a topic waits for its answer.
    fn is_changing(&self, topic: usize) -> bool {
        self.clients.questions().any(|question| {
            let number = match question {
                Question::Send(open) => open.number,
                Question::Recall(number) | Question::Move(number) => *number,
                _ => return false,
            };
            self.oracle.topic_of(number) == Some(topic)
        })
    }

    /// No consumer may wait for something that is due: when nothing is left to do, and while the disk works as well
    /// if what it works on is in other topics.
    pub(crate) fn look_for_delays(&mut self, now_ms: u64) -> Result<(), Violation> {
        // With answers that come early, no topic is known to be at rest while the disk works.
        let hasty = self.plan.canary == Some(Canary::AnswersEarly);
        let changing: Vec<_> = (0..TOPICS.len())
            .map(|topic| hasty || self.is_changing(topic))
            .collect();
        let Some(core) = &mut self.core else {
            return Ok(());
        };
        if core.has_work() || core.next_event_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            return Ok(());
        }
        let idle = self.sync.is_none() && !core.engine().has_staged();
        if !idle && core.engine().awaits_floor(now_ms) {
            return Ok(());
        }
        let parked = self
            .clients
            .questions()
            .filter_map(|question| match question {
                Question::Poll {
                    reader,
                    parks: true,
                    ..
                } if reader.group == 0 && (idle || changing.get(reader.topic) == Some(&false)) => {
                    Some(*reader)
                }
                _ => None,
            });
        for reader in parked {
            let (topic, group) = (TOPICS.get(reader.topic), GROUPS.get(reader.group));
            let (Some(topic), Some(group)) = (topic, group) else {
                continue;
            };
            let stats = core.engine().group_stats(now_ms, topic, group);
            let full = stats
                .is_ok_and(|stats| stats.in_flight >= self.plan.config.limits.in_flight_max as u64);
            if full {
                continue;
            }
            if let Some(number) = self.oracle.overdue(reader.group, reader.topic, now_ms) {
                let what =
                    format!("message {number} is due at {now_ms}, and {group} still waits for it");
                return Err(Violation { invariant: 8, what });
            }
        }
        Ok(())
    }
}
