//! What comes from the other members.

use std::sync::{Arc, Weak};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_net::{Config, Lane, Limits, PeerEvent, Transport};
use quorate_node::{NodeEvent, PeerMessage};
use quorate_raft::NodeId;

use super::{
    services,
    shared::{RaftInput, Shared},
    snapshots::{ReceivedChunk, Snapshots},
};

/// Starts to talk to the other members.
///
/// # Errors
/// The address can't be listened on.
pub(super) fn connect(shared: &Arc<Shared>) -> anyhow::Result<Transport> {
    let identity = &shared.identity;
    let config = Config {
        me: identity.me,
        cluster_id: identity.cluster_id,
        listen: shared.config.listen_peer.iter().map(ToString::to_string).collect(),
        peers: identity.peer_addresses()?,
        limits: Limits::default(),
    };
    let server: Weak<Shared> = Arc::downgrade(shared);
    let transport = Transport::start(config, move |from, event| {
        if let Some(shared) = server.upgrade() {
            take_in(&shared, from, event);
        }
    })?;
    Ok(transport)
}

fn take_in(shared: &Arc<Shared>, from: NodeId, event: PeerEvent) {
    match event {
        PeerEvent::Message(message) => take_message(shared, from, message),
        PeerEvent::Connected(lane) => {
            tracing::debug!(peer = format!("{:x}", from.0), ?lane, "connected");
            shared.raft.put(RaftInput::Event(NodeEvent::PeerUp { node: from }));
            if lane == Lane::Urgent {
                introduce(shared, from);
            }
        }
        PeerEvent::Disconnected(lane) => {
            tracing::debug!(peer = format!("{:x}", from.0), ?lane, "disconnected");
            shared.raft.put(RaftInput::Event(NodeEvent::PeerDown { node: from }));
        }
    }
}

fn take_message(shared: &Arc<Shared>, from: NodeId, message: PeerMessage) {
    match message {
        PeerMessage::Raft { .. } | PeerMessage::Forward { .. } | PeerMessage::ForwardAck { .. } => {
            shared.raft.put(RaftInput::Event(NodeEvent::Peer { from, message }));
        }
        PeerMessage::ServiceRequest { body, .. } if body.first() == Some(&INTRODUCTION) => {
            learn(shared, from, body);
        }
        PeerMessage::ServiceRequest { id, body } => {
            services::take_request(shared, from, id, &body);
        }
        PeerMessage::ServiceReply { id, body } => services::take_reply(shared, id, body),
        PeerMessage::SnapshotChunk { term, transfer, snapshot, number, data, .. } => {
            let chunk = ReceivedChunk { from, term, transfer, snapshot, number, data };
            Snapshots::take_chunk(shared, &chunk);
        }
        PeerMessage::SnapshotAck { transfer, progress, .. } => {
            shared.snapshots.take_ack(transfer, progress);
        }
    }
}

/// The first byte of a service request that introduces a member and wants no answer.
const INTRODUCTION: u8 = 3;

/// Introduces this member to every peer that is connected already: a peer may have been before there was a transport to answer
/// with. The others are met when they connect.
pub(super) fn introduce_to_all(shared: &Shared) {
    for peer in shared.identity.members.keys().filter(|member| **member != shared.identity.me) {
        introduce(shared, *peer);
    }
}

/// Tells a peer where clients can find this member.
fn introduce(shared: &Shared, to: NodeId) {
    let mut body = BytesMut::new();
    body.put_u8(INTRODUCTION);
    for url in &shared.config.advertise_client_urls {
        body.put_u16_le(u16::try_from(url.len()).unwrap_or(u16::MAX));
        body.put_slice(url.as_bytes());
    }
    shared.send(to, PeerMessage::ServiceRequest { id: 0, body: body.freeze() });
}

/// Notes where clients find `from`.
fn learn(shared: &Shared, from: NodeId, body: Bytes) {
    match read_urls(body) {
        Some(urls) => {
            shared.client_urls.lock().insert(from, urls);
        }
        None => {
            tracing::warn!(peer = format!("{:x}", from.0), "an introduction that can't be read");
        }
    }
}

fn read_urls(mut body: Bytes) -> Option<Vec<String>> {
    let mut urls = Vec::new();
    body.try_get_u8().ok()?;
    while body.has_remaining() {
        let length = usize::from(body.try_get_u16_le().ok()?);
        let url = (length <= body.len()).then(|| body.split_to(length))?;
        urls.push(String::from_utf8(url.into()).ok()?);
    }
    Some(urls)
}
