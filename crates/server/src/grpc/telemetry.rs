//! Holds the stream between a client and the server: settings one way, commands the other.

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

/// What a client gets to hear.
pub(crate) type Commands = Pin<Box<dyn Stream<Item = Result<TelemetryCommand, Status>> + Send>>;

/// One stream of one client.
struct Line {
    shared: Arc<Shared>,
    peer: Peer,
    dialect: Dialect,
    said: Streaming<TelemetryCommand>,
    /// Present once the client has said who it is.
    stream: Option<session::Stream>,
    /// When a client that says nothing is let go.
    patience: broker::clock::Sleep<'static>,
    ended: bool,
}

/// What happens on a line.
enum Event {
    Said(Box<Result<Option<TelemetryCommand>, Status>>),
    Tell(Option<Box<TelemetryCommand>>),
    Silent,
    Stopping,
}

/// The stream's answers, given as the client takes them: one that does not listen is not read from either.
pub(crate) fn commands(
    shared: &Arc<Shared>,
    (peer, dialect): (Peer, Dialect),
    said: Streaming<TelemetryCommand>,
) -> Commands {
    let line = Line {
        shared: Arc::clone(shared),
        peer,
        dialect,
        said,
        stream: None,
        patience: Box::pin(broker::clock::monotonic::sleep(SETTINGS_WAIT)),
        ended: false,
    };
    Box::pin(stream::unfold(line, |mut line| async move {
        let item = line.next().await?;
        Some((item, line))
    }))
}

/// A stream that says what is wrong and ends.
pub(crate) fn refused(dialect: Dialect, problem: Problem) -> Commands {
    Box::pin(stream::iter([Ok(TelemetryCommand {
        status: Some(dialect.status(problem)),
        command: None,
    })]))
}

impl Line {
    async fn next(&mut self) -> Option<Result<TelemetryCommand, Status>> {
        while !self.ended {
            match self.event().await {
                Event::Said(said) => match *said {
                    Ok(Some(command)) => {
                        if let Some(answer) = self.answer(command).await {
                            return Some(answer);
                        }
                    }
                    // It has closed its half, or broke off.
                    Ok(None) | Err(_) => return None,
                },
                Event::Tell(Some(command)) => return Some(Ok(*command)),
                // Its session has ended, or it never began one.
                Event::Tell(None) | Event::Silent | Event::Stopping => return None,
            }
        }
        None
    }

    async fn event(&mut self) -> Event {
        let is_new = self.stream.is_none();
        let told = async {
            match &mut self.stream {
                Some(stream) => stream.commands.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            said = self.said.message() => Event::Said(Box::new(said)),
            command = told => Event::Tell(command.map(Box::new)),
            () = &mut self.patience, if is_new => Event::Silent,
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

    /// Settings are answered each time they come, clients wait for it.
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
                    "settings are those of a producer or of a consumer; these are neither",
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
    /// One client sends its first heartbeat after a failure without any header: that does no harm.
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
