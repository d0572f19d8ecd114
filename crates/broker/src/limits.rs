//! Defines every limit of the broker's handle and writer; those of the engine are in its own `limits`.

use std::time::Duration;

/// Rooms in which commands wait for a turn of the writer, by their lane.
pub(crate) const ROOMS: usize = 64;
/// Commands that may wait in one room; further ones wait for room.
pub(crate) const ROOM_COMMANDS_MAX: usize = 1_024;
/// Messages of a batch that are one command.
pub(crate) const BATCH_MESSAGES_MAX: usize = 128;
/// Bytes of bodies after which the rest of a batch is another command.
pub(crate) const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Deliveries of one command that renews, hands back or lets lapse many.
pub(crate) const HANDLES_MAX: usize = 512;
/// Bytes that weigh as much as a message.
pub(crate) const WEIGHT_BYTES: usize = 4_096;
/// Bytes of changes at which a group of changes is closed.
pub(crate) const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// Weight of the commands, in messages, after which a step ends: consumers of other topics are served between steps.
pub(crate) const STEP_WEIGHT_MAX: usize = 2_048;
/// Units of work of the engine after which a step ends, each about a microsecond: what is left is done in the next one.
pub(crate) const STEP_UNITS: u64 = 2_048;
/// Time after which a step ends as well, should its work take longer than its units say.
pub(crate) const STEP_TIME: Duration = Duration::from_millis(2);
/// The most units a step takes beyond its own: those of one command and of one poll at its end.
pub(crate) const BEYOND_STEP_UNITS: u64 = 16_384;
/// The part of a step, one in so many, that what is due by itself may spend, that polls may spend at the least whatever
/// commands have left of it, and that the ends of polls may spend beyond it.
pub(crate) const STEP_PART: u64 = 4;
/// Time after which a step on a client's thread ends: it has others to serve.
pub(crate) const BRIEF_TIME: Duration = Duration::from_micros(500);
/// Steps that a client's thread executes for one command; commands that come meanwhile are left to another thread then.
pub(crate) const BRIEF_TURNS_MAX: usize = 2;
/// Sends that wait for the end of a sync before a client's thread executes them.
pub(crate) const SENDS_LEFT_MAX: usize = 63;
/// Weight of the commands, in messages, that one lane may have in a row while others wait.
pub(crate) const LANE_WEIGHT_MAX: usize = 256;
/// Weight of a rare command, in messages.
pub(crate) const OTHER_WEIGHT: usize = 16;
/// Time between two writes of leases by themselves, in ms: made at once, each delivery would cost a write and a sync,
/// and mostly the acknowledgement that follows writes them too.
pub(crate) const NOTES_EVERY_MS: u64 = 100;
/// How long a poll that does not wait otherwise waits for the disk, or for the end of a long look, in ms.
pub(crate) const IMPATIENT_WAIT_MS_MAX: u64 = 100;

const _: () = assert!(OTHER_WEIGHT <= LANE_WEIGHT_MAX && LANE_WEIGHT_MAX <= STEP_WEIGHT_MAX);
