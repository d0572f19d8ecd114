//! Tests of `duetime topic`, `group`, `message`, `timer`, `dlq`, `transaction` and `completions`.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use broker::clock::{Clock as _, SystemClock};
use broker::{BrokerConfig, NewMessage};
use serde_json::{Value, json};

use crate::rig::{Rig, run_at};

/// The words of each line.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[test]
fn topics_are_created_shown_listed_and_deleted() {
    let rig = Rig::start();
    let said = rig.done("topic create orders --kind mixed --queues 2 --quota 4MiB");
    assert_eq!(
        (said.out.as_str(), said.err.as_str()),
        ("", "topic orders exists, kind MIXED\n")
    );
    rig.done("topic create other");
    rig.done("message send orders hello --in 1h");
    let list = rig.done("topic list").out;
    let rows = rows(&list);
    assert_eq!(
        rows[0],
        ["TOPIC", "KIND", "QUEUES", "WAITING", "ON", "DISK", "BYTES"]
    );
    assert_eq!(rows[1][..5], ["orders", "mixed", "2", "1", "1"]);
    assert_eq!(rows[2][..5], ["other", "delay", "1", "0", "0"]);
    let shown = rig.json("topic show orders");
    assert_eq!(
        (&shown[0]["name"], &shown[0]["quota_bytes"]),
        (&json!("orders"), &json!(4 << 20))
    );
    assert!(
        rig.done("topic show orders")
            .out
            .contains("quota    4 MiB\n")
    );
    let names: Vec<_> = rig
        .json("topic list")
        .iter()
        .map(|topic| topic["name"].clone())
        .collect();
    assert_eq!(names, ["orders", "other"]);
    let said = rig.done("topic list --limit 1");
    assert_eq!(said.err, "there are more than these 1; see --limit\n");
    rig.fails(
        "topic create other --queues 3",
        1,
        "exists already with other settings",
    );
    rig.fails(
        "topic delete orders",
        2,
        "this would delete topic orders with 1 message, 1 not yet due: say --yes",
    );
    let said = rig.done("topic delete orders --dry-run");
    assert!(
        said.err.starts_with("would delete topic orders"),
        "{said:?}"
    );
    assert_eq!(
        rig.done("topic delete orders --yes").err,
        "deleted topic orders\n"
    );
    rig.fails(
        "topic show orders",
        1,
        "topic \"orders\" does not exist; create it: duetime topic create orders",
    );
}

#[test]
fn the_future_is_drawn() {
    let rig = Rig::with_topic();
    for due in ["90m", "91m", "30h"] {
        rig.done(&format!("message send orders x --in {due}"));
    }
    let out = rig.done("topic future orders --steps 3").out;
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert!(
        lines[1].contains("(now)") && lines[1].ends_with('0'),
        "{out}"
    );
    assert!(
        lines[2].ends_with(&format!("  2  {}", "#".repeat(40))),
        "{out}"
    );
    assert!(
        lines[3].contains("and later") && lines[3].ends_with(&format!("  1  {}", "#".repeat(20))),
        "{out}"
    );
    let buckets = &rig.json("topic future orders --step 30m --steps 48")[0]["buckets"];
    assert_eq!(buckets.as_array().unwrap().len(), 48);
    rig.fails("topic future orders --step soon", 2, "write a duration as");
}

/// An instant some three days ahead, in the middle of a minute: as it is given, and the minute it is shown in. The
/// broker's clock and the wall clock may be a few ms apart, so the end of it may be.
fn in_three_days() -> (String, String) {
    let now_ms = SystemClock::start().now_ms();
    let minute = i64::try_from(now_ms / 60_000).unwrap() + 3 * 1_440;
    let seconds = minute * 60 + 30;
    let instant = jiff::Timestamp::from_second(seconds).unwrap();
    let shown = instant.strftime("%Y-%m-%d %H:%M:");
    (instant.to_string(), shown.to_string())
}

