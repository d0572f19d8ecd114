"""Runs the official Python client against a server; one line for each feature."""

import os
import sys
import threading
import time
import uuid

from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
    TransactionChecker,
    TransactionResolution,
)

OPEN = os.environ["OPEN"]
FIFO = os.environ["FIFO"]
STRICT = os.environ["STRICT"]
GUARDED = os.environ["GUARDED"]
MORTAL = os.environ["MORTAL"]
DEAD_GROUP = os.environ["DEAD_GROUP"]
NORMAL_TOPIC = os.environ["NORMAL_TOPIC"]
RUN = uuid.uuid4().hex[:8]
FAILED = []


def configuration(endpoint, credentials=None, **more):
    return ClientConfiguration(endpoint, credentials or Credentials(), **more)


def name(what):
    return f"python-{what}-{RUN}"


def report(feature, run):
    began = time.time()
    try:
        detail = run()
        print(f"{feature}\tok\t{detail} ({time.time() - began:.1f} s)", flush=True)
    except Exception as error:  # what fails is told, and the next feature is tried
        FAILED.append(feature)
        print(f"{feature}\tFAIL\t{type(error).__name__}: {error}", flush=True)


def check(condition, words):
    if not condition:
        raise AssertionError(words)


def message(topic, body, tag=None, group=None, at=None):
    made = Message()
    made.topic = topic
    made.body = body if isinstance(body, bytes) else body.encode()
    if tag:
        made.tag = tag
    if group:
        made.message_group = group
    if at:
        made.delivery_timestamp = at
    return made


class Sending:
    def __init__(self, topic, endpoint=OPEN, checker=None, tls=False, **more):
        self.producer = Producer(configuration(endpoint, **more), (topic,), checker=checker, tls_enable=tls)

    def __enter__(self):
        self.producer.startup()
        return self.producer

    def __exit__(self, *_):
        self.producer.shutdown()


class Receiving:
    def __init__(self, topic, endpoint=OPEN, expression=None, group=None, **more):
        subscription = {topic: expression or FilterExpression()}
        group = group or "g-" + topic
        self.consumer = SimpleConsumer(configuration(endpoint, **more), group, subscription)
        self.consumer.await_duration = 5

    def __enter__(self):
        self.consumer.startup()
        return self.consumer

    def __exit__(self, *_):
        self.consumer.shutdown()


def take(consumer, count, seconds=15, ack=True):
    taken = []
    end = time.time() + seconds
    while len(taken) < count and time.time() < end:
        for got in consumer.receive(16, 15) or []:
            taken.append((got, time.time()))
            if ack:
                consumer.ack(got)
    return taken


def normal():
    topic = name("normal")
    with Sending(topic) as producer, Receiving(topic) as consumer:
        for index in range(10):
            sent = message(topic, f"body {index}", tag="tag")
            sent.keys = f"key-{index}"
            sent.add_property("index", str(index))
            producer.send(sent)
        taken = take(consumer, 10)
        bodies = sorted(got.body.decode() for got, _ in taken)
        check(bodies == sorted(f"body {index}" for index in range(10)), bodies)
        check(all(got.tag == "tag" and got.properties["index"] for got, _ in taken), "properties")
        again = take(consumer, 1, seconds=2)
        check(not again, "an acknowledged message came again")
    return "10 sent, received with tag, key and property, acknowledged"


def delay():
    topic = name("delay")
    with Sending(topic) as producer, Receiving(topic) as consumer:
        due = int(time.time()) + 3
        producer.send(message(topic, "late", at=due))
        [(got, at)] = take(consumer, 1)
        check(at >= due, f"{(due - at) * 1000:.0f} ms early")
    return f"{(at - due) * 1000:.0f} ms after its time"


def fifo():
    topic = name("fifo")
    with Sending(topic, FIFO) as producer, Receiving(topic, FIFO) as consumer:
        for index in range(6):
            producer.send(message(topic, str(index), group="g"))
        taken = [got.body.decode() for got, _ in take(consumer, 6)]
        check(taken == list("012345"), taken)
    return "6 of one message group in order"


def recall():
    topic = name("recall")
    with Sending(topic) as producer, Receiving(topic) as consumer:
        due = int(time.time()) + 4
        kept = producer.send(message(topic, "kept", at=due))
        gone = producer.send(message(topic, "gone", at=due))
        recalled = producer.recall_message(topic, gone.recall_handle)
        check(recalled == gone.message_id, recalled)
        taken = [got.body.decode() for got, _ in take(consumer, 2, seconds=8)]
        check(taken == ["kept"], taken)
        try:
            producer.recall_message(topic, kept.recall_handle)
            raise AssertionError("a delivered message was recalled")
        except AssertionError:
            raise
        except Exception as error:
            check("too late" in str(error), error)
    return "recalled one is never delivered, a delivered one is too late"


