//! Defines the hash of message groups and of indexed texts, which the format fixes.

/// FNV-1a: a hash that is the same in every process and version, for queues and index rows.
pub(crate) fn text_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