#[test]
fn messages_are_sent_found_moved_and_recalled() {
    let rig = Rig::with_topic();
    let sent = rig
        .done("message send orders hello --in 30m --id m-1 --tag t --key k-1 --property a=b")
        .out;
    assert!(
        sent.starts_with("m-1  due 2") && sent.contains(" +00:00 (in 30 min)"),
        "{sent}"
    );
    assert!(
        rig.done("message send orders hello --in 30m --id m-1 --tag t --key k-1 --property a=b")
            .out
            .ends_with("(stored before)\n")
    );
    rig.fails(
        "message send orders hello --in 30m --id m-1",
        1,
        "was used for another message",
    );
    let found = rig.json("message find orders k-1");
    assert_eq!(found[0]["properties"], json!({ "a": "b" }));
    assert_eq!(found[0]["body"], "hello");
    let list = rig.done("message list orders").out;
    assert!(
        list.lines()
            .nth(1)
            .unwrap()
            .ends_with("waiting  m-1      t    k-1   hello"),
        "{list}"
    );
    let (given, shown) = in_three_days();
    let moved = rig.done(&format!("message move orders m-1 --at {given}"));
    assert!(
        moved
            .err
            .starts_with(&format!("moved: message m-1 is due {shown}"))
            && moved.err.ends_with(" +00:00 (in 3 days)\n"),
        "{moved:?}"
    );
    rig.fails("message move orders m-1", 2, "say when");
    rig.fails(
        "message move orders m-1 --in 1h --at 2030-01-01T00:00:00Z",
        2,
        "cannot be used with",
    );
    assert_eq!(
        rig.json("message recall orders m-1"),
        [json!({ "outcome": "cancelled" })]
    );
    rig.fails(
        "message recall orders m-1",
        1,
        "unknown: topic \"orders\" has no message \"m-1\"",
    );
    let piped = rig.run_with("message send orders - --in 1h --key piped", "two\nlines");
    assert_eq!(piped.code, 0, "{piped:?}");
    assert_eq!(
        rig.json("message find orders piped")[0]["body"],
        "two\nlines"
    );
    rig.fails(
        "message find orders nothing",
        1,
        "no message with the id or key nothing",
    );
    rig.fails(
        "message send nowhere x",
        1,
        "topic \"nowhere\" does not exist",
    );
    rig.fails("message send orders x --in soon", 2, "write a duration as");
}

#[test]
fn messages_are_received_and_acknowledged() {
    let rig = Rig::with_topic();
    rig.done("message send orders one --in 1h --id m-1");
    let said = rig.done("message deliver orders m-1");
    assert!(
        said.err.starts_with("delivered: message m-1 is due "),
        "{said:?}"
    );
    let received = rig.json("message receive orders closer --wait 30s");
    assert_eq!(received[0]["message"]["body"], "one");
    let receipt = received[0]["receipt"].as_str().unwrap();
    assert_eq!(
        rig.done(&format!("message ack orders closer {receipt}"))
            .err,
        "acknowledged 1\n"
    );
    rig.fails(
        &format!("message ack orders other {receipt}"),
        1,
        "consumer group \"other\" does not exist",
    );
    rig.done("message send orders two");
    let said = rig.done("message receive orders closer --wait 30s --ack");
    assert!(
        said.out.lines().nth(1).unwrap().contains("  two  "),
        "{said:?}"
    );
    let nothing = rig.done("message receive orders closer");
    assert_eq!(
        (nothing.out.as_str(), nothing.err.as_str()),
        ("", "nothing found\n")
    );
    let pair = &rig.json("group show closer")[0]["on_topics"][0];
    assert_eq!((&pair["in_flight"], &pair["ready"]), (&json!(0), &json!(0)));
    rig.fails(
        "message recall orders m-1",
        1,
        "too late: the message was due at ",
    );
    let late = rig.run("message recall orders m-1 --json");
    assert_eq!(
        (late.code, late.out.as_str()),
        (1, "{\"outcome\":\"too_late\"}\n")
    );
}

#[test]
fn timers_are_set_moved_shown_and_cancelled() {
    let rig = Rig::with_topic();
    let set = rig.done("timer set orders order/42 30m close");
    assert!(
        set.out.starts_with("order/42  created, due 2") && set.out.ends_with("(in 30 min)\n"),
        "{set:?}"
    );
    let (given, shown) = in_three_days();
    let moved = rig.done(&format!("timer set orders order/42 {given}")).out;
    assert!(
        moved.starts_with(&format!("order/42  moved, due {shown}")),
        "{moved}"
    );
    let shown = rig.done("timer show orders order/42").out;
    assert!(
        shown.contains("state    waiting\n") && shown.contains("body     close\n"),
        "{shown}"
    );
    let said = rig.done("timer cancel orders order/42");
    assert_eq!(
        said.err,
        "cancelled: timer order/42 is never delivered to anyone\n"
    );
    rig.fails(
        "timer cancel orders order/42",
        1,
        "unknown: topic \"orders\" has no timer \"order/42\"",
    );
    let unknown = rig.run("timer cancel orders order/42 --json");
    assert_eq!(
        (unknown.code, unknown.out.as_str()),
        (1, "{\"outcome\":\"unknown\"}\n")
    );
    rig.done("timer set orders k 0s");
    rig.json("message receive orders closer --wait 30s");
    rig.fails("timer cancel orders k", 1, "too late: ");
    assert_eq!(rig.json("timer show orders k")[0]["state"], "due");
    rig.fails("timer set orders k someday", 2, "write an instant as");
    rig.fails("timer show orders nothing", 1, "has no timer");
}

