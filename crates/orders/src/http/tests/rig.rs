//! Provides a platform with its router for the tests, and short ways to call it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use broker::clock::{ManualClock, WorldClock};
use broker::{Broker, BrokerConfig};
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::http::{ApiSettings, ApiState, OperatorKey, app, install_metrics};
use crate::messaging::embedded::Embedded;
use crate::{Config, Running};
use gateway::Gateways;
use gateway::simulator::{CallbackSink, Delivery, NotAcknowledged, Simulator, SimulatorConfig};

/// 2026-11-24T09:00:00Z.
pub(super) const START_MS: u64 = 1_795_510_800_000;
/// The operator's key of every rig.
pub(super) const OPERATOR_KEY: &str = "operator-secret";

/// How long a change in the background may take, on the machine's own clock.
const PATIENCE: Duration = Duration::from_secs(30);
/// How the clock runs while a change is waited for.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// How far the clock may run, in ms.
    pub(super) run_max_ms: u64,
    /// How often the change is checked for in each ms.
    pub(super) looks_per_ms: u64,
}

/// The usual pace: short of every deadline of the tests.
const PACE: Pace = Pace {
    run_max_ms: 5_000,
    looks_per_ms: 4,
};

/// A platform with its broker, its API and a simulated gateway.
pub(super) struct Api {
    pub(super) router: Router,
    pub(super) state: ApiState,
    pub(super) clock: ManualClock,
    pub(super) simulator: Simulator,
    running: Running,
    pub(super) broker: Broker,
    sending: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    _folder: TempDir,
}

/// Hands callbacks to the router, as if they came from another machine.
struct RouterSink(Router);

#[async_trait]
impl CallbackSink for RouterSink {
    async fn deliver(&self, delivery: Delivery) -> Result<(), NotAcknowledged> {
        let path = format!("/v1/gateways/{}/callbacks", delivery.account_id);
        let mut call = Call::new(Method::POST, &path).elsewhere();
        call.headers = delivery.headers;
        let reply = call_router(&self.0, call.body(delivery.body)).await;
        if reply.status.is_success() {
            return Ok(());
        }
        Err(NotAcknowledged(reply.text))
    }
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

impl Api {
    /// Starts everything, with a gateway without faults; callbacks go straight to the router.
    pub(super) async fn start() -> Self {
        Self::start_with(SimulatorConfig::default()).await
    }

    /// Starts everything, with a gateway of these faults.
    pub(super) async fn start_with(gateway: SimulatorConfig) -> Self {
        let mut api = Self::prepare(gateway).await;
        let (stop, stopped) = oneshot::channel();
        let sink = Arc::new(RouterSink(api.router.clone()));
        let run = api.simulator.clone().run(sink, async move {
            // An error means that the rig was dropped, which stops it too.
            let _ = stopped.await;
        });
        api.sending = Some((stop, tokio::spawn(run)));
        api
    }

    /// Starts everything but the sending of callbacks.
    pub(super) async fn start_without_callbacks() -> Self {
        Self::prepare(SimulatorConfig::default()).await
    }

    async fn prepare(gateway: SimulatorConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(START_MS);
        let shared: Arc<ManualClock> = Arc::new(clock.clone());
        let simulator =
            Simulator::new(gateway, b"secret", Arc::new(WorldClock::of(shared.clone())));
        let settings = ApiSettings {
            operator_key: Some(OperatorKey::new(OPERATOR_KEY)),
            trust_loopback: true,
            trust_ends_with_real_gateway: true,
            simulator: Some(simulator.clone()),
        };
        let queue = folder.path().join("broker");
        let broker = Broker::open_with_clock(&queue, BrokerConfig::default(), shared.clone());
        let broker = broker.unwrap();
        let mut config = Config::new(folder.path().join("orders.db"));
        // The receivers of webhooks are on this machine.
        config.webhooks_private = true;
        let messaging = Arc::new(Embedded::new(broker.clone()));
        let gateways = Gateways::default();
        let running = Running::start(config, shared.clone(), messaging, gateways);
        let running = running.await.unwrap();
        running.platform.ensure_default_merchant().await.unwrap();
        let figures = install_metrics().unwrap();
        let state = ApiState::new(running.platform.clone(), shared, figures, settings);
        Self {
            router: app(state.clone()),
            state,
            clock,
            simulator,
            running,
            broker,
            sending: None,
            _folder: folder,
        }
    }

    /// Stops everything in order.
    pub(super) async fn stop(self) {
        if let Some((stop, sending)) = self.sending {
            stop.send(()).unwrap();
            sending.await.unwrap();
        }
        self.running.stop().await;
        self.broker.shutdown().await;
    }

    /// Waits until what is at `path`, or the first of the list there, is in the state, and lets the clock run meanwhile.
    pub(super) async fn until(&self, path: &str, state: &str) {
        self.until_at(PACE, path, state).await;
    }

    /// The same at another pace.
    pub(super) async fn until_at(&self, pace: Pace, path: &str, state: &str) {
        let mut last = Value::Null;
        let reached = async {
            for look in 1_u64.. {
                last = self.get(path).await.ok();
                if [&last["state"], &last["items"][0]["state"]].contains(&&Value::from(state)) {
                    return;
                }
                // A message that is due now is delivered once the clock has moved. A check takes longer on a slow machine,
                // so there the clock runs slower too, and it waits for what is at the writer.
                let _ = self.state.platform().check_database().await;
                let run_ms = look / pace.looks_per_ms;
                if run_ms <= pace.run_max_ms && look.is_multiple_of(pace.looks_per_ms) {
                    self.clock.advance(1);
                }
                tokio::task::yield_now().await;
            }
        };
        let reached = broker::clock::monotonic::timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{path} did not become {state}: {last}");
    }

    pub(super) async fn call(&self, call: Call) -> Reply {
        call_router(&self.router, call).await
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.call(Call::new(Method::GET, path)).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Call::new(Method::POST, path).json(&body)).await
    }

    /// Posts with an idempotency key of its own.
    pub(super) async fn create(&self, path: &str, body: Value) -> Reply {
        let key = format!("{:032x}", rand::random::<u128>());
        let call = Call::new(Method::POST, path).json(&body);
        self.call(call.header("idempotency-key", &key)).await
    }
}

/// Calls a router as the server does.
pub(super) async fn call_router(router: &Router, call: Call) -> Reply {
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .body(Body::from(call.body))
        .unwrap();
    *request.headers_mut() = call.headers;
    request.extensions_mut().insert(ConnectInfo(call.peer));
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Reply {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
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

    pub(super) fn bearer(self, key: &str) -> Self {
        let value = format!("Bearer {key}");
        self.header("authorization", &value)
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
