//! Holds what producers and consumers have in common: lines, settings, routes, the signs of life.

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
use crate::connection::{Line, Procedure, Terms};
use crate::error::{Error, check};
use crate::headers::{CLIENT_VERSION, Headers};
use crate::identity::Identity;
use crate::route::{Queue, Route};
use crate::settings::Rules;
use crate::tls::{self, Connector};
use crate::{clock, telemetry};

const QUERY_ROUTE: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/QueryRoute");
const HEARTBEAT: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/Heartbeat");
const NOTIFY_END: Procedure =
    Procedure("/apache.rocketmq.v2.MessagingService/NotifyClientTermination");

/// How often the server hears that this client lives.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// How often the routes in use are asked for again.
const ROUTES_EVERY: Duration = Duration::from_secs(30);
/// Checks of transactions that may wait for the producer.
const CHECKS_MAX: usize = 64;

/// What a client is and wants.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) kind: ClientType,
    pub(crate) group: Option<Resource>,
    /// Everything the settings say of publishing or subscribing.
    pub(crate) pub_sub: PubSub,
    /// Topics whose routes are known before the client is ready.
    pub(crate) topics: Vec<String>,
}

/// What the servers have said so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Present once a server has answered the settings.
    pub(crate) rules: Option<Arc<Rules>>,
    /// Why a line has no stream at present.
    pub(crate) failure: Option<Error>,
}

/// A transaction the server asks about, and the line it asks on.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) command: RecoverOrphanedTransactionCommand,
    pub(crate) line: Arc<Line>,
}

