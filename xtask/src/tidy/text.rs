//! Checks the text of the files line by line: module docs, plain ASCII, unfinished work, skipped tests.

use super::Problem;
use super::tree::SourceFile;

/// Words that mark unfinished work; split here so that this file does not hold them.
const MARKERS: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
];

/// Sources that must be ASCII; documents and pages may be in any language.
const ASCII_EXTENSIONS: &[&str] = &["rs", "toml", "sql", "proto", "sh", ""];

/// Runs the checks on every file.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Problem> {
    files.iter().flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<Problem> {
    let mut problems = Vec::new();
    if file.is_rust() && !opens_with_docs(&file.text) {
        problems.push(Problem::at_line(
            &file.path,
            1,
            "the file must open with //! and a sentence that says what it defines or provides",
        ));
    }
    let must_be_ascii = ASCII_EXTENSIONS.contains(&file.extension());
    for (index, line) in file.text.lines().enumerate() {
        let mut fail =
            |message: String| problems.push(Problem::at_line(&file.path, index + 1, message));
        if let Some(letter) = line
            .chars()
            .find(|letter| must_be_ascii && !letter.is_ascii())
        {
            fail(format!(
                "sources are ASCII, this is {}: write an escape",
                letter.escape_unicode()
            ));
        }
        if let Some(marker) = MARKERS.iter().find(|marker| has_word(line, marker)) {
            fail(format!(
                "{marker} marks unfinished work: finish it or file an issue"
            ));
        }
        // In Rust rustfmt does this, which knows what is inside a string.
        if !file.is_rust() && line.ends_with([' ', '\t']) {
            fail("blanks at the end of the line".to_owned());
        }
        if file.is_rust() && skips_a_test(line) {
            fail("a skipped test proves nothing: repair it or delete it".to_owned());
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        problems.push(Problem::new(&file.path, "the last line has no end"));
    }
    problems
}

fn opens_with_docs(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    first
        .strip_prefix("//! ")
        .is_some_and(|sentence| !sentence.trim().is_empty())
}

/// Whether a word is in the line, and not only as a part of a longer word.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let is_letter = |letter: char| letter.is_alphanumeric() || letter == '_';
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        let after = line
            .get(start + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(is_letter) && !after.is_some_and(is_letter)
    })
}

/// Whether the line switches a test off, or an example of the documentation.
fn skips_a_test(line: &str) -> bool {
    let line = line.trim_start();
    let fence = line
        .strip_prefix("//!")
        .or_else(|| line.strip_prefix("///"))
        .and_then(|comment| comment.trim_start().strip_prefix("```"));
    line.starts_with("#[ignore")
        || fence.is_some_and(|tags| tags.split(',').any(|tag| tag.trim().starts_with("ignore")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check_file(&file)
            .into_iter()
            .map(|problem| problem.message)
            .collect()
    }

    fn fails_once(path: &str, text: &str, word: &str) {
        let messages = messages(path, text);
        assert_eq!(messages.len(), 1, "{path} {text:?} {messages:?}");
        assert!(messages[0].contains(word), "{messages:?}");
    }

    #[test]
    fn good_file_passes() {
        assert_eq!(
            messages("a.rs", "//! Defines a.\n\nfn a() {}\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            messages("README.zh-CN.md", "# \u{5230}\u{65f6}\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn missing_module_docs_fail() {
        fails_once("a.rs", "fn a() {}\n", "must open with //!");
        fails_once("a.rs", "//!\nfn a() {}\n", "must open with //!");
    }

    #[test]
    fn other_letters_than_ascii_fail_in_sources() {
        fails_once("a.rs", "//! Defines a \u{2192} b.\n", "\\u{2192}");
        fails_once("a.sql", "-- \u{e9}\n", "ASCII");
    }

    #[test]
    fn markers_fail_as_words_only() {
        for marker in MARKERS {
            fails_once("a.md", &format!("{marker}: later\n"), "unfinished");
            assert_eq!(
                messages("a.md", &format!("{marker}S\n")),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn skipped_tests_fail() {
        fails_once(
            "a.rs",
            "//! Defines a.\n#[test]\n#[ignore = \"slow\"]\nfn a() {}\n",
            "skipped",
        );
        fails_once(
            "a.rs",
            "//! Defines a.\n/// ```rust,ignore\n/// ```\nfn a() {}\n",
            "skipped",
        );
    }

    #[test]
    fn blanks_and_missing_line_ends_fail() {
        fails_once("a.md", "text \n", "blanks");
        fails_once("a.md", "text", "no end");
    }
}
