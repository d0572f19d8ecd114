//! Provides `cargo xtask interop`: the official clients of other projects, run against real servers.

mod page;
mod server;

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::page::Column;
use self::server::Server;

/// The account of the guarded server.
const ACCOUNTS: &str = r#"[[account]]
name = "interop"
secret = "interop-secret"
administer = true
"#;
/// The line by which a client's program asks that its server is killed and started again; a line tells it when
/// that is done.
const RESTART: &str = "!restart";
/// How long a client's program may say nothing: twice what the slowest feature takes.
const SILENCE_MAX: Duration = Duration::from_mins(2);
/// Made on the open server: a group that gives a message up after its second delivery.
const DEAD_GROUP: &str = "g-dead";
/// Made on the strict server, which makes no topic by itself.
const NORMAL_TOPIC: &str = "only-normal";

/// A client of another project.
struct Language {
    name: &'static str,
    /// Its name for people.
    shown: &'static str,
    /// What its own registry calls the client.
    package: &'static str,
    version: &'static str,
    /// The file that asks for this package in this version.
    manifest: &'static str,
    /// What brings the client here, and what then runs it; `{}` stands for the folder for what is installed.
    install: &'static [&'static str],
    run: &'static str,
    /// The variable by which its TLS library is told whom to trust.
    trust: Option<&'static str>,
}

