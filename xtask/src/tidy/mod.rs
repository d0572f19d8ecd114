//! Provides `cargo xtask tidy`: the rules of this repository that neither the compiler nor a lint checks.
//!
//! Each check is a function from its input to a list of problems, so that its tests need neither files nor cargo.

mod arrows;
mod circles;
mod folders;
mod imports;
mod length;
mod lexer;
mod licences;
mod metadata;
mod packages;
mod places;
mod reach;
mod text;
mod tree;
mod words;

use std::path::Path;

use anyhow::Result;

/// Programs that are compiled on their own: the one for the official Rust client, which does not fit into this workspace,
/// and the one for ours.
const OUTSIDE: &[&str] = &["interop/client/src/main.rs", "interop/rust/src/main.rs"];

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// The file, relative to the workspace, or the package.
    place: String,
    /// The line, counted from 1, if the problem is in one.
    line: Option<usize>,
    /// What is wrong, and what to do.
    message: String,
}

impl Problem {
    fn new(place: &str, message: impl Into<String>) -> Self {
        Self {
            place: place.to_owned(),
            line: None,
            message: message.into(),
        }
    }

    fn at_line(place: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            place: place.to_owned(),
            line: Some(line),
            message: message.into(),
        }
    }
}

/// Runs every check on the workspace at `root`, prints the problems, and returns whether there are none.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let metadata = metadata::read(root)?;
    let files = tree::read(root)?;
    let mut roots = metadata.roots(root);
    roots.extend(OUTSIDE.iter().map(|path| metadata::Root {
        path: (*path).to_owned(),
        is_test: true,
    }));
    let reached = reach::reached(&files, &roots);

    let mut problems = Vec::new();
    problems.extend(arrows::check(&metadata));
    problems.extend(packages::check(&metadata, root, &files));
    problems.extend(places::check(&metadata, &files));
    problems.extend(licences::check(&metadata));
    problems.extend(reach::check(&files, &reached));
    problems.extend(circles::check(&files, &reached));
    problems.extend(folders::check(&files));
    problems.extend(length::check(&files, &reached));
    problems.extend(text::check(&files));
    problems.extend(words::check(&files));
    problems.sort();

    for Problem {
        place,
        line,
        message,
    } in &problems
    {
        match line {
            Some(line) => println!("{place}:{line}: {message}"),
            None => println!("{place}: {message}"),
        }
    }
    let members = metadata.members().count();
    let others = metadata.packages.len() - members;
    println!(
        "tidy: {} problems in {} files, {members} crates and {others} dependencies",
        problems.len(),
        files.len()
    );
    Ok(problems.is_empty())
}
