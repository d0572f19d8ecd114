//! Runs every example of docs/http-api.md against the app and compares the answers with the page.
//!
//! A `sh` block is one curl command, the `json` block after it the answer. Ids on the page are made up: the n-th
//! order is `ord_01ka` and n with zeros in front, and stands for the real one. With `UPDATE_DOCS=1` the answers are
//! written into the page. `<!-- later: 10 s, until /v1/orders/ord_... is closed -->` moves the clock, and with `soon:`
//! in place of the time it only waits.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use broker::clock::Clock as _;
use http::Method;

use super::rig::Pace;
use super::{Api, Call};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/http-api.md");
const BASE_URL: &str = "http://127.0.0.1:8080";
/// The number of letters of an id before its underscore.
const PREFIX: usize = 3;
/// The number of characters of an id after its underscore.
const SUFFIX: usize = 26;

/// Less than a second, for the page shows whole seconds.
const PACE: Pace = Pace {
    run_max_ms: 900,
    looks_per_ms: 16,
};

/// Maps the ids of the page to the real ones.
#[derive(Default)]
struct Ids {
    to_page: BTreeMap<String, String>,
    to_real: BTreeMap<String, String>,
    counts: BTreeMap<String, usize>,
}

impl Ids {
    /// The real answer with the page's ids.
    fn for_page(&mut self, text: &str) -> String {
        map_ids(text, |real| {
            if let Some(known) = self.to_page.get(real) {
                return known.clone();
            }
            let prefix = &real[..PREFIX];
            let count = self.counts.entry(prefix.to_owned()).or_default();
            *count += 1;
            let page = format!("{prefix}_01ka{count:0>22}");
            self.to_page.insert(real.to_owned(), page.clone());
            self.to_real.insert(page.clone(), real.to_owned());
            page
        })
    }

    /// A command of the page with the real ids.
    fn for_real(&self, text: &str) -> String {
        map_ids(text, |page| {
            let real = self.to_real.get(page);
            real.unwrap_or_else(|| panic!("{page} has not appeared yet"))
                .clone()
        })
    }
}

/// Replaces every id in the text.
fn map_ids(text: &str, mut map: impl FnMut(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(id) = id_at(rest) {
            out.push_str(&map(id));
            rest = &rest[id.len()..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    // An API key is as long as it is secret; the page shows that there is one.
    match out.split_once("\"dtk_") {
        Some((before, after)) => {
            let (_, after) = after.split_once('"').unwrap();
            format!("{before}\"dtk_...\"{after}")
        }
        None => out,
    }
}

fn id_at(text: &str) -> Option<&str> {
    let id = text.get(..PREFIX + 1 + SUFFIX)?;
    let (prefix, suffix) = id.split_once('_')?;
    let base32 = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z') && !b"ilou".contains(&byte);
    let fits = prefix.len() == PREFIX
        && prefix.bytes().all(|byte| byte.is_ascii_lowercase())
        && suffix.bytes().all(base32);
    fits.then_some(id)
}

/// Splits a command into arguments as a shell does: blanks, quotes, a backslash at the end of a line.
fn arguments_of(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in command.replace("\\\n", " ").chars() {
        let word = words.last_mut().unwrap();
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, _) if letter.is_whitespace() => words.push(String::new()),
            _ => word.push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Reads a curl command.
fn call_of(command: &str) -> Call {
    let mut words = arguments_of(command).into_iter();
    assert_eq!(words.next().as_deref(), Some("curl"), "{command}");
    let (mut method, mut path, mut body) = (None, None, None);
    let mut headers = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-X" => method = Some(words.next().unwrap()),
            "-H" => headers.push(words.next().unwrap()),
            "--json" => body = Some(words.next().unwrap()),
            url => path = Some(url.strip_prefix(BASE_URL).expect(command).to_owned()),
        }
    }
    let usual = if body.is_some() { "POST" } else { "GET" };
    let method: Method = method.as_deref().unwrap_or(usual).parse().unwrap();
    let mut call = Call::new(method, &path.unwrap()).header("host", "127.0.0.1:8080");
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        let name: &'static str = match name {
            "Idempotency-Key" => "idempotency-key",
            other => panic!("the test does not know the header {other}"),
        };
        call = call.header(name, value);
    }
    match body {
        Some(body) => call.header("content-type", "application/json").body(body),
        None => call,
    }
}

