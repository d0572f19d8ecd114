package interop;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.function.Predicate;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientConfigurationBuilder;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.StaticSessionCredentialsProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.ProducerBuilder;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionChecker;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/** Runs the official Java client against a server; one line for each feature. */
public final class Main {
    private static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    private static final String OPEN = System.getenv("OPEN");
    private static final String FIFO = System.getenv("FIFO");
    private static final String STRICT = System.getenv("STRICT");
    private static final String GUARDED = System.getenv("GUARDED");
    private static final String MORTAL = System.getenv("MORTAL");
    private static final String DEAD_GROUP = System.getenv("DEAD_GROUP");
    private static final String NORMAL_TOPIC = System.getenv("NORMAL_TOPIC");
    private static final String RUN = UUID.randomUUID().toString().substring(0, 8);
    private static final AtomicInteger FAILED = new AtomicInteger();
    private static final ExecutorService EXECUTOR = Executors.newCachedThreadPool();

    private interface Work {
        String run() throws Exception;
    }

    private interface With<T> {
        void run(T client) throws Exception;
    }

    private record Taken(MessageView message, String body, long atMs) {}

    private static void report(String feature, Work work) {
        EXECUTOR.execute(() -> {
            long began = System.currentTimeMillis();
            try {
                String detail = work.run();
                double seconds = (System.currentTimeMillis() - began) / 1000.0;
                System.out.printf("%s\tok\t%s (%.1f s)%n", feature, detail, seconds);
            } catch (Throwable error) {
                FAILED.incrementAndGet();
                System.out.printf("%s\tFAIL\t%s%n", feature, String.valueOf(error).replace('\n', ' '));
            }
        });
    }

    private static String name(String what) {
        return "java-" + what + "-" + RUN;
    }

    private static void check(boolean condition, Object seen) {
        if (!condition) {
            throw new IllegalStateException(String.valueOf(seen));
        }
    }

    private static ClientConfiguration configuration(String endpoint, boolean tls, String secret) {
        ClientConfigurationBuilder builder =
            ClientConfiguration.newBuilder().setEndpoints(endpoint).enableSsl(tls);
        if (secret != null) {
            builder.setCredentialProvider(new StaticSessionCredentialsProvider("interop", secret));
        }
        return builder.build();
    }

    private static void sending(String endpoint, String topic, TransactionChecker checker, With<Producer> work)
        throws Exception {
        sending(configuration(endpoint, false, null), topic, checker, work);
    }

    private static void sending(
        ClientConfiguration configuration, String topic, TransactionChecker checker, With<Producer> work)
        throws Exception {
        ProducerBuilder builder = PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(topic);
        if (checker != null) {
            builder.setTransactionChecker(checker);
        }
        try (Producer producer = builder.build()) {
            work.run(producer);
        }
    }

    private static void receiving(String endpoint, String topic, FilterExpression filter, With<SimpleConsumer> work)
        throws Exception {
        receiving(endpoint, "g-" + topic, topic, filter, work);
    }

    private static void receiving(
        String endpoint, String group, String topic, FilterExpression filter, With<SimpleConsumer> work)
        throws Exception {
        try (SimpleConsumer consumer = PROVIDER.newSimpleConsumerBuilder()
            .setClientConfiguration(configuration(endpoint, false, null))
            .setConsumerGroup(group)
            .setAwaitDuration(Duration.ofSeconds(5))
            .setSubscriptionExpressions(Map.of(topic, filter))
            .build()) {
            work.run(consumer);
        }
    }

    private static Message message(String topic, String body, Consumer<MessageBuilder> change) {
        MessageBuilder builder =
            PROVIDER.newMessageBuilder().setTopic(topic).setBody(body.getBytes(StandardCharsets.UTF_8));
        change.accept(builder);
        return builder.build();
    }

    private static Message message(String topic, String body) {
        return message(topic, body, builder -> { });
    }

    private static String text(MessageView message) {
        ByteBuffer body = message.getBody();
        byte[] bytes = new byte[body.remaining()];
        body.get(bytes);
        return new String(bytes, StandardCharsets.UTF_8);
    }

    private static List<Taken> take(SimpleConsumer consumer, int count, int seconds, boolean ack) throws Exception {
        List<Taken> all = new ArrayList<>();
        long end = System.currentTimeMillis() + seconds * 1000L;
        while (all.size() < count && System.currentTimeMillis() < end) {
            for (MessageView message : consumer.receive(16, Duration.ofSeconds(15))) {
                all.add(new Taken(message, text(message), System.currentTimeMillis()));
                if (ack) {
                    consumer.ack(message);
                }
            }
        }
        return all;
    }

    private static List<String> bodies(List<Taken> all) {
        return all.stream().map(Taken::body).toList();
    }

