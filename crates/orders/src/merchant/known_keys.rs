//! Remembers API keys that were looked up before.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use uuid::Uuid;

use crate::ids::ApiKeyId;
use crate::model::merchant::KeyHolder;

/// Keys that were looked up before. Std locks: held for one look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct KnownKeys {
    known: RwLock<Known>,
    /// When keys were last used, on the wall clock, as far as that is not stored.
    used_at_ms: Mutex<HashMap<Uuid, i64>>,
}

#[derive(Debug, Default)]
struct Known {
    holders: HashMap<[u8; 32], KeyHolder>,
    /// Rises when a key is revoked: what was read before must not be remembered after.
    revocations: u64,
}

/// Keys remembered at most; beyond it they are looked up again.
const KNOWN_KEYS_MAX: usize = 10_000;

impl KnownKeys {
    pub(crate) fn get(&self, hash: &[u8; 32]) -> (Option<KeyHolder>, u64) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.holders.get(hash).cloned(), known.revocations)
    }

    pub(crate) fn remember(&self, hash: [u8; 32], holder: KeyHolder, revocations: u64) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.revocations != revocations {
            return;
        }
        if known.holders.len() >= KNOWN_KEYS_MAX {
            known.holders.clear();
        }
        known.holders.insert(hash, holder);
    }

    pub(crate) fn forget_all(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.holders.clear();
        known.revocations += 1;
    }

    /// Remembers that a key was used.
    pub(crate) fn note_use(&self, id: ApiKeyId, at_ms: i64) {
        self.used().insert(id.uuid(), at_ms);
    }

    /// When the key was last used, if that is not stored yet.
    pub(crate) fn used_at_ms(&self, id: ApiKeyId) -> Option<i64> {
        self.used().get(&id.uuid()).copied()
    }

    /// When keys were last used, to be stored.
    pub(crate) fn take_used(&self) -> Vec<(ApiKeyId, i64)> {
        let used = std::mem::take(&mut *self.used());
        let used = used.into_iter();
        used.map(|(id, at_ms)| (ApiKeyId::from_uuid(id), at_ms))
            .collect()
    }

    fn used(&self) -> MutexGuard<'_, HashMap<Uuid, i64>> {
        self.used_at_ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets all keys when it is dropped, also where the revocation fails: it may have been committed.
pub(super) struct ForgetAtEnd<'a>(pub(super) &'a KnownKeys);

impl Drop for ForgetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.forget_all();
    }
}
