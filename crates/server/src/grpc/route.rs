//! Answers the route of a topic, and the queues assigned to a consumer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use broker::{Refusal, TopicKind, TopicSpec};
use grpc_api::v2::{
    Address, AddressScheme, Assignment, Broker, Code, Endpoints, MessageQueue, MessageType,
    Permission, QueryAssignmentRequest, QueryAssignmentResponse, QueryRouteRequest,
    QueryRouteResponse, Resource,
};

use super::Shared;
use super::limits::ADDRESSES_MAX;
use super::peer::Peer;
use super::status::{Problem, ok};

/// The name of the broker in routes.
const BROKER: &str = "duetime";
/// The id of a queue that stands for all queues of a topic.
const ALL_QUEUES: i32 = -1;

/// The host and port at which clients reach this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    /// `host:port`, an IPv6 address in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || format!("`{text}` is not a host and a port, such as broker.example:8081");
        let (host, port) = text.rsplit_once(':').ok_or_else(fail)?;
        let port = port.parse().map_err(|_| fail())?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let is_address = bare.parse::<Ipv6Addr>().is_ok();
        let is_name = !bare.is_empty() && !bare.contains([':', '/', ' ', '[', ']']);
        if (is_address && bare.len() < host.len()) || (is_name && bare.len() == host.len()) {
            Ok(Self {
                host: bare.to_owned(),
                port,
            })
        } else {
            Err(fail())
        }
    }
}

impl HostPort {
    /// Converts it to the protocol's type.
    pub(crate) fn endpoints(&self) -> Endpoints {
        let scheme = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => AddressScheme::IPv4,
            Ok(IpAddr::V6(_)) => AddressScheme::IPv6,
            Err(_) => AddressScheme::DomainName,
        };
        Endpoints {
            scheme: scheme.into(),
            addresses: vec![Address {
                host: self.host.clone(),
                port: i32::from(self.port),
            }],
        }
    }
}

impl Shared {
    pub(crate) async fn query_route(
        &self,
        peer: &Peer,
        request: QueryRouteRequest,
    ) -> Result<QueryRouteResponse, Problem> {
        let topic = peer.topic_name(request.topic.as_ref())?;
        peer.may_route(&topic)?;
        let spec = self.topic_of_route(&topic).await?;
        let queue = QueueTemplate {
            topic: request.topic.unwrap_or_default(),
            endpoints: self.endpoints_for(request.endpoints),
            kind: spec.kind,
        };
        Ok(QueryRouteResponse {
            status: Some(ok()),
            message_queues: (0..i32::from(spec.queues))
                .map(|id| queue.make(id))
                .collect(),
        })
    }

    /// Assigns queues. A consumer gets every message of a topic whatever queue it names, so one queue stands for all. A
    /// FIFO consumer gets all queues, since it reads one message at a time of each.
    pub(crate) async fn query_assignment(
        &self,
        peer: &Peer,
        request: QueryAssignmentRequest,
    ) -> Result<QueryAssignmentResponse, Problem> {
        let topic = peer.topic_name(request.topic.as_ref())?;
        let group = peer.group_name(request.group.as_ref())?;
        peer.may_consume(&topic, &group)?;
        let spec = self.topic_of_route(&topic).await?;
        let fifo = match self.broker.group(&group).await {
            Ok((group, _)) => group.fifo,
            Err(broker::Error::Refused(Refusal::GroupNotFound { .. })) => false,
            Err(error) => return Err(error.into()),
        };
        let queue = QueueTemplate {
            topic: request.topic.unwrap_or_default(),
            endpoints: self.endpoints_for(request.endpoints),
            kind: spec.kind,
        };
        let ids = if fifo {
            0..i32::from(spec.queues)
        } else {
            ALL_QUEUES..ALL_QUEUES + 1
        };
        let assignment = |id| Assignment {
            message_queue: Some(queue.make(id)),
        };
        Ok(QueryAssignmentResponse {
            status: Some(ok()),
            assignments: ids.map(assignment).collect(),
        })
    }