    private static String normal() throws Exception {
        String topic = name("normal");
        sending(OPEN, topic, null, producer -> receiving(OPEN, topic, FilterExpression.SUB_ALL, consumer -> {
            for (int index = 0; index < 10; index++) {
                String number = String.valueOf(index);
                producer.send(message(topic, "body " + number,
                    builder -> builder.setTag("tag").setKeys("key-" + number).addProperty("index", number)));
            }
            List<Taken> all = take(consumer, 10, 15, true);
            check(all.size() == 10, bodies(all));
            for (Taken taken : all) {
                check(taken.message().getTag().orElse("").equals("tag")
                    && taken.message().getProperties().containsKey("index"), taken.message());
            }
            check(take(consumer, 1, 2, true).isEmpty(), "an acknowledged message came again");
        }));
        return "10 sent, received with tag, key and property, acknowledged";
    }

    private static String delay() throws Exception {
        String topic = name("delay");
        long[] late = new long[1];
        sending(OPEN, topic, null, producer -> receiving(OPEN, topic, FilterExpression.SUB_ALL, consumer -> {
            long due = System.currentTimeMillis() + 2500;
            producer.send(message(topic, "late", builder -> builder.setDeliveryTimestamp(due)));
            List<Taken> all = take(consumer, 1, 15, true);
            check(all.size() == 1, "nothing came");
            late[0] = all.get(0).atMs() - due;
            check(late[0] >= 0, "early by " + -late[0] + " ms");
        }));
        return late[0] + " ms after its time";
    }

    private static String fifo() throws Exception {
        String topic = name("fifo");
        sending(FIFO, topic, null, producer -> receiving(FIFO, topic, FilterExpression.SUB_ALL, consumer -> {
            for (int index = 0; index < 6; index++) {
                producer.send(message(topic, String.valueOf(index), builder -> builder.setMessageGroup("g")));
            }
            List<String> all = bodies(take(consumer, 6, 15, true));
            check(String.join("", all).equals("012345"), all);
        }));
        return "6 of one message group in order";
    }

    private static String recall() throws Exception {
        String topic = name("recall");
        sending(OPEN, topic, null, producer -> receiving(OPEN, topic, FilterExpression.SUB_ALL, consumer -> {
            long due = System.currentTimeMillis() + 3000;
            SendReceipt kept = producer.send(message(topic, "kept", builder -> builder.setDeliveryTimestamp(due)));
            SendReceipt gone = producer.send(message(topic, "gone", builder -> builder.setDeliveryTimestamp(due)));
            var recalled = producer.recallMessage(topic, gone.getRecallHandle());
            check(recalled.getMessageId().equals(gone.getMessageId()), recalled.getMessageId());
            List<String> all = bodies(take(consumer, 2, 8, true));
            check(all.equals(List.of("kept")), all);
            refused("too late", () -> producer.recallMessage(topic, kept.getRecallHandle()).toString());
        }));
        return "recalled one is never delivered, a delivered one is too late";
    }

    private static String redelivery() throws Exception {
        String topic = name("redelivery");
        sending(OPEN, topic, null, producer -> receiving(OPEN, topic, FilterExpression.SUB_ALL, consumer -> {
            producer.send(message(topic, "x"));
            MessageView first = take(consumer, 1, 10, false).get(0).message();
            consumer.changeInvisibleDuration(first, Duration.ofSeconds(2));
            MessageView second = take(consumer, 1, 15, true).get(0).message();
            check(second.getDeliveryAttempt() == 2, second.getDeliveryAttempt());
        }));
        return "again after the changed invisible duration, attempt 2";
    }

    /** Collects what a push consumer is given; those for which {@code fails} holds are not acknowledged. */
    private static List<String> pushed(
        String endpoint, String group, String topic, int count, Predicate<String> fails, Work work)
        throws Exception {
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(count);
        try (PushConsumer consumer = PROVIDER.newPushConsumerBuilder()
            .setClientConfiguration(configuration(endpoint, false, null))
            .setConsumerGroup(group)
            .setSubscriptionExpressions(Map.of(topic, FilterExpression.SUB_ALL))
            .setMessageListener(message -> {
                String given = text(message) + "/" + message.getDeliveryAttempt();
                seen.add(given);
                done.countDown();
                return fails.test(given) ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
            })
            .build()) {
            work.run();
            done.await(40, TimeUnit.SECONDS);
        }
        return List.copyOf(seen);
    }

    private static String push() throws Exception {
        String topic = name("push");
        sending(OPEN, topic, null, producer -> {
            List<String> seen = pushed(OPEN, "g-" + topic, topic, 21, "0/1"::equals, () -> {
                for (int index = 0; index < 20; index++) {
                    producer.send(message(topic, String.valueOf(index)));
                }
                return "";
            });
            check(seen.size() == 21 && seen.contains("0/2"), seen);
        });
        return "20 pushed, the one that failed again as attempt 2";
    }

