//! Checks that every Rust file is part of some target: finds files that are never compiled.
//!
//! Modules are found line by line, which works since `cargo fmt` puts each declaration on a line of its own. A file that is
//! declared inside an inline module is not found and therefore reported: declare it in a file.

use std::collections::BTreeMap;

use super::Problem;
use super::metadata::Root;
use super::tree::SourceFile;

/// The files that some target reaches, by path, and whether only tests do.
pub(crate) type Reached = BTreeMap<String, Use>;

/// What a file is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Tests and benchmarks only.
    Tests,
    /// What is shipped, and perhaps tests too.
    Product,
}

/// Follows the module declarations from the roots of all targets.
pub(crate) fn reached(files: &[SourceFile], roots: &[Root]) -> Reached {
    let mut reached = Reached::new();
    // The product is first, so that a file that both reach counts as the product's.
    for by in [Use::Product, Use::Tests] {
        for root in roots
            .iter()
            .filter(|root| root.is_test == (by == Use::Tests))
        {
            let folder = folder_of(&root.path).to_owned();
            follow(
                files,
                &mut reached,
                Visit {
                    path: root.path.clone(),
                    folder,
                    by,
                },
            );
        }
    }
    reached
}

/// A file on the way.
struct Visit {
    path: String,
    /// The folder of its child modules, ending in `/`.
    folder: String,
    by: Use,
}

fn follow(files: &[SourceFile], reached: &mut Reached, start: Visit) {
    let mut open = vec![start];
    while let Some(visit) = open.pop() {
        let Some(file) = files.iter().find(|file| file.path == visit.path) else {
            continue;
        };
        match reached.get(&visit.path) {
            Some(Use::Product) => continue,
            Some(Use::Tests) if visit.by == Use::Tests => continue,
            _ => {}
        }
        reached.insert(visit.path.clone(), visit.by);
        for module in declarations(&file.text) {
            let by = if module.is_test { Use::Tests } else { visit.by };
            open.extend(
                candidates(&visit, &module)
                    .into_iter()
                    .map(|(path, folder)| Visit { path, folder, by }),
            );
        }
    }
}

/// A line `mod name;` with the attributes before it, or an `include!`.
#[derive(Debug, PartialEq, Eq)]
struct Declaration {
    name: String,
    path: Option<String>,
    is_test: bool,
}

fn declarations(text: &str) -> Vec<Declaration> {
    let mut found = Vec::new();
    let mut is_test = false;
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if line == "#[cfg(test)]" {
            is_test = true;
        } else if let Some(value) = quoted(line, "#[path = ") {
            path = Some(value);
        } else if let Some(value) = quoted(line, "include!(") {
            found.push(Declaration {
                name: String::new(),
                path: Some(value),
                is_test,
            });
        } else if let Some(name) = module_name(line) {
            found.push(Declaration {
                name,
                path: path.take(),
                is_test,
            });
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
            path = None;
        }
    }
    found
}

/// The quoted text after a prefix.
fn quoted(line: &str, prefix: &str) -> Option<String> {
    let rest = line.strip_prefix(prefix)?.strip_prefix('"')?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

/// The name in a line like `pub(crate) mod name;`.
fn module_name(line: &str) -> Option<String> {
    let declaration = line.strip_suffix(';')?;
    let (visibility, name) = match declaration.strip_prefix("mod ") {
        Some(name) => ("", name),
        None => declaration.split_once(" mod ")?,
    };
    let is_visibility =
        visibility.is_empty() || visibility == "pub" || visibility.starts_with("pub(");
    let is_name = name
        .chars()
        .all(|letter| letter.is_alphanumeric() || letter == '_');
    (is_visibility && is_name).then(|| name.to_owned())
}

/// The possible files of a module, each with the folder of its own children.
fn candidates(parent: &Visit, module: &Declaration) -> Vec<(String, String)> {
    if let Some(path) = &module.path {
        let path = format!("{}{path}", folder_of(&parent.path));
        let folder = folder_of(&path).to_owned();
        return vec![(path, folder)];
    }
    let Declaration { name, .. } = module;
    let Visit { folder, .. } = parent;
    let children = format!("{folder}{name}/");
    vec![
        (format!("{folder}{name}.rs"), children.clone()),
        (format!("{folder}{name}/mod.rs"), children),
    ]
}

/// The part of a path up to and with the last `/`.
fn folder_of(path: &str) -> &str {
    path.rfind('/')
        .map_or("", |end| path.get(..=end).unwrap_or_default())
}

/// Finds Rust files that no target reaches.
pub(crate) fn check(files: &[SourceFile], reached: &Reached) -> Vec<Problem> {
    files
        .iter()
        .filter(|file| file.is_rust() && !reached.contains_key(&file.path))
        .map(|file| {
            Problem::new(
                &file.path,
                "no target of the workspace reaches this file: delete it or declare it",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> Vec<SourceFile> {
        let file = |(path, text): &(&str, &str)| SourceFile {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        entries.iter().map(file).collect()
    }

    fn root(path: &str, is_test: bool) -> Root {
        Root {
            path: path.to_owned(),
            is_test,
        }
    }

    #[test]
    fn follows_modules_in_every_form() {
        let files = files(&[
            (
                "c/src/lib.rs",
                "mod a;\npub mod b;\n#[cfg(test)]\nmod tests;\n",
            ),
            ("c/src/a.rs", "pub(crate) mod deep;\n"),
            ("c/src/a/deep.rs", ""),
            ("c/src/b/mod.rs", "#[path = \"other.rs\"]\nmod odd;\n"),
            ("c/src/b/other.rs", ""),
            ("c/src/tests.rs", "mod cases;\n"),
            ("c/src/tests/cases.rs", ""),
            ("c/tests/it/main.rs", "mod kill;\n"),
            ("c/tests/it/kill.rs", ""),
        ]);
        let reached = reached(
            &files,
            &[
                root("c/tests/it/main.rs", true),
                root("c/src/lib.rs", false),
            ],
        );
        assert_eq!(check(&files, &reached), []);
        assert_eq!(reached["c/src/a/deep.rs"], Use::Product);
        assert_eq!(reached["c/src/tests/cases.rs"], Use::Tests);
        assert_eq!(reached["c/tests/it/kill.rs"], Use::Tests);
    }

    #[test]
    fn dead_file_fails() {
        let files = files(&[
            ("c/src/lib.rs", "// mod old;\nmod live;\n"),
            ("c/src/live.rs", ""),
            ("c/src/old.rs", ""),
        ]);
        let problems = check(&files, &reached(&files, &[root("c/src/lib.rs", false)]));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].place, "c/src/old.rs");
    }

    #[test]
    fn file_of_product_and_tests_is_the_products() {
        let files = files(&[
            ("c/src/lib.rs", "mod both;\n"),
            ("c/src/both.rs", ""),
            (
                "c/tests/main.rs",
                "#[path = \"../src/both.rs\"]\nmod both;\nmod only;\n",
            ),
            ("c/tests/only.rs", ""),
        ]);
        let reached = reached(
            &files,
            &[root("c/src/lib.rs", false), root("c/tests/main.rs", true)],
        );
        assert_eq!(reached["c/src/both.rs"], Use::Product);
        assert_eq!(reached["c/tests/only.rs"], Use::Tests);
    }
}
