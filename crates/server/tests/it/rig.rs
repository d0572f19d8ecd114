//! Provides a front end on a port of its own, over a broker whose clock is moved by hand.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use broker::clock::{Clock as _, ManualClock};
use broker::{Broker, BrokerConfig, NewMessage, TopicKind, TopicSpec};
use grpc_api::v2::messaging_service_client::MessagingServiceClient;
use grpc_api::v2::receive_message_response::Content;
use grpc_api::v2::settings::PubSub;
use grpc_api::v2::telemetry_command::Command;
use grpc_api::v2::{
    self, AckMessageEntry, AckMessageRequest, ClientType, FilterExpression, Language, Message,
    MessageQueue, Publishing, ReceiveMessageRequest, Resource, SendMessageRequest,
    SendMessageResponse, SendResultEntry, Settings, Status, Subscription, SubscriptionEntry,
    SystemProperties, TelemetryCommand, Ua,
};
use grpc_api::{Duration, Timestamp};
use server::Tls;
use server::grpc::{Access, Grpc, GrpcConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

/// A topic whose messages are not read.
const SCRATCH: &str = "scratch";

/// The instant at which every test begins.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

pub(crate) type Client = MessagingServiceClient<Channel>;

/// A running front end.
pub(crate) struct Rig {
    pub(crate) clock: ManualClock,
    pub(crate) broker: Broker,
    pub(crate) grpc: Grpc,
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

fn connect(address: SocketAddr) -> Client {
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
    MessagingServiceClient::new(channel.connect_lazy())
}

/// The configuration of a rig.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) config: GrpcConfig,
    pub(crate) access: Option<Access>,
    pub(crate) tls: Option<Tls>,
    pub(crate) broker: BrokerConfig,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(Plan::default()).await
    }

    pub(crate) async fn with(plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(START_MS);
        let mut settings = plan.broker;
        settings.engine.limits.free_bytes_reserve = 0;
        let broker =
            Broker::open_with_clock(folder.path(), settings, Arc::new(clock.clone())).unwrap();
        let scratch = TopicSpec::new(SCRATCH, TopicKind::Normal);
        broker.create_topic(scratch).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = GrpcConfig {
            listen: address,
            ..plan.config
        };
        let grpc = Grpc::new(broker.clone(), config, plan.access.unwrap_or(Access::Open));
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(grpc.clone().run(listener, plan.tls, async {
            drop(stopped.await);
        }));
        let client = connect(address);
        Self {
            clock,
            broker,
            grpc,
            address,
            client,
            stop,
            running,
            _folder: folder,
        }
    }

    /// Returns a client with a connection of its own.
    pub(crate) fn connect(&self) -> Client {
        connect(self.address)
    }

    /// Moves the clock to an instant, and waits until the broker has stored that it reached it.
    pub(crate) async fn advance_to(&self, at_ms: u64) {
        self.clock.advance_to(at_ms);
        self.broker
            .send(SCRATCH, NewMessage::default())
            .await
            .unwrap();
    }

    /// Moves the clock forward.
    pub(crate) async fn advance(&self, ms: u64) {
        self.advance_to(self.clock.now_ms() + ms).await;
    }

    pub(crate) async fn topic(&self, name: &str, kind: TopicKind) {
        let spec = TopicSpec::new(name, kind).with_queues(4);
        self.broker.create_topic(spec).await.unwrap();
    }

    /// Stops the front end and waits until it has ended.
    pub(crate) async fn stop(self) {
        drop(self.client);
        self.stop
            .send(())
            .expect("the front end runs until it is stopped");
        self.running.await.unwrap();
        self.broker.shutdown().await;
    }

    /// Sends one message, and returns its outcome.
    pub(crate) async fn send(&self, message: Message) -> SendResultEntry {
        let answer = self.send_all(vec![message]).await;
        assert_eq!(answer.entries.len(), 1, "{answer:?}");
        assert_eq!(answer.status, answer.entries[0].status);
        answer.entries.into_iter().next().unwrap()
    }

    pub(crate) async fn send_all(&self, messages: Vec<Message>) -> SendMessageResponse {
        let request = from("producer", SendMessageRequest { messages });
        let answer = self.client.clone().send_message(request).await;
        // A message sent now is due a moment later.
        self.advance(1).await;
        answer.unwrap().into_inner()
    }

    /// Receives as a simple consumer that does not wait.
    pub(crate) async fn receive(&self, topic: &str, group: &str) -> Vec<Message> {
        let (status, messages) = self.poll(simple(topic, group)).await;
        let expected = if messages.is_empty() { 40401 } else { 20000 };
        assert_eq!(status.code, expected, "{status:?}");
        messages
    }

    /// Receives, and checks the form of the answer.
    pub(crate) async fn poll(&self, request: ReceiveMessageRequest) -> (Status, Vec<Message>) {
        self.poll_from("consumer", request).await
    }

    pub(crate) async fn poll_from(
        &self,
        client_id: &str,
        request: ReceiveMessageRequest,
    ) -> (Status, Vec<Message>) {
        let answer = self
            .client
            .clone()
            .receive_message(from(client_id, request))
            .await;
        read(answer.unwrap().into_inner()).await
    }

    pub(crate) async fn ack(&self, topic: &str, group: &str, message: &Message) -> i32 {
        let request = AckMessageRequest {
            group: resource(group),
            topic: resource(topic),
            entries: vec![AckMessageEntry {
                message_id: system(message).message_id.clone(),
                receipt_handle: handle(message),
                lite_topic: None,
            }],
        };
        let answer = self
            .client
            .clone()
            .ack_message(from("consumer", request))
            .await;
        let answer = answer.unwrap().into_inner();
        assert_eq!(answer.status, answer.entries[0].status);
        code(answer.status.as_ref())
    }

    /// Opens the stream of a client and sends its settings.
    pub(crate) async fn introduce(&self, client_id: &str, settings: Settings) -> TelemetryStream {
        let (requests, requests_out) = mpsc::channel(8);
        let requests_out = tokio_stream::wrappers::ReceiverStream::new(requests_out);
        let commands = self
            .client
            .clone()
            .telemetry(from(client_id, requests_out))
            .await;
        let mut stream = TelemetryStream {
            requests,
            commands: commands.unwrap().into_inner(),
        };
        stream.send(settings).await;
        stream
    }
}