    private static String pushFifo() throws Exception {
        String topic = name("push-fifo");
        sending(FIFO, topic, null, producer -> {
            List<String> seen = pushed(FIFO, "g-" + topic, topic, 6, given -> false, () -> {
                for (int index = 0; index < 6; index++) {
                    producer.send(message(topic, String.valueOf(index), builder -> builder.setMessageGroup("g")));
                }
                return "";
            });
            check(String.join(" ", seen).equals("0/1 1/1 2/1 3/1 4/1 5/1"), seen);
        });
        return "6 of one message group in order";
    }

    private static String deadLetter() throws Exception {
        String topic = name("dead");
        String letters = "%DLQ%" + DEAD_GROUP;
        sending(OPEN, topic, null, producer -> {
            List<String> seen = pushed(OPEN, DEAD_GROUP, topic, 2, given -> true, () -> {
                producer.send(message(topic, "poison"));
                List<String> all = new ArrayList<>();
                long end = System.currentTimeMillis() + 30_000;
                while (all.isEmpty()) {
                    try {
                        receiving(OPEN, "g-letters-" + RUN, letters, FilterExpression.SUB_ALL,
                            reader -> all.addAll(bodies(take(reader, 1, 30, true))));
                    } catch (IllegalStateException error) {
                        // The topic is not there before its first letter.
                        check(System.currentTimeMillis() < end, error);
                        Thread.sleep(200);
                    }
                }
                check(all.equals(List.of("poison")), all);
                return "";
            });
            check(seen.equals(List.of("poison/1", "poison/2")), seen);
        });
        return "refused twice, then read from " + letters;
    }

    private static void until(BooleanSupplier condition, int seconds) throws Exception {
        long end = System.currentTimeMillis() + seconds * 1000L;
        while (!condition.getAsBoolean()) {
            check(System.currentTimeMillis() < end, "nothing in " + seconds + " s");
            Thread.sleep(20);
        }
    }

    private static void send(
        Producer producer, String topic, Set<String> kept, AtomicInteger wrong, AtomicBoolean stop) {
        for (int index = 0; !stop.get(); index++) {
            String body = String.valueOf(index);
            try {
                producer.send(message(topic, body));
                kept.add(body);
            } catch (Exception error) {
                wrong.incrementAndGet();
            }
        }
    }

    /** Has the server killed under load: what it has acknowledged must be there afterwards. */
    private static String restart() throws Exception {
        String topic = name("restart");
        Set<String> kept = Collections.synchronizedSet(new HashSet<>());
        AtomicInteger wrong = new AtomicInteger();
        // Not closed: after a stream has broken this client may wait for ever for its own channel to end.
        ClientConfiguration configuration = configuration(MORTAL, false, null);
        Producer producer =
            PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(topic).build();
        SimpleConsumer consumer = PROVIDER.newSimpleConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup("g-" + topic)
            .setAwaitDuration(Duration.ofSeconds(5))
            .setSubscriptionExpressions(Map.of(topic, FilterExpression.SUB_ALL))
            .build();
        AtomicBoolean stop = new AtomicBoolean();
        Thread sends = new Thread(() -> send(producer, topic, kept, wrong, stop));
        sends.start();
        try {
            until(() -> kept.size() >= 100, 20);
            System.out.println("!restart");
            check(System.in.read() >= 0, "the server is not started again");
            int before = kept.size();
            until(() -> kept.size() >= before + 100, 60);
        } finally {
            stop.set(true);
            sends.join();
        }
        Set<String> missing = new HashSet<>(kept);
        long end = System.currentTimeMillis() + 60_000;
        while (!missing.isEmpty() && System.currentTimeMillis() < end) {
            try {
                for (MessageView message : consumer.receive(16, Duration.ofSeconds(15))) {
                    missing.remove(text(message));
                    consumer.ack(message);
                }
            } catch (ClientException error) {
                Thread.sleep(100);
            }
        }
        check(missing.isEmpty(), missing.size() + " of " + kept.size() + " are lost");
        return kept.size() + " acknowledged around a kill, all received; " + wrong + " sends failed";
    }

