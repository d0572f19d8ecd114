//! Keeps the stream to one server on which settings and commands go.

use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::telemetry_command::Command;
use grpc_api::v2::{Code, Status, TelemetryCommand, ThreadStackTrace, VerifyMessageResult};

use crate::connection::{Line, Procedure, Speech};
use crate::error::{Error, Refused};
use crate::session::{Check, Core};
use crate::settings::Rules;

const TELEMETRY: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/Telemetry");
/// How often the settings are said again.
const SETTINGS_EVERY: Duration = Duration::from_mins(5);
/// How long to wait before a stream that ended is opened again.
const REOPEN_WAIT: Duration = Duration::from_secs(1);
/// The same after a first failure, so that a server that was just restarted is met soon.
const REOPEN_WAIT_FIRST: Duration = Duration::from_millis(100);

/// Keeps the stream open until the client stops.
pub(crate) async fn attend(core: Arc<Core>, line: Arc<Line>) {
    let mut wait = REOPEN_WAIT_FIRST;
    loop {
        match talk(&core, &line).await {
            Ok(()) => wait = REOPEN_WAIT_FIRST,
            Err(error) => {
                tracing::debug!(%error, "keep telemetry stream");
                core.known.send_modify(|known| known.failure = Some(error));
            }
        }
        tokio::time::sleep(wait).await;
        wait = REOPEN_WAIT;
    }
}

/// One stream, until it ends.
async fn talk(core: &Core, line: &Arc<Line>) -> Result<(), Error> {
    let (mut commands, mut speech) = line
        .converse::<TelemetryCommand>(TELEMETRY, &core.lasting_headers())
        .await?;
    let mut every = tokio::time::interval(SETTINGS_EVERY);
    loop {
        let command = tokio::select! {
            command = commands.next() => command?,
            _ = every.tick() => {
                introduce(core, &mut speech)?;
                continue;
            }
            () = core.reintroduce.notified() => {
                introduce(core, &mut speech)?;
                continue;
            }
        };
        match command {
            None => return Ok(()),
            Some(command) => obey(core, line, command, &mut speech)?,
        }
    }
}

fn introduce(core: &Core, speech: &mut Speech) -> Result<(), Error> {
    speech.say(&TelemetryCommand {
        status: None,
        command: Some(Command::Settings(core.settings())),
    })
}

fn obey(
    core: &Core,
    line: &Arc<Line>,
    told: TelemetryCommand,
    speech: &mut Speech,
) -> Result<(), Error> {
    if let Some(status) = told.status
        && status.code != i32::from(Code::Ok)
    {
        return Err(Refused::from(status).into());
    }
    match told.command {
        Some(Command::Settings(settings)) => {
            let rules = Arc::new(Rules::read(&settings));
            core.known.send_modify(|known| {
                known.rules = Some(rules);
                known.failure = None;
            });
        }
        Some(Command::RecoverOrphanedTransactionCommand(command)) => {
            let check = Check {
                command,
                line: Arc::clone(line),
            };
            // One that finds no room is asked about again later.
            drop(core.checks.try_send(check));
        }
        Some(Command::ReconnectEndpointsCommand(_)) => line.hang_up(),
        Some(Command::PrintThreadStackTraceCommand(command)) => {
            let trace = ThreadStackTrace {
                nonce: command.nonce,
                ..ThreadStackTrace::default()
            };
            speech.say(&cannot(Command::ThreadStackTrace(trace)))?;
        }
        Some(Command::VerifyMessageCommand(command)) => {
            let result = VerifyMessageResult {
                nonce: command.nonce,
            };
            speech.say(&cannot(Command::VerifyMessageResult(result)))?;
        }
        _ => {}
    }
    Ok(())
}

/// The answer to a command this client does not know how to obey.
fn cannot(command: Command) -> TelemetryCommand {
    TelemetryCommand {
        status: Some(Status {
            code: Code::Unsupported.into(),
            message: "this client does not offer that".to_owned(),
        }),
        command: Some(command),
    }
}
