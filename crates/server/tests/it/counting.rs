//! Tests of the metrics of calls.

use broker::TopicKind;
use server::http::install_metrics;

use crate::rig::{Rig, message, simple};

#[tokio::test]
async fn calls_and_lateness_are_counted() {
    let figures = install_metrics().unwrap();
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Mixed).await;
    rig.send(message("t", "01")).await;
    assert_eq!(rig.receive("t", "g").await.len(), 1);
    rig.poll(simple("nowhere", "g")).await;
    let text = figures.render();
    // Other tests of this process count too.
    for line in [
        "duetime_broker_grpc_requests_total{method=\"SendMessage\",code=\"OK\"} ",
        "duetime_broker_grpc_requests_total{method=\"ReceiveMessage\",code=\"TOPIC_NOT_FOUND\"} ",
        "duetime_broker_grpc_requests_total{method=\"ReceiveMessage\",code=\"OK\"} ",
        "duetime_broker_grpc_request_duration_seconds_count{method=\"SendMessage\",code=\"OK\"} ",
        "duetime_broker_grpc_request_duration_seconds_bucket{method=\"SendMessage\",code=\"OK\",le=\"+Inf\"} ",
        "duetime_broker_delivery_lateness_seconds_count{protocol=\"grpc\"} ",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    rig.stop().await;
}
