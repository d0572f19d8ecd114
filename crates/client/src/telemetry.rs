//! Keeps the telemetry stream to one server open: it carries settings and commands.

use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::telemetry_command::Command;
use grpc_api::v2::{Code, Status, TelemetryCommand, ThreadStackTrace, VerifyMessageResult};

use crate::connection::{Connection, Procedure};
use crate::error::{Error, Refused};
use crate::session::{Session, TransactionCheck};
use crate::settings::ServerSettings;
use crate::stream::RequestStream;

const TELEMETRY: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/Telemetry");
/// Interval at which the settings are sent again.
const SETTINGS_EVERY: Duration = Duration::from_mins(5);
/// Wait before a stream that ended is opened again.
const REOPEN_WAIT: Duration = Duration::from_secs(1);
/// The same after the first failure, so that a restarted server is reached soon.
const REOPEN_WAIT_FIRST: Duration = Duration::from_millis(100);

/// Keeps the stream open until the client stops.
pub(crate) async fn maintain(session: Arc<Session>, connection: Arc<Connection>) {
    let mut wait = REOPEN_WAIT_FIRST;
    loop {
        match run_stream(&session, &connection).await {
            Ok(()) => wait = REOPEN_WAIT_FIRST,
            Err(error) => {
                tracing::debug!(%error, "keep telemetry stream");
                session
                    .known
                    .send_modify(|known| known.failure = Some(error));
            }
        }
        clock::monotonic::sleep(wait).await;
        wait = REOPEN_WAIT;
    }
}

/// Opens one stream and serves it until it ends.
async fn run_stream(session: &Session, connection: &Arc<Connection>) -> Result<(), Error> {
    let (mut commands, mut requests) = connection
        .open_stream::<TelemetryCommand>(TELEMETRY, &session.unlimited_headers())
        .await?;
    let mut every = clock::monotonic::interval(SETTINGS_EVERY);
    loop {
        let command = tokio::select! {
            command = commands.next() => command?,
            _ = every.tick() => {
                send_settings(session, &mut requests)?;
                continue;
            }
            () = session.resend_settings.notified() => {
                send_settings(session, &mut requests)?;
                continue;
            }
        };
        match command {
            None => return Ok(()),
            Some(command) => handle_command(session, connection, command, &mut requests)?,
        }
    }
}

fn send_settings(session: &Session, requests: &mut RequestStream) -> Result<(), Error> {
    requests.send(&TelemetryCommand {
        status: None,
        command: Some(Command::Settings(session.client_settings())),
    })
}

fn handle_command(
    session: &Session,
    connection: &Arc<Connection>,
    received: TelemetryCommand,
    requests: &mut RequestStream,
) -> Result<(), Error> {
    if let Some(status) = received.status
        && status.code != i32::from(Code::Ok)
    {
        return Err(Refused::from(status).into());
    }
    match received.command {
        Some(Command::Settings(settings)) => {
            let settings = Arc::new(ServerSettings::read(&settings));
            session.known.send_modify(|known| {
                known.settings = Some(settings);
                known.failure = None;
            });
        }
        Some(Command::RecoverOrphanedTransactionCommand(command)) => {
            let check = TransactionCheck {
                command,
                connection: Arc::clone(connection),
            };
            // If the channel is full it is dropped: the server asks again later.
            drop(session.checks.try_send(check));
        }
        Some(Command::ReconnectEndpointsCommand(_)) => connection.disconnect(),
        Some(Command::PrintThreadStackTraceCommand(command)) => {
            let trace = ThreadStackTrace {
                nonce: command.nonce,
                ..ThreadStackTrace::default()
            };
            requests.send(&unsupported(Command::ThreadStackTrace(trace)))?;
        }
        Some(Command::VerifyMessageCommand(command)) => {
            let result = VerifyMessageResult {
                nonce: command.nonce,
            };
            requests.send(&unsupported(Command::VerifyMessageResult(result)))?;
        }
        _ => {}
    }
    Ok(())
}

/// The response to a command this client does not support.
fn unsupported(command: Command) -> TelemetryCommand {
    TelemetryCommand {
        status: Some(Status {
            code: Code::Unsupported.into(),
            message: "this client does not support that command".to_owned(),
        }),
        command: Some(command),
    }
}
