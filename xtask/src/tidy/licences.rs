//! Checks that the licence of every dependency fits the Apache-2.0 licence of Duetime.

use super::Problem;
use super::metadata::Metadata;

/// Licences that ask for no more than a notice, so that the whole may be Apache-2.0.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Finds dependencies whose licence is missing, unreadable or not on the list.
pub(crate) fn check(metadata: &Metadata) -> Vec<Problem> {
    metadata
        .foreign()
        .filter_map(|package| {
            let place = format!("{} {}", package.name, package.version);
            let Some(expression) = &package.license else {
                return Some(Problem::new(&place, "this dependency names no licence"));
            };
            match fits(expression) {
                Some(true) => None,
                Some(false) => Some(Problem::new(
                    &place,
                    format!("the licence \"{expression}\" is not on the list of xtask/src/tidy/licences.rs"),
                )),
                None => Some(Problem::new(
                    &place,
                    format!("the licence \"{expression}\" is no licence expression"),
                )),
            }
        })
        .collect()
}

/// Whether a licence expression can be met by allowed licences alone; `None` if it cannot be read.
fn fits(expression: &str) -> Option<bool> {
    // Old manifests write `MIT/Apache-2.0` and mean OR.
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    let result = any_of(&mut words)?;
    words.is_empty().then_some(result)
}

/// `a OR b OR ...`
fn any_of(words: &mut &[&str]) -> Option<bool> {
    let mut result = all_of(words)?;
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        let other = all_of(words)?;
        result |= other;
    }
    Some(result)
}

/// `a AND b AND ...`, which binds tighter than OR.
fn all_of(words: &mut &[&str]) -> Option<bool> {
    let mut result = one(words)?;
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        let other = one(words)?;
        result &= other;
    }
    Some(result)
}

/// A licence, one with an exception, or an expression in parentheses.
fn one(words: &mut &[&str]) -> Option<bool> {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let result = any_of(words)?;
            let [")", rest @ ..] = *words else {
                return None;
            };
            *words = rest;
            Some(result)
        }
        ["AND" | "OR" | "WITH" | ")", ..] | [] => None,
        [name, "WITH", exception, rest @ ..] => {
            *words = rest;
            Some(ALLOWED.contains(&format!("{name} WITH {exception}").as_str()))
        }
        [name, rest @ ..] => {
            *words = rest;
            Some(ALLOWED.contains(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Package;
    use super::*;

    #[test]
    fn expressions_are_read() {
        for (expression, expected) in [
            ("MIT", Some(true)),
            ("GPL-3.0", Some(false)),
            ("MIT OR GPL-3.0", Some(true)),
            ("GPL-3.0 OR MIT", Some(true)),
            ("MIT AND GPL-3.0", Some(false)),
            ("MIT/Apache-2.0", Some(true)),
            ("GPL-2.0 OR MIT AND ISC", Some(true)),
            ("(MIT OR GPL-2.0) AND Unicode-3.0", Some(true)),
            ("(MIT OR Apache-2.0) AND MPL-2.0", Some(false)),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", Some(true)),
            ("GPL-2.0 WITH Classpath-exception-2.0", Some(false)),
            ("", None),
            ("MIT OR", None),
            ("MIT Apache-2.0", None),
            ("(MIT", None),
        ] {
            assert_eq!(fits(expression), expected, "{expression}");
        }
    }

    #[test]
    fn bad_and_missing_licences_fail() {
        let package = |name: &str, license: Option<&str>| Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            ..Package::default()
        };
        let metadata = Metadata {
            packages: vec![
                package("ours", None),
                package("good", Some("MIT")),
                package("none", None),
                package("copyleft", Some("AGPL-3.0")),
            ],
            workspace_members: vec!["ours".to_owned()],
        };
        let places: Vec<String> = check(&metadata)
            .into_iter()
            .map(|problem| problem.place)
            .collect();
        assert_eq!(places, ["none 1.0.0", "copyleft 1.0.0"]);
    }
}
