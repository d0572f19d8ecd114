//! Installs the programs that try a client feature by feature, runs them, and reads what they say.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Language;
use super::page::Verdicts;

/// The line by which a client's program asks that its server is killed and started again; a line tells it when
/// that is done.
const RESTART: &str = "!restart";
/// How long a client's program may say nothing: twice what the slowest feature takes.
const SILENCE_MAX: Duration = Duration::from_mins(2);

/// Where a client's program lies, and what is installed for it.
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

/// Runs a client's program, and says what it saw of every feature. What the client says beside the outcomes goes to
/// the file `client.log`; `restart` kills the server and starts it again.
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
    let (heard, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            // Nobody listens any more only once the client was given up.
            drop(heard.send(String::from_utf8_lossy(&line).into_owned()));
        }
    });
    loop {
        let line = match lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                drop(child.kill());
                println!("  | silent for {SILENCE_MAX:?}: given up");
                break;
            }
        };
        if line.trim() == RESTART {
            let restarted = restart().and_then(|()| {
                writeln!(input, "restarted").context("tell the client of the restart")
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
            verdicts.note(feature, verdict);
        } else {
            println!("  | {line}");
        }
    }
    let status = child.wait().context("wait for the client")?;
    conclude(verdicts, status, &log)
}

/// The verdicts, if there is one of every feature and the program's own end fits them.
fn conclude(verdicts: Verdicts, status: ExitStatus, log: &Path) -> Result<Verdicts> {
    let unsaid = verdicts.unsaid();
    ensure!(
        unsaid.is_empty(),
        "the client's program ended with {status} and said nothing of {unsaid:?}; see {}",
        log.display()
    );
    ensure!(
        verdicts.failed() > 0 || status.success(),
        "the client's program ended with {status}; see {}",
        log.display()
    );
    Ok(verdicts)
}

/// Brings the client here.
pub(crate) fn install(language: &Language, place: &Place) -> Result<()> {
    let Place { sources, folder } = place;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let manifest = sources.join(language.manifest);
    let asked =
        fs::read_to_string(&manifest).with_context(|| format!("read {}", manifest.display()))?;
    ensure!(
        asked.contains(language.package) && asked.contains(language.version),
        "{} asks for another package or version",
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

/// A command of the table, its words parted by blanks.
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

/// What a client's program says of one feature.
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
    fn lines_of_clients_are_told_from_noise() {
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
