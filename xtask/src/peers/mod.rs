//! Provides `cargo xtask peers`: Duetime's own client, run against Apache RocketMQ.

mod cluster;
mod jvm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use self::cluster::Cluster;
use crate::interop::OWN;
use crate::interop::page::{self, Column, Verdicts};
use crate::interop::program::{Place, command_of, install, try_features};
use crate::interop::target_folder;

/// The version of Apache RocketMQ.
const VERSION: &str = "5.5.0";
/// A group whose messages become dead letters after the second delivery.
const DEAD_GROUP: &str = "g-dead";
/// A topic of normal messages.
const NORMAL_TOPIC: &str = "client-only-normal";

/// Runs every feature of the client against a cluster on this machine, writes docs/compatibility.md, and returns whether
/// all passed.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let target = target_folder(root)?;
    let folder = target.join("peers");
    let jars = fetch(root, &folder)?;
    let place = Place {
        folder: target.join("interop").join("peers"),
        ..Place::of(root, &target, &OWN)
    };
    install(&OWN, &place)?;
    println!("==> Apache RocketMQ {VERSION}: name server, broker and proxy start");
    let mut cluster = Cluster::start(&jars, &folder.join("run"))?;
    let verdicts = run_client(&place, &mut cluster)?;
    drop(cluster);
    let (passed, failed) = (verdicts.passed(), verdicts.failed());
    let column = Column {
        shown: format!("{}, against Apache RocketMQ {VERSION}", OWN.shown),
        client: format!("`{}` {}", OWN.package, OWN.version),
        verdicts,
    };
    page::update(root, vec![column])?;
    println!("\n{passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn run_client(place: &Place, cluster: &mut Cluster) -> Result<Verdicts> {
    let mut command = command_of(OWN.run, place)?;
    for server in ["OPEN", "FIFO", "STRICT", "GUARDED", "MORTAL"] {
        command.env(server, cluster.address());
    }
    command
        .env("PEER", "apache")
        .env("SECRET", cluster.secret())
        .env("DEAD_GROUP", DEAD_GROUP)
        .env("NORMAL_TOPIC", NORMAL_TOPIC);
    try_features(command, place, || cluster.restart())
}

/// Fetches Apache RocketMQ.
fn fetch(root: &Path, folder: &Path) -> Result<PathBuf> {
    let manifest = root.join("interop/apache/pom.xml");
    let asked =
        fs::read_to_string(&manifest).with_context(|| format!("read {}", manifest.display()))?;
    ensure!(
        asked.contains(&format!("<rocketmq.version>{VERSION}</rocketmq.version>")),
        "{} names another version than {VERSION}",
        manifest.display()
    );
    let jars = folder.join("jars");
    fs::create_dir_all(&jars).with_context(|| format!("make {}", jars.display()))?;
    let status = Command::new("mvn")
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(&manifest)
        .arg("dependency:copy-dependencies")
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .status()
        .context("start `mvn`: Maven fetches Apache RocketMQ, which needs JDK 17 or later")?;
    ensure!(status.success(), "Apache RocketMQ cannot be fetched");
    Ok(jars)
}
