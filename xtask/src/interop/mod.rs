//! Provides `cargo xtask interop`: the official clients of other projects, run against real servers.

pub(crate) mod apis;
pub(crate) mod examples;
pub(crate) mod page;
pub(crate) mod program;
mod server;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use anyhow::{Context as _, Result, ensure};

use self::page::{Column, Verdicts};
use self::program::{Place, command_of, install, try_features};
use self::server::Server;

/// The account of the guarded server.
const ACCOUNTS: &str = r#"[[account]]
name = "interop"
secret = "interop-secret"
administer = true
"#;
/// A group of the open server whose messages become dead letters after the second delivery.
const DEAD_GROUP: &str = "g-dead";
/// A topic of the strict server, which creates no topic by itself.
const NORMAL_TOPIC: &str = "only-normal";

/// A client; most are of other projects.
pub(crate) struct Language {
    name: &'static str,
    /// The name to print.
    pub(crate) shown: &'static str,
    /// The name of the package in its own registry.
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    /// The file that asks for this package in this version.
    manifest: &'static str,
    /// The commands that install the client, and the one that runs it; `{}` is the folder to install into.
    install: &'static [&'static str],
    pub(crate) run: &'static str,
    /// The environment variable that names the authorities its TLS library trusts.
    trust: Option<&'static str>,
}

/// The client of this workspace.
pub(crate) const OWN: Language = Language {
    name: "client",
    shown: "Duetime's own",
    package: "client",
    version: "crates/client",
    manifest: "Cargo.toml",
    // Shares the build of the workspace.
    install: &["cargo build --quiet --locked --target-dir {}/../.."],
    run: "{}/../../debug/interop-client",
    trust: None,
};

const LANGUAGES: &[Language] = &[
    OWN,
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

/// Runs the clients of these languages, and returns whether all passed. With `--release` among the names the server is the
/// optimised one. If no language is named, docs/compatibility.md is written.
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
                // The send fails only if this process is about to end.
                drop(installed.send((language, place, done)));
            }
        });
        for (language, place, done) in ready {
            println!(
                "\n==> {} ({} {})",
                language.shown, language.package, language.version
            );
            match done.and_then(|()| run_language(&place, &binary, language)) {
                Ok(verdicts) => {
                    failed += verdicts.failed();
                    passed += verdicts.passed();
                    columns.push(Column {
                        shown: language.shown.to_owned(),
                        client: format!("`{}` {}", language.package, language.version),
                        verdicts,
                    });
                }
                Err(error) => {
                    failed += 1;
                    println!("{:<16} FAIL  {error:#}", "client");
                }
            }
        }
    });
    if names.is_empty() && columns.len() == LANGUAGES.len() {
        page::update(root, columns)?;
    }
    println!("\n{passed} passed, {failed} failed");
    Ok(failed == 0)
}

/// The target folder of cargo.
pub(crate) fn target_folder(root: &Path) -> Result<PathBuf> {
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
        server::empty(data)?;
        fs::create_dir_all(data).with_context(|| format!("make {}", data.display()))?;
        let accounts = data.join("accounts.toml");
        fs::write(&accounts, ACCOUNTS)
            .and_then(|()| fs::set_permissions(&accounts, Permissions::from_mode(0o600)))
            .with_context(|| format!("write {}", accounts.display()))?;
        let setting = format!("access.accounts={}", accounts.display());
        let mixed = "broker.auto_topic=mixed";
        let start = |name: &str, settings: &[&str]| {
            Server::start(binary, &data.join(name), settings)
                .with_context(|| format!("start the server {name:?}"))
        };
        let servers = Self {
            open: start("open", &[mixed])?,
            fifo: start("fifo", &["broker.auto_topic=fifo"])?,
            strict: start("strict", &["broker.auto_topic=off"])?,
            guarded: start("guarded", &[mixed, &setting])?,
            mortal: start("mortal", &[mixed])?,
            certificate: data.join("open/tls/certificate.pem"),
        };
        let group = format!("group create {DEAD_GROUP} --attempts 2 --backoff 1s");
        servers.open.command(&group)?;
        let topic = format!("topic create {NORMAL_TOPIC} --kind normal");
        servers.strict.command(&topic)?;
        Ok(servers)
    }

    fn describe_to(&self, command: &mut Command, trust: Option<&str>) {
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

/// Runs one language against servers of its own.
fn run_language(place: &Place, binary: &Path, language: &Language) -> Result<Verdicts> {
    let mut servers = Servers::start(binary, &place.folder.join("data"))?;
    let mut command = command_of(language.run, place)?;
    servers.describe_to(&mut command, language.trust);
    try_features(command, place, || servers.mortal.restart())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
