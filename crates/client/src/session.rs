//! Provides the session that producers and consumers share: connections, settings, routes, heartbeats.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use grpc_api::v2::settings::PubSub;
use grpc_api::v2::{
    ClientType, Code, HeartbeatRequest, HeartbeatResponse, Language, MessageQueue,
    NotifyClientTerminationRequest, NotifyClientTerminationResponse, QueryRouteRequest,
    QueryRouteResponse, RecoverOrphanedTransactionCommand, Resource, Settings, Ua,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::config::{Config, HostPort, addresses, endpoints};
use crate::connection::{CallOptions, Connection, Procedure};
use crate::error::{Error, check};
use crate::headers::{CLIENT_VERSION, Headers};
use crate::identity::Identity;
use crate::route::{Queue, Route};
use crate::settings::ServerSettings;
use crate::tls::{self, Connector};
use crate::{telemetry, timestamp};

const QUERY_ROUTE: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/QueryRoute");
const HEARTBEAT: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/Heartbeat");
const NOTIFY_END: Procedure =
    Procedure("/apache.rocketmq.v2.MessagingService/NotifyClientTermination");

/// Interval of heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// Interval at which the routes in use are refreshed.
const ROUTES_EVERY: Duration = Duration::from_secs(30);
/// Transaction checks that may wait for the producer.
const CHECKS_MAX: usize = 64;

/// What a client is: its type, its group, and what it publishes or subscribes to.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) kind: ClientType,
    pub(crate) group: Option<Resource>,
    /// The part of the settings about publishing or subscribing.
    pub(crate) pub_sub: PubSub,
    /// Topics whose routes are fetched before the client is ready.
    pub(crate) topics: Vec<String>,
}

/// What the servers have answered so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Present once a server has answered the settings.
    pub(crate) settings: Option<Arc<ServerSettings>>,
    /// Why a connection has no telemetry stream at present.
    pub(crate) failure: Option<Error>,
}

/// A transaction the server asks about, and the connection it asks on.
#[derive(Debug)]
pub(crate) struct TransactionCheck {
    pub(crate) command: RecoverOrphanedTransactionCommand,
    pub(crate) connection: Arc<Connection>,
}

