//! A follower whose log holds a former leader's tail installs a snapshot, and the power goes at every call of its disk.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::{Bytes, BytesMut};
use quorate_engine::{Durability, MemoryEngine};
use quorate_etcd::backend::Backend;
use quorate_kv::{Command, Committed, Store, TABLES};
use quorate_node::{Entry, Envelope, PeerMessage};
use quorate_proto::etcdserverpb::PutRequest;
use quorate_raft::{
    EntryId, EntryKind, EntryMeta, Index, Membership, Message, NodeId, SnapshotMeta, Term,
};
use quorate_storage::{
    snapshot::{CHUNK_BYTES, SnapshotWriter},
    vfs::{CrashStyle, Faults, MemoryVfs},
};

use crate::{Identity, ServerConfig, Started, receiving, shared::GROUP, testing};

/// What the cluster committed: three entries of the first term, then entries of the second.
const COMMITTED: [u64; 8] = [1, 1, 1, 2, 2, 2, 2, 2];
/// How many of them the follower has and knows to be committed.
const SHARED: u64 = 3;
/// The last entry in the snapshot.
const SNAPSHOT: EntryId = EntryId { term: Term(2), index: Index(6) };

fn config() -> ServerConfig {
    let member = |name: &str| (name.to_owned(), vec![format!("http://{name}:2380")]);
    ServerConfig {
        name: "a".to_owned(),
        initial_cluster: BTreeMap::from(["a", "b", "c"].map(member)),
        wal_segment_bytes: Some(32 << 10),
        ..ServerConfig::default()
    }
}

/// Ids of this member's peers.
fn peers() -> (NodeId, NodeId) {
    let identity = Identity::of(&config()).unwrap();
    let mut others = identity.members.keys().filter(|id| **id != identity.me).copied();
    (others.next().unwrap(), others.next().unwrap())
}

/// The entry that a leader of `term` put at `index`.
fn entry(term: u64, index: u64) -> Entry {
    let (key, value) = (Bytes::from(format!("k{index}")), Bytes::from(format!("of term {term}")));
    let mut payload = BytesMut::new();
    Envelope::begin(NodeId(term), index, &mut payload);
    let put = PutRequest { key, value, ..PutRequest::default() };
    payload.extend_from_slice(&Command::Put(put).encode());
    let bytes = u32::try_from(payload.len()).unwrap();
    let meta = EntryMeta { term: Term(term), kind: EntryKind::Normal, bytes };
    Entry { meta, payload: payload.freeze() }
}

/// The state after the first `count` committed entries.
fn state_after(count: u64) -> Store {
    let mut store = Store::open(Box::new(MemoryEngine::new())).unwrap();
    for (term, index) in COMMITTED.into_iter().zip(1..=count) {
        let payload = entry(term, index).payload;
        let command = Some(Envelope::open(&payload).unwrap().command);
        store.apply(&[Committed { index, term, command }], Durability::Relaxed).unwrap();
    }
    store
}

/// The messages that bring the snapshot.
fn snapshot_messages() -> Vec<PeerMessage> {
    let store = state_after(SNAPSHOT.index.0);
    let head = receiving::head(SNAPSHOT, 0);
    let view = Arc::clone(store.reader().view());
    let mut writer = SnapshotWriter::new(view, TABLES.to_vec(), head, (CHUNK_BYTES, 3));
    let members = Identity::of(&config()).unwrap().members;
    let membership = Membership::of_voters(members.into_keys());
    let snapshot = SnapshotMeta { last: SNAPSHOT, membership };
    let mut messages = Vec::new();
    while let Some(chunk) = writer.next_chunk().unwrap() {
        messages.push(PeerMessage::SnapshotChunk {
            group: GROUP,
            term: SNAPSHOT.term,
            transfer: 5,
            snapshot: snapshot.clone(),
            number: messages.len() as u64,
            last: chunk.last,
            data: chunk.bytes,
        });
    }
    messages
}

fn append(term: u64, prev: EntryId, entries: Vec<Entry>, commit: u64) -> PeerMessage {
    let (term, commit) = (Term(term), Index(commit));
    let message = Message::AppendEntries { term, prev, entries, commit, round: 0 };
    PeerMessage::Raft { group: GROUP, message }
}

