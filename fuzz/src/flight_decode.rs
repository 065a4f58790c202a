//! Whatever a flight recording holds, it is played or refused: no panic, whether its checksums are right or not.
//!
//! Half of the inputs are taken as they are, with their checksums set right. The others change a recording of a real core, so that
//! images and events are met that nearly make sense.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quorate_flight::{RING_BYTES_MIN, Recorder, Recording, replay};
use quorate_raft::{
    AppendOutcome, Config, Core, Effects, EntryId, EntryKind, EntryMeta, Event, GroupId, Index,
    IoToken, Membership, Message, Mono, NodeId, ReadContext, Recovered, SnapshotMeta, Term,
};

const HEADER_BYTES: usize = 32;
const SEGMENT_HEADER_BYTES: usize = 40;

static REAL: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| [leader(), follower()]);

fuzz_target!(|data: &[u8]| {
    play(data);
    let Some((kind, changes)) = data.split_first() else { return };
    if kind % 2 == 0 {
        let mut bytes = b"QRTFLT\0\0    \x01\0\0\0        \x01\0\0\0    QSEG    ".to_vec();
        let length = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&3_u64.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(changes);
        return play_sealed(bytes);
    }
    let mut bytes = REAL[usize::from(kind / 2 % 2)].clone();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    play_sealed(bytes);
});

fn play(bytes: &[u8]) {
    if let Ok(recording) = Recording::read(bytes) {
        replay(&recording, |_| {});
    }
}

/// Sets the checksums right first.
fn play_sealed(mut bytes: Vec<u8>) {
    seal(&mut bytes, 8, 12, HEADER_BYTES);
    let mut at = HEADER_BYTES;
    while let Some(length) = bytes.get(at + 8..at + 12) {
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        let end = at.saturating_add(SEGMENT_HEADER_BYTES).saturating_add(length).min(bytes.len());
        seal(&mut bytes, at + 4, at + 8, end);
        at = end;
    }
    play(&bytes);
}

fn seal(bytes: &mut [u8], place: usize, from: usize, to: usize) {
    if let Some(crc) = bytes.get(from..to).map(crc32c::crc32c) {
        bytes[place..from].copy_from_slice(&crc.to_le_bytes());
    }
}

fn record(events: &[Event<'_>]) -> Vec<u8> {
    let membership = Membership::of_voters((1..=3).map(NodeId));
    let base = SnapshotMeta { last: EntryId::default(), membership };
    let config = Config { id: NodeId(1), ..Config::default() };
    let recovered = Recovered { base, ..Recovered::default() };
    let mut core = Core::recover(config, recovered, Mono(0), 3).expect("a fresh member");
    let mut recorder = Recorder::new(RING_BYTES_MIN);
    let mut effects = Effects::default();
    let mut now = Mono(5_000_000_000);
    for event in events {
        now = now.after(1_000_000);
        effects.clear();
        recorder.before(now, &core, *event);
        let verdict = core.step(now, *event, &mut effects);
        recorder.after(&core, verdict, &effects).expect("a core that works");
    }
    recorder.recording(GroupId(0))
}

fn leader() -> Vec<u8> {
    let (term, from) = (Term(1), NodeId(2));
    let outcome = AppendOutcome::Matched(Index(3));
    let granted = [true, false].map(|pre_vote| Message::Vote { term, pre_vote, granted: true });
    let matched = Message::Appended { term, round: 0, outcome };
    record(&[
        Event::Wake,
        Event::Message { from, message: &granted[0] },
        Event::Message { from, message: &granted[1] },
        Event::Propose { sizes: &[5, 6] },
        Event::IoDone { token: IoToken(3) },
        Event::Message { from, message: &matched },
        Event::Read { context: ReadContext(1) },
        Event::TransferLeader { to: from },
        Event::Wake,
    ])
}

fn follower() -> Vec<u8> {
    let (term, from) = (Term(2), NodeId(3));
    let entry = |bytes| EntryMeta { term, kind: EntryKind::Normal, bytes };
    let entries = [entry(5), entry(5), entry(9)];
    let (prev, commit) = (EntryId::default(), Index(2));
    let append = Message::AppendEntries { term, prev, entries: &entries[..], commit, round: 1 };
    let membership = Membership::of_voters((1..=3).map(NodeId));
    let snapshot = SnapshotMeta { last: EntryId { term, index: Index(9) }, membership };
    record(&[
        Event::Message { from, message: &append },
        Event::IoDone { token: IoToken(1) },
        Event::Compacted { upto: Index(1) },
        Event::Read { context: ReadContext(4) },
        Event::SnapshotReceived { from, term, snapshot: &snapshot },
        Event::IoDone { token: IoToken(2) },
        Event::Wake,
    ])
}
