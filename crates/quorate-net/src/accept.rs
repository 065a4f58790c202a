//! Connections inward: one thread for each listener takes them, one thread for each connection reads it.
//!
//! Nothing is believed before the handshake: until then a stranger costs one thread, a kilobyte and
//! [`handshake_wait`](crate::Limits::handshake_wait) in all, and there are at most
//! [`strangers_max`](crate::Limits::strangers_max) of them. Of a peer that is known there is one connection for each lane.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering::SeqCst},
    thread,
};

use quorate_node::{DirectoryId, MemberCard};
use quorate_raft::NodeId;
use tracing::{debug, warn};

use crate::{
    Config, PeerEvent,
    frame::Receiver,
    handshake::{
        HANDSHAKE_BYTES_MAX, HandshakeError, Hello, PROTOCOL_VERSION, Verdict, Welcome, judge,
    },
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
    let Ok(kept) = stream.try_clone() else { return };
    let number = shared.strangers.admit(kept, shared.config.limits.strangers_max);
    let reader = Arc::clone(shared);
    let spawned = thread::Builder::new().name("peer-reader".to_owned()).spawn(move || {
        serve(&reader, &stream, number);
        reader.strangers.dismiss(number);
    });
    match spawned {
        Ok(handle) => shared.adopt(handle),
        Err(error) => {
            shared.strangers.dismiss(number);
            warn!(%error, "could not start a thread for a peer connection");
        }
    }
}

/// Reads one connection until it breaks, misbehaves, falls silent or the transport stops.
fn serve(shared: &Shared, stream: &TcpStream, number: u64) {
    let Some(_registration) = shared.register(stream) else { return };
    let address = stream.peer_addr().ok();
    let mut receiver = Receiver::new(HANDSHAKE_BYTES_MAX);
    match introduce(shared, stream, &mut receiver, address) {
        Ok(Some((hello, peer))) => {
            // Otherwise it had to make room for others in this very moment.
            if let Some(kept) = shared.strangers.dismiss(number) {
                peer.take_in(hello.lane, number, kept);
                if let Err(error) = read(shared, stream, receiver, hello.from, &peer) {
                    closed(shared, address, &error);
                }
                peer.let_go(hello.lane, number);
            }
        }
        Ok(None) => {}
        Err(error) => {
            if let Some(more) = shared.may_log_stranger() {
                warn!(remote = ?address, %error, more, "peer connection without a good handshake is closed");
            }
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
) -> io::Result<Option<(Hello, Arc<Peer>)>> {
    let limits = &shared.config.limits;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(limits.handshake_wait))?;
    let frame = wire::read_frame_within(stream, receiver, limits.handshake_wait)?;
    let Config { me, cluster_id, .. } = shared.config;
    let welcome = |verdict| {
        let version = PROTOCOL_VERSION;
        let card = card_for(verdict, shared.config.card);
        Welcome { version, cluster_id, from: me, card, verdict }.encode()
    };
    let hello = match Hello::decode(&frame) {
        Ok(hello) => hello,
        Err(error) => {
            if matches!(error, HandshakeError::Version { .. }) {
                wire::write_plain(&mut stream, &welcome(Verdict::WrongVersion))?;
            }
            return Err(io::Error::other(error));
        }
    };
    let is_member = |node| shared.peers.contains_key(&node);
    let admits = |node, card| shared.admits(node, card);
    let verdict = judge(&hello, me, cluster_id, is_member, admits);
    wire::write_plain(&mut stream, &welcome(verdict))?;
    let peer = shared.peers.get(&hello.from).filter(|_| verdict == Verdict::Accepted);
    let Some(peer) = peer else {
        if let Some(more) = shared.may_log_stranger() {
            refused(&hello, (me, cluster_id), verdict, address, more);
        }
        return Ok(None);
    };
    stream.set_write_timeout(Some(limits.write_wait_max))?;
    stream.set_read_timeout(Some(limits.idle_wait_max))?;
    receiver.limit(limits.frame_bytes_max);
    peer.kick();
    Ok(Some((hello, Arc::clone(peer))))
}

/// What is told of this member: to whoever is refused, nothing, as it would serve to pose as this member elsewhere.
fn card_for(verdict: Verdict, card: MemberCard) -> MemberCard {
    match verdict {
        Verdict::Accepted => card,
        Verdict::WrongCluster
        | Verdict::WrongTarget
        | Verdict::UnknownSender
        | Verdict::WrongVersion
        | Verdict::OtherDirectory
        | Verdict::Unavailable => MemberCard { directory: DirectoryId(0), command_version: 0 },
    }
}

fn refused(
    hello: &Hello,
    (me, cluster_id): (NodeId, u64),
    verdict: Verdict,
    address: Option<SocketAddr>,
    more: u64,
) {
    warn!(
        remote = ?address,
        ?verdict,
        remote_cluster_id = %format_args!("{:x}", hello.cluster_id),
        local_cluster_id = %format_args!("{cluster_id:x}"),
        remote_id = %format_args!("{:x}", hello.from.0),
        remote_target = %format_args!("{:x}", hello.to.0),
        local_id = %format_args!("{:x}", me.0),
        more,
        remote_directory = %format_args!("{:x}", hello.card.directory.0),
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
