//! Keeps the sessions of clients: which are connected, their settings, and the streams to reach them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use broker::clock::Clock;
use grpc_api::v2::{ClientType, Code, Language, TelemetryCommand};
use tokio::sync::mpsc;

use super::limits::{
    HALF_TOPICS_MAX, SESSION_COMMANDS_MAX, SESSION_SILENCE_MS, SESSION_STREAMS_MAX,
};
use super::peer::ClientKey;
use super::status::Problem;
use crate::connections::Connection;

/// How often sessions are checked for clients that are gone, in ms.
const SWEEP_EVERY_MS: u64 = 10_000;

/// What a client reports about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    pub(crate) kind: ClientType,
    pub(crate) language: Language,
    pub(crate) version: String,
    /// Its address, if that is known.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) group: Option<String>,
    pub(crate) topics: Vec<String>,
    /// The namespace it uses; empty if it uses none.
    pub(crate) namespace: String,
}

#[derive(Debug)]
struct Session {
    profile: Profile,
    since_ms: u64,
    last_seen_ms: u64,
    streams: Vec<(u64, mpsc::Sender<TelemetryCommand>)>,
    /// Topics it has sent half messages to without having named them.
    half_topics: Vec<String>,
}

impl Session {
    fn new(profile: Profile, now_ms: u64) -> Self {
        Self {
            profile,
            since_ms: now_ms,
            last_seen_ms: now_ms,
            streams: Vec::new(),
            half_topics: Vec::new(),
        }
    }

    fn connection(&self, client: &ClientKey) -> Connection {
        let profile = &self.profile;
        Connection {
            client_id: client.id().to_owned(),
            remote: profile
                .remote
                .map_or_else(String::new, |remote| remote.to_string()),
            protocol: "grpc",
            role: profile.kind.as_str_name().to_lowercase().replace('_', " "),
            library: format!("{} {}", profile.language.as_str_name(), profile.version)
                .trim_end()
                .to_owned(),
            group: profile.group.clone(),
            topics: profile.topics.clone(),
            since_ms: self.since_ms,
        }
    }

    /// Whether it may be asked about the transactions of a topic.
    fn produces(&self, topic: &str) -> bool {
        let named = &self.profile.topics;
        self.half_topics.iter().any(|name| name == topic)
            || (self.profile.kind == ClientType::Producer && named.iter().any(|name| name == topic))
    }

    fn senders(&self) -> impl Iterator<Item = (&str, &mpsc::Sender<TelemetryCommand>)> {
        let namespace = self.profile.namespace.as_str();
        let streams = self.streams.iter();
        streams.map(move |(_, sender)| (namespace, sender))
    }

    fn is_connected(&self, now_ms: u64) -> bool {
        !self.streams.is_empty() || now_ms.saturating_sub(self.last_seen_ms) < SESSION_SILENCE_MS
    }
}

#[derive(Debug, Default)]
struct State {
    by_id: HashMap<ClientKey, Session>,
    next_stream: u64,
    next_sweep_ms: u64,
    /// The producer that got the last command, so that the next goes to another.
    turn: usize,
}

/// All sessions, by client id: one client may have several connections.
///
/// A std mutex: it is held for a look-up, never across an await.
#[derive(Debug)]
pub(crate) struct Sessions {
    clock: Arc<dyn Clock>,
    count_max: usize,
    state: Mutex<State>,
}

/// A stream to a client. Dropping it removes it from the session.
#[derive(Debug)]
pub(crate) struct Stream {
    sessions: Arc<Sessions>,
    client: ClientKey,
    number: u64,
    /// The commands to send to the client.
    pub(crate) commands: mpsc::Receiver<TelemetryCommand>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let now_ms = self.sessions.clock.now_ms();
        let mut state = self.sessions.state();
        if let Some(session) = state.by_id.get_mut(&self.client) {
            session.streams.retain(|(number, _)| *number != self.number);
            // The client may reconnect until the session times out.
            session.last_seen_ms = now_ms;
        }
    }
}

