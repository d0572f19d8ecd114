//! Warns of accounts that have no gateway in this process, once a minute each.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::ids::GatewayAccountId;

/// Wait for the gateway of an account that has none, in ms.
pub(crate) const NO_GATEWAY_DELAY_MS: i64 = 60_000;
/// How long after a warning the next one about the same account comes at the earliest, in ms.
const QUIET_MS: i64 = 60_000;

/// When each account was last found to have no gateway.
#[derive(Debug, Default)]
pub(crate) struct MissingGateways {
    // Locked for one look-up in a small map, never across an await.
    warned_ms: Mutex<BTreeMap<Uuid, i64>>,
}

impl MissingGateways {
    /// Warns that the account has no gateway, unless it was warned of within the last minute.
    pub(crate) fn warn(&self, account_id: GatewayAccountId, now_ms: i64) {
        if self.is_news(account_id, now_ms) {
            tracing::warn!(account = %account_id, "the account has no gateway");
        }
    }

    fn is_news(&self, account_id: GatewayAccountId, now_ms: i64) -> bool {
        let warned = self.warned_ms.lock();
        let mut warned = warned.unwrap_or_else(PoisonError::into_inner);
        let last_ms = warned.get(&account_id.uuid());
        if last_ms.is_some_and(|last_ms| now_ms - last_ms < QUIET_MS) {
            return false;
        }
        warned.insert(account_id.uuid(), now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_is_warned_of_once_a_minute() {
        let missing = MissingGateways::default();
        let [first, second] = [GatewayAccountId::new(1), GatewayAccountId::new(2)];
        assert!(missing.is_news(first, 1_000));
        assert!(missing.is_news(second, 1_000));
        assert!(!missing.is_news(first, 60_999));
        assert!(missing.is_news(first, 61_000));
        assert!(!missing.is_news(first, 61_001));
    }
}
