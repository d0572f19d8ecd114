//! Provides a broker with its router for the tests, and short ways to call it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use broker::clock::{Clock as _, ManualClock};
use broker::{Broker, BrokerConfig};
use edge::budget::Budget;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::http::{ApiSettings, ApiState, HttpLimits, OwnedNames, app, install_metrics};
use crate::{Authenticate, Connections, LoopbackOnly, NoConnections};

/// 2026-11-24T09:00:00Z.
pub(super) const START_MS: u64 = 1_795_510_800_000;

/// A broker with its API.
pub(super) struct Api {
    pub(super) router: Router,
    pub(super) state: ApiState,
    pub(super) clock: ManualClock,
    pub(super) broker: Broker,
    _folder: TempDir,
}

/// A request to make.
pub(super) struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
    peer: SocketAddr,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

/// The budget of answers.
pub(super) const ANSWERS_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Api {
    pub(super) fn start() -> Self {
        Self::start_with(Arc::new(LoopbackOnly), Arc::new(NoConnections))
    }

    pub(super) fn start_with(
        authenticate: Arc<dyn Authenticate>,
        connections: Arc<dyn Connections>,
    ) -> Self {
        Self::start_within(HttpLimits::default(), authenticate, connections)
    }

    /// Starts an API with other limits.
    pub(super) fn start_within(
        limits: HttpLimits,
        authenticate: Arc<dyn Authenticate>,
        connections: Arc<dyn Connections>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(START_MS);
        let shared = Arc::new(clock.clone());
        let broker =
            Broker::open_with_clock(folder.path(), BrokerConfig::default(), shared).unwrap();
        let settings = ApiSettings {
            authenticate,
            connections,
            metrics: install_metrics().unwrap(),
            limits,
            answers: Budget::new(ANSWERS_BYTES_MAX),
            owned: OwnedNames {
                topics: vec!["duetime-refunds".to_owned()],
                groups: vec!["duetime-refund".to_owned()],
            },
        };
        let state = ApiState::new(broker.clone(), settings);
        Self {
            router: app(state.clone()),
            state,
            clock,
            broker,
            _folder: folder,
        }
    }

    /// Starts an API with a topic `orders` of kind MIXED.
    pub(super) async fn with_topic() -> Self {
        let api = Self::start();
        let topic = json!({ "name": "orders", "kind": "mixed" });
        api.post("/v1/topics", topic).await.ok();
        api
    }

    pub(super) async fn call(&self, call: Call) -> Reply {
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .body(Body::from(call.body))
            .unwrap();
        *request.headers_mut() = call.headers;
        request.extensions_mut().insert(ConnectInfo(call.peer));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.call(Call::new(Method::GET, path)).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Call::new(Method::POST, path).json(&body)).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(Call::new(Method::PUT, path).json(&body)).await
    }

    pub(super) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.call(Call::new(Method::PATCH, path).json(&body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Reply {
        self.call(Call::new(Method::DELETE, path)).await
    }

    /// Moves the clock on, a little each time, until the future ends.
    pub(super) async fn moving<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                biased;
                value = &mut future => return value,
                () = broker::clock::monotonic::sleep(Duration::from_millis(1)) => self.clock.advance(250),
            }
        }
    }

    /// Receives from `orders` as a member of `closer`, waiting up to a minute of the broker's time.
    pub(super) async fn receive(&self, max: usize) -> Vec<Value> {
        let body = json!({ "max": max, "wait_for": "60s" });
        let receive = self.post("/v1/topics/orders/groups/closer/receive", body);
        let reply = self.moving(receive).await.ok();
        reply["items"].as_array().unwrap().clone()
    }

    /// Returns the instant so many seconds after the start, as the API writes it.
    pub(super) fn instant(after_s: i64) -> String {
        let ms = i64::try_from(START_MS).unwrap() + after_s * 1_000;
        let timestamp = jiff::Timestamp::from_millisecond(ms).unwrap();
        format!("{timestamp:.3}")
    }

    /// Returns the time since the start, in ms.
    pub(super) fn passed_ms(&self) -> u64 {
        self.clock.now_ms() - START_MS
    }
}

impl Call {
    pub(super) fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            peer: ([127, 0, 0, 1], 40_000).into(),
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    pub(super) fn json(self, body: &Value) -> Self {
        let text = body.to_string();
        self.header("content-type", "application/json").body(text)
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Makes the call from another machine.
    pub(super) fn elsewhere(mut self) -> Self {
        self.peer = ([192, 0, 2, 7], 40_000).into();
        self
    }
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The answer of a request that worked.
    pub(super) fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text);
        self.json()
    }

    /// The document of a problem, after checking what all of them have in common.
    pub(super) fn problem(&self, code: &str) -> Value {
        let body = self.json();
        assert_eq!(body["type"], format!("/problems/{code}"), "{body}");
        assert_eq!(body["status"], self.status.as_u16());
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert!(body["title"].is_string() && body["detail"].is_string());
        assert!(self.headers.contains_key("x-request-id"));
        body
    }
}
