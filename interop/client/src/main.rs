//! Runs Duetime's own client against a server, Duetime or Apache RocketMQ; one line for each feature.

use std::collections::HashSet;
use std::env;
use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::{
    Code, Config, Filter, Message, Producer, PushConsumer, Received, Resolution, SimpleConsumer,
    Tls, Verdict,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
type Observed = Outcome<String>;

const INVISIBLE: Duration = Duration::from_secs(15);
/// So many long polls in a row may stay unanswered by Apache RocketMQ.
const UNANSWERED_MAX: usize = 2;
/// The account of servers that have one.
const ACCOUNT: &str = "interop";

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("the variable {name} is missing"))
}

fn now() -> SystemTime {
    SystemTime::now()
}

/// Whether the server is Apache RocketMQ, which cannot do all that Duetime can and makes no topic by itself.
fn is_apache() -> bool {
    env::var("PEER").is_ok_and(|peer| peer == "apache")
}

/// A topic's name: one of those made beforehand if the server makes none by itself, a new one otherwise.
fn name(what: &str) -> String {
    if is_apache() {
        return format!("client-{what}");
    }
    let nanos = now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .subsec_nanos();
    format!("client-{what}-{}-{nanos}", std::process::id())
}

fn check(condition: bool, seen: impl std::fmt::Debug) -> Outcome<()> {
    if condition {
        Ok(())
    } else {
        Err(format!("{seen:?}").into())
    }
}

/// How to reach one of the servers, with the account where every call needs one.
fn config(server: &str) -> Outcome<Config> {
    let config = Config::new(&variable(server))?;
    Ok(match env::var("SECRET") {
        Ok(secret) => config.with_credentials(ACCOUNT, &secret),
        Err(_) => config,
    })
}

fn body(message: &Received) -> String {
    String::from_utf8_lossy(&message.body).into_owned()
}

async fn producer(server: &str, topic: &str) -> Outcome<Producer> {
    Ok(Producer::builder(config(server)?)
        .topic(topic)
        .start()
        .await?)
}

async fn member(server: &str, topic: &str, group: &str, filter: Filter) -> Outcome<SimpleConsumer> {
    let builder = SimpleConsumer::builder(config(server)?, group).wait(Duration::from_secs(5));
    Ok(builder.subscribe(topic, filter).start().await?)
}

async fn both(server: &str, topic: &str) -> Outcome<(Producer, SimpleConsumer)> {
    let group = format!("g-{topic}");
    let consumer = member(server, topic, &group, Filter::all());
    Ok((producer(server, topic).await?, consumer.await?))
}

/// Receives and acknowledges until there were so many, or the time is up.
///
/// Apache RocketMQ now and then leaves a long poll unanswered past the limit of the call. A consumer asks again then, and
/// so does this one, with as much more time as that poll took; [`UNANSWERED_MAX`] in a row are an error all the same.
/// Duetime answers every poll, so there the first is an error.
async fn take(
    consumer: &SimpleConsumer,
    count: usize,
    wait: Duration,
) -> Outcome<Vec<(Received, SystemTime)>> {
    let mut end = Instant::now() + wait;
    let mut taken = Vec::new();
    let mut unanswered = 0;
    while taken.len() < count && Instant::now() < end {
        let asked = Instant::now();
        let given = match consumer.receive(16, INVISIBLE).await {
            Err(client::Error::Timeout(_)) if is_apache() && unanswered < UNANSWERED_MAX => {
                unanswered += 1;
                end += asked.elapsed();
                continue;
            }
            given => given?,
        };
        unanswered = 0;
        for message in given {
            consumer.ack(&message).await?;
            taken.push((message, now()));
        }
    }
    Ok(taken)
}

fn bodies(taken: &[(Received, SystemTime)]) -> Vec<String> {
    taken.iter().map(|(message, _)| body(message)).collect()
}