def redelivery():
    topic = name("redelivery")
    with Sending(topic) as producer, Receiving(topic) as consumer:
        producer.send(message(topic, "x"))
        [(first, _)] = take(consumer, 1, ack=False)
        consumer.change_invisible_duration(first, 2)
        began = time.time()
        [(second, at)] = take(consumer, 1)
        check(second.delivery_attempt == 2, second.delivery_attempt)
        check(at - began >= 1.9, at - began)
    return "again after the changed invisible duration, attempt 2"


class Collector(MessageListener):
    def __init__(self, count, fail_first=False, fail_all=False):
        self.seen, self.count, self.fail_first, self.fail_all = [], count, fail_first, fail_all
        self.done, self.lock = threading.Event(), threading.Lock()

    def consume(self, got):
        with self.lock:
            self.seen.append((got.body.decode(), got.delivery_attempt))
            if len(self.seen) >= self.count:
                self.done.set()
        failed = self.fail_first and got.delivery_attempt == 1 and got.body == b"0"
        failed = failed or self.fail_all
        return ConsumeResult.FAILURE if failed else ConsumeResult.SUCCESS


def push():
    topic = name("push")
    listener = Collector(21, fail_first=True)
    with Sending(topic) as producer:
        group, subscription = "g-" + topic, {topic: FilterExpression()}
        consumer = PushConsumer(configuration(OPEN), group, listener, subscription)
        consumer.startup()
        try:
            for index in range(20):
                producer.send(message(topic, str(index)))
            check(listener.done.wait(40), listener.seen)
        finally:
            consumer.shutdown()
        check(("0", 2) in listener.seen, listener.seen)
    return "20 pushed, the one that failed again as attempt 2"


def push_fifo():
    topic = name("push-fifo")
    listener = Collector(6)
    with Sending(topic, FIFO) as producer:
        group, subscription = "g-" + topic, {topic: FilterExpression()}
        consumer = PushConsumer(configuration(FIFO), group, listener, subscription)
        consumer.startup()
        try:
            for index in range(6):
                producer.send(message(topic, str(index), group="g"))
            check(listener.done.wait(40), listener.seen)
        finally:
            consumer.shutdown()
        check([body for body, _ in listener.seen] == list("012345"), listener.seen)
    return "6 of one message group in order"


def started_reader(letters, seconds):
    """The topic of dead letters is not there before its first letter."""
    end = time.time() + seconds
    while True:
        try:
            reader = Receiving(letters, group="g-letters-" + RUN).consumer
            reader.startup()
            return reader
        except Exception:
            if time.time() > end:
                raise
            time.sleep(0.2)


def dead_letter():
    topic = name("dead")
    listener = Collector(2, fail_all=True)
    letters = "%DLQ%" + DEAD_GROUP
    with Sending(topic) as producer:
        consumer = PushConsumer(configuration(OPEN), DEAD_GROUP, listener, {topic: FilterExpression()})
        consumer.startup()
        try:
            producer.send(message(topic, "poison"))
            check(listener.done.wait(30), listener.seen)
            reader = started_reader(letters, 30)
            [(got, _)] = take(reader, 1, seconds=30)
            check(got.body == b"poison", got.body)
            reader.shutdown()
        finally:
            consumer.shutdown()
        check([attempt for _, attempt in listener.seen] == [1, 2], listener.seen)
    return "refused twice, then read from " + letters


def restart():
    topic = name("restart")
    kept, wrong, stop = [], [], threading.Event()

    def send(producer):
        index = 0
        while not stop.is_set():
            try:
                producer.send(message(topic, str(index)))
                kept.append(str(index))
            except Exception as error:
                wrong.append(error)
                time.sleep(0.1)
            index += 1

    with Sending(topic, MORTAL) as producer, Receiving(topic, MORTAL) as consumer:
        thread = threading.Thread(target=send, args=(producer,))
        thread.start()
        try:
            until(lambda: len(kept) >= 100, 20)
            print("!restart", flush=True)
            check(sys.stdin.readline(), "the server is not started again")
            before = len(kept)
            until(lambda: len(kept) >= before + 100, 60)
        finally:
            stop.set()
            thread.join()
        missing, end = set(kept), time.time() + 60
        while missing and time.time() < end:
            try:
                for got in consumer.receive(16, 15) or []:
                    missing.discard(got.body.decode())
                    consumer.ack(got)
            except Exception:
                time.sleep(0.1)
        check(not missing, f"{len(missing)} of {len(kept)} are lost")
    return f"{len(kept)} acknowledged around a kill, all received; {len(wrong)} sends failed"


