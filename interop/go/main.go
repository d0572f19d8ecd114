// Command interop runs the official Go client against a server; one line for each feature.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

var (
	open    = os.Getenv("OPEN")
	fifo    = os.Getenv("FIFO")
	strict  = os.Getenv("STRICT")
	guarded = os.Getenv("GUARDED")
	mortal  = os.Getenv("MORTAL")
	run     = fmt.Sprintf("%08x", rand.Uint32())
	failed  = 0
)

func name(what string) string { return "go-" + what + "-" + run }

func report(feature string, work func() (string, error)) {
	began := time.Now()
	detail, err := work()
	if err != nil {
		failed++
		fmt.Printf("%s\tFAIL\t%s\n", feature, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Printf("%s\tok\t%s (%.1f s)\n", feature, detail, time.Since(began).Seconds())
}

func config(endpoint, group, secret string) *rmq.Config {
	account := &credentials.SessionCredentials{}
	if secret != "" {
		account = &credentials.SessionCredentials{AccessKey: "interop", AccessSecret: secret}
	}
	return &rmq.Config{Endpoint: endpoint, ConsumerGroup: group, Credentials: account}
}

func sending(endpoint, topic, secret string, checker *rmq.TransactionChecker, work func(rmq.Producer) error) error {
	options := []rmq.ProducerOption{rmq.WithTopics(topic)}
	if checker != nil {
		options = append(options, rmq.WithTransactionChecker(checker))
	}
	producer, err := rmq.NewProducer(config(endpoint, "", secret), options...)
	if err != nil {
		return err
	}
	if err := producer.Start(); err != nil {
		return err
	}
	defer producer.GracefulStop()
	return work(producer)
}

func receiving(endpoint, topic string, filter *rmq.FilterExpression, work func(rmq.SimpleConsumer) error) error {
	return receivingIn(endpoint, "g-"+topic, topic, filter, work)
}

func receivingIn(endpoint, group, topic string, filter *rmq.FilterExpression, work func(rmq.SimpleConsumer) error) error {
	consumer, err := rmq.NewSimpleConsumer(config(endpoint, group, ""),
		rmq.WithAwaitDuration(5*time.Second),
		rmq.WithSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: filter}))
	if err != nil {
		return err
	}
	if err := consumer.Start(); err != nil {
		return err
	}
	defer consumer.GracefulStop()
	return work(consumer)
}

func both(endpoint, topic string, filter *rmq.FilterExpression, work func(rmq.Producer, rmq.SimpleConsumer) error) error {
	return sending(endpoint, topic, "", nil, func(producer rmq.Producer) error {
		return receiving(endpoint, topic, filter, func(consumer rmq.SimpleConsumer) error { return work(producer, consumer) })
	})
}

type taken struct {
	message *rmq.MessageView
	at      time.Time
}

func take(consumer rmq.SimpleConsumer, count int, wait time.Duration, ack bool) ([]taken, error) {
	var all []taken
	for end := time.Now().Add(wait); len(all) < count && time.Now().Before(end); {
		messages, err := consumer.Receive(context.Background(), 16, 15*time.Second)
		var status *rmq.ErrRpcStatus
		if errors.As(err, &status) && status.Code == 40401 {
			continue
		}
		if err != nil {
			return all, err
		}
		for _, message := range messages {
			all = append(all, taken{message, time.Now()})
			if ack {
				if err := consumer.Ack(context.Background(), message); err != nil {
					return all, err
				}
			}
		}
	}
	return all, nil
}

func bodies(all []taken) []string {
	var list []string
	for _, each := range all {
		list = append(list, string(each.message.GetBody()))
	}
	return list
}

func check(condition bool, seen ...any) error {
	if condition {
		return nil
	}
	return errors.New(fmt.Sprint(seen...))
}

func send(producer rmq.Producer, topic, body string, change func(*rmq.Message)) (*rmq.SendReceipt, error) {
	message := &rmq.Message{Topic: topic, Body: []byte(body)}
	if change != nil {
		change(message)
	}
	receipts, err := producer.Send(context.Background(), message)
	if err != nil {
		return nil, err
	}
	return receipts[0], nil
}

