//! Runs the official Rust client against a server; one line for each feature.

use std::collections::HashSet;
use std::env;
use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::{MessageBuilder, MessageView};
use rocketmq::model::transaction::{Transaction, TransactionResolution};
use rocketmq::{Producer, SimpleConsumer};

type Told = Result<String, Box<dyn Error>>;

fn endpoint(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("the variable {name} is missing"))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn name(what: &str) -> String {
    format!("rust-{what}-{}-{}", std::process::id(), now().subsec_nanos())
}

fn check(condition: bool, seen: impl std::fmt::Debug) -> Result<(), Box<dyn Error>> {
    if condition {
        Ok(())
    } else {
        Err(format!("{seen:?}").into())
    }
}

fn option(endpoint_name: &str) -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(endpoint(endpoint_name));
    option.set_enable_tls(false);
    option.set_long_polling_timeout(Duration::from_secs(5));
    option
}

async fn producer(option: ClientOption, topic: &str) -> Result<Producer, Box<dyn Error>> {
    let mut settings = ProducerOption::default();
    settings.set_topics(vec![topic]);
    let mut producer = Producer::new(settings, option)?;
    producer.start().await?;
    Ok(producer)
}

async fn consumer(endpoint_name: &str, topic: &str) -> Result<SimpleConsumer, Box<dyn Error>> {
    member(endpoint_name, topic, format!("g-{topic}")).await
}

async fn member(endpoint_name: &str, topic: &str, group: String) -> Result<SimpleConsumer, Box<dyn Error>> {
    let mut settings = SimpleConsumerOption::default();
    settings.set_topics(vec![topic]);
    settings.set_consumer_group(group);
    let mut consumer = SimpleConsumer::new(settings, option(endpoint_name))?;
    consumer.start().await?;
    Ok(consumer)
}

async fn take(
    consumer: &SimpleConsumer,
    topic: &str,
    filter: &FilterExpression,
    count: usize,
    wait: Duration,
) -> Result<Vec<(MessageView, Duration)>, Box<dyn Error>> {
    let end = Instant::now() + wait;
    let mut taken = Vec::new();
    while taken.len() < count && Instant::now() < end {
        for message in consumer.receive(topic, filter).await? {
            consumer.ack(&message).await?;
            taken.push((message, now()));
        }
    }
    Ok(taken)
}

fn bodies(taken: &[(MessageView, Duration)]) -> Vec<String> {
    let text = |message: &MessageView| String::from_utf8_lossy(message.body()).into_owned();
    taken.iter().map(|(message, _)| text(message)).collect()
}

fn all() -> FilterExpression {
    FilterExpression::new(FilterType::Tag, "*")
}

async fn normal() -> Told {
    let topic = name("normal");
    let (sender, receiver) = (producer(option("OPEN"), &topic).await?, consumer("OPEN", &topic).await?);
    for index in 0..10 {
        let message = MessageBuilder::builder()
            .set_topic(&topic)
            .set_tag("tag")
            .set_keys(vec![format!("key-{index}")])
            .set_body(format!("body {index}").into_bytes())
            .build()?;
        sender.send(message).await?;
    }
    let taken = take(&receiver, &topic, &all(), 10, Duration::from_secs(15)).await?;
    check(taken.len() == 10, bodies(&taken))?;
    check(taken.iter().all(|(message, _)| message.tag() == Some("tag") && message.keys().len() == 1), "tags")?;
    sender.shutdown().await?;
    receiver.shutdown().await?;
    Ok("10 sent, received with tag and key, acknowledged".to_owned())
}

async fn delay() -> Told {
    let topic = name("delay");
    let (sender, receiver) = (producer(option("OPEN"), &topic).await?, consumer("OPEN", &topic).await?);
    // The client counts in whole seconds.
    let due = Duration::from_secs(now().as_secs() + 3);
    let seconds = i64::try_from(due.as_secs())?;
    sender.send(MessageBuilder::delay_message_builder(&topic, b"late".to_vec(), seconds).build()?).await?;
    let taken = take(&receiver, &topic, &all(), 1, Duration::from_secs(15)).await?;
    let (_, at) = taken.first().ok_or("nothing came")?;
    check(*at >= due, "early")?;
    Ok(format!("{} ms after its time", (*at - due).as_millis()))
}

