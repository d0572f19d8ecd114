//! Provides unique ids of a client and of its messages.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicU32, Ordering};

/// The epoch of message ids: 2021-01-01T00:00:00Z.
const EPOCH_S: u64 = 1_609_459_200;

/// The identity of a client.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The name of the machine.
    pub(crate) host: String,
    /// Unique for every client, in every process.
    pub(crate) client_id: String,
    /// The prefix of every message id: the version, six random bytes, two bytes of the process id.
    prefix: String,
    number: AtomicU32,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let process = std::process::id();
        let random = random();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = match host.trim() {
            "" => "localhost".to_owned(),
            host => host.to_owned(),
        };
        Self {
            client_id: format!("{host}@{process}@{random:x}"),
            prefix: format!("01{:012X}{:04X}", random >> 16, process & 0xFFFF),
            host,
            number: AtomicU32::new(0),
        }
    }

    /// The id of a new message, in the form that all clients of the protocol use.
    pub(crate) fn message_id(&self) -> String {
        let second = clock::wall::since_epoch().as_secs().saturating_sub(EPOCH_S) & 0xFFFF_FFFF;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        format!("{}{second:08X}{number:08X}", self.prefix)
    }

    /// The id of one attempt to receive.
    pub(crate) fn attempt_id(&self) -> String {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:x}", self.prefix)
    }
}

/// Random bits, from the seed the standard library draws for its maps.
fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u128(clock::wall::since_epoch().as_nanos());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_the_protocol_and_differ() {
        let (one, other) = (Identity::new(), Identity::new());
        let ids = [one.message_id(), one.message_id(), other.message_id()];
        for id in &ids {
            assert_eq!(id.len(), 34);
            assert!(id.starts_with("01"));
            let is_digit = |digit: u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit);
            assert!(id.bytes().all(is_digit), "{id}");
        }
        assert_ne!(ids[0], ids[1]);
        assert_ne!(ids[0], ids[2]);
        assert_ne!(one.client_id, other.client_id);
    }
}
