//! Defines every limit of the broker's handle and writer loop; those of the engine are in its own `limits`.

/// Commands that may wait for the writer loop; further ones wait for room.
pub(crate) const COMMANDS_MAX: usize = 65_536;
/// Bytes of changes at which a group of changes is closed.
pub(crate) const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// Weight of the commands, in messages, after which a step ends: consumers of other topics are served between steps.
pub(crate) const STEP_WEIGHT_MAX: usize = 2_048;
/// Weight of the commands, in messages, that one lane may have in a row while others wait.
pub(crate) const LANE_WEIGHT_MAX: usize = 256;
/// Weight of a rare command, in messages.
pub(crate) const OTHER_WEIGHT: usize = 16;
/// How long a poll that does not wait otherwise waits for the disk, in ms.
pub(crate) const DISK_WAIT_MS_MAX: u64 = 100;

const _: () = assert!(OTHER_WEIGHT <= LANE_WEIGHT_MAX && LANE_WEIGHT_MAX <= STEP_WEIGHT_MAX);
