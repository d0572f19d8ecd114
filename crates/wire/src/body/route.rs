//! Defines the documents by which clients find brokers and queues.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bits of [`QueueData::perm`]: what clients may do with the queues of a topic.
pub mod permission {
    /// Send.
    pub const WRITE: i32 = 2;
    /// Receive.
    pub const READ: i32 = 4;
}

/// Where a topic is. Members that are absent in a client's copy are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicRoute {
    /// The brokers.
    #[serde(default)]
    pub broker_datas: Vec<BrokerData>,
    /// Filter servers by broker; there are none, but clients want the member.
    #[serde(default)]
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    /// The queues of the topic at each broker.
    #[serde(default)]
    pub queue_datas: Vec<QueueData>,
}

/// A broker and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerData {
    /// `host:port` by the number of the replica; 0 is the one that is written to. The keys are texts in JSON.
    pub broker_addrs: BTreeMap<String, String>,
    /// Name of the broker.
    pub broker_name: String,
    /// Name of its cluster.
    pub cluster: String,
    /// Whether a replica acts for the one that is written to.
    #[serde(default)]
    pub enable_acting_master: bool,
}

/// The queues of a topic at a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueData {
    /// Name of the broker.
    pub broker_name: String,
    /// Bits of [`permission`].
    pub perm: i32,
    /// Number of queues to receive from.
    pub read_queue_nums: i32,
    /// Flags of the topic.
    #[serde(default)]
    pub topic_sys_flag: i32,
    /// Number of queues to send to.
    pub write_queue_nums: i32,
}

/// The brokers of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfo {
    /// Brokers by name.
    pub broker_addr_table: BTreeMap<String, BrokerData>,
    /// Names of brokers by the name of their cluster.
    pub cluster_addr_table: BTreeMap<String, Vec<String>>,
}

/// The names of all topics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicList {
    /// Names.
    pub topic_list: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    #[test]
    fn a_route_is_written_as_clients_of_every_language_read_it() {
        let route = TopicRoute {
            broker_datas: vec![BrokerData {
                broker_addrs: BTreeMap::from([("0".to_owned(), "127.0.0.1:9876".to_owned())]),
                broker_name: "duetime".to_owned(),
                cluster: "DefaultCluster".to_owned(),
                enable_acting_master: false,
            }],
            filter_server_table: BTreeMap::new(),
            queue_datas: vec![QueueData {
                broker_name: "duetime".to_owned(),
                perm: permission::READ | permission::WRITE,
                read_queue_nums: 8,
                topic_sys_flag: 0,
                write_queue_nums: 8,
            }],
        };
        let bytes = body::write(&route).expect("it can be written");
        assert_eq!(
            std::str::from_utf8(&bytes),
            Ok(concat!(
                r#"{"brokerDatas":[{"brokerAddrs":{"0":"127.0.0.1:9876"},"brokerName":"duetime","#,
                r#""cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"#,
                r#""queueDatas":[{"brokerName":"duetime","perm":6,"readQueueNums":8,"topicSysFlag":0,"#,
                r#""writeQueueNums":8}]}"#
            ))
        );
        assert_eq!(body::read::<TopicRoute>(&bytes, "route").ok(), Some(route));
    }
}
