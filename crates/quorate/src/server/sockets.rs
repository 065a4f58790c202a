//! The sockets to the other members.

use std::sync::OnceLock;

use quorate_etcd::metrics::Metrics;
use quorate_net::{Config, Lane, Limits, PeerEvent, Transport};
use quorate_node::PeerMessage;
use quorate_raft::NodeId;
use quorate_server::{Handle, Peers, ServerConfig};

use super::peer_counts::PeerCounts;

/// The way to the other members; open from the moment that the server can take what they say.
#[derive(Debug, Default)]
pub(super) struct PeerSockets(OnceLock<Transport>);

impl Peers for PeerSockets {
    fn send(&self, to: NodeId, message: PeerMessage) -> bool {
        self.0.get().is_some_and(|transport| transport.send(to, message).is_ok())
    }
}

impl PeerSockets {
    /// Starts to talk to the other members.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub(super) fn open(&self, config: &ServerConfig, handle: &Handle) -> anyhow::Result<()> {
        let identity = handle.membership();
        let config = Config {
            me: identity.me,
            cluster_id: identity.cluster_id,
            card: handle.card(),
            listen: config.listen_peer.iter().map(ToString::to_string).collect(),
            peers: identity.peer_addresses()?,
            limits: Limits::default(),
        };
        let (door, server) = (handle.clone(), handle.clone());
        let admits = move |peer, card| door.admits(peer, card);
        let take = move |from, event| take_in(&server, from, event);
        let transport = Transport::start(config, admits, take)?;
        // Set once: nobody else does.
        let _ = self.0.set(transport);
        handle.introduce_to_all();
        Ok(())
    }

    /// Copies what was counted.
    pub(super) fn count(&self, counts: &mut PeerCounts, metrics: &Metrics) {
        if let Some(transport) = self.0.get() {
            counts.copy(metrics, &transport.stats());
        }
    }
}

fn take_in(server: &Handle, from: NodeId, event: PeerEvent) {
    let peer = || format!("{:x}", from.0);
    match event {
        PeerEvent::Message(message) => server.take_peer_message(from, message),
        PeerEvent::Connected(lane) => {
            tracing::debug!(peer = peer(), ?lane, "connected");
            server.peer_connected(from);
            if lane == Lane::Urgent {
                server.introduce(from);
            }
        }
        PeerEvent::KnowsOtherDirectory => server.is_known_from_elsewhere(from),
        PeerEvent::Disconnected(lane) => {
            tracing::debug!(peer = peer(), ?lane, "disconnected");
            server.peer_disconnected(from);
        }
    }
}