const LANGUAGES: &[Language] = &[
    Language {
        name: "client",
        shown: "Duetime's own",
        package: "client",
        version: "crates/client",
        manifest: "Cargo.toml",
        // Beside what the workspace has built already.
        install: &["cargo build --quiet --locked --target-dir {}/../.."],
        run: "{}/../../debug/interop-client",
        trust: None,
    },
    Language {
        name: "python",
        shown: "Python",
        package: "rocketmq-python-client",
        version: "5.1.2",
        manifest: "requirements.txt",
        install: &[
            "python3 -m venv {}/venv",
            "{}/venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt",
        ],
        run: "{}/venv/bin/python run.py",
        trust: Some("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
    },
    Language {
        name: "node",
        shown: "Node.js",
        package: "rocketmq-client-nodejs",
        version: "1.0.8",
        manifest: "package.json",
        install: &[
            "cp package.json package-lock.json run.js {}",
            "npm ci --silent --prefix {}",
        ],
        run: "node {}/run.js",
        trust: Some("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
    },
    Language {
        name: "go",
        shown: "Go",
        package: "github.com/apache/rocketmq-clients/golang/v5",
        version: "v5.1.2",
        manifest: "go.mod",
        install: &["go build -o {}/interop ."],
        run: "{}/interop",
        trust: None,
    },
    Language {
        name: "java",
        shown: "Java",
        package: "rocketmq-client-java",
        version: "5.2.0",
        manifest: "pom.xml",
        install: &[
            "mvn --batch-mode --quiet -DbuildDirectory={} compile dependency:copy-dependencies -DoutputDirectory={}/jars",
        ],
        run: "java -cp {}/classes:{}/jars/* interop.Main",
        trust: None,
    },
    Language {
        name: "rust",
        shown: "Rust",
        package: "rocketmq",
        version: "5.0.0",
        manifest: "Cargo.toml",
        install: &["cargo build --quiet --locked --target-dir {}"],
        run: "{}/debug/interop",
        trust: Some("SSL_CERT_FILE"),
    },
];

/// The languages with these names in the order of the list; all of them if no name is given.
fn select(names: &[&str]) -> Result<Vec<&'static Language>, String> {
    for name in names {
        if !LANGUAGES.iter().any(|language| language.name == *name) {
            let known: Vec<&str> = LANGUAGES.iter().map(|language| language.name).collect();
            return Err(format!(
                "unknown language \"{name}\"; there are {}",
                known.join(", ")
            ));
        }
    }
    let chosen = |language: &&Language| names.is_empty() || names.contains(&language.name);
    Ok(LANGUAGES.iter().filter(chosen).collect())
}

/// Runs the clients of these languages, and says whether all did what they should. `--release` among the names
/// takes the optimised server. When no language is named docs/compatibility.md is written.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<bool> {
    let (flags, names): (Vec<&str>, Vec<&str>) = arguments
        .iter()
        .partition(|argument| **argument == "--release");
    let languages = select(&names).map_err(anyhow::Error::msg)?;
    let target = target_folder(root)?;
    let binary = build(root, &target, !flags.is_empty())?;
    let mut columns = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    std::thread::scope(|scope| {
        // The next client is built while one mostly waits for messages.
        let (installed, ready) = mpsc::channel();
        let (root, target) = (root, &target);
        scope.spawn(move || {
            for language in languages {
                let place = Place::of(root, target, language);
                let done = install(language, &place);
                // Nobody listens any more only if this process is about to end.
                drop(installed.send((language, place, done)));
            }
        });
        for (language, place, done) in ready {
            println!(
                "\n==> {} ({} {})",
                language.shown, language.package, language.version
            );
            match done.and_then(|()| run_language(&place, &binary, language)) {
                Ok(column) => {
                    let fails = column.verdicts.iter();
                    let fails = fails.filter(|(_, verdict)| verdict == "FAIL").count();
                    failed += fails;
                    passed += column.verdicts.len() - fails;
                    columns.push(column);
                }
                Err(error) => {
                    failed += 1;
                    println!("{:<16} FAIL  {error:#}", "client");
                }
            }
        }
    });
    if names.is_empty() && columns.len() == LANGUAGES.len() {
        let path = root.join("docs/compatibility.md");
        fs::write(&path, page::page(&columns))
            .with_context(|| format!("write {}", path.display()))?;
    }
    println!("\n{passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn target_folder(root: &Path) -> Result<PathBuf> {
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

fn build(root: &Path, target: &Path, release: bool) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked"]);
    if release {
        command.arg("--release");
    }
    let status = command.current_dir(root).status().context("start cargo")?;
    ensure!(status.success(), "duetime does not build");
    let profile = if release { "release" } else { "debug" };
    Ok(target.join(profile).join("duetime"))
}

/// The servers one client is run against.
struct Servers {
    /// Makes every topic as a mixed one.
    open: Server,
    /// Makes every topic as a FIFO one.
    fifo: Server,
    /// Makes no topic by itself.
    strict: Server,
    /// Has an account.
    guarded: Server,
    /// Is killed under load; makes every topic as a mixed one.
    mortal: Server,
    /// The certificate of the open one.
    certificate: PathBuf,
}

impl Servers {
    fn start(binary: &Path, data: &Path) -> Result<Self> {
        if data.exists() {
            fs::remove_dir_all(data).with_context(|| format!("empty {}", data.display()))?;
        }
        fs::create_dir_all(data).with_context(|| format!("make {}", data.display()))?;
        let accounts = data.join("accounts.toml");
        fs::write(&accounts, ACCOUNTS)
            .and_then(|()| fs::set_permissions(&accounts, Permissions::from_mode(0o600)))
            .with_context(|| format!("write {}", accounts.display()))?;
        let said = format!("access.accounts={}", accounts.display());
        let mixed = "broker.auto_topic=mixed";
        let start = |name: &str, settings: &[&str]| {
            Server::start(binary, &data.join(name), settings)
                .with_context(|| format!("start the server {name:?}"))
        };
        let servers = Self {
            open: start("open", &[mixed])?,
            fifo: start("fifo", &["broker.auto_topic=fifo"])?,
            strict: start("strict", &["broker.auto_topic=off"])?,
            guarded: start("guarded", &[mixed, &said])?,
            mortal: start("mortal", &[mixed])?,
            certificate: data.join("open/tls/certificate.pem"),
        };
        let group = format!("group create {DEAD_GROUP} --attempts 2 --backoff 1s");
        servers.open.command(&group)?;
        let topic = format!("topic create {NORMAL_TOPIC} --kind normal");
        servers.strict.command(&topic)?;
        Ok(servers)
    }

    fn tell(&self, command: &mut Command, trust: Option<&str>) {
        command
            .env("OPEN", &self.open.address)
            .env("FIFO", &self.fifo.address)
            .env("STRICT", &self.strict.address)
            .env("GUARDED", &self.guarded.address)
            .env("MORTAL", &self.mortal.address)
            .env("CERTIFICATE", &self.certificate)
            .env("DEAD_GROUP", DEAD_GROUP)
            .env("NORMAL_TOPIC", NORMAL_TOPIC);
        if let Some(variable) = trust {
            command.env(variable, &self.certificate);
        }
    }
}

/// Where a client's program lies, and what is installed for it.
struct Place {
    sources: PathBuf,
    folder: PathBuf,
}

impl Place {
    fn of(root: &Path, target: &Path, language: &Language) -> Self {
        Self {
            sources: root.join("interop").join(language.name),
            folder: target.join("interop").join(language.name),
        }
    }
}

/// Runs one language against servers of its own. What the client says beside the outcomes goes to a file.
fn run_language(
    place: &Place,
    binary: &Path,
    language: &'static Language,
) -> Result<Column<'static>> {
    let mut servers = Servers::start(binary, &place.folder.join("data"))?;
    let log = place.folder.join("client.log");
    let noise = fs::File::create(&log).with_context(|| format!("make {}", log.display()))?;
    let mut command = command_of(language.run, place)?;
    servers.tell(&mut command, language.trust);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(noise)
        .spawn()
        .with_context(|| format!("start `{}`", language.run))?;
    let mut input = child.stdin.take().context("take the client's input")?;
    let output = child.stdout.take().context("take the client's output")?;
    let mut column = Column {
        language,
        verdicts: Vec::new(),
    };
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
            servers.mortal.restart()?;
            writeln!(input, "restarted").context("tell the client of the restart")?;
        } else if let Some(Outcome {
            feature,
            verdict,
            detail,
        }) = Outcome::read(&line)
        {
            println!("{feature:<16} {verdict:<5} {detail}");
            column
                .verdicts
                .push((feature.to_owned(), verdict.to_owned()));
        } else {
            println!("  | {line}");
        }
    }
    let status = child.wait().context("wait for the client")?;
    let unsaid = column.unsaid();
    ensure!(
        unsaid.is_empty(),
        "the client's program ended with {status} and said nothing of {unsaid:?}; see {}",
        log.display()
    );
    let fails = column.verdicts.iter().any(|(_, verdict)| verdict == "FAIL");
    ensure!(
        fails || status.success(),
        "the client's program ended with {status}; see {}",
        log.display()
    );
    Ok(column)
}

/// Brings the client here.
fn install(language: &Language, place: &Place) -> Result<()> {
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
fn command_of(line: &str, place: &Place) -> Result<Command> {
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
    fn languages_are_chosen_by_name() {
        let names = |asked: &[&str]| {
            let chosen = select(asked);
            chosen.map(|chosen| chosen.iter().map(|each| each.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["go", "python"]).unwrap(), ["python", "go"]);
        assert_eq!(names(&[]).unwrap().len(), LANGUAGES.len());
        assert!(names(&["cobol"]).unwrap_err().contains("there are client"));
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
