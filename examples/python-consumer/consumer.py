"""Prints the events of Duetime's order platform, with the official RocketMQ 5 client.

    pip install -r requirements.txt
    python consumer.py [COUNT]        ends after COUNT events; without it, runs until Ctrl-C

DUETIME_ENDPOINT is where RocketMQ clients connect, 127.0.0.1:8081 by default; DUETIME_GROUP is the consumer
group, order-events-python by default.
"""

import json
import os
import sys
import threading

from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    MessageListener,
    PushConsumer,
)

TOPIC = "duetime-order-events"
ENDPOINT = os.environ.get("DUETIME_ENDPOINT", "127.0.0.1:8081")
GROUP = os.environ.get("DUETIME_GROUP", "order-events-python")
COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else None


class PrintEvents(MessageListener):
    def __init__(self):
        self.lock = threading.Lock()
        self.seen = set()
        self.finished = threading.Event()

    def consume(self, message):
        # The body is a CloudEvent. Its id is the same when an event is delivered again, so a consumer can skip it.
        event = json.loads(message.body)
        # Events of different orders arrive on several threads.
        with self.lock:
            if event["id"] not in self.seen:
                self.seen.add(event["id"])
                print(event["time"], event["type"], event["subject"], event["data"].get("state", ""), flush=True)
            if COUNT is not None and len(self.seen) >= COUNT:
                self.finished.set()
        # FAILURE would have it delivered again after the group's back-off, before later events of the same order.
        return ConsumeResult.SUCCESS


def main():
    listener = PrintEvents()
    # An empty tag expression takes all events; FilterExpression("order.paid || order.closed") only these.
    consumer = PushConsumer(
        ClientConfiguration(ENDPOINT, Credentials()), GROUP, listener, {TOPIC: FilterExpression()}
    )
    consumer.startup()
    try:
        listener.finished.wait()
    except KeyboardInterrupt:
        pass
    finally:
        consumer.shutdown()


if __name__ == "__main__":
    main()
