//! Installs the programs that test a client feature by feature, runs them, and reads their output.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Language;
use super::page::Verdicts;

/// The line with which a client's program requests that its server is killed and started again; a line on its input
/// confirms it.
const RESTART: &str = "!restart";
/// How long a client's program may print nothing: twice the time of the slowest feature.
const SILENCE_MAX: Duration = Duration::from_mins(2);

/// The folders of a client's program and of what is installed for it.
pub(crate) struct Place {
    pub(crate) sources: PathBuf,
    pub(crate) folder: PathBuf,
}

impl Place {
    pub(crate) fn of(root: &Path, target: &Path, language: &Language) -> Self {
        Self {
            sources: root.join("interop").join(language.name),
            folder: target.join("interop").join(language.name),
        }
    }
}

/// Runs a client's program, and returns its verdict on every feature. Its error output goes to the file `client.log`;
/// `restart` kills the server and starts it again.
pub(crate) fn try_features(
    mut command: Command,
    place: &Place,
    mut restart: impl FnMut() -> Result<()>,
) -> Result<Verdicts> {
    let log = place.folder.join("client.log");
    let noise = fs::File::create(&log).with_context(|| format!("make {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(noise)
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let mut input = child.stdin.take().context("take the client's input")?;
    let output = child.stdout.take().context("take the client's output")?;
    let mut verdicts = Verdicts::default();
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            // The send fails only after the client was abandoned.
            drop(sender.send(String::from_utf8_lossy(&line).into_owned()));
        }
    });
    loop {
        let line = match lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                drop(child.kill());
                println!("  | no output for {SILENCE_MAX:?}: killed");
                break;
            }
        };
        if line.trim() == RESTART {
            let restarted = restart().and_then(|()| {
                writeln!(input, "restarted").context("confirm the restart to the client")
            });
            if restarted.is_err() {
                drop(child.kill());
                drop(child.wait());
            }
            restarted?;
        } else if let Some(Outcome {
            feature,
            verdict,
            detail,
        }) = Outcome::read(&line)
        {
            println!("{feature:<16} {verdict:<5} {detail}");
            verdicts.record(feature, verdict);
        } else {
            println!("  | {line}");
        }
    }
    let status = child.wait().context("wait for the client")?;
    conclude(verdicts, status, &log)
}

/// The verdicts, if there is one on every feature and the exit status agrees with them.
fn conclude(verdicts: Verdicts, status: ExitStatus, log: &Path) -> Result<Verdicts> {
    let missing = verdicts.missing();
    ensure!(
        missing.is_empty(),
        "the client's program ended with {status} without a verdict for {missing:?}; see {}",
        log.display()
    );
    ensure!(
        verdicts.failed() > 0 || status.success(),
        "the client's program ended with {status}; see {}",
        log.display()
    );
    Ok(verdicts)
}

/// Installs the client.
pub(crate) fn install(language: &Language, place: &Place) -> Result<()> {
    let Place { sources, folder } = place;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let manifest = sources.join(language.manifest);
    let asked =
        fs::read_to_string(&manifest).with_context(|| format!("read {}", manifest.display()))?;
    ensure!(
        asked.contains(language.package) && asked.contains(language.version),
        "{} names another package or version",
        manifest.display()
    );
    for line in language.install {
        let status = command_of(line, place)?
            .status()
            .with_context(|| format!("start `{line}`"))?;
        ensure!(status.success(), "`{line}` failed");
    }
    Ok(())
}

/// A command of the table, its words separated by blanks.
pub(crate) fn command_of(line: &str, place: &Place) -> Result<Command> {
    let folder = place
        .folder
        .to_str()
        .context("the folder's name is no UTF-8")?;
    let mut words = line
        .split_whitespace()
        .map(|word| word.replace("{}", folder));
    let mut command = Command::new(words.next().context("the command is empty")?);
    command.args(words).current_dir(&place.sources);
    Ok(command)
}

/// A line of a client's program about one feature.
#[derive(Debug, PartialEq, Eq)]
struct Outcome<'a> {
    feature: &'a str,
    /// `ok`, `FAIL` or `none`.
    verdict: &'a str,
    detail: &'a str,
}

impl<'a> Outcome<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(3, '\t');
        let (feature, verdict) = (parts.next()?, parts.next()?);
        ["ok", "FAIL", "none"].contains(&verdict).then(|| Self {
            feature,
            verdict,
            detail: parts.next().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_distinguished_from_other_lines() {
        let read = Outcome::read("tag filter\tok\ta || c (0.1 s)").unwrap();
        assert_eq!((read.feature, read.verdict), ("tag filter", "ok"));
        assert_eq!(Outcome::read("push\tnone\t").unwrap().detail, "");
        for noise in ["", "warning: x", "a\tb\tc"] {
            assert_eq!(Outcome::read(noise), None, "{noise}");
        }
    }

    #[test]
    fn commands_name_their_folder() {
        let place = Place {
            sources: "/s".into(),
            folder: "/f".into(),
        };
        let command = command_of("run {}/a:{}/b", &place).unwrap();
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(arguments, ["/f/a:/f/b"]);
    }
}
