//! Checks the words of comments, messages and documents: plain technical English, without riddles and archaic turns.

use super::Problem;
use super::lexer::{Kind, pieces};
use super::text::has_word;
use super::tree::SourceFile;

/// Words that are not used, and what to write for them.
///
/// A word stands for itself only, in any case; an entry of several words for that turn.
const BANNED: &[(&str, &str)] = &[
    ("told", "say what is reported, returned or configured"),
    ("tell", "report, return, say"),
    ("tells", "reports, returns, says"),
    ("nobody", "no client, no caller, never"),
    ("somebody", "a client, another process"),
    ("anybody", "any client, everyone"),
    ("whoever", "the client that, the user who"),
    ("befall", "happen to, hit"),
    ("befalls", "happens to, hits"),
    ("vouch", "sign, guarantee"),
    ("vouches", "signs, guarantees"),
    ("of before", "earlier"),
    ("any more", "no longer"),
    ("thereof", "of it"),
    ("lies", "is"),
    ("stands", "is"),
    ("doors", "endpoints, ports"),
    ("till", "until"),
    ("deeds", "actions"),
    ("errand", "command"),
    ("errands", "commands"),
];

/// Phrases in which a banned word is the right one.
const PHRASES: &[&str] = &["stands for", "stands in for"];

/// Documents that are checked, beside the sources.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
];

/// The file of the list itself.
const OWN: &str = "xtask/src/tidy/words.rs";

/// Finds banned words.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Problem> {
    let others = files.iter().filter(|file| file.path != OWN);
    others.flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<Problem> {
    let is_document = DOCUMENTS.contains(&file.path.as_str())
        || (file.path.starts_with("docs/") || file.path.starts_with("interop/"))
            && file.extension() == "md";
    if is_document {
        return check_text(file, 1, &file.text);
    }
    if !file.is_rust() {
        return Vec::new();
    }
    pieces(&file.text)
        .into_iter()
        .filter(|piece| piece.kind != Kind::Code)
        .flat_map(|piece| check_text(file, piece.line, piece.text))
        .collect()
}

fn check_text(file: &SourceFile, first: usize, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut line = line.to_lowercase();
        for phrase in PHRASES {
            line = line.replace(phrase, "");
        }
        for (word, instead) in BANNED.iter().filter(|(word, _)| has_word(&line, word)) {
            let message = format!("write plainly, without \"{word}\": {instead}");
            problems.push(Problem::at_line(&file.path, first + index, message));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn lines(path: &str, text: &str) -> Vec<Option<usize>> {
        let problems = check(&[file(path, text)]);
        problems.iter().map(|problem| problem.line).collect()
    }

    #[test]
    fn prose_is_checked_and_code_is_not() {
        let text =
            "//! Says whoever\nlet told = 1;\n/// a\n/// Nobody\nf(\"a\n till b\"); // thereof\n";
        assert_eq!(lines("a.rs", text), [Some(1), Some(4), Some(6), Some(6)]);
        assert_eq!(lines("docs/a.md", "fine\nTold, so"), [Some(2)]);
        assert_eq!(lines("crates/a.md", "told"), []);
        assert_eq!(lines("a.toml", "# told"), []);
    }

    #[test]
    fn longer_words_and_phrases_pass() {
        let text = "// untold, stills, tell_all, a term stands for another; believes\n";
        assert_eq!(lines("a.rs", text), []);
        assert_eq!(lines("a.rs", "// it stands\n"), [Some(1)]);
    }
}
