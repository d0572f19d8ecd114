//! Provides the output of `cargo metadata`: the workspace and its dependencies.

use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The part of the output of `cargo metadata` that the checks use.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
}

/// A crate of the workspace or one that is depended on.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) manifest_path: String,
    pub(crate) rust_version: Option<String>,
    /// The registries it may be published to; an empty list means none.
    pub(crate) publish: Option<Vec<String>>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// An arrow from a package to another.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `dev`, `build`, or nothing for a normal dependency.
    pub(crate) kind: Option<String>,
    /// The folder, if the dependency is in the workspace.
    pub(crate) path: Option<String>,
}

/// Something cargo compiles on its own: a library, a binary, a test.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Target {
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: String,
}

/// The file a target starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    /// Relative to the workspace.
    pub(crate) path: String,
    /// Whether it is compiled for tests and benchmarks only.
    pub(crate) is_test: bool,
}

impl Metadata {
    /// The crates of the workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }

    /// The crates that come from elsewhere.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| !self.workspace_members.contains(&package.id))
    }

    /// The files that the targets of the workspace start from.
    pub(crate) fn roots(&self, workspace: &Path) -> Vec<Root> {
        self.members()
            .flat_map(|package| &package.targets)
            .map(|target| Root {
                path: relative(workspace, &target.src_path),
                is_test: target
                    .kind
                    .iter()
                    .any(|kind| kind == "test" || kind == "bench"),
            })
            .collect()
    }
}

/// A path as cargo gives it, relative to the workspace and with `/` between the parts.
///
/// Cargo joins the `path` of a target to the folder of its package as it is, `..` included.
pub(crate) fn relative(workspace: &Path, path: &str) -> String {
    let mut resolved = PathBuf::new();
    for part in Path::new(path).components() {
        if part == Component::ParentDir {
            resolved.pop();
        } else {
            resolved.push(part);
        }
    }
    resolved
        .strip_prefix(workspace)
        .unwrap_or(&resolved)
        .to_string_lossy()
        .replace('\\', "/")
}

/// Runs cargo.
pub(crate) fn read(root: &Path) -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("start cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("read the output of cargo metadata")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_workspace() {
        let workspace = Path::new("/w");
        for (path, shown) in [
            ("/w/crates/a/src/lib.rs", "crates/a/src/lib.rs"),
            ("/w/crates/a/../../examples/b/main.rs", "examples/b/main.rs"),
            ("/elsewhere/lib.rs", "/elsewhere/lib.rs"),
        ] {
            assert_eq!(relative(workspace, path), shown);
        }
    }
}