async fn fifo() -> Told {
    let topic = name("fifo");
    let (sender, receiver) = (producer(option("FIFO"), &topic).await?, consumer("FIFO", &topic).await?);
    for index in 0..6 {
        let body = index.to_string().into_bytes();
        sender.send(MessageBuilder::fifo_message_builder(&topic, body, "g").build()?).await?;
    }
    let taken = take(&receiver, &topic, &all(), 6, Duration::from_secs(15)).await?;
    check(bodies(&taken).concat() == "012345", bodies(&taken))?;
    Ok("6 of one message group in order".to_owned())
}

/// Only this client sends many messages in one request.
async fn batch() -> Told {
    let topic = name("batch");
    let (sender, receiver) = (producer(option("OPEN"), &topic).await?, consumer("OPEN", &topic).await?);
    let messages: Result<Vec<_>, _> = (0..5)
        .map(|index: i32| MessageBuilder::builder().set_topic(&topic).set_body(index.to_string().into_bytes()).build())
        .collect();
    check(sender.batch_send(messages?).await?.len() == 5, "receipts")?;
    let taken = take(&receiver, &topic, &all(), 5, Duration::from_secs(15)).await?;
    check(taken.len() == 5, bodies(&taken))?;
    Ok("5 messages in one request".to_owned())
}

async fn redelivery() -> Told {
    let topic = name("redelivery");
    let (sender, receiver) = (producer(option("OPEN"), &topic).await?, consumer("OPEN", &topic).await?);
    sender.send(MessageBuilder::builder().set_topic(&topic).set_body(b"x".to_vec()).build()?).await?;
    let first = receiver.receive_with(&topic, &all(), 1, Duration::from_secs(10)).await?;
    check(first.len() == 1, "nothing came")?;
    let taken = take(&receiver, &topic, &all(), 1, Duration::from_secs(20)).await?;
    let (second, _) = taken.first().ok_or("nothing came again")?;
    check(second.delivery_attempt() == 2, second.delivery_attempt())?;
    Ok("again after the invisible duration, attempt 2".to_owned())
}

