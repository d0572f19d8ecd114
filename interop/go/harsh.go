package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// deadLetter never acknowledges a message: after the second delivery its group has given it up.
func deadLetter() (string, error) {
	topic, group := name("dead"), os.Getenv("DEAD_GROUP")
	letters := "%DLQ%" + group
	err := sending(open, topic, "", nil, func(producer rmq.Producer) error {
		if _, err := send(producer, topic, "poison", nil); err != nil {
			return err
		}
		return receivingIn(open, group, topic, rmq.SUB_ALL, func(consumer rmq.SimpleConsumer) error {
			for attempt := int32(1); attempt <= 2; attempt++ {
				all, err := take(consumer, 1, 15*time.Second, false)
				if err != nil || len(all) != 1 {
					return fmt.Errorf("delivery %d: %v %v", attempt, bodies(all), err)
				}
				if err := check(all[0].message.GetDeliveryAttempt() == attempt, all[0].message.GetDeliveryAttempt()); err != nil {
					return err
				}
				if err := consumer.ChangeInvisibleDuration(all[0].message, time.Second); err != nil {
					return err
				}
			}
			again, err := take(consumer, 1, 4*time.Second, false)
			if err != nil || len(again) != 0 {
				return fmt.Errorf("after the last delivery: %v %v", bodies(again), err)
			}
			return receivingIn(open, "g-letters-"+run, letters, rmq.SUB_ALL, func(reader rmq.SimpleConsumer) error {
				all, err := take(reader, 1, 30*time.Second, true)
				if err != nil {
					return err
				}
				return check(strings.Join(bodies(all), " ") == "poison", bodies(all))
			})
		})
	})
	return "given up after two deliveries, then read from " + letters, err
}

// load is what a sender has got through, and what it has not.
type load struct {
	lock  sync.Mutex
	kept  map[string]bool
	wrong int
}

func (l *load) counts() (kept, wrong int) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return len(l.kept), l.wrong
}

func (l *load) send(producer rmq.Producer, topic string, stop context.Context) {
	for index := 0; stop.Err() == nil; index++ {
		body := fmt.Sprint(index)
		_, err := send(producer, topic, body, nil)
		l.lock.Lock()
		if err == nil {
			l.kept[body] = true
		} else {
			l.wrong++
		}
		l.lock.Unlock()
		if err != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func until(wait time.Duration, condition func() bool) error {
	for end := time.Now().Add(wait); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return errors.New(fmt.Sprint("nothing in ", wait))
		}
	}
	return nil
}

// restart has the server killed under load: what it has acknowledged must be there afterwards.
func restart() (string, error) {
	topic := name("restart")
	load := &load{kept: map[string]bool{}}
	err := both(mortal, topic, rmq.SUB_ALL, func(producer rmq.Producer, consumer rmq.SimpleConsumer) error {
		stop, end := context.WithCancel(context.Background())
		var sends sync.WaitGroup
		sends.Add(1)
		go func() {
			defer sends.Done()
			load.send(producer, topic, stop)
		}()
		err := surviveKill(load)
		end()
		sends.Wait()
		if err != nil {
			return err
		}
		return receiveAll(consumer, load)
	})
	kept, wrong := load.counts()
	return fmt.Sprintf("%d acknowledged around a kill, all received; %d sends failed", kept, wrong), err
}

func surviveKill(load *load) error {
	if err := until(20*time.Second, func() bool { kept, _ := load.counts(); return kept >= 100 }); err != nil {
		return err
	}
	fmt.Println("!restart")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	before, _ := load.counts()
	return until(60*time.Second, func() bool { kept, _ := load.counts(); return kept >= before+100 })
}

func receiveAll(consumer rmq.SimpleConsumer, load *load) error {
	missing := map[string]bool{}
	for body := range load.kept {
		missing[body] = true
	}
	for end := time.Now().Add(60 * time.Second); len(missing) > 0 && time.Now().Before(end); {
		messages, err := consumer.Receive(context.Background(), 16, 15*time.Second)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		for _, message := range messages {
			delete(missing, string(message.GetBody()))
			// A failed acknowledgement only makes the message come again.
			_ = consumer.Ack(context.Background(), message)
		}
	}
	return check(len(missing) == 0, len(missing), " of ", len(load.kept), " are lost")
}