/// One running client.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) identity: Identity,
    pub(crate) profile: Profile,
    pub(crate) known: watch::Sender<Known>,
    /// Where checks of transactions go.
    pub(crate) checks: mpsc::Sender<Check>,
    /// Makes every stream say the settings again.
    pub(crate) reintroduce: Notify,
    config: Config,
    headers: Headers,
    secure: Option<Connector>,
    access: Arc<Line>,
    lines: Mutex<HashMap<Vec<HostPort>, Arc<Line>>>,
    routes: Mutex<HashMap<String, Arc<Route>>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Core {
    /// Connects, and waits until the server has answered the settings and the routes are known.
    pub(crate) async fn start(
        config: Config,
        profile: Profile,
    ) -> Result<(Arc<Self>, mpsc::Receiver<Check>), Error> {
        let identity = Identity::new();
        let secure = tls::connector(&config.tls)?;
        let access = Line::new(config.addresses.clone(), secure.clone());
        let (checks, checks_out) = mpsc::channel(CHECKS_MAX);
        let core = Arc::new(Self {
            headers: Headers::new(&config, &identity.client_id)?,
            known: watch::Sender::default(),
            reintroduce: Notify::new(),
            lines: Mutex::default(),
            routes: Mutex::default(),
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
            identity,
            profile,
            checks,
            config,
            secure,
            access: Arc::clone(&access),
        });
        let started = core.introduce(access).await;
        if let Err(error) = started {
            core.stop();
            return Err(error);
        }
        core.spawn(beat(Arc::clone(&core)));
        core.spawn(refresh(Arc::clone(&core)));
        Ok((core, checks_out))
    }

    async fn introduce(self: &Arc<Self>, access: Arc<Line>) -> Result<(), Error> {
        self.attach(access);
        let mut known = self.known.subscribe();
        let limit = self.request_timeout() + HEARTBEAT_EVERY;
        let answered = known.wait_for(|known| {
            let refused = known
                .failure
                .as_ref()
                .is_some_and(|error| !error.is_transient());
            known.rules.is_some() || refused
        });
        let answered = match tokio::time::timeout(limit, answered).await {
            Ok(Ok(known)) => Ok(known.clone()),
            _ => Err(Error::Timeout(limit)),
        };
        match answered {
            Ok(Known { rules: Some(_), .. }) => {}
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

    pub(crate) fn access(&self) -> &Arc<Line> {
        &self.access
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.config.request_timeout
    }

    /// The rules of the server.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.known.borrow().rules.clone().unwrap_or_default()
    }

    /// The headers of a call made now, and how long it may take.
    pub(crate) fn terms(&self) -> Terms {
        (self.headers.now(), self.request_timeout())
    }

    /// The same for a call that the server may leave unanswered for some time.
    pub(crate) fn terms_of_waiting(&self, wait: Duration) -> Terms {
        let limit = self.request_timeout() + wait;
        (self.headers.now_within(limit), limit)
    }

    /// The headers of a call that goes on until one side ends it.
    pub(crate) fn lasting_headers(&self) -> Arc<http::HeaderMap> {
        self.headers.now_lasting()
    }

    /// Runs a task until this client is stopped, or it ends by itself.
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

    /// Ends all tasks, without a word to the server.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Says goodbye, and ends all tasks.
    pub(crate) async fn end(&self) {
        for line in self.all_lines() {
            let request = NotifyClientTerminationRequest {
                group: self.profile.group.clone(),
            };
            let ended: Result<NotifyClientTerminationResponse, Error> =
                line.call(NOTIFY_END, self.terms(), &request).await;
            if let Err(error) = ended {
                tracing::debug!(%error, "end client");
            }
        }
        self.stop();
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        while tasks.join_next().await.is_some() {}
        self.all_lines().iter().for_each(|line| line.hang_up());
    }

    fn all_lines(&self) -> Vec<Arc<Line>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.values().cloned().collect()
    }

    /// Begins to introduce this client on a line, if it does not yet.
    fn attach(self: &Arc<Self>, line: Arc<Line>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = line.addresses().to_vec();
        if let std::collections::hash_map::Entry::Vacant(vacant) = lines.entry(addresses) {
            vacant.insert(Arc::clone(&line));
            self.spawn(telemetry::attend(Arc::clone(self), line));
        }
    }

    /// The line to a server that a route names; the access point's if the route names none.
    pub(crate) fn line_to(self: &Arc<Self>, queue: &MessageQueue) -> Arc<Line> {
        let told = queue
            .broker
            .as_ref()
            .and_then(|broker| broker.endpoints.as_ref());
        let addresses = told.map(addresses).unwrap_or_default();
        if addresses.is_empty() {
            return Arc::clone(&self.access);
        }
        let known = {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.get(&addresses).cloned()
        };
        known.unwrap_or_else(|| {
            let line = Line::new(addresses, self.secure.clone());
            self.attach(Arc::clone(&line));
            line
        })
    }

    /// Where the queues of a topic are, asked for if that is not known.
    pub(crate) async fn route(self: &Arc<Self>, topic: &str) -> Result<Arc<Route>, Error> {
        let known = {
            let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
            routes.get(topic).cloned()
        };
        match known {
            Some(route) => Ok(route),
            None => self.ask_route(topic).await,
        }
    }

    async fn ask_route(self: &Arc<Self>, topic: &str) -> Result<Arc<Route>, Error> {
        let request = QueryRouteRequest {
            topic: Some(self.resource(topic)),
            endpoints: Some(endpoints(&self.config.addresses)),
        };
        let answer: QueryRouteResponse = self
            .access
            .call(QUERY_ROUTE, self.terms(), &request)
            .await?;
        check(answer.status)?;
        let queues = answer.message_queues.into_iter().map(|told| Queue {
            line: self.line_to(&told),
            told,
        });
        let route = Arc::new(Route::new(queues.collect()));
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert(topic.to_owned(), Arc::clone(&route));
        Ok(route)
    }

    /// Makes the next use of a topic ask for its route again.
    pub(crate) fn forget_route(&self, topic: &str) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.remove(topic);
    }

    /// What this client says of itself.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            client_type: Some(self.profile.kind.into()),
            access_point: Some(endpoints(&self.config.addresses)),
            request_timeout: Some(clock::duration(self.request_timeout())),
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

    async fn beat_on(&self, line: Arc<Line>) {
        let request = HeartbeatRequest {
            group: self.profile.group.clone(),
            client_type: self.profile.kind.into(),
        };
        let answer: Result<HeartbeatResponse, Error> =
            line.call(HEARTBEAT, self.terms(), &request).await;
        match answer.and_then(|answer| check(answer.status)) {
            Ok(()) => {}
            // The server does not know this client: it was restarted, or heard nothing for too long.
            Err(error) if error.code() == Some(Code::UnrecognizedClientType) => {
                self.reintroduce.notify_waiters();
            }
            // A connection that carries nothing any more often says so only by its silence.
            Err(Error::Timeout(_)) => line.hang_up(),
            Err(error) => tracing::debug!(%error, "send heartbeat"),
        }
    }
}

/// Lets every server know that this client lives.
async fn beat(core: Arc<Core>) {
    let mut every = tokio::time::interval(HEARTBEAT_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let mut beats = JoinSet::new();
        for line in core.all_lines() {
            let core = Arc::clone(&core);
            beats.spawn(async move { core.beat_on(line).await });
        }
        while beats.join_next().await.is_some() {}
    }
}

/// Asks for the routes in use again and again; one that cannot be asked for stays as it was.
async fn refresh(core: Arc<Core>) {
    let mut every = tokio::time::interval(ROUTES_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick comes at once, when all routes are new.
    every.tick().await;
    loop {
        every.tick().await;
        let topics: Vec<String> = {
            let routes = core.routes.lock().unwrap_or_else(PoisonError::into_inner);
            routes.keys().cloned().collect()
        };
        for topic in topics {
            match core.ask_route(&topic).await {
                Ok(_) => {}
                Err(error) if error.code() == Some(Code::TopicNotFound) => {
                    core.forget_route(&topic);
                }
                Err(error) => tracing::debug!(%error, topic, "refresh route"),
            }
        }
    }
}
