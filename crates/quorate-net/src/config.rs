//! Who the members are, and the limits.

use std::{collections::BTreeMap, time::Duration};

use quorate_node::MemberCard;
use quorate_raft::NodeId;

/// What a transport needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub me: NodeId,
    /// The cluster: peers of any other are refused.
    pub cluster_id: u64,
    /// What this member says of itself.
    pub card: MemberCard,
    /// Addresses to listen on, `host:port`.
    pub listen: Vec<String>,
    /// The other members and where they listen, `host:port`. Names are looked up again at every attempt.
    pub peers: BTreeMap<NodeId, String>,
    /// The limits.
    pub limits: Limits,
}

/// Limits of a transport. The defaults fit a cluster in one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest frame sent or taken, in bytes.
    pub frame_bytes_max: usize,
    /// Messages that wait for one connection, at most.
    pub queue_messages_max: usize,
    /// Bytes that wait for one connection, at most.
    pub queue_bytes_max: usize,
    /// Connections from outside that have not said who they are, at most: the oldest makes room for another one. Of each known
    /// peer there is one for each lane: the newest.
    pub strangers_max: usize,
    /// How long the other side may take to say who it is, in all.
    pub handshake_wait: Duration,
    /// What strangers do is worth a line of the log this often; the others are counted in it.
    pub strangers_logged_every: Duration,
    /// A connection that brings nothing for this long is closed; pings make sure that a good one does not.
    pub idle_wait_max: Duration,
    /// A write that makes no progress for this long ends the connection.
    pub write_wait_max: Duration,
    /// How often a connection is pinged.
    pub ping_interval: Duration,
    /// The pause after the first failed dial; it doubles with each.
    pub redial_wait_min: Duration,
    /// The longest pause between dials.
    pub redial_wait_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: 64 << 20,
            queue_messages_max: 4096,
            queue_bytes_max: 64 << 20,
            strangers_max: 64,
            handshake_wait: Duration::from_secs(1),
            strangers_logged_every: Duration::from_secs(1),
            idle_wait_max: Duration::from_secs(5),
            write_wait_max: Duration::from_secs(5),
            ping_interval: Duration::from_secs(1),
            redial_wait_min: Duration::from_millis(20),
            redial_wait_max: Duration::from_millis(500),
        }
    }
}
