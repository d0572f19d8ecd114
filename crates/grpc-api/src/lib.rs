//! Defines the gRPC protocol of RocketMQ 5 clients: its messages, and its service as a server trait and as a client.
//!
//! `proto/` holds our own description of the protocol: numbers, names and types are those of RocketMQ, the comments are
//! ours. The Rust code is generated when this crate is built. Neither a transport nor TLS is included: the user of this
//! crate makes the connections.
//!
//! ```
//! use grpc_api::v2::{Code, Resource, Status};
//!
//! let topic = Resource { resource_namespace: String::new(), name: "orders".into() };
//! let status = Status { code: Code::TopicNotFound.into(), message: format!("no topic {}", topic.name) };
//! assert_eq!((status.code, status.code()), (40402, Code::TopicNotFound));
//! ```

mod codec;

pub use prost_types::{Duration, Timestamp};

/// The package `apache.rocketmq.v2`.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::default_trait_access,
    clippy::doc_markdown,
    clippy::excessive_nesting,
    clippy::too_many_lines,
    clippy::large_enum_variant,
    reason = "generated code: fields that need no comment have none in the .proto files either"
)]
pub mod v2 {
    tonic::include_proto!("apache.rocketmq.v2");
}
