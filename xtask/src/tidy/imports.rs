//! Reads which paths a Rust file imports or names.

use super::lexer::{Kind, pieces};

/// What a file imports and names, without its tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Imports {
    pub(crate) uses: Vec<Import>,
    /// Paths of two segments or more that the code names.
    pub(crate) paths: Vec<Vec<String>>,
    /// Names of the items the file defines.
    pub(crate) items: Vec<String>,
}

/// One name that a `use` brings into scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// The name in scope; `*` for all names of the path.
    pub(crate) name: String,
}

/// Keywords after which the name of an item follows.
const ITEMS: &[&str] = &[
    "struct",
    "enum",
    "union",
    "fn",
    "trait",
    "type",
    "const",
    "static",
    "macro_rules",
];

/// Reads a file.
pub(crate) fn read(text: &str) -> Imports {
    let tokens = tokens(text);
    let mut imports = Imports::default();
    let mut rest = tokens.as_slice();
    while let [first, after @ ..] = rest {
        if let Some(after) = after_test_item(rest) {
            rest = after;
            continue;
        }
        match *first {
            "use" => {
                rest = read_tree(after, &[], &mut imports.uses);
                continue;
            }
            word if ITEMS.contains(&word) => {
                let name = after.iter().find(|token| **token != "!");
                imports.items.extend(name.map(|name| (*name).to_owned()));
            }
            _ => {}
        }
        let (path, after) = read_path(rest);
        if path.len() > 1 {
            imports.paths.push(path);
        }
        rest = after;
    }
    imports
}

/// Words, `::`, and single other characters.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let code = pieces(text).into_iter();
    for piece in code.filter(|piece| piece.kind == Kind::Code) {
        let mut rest = piece.text.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|letter: char| !is_word(letter));
            let length = match word.unwrap_or(rest.len()) {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                length => length,
            };
            let (token, after) = rest.split_at(length);
            tokens.push(token);
            rest = after.trim_start();
        }
    }
    tokens
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// What follows an item that only tests compile, if one starts here.
fn after_test_item<'a, 'b>(tokens: &'a [&'b str]) -> Option<&'a [&'b str]> {
    let ["#", "[", "cfg", "(", "test", ")", "]", rest @ ..] = tokens else {
        return None;
    };
    let mut depth = 0_usize;
    for (index, token) in rest.iter().enumerate() {
        match *token {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        let is_end = *token == ";" || *token == "}";
        if is_end && depth == 0 {
            return rest.get(index + 1..);
        }
    }
    Some(&[])
}

/// A path that starts here, if one does, and what follows it. At least one token is taken.
fn read_path<'a, 'b>(tokens: &'a [&'b str]) -> (Vec<String>, &'a [&'b str]) {
    let mut path = Vec::new();
    let mut rest = tokens;
    loop {
        match rest {
            [word, "::", after @ ..] if word.starts_with(is_word) => {
                path.push((*word).to_owned());
                rest = after;
            }
            [word, after @ ..] if word.starts_with(is_word) => {
                path.push((*word).to_owned());
                return (path, after);
            }
            // A path of another crate, or the generic arguments of one.
            [_, after @ ..] if path.is_empty() => return (Vec::new(), after),
            _ => return (path, rest),
        }
    }
}

/// Reads the tree of a `use` up to its end, and returns what follows.
fn read_tree<'a, 'b>(
    tokens: &'a [&'b str],
    prefix: &[String],
    uses: &mut Vec<Import>,
) -> &'a [&'b str] {
    let mut path = prefix.to_vec();
    let mut rest = tokens;
    let mut name = None;
    while let [first, after @ ..] = rest {
        rest = after;
        match *first {
            "{" => loop {
                rest = read_tree(rest, &path, uses);
                match rest {
                    [",", "}", after @ ..] | ["}", after @ ..] => {
                        rest = after;
                        path.clear();
                        break;
                    }
                    [",", after @ ..] => rest = after,
                    _ => return rest,
                }
            },
            "as" => {
                name = rest.first().map(|name| (*name).to_owned());
                rest = rest.get(1..).unwrap_or_default();
            }
            "," | "}" => {
                add(path, name, prefix, uses);
                return tokens
                    .get(tokens.len() - after.len() - 1..)
                    .unwrap_or_default();
            }
            ";" => {
                add(path, name, prefix, uses);
                return after;
            }
            "::" => {}
            word => path.push(word.to_owned()),
        }
    }
    rest
}

fn add(mut path: Vec<String>, name: Option<String>, prefix: &[String], uses: &mut Vec<Import>) {
    if path.len() <= prefix.len() {
        return;
    }
    if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
        path.pop();
    }
    let Some(last) = path.last().cloned() else {
        return;
    };
    if last == "*" {
        path.pop();
    }
    let name = name.unwrap_or(last);
    uses.push(Import { path, name });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(text: &str) -> Vec<String> {
        let imports = read(text);
        let shown = |import: &Import| format!("{} = {}", import.name, import.path.join("::"));
        imports.uses.iter().map(shown).collect()
    }

    #[test]
    fn trees_are_read() {
        let text = "use a;\npub(crate) use crate::b::{self, c::{D, E as F}, *,};\nuse super::g;";
        let expected = [
            "a = a",
            "b = crate::b",
            "D = crate::b::c::D",
            "F = crate::b::c::E",
            "* = crate::b",
            "g = super::g",
        ];
        assert_eq!(uses(text), expected);
    }

    #[test]
    fn paths_and_items_are_read() {
        let text = "fn f() -> x::Y { crate::z::g::<T>(\"no::path\") } // no::path\nstruct S;";
        let imports = read(text);
        let paths: Vec<String> = imports.paths.iter().map(|path| path.join("::")).collect();
        assert_eq!(paths, ["x::Y", "crate::z::g"]);
        assert_eq!(imports.items, ["f", "S"]);
    }

    #[test]
    fn tests_are_left_out() {
        let text = "use a::b;\n#[cfg(test)]\nuse c::d;\n#[cfg(test)]\nmod tests {\nuse e::f;\nfn g() {}\n}\n\
            #[cfg(test)]\nmod more;\nuse h::i;";
        assert_eq!(uses(text), ["b = a::b", "i = h::i"]);
    }
}
