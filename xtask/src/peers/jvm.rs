//! Starts a Java program, waits until it reports that it is ready, and kills it when it is no longer needed.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// Time limit for a program to be ready: many times what it takes on a busy machine.
const READY_MAX: Duration = Duration::from_mins(2);
/// What Apache RocketMQ needs on a JDK later than 8, and what makes it start quickly.
const FLAGS: &[&str] = &[
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
];
/// Lines at the end of a program's output that an error includes.
const LINES_SHOWN: usize = 15;

/// A Java program, and what it runs with.
pub(super) struct Program<'a> {
    /// Its name, and that of the file its output goes to.
    pub(super) name: &'static str,
    pub(super) main: &'static str,
    pub(super) heap_mb: u32,
    pub(super) arguments: &'a [String],
    /// The folder of its jars.
    pub(super) jars: &'a Path,
    /// Its home, and the folder of all it writes.
    pub(super) home: &'a Path,
}

impl Program<'_> {
    fn command(&self) -> Command {
        let Self { jars, home, .. } = self;
        let mut command = Command::new("java");
        command
            .args(FLAGS)
            .arg(format!("-Xmx{}m", self.heap_mb))
            .arg("-XX:MaxDirectMemorySize=256m")
            // Its logs go to a folder in the user's home.
            .arg(format!("-Duser.home={}", home.display()))
            .arg("-cp")
            .arg(format!("{}/*", jars.display()))
            .arg(self.main)
            .args(self.arguments)
            .env("ROCKETMQ_HOME", home)
            .env_remove("JAVA_TOOL_OPTIONS")
            .current_dir(home);
        command
    }

    fn output(&self) -> PathBuf {
        self.home.join(format!("{}.out", self.name))
    }

    /// Runs it to its end; its output must contain these words.
    pub(super) fn run(&self, words: &str) -> Result<()> {
        let output = self.command().output();
        let output = output.with_context(|| format!("start `java` for the {}", self.name))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // The exit status is 0 even if it has failed.
        ensure!(
            said.contains(words),
            "the {} failed: {said}{}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Starts it, and waits until its output contains these words.
    pub(super) fn start(&self, words: &'static str) -> Result<Jvm> {
        let path = self.output();
        let mut log = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        let errors = log.try_clone().context("share the file of the output")?;
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start `java` for the {}", self.name))?;
        let output = child.stdout.take();
        let jvm = Jvm(child);
        let output = output.context("take the program's output")?;
        let (sender, ready) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads on to the end, so that the program never waits for a reader.
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                // An output that cannot be kept is no reason to stop.
                drop(writeln!(log, "{line}"));
                if line.contains(words) {
                    // The send fails only after the program was abandoned.
                    let _ = sender.send(());
                }
            }
        });
        let why = match ready.recv_timeout(READY_MAX) {
            Ok(()) => return Ok(jvm),
            Err(mpsc::RecvTimeoutError::Disconnected) => "ended".to_owned(),
            Err(mpsc::RecvTimeoutError::Timeout) => format!("is not ready after {READY_MAX:?}"),
        };
        drop(jvm);
        let said = fs::read_to_string(&path).unwrap_or_default();
        bail!(
            "the {} {why}; its output ends with:\n{}",
            self.name,
            last_lines(&said)
        )
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(LINES_SHOWN);
    lines.get(start..).unwrap_or_default().join("\n")
}

/// A running program, killed when it is dropped: its data is for the test only. It stays in the process group of this
/// command, so what ends the group, such as Ctrl-C on a terminal, ends it too.
pub(super) struct Jvm(Child);

impl Drop for Jvm {
    fn drop(&mut self) {
        // It may have ended by itself, which the client has noticed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_output_is_shown() {
        assert_eq!(last_lines("a\nb\n"), "a\nb");
        let lines: Vec<String> = (0..40).map(|line| line.to_string()).collect();
        let shown = last_lines(&lines.join("\n"));
        assert!(
            shown.starts_with("25\n") && shown.ends_with("\n39"),
            "{shown}"
        );
    }
}