#[test]
fn settings_are_changed_in_place() {
    let rig = Rig::with_topic();
    rig.done("group create closer --attempts 3 --backoff 1s,5s");
    assert_eq!(
        rig.done("group change closer --attempts 5 --backoff 2s")
            .err,
        "changed consumer group closer\n"
    );
    let shown = rig.json("group show closer");
    assert_eq!(
        (&shown[0]["attempts_max"], &shown[0]["backoff"]),
        (&json!(5), &json!(["2s"]))
    );
    rig.fails("group change closer", 2, "name a setting: --attempts");
    rig.done("topic create wide --quota 4MiB");
    rig.done("topic change wide --queues 2 --index false --quota none");
    let wide = rig.json("topic show wide");
    assert_eq!(
        (
            &wide[0]["queues"],
            &wide[0]["indexed"],
            &wide[0].get("quota_bytes")
        ),
        (&json!(2), &json!(false), &None)
    );
    rig.fails("topic change wide", 2, "name a setting: --queues");
    rig.done("topic create left");
    rig.done("message receive left closer");
    rig.fails(
        "group unsubscribe closer left",
        2,
        "this would let consumer group closer no longer read topic left: 0 ready, 0 to be delivered again: say --yes",
    );
    assert_eq!(
        rig.done("group unsubscribe closer left --yes").err,
        "consumer group closer no longer reads topic left\n"
    );
}

#[test]
fn groups_are_created_shown_reset_and_deleted() {
    let rig = Rig::with_topic();
    rig.done("group create closer --attempts 3 --backoff 1s,5s");
    let shown = rig.done("group show closer").out;
    assert!(
        shown.contains("attempts   3\nback-off   1s, 5s\n"),
        "{shown}"
    );
    rig.fails(
        "group create closer",
        1,
        "exists already with other settings",
    );
    rig.done("message send orders one");
    rig.done("message receive orders closer --wait 30s --ack");
    let list = rig.done("group list").out;
    assert!(
        list.contains("orders") && list.contains("(now)") || list.contains(" ago)"),
        "{list}"
    );
    let reset = "group reset closer orders --to 2020-01-01T00:00:00Z";
    rig.fails(
        reset,
        2,
        "this would move consumer group closer on topic orders to 2020-01-01 00:00:00.000 +00:00",
    );
    rig.done(&format!("{reset} --yes"));
    let again = rig.json("message receive orders closer --wait 30s");
    assert_eq!(again[0]["message"]["body"], "one");
    rig.fails(
        "group reset other orders --to 2020-01-01T00:00:00Z --yes",
        1,
        "consumer group \"other\" does not exist",
    );
    rig.fails(
        "group delete closer",
        2,
        "this would delete consumer group closer",
    );
    rig.done("group delete closer -y");
    rig.fails(
        "group show closer",
        1,
        "consumer group \"closer\" does not exist",
    );
    assert_eq!(rig.done("group clients").err, "nothing found\n");
}

#[test]
fn what_a_group_has_not_finished_is_said_before_it_is_lost() {
    let rig = Rig::with_topic();
    for after in ["0s", "0s", "20h"] {
        rig.done(&format!("message send orders x --in {after}"));
    }
    let received = rig.json("message receive orders closer --wait 30s --max 1");
    assert_eq!(received.len(), 1);
    let reset = "group reset closer orders --to 9000-01-01T00:00:00Z";
    let said = rig.done(&format!("{reset} --dry-run"));
    let expected = "dropped; 3 messages not finished, due before then, skipped; nothing was done";
    assert!(said.err.contains(expected), "{said:?}");
    let done = rig.json(&format!("{reset} --yes"));
    assert_eq!(done[0]["skipped"], 3);
    rig.done("group reset closer orders --to 2020-01-01T00:00:00Z --yes");
    let said = rig.done("group delete closer --dry-run");
    let expected = "(topics: orders); 2 messages not finished; nothing was done";
    assert!(said.err.contains(expected), "{said:?}");
    let said = rig.done("group unsubscribe closer orders --yes");
    let expected = "consumer group closer no longer reads topic orders; 2 messages not finished\n";
    assert_eq!(said.err, expected);
}