/// Never acknowledges a message: after the second delivery its group has given it up.
async fn dead_letter() -> Told {
    let topic = name("dead");
    let group = endpoint("DEAD_GROUP");
    let letters = format!("%DLQ%{group}");
    let sender = producer(option("OPEN"), &topic).await?;
    let receiver = member("OPEN", &topic, group).await?;
    sender.send(MessageBuilder::builder().set_topic(&topic).set_body(b"poison".to_vec()).build()?).await?;
    let end = Instant::now() + Duration::from_secs(30);
    let mut attempts = Vec::new();
    while attempts.len() < 2 && Instant::now() < end {
        let given = receiver.receive_with(&topic, &all(), 1, Duration::from_secs(2)).await?;
        attempts.extend(given.iter().map(MessageView::delivery_attempt));
    }
    check(attempts == [1, 2], &attempts)?;
    let again = receiver.receive_with(&topic, &all(), 1, Duration::from_secs(2)).await?;
    check(again.is_empty(), "given again after the last attempt")?;
    let reader = member("OPEN", &letters, name("letters")).await?;
    let taken = take(&reader, &letters, &all(), 1, Duration::from_secs(30)).await?;
    check(bodies(&taken) == ["poison"], bodies(&taken))?;
    Ok(format!("given up after two deliveries, then read from {letters}"))
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
        self.kept.lock().map(|kept| kept.clone()).unwrap_or_default()
    }

    async fn send(&self, sender: &Producer, topic: &str) {
        for index in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let body = index.to_string();
            let message = MessageBuilder::builder().set_topic(topic).set_body(body.clone().into_bytes()).build();
            let sent = match message {
                Ok(message) => sender.send(message).await.is_ok(),
                Err(_) => false,
            };
            if sent {
                if let Ok(mut kept) = self.kept.lock() {
                    kept.insert(body);
                }
            } else {
                self.wrong.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn reaches(&self, count: usize) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + Duration::from_secs(60);
        while self.kept().len() < count {
            check(Instant::now() < end, format!("{} of {count} in 60 s", self.kept().len()))?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Has the server killed and started again, and goes on for a while.
    async fn survives_a_kill(&self) -> Result<(), Box<dyn Error>> {
        self.reaches(100).await?;
        println!("!restart");
        let told = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
        check(told > 0, "the server is not started again")?;
        self.reaches(self.kept().len() + 100).await
    }
}

/// Has the server killed under load: what it has acknowledged must be there afterwards.
async fn restart() -> Told {
    let topic = name("restart");
    let (sender, receiver) = (producer(option("MORTAL"), &topic).await?, consumer("MORTAL", &topic).await?);
    let load = Arc::new(Load::default());
    let sends = {
        let (load, topic) = (Arc::clone(&load), topic.clone());
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
        let Ok(given) = receiver.receive_with(&topic, &all(), 16, Duration::from_secs(15)).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        for message in given {
            missing.remove(String::from_utf8_lossy(message.body()).as_ref());
            // A failed acknowledgement only makes the message come again.
            let _ = receiver.ack(&message).await;
        }
    }
    check(missing.is_empty(), format!("{} of {} are lost", missing.len(), kept.len()))?;
    let wrong = load.wrong.load(Ordering::Relaxed);
    Ok(format!("{} acknowledged around a kill, all received; {wrong} sends failed", kept.len()))
}

async fn wrong_type() -> Told {
    let topic = endpoint("NORMAL_TOPIC");
    let sender = producer(option("STRICT"), &topic).await?;
    let later = i64::try_from(now().as_secs())? + 60;
    sender.send(MessageBuilder::delay_message_builder(&topic, b"x".to_vec(), later).build()?).await?;
    Ok(String::new())
}

async fn transaction() -> Told {
    let topic = name("transaction");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let mut settings = ProducerOption::default();
    settings.set_topics(vec![&topic]);
    let checker = Box::new(move |_: String, message: MessageView| {
        if let Ok(mut noted) = noted.lock() {
            noted.push(String::from_utf8_lossy(message.body()).into_owned());
        }
        TransactionResolution::COMMIT
    });
    let mut sender = Producer::new_transaction_producer(settings, option("OPEN"), checker)?;
    sender.start().await?;
    let receiver = consumer("OPEN", &topic).await?;
    for body in ["commit", "rollback", "orphan"] {
        let message = MessageBuilder::transaction_message_builder(&topic, body.into()).build()?;
        let begun = sender.send_transaction_message(message).await?;
        match body {
            "commit" => begun.commit().await?,
            "rollback" => begun.rollback().await?,
            _ => {}
        }
    }
    let taken = take(&receiver, &topic, &all(), 2, Duration::from_secs(30)).await?;
    let mut seen = bodies(&taken);
    seen.sort();
    let asked = asked.lock().map(|asked| asked.clone()).unwrap_or_default();
    check(seen == ["commit", "orphan"] && asked == ["orphan"], (seen, asked))?;
    Ok("committed, rolled back, orphan committed when asked".to_owned())
}

async fn tag_filter() -> Told {
    let topic = name("tags");
    let (sender, receiver) = (producer(option("OPEN"), &topic).await?, consumer("OPEN", &topic).await?);
    for tag in ["a", "b", "c"] {
        let message = MessageBuilder::builder().set_topic(&topic).set_tag(tag).set_body(tag.into());
        sender.send(message.build()?).await?;
    }
    let filter = FilterExpression::new(FilterType::Tag, "a || c");
    let mut seen = bodies(&take(&receiver, &topic, &filter, 2, Duration::from_secs(6)).await?);
    seen.sort();
    check(seen == ["a", "c"], seen)?;
    Ok("a || c".to_owned())
}

async fn sql_filter() -> Told {
    let topic = name("sql");
    let (sender, receiver) = (producer(option("OPEN"), &topic).await?, consumer("OPEN", &topic).await?);
    for (amount, region) in [("5", Some("eu")), ("15", Some("eu")), ("25", None)] {
        let mut properties = vec![("amount", amount)];
        properties.extend(region.map(|region| ("region", region)));
        let properties: std::collections::HashMap<&str, &str> = properties.into_iter().collect();
        let message = MessageBuilder::builder().set_topic(&topic).set_body(amount.into()).set_properties(properties);
        sender.send(message.build()?).await?;
    }
    let expression = "amount > 10 AND region IS NOT NULL";
    let filter = FilterExpression::new(FilterType::Sql, expression);
    let seen = bodies(&take(&receiver, &topic, &filter, 2, Duration::from_secs(6)).await?);
    check(seen == ["15"], seen)?;
    Ok(expression.to_owned())
}

async fn send_once(option: ClientOption, topic: &str, body: Vec<u8>) -> Told {
    let sender = producer(option, topic).await?;
    sender.send(MessageBuilder::builder().set_topic(topic).set_body(body).build()?).await?;
    sender.shutdown().await?;
    Ok(String::new())
}

fn refused(outcome: Told, words: &[&str]) -> Told {
    match outcome {
        Ok(_) => Err("it was not refused".into()),
        Err(error) => {
            let text = format!("{error:?} {error}").replace('\n', " ");
            check(words.iter().any(|word| text.contains(word)), &text)?;
            Ok(text.chars().take(100).collect())
        }
    }
}

async fn credentials() -> Told {
    let topic = name("credentials");
    let account = |secret: &str| {
        let mut option = option("GUARDED");
        option.set_access_key("interop");
        option.set_secret_key(secret);
        option
    };
    send_once(account("interop-secret"), &topic, b"x".to_vec()).await?;
    refused(send_once(account("wrong"), &topic, b"x".to_vec()).await, &["credentials", "40100"])
}

async fn tls() -> Told {
    let mut option = option("OPEN");
    option.set_access_url(endpoint("OPEN").replace("127.0.0.1", "localhost"));
    option.set_enable_tls(true);
    send_once(option, &name("tls"), b"x".to_vec()).await?;
    Ok("verified against the server's certificate".to_owned())
}

async fn report(feature: &str, run: impl Future<Output = Told>) -> bool {
    let began = Instant::now();
    match run.await {
        Ok(detail) => {
            println!("{feature}\tok\t{detail} ({:.1} s)", began.elapsed().as_secs_f64());
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
    passed &= report("batch", batch()).await;
    passed &= report("redelivery", redelivery()).await;
    passed &= report("dead letter", dead_letter()).await;
    passed &= report("transaction", transaction()).await;
    passed &= report("tag filter", tag_filter()).await;
    passed &= report("sql filter", sql_filter()).await;
    for feature in ["recall", "push", "push fifo"] {
        println!("{feature}\tnone\tthis client does not have it");
    }
    passed &= report("unknown topic", async {
        refused(send_once(option("STRICT"), &name("unknown"), b"x".to_vec()).await, &["does not exist", "40402"])
    })
    .await;
    passed &= report("wrong type", async { refused(wrong_type().await, &["type", "40014", "NORMAL"]) }).await;
    passed &= report("oversized body", async {
        let body = vec![b'x'; 4 * 1024 * 1024 + 1];
        refused(send_once(option("OPEN"), &name("large"), body).await, &["large", "41301", "bytes"])
    })
    .await;
    passed &= report("credentials", credentials()).await;
    passed &= report("tls", tls()).await;
    passed &= report("restart", restart()).await;
    std::process::exit(i32::from(!passed));
}
