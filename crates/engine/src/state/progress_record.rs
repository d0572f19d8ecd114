//! Implements the record of a queue's progress: how it is written and read.

use crate::format::codec::{Reader, put_near, put_place, put_varint, read_near, read_place};
use crate::place::{LEVEL_MAX, Place};
use crate::state::progress::{Early, Progress, Slot, SlotState};

/// Some slot has the hash of a message group.
const HAS_LINES: u64 = 1;
/// Slots are written in runs.
const IN_RUNS: u64 = 2;

const LEASED: u8 = 0;
const LEASED_UNCOUNTED: u8 = 1;
const OPEN: u8 = 2;

impl Slot {
    /// Whether everything but its place and its message is as in another one.
    fn is_like(&self, other: &Self) -> bool {
        let shared = |slot: &Self| (slot.state, slot.attempts, slot.returned, slot.place.level);
        shared(self) == shared(other)
    }

    /// Appends what several may share; `last_ms` is the instant of the state before it.
    fn encode_state(&self, buffer: &mut Vec<u8>, last_ms: &mut u64) {
        put_varint(buffer, u64::from(self.attempts));
        put_varint(buffer, u64::from(self.returned));
        let (kind, at_ms) = match self.state {
            SlotState::Leased {
                until_ms,
                counts: true,
            } => (LEASED, until_ms),
            SlotState::Leased { until_ms, .. } => (LEASED_UNCOUNTED, until_ms),
            SlotState::Open { from_ms } => (OPEN, from_ms),
        };
        buffer.push(kind);
        put_near(buffer, *last_ms, at_ms);
        *last_ms = at_ms;
    }

    /// Reads what [`Slot::encode_state`] wrote, for a slot without a place.
    fn read_state(reader: &mut Reader, last_ms: &mut u64) -> Result<Self, &'static str> {
        let attempts = read_short(reader)?;
        let returned = read_short(reader)?;
        let kind = reader.u8()?;
        let at_ms = read_near(reader, *last_ms)?;
        *last_ms = at_ms;
        let state = match kind {
            LEASED | LEASED_UNCOUNTED => SlotState::Leased {
                until_ms: at_ms,
                counts: kind == LEASED,
            },
            OPEN => SlotState::Open { from_ms: at_ms },
            _ => return Err("the state of a place is unknown"),
        };
        Ok(Self {
            place: Place::START,
            before: Place::START,
            state,
            attempts,
            returned,
            line: 0,
            message: None,
        })
    }
}

