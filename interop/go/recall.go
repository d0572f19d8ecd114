package main

import (
	"context"
	"strings"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// recallBoth recalls one message before its time and tries to recall another after it.
func recallBoth(producer rmq.Producer, consumer rmq.SimpleConsumer, topic string, kept, gone *rmq.SendReceipt) error {
	if err := check(gone.RecallHandle != "", "no recall handle"); err != nil {
		return err
	}
	if _, err := producer.Recall(context.Background(), topic, gone.RecallHandle); err != nil {
		return err
	}
	all, err := take(consumer, 2, 8*time.Second, true)
	if err != nil {
		return err
	}
	if err := check(strings.Join(bodies(all), " ") == "kept", bodies(all)); err != nil {
		return err
	}
	_, err = producer.Recall(context.Background(), topic, kept.RecallHandle)
	_, err = refused(err, "too late")
	return err
}
