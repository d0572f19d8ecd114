//! Checks the manifests: names, licence fields, lints, and a reason for every dependency.

use std::path::Path;

use super::Problem;
use super::metadata::{Metadata, Package, relative};
use super::tree::SourceFile;

const LICENCE: &str = "Apache-2.0";
const REASONS: &str = "docs/architecture.md";

/// Checks every crate of the workspace, and the list of dependencies against the table of reasons.
pub(crate) fn check(metadata: &Metadata, root: &Path, files: &[SourceFile]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in metadata.members() {
        let manifest = relative(root, &package.manifest_path);
        let text = text_of(files, &manifest);
        problems.extend(check_package(package, &manifest, text));
    }
    problems.extend(check_reasons(
        text_of(files, "Cargo.toml"),
        text_of(files, REASONS),
    ));
    problems
}

fn text_of<'a>(files: &'a [SourceFile], path: &str) -> &'a str {
    files
        .iter()
        .find(|file| file.path == path)
        .map_or("", |file| &file.text)
}

fn check_package(package: &Package, manifest: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut fail = |message: String| problems.push(Problem::new(manifest, message));

    let folder = manifest.rsplit('/').nth(1).unwrap_or_default();
    if folder != package.name {
        fail(format!(
            "the folder \"{folder}\" and the crate \"{}\" differ in name",
            package.name
        ));
    }
    if package.license.as_deref() != Some(LICENCE) {
        fail(format!(
            "the field license must say {LICENCE}: write license.workspace = true"
        ));
    }
    if package
        .publish
        .as_ref()
        .is_none_or(|registries| !registries.is_empty())
    {
        fail("the crate could be published: write publish.workspace = true".to_owned());
    }
    if package.rust_version.is_none() {
        fail("the field rust-version is missing: write rust-version.workspace = true".to_owned());
    }
    if !text.contains("[lints]\nworkspace = true") {
        fail("the lints of the workspace are not used: write [lints] workspace = true".to_owned());
    }
    for (index, line) in dependency_lines(text) {
        if !line.contains(".workspace = true") && !line.contains("workspace = true") {
            problems.push(Problem::at_line(
                manifest,
                index,
                "versions belong in [workspace.dependencies]: write name.workspace = true",
            ));
        }
    }
    problems
}

/// The lines of all dependency tables of a manifest, with their numbers.
fn dependency_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
            return None;
        }
        let is_entry = inside && line.contains('=') && !line.starts_with('#');
        is_entry.then_some((index + 1, line))
    })
}

/// Every dependency of the workspace must have a row in the dependency table of the architecture page.
fn check_reasons(manifest: &str, page: &str) -> Vec<Problem> {
    dependency_lines(manifest)
        .filter(|(_, line)| !line.contains("path = \"crates/"))
        .filter_map(|(index, line)| {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            let has_reason = page
                .lines()
                .any(|row| row.starts_with('|') && row.contains(&format!("`{name}`")));
            (!has_reason).then(|| {
                Problem::at_line(
                    "Cargo.toml",
                    index,
                    format!("{name} has no reason in the dependency table of {REASONS}"),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\nname = \"engine\"\n\n[lints]\nworkspace = true\n\n\
        [dependencies]\nbytes.workspace = true\nserde = { workspace = true, features = [\"rc\"] }\n";

    fn package() -> Package {
        Package {
            name: "engine".to_owned(),
            license: Some(LICENCE.to_owned()),
            publish: Some(Vec::new()),
            rust_version: Some("1.94".to_owned()),
            ..Package::default()
        }
    }

    fn messages(package: &Package, manifest: &str, text: &str) -> String {
        let problems = check_package(package, manifest, text);
        let messages: Vec<String> = problems
            .into_iter()
            .map(|problem| problem.message)
            .collect();
        messages.join("\n")
    }

    #[test]
    fn good_manifest_passes() {
        assert_eq!(
            messages(&package(), "crates/engine/Cargo.toml", MANIFEST),
            ""
        );
    }

    #[test]
    fn each_field_is_checked() {
        let path = "crates/engine/Cargo.toml";
        assert!(
            messages(&package(), "crates/motor/Cargo.toml", MANIFEST).contains("differ in name")
        );
        let licence = Package {
            license: Some("MIT".to_owned()),
            ..package()
        };
        assert!(messages(&licence, path, MANIFEST).contains("field license"));
        let publish = Package {
            publish: None,
            ..package()
        };
        assert!(messages(&publish, path, MANIFEST).contains("could be published"));
        let version = Package {
            rust_version: None,
            ..package()
        };
        assert!(messages(&version, path, MANIFEST).contains("rust-version"));
        let lints = MANIFEST.replace("[lints]", "[lint]");
        assert!(messages(&package(), path, &lints).contains("lints"));
        let pinned = MANIFEST.replace("bytes.workspace = true", "bytes = \"1\"");
        let problems = check_package(&package(), path, &pinned);
        assert_eq!(
            problems
                .iter()
                .map(|problem| problem.line)
                .collect::<Vec<_>>(),
            [Some(8)]
        );
    }

    #[test]
    fn dependency_without_a_reason_fails() {
        let manifest = "[workspace.dependencies]\nengine = { path = \"crates/engine\" }\n# why\n\
            bytes = \"1\"\nfjall = { version = \"3\" }\n\n[profile.dev]\ndebug = false\n";
        let page = "bytes in prose does not count: `bytes`\n| `fjall` | the store |\n";
        let problems = check_reasons(manifest, page);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].line, Some(4));
        assert!(problems[0].message.starts_with("bytes has no reason"));
    }
}