impl Progress {
    /// Appends the fields of the record that belong to the queue.
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_place(buffer, self.position());
        put_place(buffer, self.cursor);
        put_varint(buffer, self.read);
        let has_lines = self.slots.iter().any(|slot| slot.line != 0);
        put_varint(buffer, if has_lines { HAS_LINES } else { IN_RUNS });
        put_varint(buffer, self.slots.len() as u64);
        if has_lines {
            self.encode_each(buffer);
        } else {
            self.encode_runs(buffer);
        }
        put_varint(buffer, self.early.len() as u64);
        let mut last = self.cursor;
        for (place, early) in &self.early {
            put_step(buffer, last, *place);
            last = *place;
            match early {
                Early::Acked => put_varint(buffer, 0),
                Early::Failed { attempts, from_ms } => {
                    put_varint(buffer, u64::from(*attempts));
                    put_varint(buffer, *from_ms);
                }
            }
        }
    }

    /// Appends the open messages one by one, with their message groups.
    fn encode_each(&self, buffer: &mut Vec<u8>) {
        let mut last = self.position();
        let mut last_ms = last.due_ms;
        for slot in &self.slots {
            put_step(buffer, last, slot.place);
            last = slot.place;
            slot.encode_state(buffer, &mut last_ms);
            buffer.extend_from_slice(&slot.line.to_be_bytes());
        }
    }

    /// Appends the open messages in runs of those that one receive has taken: what they share is written once.
    fn encode_runs(&self, buffer: &mut Vec<u8>) {
        let mut last = self.position();
        let mut last_ms = last.due_ms;
        let mut rest = self.slots.iter();
        while let Some(first) = rest.clone().next() {
            let run = rest.clone().take_while(|slot| slot.is_like(first)).count();
            put_varint(buffer, run as u64);
            first.encode_state(buffer, &mut last_ms);
            buffer.push(first.place.level);
            for slot in rest.by_ref().take(run) {
                put_varint(buffer, slot.place.due_ms.saturating_sub(last.due_ms));
                put_near(buffer, last.sequence, slot.place.sequence);
                last = slot.place;
            }
        }
    }

    /// Reads what [`Progress::encode`] wrote, or the record of format 1.
    pub(crate) fn read(reader: &mut Reader) -> Result<Self, &'static str> {
        if reader.format() < 2 {
            return Self::read_first_format(reader);
        }
        let position = read_place(reader)?;
        let mut progress = Self::starting_at(read_place(reader)?);
        progress.read = reader.count()?;
        let flags = reader.varint()?;
        let count = reader.length()?;
        if flags & IN_RUNS == 0 {
            progress.read_each(reader, (position, count), flags & HAS_LINES != 0)?;
        } else {
            progress.read_runs(reader, (position, count))?;
        }
        progress.look_again();
        let mut last = progress.cursor;
        for _ in 0..reader.length()? {
            let place = read_step(reader, last)?;
            progress.early.insert(place, read_early(reader)?);
            last = place;
        }
        Ok(progress)
    }

    /// Reads what [`Progress::encode_each`] wrote; without message groups as well.
    fn read_each(
        &mut self,
        reader: &mut Reader,
        (position, count): (Place, usize),
        has_lines: bool,
    ) -> Result<(), &'static str> {
        let mut last = position;
        let mut last_ms = last.due_ms;
        for _ in 0..count {
            let place = read_step(reader, last)?;
            let mut slot = Slot::read_state(reader, &mut last_ms)?;
            slot.line = if has_lines { reader.u64()? } else { 0 };
            self.add_read(slot, (last, place))?;
            last = place;
        }
        Ok(())
    }

    /// Reads what [`Progress::encode_runs`] wrote.
    fn read_runs(
        &mut self,
        reader: &mut Reader,
        (position, count): (Place, usize),
    ) -> Result<(), &'static str> {
        let mut last = position;
        let mut last_ms = last.due_ms;
        let mut left = count;
        while left > 0 {
            let run = reader.length()?;
            let open = left.checked_sub(run).filter(|_| run > 0);
            left = open.ok_or("a run of places has an impossible length")?;
            let slot = Slot::read_state(reader, &mut last_ms)?;
            let level = reader.u8()?;
            for _ in 0..run {
                let due_ms = last.due_ms.checked_add(reader.varint()?);
                let place = Place {
                    due_ms: due_ms.ok_or("a due time is too large")?,
                    sequence: read_near(reader, last.sequence)?,
                    level,
                };
                check_step(last, place)?;
                self.add_read(slot.clone(), (last, place))?;
                last = place;
            }
        }
        Ok(())
    }

    /// Adds an open message that was read; `last` is what was read directly before it.
    fn add_read(&mut self, slot: Slot, (last, place): (Place, Place)) -> Result<(), &'static str> {
        if place > self.cursor {
            return Err("an open place is beyond the cursor");
        }
        let slot = Slot {
            place,
            before: last,
            ..slot
        };
        self.push(slot, 0);
        Ok(())
    }

    /// Format 1 kept the position and what was done beyond it; leases ended with the process.
    fn read_first_format(reader: &mut Reader) -> Result<Self, &'static str> {
        let mut progress = Self::starting_at(read_place(reader)?);
        progress.read = reader.count()?;
        let mut due_ms = progress.cursor.due_ms;
        for _ in 0..reader.length()? {
            due_ms = due_ms
                .checked_add(reader.varint()?)
                .ok_or("a due time is too large")?;
            let place = Place {
                due_ms,
                sequence: reader.varint()?,
                level: reader.u8()?,
            };
            progress.early.insert(place, read_early(reader)?);
        }
        Ok(progress)
    }
}

fn read_early(reader: &mut Reader) -> Result<Early, &'static str> {
    Ok(match read_short(reader)? {
        0 => Early::Acked,
        attempts => Early::Failed {
            attempts,
            from_ms: reader.varint()?,
        },
    })
}

/// Reads a count of deliveries.
pub(crate) fn read_short(reader: &mut Reader) -> Result<u16, &'static str> {
    u16::try_from(reader.varint()?).map_err(|_| "an attempt count is too large")
}

/// Writes a place after `last`.
pub(crate) fn put_step(buffer: &mut Vec<u8>, last: Place, place: Place) {
    put_varint(buffer, place.due_ms.saturating_sub(last.due_ms));
    put_near(buffer, last.sequence, place.sequence);
    buffer.push(place.level);
}

