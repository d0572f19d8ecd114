//! Sends hostile bodies and paths to every operation: none may cause an internal error.

use fuzz::Target;
use http::{Method, StatusCode};
use serde_json::json;

use super::{Api, Call};

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

/// Operations that take a body, each with one of the right form. `{product}` and the like stand for what the rig makes.
const OPERATIONS: [(&str, &str, &str); 18] = [
    (
        "POST",
        "/v1/products",
        r#"{"name":"Tea","price_minor":500,"currency":"EUR","stock":9}"#,
    ),
    ("POST", "/v1/products/{product}/stock", r#"{"delta":20}"#),
    (
        "POST",
        "/v1/orders",
        r#"{"merchant_order_no":"A-2","buyer_id":"b","deadline_after_ms":10000,"lines":[{"product_id":"{product}","quantity":2}]}"#,
    ),
    (
        "POST",
        "/v1/orders",
        r#"{"merchant_order_no":"A-3","buyer_id":"b","deadline":"2026-11-24T18:00:00+08:00","coupon_id":"cpn_01ka0000000000000000000001","lines":[]}"#,
    ),
    (
        "PUT",
        "/v1/orders/{order}/deadline",
        r#"{"deadline":"2026-11-24T18:00:00+08:00"}"#,
    ),
    ("POST", "/v1/orders/{order}/cancel", r#"{"reason":"buyer"}"#),
    (
        "POST",
        "/v1/orders/{order}/payments",
        r#"{"account_id":"{account}"}"#,
    ),
    (
        "POST",
        "/v1/orders/{order}/refunds",
        r#"{"refund_no":"R-1","amount_minor":900}"#,
    ),
    (
        "POST",
        "/v1/gateways",
        r#"{"gateway":"simulator","name":"second"}"#,
    ),
    (
        "POST",
        "/v1/gateways/{account}/callbacks",
        r#"{"type":"attempt.paid","attempt_id":"att_1","amount":5,"currency":"EUR","at_ms":1}"#,
    ),
    (
        "POST",
        "/v1/coupon-rules",
        r#"{"name":"Thanks","amount_off_minor":500,"currency":"EUR","valid_days":30}"#,
    ),
    (
        "POST",
        "/v1/coupons/cpn_01ka0000000000000000000001/give",
        r#"{"buyer_id":"c"}"#,
    ),
    (
        "POST",
        "/v1/pause",
        r#"{"scope":"gateway","account_id":"{account}","reason":"down"}"#,
    ),
    (
        "POST",
        "/v1/resume",
        r#"{"scope":"gateway","account_id":"{account}"}"#,
    ),
    (
        "POST",
        "/v1/merchants",
        r#"{"id":"shop-1","name":"Shop One"}"#,
    ),
    ("POST", "/v1/merchants/shop-1/keys", r#"{"label":"web"}"#),
    (
        "POST",
        "/v1/refunds/ref_01ka0000000000000000000001/retry",
        "{}",
    ),
    (
        "POST",
        "/v1/simulator/attempts/att_01ka0000000000000000000001/pay",
        "{}",
    ),
];

const PATHS: [&str; 10] = [
    "/v1/orders?state=closed&limit=1&cursor=ord_01ka0000000000000000000001",
    "/v1/orders/ord_01ka0000000000000000000001",
    "/v1/orders/ord_01ka0000000000000000000001/payments",
    "/v1/products?limit=5&cursor=prd_01ka0000000000000000000001",
    "/v1/coupons?buyer_id=buyer-7&state=issued",
    "/v1/coupon-rules",
    "/v1/refunds/ref_01ka0000000000000000000001",
    "/v1/merchants/shop-1/keys/key_01ka0000000000000000000001",
    "/v1/pauses",
    "/v1/simulator/attempts/att_01ka0000000000000000000001",
];

const TOKENS: &[&str] = &[
    "null",
    "-1",
    "-0.0",
    "1e999",
    "[[[[[[[[",
    "{\"a\":",
    "\\ud800",
    "\\u0000",
    "%00",
    "%ff",
    "9223372036854775807",
    "\"quantity\":0",
    "ZZZ",
    "+99:99",
    "9999-12-31T23:59:59.999Z",
    "-009999-01-01T00:00:00Z",
    "limit=",
    "cursor=",
    "state=",
    "_01ka00000000000000000000",
];

/// A shop with one resource of each kind.
struct Shop {
    api: Api,
    names: [(&'static str, String); 3],
    calls: u64,
}

impl Shop {
    async fn open() -> Self {
        let api = Api::start_without_callbacks().await;
        let mut shop = Self {
            api,
            names: Default::default(),
            calls: 0,
        };
        let account = r#"{"gateway":"simulator","name":"main"}"#;
        let product = r#"{"name":"Tea","price_minor":500,"currency":"EUR","stock":1000000}"#;
        let account = shop.make("/v1/gateways", account).await;
        let product = shop.make("/v1/products", product).await;
        let order = json!({
            "merchant_order_no": "A-1",
            "buyer_id": "b",
            "lines": [{ "product_id": product, "quantity": 1 }],
        });
        let order = shop.make("/v1/orders", &order.to_string()).await;
        shop.names = [
            ("{account}", account),
            ("{product}", product),
            ("{order}", order),
        ];
        shop
    }

    /// The id of what a POST makes.
    async fn make(&mut self, path: &str, body: &str) -> String {
        let call = self.next("POST", path, body.as_bytes());
        let made = self.api.call(call).await.ok();
        made["id"].as_str().unwrap().to_owned()
    }

    fn next(&mut self, method: &str, path: &str, body: &[u8]) -> Call {
        self.calls += 1;
        let key = format!("call-{}", self.calls);
        let method = method.parse::<Method>().unwrap();
        let call = Call::new(method, &self.named(path));
        let call = call.header("content-type", "application/json");
        call.header("idempotency-key", &key).body(body)
    }

    /// Replaces the placeholders in a text by the ids of the shop.
    fn named(&self, text: &str) -> String {
        let names = self.names.iter();
        names.fold(text.to_owned(), |text, (name, id)| text.replace(name, id))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

#[test]
fn bodies_of_any_content_are_answered() {
    let runtime = runtime();
    let mut shop = runtime.block_on(Shop::open());
    let mut target = Target::new(MANIFEST, "body")
        .tokens(TOKENS)
        .runs(1_000)
        .heap_bytes(4 << 20);
    for (index, (_, _, body)) in OPERATIONS.iter().enumerate() {
        let operation = [u8::try_from(index).unwrap()];
        target = target.seed([&operation, shop.named(body).as_bytes()].concat());
    }
    target.check(|input| {
        let (operation, body) = input.split_first().unwrap_or((&0, &[]));
        let (method, path, _) = OPERATIONS[usize::from(*operation) % OPERATIONS.len()];
        let call = shop.next(method, path, body);
        let reply = runtime.block_on(shop.api.call(call));
        // The paths are the API's own, whatever is in the body.
        assert!(
            !reply.text.contains("/problems/method_not_allowed"),
            "{}",
            reply.text
        );
        assert_ne!(
            reply.status,
            StatusCode::INTERNAL_SERVER_ERROR,
            "{path} {}",
            reply.text
        );
    });
    runtime.block_on(shop.api.stop());
}

#[test]
fn paths_of_any_content_are_answered() {
    let runtime = runtime();
    let api = runtime.block_on(Api::start_without_callbacks());
    let mut target = Target::new(MANIFEST, "path")
        .tokens(TOKENS)
        .runs(1_500)
        .heap_bytes(4 << 20);
    for path in PATHS {
        target = target.seed(path);
    }
    target.check(|input| {
        let Ok(path) = std::str::from_utf8(input) else {
            return;
        };
        if path.parse::<http::Uri>().is_err() {
            return;
        }
        for method in [Method::GET, Method::DELETE] {
            let reply = runtime.block_on(api.call(Call::new(method, path)));
            assert_ne!(
                reply.status,
                StatusCode::INTERNAL_SERVER_ERROR,
                "{path} {}",
                reply.text
            );
        }
    });
    runtime.block_on(api.stop());
}