/// Makes a dead letter of a message whose tag is its body.
fn bury(rig: &Rig, body: &str) {
    rig.done(&format!("message send orders {body} --tag {body}"));
    // The group allows one delivery: one that is handed out and not acknowledged in time is dead.
    let received = rig.json("message receive orders closer --wait 30s --invisible 0s");
    assert_eq!(received.len(), 1);
}

fn dead_letters(rig: &Rig, more: &str) -> Vec<Value> {
    let found = rig.json(&format!("dlq list closer {more}"));
    found
        .into_iter()
        .map(|found| found["message"]["body"].clone())
        .collect()
}

#[test]
fn dead_letters_are_listed_replayed_and_purged() {
    let rig = Rig::with_topic();
    rig.done("group create closer --attempts 1");
    for body in ["a", "b", "c"] {
        bury(&rig, body);
    }
    // The last one is dead once its lease has ended, which a receive that finds nothing else waits for.
    while dead_letters(&rig, "").len() < 3 {
        rig.done("message receive orders closer");
    }
    assert_eq!(dead_letters(&rig, "--tag b"), ["b"]);
    let table = rig.done("dlq list closer").out;
    let header = table.lines().next().unwrap();
    assert!(
        header.starts_with("BURIED") && header.ends_with("BODY"),
        "{table}"
    );
    rig.fails(
        "dlq replay closer",
        2,
        "select dead letters to replay: --key, --tag, --id, --topic or --all",
    );
    rig.fails("dlq replay closer --all --tag a", 2, "cannot be used with");
    rig.fails(
        "dlq replay closer --tag a",
        2,
        "this would replay 1 dead letter of consumer group closer with tag a",
    );
    let dry = rig.done("dlq purge closer --all --dry-run");
    assert_eq!(
        dry.err,
        "would purge 3 dead letters of consumer group closer; nothing was done\n"
    );
    rig.done("dlq replay closer --tag a --yes");
    let again = rig.json("message receive orders closer --wait 30s");
    assert_eq!(
        (&again[0]["message"]["body"], &again[0]["attempt"]),
        (&json!("a"), &json!(1))
    );
    assert_eq!(
        rig.json("dlq purge closer --topic orders --yes")[0]["done"],
        2
    );
    assert!(dead_letters(&rig, "").is_empty());
    rig.fails(
        "dlq list other",
        1,
        "consumer group \"other\" does not exist",
    );
    let none = rig.done("dlq purge closer --all --yes");
    assert_eq!(none.err, "consumer group closer has no dead letters\n");
}

#[test]
fn a_dead_letter_that_cannot_be_replayed_is_named() {
    let rig = Rig::with_topic();
    rig.done("group create closer --attempts 1");
    bury(&rig, "a");
    while dead_letters(&rig, "").is_empty() {
        rig.done("message receive orders closer");
    }
    rig.done("topic delete orders --yes");
    let said = rig.run("dlq replay closer --all --yes");
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains(": topic \"orders\" does not exist"),
        "{said:?}"
    );
    assert!(
        said.err.ends_with("error: 1 dead letter not replayed\n"),
        "{said:?}"
    );
}

#[test]
fn errors_say_what_to_do() {
    let unused = "http://127.0.0.1:9";
    let said = run_at(unused, "topic list", "");
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains(
            "no broker's HTTP API answers at http://127.0.0.1:9/; is `duetime serve` running?"
        ),
        "{said:?}"
    );
    // A server that speaks something else, as the gRPC port does.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", other.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"\0\0\x12\x04\0\0\0\0\0").unwrap();
    });
    let said = run_at(&url, "topic list", "");
    answering.join().unwrap();
    assert_eq!(said.code, 1);
    assert!(
        said.err
            .contains("`duetime serve` prints where it is (http.listen)"),
        "{said:?}"
    );
    let said = run_at("127.0.0.1:8082", "topic list", "");
    assert_eq!(said.code, 2);
    assert!(
        said.err
            .contains("is not an address like http://127.0.0.1:8082"),
        "{said:?}"
    );
    let rig = Rig::start();
    rig.fails("topic list --account ann", 2, "NAME:SECRET");
    rig.fails("topic list --account ann:s", 1, "the credentials are wrong");
    rig.fails("topic list --token t", 1, "the credentials are wrong");
    rig.fails(
        "topic list --token t --account a:b",
        2,
        "cannot be used with",
    );
    rig.fails("topic polish", 2, "unrecognized subcommand");
}