/// The stream of a client.
pub(crate) struct TelemetryStream {
    pub(crate) requests: mpsc::Sender<TelemetryCommand>,
    pub(crate) commands: Streaming<TelemetryCommand>,
}

impl TelemetryStream {
    pub(crate) async fn send(&mut self, settings: Settings) {
        let command = TelemetryCommand {
            status: None,
            command: Some(Command::Settings(settings)),
        };
        // A refused stream has already ended.
        drop(self.requests.send(command).await);
    }

    pub(crate) async fn receive(&mut self) -> TelemetryCommand {
        self.commands
            .message()
            .await
            .unwrap()
            .expect("the stream is open")
    }

    pub(crate) async fn settings(&mut self) -> Settings {
        let command = self.receive().await;
        assert_eq!(code(command.status.as_ref()), 20000);
        match command.command {
            Some(Command::Settings(settings)) => settings,
            other => panic!("settings were expected, not {other:?}"),
        }
    }
}

/// A request with the headers clients send.
pub(crate) fn from<T>(client_id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("x-mq-client-id", client_id.parse().unwrap());
    metadata.insert("x-mq-protocol", "v2".parse().unwrap());
    request
}

pub(crate) async fn read(
    mut stream: Streaming<v2::ReceiveMessageResponse>,
) -> (Status, Vec<Message>) {
    let mut contents = Vec::new();
    while let Some(item) = stream.message().await.unwrap() {
        contents.push(item.content.unwrap());
    }
    let mut contents = contents.into_iter();
    let Some(Content::Status(status)) = contents.next() else {
        panic!("the status comes first");
    };
    let mut messages = Vec::new();
    let mut delivered = false;
    for content in contents {
        match content {
            Content::Message(message) => messages.push(message),
            Content::DeliveryTimestamp(_) => delivered = true,
            Content::Status(status) => panic!("a second status: {status:?}"),
        }
    }
    assert!(delivered || status.code != 20000);
    (status, messages)
}

