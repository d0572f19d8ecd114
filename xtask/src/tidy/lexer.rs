//! Splits Rust source into code, comments and string literals.

/// What a piece of source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Code,
    /// A comment of any form, documentation included.
    Comment,
    /// A string, byte string or character literal.
    Literal,
}

/// A part of a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) kind: Kind,
    /// The line it starts on, counted from 1.
    pub(crate) line: usize,
    pub(crate) text: &'a str,
}

/// The pieces of a source file, in order; together they are the whole text.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while !rest.is_empty() {
        let (kind, length) = match special(rest, None) {
            Some(special) => special,
            None => (Kind::Code, code_length(rest)),
        };
        let (text, after) = rest.split_at(length);
        pieces.push(Piece { kind, line, text });
        line += text.matches('\n').count();
        rest = after;
    }
    pieces
}

/// The length of the code before the next comment or literal.
fn code_length(text: &str) -> usize {
    let mut previous = None;
    for (index, letter) in text.char_indices() {
        let rest = text.get(index..).unwrap_or_default();
        if index > 0 && special(rest, previous).is_some() {
            return index;
        }
        previous = Some(letter);
    }
    text.len()
}

/// The comment or literal that starts here, and its length.
fn special(text: &str, previous: Option<char>) -> Option<(Kind, usize)> {
    if text.starts_with("//") {
        return Some((Kind::Comment, text.find('\n').unwrap_or(text.len())));
    }
    if text.starts_with("/*") {
        return Some((Kind::Comment, block_comment(text)));
    }
    if text.starts_with('"') {
        return Some((Kind::Literal, quoted(text, '"')));
    }
    if text.starts_with('\'') {
        return character(text).map(|length| (Kind::Literal, length));
    }
    let is_word = previous.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    if is_word {
        return None;
    }
    raw_string(text).map(|length| (Kind::Literal, length))
}

/// Block comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut skip = false;
    for (index, _) in text.char_indices() {
        let rest = text.get(index..).unwrap_or_default();
        if std::mem::take(&mut skip) {
            continue;
        }
        if rest.starts_with("/*") {
            depth += 1;
            skip = true;
        } else if rest.starts_with("*/") {
            depth -= 1;
            skip = true;
            if depth == 0 {
                return index + 2;
            }
        }
    }
    text.len()
}

/// The length of a literal that starts here and ends with the same quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, letter) in text.char_indices().skip(1) {
        if std::mem::take(&mut escaped) {
            continue;
        }
        if letter == '\\' {
            escaped = true;
        } else if letter == quote {
            return index + letter.len_utf8();
        }
    }
    text.len()
}

/// The length of a character literal; `None` for a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut letters = text.chars().skip(1);
    let is_literal = match letters.next()? {
        '\\' => true,
        _ => letters.next() == Some('\''),
    };
    is_literal.then(|| quoted(text, '\''))
}

/// The length of a raw string, with or without a prefix for bytes.
fn raw_string(text: &str) -> Option<usize> {
    let start = text.trim_start_matches(['b', 'c']);
    let after = start.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after.get(hashes..)?.strip_prefix('"')?;
    let prefix = text.len() - body.len();
    if prefix > hashes + 3 {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(prefix + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        let pieces = pieces(text);
        pieces
            .iter()
            .map(|piece| (piece.kind, piece.text))
            .collect()
    }

    #[test]
    fn every_form_is_found() {
        let text = "let a = \"x \\\" // no\"; // yes\n/* a /* b */ c */ r#\"say \"hi\"\"# '\"' '\\'' &'a T br\"x\"";
        let special: Vec<_> = kinds(text)
            .into_iter()
            .filter(|(kind, _)| *kind != Kind::Code)
            .collect();
        let expected = [
            (Kind::Literal, "\"x \\\" // no\""),
            (Kind::Comment, "// yes"),
            (Kind::Comment, "/* a /* b */ c */"),
            (Kind::Literal, "r#\"say \"hi\"\"#"),
            (Kind::Literal, "'\"'"),
            (Kind::Literal, "'\\''"),
            (Kind::Literal, "br\"x\""),
        ];
        assert_eq!(special, expected);
        let all: String = kinds(text).iter().map(|(_, text)| *text).collect();
        assert_eq!(all, text);
    }

    #[test]
    fn pieces_know_their_line() {
        let found = pieces("a\n\"b\nc\" // d\n// e\n");
        let lines: Vec<_> = found
            .iter()
            .filter(|piece| piece.kind != Kind::Code)
            .map(|piece| (piece.line, piece.text))
            .collect();
        assert_eq!(lines, [(2, "\"b\nc\""), (3, "// d"), (4, "// e")]);
    }

    #[test]
    fn unfinished_text_ends_with_the_file() {
        for text in ["\"a", "/* a", "r#\"a\"", "'\\", "//"] {
            assert_eq!(kinds(text).len(), 1, "{text}");
        }
    }
}