    /// Returns the topic, and creates it if topics are created on first use: clients query the route before they send.
    async fn topic_of_route(&self, topic: &str) -> Result<TopicSpec, Problem> {
        let refusal = match self.broker.topic_spec(topic).await {
            Ok(spec) => return Ok(spec),
            Err(error) => error,
        };
        let unknown = matches!(
            refusal,
            broker::Error::Refused(Refusal::TopicNotFound { .. })
        );
        match self.config.auto_topic {
            Some((kind, queues)) if unknown && !topic.starts_with('%') => {
                let spec = TopicSpec::new(topic, kind).with_queues(queues);
                self.broker.create_topic(spec).await?;
                Ok(self.broker.topic_spec(topic).await?)
            }
            _ => Err(refusal.into()),
        }
    }

    /// Returns the endpoints for the client: the configured address, else the one it says it used.
    fn endpoints_for(&self, own: Option<Endpoints>) -> Endpoints {
        if let Some(advertise) = &self.config.advertise {
            return advertise.endpoints();
        }
        let usable = |endpoints: &Endpoints| {
            let count = endpoints.addresses.len();
            let domain = endpoints.scheme() == AddressScheme::DomainName;
            endpoints.scheme() != AddressScheme::Unspecified
                && (1..=ADDRESSES_MAX).contains(&count)
                && (count == 1 || !domain)
        };
        own.filter(usable).unwrap_or_else(|| {
            let local = self.config.listen;
            let ip = match local.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                ip => ip,
            };
            let here = HostPort {
                host: ip.to_string(),
                port: local.port(),
            };
            here.endpoints()
        })
    }
}

/// What all queues of a topic share.
struct QueueTemplate {
    topic: Resource,
    endpoints: Endpoints,
    kind: TopicKind,
}

impl QueueTemplate {
    fn make(&self, id: i32) -> MessageQueue {
        MessageQueue {
            topic: Some(self.topic.clone()),
            id,
            permission: Permission::ReadWrite.into(),
            broker: Some(Broker {
                name: BROKER.to_owned(),
                id: 0,
                endpoints: Some(self.endpoints.clone()),
            }),
            accept_message_types: accepted(self.kind)
                .iter()
                .map(|kind| i32::from(*kind))
                .collect(),
        }
    }
}

/// Returns the message types that a topic accepts; clients refuse the others themselves.
fn accepted(kind: TopicKind) -> &'static [MessageType] {
    use MessageType::{Delay, Fifo, Normal, Transaction};
    match kind {
        TopicKind::Normal => &[Normal],
        TopicKind::Fifo => &[Fifo],
        // A delay of 0 is still a delay.
        TopicKind::Delay => &[Normal, Delay],
        TopicKind::Transaction => &[Transaction],
        TopicKind::Mixed => &[Normal, Fifo, Delay, Transaction],
    }
}

/// Returns the error for calls that no released client makes, as Apache RocketMQ does.
pub(crate) fn unsupported(what: &str) -> tonic::Status {
    tonic::Status::unimplemented(format!("{what} is not supported; use ReceiveMessage"))
}

/// Returns the problem of lite topics.
pub(crate) fn no_lite() -> Problem {
    Problem::new(Code::NotImplemented, "lite topics are not supported")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read() {
        for (text, host, scheme) in [
            ("127.0.0.1:8081", "127.0.0.1", AddressScheme::IPv4),
            ("[::1]:8081", "::1", AddressScheme::IPv6),
            (
                "broker.example:8081",
                "broker.example",
                AddressScheme::DomainName,
            ),
        ] {
            let read: HostPort = text.parse().expect(text);
            assert_eq!((read.host.as_str(), read.port), (host, 8081));
            assert_eq!(
                (read.to_string().as_str(), read.endpoints().scheme()),
                (text, scheme)
            );
        }
        for text in [
            "",
            "host",
            ":1",
            "host:",
            "host:70000",
            "::1:80",
            "[a]:1",
            "a b:1",
            "http://a:1",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }
}
