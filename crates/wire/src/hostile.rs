//! Tries every decoder on hostile input.

use bytes::{Bytes, BytesMut};
use fuzz::Target;

use crate::batch::{self, BatchMessage};
use crate::body::{self, Heartbeat, QueueSet, TopicRoute};
use crate::frame::Frame;
use crate::header::{Header, Serialization};
use crate::message_id::OffsetMessageId;
use crate::properties;
use crate::request::{EndTransaction, Pull, SendMessage};
use crate::stored_message::StoredMessage;
use crate::stored_message::tests::message;

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");
const FRAME_BYTES_MAX: usize = 16 * 1_024;

fn frame(serialization: Serialization) -> Vec<u8> {
    let mut header = Header::request(310, 7).with_remark("why");
    for (name, value) in [
        ("a", "g"),
        ("b", "t"),
        ("e", "-1"),
        ("i", "TAGS\u{1}a\u{2}"),
    ] {
        header.fields.set(name, value);
    }
    let frame = Frame {
        header,
        body: Bytes::from_static(b"body"),
        serialization,
    };
    let mut buffer = BytesMut::new();
    frame.encode(&mut buffer).expect("it can be written");
    buffer.to_vec()
}

#[test]
fn frames() {
    let target = Target::new(MANIFEST, "frame")
        .seed(frame(Serialization::Json))
        .seed(frame(Serialization::Binary))
        .tokens(&[
            "\"extFields\":{",
            "\"code\":",
            "\"opaque\":",
            "null",
            "1e999",
            "\\u0000",
        ]);
    target.check(|bytes| {
        let mut buffer = BytesMut::from(bytes);
        while let Ok(Some(frame)) = Frame::decode(&mut buffer, FRAME_BYTES_MAX) {
            let fields = &frame.header.fields;
            let _ = SendMessage::read(frame.header.code, fields);
            let _ = Pull::read(fields);
            let _ = EndTransaction::read(fields);
            let _ = crate::signed_content(&frame);
            let mut again = BytesMut::new();
            if frame.serialization == Serialization::Json {
                frame
                    .encode(&mut again)
                    .expect("what was read can be written");
            }
        }
    });
}

#[test]
fn stored_messages() {
    let message = message("orders".to_owned());
    let mut buffer = BytesMut::new();
    message.encode(&mut buffer).expect("it can be written");
    let target = Target::new(MANIFEST, "stored-message").seed(buffer.to_vec());
    target.check(|bytes| {
        let read = StoredMessage::decode_all(&Bytes::copy_from_slice(bytes));
        for message in read.unwrap_or_default() {
            let _ = message.property("TAGS");
        }
    });
}

#[test]
fn batches() {
    let message = BatchMessage {
        flag: 0,
        body: Bytes::from_static(b"pay"),
        properties: "UNIQ_KEY\u{1}a\u{2}".to_owned(),
    };
    let bytes = batch::encode(&[message.clone(), message]).expect("it can be written");
    let target = Target::new(MANIFEST, "batch").seed(bytes.to_vec());
    target.check(|bytes| {
        let _ = batch::decode(&Bytes::copy_from_slice(bytes), 64);
    });
}

#[test]
fn documents() {
    let heartbeat = r#"{"clientID":"c","producerDataSet":[{"groupName":"p"}],"consumerDataSet":[{"groupName":"g",
        "consumeType":1,"messageModel":"CLUSTERING","consumeFromWhere":0,"subscriptionDataSet":[{"topic":"t","subVersion":"1"}]}]}"#;
    let queues = r#"{"clientId":"c","consumerGroup":"g","mqSet":[{"brokerName":"b","queueId":3,"topic":"t"}]}"#;
    let target = Target::new(MANIFEST, "document")
        .seed(heartbeat)
        .seed(queues)
        .seed(r#"{"brokerDatas":[],"queueDatas":[]}"#)
        .tokens(&[
            "\"brokerAddrs\":{",
            "CONSUME_FROM_TIMESTAMP",
            "9223372036854775808",
        ]);
    target.check(|bytes| {
        let _ = body::read::<Heartbeat>(bytes, "heartbeat");
        let _ = body::read::<QueueSet>(bytes, "set of queues");
        let _ = body::read::<TopicRoute>(bytes, "route");
    });
}

#[test]
fn texts() {
    let target = Target::new(MANIFEST, "text")
        .seed("TAGS\u{1}a\u{2}KEYS\u{1}k l\u{2}")
        .seed("7F00000100002A9F0000000000010002");
    target.check(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let pairs: Vec<_> = properties::parse(&text).collect();
        let _ = properties::format(pairs);
        let _ = text.parse::<OffsetMessageId>();
    });
}
