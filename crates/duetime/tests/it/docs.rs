//! Runs every example of docs/command-line.md, in order, and compares its output with the page.

use crate::rig::Rig;

const PAGE: &str = include_str!("../../../../docs/command-line.md");

/// The text without what differs between runs: times, durations, ids and handles become `#`, blanks become one.
fn shape(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        let is_made = digits >= 8 && !word.starts_with('{');
        words.push(if is_made {
            "#".to_owned()
        } else {
            word.to_owned()
        });
    }
    cut_distances(&words.join(" "))
}

/// `(now)`, `(in 29 min)` and `(3 s ago)` depend on when the test runs.
fn cut_distances(text: &str) -> String {
    let mut left = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('(') {
        left.push_str(before);
        match after.split_once(')') {
            Some((inside, after)) if inside == "now" || inside.contains(char::is_numeric) => {
                left.push_str("()");
                rest = after;
            }
            _ => {
                left.push('(');
                rest = after;
            }
        }
    }
    left.push_str(rest);
    left
}

/// The fenced blocks: the kind after the fence, and the lines within.
fn blocks() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, Vec<&str>)> = None;
    for line in PAGE.lines() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(kind), None) => open = Some((kind, Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    blocks
}

/// An object without its instants, handle and receipt.
fn without_made(line: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(line) else {
        return line.to_owned();
    };
    for path in [
        "/receipt",
        "/message/handle",
        "/message/due_at",
        "/message/stored_at",
    ] {
        if let Some(made) = value.pointer_mut(path) {
            *made = "made".into();
        }
    }
    value.to_string()
}

#[test]
fn examples_of_the_page_do_what_it_says() {
    let rig = Rig::start();
    let blocks = blocks();
    let mut examples = 0;
    for pair in blocks.windows(2) {
        let [("sh", commands), ("", expected)] = pair else {
            continue;
        };
        let mut said = String::new();
        for command in commands {
            let words = command.strip_prefix("duetime ").unwrap();
            let done = rig.done(words);
            said.push_str(&done.out);
            said.push_str(&done.err);
            examples += 1;
        }
        let lines = |text: &str| -> Vec<String> {
            let lines = text.lines().map(without_made);
            lines.map(|line| shape(&line)).collect()
        };
        assert_eq!(lines(&said), lines(&expected.join("\n")), "{said}");
    }
    assert!(examples > 15, "{examples}");
}