/// One running client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) identity: Identity,
    pub(crate) profile: Profile,
    pub(crate) known: watch::Sender<Known>,
    /// Receives the checks of transactions.
    pub(crate) checks: mpsc::Sender<TransactionCheck>,
    /// Makes every telemetry stream send the settings again.
    pub(crate) resend_settings: Notify,
    config: Config,
    headers: Headers,
    secure: Option<Connector>,
    access_point: Arc<Connection>,
    connections: Mutex<HashMap<Vec<HostPort>, Arc<Connection>>>,
    routes: Mutex<HashMap<String, Arc<Route>>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Session {
    /// Connects, and waits until the server has answered the settings and the routes are known.
    pub(crate) async fn start(
        config: Config,
        profile: Profile,
    ) -> Result<(Arc<Self>, mpsc::Receiver<TransactionCheck>), Error> {
        let identity = Identity::new();
        let secure = tls::connector(&config.tls)?;
        let access_point = Connection::new(config.addresses.clone(), secure.clone());
        let (checks, checks_out) = mpsc::channel(CHECKS_MAX);
        let session = Arc::new(Self {
            headers: Headers::new(&config, &identity.client_id)?,
            known: watch::Sender::default(),
            resend_settings: Notify::new(),
            connections: Mutex::default(),
            routes: Mutex::default(),
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
            identity,
            profile,
            checks,
            config,
            secure,
            access_point: Arc::clone(&access_point),
        });
        let started = session.connect(access_point).await;
        if let Err(error) = started {
            session.stop();
            return Err(error);
        }
        session.spawn(send_heartbeats(Arc::clone(&session)));
        session.spawn(refresh_routes(Arc::clone(&session)));
        Ok((session, checks_out))
    }

    async fn connect(self: &Arc<Self>, access_point: Arc<Connection>) -> Result<(), Error> {
        self.attach(access_point);
        let mut known = self.known.subscribe();
        let limit = self.request_timeout() + HEARTBEAT_EVERY;
        let answered = known.wait_for(|known| {
            let refused = known
                .failure
                .as_ref()
                .is_some_and(|error| !error.is_transient());
            known.settings.is_some() || refused
        });
        let answered = match clock::monotonic::timeout(limit, answered).await {
            Ok(Ok(known)) => Ok(known.clone()),
            _ => Err(Error::Timeout(limit)),
        };
        match answered {
            Ok(Known {
                settings: Some(_), ..
            }) => {}
            Ok(Known { failure, .. }) => return Err(failure.unwrap_or(Error::Timeout(limit))),
            Err(late) => return Err(self.known.borrow().failure.clone().unwrap_or(late)),
        }
        for topic in &self.profile.topics {
            self.route(topic).await?;
        }
        Ok(())
    }

    pub(crate) fn resource(&self, name: &str) -> Resource {
        Resource {
            resource_namespace: self.config.namespace.clone(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn access_point(&self) -> &Arc<Connection> {
        &self.access_point
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.config.request_timeout
    }

    /// The settings the server has answered, the defaults before that.
    pub(crate) fn settings(&self) -> Arc<ServerSettings> {
        self.known.borrow().settings.clone().unwrap_or_default()
    }

    /// The headers of a call made now, and its time limit.
    pub(crate) fn call_options(&self) -> CallOptions {
        (self.headers.now(), self.request_timeout())
    }

    /// The same for a call that the server may hold open for `wait`.
    pub(crate) fn long_call_options(&self, wait: Duration) -> CallOptions {
        let limit = self.request_timeout() + wait;
        (self.headers.now_within(limit), limit)
    }

    /// The headers of a call without a time limit.
    pub(crate) fn unlimited_headers(&self) -> Arc<http::HeaderMap> {
        self.headers.now_unlimited()
    }

    /// Runs a task until it ends or this client is stopped.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let mut stop = self.stop.subscribe();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = task => {}
            }
        });
    }

    /// Ends all tasks without notifying the server.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Notifies the servers that this client ends, and ends all tasks.
    pub(crate) async fn shutdown(&self) {
        for connection in self.all_connections() {
            let request = NotifyClientTerminationRequest {
                group: self.profile.group.clone(),
            };
            let notified: Result<NotifyClientTerminationResponse, Error> = connection
                .call(NOTIFY_END, self.call_options(), &request)
                .await;
            if let Err(error) = notified {
                tracing::debug!(%error, "notify server of shutdown");
            }
        }
        self.stop();
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        while tasks.join_next().await.is_some() {}
        self.all_connections()
            .iter()
            .for_each(|connection| connection.disconnect());
    }

    fn all_connections(&self) -> Vec<Arc<Connection>> {
        let connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.values().cloned().collect()
    }

    /// Starts the telemetry stream of a connection, unless it has one already.
    fn attach(self: &Arc<Self>, connection: Arc<Connection>) {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let addresses = connection.addresses().to_vec();
        if let std::collections::hash_map::Entry::Vacant(vacant) = connections.entry(addresses) {
            vacant.insert(Arc::clone(&connection));
            self.spawn(telemetry::maintain(Arc::clone(self), connection));
        }
    }

    /// The connection to the server that a queue names; the access point's if it names none.
    pub(crate) fn connection_to(self: &Arc<Self>, queue: &MessageQueue) -> Arc<Connection> {
        let endpoints = queue
            .broker
            .as_ref()
            .and_then(|broker| broker.endpoints.as_ref());
        let addresses = endpoints.map(addresses).unwrap_or_default();
        if addresses.is_empty() {
            return Arc::clone(&self.access_point);
        }
        let known = {
            let connections = self
                .connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            connections.get(&addresses).cloned()
        };
        known.unwrap_or_else(|| {
            let connection = Connection::new(addresses, self.secure.clone());
            self.attach(Arc::clone(&connection));
            connection
        })
    }

    /// The route of a topic; queries the server if it is not known.
    pub(crate) async fn route(self: &Arc<Self>, topic: &str) -> Result<Arc<Route>, Error> {
        let known = {
            let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
            routes.get(topic).cloned()
        };
        match known {
            Some(route) => Ok(route),
            None => self.query_route(topic).await,
        }
    }

    async fn query_route(self: &Arc<Self>, topic: &str) -> Result<Arc<Route>, Error> {
        let request = QueryRouteRequest {
            topic: Some(self.resource(topic)),
            endpoints: Some(endpoints(&self.config.addresses)),
        };
        let response: QueryRouteResponse = self
            .access_point
            .call(QUERY_ROUTE, self.call_options(), &request)
            .await?;
        check(response.status)?;
        let queues = response.message_queues.into_iter().map(|info| Queue {
            connection: self.connection_to(&info),
            info,
        });
        let route = Arc::new(Route::new(queues.collect()));
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert(topic.to_owned(), Arc::clone(&route));
        Ok(route)
    }

    /// Makes the next use of a topic query its route again.
    pub(crate) fn forget_route(&self, topic: &str) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.remove(topic);
    }

    /// The settings this client sends.
    pub(crate) fn client_settings(&self) -> Settings {
        Settings {
            client_type: Some(self.profile.kind.into()),
            access_point: Some(endpoints(&self.config.addresses)),
            request_timeout: Some(timestamp::duration(self.request_timeout())),
            pub_sub: Some(self.profile.pub_sub.clone()),
            user_agent: Some(Ua {
                language: Language::Rust.into(),
                version: CLIENT_VERSION.to_owned(),
                platform: std::env::consts::OS.to_owned(),
                hostname: self.identity.host.clone(),
            }),
            ..Settings::default()
        }
    }

    async fn send_heartbeat(&self, connection: Arc<Connection>) {
        let request = HeartbeatRequest {
            group: self.profile.group.clone(),
            client_type: self.profile.kind.into(),
        };
        let response: Result<HeartbeatResponse, Error> = connection
            .call(HEARTBEAT, self.call_options(), &request)
            .await;
        match response.and_then(|response| check(response.status)) {
            Ok(()) => {}
            // The server does not know this client: it was restarted, or received no heartbeat for too long.
            Err(error) if error.code() == Some(Code::UnrecognizedClientType) => {
                self.resend_settings.notify_waiters();
            }
            // A dead connection often shows only in a call that gets no response.
            Err(Error::Timeout(_)) => connection.disconnect(),
            Err(error) => tracing::debug!(%error, "send heartbeat"),
        }
    }
}

/// Sends a heartbeat to every server at each interval.
async fn send_heartbeats(session: Arc<Session>) {
    let mut every = clock::monotonic::interval(HEARTBEAT_EVERY);
    loop {
        every.tick().await;
        let mut heartbeats = JoinSet::new();
        for connection in session.all_connections() {
            let session = Arc::clone(&session);
            heartbeats.spawn(async move { session.send_heartbeat(connection).await });
        }
        while heartbeats.join_next().await.is_some() {}
    }
}

/// Refreshes the routes in use at each interval; one that cannot be queried stays as it was.
async fn refresh_routes(session: Arc<Session>) {
    let mut every = clock::monotonic::interval(ROUTES_EVERY);
    // The first tick comes at once, while all routes are new.
    every.tick().await;
    loop {
        every.tick().await;
        let topics: Vec<String> = {
            let routes = session
                .routes
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            routes.keys().cloned().collect()
        };
        for topic in topics {
            match session.query_route(&topic).await {
                Ok(_) => {}
                Err(error) if error.code() == Some(Code::TopicNotFound) => {
                    session.forget_route(&topic);
                }
                Err(error) => tracing::debug!(%error, topic, "refresh route"),
            }
        }
    }
}