def until(condition, seconds):
    end = time.time() + seconds
    while not condition():
        check(time.time() < end, f"nothing in {seconds} s")
        time.sleep(0.02)


class Checker(TransactionChecker):
    def __init__(self):
        self.asked = []

    def check(self, got):
        self.asked.append(got.body.decode())
        return TransactionResolution.COMMIT


def transaction():
    topic = name("transaction")
    checker = Checker()
    with Sending(topic, checker=checker) as producer, Receiving(topic) as consumer:
        for body in ("commit", "rollback", "orphan"):
            begun = producer.begin_transaction()
            producer.send(message(topic, body), begun)
            if body == "commit":
                begun.commit()
            elif body == "rollback":
                begun.rollback()
        taken = sorted(got.body.decode() for got, _ in take(consumer, 2, seconds=30))
        check(taken == ["commit", "orphan"] and checker.asked == ["orphan"], (taken, checker.asked))
    return "committed, rolled back, orphan committed when asked"


def tag_filter():
    topic = name("tags")
    with Sending(topic) as producer, Receiving(topic, expression=FilterExpression("a || c")) as consumer:
        for tag in "abc":
            producer.send(message(topic, tag, tag=tag))
        taken = sorted(got.body.decode() for got, _ in take(consumer, 2, seconds=6))
        check(taken == ["a", "c"], taken)
    return "a || c"


def sql_filter():
    from rocketmq.v5.model.filter_expression import FilterType

    topic = name("sql")
    expression = FilterExpression("amount > 10 AND region IS NOT NULL", FilterType.SQL)
    with Sending(topic) as producer, Receiving(topic, expression=expression) as consumer:
        for amount, region in ((5, "eu"), (15, "eu"), (25, None)):
            sent = message(topic, str(amount))
            sent.add_property("amount", str(amount))
            if region:
                sent.add_property("region", region)
            producer.send(sent)
        taken = [got.body.decode() for got, _ in take(consumer, 2, seconds=6)]
        check(taken == ["15"], taken)
    return "amount > 10 AND region IS NOT NULL"


def refused(run, words):
    try:
        run()
    except Exception as error:
        check(any(word in str(error) for word in words), error)
        return f"{type(error).__name__}: {str(error)[:80]}"
    raise AssertionError("it was not refused")


def send_once(topic, sent, endpoint=OPEN, **more):
    def run():
        with Sending(topic, endpoint, **more) as producer:
            producer.send(sent)

    return run


def unknown_topic():
    topic = name("unknown")
    return refused(send_once(topic, message(topic, "x"), STRICT), ["does not exist", "40402", "route"])


def wrong_type():
    later = int(time.time()) + 60
    return refused(send_once(NORMAL_TOPIC, message(NORMAL_TOPIC, "x", at=later), STRICT), ["type", "40014"])


def too_large():
    topic = name("large")
    return refused(send_once(topic, message(topic, b"x" * (4 * 1024 * 1024 + 1))), ["large", "exceed", "size"])


def credentials():
    topic = name("credentials")
    right = Credentials("interop", "interop-secret")
    send_once(topic, message(topic, "x"), GUARDED, credentials=right)()
    wrong = Credentials("interop", "wrong")
    return refused(
        send_once(topic, message(topic, "x"), GUARDED, credentials=wrong), ["40100", "credentials", "route"]
    )


def tls():
    topic = name("tls")
    send_once(topic, message(topic, "x"), tls=True)()
    return "verified against the server's certificate"


for feature, run in [
    ("normal", normal),
    ("delay", delay),
    ("fifo", fifo),
    ("recall", recall),
    ("redelivery", redelivery),
    ("dead letter", dead_letter),
    ("push", push),
    ("push fifo", push_fifo),
    ("transaction", transaction),
    ("tag filter", tag_filter),
    ("sql filter", sql_filter),
    ("unknown topic", unknown_topic),
    ("wrong type", wrong_type),
    ("oversized body", too_large),
    ("credentials", credentials),
    ("tls", tls),
    ("restart", restart),
]:
    report(feature, run)
sys.stdout.flush()
# The client's own threads would keep the process.
os._exit(1 if FAILED else 0)