/// Reads a place after `last`.
pub(crate) fn read_step(reader: &mut Reader, last: Place) -> Result<Place, &'static str> {
    let due_ms = last.due_ms.checked_add(reader.varint()?);
    let place = Place {
        due_ms: due_ms.ok_or("a due time is too large")?,
        sequence: read_near(reader, last.sequence)?,
        level: reader.u8()?,
    };
    check_step(last, place)?;
    Ok(place)
}

fn check_step(last: Place, place: Place) -> Result<(), &'static str> {
    if place <= last {
        return Err("places are out of order");
    }
    if place.level > LEVEL_MAX {
        return Err("a place is impossible");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn place(due_ms: u64, sequence: u64, level: u8) -> Place {
        Place {
            due_ms,
            sequence,
            level,
        }
    }

    fn leased(place: Place, before: Place, until_ms: u64) -> Slot {
        Slot {
            place,
            before,
            state: SlotState::Leased {
                until_ms,
                counts: true,
            },
            attempts: 1,
            returned: 0,
            line: 0,
            message: None,
        }
    }

    /// What a record keeps of a slot.
    fn kept(slot: &Slot) -> (Place, Place, SlotState, u16, u16, u64) {
        let Slot { place, before, .. } = *slot;
        let counts = (slot.attempts, slot.returned);
        (place, before, slot.state, counts.0, counts.1, slot.line)
    }

    fn read_back(progress: &Progress) -> (Progress, usize) {
        let mut buffer = vec![2];
        progress.encode(&mut buffer);
        let bytes = buffer.len();
        let mut reader = Reader::new(Bytes::from(buffer));
        reader.read_format().unwrap();
        let read = Progress::read(&mut reader).unwrap();
        assert!(reader.is_empty());
        let all = |progress: &Progress| progress.slots.iter().map(kept).collect::<Vec<_>>();
        assert_eq!(all(&read), all(progress));
        (read, bytes)
    }

    #[test]
    fn open_messages_come_back_and_those_of_one_receive_take_little() {
        let start = place(1_700_000_000_000, 40, 0);
        let mut progress = Progress::starting_at(start);
        let mut last = start;
        for number in 0..512_u64 {
            let next = place(start.due_ms + number / 4, 48 + 8 * number, 0);
            progress.pass(next);
            progress.push(leased(next, last, start.due_ms + 30_000), 0);
            last = next;
        }
        let (read, bytes) = read_back(&progress);
        assert_eq!(read.cursor, last);
        assert!(bytes < 512 * 2 + 64, "{bytes} bytes");
        // Another receive, one that was handed back, another level, and an open one.
        let others = [(0, 1, 1, 0), (1, 5, 1, 0), (2, 5, 3, 1), (3, 5, 3, 1)];
        for (number, wait_ms, attempts, level) in others {
            let next = place(last.due_ms + 1, 10 + number, level);
            progress.pass(next);
            let mut slot = leased(next, last, start.due_ms + 60_000 + wait_ms);
            slot.attempts = attempts;
            if number == 3 {
                slot.state = SlotState::Open { from_ms: wait_ms };
            }
            progress.push(slot, 0);
            last = next;
        }
        read_back(&progress);
        progress.slots[7].line = 77;
        read_back(&progress);
        progress.slots.clear();
        read_back(&progress);
    }

    #[test]
    fn open_messages_that_were_written_one_by_one_are_read() {
        let (first, second) = (place(1_000, 5, 0), place(1_001, 3, 1));
        let mut buffer = vec![2];
        put_place(&mut buffer, Place::START);
        put_place(&mut buffer, second);
        for number in [2, 0, 2] {
            put_varint(&mut buffer, number);
        }
        let mut last = Place::START;
        let mut last_ms = last.due_ms;
        for next in [first, second] {
            put_step(&mut buffer, last, next);
            leased(next, last, 9_000).encode_state(&mut buffer, &mut last_ms);
            last = next;
        }
        put_varint(&mut buffer, 0);
        let mut reader = Reader::new(Bytes::from(buffer));
        reader.read_format().unwrap();
        let read = Progress::read(&mut reader).unwrap();
        let places: Vec<_> = read.slots.iter().map(|slot| slot.place).collect();
        assert_eq!(places, [first, second]);
        assert_eq!(read.slots[1].before, first);
        assert_eq!(read.lease_end_ms, 9_000);
    }
}
