//! Judges the answers to producers: to sends, recalls and reschedules.

use engine::limits::FLOOR_AHEAD_MS;
use engine::{MessageHandle, Place, Recall};

use super::story::{Possible, fits};
use super::{Oracle, Violation, broken};
use crate::operation::place_text;

impl Oracle {
    /// A message surely is at a place now.
    pub(super) fn placed_at(
        &mut self,
        number: u64,
        handle: MessageHandle,
    ) -> Result<(), Violation> {
        let place = handle.place;
        let story = self.story(number)?;
        story.handle = Some(handle);
        // A delivery may have shown it before the answer did, and a change may have been made since.
        let fits = story.possible.iter().any(|one| fits(*one, place));
        if !fits {
            return broken(
                1,
                format!(
                    "message {number} is stored at {}: {story:?}",
                    place_text(place)
                ),
            );
        }
        self.narrow(number, place)
    }

    pub(super) fn narrow(&mut self, number: u64, place: Place) -> Result<(), Violation> {
        let at = Possible::At {
            due_ms: place.due_ms,
            place: Some(place),
        };
        let story = self.story(number)?;
        story.possible = vec![at];
        let topic = story.topic;
        let come: Vec<_> = story
            .groups
            .iter()
            .map(|seen| seen.deliveries > 0 || seen.dead)
            .collect();
        self.forget(number);
        if self.story(number)?.damaged {
            return Ok(());
        }
        for (group, _) in come.iter().enumerate().filter(|(_, come)| !**come) {
            self.awaited
                .entry((group, topic))
                .or_default()
                .insert((place, number));
        }
        self.story(number)?.awaited = Some(place);
        Ok(())
    }

    pub(super) fn forget(&mut self, number: u64) {
        let Some(story) = self.stories.get_mut(&number) else {
            return;
        };
        let Some(place) = story.awaited.take() else {
            return;
        };
        for group in 0..story.groups.len() {
            if let Some(awaited) = self.awaited.get_mut(&(group, story.topic)) {
                awaited.remove(&(place, number));
            }
        }
    }

    pub(super) fn refused(&mut self, number: u64) -> Result<(), Violation> {
        let story = self.story(number)?;
        if story.groups.iter().any(|seen| seen.deliveries > 0) {
            return broken(2, format!("message {number} was refused and delivered"));
        }
        story.possible = vec![Possible::Absent];
        Ok(())
    }

    /// A change begins; from now on the message may be so.
    pub(super) fn asked(&mut self, number: u64, possible: Possible) -> Result<(), Violation> {
        let story = self.story(number)?;
        story.asked = Some(possible);
        story.possible.push(possible);
        self.forget(number);
        Ok(())
    }

    pub(super) fn recalled(
        &mut self,
        number: u64,
        verdict: Recall,
        now_ms: u64,
    ) -> Result<(), Violation> {
        if verdict != Recall::Cancelled {
            return self.unchanged(number, verdict, now_ms);
        }
        let story = self.story(number)?;
        story.asked = None;
        if story
            .groups
            .iter()
            .any(|seen| seen.deliveries > 0 || seen.dead)
        {
            return broken(
                4,
                format!("message {number} was delivered and then cancelled: {story:?}"),
            );
        }
        story.possible = vec![Possible::Cancelled];
        self.forget(number);
        Ok(())
    }

    pub(super) fn moved(&mut self, number: u64, handle: MessageHandle) -> Result<(), Violation> {
        let story = self.story(number)?;
        let asked = story.asked.take();
        story.handle = Some(handle);
        if story.groups.iter().any(|seen| seen.deliveries > 0)
            && !story.possible.iter().any(|one| fits(*one, handle.place))
        {
            return broken(
                4,
                format!("message {number} was delivered and then moved: {story:?}"),
            );
        }
        if !asked.is_none_or(|asked| fits(asked, handle.place)) {
            return broken(
                1,
                format!(
                    "message {number} was moved to {}: {asked:?}",
                    place_text(handle.place)
                ),
            );
        }
        self.narrow(number, handle.place)
    }

    /// A change was refused, and the reason has to be true.
    pub(super) fn unchanged(
        &mut self,
        number: u64,
        verdict: Recall,
        now_ms: u64,
    ) -> Result<(), Violation> {
        self.latest_ms = std::cmp::max(self.latest_ms, now_ms);
        // After a restart everything up to the floor counts as due: it may have been shown before.
        let due_by_ms = self.latest_ms + FLOOR_AHEAD_MS;
        let gone_ms = self.latest_ms.saturating_sub(self.rules.retention_ms);
        let story = self.story(number)?;
        let asked = story.asked.take();
        if let Some(asked) = asked
            && let Some(index) = story.possible.iter().rposition(|one| *one == asked)
        {
            story.possible.remove(index);
        }
        if story.damaged {
            return Ok(());
        }
        let due_before = |limit_ms: u64| move |one: &Possible| matches!(one, Possible::At { due_ms, .. } if *due_ms <= limit_ms);
        let nowhere = |one: &Possible| matches!(one, Possible::Absent | Possible::Cancelled);
        let true_ = match verdict {
            Recall::TooLate => story.possible.iter().any(due_before(due_by_ms)),
            _ => story
                .possible
                .iter()
                .any(|one| nowhere(one) || due_before(gone_ms)(one)),
        };
        if !true_ {
            return broken(
                4,
                format!("{verdict:?} at {now_ms} of message {number}: {story:?}"),
            );
        }
        if verdict == Recall::TooLate {
            story.possible.retain(|one| !nowhere(one));
        }
        if let [
            Possible::At {
                place: Some(place), ..
            },
        ] = story.possible.as_slice()
        {
            let place = *place;
            self.narrow(number, place)?;
        }
        Ok(())
    }
}
