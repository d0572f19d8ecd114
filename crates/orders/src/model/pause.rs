//! Defines pauses: their scopes and states.

use serde::{Deserialize, Serialize};

use crate::ids::{GatewayAccountId, MerchantId};
use crate::model::stored::stored_enum;

/// What a pause stops.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseScope {
    /// All closing.
    Everything,
    /// Closing the orders of a merchant.
    Merchant(MerchantId),
    /// Closing orders that have a live attempt through a gateway account.
    Account(GatewayAccountId),
}

impl PauseScope {
    /// Its number and subject in the database.
    pub(crate) fn stored(&self) -> (i64, String) {
        match self {
            Self::Everything => (1, String::new()),
            Self::Merchant(id) => (2, id.to_string()),
            Self::Account(id) => (3, id.to_string()),
        }
    }

    /// The scope of a number and a subject from the database; `None` if they are unknown.
    pub(crate) fn from_stored(scope: i64, subject: &str) -> Option<Self> {
        match scope {
            1 => Some(Self::Everything),
            2 => subject.parse().ok().map(Self::Merchant),
            3 => subject.parse().ok().map(Self::Account),
            _ => None,
        }
    }

    /// The subject of its audit rows.
    pub(crate) fn audit_subject(&self) -> String {
        match self {
            Self::Everything => "pause".to_owned(),
            Self::Merchant(id) => format!("pause of merchant {id}"),
            Self::Account(id) => format!("pause of account {id}"),
        }
    }
}

stored_enum! {
    /// The state of a pause.
    pub enum PauseState ("pause state") {
        /// Nothing of its scope is closed.
        Paused = 1 "paused",
        /// It was resumed; what waited is being released at a limited rate.
        Resuming = 2 "resuming",
        /// It was resumed, and nothing waits because of it.
        Ended = 3 "ended",
    }
}

stored_enum! {
    /// What began a pause.
    pub enum PauseCause ("cause of a pause") {
        /// A request.
        Request = 1 "request",
        /// A clock so far ahead of the last recorded instant that it may be wrong.
        Clock = 2 "clock",
    }
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What it stops.
    pub scope: PauseScope,
    /// Its state.
    pub state: PauseState,
    /// What began it.
    pub cause: PauseCause,
    /// Why, for a person.
    pub reason: String,
    /// Since when, in ms since the Unix epoch.
    pub since_ms: i64,
}
