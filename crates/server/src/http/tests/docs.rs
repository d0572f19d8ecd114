//! Runs every example of docs/broker-http.md, in order, and compares the answers with the page.
//!
//! A `sh` block is one curl command; a `json` block directly behind it is the answer. Handles, receipts and ids made
//! by the broker stand on the page under made-up names. `<!-- later: 10s -->` moves the clock. With `UPDATE_DOCS=1` the
//! answers and the list of problems are written into the page.

use std::collections::BTreeMap;

use http::Method;
use serde_json::Value;

use super::{Api, Call};
use crate::http::problem::{Kind as _, ProblemKind};
use edge::instant::Span;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/broker-http.md");
const BASE_URL: &str = "http://127.0.0.1:8082";

/// Members whose texts are made by the broker, with what they are called on the page.
const MADE: [(&str, &str); 4] = [
    ("handle", "HANDLE"),
    ("receipt", "RECEIPT"),
    ("message_id", "MESSAGE"),
    ("next_cursor", "CURSOR"),
];

/// Which name of the page stands for which real text.
#[derive(Default)]
struct Names {
    to_page: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Names {
    /// Puts names in place of what the broker made.
    fn hide(&mut self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide(item)),
            Value::Object(members) => {
                for (key, value) in members {
                    let made = MADE.iter().find(|(member, _)| member == key);
                    match (made, value.as_str()) {
                        // An id that a caller chose is short.
                        (Some((_, name)), Some(text)) if text.len() > 20 => {
                            *value = self.name_of(name, text).into();
                        }
                        _ => self.hide(value),
                    }
                }
            }
            _ => {}
        }
    }

    fn name_of(&mut self, name: &'static str, text: &str) -> String {
        if let Some(known) = self.to_page.get(text) {
            return known.clone();
        }
        let count = self.counts.entry(name).or_default();
        *count += 1;
        let page = format!("{name}-{count}");
        self.to_page.insert(text.to_owned(), page.clone());
        page
    }

    /// Puts what the broker made in place of the names.
    fn show(&self, command: &str) -> String {
        let mut names: Vec<_> = self.to_page.iter().collect();
        // HANDLE-10 before HANDLE-1.
        names.sort_by_key(|(_, page)| std::cmp::Reverse(page.len()));
        names
            .into_iter()
            .fold(command.to_owned(), |command, (real, page)| {
                command.replace(page, real)
            })
    }
}

/// Splits a command as a shell does: blanks, single quotes, a backslash at the end of a line.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in command.replace("\\\n", " ").chars() {
        match letter {
            '\'' => quoted = !quoted,
            blank if blank.is_whitespace() && !quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn call_of(command: &str) -> Call {
    let mut words = words(command).into_iter();
    assert_eq!(words.next().as_deref(), Some("curl"), "{command}");
    let (mut method, mut path, mut body) = (None, None, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-X" => method = words.next(),
            "--json" => body = words.next(),
            url => path = Some(url.strip_prefix(BASE_URL).expect(command).to_owned()),
        }
    }
    let usual = if body.is_some() { "POST" } else { "GET" };
    let method: Method = method.as_deref().unwrap_or(usual).parse().unwrap();
    let call = Call::new(method, &path.unwrap()).header("host", "127.0.0.1:8082");
    match body {
        Some(body) => call.header("content-type", "application/json").body(body),
        None => call,
    }
}

/// The page as it should be.
async fn written(page: &str) -> String {
    let api = Api::start();
    let mut names = Names::default();
    let mut out = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if let Some(rest) = line.strip_prefix("<!-- later: ") {
            let span: Span = rest.trim_end_matches(" -->").parse().unwrap();
            api.clock.advance(span.ms);
        }
        if line == "<!-- problems -->" {
            let old = lines.by_ref().find(|line| *line == "<!-- /problems -->");
            out.push_str(&problems());
            out.push_str(old.unwrap());
            out.push('\n');
        }
        if line != "```sh" {
            continue;
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let command = block.join("\n");
        out.extend([&command, "\n```\n"]);
        let reply = api.call(call_of(&names.show(&command))).await;
        if lines.next_if_eq(&"```json").is_none() {
            assert!(reply.status.is_success(), "{command}: {}", reply.text);
            continue;
        }
        lines.by_ref().find(|line| *line == "```").unwrap();
        let mut answer = reply.json();
        names.hide(&mut answer);
        let answer = serde_json::to_string_pretty(&answer).unwrap();
        out.extend(["```json\n", &answer, "\n```\n"]);
    }
    out
}

fn problems() -> String {
    let mut text = String::from("| Type | Status | What it means |\n|---|---|---|\n");
    for kind in ProblemKind::ALL {
        let (code, status) = (kind.code(), kind.status().as_u16());
        let (title, help) = (kind.title(), kind.help());
        let row = format!("| `/problems/{code}` | {status} | **{title}.** {help} |\n");
        text.push_str(&row);
    }
    text
}

#[tokio::test]
async fn the_examples_of_the_page_are_true() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let expected = written(&page).await;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "docs/broker-http.md is not true any more; run the tests of `server` with UPDATE_DOCS=1. It should be:\n{expected}"
    );
}
