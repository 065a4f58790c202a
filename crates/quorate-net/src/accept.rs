//! Connections inward: one thread for each listener takes them, one thread for each connection reads it.
//!
//! Nothing is believed before the handshake: until then a stranger costs one thread, [`HANDSHAKE_BYTES_MAX`] bytes of frame
//! and [`handshake_wait`](crate::Limits::handshake_wait), and there are at most [`inbound_max`](crate::Limits::inbound_max)
//! of them.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering::SeqCst},
    thread,
};

use quorate_raft::NodeId;
use tracing::{debug, warn};

use crate::{
    PeerEvent,
    frame::Receiver,
    handshake::{HANDSHAKE_BYTES_MAX, Hello, PROTOCOL_VERSION, Verdict, Welcome, judge},
    outgoing::Outgoing,
    shared::{Peer, Shared},
    stats::Counters,
    wire::{self, Body},
};

/// Takes connections until the transport stops.
pub(crate) fn listen(shared: &Arc<Shared>, listener: &TcpListener) {
    for stream in listener.incoming() {
        if shared.stopping.load(SeqCst) {
            return;
        }
        match stream {
            Ok(stream) => take(shared, stream),
            Err(error) => {
                warn!(%error, "could not take a peer connection");
                shared.pause();
            }
        }
    }
}

fn take(shared: &Arc<Shared>, stream: TcpStream) {
    let limit = shared.config.limits.inbound_max;
    if shared.inbound.load(SeqCst) >= limit {
        warn!(limit, "too many peer connections: one more is closed");
        return;
    }
    shared.inbound.fetch_add(1, SeqCst);
    let reader = Arc::clone(shared);
    let spawned = thread::Builder::new().name("peer-reader".to_owned()).spawn(move || {
        serve(&reader, &stream);
        reader.inbound.fetch_sub(1, SeqCst);
    });
    match spawned {
        Ok(handle) => shared.adopt(handle),
        Err(error) => {
            shared.inbound.fetch_sub(1, SeqCst);
            warn!(%error, "could not start a thread for a peer connection");
        }
    }
}

/// Reads one connection until it breaks, misbehaves, falls silent or the transport stops.
fn serve(shared: &Shared, stream: &TcpStream) {
    let Some(_registration) = shared.register(stream) else { return };
    let address = stream.peer_addr().ok();
    let mut receiver = Receiver::new(HANDSHAKE_BYTES_MAX);
    match introduce(shared, stream, &mut receiver, address) {
        Ok(Some((node, peer))) => {
            if let Err(error) = read(shared, stream, receiver, node, &peer) {
                closed(shared, address, &error);
            }
        }
        Ok(None) => {}
        Err(error) => {
            warn!(remote = ?address, %error, "peer connection without a good handshake is closed");
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// An end of the stream is what happens when a peer stops; anything else deserves a look.
fn closed(shared: &Shared, address: Option<SocketAddr>, error: &io::Error) {
    let ordinary = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
    if ordinary.contains(&error.kind()) || shared.stopping.load(SeqCst) {
        debug!(remote = ?address, %error, "peer connection ended");
    } else {
        warn!(remote = ?address, %error, "peer connection is closed");
    }
}

fn introduce(
    shared: &Shared,
    mut stream: &TcpStream,
    receiver: &mut Receiver,
    address: Option<SocketAddr>,
) -> io::Result<Option<(NodeId, Arc<Peer>)>> {
    let limits = &shared.config.limits;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limits.handshake_wait))?;
    stream.set_write_timeout(Some(limits.write_wait_max))?;
    let frame = wire::read_frame(&mut stream, receiver)?;
    let hello = Hello::decode(&frame).map_err(io::Error::other)?;
    let (me, cluster_id) = (shared.config.me, shared.config.cluster_id);
    let verdict = judge(&hello, me, cluster_id, |node| shared.peers.contains_key(&node));
    let welcome = Welcome { version: PROTOCOL_VERSION, cluster_id, from: me, verdict };
    wire::write_plain(&mut stream, &welcome.encode())?;
    let peer = shared.peers.get(&hello.from).filter(|_| verdict == Verdict::Accepted);
    let Some(peer) = peer else {
        refused(&hello, me, cluster_id, verdict, address);
        return Ok(None);
    };
    stream.set_read_timeout(Some(limits.idle_wait_max))?;
    receiver.limit(limits.frame_bytes_max);
    peer.kick();
    Ok(Some((hello.from, Arc::clone(peer))))
}

fn refused(
    hello: &Hello,
    me: NodeId,
    cluster_id: u64,
    verdict: Verdict,
    address: Option<SocketAddr>,
) {
    warn!(
        remote = ?address,
        ?verdict,
        remote_cluster_id = %format_args!("{:x}", hello.cluster_id),
        local_cluster_id = %format_args!("{cluster_id:x}"),
        remote_id = %format_args!("{:x}", hello.from.0),
        remote_target = %format_args!("{:x}", hello.to.0),
        local_id = %format_args!("{:x}", me.0),
        remote_version = hello.version,
        local_version = PROTOCOL_VERSION,
        "peer connection refused"
    );
}

fn read(
    shared: &Shared,
    mut stream: &TcpStream,
    mut receiver: Receiver,
    node: NodeId,
    peer: &Peer,
) -> io::Result<()> {
    let mut pongs = Outgoing::new(HANDSHAKE_BYTES_MAX);
    loop {
        let count = wire::read_some(&mut stream, &mut receiver)?;
        Counters::add(&peer.counters.received_bytes, count);
        while let Some(frame) = receiver.next_frame().map_err(io::Error::other)? {
            match wire::decode(&frame).map_err(io::Error::other)? {
                Body::Message(message) => {
                    Counters::add(&peer.counters.received_messages, 1);
                    shared.tell(node, PeerEvent::Message(message));
                }
                Body::Ping(sent_ns) => {
                    wire::encode(&Body::Pong(sent_ns), &mut pongs).map_err(wire::too_large)?;
                    pongs.write_to(&mut stream)?;
                }
                Body::Pong(_) => {}
            }
        }
    }
}
