//! What comes from the other members.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_node::{NodeEvent, PeerMessage};
use quorate_raft::NodeId;

use crate::{
    Handle,
    inbox::Source,
    services,
    shared::{RaftInput, Shared},
    snapshots::{ReceivedChunk, Snapshots},
};

impl Handle {
    /// A member said something. Blocks while a chunk of a snapshot is written, and for nothing else.
    pub fn take_peer_message(&self, from: NodeId, message: PeerMessage) {
        take_message(&self.0, from, message);
    }

    /// A member can be talked to (again).
    pub fn peer_connected(&self, peer: NodeId) {
        self.0.raft.put(RaftInput::Event(NodeEvent::PeerUp { node: peer }));
    }

    /// A connection to a member was lost.
    pub fn peer_disconnected(&self, peer: NodeId) {
        self.0.raft.put(RaftInput::Event(NodeEvent::PeerDown { node: peer }));
    }

    /// Tells a member where clients can find this one. Do it whenever one connects.
    pub fn introduce(&self, to: NodeId) {
        introduce(&self.0, to);
    }

    /// Introduces this member to every peer that is connected already: a peer may have been before there was a way to answer
    /// it. The others are met when they connect.
    pub fn introduce_to_all(&self) {
        let identity = &self.0.identity;
        for peer in identity.members.keys().filter(|member| **member != identity.me) {
            introduce(&self.0, *peer);
        }
    }
}

fn take_message(shared: &Arc<Shared>, from: NodeId, message: PeerMessage) {
    match message {
        PeerMessage::Raft { .. }
        | PeerMessage::Forward { .. }
        | PeerMessage::ForwardAck { .. }
        | PeerMessage::ForwardRefused { .. } => {
            let bytes = message.content_bytes();
            let input = RaftInput::Event(NodeEvent::Peer { from, message });
            // Lost, as on the way: the peer sends again what matters.
            let _ = shared.raft.offer(Source::Peer, input, bytes);
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
            Snapshots::take_ack(shared, from, transfer, progress);
        }
    }
}

/// The first byte of a service request that introduces a member and wants no answer.
const INTRODUCTION: u8 = 3;

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
