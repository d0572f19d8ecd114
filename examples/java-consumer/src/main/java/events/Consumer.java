package events;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/**
 * Prints the events of Duetime's order platform, with the official RocketMQ 5 client.
 *
 * <p>One argument, a number, ends it after so many events; without one it runs until Ctrl-C. DUETIME_ENDPOINT is
 * where RocketMQ clients connect, 127.0.0.1:8081 by default; DUETIME_GROUP is the consumer group,
 * order-events-java by default.
 */
public final class Consumer {
    private static final String TOPIC = "duetime-order-events";

    public static void main(String[] arguments) throws Exception {
        int count = arguments.length > 0 ? Integer.parseInt(arguments[0]) : Integer.MAX_VALUE;
        String endpoint = System.getenv().getOrDefault("DUETIME_ENDPOINT", "127.0.0.1:8081");
        String group = System.getenv().getOrDefault("DUETIME_GROUP", "order-events-java");
        Set<String> seen = ConcurrentHashMap.newKeySet();
        CountDownLatch left = new CountDownLatch(count);
        ClientServiceProvider provider = ClientServiceProvider.loadService();
        // SUB_ALL takes all events; new FilterExpression("order.paid || order.closed") only these.
        try (PushConsumer consumer = provider.newPushConsumerBuilder()
            .setClientConfiguration(ClientConfiguration.newBuilder().setEndpoints(endpoint).build())
            .setConsumerGroup(group)
            .setSubscriptionExpressions(Map.of(TOPIC, FilterExpression.SUB_ALL))
            .setMessageListener(message -> {
                // The message id is the event's: the same when an event is delivered again.
                if (seen.add(message.getMessageId().toString())) {
                    System.out.println(line(message));
                    left.countDown();
                }
                // FAILURE would have it delivered again after the group's back-off, before later events of the order.
                return ConsumeResult.SUCCESS;
            })
            .build()) {
            left.await();
        }
    }

    /** The kind of the event, the order it is about, and the CloudEvent in JSON. */
    private static String line(MessageView message) {
        String kind = message.getTag().orElse("");
        String subject = String.join(" ", message.getKeys());
        return kind + " " + subject + " " + StandardCharsets.UTF_8.decode(message.getBody());
    }

    private Consumer() {}
}
