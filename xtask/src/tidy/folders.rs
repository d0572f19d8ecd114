//! Checks how many Rust files a folder holds: more than a reader surveys at a glance want folders of their own.

use std::collections::BTreeMap;

use super::Problem;
use super::tree::SourceFile;

/// Files a folder may hold.
const FILES_MAX: usize = 25;

/// Folders that hold more, with their number of files; it may only fall.
const EXCEPTIONS: &[(&str, usize)] = &[];

/// Finds folders with too many files, and exceptions that are larger than needed.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Problem> {
    check_with(files, EXCEPTIONS)
}

fn check_with(files: &[SourceFile], exceptions: &[(&str, usize)]) -> Vec<Problem> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        *counts.entry(folder).or_default() += 1;
    }
    let exception = |folder: &str| exceptions.iter().find(|(name, _)| *name == folder);
    let too_many = counts.iter().filter_map(|(folder, count)| {
        let allowed = exception(folder).map_or(FILES_MAX, |(_, count)| *count);
        (*count > allowed).then(|| {
            let message = format!("{count} files, {allowed} are allowed: group them in folders");
            Problem::new(folder, message)
        })
    });
    let needless = exceptions.iter().filter_map(|(folder, allowed)| {
        let count = counts.get(folder).copied().unwrap_or(0);
        (count < *allowed).then(|| {
            let message = format!(
                "{count} files: lower its exception of {allowed} in xtask/src/tidy/folders.rs"
            );
            Problem::new(folder, message)
        })
    });
    too_many.chain(needless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &str, count: usize) -> Vec<SourceFile> {
        let file = |index: usize| SourceFile {
            path: format!("{folder}/f{index}.rs"),
            text: String::new(),
        };
        (0..count).map(file).collect()
    }

    #[test]
    fn the_limit_counts_the_files_of_one_folder() {
        let mut all = files("a", FILES_MAX);
        all.extend(files("a/b", FILES_MAX));
        assert_eq!(check_with(&all, &[]), []);
        all.extend(files("c", FILES_MAX + 1));
        let problems = check_with(&all, &[]);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].message.starts_with("26 files"), "{problems:?}");
    }

    #[test]
    fn exceptions_may_only_fall() {
        let all = files("a", 30);
        assert_eq!(check_with(&all, &[("a", 30)]), []);
        assert_eq!(check_with(&all, &[("a", 29)]).len(), 1);
        assert_eq!(check_with(&all, &[("a", 31)]).len(), 1);
        assert_eq!(check_with(&all, &[("a", 30), ("gone", 26)]).len(), 1);
    }
}
