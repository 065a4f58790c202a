//! Connections outward: one thread for each peer and lane dials, introduces itself, and writes what is queued.
//!
//! A second thread listens to the other direction, where only pongs come: it measures the round trip, and notices at once
//! when the peer goes away, so that the writer does not learn it from a lost message.

use std::{
    collections::VecDeque,
    io::{self, Read},
    net::{Shutdown, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use quorate_node::Admission;
use quorate_raft::NodeId;
use tracing::{debug, info, warn};

use crate::{
    Lane, PeerEvent,
    frame::Receiver,
    handshake::{HANDSHAKE_BYTES_MAX, Hello, PROTOCOL_VERSION, Verdict, Welcome},
    line::Waiting,
    outgoing::Outgoing,
    queue::Taken,
    shared::{Peer, Shared},
    stats::Counters,
    wire::{self, Body},
};

/// Why a connection did not come about, or ended.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("look up {0}")]
    LookUp(String, #[source] io::Error),
    #[error("{0} names no address")]
    NoAddress(String),
    #[error("connect")]
    Connect(#[source] io::Error),
    #[error("introduce ourselves")]
    Introduce(#[source] io::Error),
    #[error("the peer's answer makes no sense: {0}")]
    Answer(String),
    #[error(
        "refused ({verdict:?}): the peer is member {from:x} of cluster {cluster_id:x}, protocol {version}"
    )]
    Refused { verdict: Verdict, from: u64, cluster_id: u64, version: u16 },
    #[error("the address belongs to member {0:x}")]
    WrongTarget(u64),
    #[error("it speaks from directory {0:x}, which is another one than the member's")]
    OtherDirectory(u64),
    #[error("this member can't remember whom it meets")]
    Unavailable,
}

/// Keeps one lane to one peer up until the transport stops.
pub(crate) fn keep(shared: &Arc<Shared>, node: NodeId, peer: &Arc<Peer>, lane: Lane) {
    let limits = &shared.config.limits;
    let queue = &peer.line(lane).queue;
    let mut wait = limits.redial_wait_min;
    let mut complained = false;
    while !shared.stopping.load(SeqCst) {
        match dial(shared, node, peer, lane) {
            Ok((stream, receiver)) => {
                wait = limits.redial_wait_min;
                complained = false;
                serve(shared, node, peer, lane, stream, receiver);
            }
            Err(error) => {
                if let DialError::Refused { verdict: Verdict::OtherDirectory, .. } = error {
                    shared.tell(node, PeerEvent::KnowsOtherDirectory);
                }
                complain(&error, node, &peer.address, lane, complained);
                complained = true;
            }
        }
        queue.pause(wait);
        wait = (wait * 2).min(limits.redial_wait_max);
    }
}

/// Warns once for each time a peer is lost; the attempts after that are for those who debug.
fn complain(error: &DialError, node: NodeId, address: &str, lane: Lane, again: bool) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if again {
        debug!(peer = %format_args!("{:x}", node.0), address, %lane, %error, cause, "no connection to peer");
    } else {
        warn!(peer = %format_args!("{:x}", node.0), address, %lane, %error, cause, "no connection to peer");
    }
}

fn dial(
    shared: &Shared,
    node: NodeId,
    peer: &Peer,
    lane: Lane,
) -> Result<(TcpStream, Receiver), DialError> {
    let limits = &shared.config.limits;
    let mut stream = connect(&peer.address, limits.handshake_wait)?;
    let mut receiver = Receiver::new(HANDSHAKE_BYTES_MAX);
    let set_up = || {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(limits.write_wait_max))
    };
    set_up().map_err(DialError::Introduce)?;
    let hello = Hello {
        version: PROTOCOL_VERSION,
        cluster_id: shared.config.cluster_id,
        from: shared.config.me,
        card: shared.config.card,
        to: node,
        lane,
    };
    wire::write_plain(&mut stream, &hello.encode()).map_err(DialError::Introduce)?;
    let welcome = welcomed(&stream, &mut receiver, limits.handshake_wait)?;
    check(shared, node, &welcome)?;
    stream.set_read_timeout(Some(limits.idle_wait_max)).map_err(DialError::Introduce)?;
    receiver.limit(limits.frame_bytes_max);
    Ok((stream, receiver))
}

fn connect(address: &str, patience: Duration) -> Result<TcpStream, DialError> {
    let addresses =
        address.to_socket_addrs().map_err(|error| DialError::LookUp(address.to_owned(), error))?;
    let mut outcome = Err(DialError::NoAddress(address.to_owned()));
    for address in addresses {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => outcome = Err(DialError::Connect(error)),
        }
    }
    outcome
}

fn welcomed(
    stream: &TcpStream,
    receiver: &mut Receiver,
    patience: Duration,
) -> Result<Welcome, DialError> {
    let frame =
        wire::read_frame_within(stream, receiver, patience).map_err(DialError::Introduce)?;
    Welcome::decode(&frame).map_err(|error| DialError::Answer(error.to_string()))
}

