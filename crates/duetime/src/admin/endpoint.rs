//! Describes a server of one of the two JSON APIs, and as whom to call it.

use std::path::PathBuf;

use hyper::header::HeaderValue;

/// One of the two JSON APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiKind {
    Broker,
    Orders,
}

impl ApiKind {
    pub(super) fn article(self) -> &'static str {
        match self {
            Self::Broker => "a",
            Self::Orders => "an",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker's HTTP API",
            Self::Orders => "order platform",
        }
    }

    pub(super) fn server(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Orders => "order platform",
        }
    }

    pub(super) fn example(self) -> &'static str {
        match self {
            Self::Broker => "http://127.0.0.1:8082",
            Self::Orders => "http://127.0.0.1:8080",
        }
    }

    pub(super) fn variable(self) -> &'static str {
        match self {
            Self::Broker => "DUETIME_URL",
            Self::Orders => "DUETIME_ORDERS_URL",
        }
    }

    pub(super) fn listen(self) -> &'static str {
        match self {
            Self::Broker => "http.listen",
            Self::Orders => "server.listen",
        }
    }

    /// How to pass credentials.
    pub(super) fn credentials(self) -> &'static str {
        match self {
            Self::Broker => {
                "pass those of an account with --account NAME:SECRET (DUETIME_ACCOUNT) or --token (DUETIME_TOKEN)"
            }
            Self::Orders => "pass the operator's key or a merchant's with --key (DUETIME_KEY)",
        }
    }
}

/// A server, and as whom to call it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) api: ApiKind,
    pub(super) server: String,
    /// A file with the certificates to trust.
    pub(super) ca: Option<PathBuf>,
    pub(super) authorization: Option<HeaderValue>,
    /// Sent with every request.
    pub(super) headers: Vec<(&'static str, HeaderValue)>,
}