func normal() (string, error) {
	topic := name("normal")
	return "10 sent, received with tag, key and property, acknowledged", both(open, topic, rmq.SUB_ALL,
		func(producer rmq.Producer, consumer rmq.SimpleConsumer) error {
			for index := 0; index < 10; index++ {
				_, err := send(producer, topic, fmt.Sprint("body ", index), func(message *rmq.Message) {
					message.SetTag("tag")
					message.SetKeys(fmt.Sprint("key-", index))
					message.AddProperty("index", fmt.Sprint(index))
				})
				if err != nil {
					return err
				}
			}
			all, err := take(consumer, 10, 15*time.Second, true)
			if err != nil {
				return err
			}
			if err := check(len(all) == 10, bodies(all)); err != nil {
				return err
			}
			for _, each := range all {
				tag := each.message.GetTag()
				if err := check(tag != nil && *tag == "tag" && each.message.GetProperties()["index"] != "", "properties"); err != nil {
					return err
				}
			}
			again, err := take(consumer, 1, 2*time.Second, true)
			if err != nil {
				return err
			}
			return check(len(again) == 0, "an acknowledged message came again")
		})
}

func delay() (detail string, err error) {
	topic := name("delay")
	err = both(open, topic, rmq.SUB_ALL, func(producer rmq.Producer, consumer rmq.SimpleConsumer) error {
		due := time.Now().Add(2500 * time.Millisecond)
		if _, err := send(producer, topic, "late", func(message *rmq.Message) { message.SetDelayTimestamp(due) }); err != nil {
			return err
		}
		all, err := take(consumer, 1, 15*time.Second, true)
		if err != nil {
			return err
		}
		if err := check(len(all) == 1, "nothing came"); err != nil {
			return err
		}
		late := all[0].at.Sub(due)
		detail = fmt.Sprintf("%d ms after its time", late.Milliseconds())
		return check(late >= 0, "early: ", late)
	})
	return detail, err
}

func ordered() (string, error) {
	topic := name("fifo")
	return "6 of one message group in order", both(fifo, topic, rmq.SUB_ALL,
		func(producer rmq.Producer, consumer rmq.SimpleConsumer) error {
			for index := 0; index < 6; index++ {
				_, err := send(producer, topic, fmt.Sprint(index), func(message *rmq.Message) { message.SetMessageGroup("g") })
				if err != nil {
					return err
				}
			}
			all, err := take(consumer, 6, 15*time.Second, true)
			if err != nil {
				return err
			}
			return check(strings.Join(bodies(all), "") == "012345", bodies(all))
		})
}

func redelivery() (string, error) {
	topic := name("redelivery")
	return "again after the changed invisible duration, attempt 2", both(open, topic, rmq.SUB_ALL,
		func(producer rmq.Producer, consumer rmq.SimpleConsumer) error {
			if _, err := send(producer, topic, "x", nil); err != nil {
				return err
			}
			first, err := take(consumer, 1, 10*time.Second, false)
			if err != nil || len(first) != 1 {
				return fmt.Errorf("first delivery: %v %v", len(first), err)
			}
			if err := consumer.ChangeInvisibleDuration(first[0].message, 2*time.Second); err != nil {
				return err
			}
			second, err := take(consumer, 1, 15*time.Second, true)
			if err != nil || len(second) != 1 {
				return fmt.Errorf("second delivery: %v %v", len(second), err)
			}
			return check(second[0].message.GetDeliveryAttempt() == 2, second[0].message.GetDeliveryAttempt())
		})
}

func transaction() (string, error) {
	topic := name("transaction")
	var lock sync.Mutex
	var asked []string
	checker := &rmq.TransactionChecker{Check: func(message *rmq.MessageView) rmq.TransactionResolution {
		lock.Lock()
		defer lock.Unlock()
		asked = append(asked, string(message.GetBody()))
		return rmq.COMMIT
	}}
	return "committed, rolled back, orphan committed when asked", sending(open, topic, "", checker, func(producer rmq.Producer) error {
		return receiving(open, topic, rmq.SUB_ALL, func(consumer rmq.SimpleConsumer) error {
			for _, body := range []string{"commit", "rollback", "orphan"} {
				begun := producer.BeginTransaction()
				message := &rmq.Message{Topic: topic, Body: []byte(body)}
				if _, err := producer.SendWithTransaction(context.Background(), message, begun); err != nil {
					return err
				}
				var err error
				switch body {
				case "commit":
					err = begun.Commit()
				case "rollback":
					err = begun.RollBack()
				}
				if err != nil {
					return err
				}
			}
			all, err := take(consumer, 2, 30*time.Second, true)
			if err != nil {
				return err
			}
			got := bodies(all)
			sort.Strings(got)
			lock.Lock()
			defer lock.Unlock()
			return check(strings.Join(got, " ") == "commit orphan" && strings.Join(asked, " ") == "orphan", got, asked)
		})
	})
}

