//! Fuzzes the decoders of what gRPC clients send: messages, packed bodies, filters, handles, headers.

use std::io::Write as _;

use broker::clock::ManualClock;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use fuzz::Target;
use grpc_api::Timestamp;
use grpc_api::v2::{
    self, Encoding, FilterExpression, FilterType, MessageType, SystemProperties, TelemetryCommand,
};
use prost::Message as _;

use super::filters::Filters;
use super::{convert, peer, recall};
use edge::budget::Budget;

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");
/// Largest body of the tests.
const BODY_BYTES_MAX: usize = 64 * 1024;

fn sent(body: Vec<u8>, encoding: Encoding) -> Vec<u8> {
    let system = SystemProperties {
        message_id: "01ABC".into(),
        tag: Some("t".into()),
        keys: vec!["k".into()],
        message_type: MessageType::Delay.into(),
        body_encoding: encoding.into(),
        born_timestamp: Some(Timestamp {
            seconds: 1_795_510_800,
            nanos: 1,
        }),
        born_host: "host".into(),
        delivery_timestamp: Some(Timestamp {
            seconds: 1_795_510_900,
            nanos: 999_999_999,
        }),
        ..SystemProperties::default()
    };
    let message = v2::Message {
        topic: None,
        user_properties: [("a".to_owned(), "b".to_owned())].into(),
        system_properties: Some(system),
        body: body.into(),
    };
    message.encode_to_vec()
}

fn packed(bytes: &[u8]) -> [Vec<u8>; 2] {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(bytes).unwrap();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(bytes).unwrap();
    [gzip.finish().unwrap(), zlib.finish().unwrap()]
}

#[test]
fn messages_of_any_content_are_read_or_refused() {
    let [gzip, zlib] = packed(b"hello hello hello hello");
    // A megabyte packed into a thousand bytes: it is not unpacked beyond the limit.
    let [bomb, _] = packed(&vec![0; 16 << 20]);
    let target = Target::new(MANIFEST, "grpc-message")
        .seed(sent(b"hello".to_vec(), Encoding::Identity))
        .seed(sent(gzip, Encoding::Gzip))
        .seed(sent(zlib, Encoding::Gzip))
        .seed(sent(bomb, Encoding::Gzip))
        .bytes_max(32 << 10)
        // The unpacked body is in a buffer that doubles, and the decompressor has tables of its own.
        .heap_bytes(4 * BODY_BYTES_MAX as u64 + (128 << 10));
    let clock = ManualClock::new(1_795_510_800_000);
    let held = Budget::new(usize::MAX).hold();
    target.check(|input| {
        let bytes = Bytes::copy_from_slice(input);
        if let Ok(message) = v2::Message::decode(bytes.clone())
            && let Ok(read) = convert::incoming(message, &clock, BODY_BYTES_MAX, &held)
        {
            assert!(read.message.body.len() <= BODY_BYTES_MAX);
        }
        let _ = TelemetryCommand::decode(bytes);
    });
}

#[test]
fn filters_of_any_text_are_compiled_or_refused() {
    let target = Target::new(MANIFEST, "filter")
        .seed("a || b || c")
        .seed("amount BETWEEN 1 AND 2.5 OR (region IN ('a', 'b') AND NOT vip IS NULL)")
        .seed("TAGS NOT CONTAINS 'x' AND -a >= +1e3 AND b LIKE 'y%'")
        .tokens(FILTER_TOKENS)
        .runs(10_000)
        // The parser's tree takes about 400 bytes for each byte of an expression, whose length is limited.
        .heap_bytes(2 << 20);
    target.check(|input| {
        let text = String::from_utf8_lossy(input);
        for kind in [FilterType::Sql, FilterType::Tag] {
            let expression = FilterExpression {
                r#type: kind.into(),
                expression: text.clone().into_owned(),
            };
            let _ = Filters::default().compile(Some(&expression));
        }
    });
}

const FILTER_TOKENS: &[&str] = &[
    " AND ",
    " OR ",
    " NOT ",
    " IS NULL",
    " BETWEEN ",
    " IN (",
    " CONTAINS ",
    " STARTSWITH ",
    "((((((((",
    "))))",
    "''",
    "'",
    "--",
    "/*",
    "*/",
    "1e309",
    "9223372036854775808",
    "-",
    "CASE WHEN ",
    "SELECT 1",
    " ESCAPE '\\'",
    "\"",
    "`",
    ";",
    "||",
];

#[test]
fn headers_and_handles_of_any_text_are_read_or_not() {
    let target = Target::new(MANIFEST, "grpc-header")
        .seed("MQv2-HMAC-SHA1 Credential=shop/r/RocketMQ, SignedHeaders=x-mq-date-time, Signature=B8966b27")
        .seed("99999999H")
        .seed("AQEAAAAAAaINekiPAAAAAAAAAAUDHvORuw.01ABC")
        .tokens(&["MQv2-HMAC-SHA1 ", "Credential=", "Signature=", ", ", "==", "//", ".", "\u{e9}", "m"]);
    target.check(|input| {
        if let Ok(text) = std::str::from_utf8(input) {
            peer::read_any(text);
            let _ = recall::parts_of(text);
        }
    });
}