/// Both sides must want the connection.
fn check(shared: &Shared, node: NodeId, welcome: &Welcome) -> Result<(), DialError> {
    let Welcome { verdict, version, cluster_id, from, card } = *welcome;
    let is_member = from == node && cluster_id == shared.config.cluster_id;
    if !is_member && matches!(verdict, Verdict::Accepted | Verdict::OtherDirectory) {
        // Whoever else answers at that address knows nothing of this member that it would have to believe.
        Err(DialError::WrongTarget(from.0))
    } else if verdict != Verdict::Accepted {
        Err(DialError::Refused { verdict, from: from.0, cluster_id, version })
    } else {
        match shared.admits(node, card) {
            Admission::Admitted => Ok(()),
            Admission::OtherDirectory => Err(DialError::OtherDirectory(card.directory.0)),
            Admission::Unavailable => Err(DialError::Unavailable),
        }
    }
}

/// Uses a connection until it breaks or the transport stops.
fn serve(
    shared: &Arc<Shared>,
    node: NodeId,
    peer: &Arc<Peer>,
    lane: Lane,
    mut stream: TcpStream,
    receiver: Receiver,
) {
    let Some(_registration) = shared.register(&stream) else { return };
    let line = peer.line(lane);
    let queue = &line.queue;
    let Ok(writing) = stream.try_clone() else { return };
    line.pen().stream = Some(writing);
    queue.open();
    let Ok(watcher) = watch(shared, peer, lane, &stream, receiver) else {
        queue.close();
        line.pen().stream = None;
        return;
    };
    peer.counters.lanes_open.fetch_add(1, Relaxed);
    Counters::add(&peer.counters.connects, 1);
    info!(peer = %format_args!("{:x}", node.0), address = peer.address, %lane, "connected to peer");
    shared.tell(node, PeerEvent::Connected(lane));
    let outcome = write_queued(shared, node, peer, lane, &mut stream);
    Counters::add(&peer.counters.send_failures, queue.close());
    line.pen().stream = None;
    peer.counters.lanes_open.fetch_sub(1, Relaxed);
    // The peer may have closed it already; then there is nothing left to shut down.
    let _ = stream.shutdown(Shutdown::Both);
    let _ = watcher.join();
    if !shared.stopping.load(SeqCst) {
        let error = outcome.err().map(|error| error.to_string()).unwrap_or_default();
        warn!(peer = %format_args!("{:x}", node.0), address = peer.address, %lane, error, "lost connection to peer");
        shared.tell(node, PeerEvent::Disconnected(lane));
    }
}

/// Listens to the peer's side of our connection.
fn watch(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    lane: Lane,
    stream: &TcpStream,
    receiver: Receiver,
) -> io::Result<thread::JoinHandle<()>> {
    let stream = stream.try_clone()?;
    let (shared, peer) = (Arc::clone(shared), Arc::clone(peer));
    thread::Builder::new().name("peer-pongs".to_owned()).spawn(move || {
        if let Err(error) = read_pongs(&shared, &peer, lane, stream, receiver) {
            debug!(address = peer.address, %lane, %error, "peer closed its side");
        }
        peer.line(lane).queue.close();
    })
}

fn read_pongs(
    shared: &Shared,
    peer: &Peer,
    lane: Lane,
    mut stream: impl Read,
    mut receiver: Receiver,
) -> io::Result<()> {
    loop {
        let frame = wire::read_frame(&mut stream, &mut receiver)?;
        if let Body::Pong(sent_ns) = wire::decode(&frame).map_err(io::Error::other)?
            && lane == Lane::Urgent
        {
            let round_trip_ns = shared.now_ns().saturating_sub(sent_ns).max(1);
            peer.counters.round_trip_ns.store(round_trip_ns, Relaxed);
        }
    }
}

/// Writes whatever is queued, all of it at a time, until the queue is closed or the stream breaks.
fn write_queued(
    shared: &Shared,
    node: NodeId,
    peer: &Peer,
    lane: Lane,
    stream: &mut TcpStream,
) -> io::Result<()> {
    let limits = &shared.config.limits;
    let line = peer.line(lane);
    let mut batch = VecDeque::new();
    let mut pinged: Option<Instant> = None;
    loop {
        line.queue.wait(limits.ping_interval);
        let mut pen = line.pen();
        if line.queue.take(&mut batch) == Taken::Closed {
            return Ok(());
        }
        let outgoing = &mut pen.outgoing;
        let count = batch.len();
        encode_all(node, peer, &mut batch, outgoing);
        if pinged.is_none_or(|at| at.elapsed() >= limits.ping_interval) {
            wire::encode(&Body::Ping(shared.now_ns()), outgoing).map_err(wire::too_large)?;
            pinged = Some(Instant::now());
        }
        Counters::add(&peer.counters.sent_bytes, outgoing.bytes());
        Counters::add(&peer.counters.sent_messages, count);
        outgoing.write_to(stream).inspect_err(|_| {
            Counters::add(&peer.counters.send_failures, count);
        })?;
    }
}

fn encode_all(node: NodeId, peer: &Peer, batch: &mut VecDeque<Waiting>, outgoing: &mut Outgoing) {
    for waiting in batch.drain(..) {
        let message = match waiting {
            Waiting::Message(message) => message,
            Waiting::Rest(rest) => {
                outgoing.put_rest(rest);
                continue;
            }
        };
        if let Err(bytes) = wire::encode(&Body::Message(message), outgoing) {
            Counters::add(&peer.counters.send_failures, 1);
            warn!(peer = %format_args!("{:x}", node.0), bytes, "a message is over the frame limit and is dropped");
        }
    }
}