#[test]
fn shells_get_their_completions() {
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef duetime"),
        ("fish", "complete -c duetime"),
    ] {
        let said = run_at("http://127.0.0.1:9", &format!("completions {shell}"), "");
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        assert!(
            said.out.contains(sign) && said.out.contains("timer"),
            "{shell}"
        );
    }
}

/// A broker with transactions of topic `tx` that were given up, each with the message id and the body of its name.
fn with_given_up(names: &[&str]) -> Rig {
    let mut config = BrokerConfig::default();
    config.engine.transactions.check_after_ms = 0;
    config.engine.transactions.check_every_ms = 0;
    config.engine.transactions.checks_max = 0;
    let rig = Rig::start_with(config);
    rig.done("topic create dev%tx --kind transaction");
    rig.with_broker(async |broker| {
        for name in names {
            let message = NewMessage {
                message_id: Some((*name).to_owned()),
                body: (*name).to_owned().into(),
                ..NewMessage::default()
            };
            broker.prepare("dev%tx", message, None).await.unwrap();
        }
        let due = broker.take_checks(10, Duration::ZERO).await.unwrap();
        assert!(due.is_empty(), "{due:?}");
    });
    rig
}

/// The names of the transactions that were given up, in the order of their messages.
fn given_up(rig: &Rig) -> Vec<String> {
    let listed = rig.json("transaction list --topic dev%tx");
    let names = listed.iter().map(|item| item["transaction"].as_str());
    names.map(|name| name.unwrap().to_owned()).collect()
}

#[test]
fn transactions_given_up_are_listed_shown_and_ended() {
    let rig = with_given_up(&["a", "b", "c"]);
    let list = rig.done("transaction list").out;
    let rows = rows(&list);
    assert_eq!(
        rows[0],
        [
            "GIVEN",
            "UP",
            "TOPIC",
            "CHECKS",
            "MESSAGE",
            "BODY",
            "TRANSACTION"
        ]
    );
    assert_eq!(rows.len(), 4, "{list}");
    let names = given_up(&rig);
    let shown = rig.done(&format!("transaction show {}", names[0])).out;
    assert!(shown.contains("topic        dev%tx\n"), "{shown}");
    assert!(shown.contains("state        given_up\n"), "{shown}");
    rig.fails(
        &format!("transaction commit {}", names[0]),
        2,
        "this would commit 1 transaction: their messages are delivered: say --yes",
    );
    let said = rig.done(&format!("transaction commit {} --yes", names[0]));
    assert_eq!(said.err, "committed 1 transaction\n");
    rig.fails(
        &format!("transaction rollback {} --yes", names[0]),
        1,
        "the transaction was committed before",
    );
    let both = format!("transaction rollback {} {}", names[1], names[2]);
    let said = rig.done(&format!("{both} --dry-run"));
    assert!(
        said.err.starts_with("would roll back 2 transactions"),
        "{said:?}"
    );
    let said = rig.done(&format!("{both} --yes"));
    assert_eq!(said.err, "rolled back 2 transactions\n");
    assert_eq!(rig.done("transaction list").err, "nothing found\n");
    rig.fails("transaction show tea", 1, "there is no transaction \"tea\"");
    let received = rig.json("message receive dev%tx g --wait 1m --max 9");
    assert_eq!(received.len(), 1);
    assert_eq!(received[0]["message"]["body"], "a");
}

#[test]
fn transactions_given_up_are_checked_again() {
    let rig = with_given_up(&["a", "b"]);
    let names = given_up(&rig);
    let said = rig.done(&format!("transaction check {}", names[0]));
    assert_eq!(said.err, "asked the producers again about 1 transaction\n");
    assert_eq!(given_up(&rig), [names[1].clone()]);
    let shown = rig.json(&format!("transaction show {}", names[0]));
    assert_eq!(shown[0]["state"], "open");
    rig.done("transaction check --topic dev%tx");
    assert_eq!(given_up(&rig), [""; 0]);
    let said = rig.done("transaction check --all");
    assert_eq!(said.err, "asked the producers again about 0 transactions\n");
    rig.fails("transaction check", 2, "required");
}
