//! Checks that the files of a crate do not import each other in circles.
//!
//! A file may always use what its own module and the modules around it define: a folder is one unit to the outside. Tests are
//! left out.

use std::collections::{BTreeMap, BTreeSet};

use super::Problem;
use super::imports::{self, Import, Imports};
use super::reach::{Reached, Use};
use super::tree::SourceFile;

/// Circles that are known: they may shrink, and an entry leaves when its circle is gone.
const KNOWN: &[&[&str]] = &[
    &[
        "crates/client/src/session.rs",
        "crates/client/src/telemetry.rs",
    ],
    &[
        "crates/sim/src/shop/gateway.rs",
        "crates/sim/src/shop/judge.rs",
        "crates/sim/src/shop/scene.rs",
    ],
];

const _: () = assert!(KNOWN.len() <= 2, "at most two circles are allowed");

/// How many re-exports a name is followed through.
const HOPS_MAX: usize = 8;

/// Finds circles that are not known, and known ones that are gone.
pub(crate) fn check(files: &[SourceFile], reached: &Reached) -> Vec<Problem> {
    check_with(files, reached, KNOWN)
}

fn check_with(files: &[SourceFile], reached: &Reached, known: &[&[&str]]) -> Vec<Problem> {
    let mut crates: BTreeMap<&str, Vec<&SourceFile>> = BTreeMap::new();
    for file in files {
        if let Some((folder, _)) = file.path.split_once("/src/")
            && reached.get(&file.path) == Some(&Use::Product)
        {
            crates.entry(folder).or_default().push(file);
        }
    }
    let found: Vec<Vec<&str>> = crates
        .iter()
        .flat_map(|(folder, files)| Modules::new(folder, files).circles())
        .collect();
    let within = |circle: &[&str], known: &[&str]| circle.iter().all(|file| known.contains(file));
    let fresh = found
        .iter()
        .filter(|circle| !known.iter().any(|known| within(circle, known)))
        .map(|circle| {
            let place = circle.first().copied().unwrap_or_default();
            let message = format!("these files import each other: {}", circle.join(", "));
            Problem::new(place, message)
        });
    let gone = known
        .iter()
        .filter(|circle| !found.iter().any(|found| within(found, circle)))
        .map(|circle| {
            let place = circle.first().copied().unwrap_or_default();
            let message = "this circle is gone: remove its entry from xtask/src/tidy/circles.rs";
            Problem::new(place, message)
        });
    fresh.chain(gone).collect()
}

/// A module, by the names on the way to it.
type ModulePath = Vec<String>;

/// The files of one crate by module.
struct Modules<'a> {
    files: BTreeMap<ModulePath, (&'a str, Imports)>,
}

impl<'a> Modules<'a> {
    fn new(folder: &str, files: &[&'a SourceFile]) -> Self {
        let mut modules = BTreeMap::new();
        for file in files {
            let path = module_path(folder, &file.path);
            let module = (file.path.as_str(), imports::read(&file.text));
            // A crate with both a library and a binary: the library's modules are the ones that are imported.
            if file.path.ends_with("/src/main.rs") {
                modules.entry(path).or_insert(module);
            } else {
                modules.insert(path, module);
            }
        }
        Self { files: modules }
    }

    /// The groups of files that import each other, each sorted.
    fn circles(&self) -> Vec<Vec<&'a str>> {
        let arrows: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> = self
            .files
            .keys()
            .map(|module| (module, self.arrows_of(module)))
            .collect();
        let reach: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> = arrows
            .keys()
            .map(|module| (*module, reachable(&arrows, module)))
            .collect();
        let meet = |a: &ModulePath, b: &ModulePath| {
            let goes = |from: &ModulePath, to: &ModulePath| {
                reach.get(from).is_some_and(|reached| reached.contains(to))
            };
            goes(a, b) && goes(b, a)
        };
        let mut circles = Vec::new();
        let mut done = BTreeSet::new();
        for module in self.files.keys() {
            let members: Vec<_> = self
                .files
                .iter()
                .filter(|(path, _)| meet(module, path))
                .collect();
            if members.len() > 1 && done.insert(members.first().map(|(path, _)| *path)) {
                let mut paths: Vec<&str> = members.iter().map(|(_, (path, _))| *path).collect();
                paths.sort_unstable();
                circles.push(paths);
            }
        }
        circles
    }

    /// The modules whose files this one imports from.
    fn arrows_of(&self, module: &ModulePath) -> BTreeSet<&ModulePath> {
        let Some((_, imports)) = self.files.get(module) else {
            return BTreeSet::new();
        };
        let uses = imports.uses.iter().map(|import| &import.path);
        uses.chain(&imports.paths)
            .filter_map(|path| self.resolve(module, path, HOPS_MAX))
            .filter(|target| !module.starts_with(target))
            .collect()
    }

    /// The module whose file defines what a path names, seen from a module; `None` if it is in another crate.
    fn resolve(&self, from: &[String], path: &[String], hops: usize) -> Option<&ModulePath> {
        let (mut module, mut rest) = self.start(from, path, hops)?;
        while let [name, after @ ..] = rest {
            if let Some(child) = self.child(module, name) {
                module = child;
                rest = after;
                continue;
            }
            let (_, imports) = self.files.get(module)?;
            if imports.items.contains(name) {
                break;
            }
            let hops = hops.checked_sub(1)?;
            if let Some(import) = imports.uses.iter().find(|import| import.name == *name) {
                return self.resolve(module, &joined(import, after), hops);
            }
            let mut globs = imports.uses.iter().filter(|import| import.name == "*");
            return globs
                .find_map(|glob| self.resolve(module, &joined(glob, rest), hops))
                .or(Some(module));
        }
        Some(module)
    }