/// All sides take turns until nothing waits.
fn settle(server: &mut Started) -> anyhow::Result<()> {
    while server.raft.is_ready() || server.log.is_ready() || server.apply.is_ready() {
        server.turn()?;
        server.apply.round()?;
    }
    Ok(())
}

fn tell(server: &mut Started, from: NodeId, message: PeerMessage) -> anyhow::Result<()> {
    server.handle.take_peer_message(from, message);
    settle(server)
}

fn boot(vfs: &MemoryVfs) -> anyhow::Result<Started> {
    testing::try_start(Arc::new(vfs.clone()), &Arc::new(AtomicU64::new(1)), config())
}

/// The disk of a follower that has `length` entries of the first term's leader.
fn follower(length: u64) -> MemoryVfs {
    let vfs = MemoryVfs::new();
    let mut server = boot(&vfs).unwrap();
    let entries = (1..=length).map(|index| entry(1, index)).collect();
    tell(&mut server, peers().0, append(1, EntryId::default(), entries, SHARED)).unwrap();
    assert_eq!(server.handle.reader().applied().index, SHARED);
    vfs
}

/// The snapshot arrives and the power goes at the `call`th call of the disk. Whether it went.
fn install_until(vfs: &MemoryVfs, call: u64) -> bool {
    let mut server = boot(vfs).unwrap();
    vfs.set_faults(Faults { power_off_at_call: Some(call), ..Faults::default() });
    let leader = peers().1;
    // Chunks are taken from the leader of this term, so it is heard of first.
    let message = Message::Heartbeat { term: SNAPSHOT.term, commit: Index(0), round: 0 };
    let sign_of_life = PeerMessage::Raft { group: GROUP, message };
    let mut messages = std::iter::once(sign_of_life).chain(snapshot_messages());
    let told = messages.try_for_each(|message| tell(&mut server, leader, message));
    let went = vfs.counts().total > call;
    assert!(went || told.is_ok(), "{told:?}");
    went
}

/// The follower starts again; the second term's leader goes on with it, and its state is the cluster's.
fn goes_on(vfs: &MemoryVfs, length: u64, place: &str) {
    let mut server = boot(vfs).unwrap_or_else(|error| panic!("{place}: {error:#}"));
    let applied = server.handle.reader().applied().index;
    let (base, last) = {
        let view = server.raft.view().unwrap();
        (view.base, view.last)
    };
    let prev = if applied == SNAPSHOT.index.0 {
        assert_eq!((base, last), (SNAPSHOT, SNAPSHOT), "{place}: nothing of the old tail stays");
        SNAPSHOT
    } else {
        assert_eq!(last, EntryId { term: Term(1), index: Index(length) }, "{place}");
        EntryId { term: Term(1), index: Index(SHARED) }
    };
    let all = COMMITTED.len() as u64;
    let rest = COMMITTED.into_iter().zip(1..).skip(usize::try_from(prev.index.0).unwrap());
    let entries = rest.map(|(term, index)| entry(term, index)).collect();
    tell(&mut server, peers().1, append(2, prev, entries, all)).unwrap();
    let reader = server.handle.reader();
    assert_eq!(reader.applied().index, all, "{place}");
    let expected = state_after(all).reader().hash_kv(0).unwrap();
    assert_eq!(reader.hash_kv(0).unwrap(), expected, "{place}");
    assert_eq!(server.raft.view().unwrap().last.index.0, all, "{place}");
}

/// Only the term tells the old tail from what follows the snapshot: it ends with it, or far beyond.
#[test]
fn a_crash_at_any_call_of_an_install_leaves_nothing_of_an_older_terms_tail() {
    for length in [6, 10] {
        let disk = follower(length);
        for call in 0.. {
            let vfs = disk.crashed_copy(CrashStyle::KeepAll, 0);
            let went = install_until(&vfs, call);
            for style in CrashStyle::ALL {
                let place = format!("tail up to {length}, call {call}, {style:?}");
                goes_on(&vfs.crashed_copy(style, call), length, &place);
            }
            if !went {
                assert!(call > 20, "the install is over after {call} calls");
                break;
            }
        }
    }
}
