//! Compares the column `Where` of the dependency table with what the crates really depend on.

use std::collections::BTreeSet;

use super::Problem;
use super::metadata::{Metadata, Package};
use super::tree::SourceFile;

const PAGE: &str = "docs/architecture.md";
/// The head of the table.
const HEAD: &str = "| Crate | Where | ";

/// Checks each row of the table.
///
/// A row names the crates that use the dependency outside of tests. `binaries` stands for all users that have a binary,
/// `libraries` for all that have a library, `tests` for those that use it in tests only.
pub(crate) fn check(metadata: &Metadata, files: &[SourceFile]) -> Vec<Problem> {
    let page = files.iter().find(|file| file.path == PAGE);
    let lines = page.map_or("", |page| &page.text).lines().enumerate();
    let rows = lines
        .skip_while(|(_, line)| !line.starts_with(HEAD))
        .skip(2)
        .take_while(|(_, line)| line.starts_with('|'));
    rows.filter_map(|(index, line)| {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let name = cells.next()?.trim_matches('`');
        let message = check_row(metadata, name, cells.next()?)?;
        Some(Problem::at_line(PAGE, index + 1, message))
    })
    .collect()
}

fn check_row(metadata: &Metadata, name: &str, places: &str) -> Option<String> {
    let users = |is_test: bool| -> Vec<&Package> {
        let uses = |package: &&Package| {
            let mut dependencies = package.dependencies.iter();
            dependencies.any(|dependency| {
                dependency.name == name && (dependency.kind.as_deref() == Some("dev")) == is_test
            })
        };
        metadata.members().filter(uses).collect()
    };
    let product = users(false);
    let mut left: BTreeSet<&str> = product.iter().map(|user| user.name.as_str()).collect();
    let mut wrong = Vec::new();
    for place in places.split(',').map(str::trim) {
        let covered: Vec<&str> = match place {
            "tests" => {
                if users(true).is_empty() {
                    wrong.push("no test uses it".to_owned());
                }
                continue;
            }
            "binaries" => of_kind(&product, "bin"),
            "libraries" => of_kind(&product, "lib"),
            name => product
                .iter()
                .map(|user| user.name.as_str())
                .filter(|user| *user == name)
                .collect(),
        };
        if covered.is_empty() {
            wrong.push(format!("{place} does not use it"));
        }
        left.retain(|user| !covered.contains(user));
    }
    wrong.extend(left.iter().map(|user| format!("{user} uses it too")));
    (!wrong.is_empty()).then(|| format!("the place of {name} is wrong: {}", wrong.join(", ")))
}

fn of_kind<'a>(users: &[&'a Package], kind: &str) -> Vec<&'a str> {
    let has_kind = |user: &&&'a Package| {
        let mut targets = user.targets.iter();
        targets.any(|target| target.kind.iter().any(|of| of == kind))
    };
    users
        .iter()
        .filter(has_kind)
        .map(|user| user.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::metadata::{Dependency, Target};
    use super::*;

    fn workspace() -> Metadata {
        let package = |name: &str, kind: &str, uses: &[(&str, Option<&str>)]| Package {
            id: name.to_owned(),
            name: name.to_owned(),
            targets: vec![Target {
                kind: vec![kind.to_owned()],
                src_path: String::new(),
            }],
            dependencies: uses
                .iter()
                .map(|(name, kind)| Dependency {
                    name: (*name).to_owned(),
                    kind: kind.map(str::to_owned),
                    path: None,
                })
                .collect(),
            ..Package::default()
        };
        Metadata {
            packages: vec![
                package("engine", "lib", &[("bytes", None), ("insta", Some("dev"))]),
                package("orders", "lib", &[("bytes", None), ("bytes", Some("dev"))]),
                package("duetime", "bin", &[("bytes", None), ("clap", None)]),
            ],
            workspace_members: ["engine", "orders", "duetime"].map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn right_places_pass() {
        for (name, places) in [
            ("bytes", "engine, orders, duetime"),
            ("bytes", "libraries, duetime, tests"),
            ("bytes", "libraries, binaries"),
            ("clap", "binaries"),
            ("insta", "tests"),
        ] {
            assert_eq!(
                check_row(&workspace(), name, places),
                None,
                "{name}: {places}"
            );
        }
    }

    #[test]
    fn wrong_places_fail() {
        for (name, places, why) in [
            ("bytes", "engine, duetime", "orders uses it too"),
            ("bytes", "libraries", "duetime uses it too"),
            ("clap", "duetime, engine", "engine does not use it"),
            ("clap", "duetime, tests", "no test uses it"),
            ("clap", "libraries", "libraries does not use it"),
            ("insta", "engine", "engine does not use it"),
        ] {
            let message = check_row(&workspace(), name, places).unwrap();
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn rows_are_found_in_the_page() {
        let text = "| `a` | b |\n\n| Crate | Where | Why |\n|---|---|---|\n| `clap` | engine | x |\n\n| `y` | z | |\n";
        let page = SourceFile {
            path: PAGE.to_owned(),
            text: text.to_owned(),
        };
        let problems = check(&workspace(), &[page]);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].line, Some(5));
    }
}
