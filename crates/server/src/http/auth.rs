//! Authenticates the caller, and refuses what its account may not do.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge::caller::Caller as Origin;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::ApiState;
use super::problem::{Problem, ProblemKind};
use crate::access::{Account, Action, Caller, Credentials};

/// An authenticated caller.
#[derive(Debug)]
pub(super) struct Known(Arc<dyn Account>);

impl Known {
    /// Refuses a caller who may not send to the topic.
    pub(super) fn publish(&self, topic: &str) -> Result<(), Problem> {
        self.allow(Action::Publish { topic }, || {
            format!("send to topic {topic:?}")
        })
    }

    /// Refuses a caller who may not receive from the topic as a member of the group.
    pub(super) fn consume(&self, topic: &str, group: &str) -> Result<(), Problem> {
        self.allow(Action::Consume { topic, group }, || {
            format!("receive from topic {topic:?} as group {group:?}")
        })
    }

    /// Refuses a caller who may not administer the broker.
    pub(super) fn administer(&self) -> Result<(), Problem> {
        self.allow(Action::Administer, || "administer the broker".to_owned())
    }

    fn allow(&self, action: Action<'_>, what: impl FnOnce() -> String) -> Result<(), Problem> {
        if self.0.may(action) {
            return Ok(());
        }
        let detail = format!("account {:?} may not {}", self.0.name(), what());
        Err(Problem::new(ProblemKind::Forbidden, detail))
    }
}

impl FromRequestParts<ApiState> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let text = match parts.headers.get(AUTHORIZATION) {
            Some(value) => Some(value.to_str().map_err(|_| unreadable())?),
            None => None,
        };
        let given = text.map(Given::read).transpose()?;
        let caller = Caller {
            credentials: given.as_ref().map(Given::credentials),
            local: Origin::of(parts) == Origin::Local,
        };
        let account = state
            .settings()
            .authenticate
            .authenticate(&caller)
            .map_err(|refused| Problem::new(ProblemKind::Unauthenticated, refused.to_string()))?;
        Ok(Self(account))
    }
}

/// The content of the Authorization header.
enum Given {
    Password { name: String, secret: String },
    Token(String),
}

impl Given {
    fn read(text: &str) -> Result<Self, Problem> {
        let (scheme, value) = text.split_once(' ').ok_or_else(unreadable)?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !value.is_empty() {
            return Ok(Self::Token(value.to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(unreadable());
        }
        let bytes = STANDARD.decode(value).map_err(|_| unreadable())?;
        let pair = String::from_utf8(bytes).map_err(|_| unreadable())?;
        let (name, secret) = pair.split_once(':').ok_or_else(unreadable)?;
        Ok(Self::Password {
            name: name.to_owned(),
            secret: secret.to_owned(),
        })
    }

    fn credentials(&self) -> Credentials<'_> {
        match self {
            Self::Password { name, secret } => Credentials::Password { name, secret },
            Self::Token(token) => Credentials::Token(token),
        }
    }
}

fn unreadable() -> Problem {
    let detail = "the Authorization header is neither `Basic` with a name and a secret nor `Bearer` with a token";
    Problem::new(ProblemKind::Unauthenticated, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_from_both_schemes() {
        let read = |text: &str| Given::read(text).map(|given| format!("{:?}", given.credentials()));
        assert_eq!(read("Basic YW5uOnM6MQ==").unwrap(), "Password of \"ann\"");
        assert_eq!(read("bearer abc").unwrap(), "Token");
        let Ok(Given::Password { secret, .. }) = Given::read("Basic YW5uOnM6MQ==") else {
            panic!("a name and a secret")
        };
        assert_eq!(secret, "s:1");
        for text in ["", "Basic", "Basic !", "Basic YW5u", "Bearer ", "Digest x"] {
            assert_eq!(
                read(text).unwrap_err().kind(),
                ProblemKind::Unauthenticated,
                "{text}"
            );
        }
    }

    #[test]
    fn headers_of_any_content_are_read_or_refused() {
        let target = fuzz::Target::new(env!("CARGO_MANIFEST_DIR"), "authorization");
        let target = target
            .seed("Basic YW5uOnM6MQ==")
            .seed("bearer abc")
            .tokens(&["Basic ", "Bearer ", "====", "Og=="]);
        target.check(|input| {
            if let Ok(text) = std::str::from_utf8(input) {
                let _ = Given::read(text);
            }
        });
    }
}