pub(crate) fn resource(name: &str) -> Option<Resource> {
    Some(Resource {
        resource_namespace: String::new(),
        name: name.to_owned(),
    })
}

pub(crate) fn message(topic: &str, id: &str) -> Message {
    Message {
        topic: resource(topic),
        user_properties: HashMap::new(),
        system_properties: Some(SystemProperties {
            message_id: id.to_owned(),
            born_host: "host-of-producer".to_owned(),
            born_timestamp: Some(at(START_MS - 5)),
            ..SystemProperties::default()
        }),
        body: format!("body of {id}").into(),
    }
}

/// The same, changed.
pub(crate) fn message_with(
    topic: &str,
    id: &str,
    change: impl FnOnce(&mut SystemProperties),
) -> Message {
    let mut message = message(topic, id);
    change(message.system_properties.as_mut().unwrap());
    message
}

pub(crate) fn delayed(topic: &str, id: &str, due_ms: u64) -> Message {
    message_with(topic, id, |system| {
        system.delivery_timestamp = Some(at(due_ms));
    })
}

pub(crate) fn simple(topic: &str, group: &str) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        group: resource(group),
        message_queue: Some(MessageQueue {
            topic: resource(topic),
            ..MessageQueue::default()
        }),
        batch_size: 32,
        invisible_duration: Some(span(30_000)),
        long_polling_timeout: Some(span(0)),
        ..ReceiveMessageRequest::default()
    }
}

pub(crate) fn push(topic: &str, group: &str) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        auto_renew: true,
        invisible_duration: None,
        ..simple(topic, group)
    }
}

pub(crate) fn filter(kind: v2::FilterType, expression: &str) -> Option<FilterExpression> {
    Some(FilterExpression {
        r#type: kind.into(),
        expression: expression.to_owned(),
    })
}

pub(crate) fn producer_settings(topic: &str) -> Settings {
    Settings {
        client_type: Some(ClientType::Producer.into()),
        pub_sub: Some(PubSub::Publishing(Publishing {
            topics: resource(topic).into_iter().collect(),
            ..Publishing::default()
        })),
        user_agent: Some(Ua {
            language: Language::Java.into(),
            version: "5.2.0".into(),
            hostname: "here".into(),
            ..Ua::default()
        }),
        ..Settings::default()
    }
}

pub(crate) fn consumer_settings(kind: ClientType, topic: &str, group: &str) -> Settings {
    Settings {
        client_type: Some(kind.into()),
        pub_sub: Some(PubSub::Subscription(Subscription {
            group: resource(group),
            subscriptions: vec![SubscriptionEntry {
                topic: resource(topic),
                expression: filter(v2::FilterType::Tag, "*"),
            }],
            ..Subscription::default()
        })),
        ..producer_settings(topic)
    }
}

pub(crate) fn at(ms: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(ms / 1_000).unwrap(),
        nanos: i32::try_from(ms % 1_000).unwrap() * 1_000_000,
    }
}

pub(crate) fn span(ms: u64) -> Duration {
    let at = at(ms);
    Duration {
        seconds: at.seconds,
        nanos: at.nanos,
    }
}

pub(crate) fn system(message: &Message) -> &SystemProperties {
    message.system_properties.as_ref().unwrap()
}

pub(crate) fn handle(message: &Message) -> String {
    system(message).receipt_handle.clone().unwrap()
}

pub(crate) fn ids(messages: &[Message]) -> Vec<&str> {
    let ids = messages
        .iter()
        .map(|message| system(message).message_id.as_str());
    ids.collect()
}

pub(crate) fn code(status: Option<&Status>) -> i32 {
    status.expect("every answer has a status").code
}
