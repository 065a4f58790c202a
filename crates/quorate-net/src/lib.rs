//! Peer sockets: a checksummed binary stream between members.
//!
//! [`Transport`] carries [`PeerMessage`]s between the members of one cluster over TCP. It knows addresses, frames and
//! limits; it does not know what the messages mean, and it keeps nothing: a message may be lost, and the Raft core sends
//! again what matters.
//!
//! ```text
//!  send(to, message)          lanes             threads            sockets
//!      |                 +--> urgent ---> writer, pong reader ---> votes, heartbeats, reads, acknowledgements
//!      +-- per peer -----+
//!                        +--> bulk   ---> writer, pong reader ---> appends, forwards, snapshots
//!
//!  A small message goes to its socket at once when nothing waits before it; the writer has the rest.
//!
//!  inbox(from, event) <------------------- one reader for each connection <--- listener
//! ```
//!
//! What holds:
//! - [`Transport::send`] never waits. A queue is bounded by count and bytes; when it is full, or nothing is connected, the
//!   message is refused and the caller is told.
//! - The two lanes share neither queue nor socket, so a vote never stands behind a snapshot.
//! - Messages of one lane arrive in the order they were sent for as long as one connection lives; none arrives changed.
//! - Whatever a stranger sends costs a kilobyte and a second, and ends in a closed connection. Strangers hold no slot that a
//!   member needs, and cause one line of the log in a while.
//! - What a frame announces reserves nothing: memory follows what has come, and is given back.
//! - A member that is back is dialled at once: its own dial wakes ours.
//!
//! Left out for now: TLS, peers that come and go while it runs, more than one version of the protocol at a time, and the
//! shrinking of payloads: an entry kept in memory keeps the 64 KiB buffer it came in with its neighbours.

mod accept;
mod config;
mod dial;
pub mod frame;
pub mod handshake;
mod line;
pub mod outgoing;
mod queue;
mod shared;
mod stats;
mod strangers;
pub mod wire;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

pub use config::{Config, Limits};
pub use handshake::Lane;
pub use queue::SendError;
use quorate_node::{Admission, MemberCard, PeerMessage};
use quorate_raft::NodeId;
pub use stats::PeerStats;

use crate::{shared::Shared, stats::Counters};

/// How long stopping tries to reach its own listener, to wake it.
const WAKE_WAIT: Duration = Duration::from_secs(1);

/// What comes from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A message.
    Message(PeerMessage),
    /// Our connection to it stands: messages of this lane are taken from now on.
    Connected(Lane),
    /// Our connection to it is gone; messages of this lane that were sent just before may be lost.
    Disconnected(Lane),
    /// It knows this member from another data directory than the one this process speaks from.
    KnowsOtherDirectory,
}

/// Why a transport could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address can't be listened on.
    #[error("listen for peers on {address}")]
    Listen {
        /// Which.
        address: String,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The system gives no more threads.
    #[error("start a thread for peer connections")]
    Thread(#[source] io::Error),
}

/// The peer sockets of one member. Dropping it ends all connections and waits for all its threads.
#[derive(Debug)]
pub struct Transport {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

impl Transport {
    /// Listens, and begins to dial every peer.
    ///
    /// `door` says whether a member with this card may be talked to. It is asked in both directions before any message is
    /// exchanged, and may wait for the disk.
    ///
    /// `inbox` is called from the transport's threads, several at a time. It may wait: that holds back one connection of
    /// one peer, and in the end that peer's queue. It must not drop the transport.
    ///
    /// # Errors
    /// [`Error`]: nothing runs then.
    pub fn start(
        config: Config,
        door: impl Fn(NodeId, MemberCard) -> Admission + Send + Sync + 'static,
        inbox: impl Fn(NodeId, PeerEvent) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let listeners = config.listen.iter().map(|address| {
            TcpListener::bind(address)
                .map_err(|source| Error::Listen { address: address.clone(), source })
        });
        let listeners = listeners.collect::<Result<Vec<_>, Error>>()?;
        Self::start_on(listeners, config, door, inbox)
    }

    /// Like [`Transport::start`], on sockets that listen already; `config.listen` is not looked at.
    ///
    /// # Errors
    /// [`Error`]: nothing runs then.
    pub fn start_on(
        listeners: Vec<TcpListener>,
        config: Config,
        door: impl Fn(NodeId, MemberCard) -> Admission + Send + Sync + 'static,
        inbox: impl Fn(NodeId, PeerEvent) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let addresses =
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let shared = Arc::new(Shared::new(config, Box::new(door), Box::new(inbox)));
        let transport = Self { shared, addresses };
        transport.spawn_all(listeners).map_err(Error::Thread)?;
        Ok(transport)
    }

    /// Sends `message` to `to`, at once or when its turn comes; never waits.
    ///
    /// # Errors
    /// [`SendError`]: the message is gone, and the Raft core should hear that the peer is unreachable.
    pub fn send(&self, to: NodeId, message: PeerMessage) -> Result<(), SendError> {
        let peer = self.shared.peers.get(&to).ok_or(SendError::UnknownPeer)?;
        let lane = if message.is_urgent() { Lane::Urgent } else { Lane::Bulk };
        let bytes = wire::size_estimate(&message);
        let outcome = if bytes > self.shared.config.limits.frame_bytes_max {
            Err(SendError::TooLarge(bytes))
        } else {
            peer.line(lane).send(message, bytes, &peer.counters)
        };
        if outcome.is_err() {
            Counters::add(&peer.counters.send_failures, 1);
        }
        outcome
    }

    /// What passed between this member and each peer so far.
    pub fn stats(&self) -> Vec<PeerStats> {
        self.shared.peers.iter().map(|(node, peer)| peer.counters.read(*node)).collect()
    }

    /// How many connections from outside have not said who they are.
    pub fn strangers(&self) -> usize {
        self.shared.strangers.count()
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    fn spawn_all(&self, listeners: Vec<TcpListener>) -> io::Result<()> {
        for (node, peer) in &self.shared.peers {
            for lane in [Lane::Urgent, Lane::Bulk] {
                let (node, peer) = (*node, Arc::clone(peer));
                self.shared.spawn("peer-writer", move |shared| {
                    dial::keep(shared, node, &peer, lane);
                })?;
            }
        }
        for listener in listeners {
            self.shared.spawn("peer-listener", move |shared| accept::listen(shared, &listener))?;
        }
        Ok(())
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.shared.stop();
        for address in &self.addresses {
            // A listener wakes only for a connection.
            let _ = TcpStream::connect_timeout(&reachable(*address), WAKE_WAIT);
        }
        self.shared.join();
    }
}

/// Where to reach a listener from the same machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}