/// Formats JSON over several lines, keeping the order of its members.
fn pretty(json: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    let (mut in_text, mut escaped) = (false, false);
    let line = |out: &mut String, depth: usize| {
        let _ = write!(out, "\n{}", "  ".repeat(depth));
    };
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        let plain = !in_text;
        if in_text || letter == '"' {
            in_text = if letter == '"' {
                in_text && escaped || plain
            } else {
                in_text
            };
            escaped = in_text && letter == '\\' && !escaped;
            out.push(letter);
            continue;
        }
        match letter {
            '{' | '[' if letters.peek().is_some_and(|next| "}]".contains(*next)) => {
                out.push(letter);
            }
            '{' | '[' => {
                depth += 1;
                out.push(letter);
                line(&mut out, depth);
            }
            '}' | ']' if out.ends_with(['{', '[']) => out.push(letter),
            '}' | ']' => {
                depth -= 1;
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(letter),
        }
    }
    out
}

/// Instants without their milliseconds, which depend on how long the platform's own work takes.
fn in_whole_seconds(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split("Z\"").peekable();
    while let Some(part) = parts.next() {
        match part.rsplit_once('.') {
            Some((before, millis)) if parts.peek().is_some() && millis.len() == 3 => {
                let _ = write!(out, "{before}.000Z\"");
            }
            _ if parts.peek().is_some() => {
                let _ = write!(out, "{part}Z\"");
            }
            _ => out.push_str(part),
        }
    }
    out
}

/// Moves the clock if the line says so, to a whole second, and waits until the platform has done what it names.
async fn wait(api: &Api, ids: &Ids, line: &str) {
    let line = line.trim_end_matches(" -->");
    let awaited = if let Some(order) = line.strip_prefix("<!-- later: ") {
        let (seconds, awaited) = order.split_once(" s, until ").expect(order);
        let past_ms = api.clock.now_ms() % 1_000;
        let seconds: u64 = seconds.parse().unwrap();
        api.clock.advance(seconds * 1_000 - past_ms);
        awaited
    } else if let Some(awaited) = line.strip_prefix("<!-- soon: ") {
        awaited
    } else {
        return;
    };
    let (path, state) = awaited.split_once(" is ").expect(awaited);
    api.until_at(PACE, &ids.for_real(path), state).await;
}

/// Returns the page with the answers of the app.
async fn rewritten(api: &Api, page: &str) -> (String, usize) {
    let mut out = String::new();
    let mut ids = Ids::default();
    let mut examples = 0;
    let mut rest = page;
    while let Some((line, after)) = rest.split_once('\n') {
        out.push_str(line);
        out.push('\n');
        rest = after;
        wait(api, &ids, line).await;
        if line != "```sh" {
            continue;
        }
        let (command, after) = rest.split_once("\n```\n").unwrap();
        let reply = api.call(call_of(&ids.for_real(command))).await;
        let _ = writeln!(out, "{command}\n```");
        rest = after;
        examples += 1;
        // Answers that the page does not show contain ids too.
        let answer = in_whole_seconds(&ids.for_page(&pretty(&reply.text)));
        if let Some(after) = rest.strip_prefix("```json\n") {
            let (_, after) = after.split_once("```\n").unwrap();
            let _ = writeln!(out, "```json\n{answer}\n```");
            rest = after;
        } else {
            assert!(reply.status.is_success(), "{command}\n{}", reply.text);
        }
    }
    out.push_str(rest);
    (out, examples)
}

#[tokio::test]
async fn every_example_of_the_page_is_true() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let api = Api::start().await;
    let (rewritten, examples) = rewritten(&api, &page).await;
    api.stop().await;
    assert!(examples > 10, "{examples} examples");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, rewritten).unwrap();
        return;
    }
    for (number, (on_page, answered)) in page.lines().zip(rewritten.lines()).enumerate() {
        let line = number + 1;
        assert_eq!(
            on_page, answered,
            "docs/http-api.md line {line}; UPDATE_DOCS=1 writes the answers"
        );
    }
    assert_eq!(page.lines().count(), rewritten.lines().count());
}

#[test]
fn json_is_formatted_and_ids_are_mapped() {
    let json = r#"{"a":[],"b":[1,{"c":"x:,{\"}"}],"d":{}}"#;
    let laid_out = "{\n  \"a\": [],\n  \"b\": [\n    1,\n    {\n      \"c\": \"x:,{\\\"}\"\n    }\n  ],\n  \"d\": {}\n}";
    assert_eq!(pretty(json), laid_out);
    let mut ids = Ids::default();
    let real = "/v1/orders/ord_01h455vb4pex5vsknk084sn02q/cancel";
    let page = ids.for_page(real);
    assert_eq!(page, "/v1/orders/ord_01ka0000000000000000000001/cancel");
    assert_eq!(ids.for_real(&page), real);
    let instants = r#"{"a":"2026-11-24T09:00:00.007Z","b":"ends with Z","c":1.234}"#;
    let seconds = r#"{"a":"2026-11-24T09:00:00.000Z","b":"ends with Z","c":1.234}"#;
    assert_eq!(in_whole_seconds(instants), seconds);
}
