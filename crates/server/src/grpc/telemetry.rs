//! Serves the telemetry stream: settings from the client, commands to the client.

use std::pin::Pin;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::stream;
use grpc_api::v2::telemetry_command::Command;
use grpc_api::v2::{
    HeartbeatRequest, HeartbeatResponse, NotifyClientTerminationResponse, Settings,
    TelemetryCommand,
};
use tonic::{Status, Streaming};

use super::Shared;
use super::limits::SETTINGS_WAIT;
use super::peer::{Dialect, Peer};
use super::session::{self, Profile};
use super::settings::Unsettled;
use super::status::{Problem, ok};

/// The commands sent to a client.
pub(crate) type Commands = Pin<Box<dyn Stream<Item = Result<TelemetryCommand, Status>> + Send>>;

/// One stream of one client.
struct Session {
    shared: Arc<Shared>,
    peer: Peer,
    dialect: Dialect,
    requests: Streaming<TelemetryCommand>,
    /// Present once the client has sent its settings.
    stream: Option<session::Stream>,
    /// When a client that sends no settings is disconnected.
    settings_wait: broker::clock::Sleep<'static>,
    ended: bool,
}

/// An event of a stream.
enum Event {
    Received(Box<Result<Option<TelemetryCommand>, Status>>),
    Command(Option<Box<TelemetryCommand>>),
    Silent,
    Stopping,
}

/// Returns the stream of answers, made as the client reads them: from a client that does not read nothing is read either.
pub(crate) fn commands(
    shared: &Arc<Shared>,
    (peer, dialect): (Peer, Dialect),
    requests: Streaming<TelemetryCommand>,
) -> Commands {
    let session = Session {
        shared: Arc::clone(shared),
        peer,
        dialect,
        requests,
        stream: None,
        settings_wait: Box::pin(broker::clock::monotonic::sleep(SETTINGS_WAIT)),
        ended: false,
    };
    Box::pin(stream::unfold(session, |mut session| async move {
        let item = session.next().await?;
        Some((item, session))
    }))
}

/// Returns a stream that reports the problem and ends.
pub(crate) fn refused(dialect: Dialect, problem: Problem) -> Commands {
    Box::pin(stream::iter([Ok(TelemetryCommand {
        status: Some(dialect.status(problem)),
        command: None,
    })]))
}

impl Session {
    async fn next(&mut self) -> Option<Result<TelemetryCommand, Status>> {
        while !self.ended {
            match self.event().await {
                Event::Received(received) => match *received {
                    Ok(Some(command)) => {
                        if let Some(answer) = self.answer(command).await {
                            return Some(answer);
                        }
                    }
                    // The client has closed its half, or the connection failed.
                    Ok(None) | Err(_) => return None,
                },
                Event::Command(Some(command)) => return Some(Ok(*command)),
                // Its session has ended, or never began.
                Event::Command(None) | Event::Silent | Event::Stopping => return None,
            }
        }
        None
    }

    async fn event(&mut self) -> Event {
        let is_new = self.stream.is_none();
        let to_send = async {
            match &mut self.stream {
                Some(stream) => stream.commands.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = self.requests.message() => Event::Received(Box::new(received)),
            command = to_send => Event::Command(command.map(Box::new)),
            () = &mut self.settings_wait, if is_new => Event::Silent,
            () = self.shared.stopping() => Event::Stopping,
        }
    }

    async fn answer(
        &mut self,
        command: TelemetryCommand,
    ) -> Option<Result<TelemetryCommand, Status>> {
        match command.command {
            Some(Command::Settings(settings)) => Some(self.introduce(settings).await),
            // Answers to commands this server does not send.
            _ => None,
        }
    }

    /// Answers settings, each time they are sent: clients wait for the answer.
    async fn introduce(&mut self, settings: Settings) -> Result<TelemetryCommand, Status> {
        let problem = match self.shared.settle(&self.peer, settings).await {
            Ok((settings, profile)) => {
                let sessions = &self.shared.sessions;
                match sessions.introduce(&self.peer.client, profile, &mut self.stream) {
                    Ok(()) => {
                        return Ok(TelemetryCommand {
                            status: Some(ok()),
                            command: Some(Command::Settings(settings)),
                        });
                    }
                    Err(problem) => problem,
                }
            }
            Err(Unsettled::Refused(problem)) => problem,
            Err(Unsettled::Shapeless) => {
                self.ended = true;
                return Err(Status::invalid_argument(
                    "the settings are neither of a producer nor of a consumer",
                ));
            }
        };
        self.ended = true;
        Ok(TelemetryCommand {
            status: Some(self.dialect.status(problem)),
            command: None,
        })
    }
}

impl Shared {
    /// Records a heartbeat. One client sends its first heartbeat after a failure without any header, which is accepted.
    pub(crate) fn heartbeat(
        &self,
        peer: &Peer,
        request: &HeartbeatRequest,
    ) -> Result<HeartbeatResponse, Problem> {
        if !peer.client.is_nameless() {
            let named = request.group.as_ref();
            let group = match named.filter(|group| !group.name.is_empty()) {
                Some(_) => Some(peer.group_name(named)?.into_owned()),
                None => None,
            };
            if let Some(group) = &group {
                peer.may_join(group)?;
            }
            let profile = Profile {
                kind: request.client_type(),
                group,
                namespace: peer.namespace_of(named).to_owned(),
                remote: peer.remote,
                ..Profile::default()
            };
            self.sessions.heartbeat(&peer.client, profile)?;
        }
        Ok(HeartbeatResponse { status: Some(ok()) })
    }

    pub(crate) async fn end_client(
        &self,
        peer: &Peer,
    ) -> Result<NotifyClientTerminationResponse, Problem> {
        peer.identified()?;
        self.sessions.end(&peer.client);
        self.release_client(&peer.client).await;
        Ok(NotifyClientTerminationResponse { status: Some(ok()) })
    }
}