impl Sessions {
    pub(crate) fn new(clock: Arc<dyn Clock>, count_max: usize) -> Self {
        Self {
            clock,
            count_max,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what a client reports about itself on a stream, new or open.
    pub(crate) fn introduce(
        self: &Arc<Self>,
        client: &ClientKey,
        profile: Profile,
        stream: &mut Option<Stream>,
    ) -> Result<(), Problem> {
        let now_ms = self.clock.now_ms();
        let mut state = self.state();
        self.make_room(&mut state, client, now_ms)?;
        state.next_stream += 1;
        let number = state.next_stream;
        let session = state
            .by_id
            .entry(client.clone())
            .or_insert_with(|| Session::new(Profile::default(), now_ms));
        session.profile = profile;
        session.last_seen_ms = now_ms;
        let known = stream.as_ref().is_some_and(|stream| {
            let streams = &session.streams;
            streams.iter().any(|(number, _)| *number == stream.number)
        });
        if known {
            return Ok(());
        }
        if session.streams.len() >= SESSION_STREAMS_MAX {
            let message = format!(
                "the client already has {SESSION_STREAMS_MAX} streams open; no more are allowed"
            );
            return Err(Problem::new(Code::TooManyRequests, message));
        }
        let (sender, commands) = mpsc::channel(SESSION_COMMANDS_MAX);
        session.streams.push((number, sender));
        let new = Stream {
            sessions: Arc::clone(self),
            client: client.clone(),
            number,
            commands,
        };
        // The old stream is of a session that has ended; dropping it takes the same lock.
        drop(state);
        *stream = Some(new);
        Ok(())
    }

    fn make_room(&self, state: &mut State, client: &ClientKey, now_ms: u64) -> Result<(), Problem> {
        if now_ms >= state.next_sweep_ms {
            state.next_sweep_ms = now_ms.saturating_add(SWEEP_EVERY_MS);
            state
                .by_id
                .retain(|_, session| session.is_connected(now_ms));
        }
        if state.by_id.len() >= self.count_max && !state.by_id.contains_key(client) {
            let message = format!(
                "{} clients are connected; no more are allowed",
                self.count_max
            );
            return Err(Problem::new(Code::TooManyRequests, message));
        }
        Ok(())
    }

    /// Records a heartbeat. An unknown client gets a session with what it reports here.
    pub(crate) fn heartbeat(&self, client: &ClientKey, profile: Profile) -> Result<(), Problem> {
        let now_ms = self.clock.now_ms();
        let mut state = self.state();
        if let Some(session) = state.by_id.get_mut(client) {
            session.last_seen_ms = now_ms;
            return Ok(());
        }
        self.make_room(&mut state, client, now_ms)?;
        state
            .by_id
            .insert(client.clone(), Session::new(profile, now_ms));
        Ok(())
    }

    /// Records that a known client is active.
    pub(crate) fn touch(&self, client: &ClientKey) {
        let now_ms = self.clock.now_ms();
        if let Some(session) = self.state().by_id.get_mut(client) {
            session.last_seen_ms = now_ms;
        }
    }

    /// Ends the session of a client that terminates, and its streams.
    pub(crate) fn end(&self, client: &ClientKey) {
        self.state().by_id.remove(client);
    }

    /// Ends the streams of all clients.
    pub(crate) fn end_all(&self) {
        self.state().by_id.clear();
    }

    /// Returns the type and language of a client, if it is known.
    pub(crate) fn kind(&self, client: &ClientKey) -> Option<(ClientType, Language)> {
        let state = self.state();
        let profile = &state.by_id.get(client)?.profile;
        Some((profile.kind, profile.language))
    }

    /// Returns whether a client is known and has not timed out.
    pub(crate) fn is_connected(&self, client: &ClientKey) -> bool {
        let now_ms = self.clock.now_ms();
        let state = self.state();
        let session = state.by_id.get(client);
        session.is_some_and(|session| session.is_connected(now_ms))
    }

    /// Notes that a client has sent a half message to a topic.
    pub(crate) fn note_half(&self, client: &ClientKey, topic: &str) {
        let mut state = self.state();
        if let Some(session) = state.by_id.get_mut(client)
            && !session.produces(topic)
            && session.half_topics.len() < HALF_TOPICS_MAX
        {
            session.half_topics.push(topic.to_owned());
        }
    }

    /// Sends a command to one reachable client: to `first`, or else to a producer of the topic. Returns
    /// whether there is one.
    ///
    /// `command` builds it for a client of a namespace.
    pub(crate) fn send_to_producer(
        &self,
        topic: &str,
        first: Option<&ClientKey>,
        command: impl Fn(&str) -> TelemetryCommand,
    ) -> bool {
        // Only what has room is given a command, which may hold a body.
        let tell = |(namespace, sender): (&str, &mpsc::Sender<TelemetryCommand>)| {
            let room = sender.try_reserve();
            room.map(|room| room.send(command(namespace))).is_ok()
        };
        let mut state = self.state();
        let sender = first.and_then(|first| state.by_id.get(first));
        if sender.is_some_and(|session| session.senders().any(tell)) {
            return true;
        }
        state.turn = state.turn.wrapping_add(1);
        let sessions = state.by_id.values();
        let producers = sessions.filter(|session| session.produces(topic));
        let senders: Vec<_> = producers.flat_map(Session::senders).collect();
        let start = state.turn.checked_rem(senders.len()).unwrap_or(0);
        let (before, after) = senders.split_at(start);
        after.iter().chain(before).copied().any(tell)
    }

    /// Returns the connected clients, sorted by id.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        let now_ms = self.clock.now_ms();
        let state = self.state();
        let here = state.by_id.iter();
        let here = here.filter(|(_, session)| session.is_connected(now_ms));
        let mut connections: Vec<Connection> = here
            .map(|(client, session)| session.connection(client))
            .collect();
        connections.sort_unstable_by(|one, other| one.client_id.cmp(&other.client_id));
        connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::clock::ManualClock;

    fn producer(topic: &str) -> Profile {
        Profile {
            kind: ClientType::Producer,
            topics: vec![topic.to_owned()],
            ..Profile::default()
        }
    }

    #[test]
    fn a_session_lasts_with_a_stream_or_heartbeats() {
        let clock = ManualClock::new(1_000);
        let sessions = Arc::new(Sessions::new(Arc::new(clock.clone()), 10));
        let id = ClientKey::new("", "a");
        let mut stream = None;
        sessions.introduce(&id, producer("t"), &mut stream).unwrap();
        clock.advance(10 * SESSION_SILENCE_MS);
        assert!(sessions.is_connected(&id), "its stream is open");
        drop(stream);
        clock.advance(SESSION_SILENCE_MS - 1);
        assert!(sessions.is_connected(&id), "it may reconnect");
        sessions.heartbeat(&id, Profile::default()).unwrap();
        clock.advance(SESSION_SILENCE_MS - 1);
        assert!(sessions.is_connected(&id));
        clock.advance(1);
        assert!(!sessions.is_connected(&id) && sessions.connections().is_empty());
    }

    #[test]
    fn commands_reach_producers_of_the_topic_in_turn() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
        let sessions = Arc::new(Sessions::new(clock, 10));
        let command = |_: &str| TelemetryCommand::default();
        assert!(!sessions.send_to_producer("t", None, command));
        let mut streams = Vec::new();
        for (id, topic) in [("a", "t"), ("b", "t"), ("c", "other")] {
            let mut stream = None;
            let id = ClientKey::new("", id);
            sessions
                .introduce(&id, producer(topic), &mut stream)
                .unwrap();
            streams.push(stream.unwrap());
        }
        for _ in 0..4 {
            assert!(sessions.send_to_producer("t", None, command));
        }
        let sent: Vec<usize> = streams.iter().map(|stream| stream.commands.len()).collect();
        assert_eq!(sent, [2, 2, 0]);
        streams.remove(0);
        assert!(sessions.send_to_producer("t", None, command));
        assert_eq!(streams[0].commands.len(), 3);
    }

    #[test]
    fn the_sender_is_told_first_whatever_topics_it_named() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
        let sessions = Arc::new(Sessions::new(clock, 10));
        let command = |_: &str| TelemetryCommand::default();
        let (named, sender) = (ClientKey::new("", "named"), ClientKey::new("", "sender"));
        let mut streams = [None, None];
        for ((id, topic), stream) in [(&named, "t"), (&sender, "plain")].iter().zip(&mut streams) {
            sessions.introduce(id, producer(topic), stream).unwrap();
        }
        let waiting = |streams: &[Option<Stream>; 2]| {
            let count =
                |stream: &Option<Stream>| stream.as_ref().map_or(0, |stream| stream.commands.len());
            [count(&streams[0]), count(&streams[1])]
        };
        for _ in 0..4 {
            assert!(sessions.send_to_producer("t", Some(&sender), command));
        }
        assert_eq!(waiting(&streams), [0, 4]);
        // Another one with the same id is not the sender.
        let other = ClientKey::new("another account", "sender");
        assert!(sessions.send_to_producer("t", Some(&other), command));
        assert_eq!(waiting(&streams), [1, 4]);
        // The sender is not known: both produce for the topic.
        sessions.note_half(&sender, "t");
        for _ in 0..4 {
            assert!(sessions.send_to_producer("t", None, command));
        }
        assert_eq!(waiting(&streams), [3, 6]);
        streams[1] = None;
        assert!(sessions.send_to_producer("t", Some(&sender), command));
        assert_eq!(waiting(&streams), [4, 0]);
    }

    #[test]
    fn settings_sent_again_keep_the_stream() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
        let sessions = Arc::new(Sessions::new(clock, 1));
        let id = ClientKey::new("", "a");
        let mut stream = None;
        sessions.introduce(&id, producer("t"), &mut stream).unwrap();
        sessions.introduce(&id, producer("u"), &mut stream).unwrap();
        assert!(sessions.send_to_producer("u", None, |_| TelemetryCommand::default()));
        assert_eq!(stream.as_ref().unwrap().commands.len(), 1);
        let problem = sessions
            .introduce(&ClientKey::new("", "b"), producer("t"), &mut None)
            .unwrap_err();
        assert_eq!(problem.code, Code::TooManyRequests);
    }
}