    /// The module a path starts from, and the rest of the path.
    fn start<'s, 'p>(
        &'s self,
        from: &[String],
        path: &'p [String],
        hops: usize,
    ) -> Option<(&'s ModulePath, &'p [String])> {
        let mut module = from.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                module.clear();
                rest = rest.get(1..)?;
            }
            "self" => rest = rest.get(1..)?,
            "super" => {
                while let [name, after @ ..] = rest
                    && name == "super"
                {
                    module.pop()?;
                    rest = after;
                }
            }
            name => {
                if self.child(from, name).is_none() {
                    let target = self.imported(from, name, hops)?;
                    return Some((target, path.get(1..)?));
                }
            }
        }
        let (module, _) = self.files.get_key_value(&module)?;
        Some((module, rest))
    }

    /// The module of this name inside another one.
    fn child(&self, module: &[String], name: &str) -> Option<&ModulePath> {
        let child: ModulePath = module
            .iter()
            .map(String::as_str)
            .chain([name])
            .map(str::to_owned)
            .collect();
        self.files.get_key_value(&child).map(|(child, _)| child)
    }

    /// The module or item that an import of a file brings into scope under a name.
    fn imported(&self, from: &[String], name: &str, hops: usize) -> Option<&ModulePath> {
        let (_, imports) = self.files.get(from)?;
        let hops = hops.checked_sub(1)?;
        // An import of a name from a path that begins with it is another crate's.
        let named = imports.uses.iter().find(|import| {
            import.name == name && import.path.first().is_some_and(|first| first != name)
        });
        if let Some(import) = named {
            return self.resolve(from, &import.path, hops);
        }
        let mut globs = imports.uses.iter().filter(|import| import.name == "*");
        globs.find_map(|glob| self.child(self.resolve(from, &glob.path, hops)?, name))
    }
}

fn joined(import: &Import, rest: &[String]) -> Vec<String> {
    import.path.iter().chain(rest).cloned().collect()
}

fn reachable<'m>(
    arrows: &BTreeMap<&'m ModulePath, BTreeSet<&'m ModulePath>>,
    from: &ModulePath,
) -> BTreeSet<&'m ModulePath> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&ModulePath> = arrows.get(from).into_iter().flatten().copied().collect();
    while let Some(module) = open.pop() {
        if reached.insert(module) {
            open.extend(arrows.get(module).into_iter().flatten());
        }
    }
    reached
}

/// The module of a file: `a::b` for `src/a/b.rs` and `src/a/b/mod.rs`.
fn module_path(folder: &str, path: &str) -> ModulePath {
    let path = path.strip_prefix(folder).unwrap_or(path);
    let path = path.trim_start_matches("/src/").trim_end_matches(".rs");
    let mut names: ModulePath = path.split('/').map(str::to_owned).collect();
    let last = names.last().map(String::as_str);
    if matches!(last, Some("mod"))
        || matches!(names.as_slice(), [name] if name == "lib" || name == "main")
    {
        names.pop();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(entries: &[(&str, &str)], known: &[&[&str]]) -> Vec<String> {
        let files: Vec<SourceFile> = entries
            .iter()
            .map(|(path, text)| SourceFile {
                path: format!("c/src/{path}"),
                text: (*text).to_owned(),
            })
            .collect();
        let reached = files
            .iter()
            .map(|file| (file.path.clone(), Use::Product))
            .collect();
        let problems = check_with(&files, &reached, known).into_iter();
        problems.map(|problem| problem.message).collect()
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        let users = [
            "use crate::a::A;",
            "use super::a;",
            "use super::a::{self, A};",
            "fn f(a: crate::a::A) {}",
            "use crate::A;",
            "use super::*;\nfn f(a: a::A) {}",
        ];
        for user in users {
            let found = circles(
                &[
                    ("lib.rs", "mod a;\nmod b;\npub use a::A;"),
                    ("a.rs", "use crate::b::B;\nstruct A;"),
                    ("b.rs", &format!("{user}\nstruct B;")),
                ],
                &[],
            );
            let expected = "these files import each other: c/src/a.rs, c/src/b.rs";
            assert_eq!(found, [expected], "{user}");
        }
    }

    #[test]
    fn what_is_no_circle_passes() {
        let found = circles(
            &[
                ("lib.rs", "mod a;\nmod b;\nuse a::A;\nstruct Own;"),
                ("a/mod.rs", "mod child;\nuse child::C;\nstruct A;"),
                ("a/child.rs", "use super::A;\nuse crate::Own;\nstruct C;"),
                (
                    "b.rs",
                    "use crate::a::A;\nuse other::a;\n#[cfg(test)]\nmod tests { use a::b; }",
                ),
            ],
            &[],
        );
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_circle_through_a_folder_is_found() {
        let found = circles(
            &[
                ("lib.rs", "mod a;\nmod b;"),
                ("a/mod.rs", "mod child;\nfn a() { child::c() }\nstruct A;"),
                ("a/child.rs", "use crate::b::B;\nfn c() {}"),
                ("b.rs", "use crate::a::A;\nstruct B;"),
            ],
            &[],
        );
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn known_circles_pass_until_they_are_gone() {
        let circle = [
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::a::A;\nstruct B;"),
        ];
        let lib = ("lib.rs", "mod a;\nmod b;");
        let known: &[&[&str]] = &[&["c/src/a.rs", "c/src/b.rs", "c/src/shrunk.rs"]];
        assert_eq!(
            circles(&[lib, circle[0], circle[1]], known),
            Vec::<String>::new()
        );
        let found = circles(&[lib, circle[0]], known);
        assert!(found[0].contains("is gone"), "{found:?}");
    }
}