func filtered(filter *rmq.FilterExpression, topic, expected string, messages []func(*rmq.Message)) error {
	return both(open, topic, filter, func(producer rmq.Producer, consumer rmq.SimpleConsumer) error {
		for index, change := range messages {
			if _, err := send(producer, topic, fmt.Sprint(index), change); err != nil {
				return err
			}
		}
		all, err := take(consumer, 3, 6*time.Second, true)
		if err != nil {
			return err
		}
		got := bodies(all)
		sort.Strings(got)
		return check(strings.Join(got, " ") == expected, got)
	})
}

func tagFilter() (string, error) {
	tag := func(tag string) func(*rmq.Message) { return func(message *rmq.Message) { message.SetTag(tag) } }
	return "a || c", filtered(rmq.NewFilterExpression("a || c"), name("tags"), "0 2",
		[]func(*rmq.Message){tag("a"), tag("b"), tag("c")})
}

func sqlFilter() (string, error) {
	with := func(pairs ...string) func(*rmq.Message) {
		return func(message *rmq.Message) {
			for index := 0; index < len(pairs); index += 2 {
				message.AddProperty(pairs[index], pairs[index+1])
			}
		}
	}
	expression := "amount > 10 AND region IS NOT NULL"
	return expression, filtered(rmq.NewFilterExpressionWithType(expression, rmq.SQL92), name("sql"), "1",
		[]func(*rmq.Message){with("amount", "5", "region", "eu"), with("amount", "15", "region", "eu"), with("amount", "25")})
}

func refused(err error, words ...string) (string, error) {
	if err == nil {
		return "", errors.New("it was not refused")
	}
	for _, word := range words {
		if strings.Contains(err.Error(), word) {
			text := strings.ReplaceAll(err.Error(), "\n", " ")
			return text[:min(len(text), 100)], nil
		}
	}
	return "", err
}

func sendOnce(endpoint, topic, body, secret string) error {
	return sending(endpoint, topic, secret, nil, func(producer rmq.Producer) error {
		_, err := send(producer, topic, body, nil)
		return err
	})
}

func credential() (string, error) {
	topic := name("credentials")
	if err := sendOnce(guarded, topic, "x", "interop-secret"); err != nil {
		return "", err
	}
	return refused(sendOnce(guarded, topic, "x", "wrong"), "40100", "credentials", "UNAUTHORIZED")
}

// tls is what this client uses all the time: it offers no clear text.
func tls() (string, error) {
	return "the client's default, here for everything", sendOnce(open, name("tls"), "x", "")
}

func wrongType() (string, error) {
	topic := os.Getenv("NORMAL_TOPIC")
	err := sending(strict, topic, "", nil, func(producer rmq.Producer) error {
		_, err := send(producer, topic, "x", func(message *rmq.Message) { message.SetDelayTimestamp(time.Now().Add(time.Minute)) })
		return err
	})
	return refused(err, "type", "40014")
}

func main() {
	rmq.ResetLogger()
	for _, each := range []struct {
		feature string
		work    func() (string, error)
	}{
		{"normal", normal}, {"delay", delay}, {"fifo", ordered}, {"redelivery", redelivery}, {"dead letter", deadLetter},
		{"transaction", transaction}, {"tag filter", tagFilter}, {"sql filter", sqlFilter},
		{"unknown topic", func() (string, error) {
			return refused(sendOnce(strict, name("unknown"), "x", ""), "does not exist", "40402", "TOPIC_NOT_FOUND")
		}},
		{"wrong type", wrongType},
		{"oversized body", func() (string, error) {
			return refused(sendOnce(open, name("large"), strings.Repeat("x", 4*1024*1024+1), ""), "large", "exceed", "size")
		}},
		{"credentials", credential}, {"tls", tls}, {"restart", restart},
	} {
		report(each.feature, each.work)
	}
	for _, feature := range []string{"recall", "push", "push fifo"} {
		fmt.Printf("%s\tnone\tnot in this version of the client\n", feature)
	}
	if failed > 0 {
		os.Exit(1)
	}
}
