package interop;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientConfigurationBuilder;
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
    private static final String GUARDED = System.getenv("GUARDED");
    private static final String RUN = UUID.randomUUID().toString().substring(0, 8);
    private static int failed;

    private interface Work {
        String run() throws Exception;
    }

    private interface With<T> {
        void run(T client) throws Exception;
    }

    private record Taken(MessageView message, String body, long atMs) {}

    private static void report(String feature, Work work) {
        long began = System.currentTimeMillis();
        try {
            String detail = work.run();
            double seconds = (System.currentTimeMillis() - began) / 1000.0;
            System.out.printf("%s\tok\t%s (%.1f s)%n", feature, detail, seconds);
        } catch (Throwable error) {
            failed++;
            System.out.printf("%s\tFAIL\t%s%n", feature, String.valueOf(error).replace('\n', ' '));
        }
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
        try (SimpleConsumer consumer = PROVIDER.newSimpleConsumerBuilder()
            .setClientConfiguration(configuration(endpoint, false, null))
            .setConsumerGroup("g-" + topic)
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

    private static List<String> pushed(String endpoint, String topic, int count, boolean failFirst, Work work)
        throws Exception {
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(count);
        try (PushConsumer consumer = PROVIDER.newPushConsumerBuilder()
            .setClientConfiguration(configuration(endpoint, false, null))
            .setConsumerGroup("g-" + topic)
            .setSubscriptionExpressions(Map.of(topic, FilterExpression.SUB_ALL))
            .setMessageListener(message -> {
                String body = text(message);
                seen.add(body + "/" + message.getDeliveryAttempt());
                done.countDown();
                boolean fails = failFirst && body.equals("0") && message.getDeliveryAttempt() == 1;
                return fails ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
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
            List<String> seen = pushed(OPEN, topic, 21, true, () -> {
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
            List<String> seen = pushed(FIFO, topic, 6, false, () -> {
                for (int index = 0; index < 6; index++) {
                    producer.send(message(topic, String.valueOf(index), builder -> builder.setMessageGroup("g")));
                }
                return "";
            });
            check(String.join(" ", seen).equals("0/1 1/1 2/1 3/1 4/1 5/1"), seen);
        });
        return "6 of one message group in order";
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

    public static void main(String[] arguments) {
        report("normal", Main::normal);
        report("delay", Main::delay);
        report("fifo", Main::fifo);
        report("recall", Main::recall);
        report("redelivery", Main::redelivery);
        report("push", Main::push);
        report("push fifo", Main::pushFifo);
        report("transaction", Main::transaction);
        report("tag filter", Main::tagFilter);
        report("sql filter", Main::sqlFilter);
        report("unknown topic", () -> {
            String topic = "%unknown-" + RUN;
            return refused("does not exist,40402", () -> sendOnce(configuration(OPEN, false, null), topic, "x"));
        });
        report("wrong type", () -> {
            String topic = name("wrong-type");
            return refused("type,40014", () -> sendOnce(configuration(FIFO, false, null), topic, "x"));
        });
        report("oversized body", () -> {
            String topic = name("large");
            String large = "x".repeat(4 * 1024 * 1024 + 1);
            return refused("large,exceed", () -> sendOnce(configuration(OPEN, false, null), topic, large));
        });
        report("credentials", Main::credentials);
        report("tls", Main::tls);
        System.out.flush();
        Runtime.getRuntime().halt(failed > 0 ? 1 : 0);
    }
}