async fn normal() -> Observed {
    let topic = name("normal");
    let (sender, receiver) = both("OPEN", &topic).await?;
    for index in 0..10 {
        let message = Message::new(&topic, format!("body {index}")).tag("tag");
        sender
            .send(
                message
                    .key(format!("key-{index}"))
                    .property("index", index.to_string()),
            )
            .await?;
    }
    let taken = take(&receiver, 10, Duration::from_secs(15)).await?;
    check(taken.len() == 10, bodies(&taken))?;
    let whole = |message: &Received| {
        message.tag.as_deref() == Some("tag")
            && message.keys.len() == 1
            && message.properties.contains_key("index")
    };
    check(
        taken.iter().all(|(message, _)| whole(message)),
        "properties",
    )?;
    Ok("10 sent, received with tag, key and property, acknowledged".to_owned())
}

async fn delay() -> Observed {
    let topic = name("delay");
    let (sender, receiver) = both("OPEN", &topic).await?;
    let start = now() + Duration::from_millis(1_500);
    let due = |index: u32| start + Duration::from_millis(337) * index;
    // The last one is sent first.
    for index in (0..5).rev() {
        let message = Message::new(&topic, index.to_string());
        sender.send(message.deliver_at(due(index))).await?;
    }
    let taken = take(&receiver, 5, Duration::from_secs(15)).await?;
    check(taken.len() == 5, bodies(&taken))?;
    let mut latest = Duration::ZERO;
    for (message, at) in &taken {
        let due = due(body(message).parse()?);
        // A time is given in whole milliseconds.
        let late = (*at + Duration::from_millis(1))
            .duration_since(due)
            .map_err(|early| format!("{:?} early", early.duration()))?;
        latest = std::cmp::max(latest, late);
    }
    let latest = latest.as_millis().saturating_sub(1);
    Ok(format!("5 messages, none early, at most {latest} ms late"))
}

/// With one message of the group delayed, where the server is Duetime.
async fn fifo() -> Observed {
    let topic = name("fifo");
    let (sender, receiver) = both("FIFO", &topic).await?;
    for index in 0..6 {
        sender
            .send(Message::new(&topic, index.to_string()).message_group("g"))
            .await?;
    }
    let mut last = Message::new(&topic, "6").message_group("g");
    if !is_apache() {
        last = last.deliver_after(Duration::from_secs(1));
    }
    sender.send(last).await?;
    let seen = bodies(&take(&receiver, 7, Duration::from_secs(15)).await?);
    check(seen.concat() == "0123456", seen)?;
    let delayed = if is_apache() {
        ""
    } else {
        ", one of them delayed"
    };
    Ok(format!("7 of one message group in order{delayed}"))
}

async fn recall() -> Observed {
    let topic = name("recall");
    let (sender, receiver) = both("OPEN", &topic).await?;
    let later =
        |body: &'static str| Message::new(&topic, body).deliver_after(Duration::from_secs(2));
    let kept = sender
        .send(later("kept"))
        .await?
        .recall
        .ok_or("no handle")?;
    let gone = sender
        .send(later("gone"))
        .await?
        .recall
        .ok_or("no handle")?;
    sender.recall(&gone).await?;
    let seen = bodies(&take(&receiver, 2, Duration::from_secs(5)).await?);
    check(seen == ["kept"], seen)?;
    let error = sender
        .recall(&kept)
        .await
        .err()
        .ok_or("a delivered message was recalled")?;
    // In Duetime's words; Apache RocketMQ has others.
    check(
        error.code() == Some(Code::InternalServerError)
            && (is_apache() || error.to_string().contains("too late")),
        &error,
    )?;
    Ok("recalled one is never delivered, a delivered one is too late".to_owned())
}

async fn redelivery() -> Observed {
    let topic = name("redelivery");
    let (sender, receiver) = both("OPEN", &topic).await?;
    sender.send(Message::new(&topic, "x")).await?;
    let mut first = receiver
        .receive(1, INVISIBLE)
        .await?
        .pop()
        .ok_or("nothing came")?;
    receiver
        .change_invisible(&mut first, Duration::from_secs(2))
        .await?;
    let taken = take(&receiver, 1, Duration::from_secs(15)).await?;
    let (second, _) = taken.first().ok_or("nothing came again")?;
    check(second.attempt == 2, second.attempt)?;
    Ok("again after the changed invisible duration, attempt 2".to_owned())
}

/// What a listener has been given.
type Seen = Arc<Mutex<Vec<String>>>;

fn listing(seen: &Seen) -> Vec<String> {
    seen.lock().map(|seen| seen.clone()).unwrap_or_default()
}

