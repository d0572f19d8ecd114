//! Provides `cargo xtask apis`: requests made from the two OpenAPI documents, sent to a server of its own.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::program::{Place, command_of, install};
use super::server::Server;
use super::{Language, build, target_folder};

/// How long each API is tried, in seconds.
const SECONDS: &str = "60";
/// The seed of the generated requests, unless one is given.
const SEED: &str = "1";

/// What makes the requests, installed like a client of `cargo xtask interop`.
const GENERATOR: Language = Language {
    name: "apis",
    shown: "OpenAPI",
    package: "schemathesis",
    version: "4.32.5",
    manifest: "requirements.txt",
    install: &[
        "python3 -m venv {}/venv",
        "{}/venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt",
    ],
    run: "{}/venv/bin/st",
    trust: None,
};

/// Sends the requests and says whether every answer was one that the document has; with `--release` to the optimised
/// server, with `--seed N` other requests.
pub(crate) fn run(root: &Path, flags: &[&str]) -> Result<bool> {
    let (optimised, seed) = match flags {
        [] => (false, SEED),
        ["--release"] => (true, SEED),
        ["--seed", seed] => (false, *seed),
        ["--release", "--seed", seed] => (true, *seed),
        _ => anyhow::bail!("the flags of apis are --release and --seed N"),
    };
    let target = target_folder(root)?;
    let binary = build(root, &target, optimised)?;
    let data = target.join("apis-data");
    let place = Place::of(root, &target, &GENERATOR);
    install(&GENERATOR, &place)?;
    let server = Server::start_empty(&binary, &data)?;
    let mut passed = true;
    for base in [&server.commands, &server.orders] {
        ensure!(!base.is_empty(), "the server did not say where its API is");
        let mut command = command_of(GENERATOR.run, &place)?;
        command
            // It leaves files of its own where it runs.
            .current_dir(&place.folder)
            .arg("--config-file")
            .arg(place.sources.join("schemathesis.toml"))
            .arg("run")
            .arg(format!("{base}/openapi.json"))
            .args(["--phases", "coverage,fuzzing,stateful"])
            .args(["--max-time", SECONDS, "--seed", seed])
            // A receive may wait for a minute.
            .args(["--request-timeout", "90", "--workers", "2"])
            .arg("--continue-on-failure");
        let status = command
            .status()
            .with_context(|| format!("start {command:?}"))?;
        passed &= status.success();
    }
    Ok(passed)
}
