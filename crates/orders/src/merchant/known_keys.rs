//! Remembers API keys that were looked up before.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::ids::MerchantId;

/// Keys that were looked up before. A std lock: held for one look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct KnownKeys(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    merchants: HashMap<[u8; 32], MerchantId>,
    /// Rises when a key is revoked: what was read before must not be remembered after.
    revocations: u64,
}

/// Keys remembered at most; beyond it they are looked up again.
const KNOWN_KEYS_MAX: usize = 10_000;

impl KnownKeys {
    pub(crate) fn get(&self, hash: &[u8; 32]) -> (Option<MerchantId>, u64) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (known.merchants.get(hash).cloned(), known.revocations)
    }

    pub(crate) fn remember(&self, hash: [u8; 32], merchant_id: MerchantId, revocations: u64) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.revocations != revocations {
            return;
        }
        if known.merchants.len() >= KNOWN_KEYS_MAX {
            known.merchants.clear();
        }
        known.merchants.insert(hash, merchant_id);
    }

    pub(crate) fn forget_all(&self) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.merchants.clear();
        known.revocations += 1;
    }
}