async fn listen(
    (server, group, topic): (&str, &str, &str),
    fails: fn(&str) -> bool,
) -> Outcome<(PushConsumer, Seen)> {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let consumer = PushConsumer::builder(config(server)?, group).subscribe(topic, Filter::all());
    let consumer = consumer.start(move |message| {
        let given = format!("{}/{}", body(&message), message.attempt);
        let verdict = if fails(&given) {
            Verdict::Retry
        } else {
            Verdict::Done
        };
        if let Ok(mut noted) = noted.lock() {
            noted.push(given);
        }
        async move { verdict }
    });
    Ok((consumer.await?, seen))
}

async fn until(condition: impl Fn() -> bool, seconds: u64) -> Outcome<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        check(Instant::now() < end, format!("nothing in {seconds} s"))?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn dead_letter() -> Observed {
    let (topic, group) = (name("dead"), variable("DEAD_GROUP"));
    let letters = format!("%DLQ%{group}");
    let sender = producer("OPEN", &topic).await?;
    let (consumer, seen) = listen(("OPEN", &group, &topic), |_| true).await?;
    sender.send(Message::new(&topic, "poison")).await?;
    until(|| listing(&seen).len() >= 2, 30).await?;
    let end = Instant::now() + Duration::from_secs(30);
    let reader = loop {
        // The topic is not there before its first letter.
        match member("OPEN", &letters, &name("letters"), Filter::all()).await {
            Ok(reader) => break reader,
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    let taken = take(&reader, 1, Duration::from_secs(30)).await?;
    check(bodies(&taken) == ["poison"], bodies(&taken))?;
    check(listing(&seen) == ["poison/1", "poison/2"], listing(&seen))?;
    consumer.shutdown().await;
    Ok(format!("refused twice, then read from {letters}"))
}

async fn push() -> Observed {
    let topic = name("push");
    let sender = producer("OPEN", &topic).await?;
    let (consumer, seen) = listen(("OPEN", &format!("g-{topic}"), &topic), |given| {
        given == "0/1"
    })
    .await?;
    for index in 0..20 {
        sender.send(Message::new(&topic, index.to_string())).await?;
    }
    until(|| listing(&seen).len() >= 21, 40).await?;
    check(
        listing(&seen).iter().any(|given| given == "0/2"),
        listing(&seen),
    )?;
    consumer.shutdown().await;
    Ok("20 pushed, the one that failed again as attempt 2".to_owned())
}

async fn push_fifo() -> Observed {
    let topic = name("push-fifo");
    let sender = producer("FIFO", &topic).await?;
    let (consumer, seen) = listen(("FIFO", &format!("g-{topic}"), &topic), |_| false).await?;
    for index in 0..6 {
        sender
            .send(Message::new(&topic, index.to_string()).message_group("g"))
            .await?;
    }
    until(|| listing(&seen).len() >= 6, 40).await?;
    check(
        listing(&seen) == ["0/1", "1/1", "2/1", "3/1", "4/1", "5/1"],
        listing(&seen),
    )?;
    consumer.shutdown().await;
    Ok("6 of one message group in order".to_owned())
}

/// With a delayed one that is committed, where the server is Duetime.
async fn transaction() -> Observed {
    let topic = name("transaction");
    let asked = Seen::default();
    let noted = Arc::clone(&asked);
    let sender = Producer::builder(config("OPEN")?)
        .topic(&topic)
        .check_back(move |message| {
            let resolution = match body(&message).as_str() {
                "rollback" => Resolution::Rollback,
                _ => Resolution::Commit,
            };
            if let Ok(mut noted) = noted.lock() {
                noted.push(body(&message));
            }
            async move { resolution }
        });
    let sender = sender.start().await?;
    let receiver = member("OPEN", &topic, &format!("g-{topic}"), Filter::all()).await?;
    let due = now() + Duration::from_secs(2);
    let mut expected = vec!["commit", "orphan"];
    if !is_apache() {
        let delayed = Message::new(&topic, "delayed").deliver_at(due);
        sender.begin(delayed, None).await?.commit().await?;
        expected.insert(1, "delayed");
    }
    sender
        .begin(Message::new(&topic, "commit"), None)
        .await?
        .commit()
        .await?;
    sender
        .begin(Message::new(&topic, "rollback"), None)
        .await?
        .rollback()
        .await?;
    drop(sender.begin(Message::new(&topic, "orphan"), None).await?);
    let taken = take(&receiver, expected.len(), Duration::from_secs(30)).await?;
    let mut seen = bodies(&taken);
    seen.sort();
    let mut asked = listing(&asked);
    if is_apache() {
        // It notes an outcome some time after it receives it, and may ask before that.
        asked.retain(|asked| asked == "orphan");
        asked.dedup();
        // It does not always deliver what was committed in answer to its question, though it notes the answer.
        seen.retain(|seen| seen != "orphan");
        expected.retain(|expected| *expected != "orphan");
    }
    check(seen == expected && asked == ["orphan"], (seen, asked))?;
    let mut delayed = taken
        .iter()
        .filter(|(message, _)| body(message) == "delayed");
    check(
        delayed.all(|(_, at)| *at + Duration::from_millis(1) >= due),
        "the delayed one is early",
    )?;
    let what = if is_apache() {
        ""
    } else {
        "delayed and committed, "
    };
    Ok(format!(
        "committed, rolled back, {what}orphan committed when asked"
    ))
}

async fn filtered(
    filter: Filter,
    messages: Vec<Message>,
    topic: &str,
    expected: &[&str],
) -> Outcome<()> {
    let sender = producer("OPEN", topic).await?;
    let receiver = member("OPEN", topic, &format!("g-{topic}"), filter).await?;
    for message in messages {
        sender.send(message).await?;
    }
    let mut seen = bodies(&take(&receiver, 3, Duration::from_secs(6)).await?);
    seen.sort();
    if is_apache() {
        // It delivers at least once.
        seen.dedup();
    }
    check(seen == expected, seen)
}

async fn tag_filter() -> Observed {
    let topic = name("tags");
    let messages = ["a", "b", "c"].map(|tag| Message::new(&topic, tag).tag(tag));
    filtered(Filter::tags("a || c"), messages.into(), &topic, &["a", "c"]).await?;
    Ok("a || c".to_owned())
}

async fn sql_filter() -> Observed {
    let topic = name("sql");
    let expression = "amount > 10 AND region IS NOT NULL";
    let amount = |amount: &'static str| Message::new(&topic, amount).property("amount", amount);
    let messages = vec![
        amount("5").property("region", "eu"),
        amount("15").property("region", "eu"),
        amount("25"),
    ];
    filtered(Filter::sql(expression), messages, &topic, &["15"]).await?;
    Ok(expression.to_owned())
}

async fn send_once(config: Config, message: Message) -> Outcome<()> {
    let sender = Producer::builder(config).start().await?;
    sender.send(message).await?;
    sender.shutdown().await;
    Ok(())
}

fn refused(outcome: Outcome<()>, words: &[&str]) -> Observed {
    let error = outcome.err().ok_or("it was not refused")?.to_string();
    check(words.iter().any(|word| error.contains(word)), &error)?;
    Ok(error.chars().take(100).collect())
}

async fn unknown_topic() -> Observed {
    refused(
        send_once(config("STRICT")?, Message::new(name("unknown"), "x")).await,
        &["40402"],
    )
}

async fn wrong_type() -> Observed {
    let message =
        Message::new(variable("NORMAL_TOPIC"), "x").deliver_after(Duration::from_secs(60));
    refused(
        send_once(config("STRICT")?, message).await,
        &["40014", "type", "takes"],
    )
}

async fn oversized() -> Observed {
    let message = Message::new(name("large"), vec![b'x'; 4 * 1024 * 1024 + 1]);
    refused(
        send_once(config("OPEN")?, message).await,
        &["41301", "bytes"],
    )
}

async fn credentials() -> Observed {
    let topic = name("credentials");
    let secret = env::var("SECRET").unwrap_or_else(|_| "interop-secret".to_owned());
    let guarded = config("GUARDED")?;
    let right = guarded.clone().with_credentials(ACCOUNT, &secret);
    send_once(right, Message::new(&topic, "x")).await?;
    let wrong = guarded.with_credentials(ACCOUNT, "wrong");
    refused(
        send_once(wrong, Message::new(&topic, "x")).await,
        &["40100"],
    )
}

async fn tls() -> Observed {
    // Apache RocketMQ makes a new certificate at each start and does not publish it.
    let (trust, seen) = if is_apache() {
        (Tls::TrustAny, "any certificate trusted")
    } else {
        let certificate = variable("CERTIFICATE").into();
        (
            Tls::Roots(certificate),
            "verified against the server's certificate",
        )
    };
    let config = config("OPEN")?.with_tls(trust);
    send_once(config, Message::new(name("tls"), "x")).await?;
    Ok(seen.to_owned())
}

/// What a sender has got through, and how often it has not.
#[derive(Default)]
struct Load {
    kept: Mutex<HashSet<String>>,
    wrong: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    fn kept(&self) -> HashSet<String> {
        self.kept
            .lock()
            .map(|kept| kept.clone())
            .unwrap_or_default()
    }

    async fn send(&self, sender: &Producer, topic: &str) {
        for index in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let body = index.to_string();
            match sender.send(Message::new(topic, body.clone())).await {
                Ok(_) => drop(self.kept.lock().map(|mut kept| kept.insert(body))),
                Err(_) => {
                    self.wrong.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Has the server killed and started again, and goes on for a while.
    async fn survives_a_kill(&self) -> Outcome<()> {
        until(|| self.kept().len() >= 100, 60).await?;
        println!("!restart");
        let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()))
            .await??;
        check(read > 0, "the server is not started again")?;
        let count = self.kept().len() + 100;
        until(|| self.kept().len() >= count, 60).await
    }
}

/// Has the server killed under load: what it has acknowledged must be there afterwards.
async fn restart() -> Observed {
    let topic = name("restart");
    let (sender, receiver) = both("MORTAL", &topic).await?;
    let load = Arc::new(Load::default());
    let sends = {
        let load = Arc::clone(&load);
        tokio::spawn(async move { load.send(&sender, &topic).await })
    };
    let survived = load.survives_a_kill().await;
    load.stop.store(true, Ordering::Relaxed);
    sends.await?;
    survived?;
    let kept = load.kept();
    let mut missing = kept.clone();
    let end = Instant::now() + Duration::from_secs(60);
    while !missing.is_empty() && Instant::now() < end {
        let Ok(given) = receiver.receive(16, INVISIBLE).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        for message in &given {
            missing.remove(&body(message));
        }
        // A failed acknowledgement only makes the message come again.
        drop(receiver.ack_all(&given).await);
    }
    check(
        missing.is_empty(),
        format!("{} of {} are lost", missing.len(), kept.len()),
    )?;
    let wrong = load.wrong.load(Ordering::Relaxed);
    Ok(format!(
        "{} acknowledged around a kill, all received; {wrong} sends failed",
        kept.len()
    ))
}

async fn report(feature: &str, run: impl Future<Output = Observed>) -> bool {
    let began = Instant::now();
    match run.await {
        Ok(detail) => {
            println!(
                "{feature}\tok\t{detail} ({:.1} s)",
                began.elapsed().as_secs_f64()
            );
            true
        }
        Err(error) => {
            println!("{feature}\tFAIL\t{}", error.to_string().replace('\n', " "));
            false
        }
    }
}

#[tokio::main]
async fn main() {
    let mut passed = report("normal", normal()).await;
    passed &= report("delay", delay()).await;
    passed &= report("fifo", fifo()).await;
    passed &= report("recall", recall()).await;
    passed &= report("redelivery", redelivery()).await;
    passed &= report("dead letter", dead_letter()).await;
    passed &= report("push", push()).await;
    passed &= report("push fifo", push_fifo()).await;
    passed &= report("transaction", transaction()).await;
    passed &= report("tag filter", tag_filter()).await;
    passed &= report("sql filter", sql_filter()).await;
    passed &= report("unknown topic", unknown_topic()).await;
    passed &= report("wrong type", wrong_type()).await;
    passed &= report("oversized body", oversized()).await;
    passed &= report("credentials", credentials()).await;
    passed &= report("tls", tls()).await;
    passed &= report("restart", restart()).await;
    std::process::exit(i32::from(!passed));
}