    private static String transaction() throws Exception {
        String topic = name("transaction");
        List<String> asked = Collections.synchronizedList(new ArrayList<>());
        TransactionChecker checker = message -> {
            asked.add(text(message));
            return TransactionResolution.COMMIT;
        };
        sending(OPEN, topic, checker, producer -> receiving(OPEN, topic, FilterExpression.SUB_ALL, consumer -> {
            for (String body : List.of("commit", "rollback", "orphan")) {
                Transaction begun = producer.beginTransaction();
                producer.send(message(topic, body), begun);
                if (body.equals("commit")) {
                    begun.commit();
                } else if (body.equals("rollback")) {
                    begun.rollback();
                }
            }
            List<String> all = bodies(take(consumer, 2, 30, true)).stream().sorted().toList();
            check(all.equals(List.of("commit", "orphan")) && asked.equals(List.of("orphan")), all + " " + asked);
        }));
        return "committed, rolled back, orphan committed when asked";
    }

    private static String tagFilter() throws Exception {
        String topic = name("tags");
        FilterExpression filter = new FilterExpression("a || c", FilterExpressionType.TAG);
        sending(OPEN, topic, null, producer -> receiving(OPEN, topic, filter, consumer -> {
            for (String tag : List.of("a", "b", "c")) {
                producer.send(message(topic, tag, builder -> builder.setTag(tag)));
            }
            List<String> all = bodies(take(consumer, 3, 6, true)).stream().sorted().toList();
            check(all.equals(List.of("a", "c")), all);
        }));
        return "a || c";
    }

    private static String sqlFilter() throws Exception {
        String topic = name("sql");
        FilterExpression filter =
            new FilterExpression("amount > 10 AND region IS NOT NULL", FilterExpressionType.SQL92);
        sending(OPEN, topic, null, producer -> receiving(OPEN, topic, filter, consumer -> {
            producer.send(message(topic, "5", builder -> builder.addProperty("amount", "5").addProperty("region", "eu")));
            producer.send(message(topic, "15", builder -> builder.addProperty("amount", "15").addProperty("region", "eu")));
            producer.send(message(topic, "25", builder -> builder.addProperty("amount", "25")));
            List<String> all = bodies(take(consumer, 3, 6, true));
            check(all.equals(List.of("15")), all);
        }));
        return "amount > 10 AND region IS NOT NULL";
    }

    private static String refused(String words, Work work) {
        try {
            work.run();
        } catch (Exception error) {
            StringBuilder all = new StringBuilder();
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                all.append(cause).append(' ');
            }
            String text = all.toString().replace('\n', ' ');
            for (String word : words.split(",")) {
                if (text.contains(word)) {
                    return text.substring(0, Math.min(text.length(), 110));
                }
            }
            throw new IllegalStateException(text);
        }
        throw new IllegalStateException("it was not refused");
    }

    private static String sendOnce(ClientConfiguration configuration, String topic, String body) throws Exception {
        sending(configuration, topic, null, producer -> producer.send(message(topic, body)));
        return "";
    }

    private static String credentials() throws Exception {
        String topic = name("credentials");
        sendOnce(configuration(GUARDED, false, "interop-secret"), topic, "x");
        return refused("40100,credentials", () -> sendOnce(configuration(GUARDED, false, "wrong"), topic, "x"));
    }

    private static String tls() throws Exception {
        String topic = name("tls");
        ClientConfiguration asItIs = ClientConfiguration.newBuilder().setEndpoints(OPEN).build();
        sendOnce(asItIs, topic, "x");
        return "the client's default";
    }

    public static void main(String[] arguments) throws Exception {
        report("normal", Main::normal);
        report("delay", Main::delay);
        report("fifo", Main::fifo);
        report("recall", Main::recall);
        report("redelivery", Main::redelivery);
        report("dead letter", Main::deadLetter);
        report("push", Main::push);
        report("push fifo", Main::pushFifo);
        report("transaction", Main::transaction);
        report("tag filter", Main::tagFilter);
        report("sql filter", Main::sqlFilter);
        report("unknown topic", () -> {
            String topic = name("unknown");
            return refused("does not exist,40402", () -> sendOnce(configuration(STRICT, false, null), topic, "x"));
        });
        report("wrong type", () -> {
            long later = System.currentTimeMillis() + 60_000;
            return refused("type,40014", () -> {
                sending(STRICT, NORMAL_TOPIC, null, producer ->
                    producer.send(message(NORMAL_TOPIC, "x", builder -> builder.setDeliveryTimestamp(later))));
                return "";
            });
        });
        report("oversized body", () -> {
            String topic = name("large");
            String large = "x".repeat(4 * 1024 * 1024 + 1);
            return refused("large,exceed", () -> sendOnce(configuration(OPEN, false, null), topic, large));
        });
        report("credentials", Main::credentials);
        report("tls", Main::tls);
        report("restart", Main::restart);
        // All at once: a push consumer takes up to a long poll to end.
        EXECUTOR.shutdown();
        EXECUTOR.awaitTermination(5, TimeUnit.MINUTES);
        System.out.flush();
        Runtime.getRuntime().halt(FAILED.get() > 0 ? 1 : 0);
    }
}
