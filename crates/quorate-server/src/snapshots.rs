//! Snapshots between members: a follower that lacks what the leader's log has dropped gets the whole state.
//!
//! The leader's node orders a snapshot; chunks of a view of the state are read and sent beside it, as many ahead of what the
//! follower has acknowledged as the link carries. The follower writes them to a file; when the last one is durable its node decides, and
//! if it wants the snapshot the apply thread installs it. A transfer that makes no progress is given up; the node orders a
//! new one if it is still needed.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_kv::TABLES;
use quorate_node::{NodeEvent, Pace, PeerMessage, SnapshotOrder, SnapshotProgress};
use quorate_raft::{EntryId, Index, Mono, NodeId, SnapshotMeta, Term};
use quorate_storage::{
    StateDir,
    snapshot::{CHUNK_BYTES, IncomingSnapshot, SnapshotWriter},
};

use crate::{
    bugs::Bug,
    clock::nanoseconds,
    receiving::{self, Incoming},
    shared::{GROUP, RaftInput, Shared},
};

/// How many chunks are under way at first.
const WINDOW: u64 = 2;
/// How few and how many they become, as the link carries them.
const WINDOW_BOUNDS: (u64, u64) = (1, 16);
/// At least so long a silence means that what is under way was lost, and longer where round trips are.
const RESEND_AFTER: Duration = Duration::from_secs(1);
/// After this long without progress a transfer is given up.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(40);

/// The transfers of this server, in both directions.
#[derive(Debug)]
pub(crate) struct Snapshots {
    dir: StateDir,
    transfers: AtomicU64,
    outgoing: Mutex<BTreeMap<u64, Sending>>,
    incoming: Mutex<Incoming>,
}

/// A chunk as it came from a peer.
#[derive(Debug)]
pub(crate) struct ReceivedChunk {
    pub(crate) from: NodeId,
    pub(crate) term: Term,
    pub(crate) transfer: u64,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) number: u64,
    pub(crate) data: Bytes,
}

impl Snapshots {
    /// `first_transfer` is drawn at random: numbers of an earlier run mean nothing here.
    pub(crate) fn new(dir: StateDir, first_transfer: u64) -> Self {
        Self {
            dir,
            transfers: AtomicU64::new(first_transfer),
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
        }
    }

    /// The directory of the state.
    pub(crate) fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// How many are under way to others.
    pub(crate) fn sending(shared: &Shared) -> usize {
        shared.snapshots.outgoing.lock().len()
    }

    /// Whether one comes in, or is here and not installed.
    pub(crate) fn is_receiving(&self) -> bool {
        !matches!(&*self.incoming.lock(), Incoming::Nothing)
    }

    /// Begins to send a snapshot of the newest state; the node hears how it went.
    pub(crate) fn send(shared: &Arc<Shared>, order: SnapshotOrder) {
        let server = Arc::clone(shared);
        if let Err(error) = shared.jobs.run("snapshot", Box::new(move || begin(&server, order))) {
            tracing::error!(%error, "nowhere to send a snapshot from");
            tell_sent(shared, order.to, None);
        }
    }

    /// A transfer is under way from now on, and no earlier one to its receiver: the node has forgotten the order of that one, and
    /// would take how it ended for the end of this one. So nobody is told. Orders of several terms may begin in any order; says
    /// whether this one is the newest.
    fn push(&self, transfer: u64, sending: Sending) -> bool {
        let mut outgoing = self.outgoing.lock();
        let SnapshotOrder { to, term, .. } = sending.order;
        let mut others = outgoing.values().map(|other| &other.order);
        if others.any(|other| other.to == to && other.term > term) {
            return false;
        }
        outgoing.retain(|_, other| other.order.to != to);
        outgoing.insert(transfer, sending);
        true
    }

    /// A receiver tells how far it is; blocks while the next chunks are read.
    pub(crate) fn take_ack(
        shared: &Shared,
        from: NodeId,
        transfer: u64,
        progress: SnapshotProgress,
    ) {
        Self::step(shared, transfer, |sending| {
            if sending.order.to == from {
                sending.take_ack(shared, progress)
            } else {
                Ok(Going::On)
            }
        });
    }

    /// Looks after the transfers under way.
    pub(crate) fn tick(shared: &Shared) {
        shared.snapshots.give_up_silent(shared.clock.now());
        let transfers: Vec<u64> = shared.snapshots.outgoing.lock().keys().copied().collect();
        for transfer in transfers {
            Self::step(shared, transfer, |sending| sending.tick(shared));
        }
    }

    /// Goes on with a transfer, if it is still there. Nobody else does meanwhile.
    fn step(shared: &Shared, transfer: u64, go_on: impl FnOnce(&mut Sending) -> Outcome) {
        let mut outgoing = shared.snapshots.outgoing.lock();
        let Some(sending) = outgoing.get_mut(&transfer) else { return };
        let outcome = go_on(sending);
        let (to, snapshot) = (sending.order.to, sending.snapshot.clone());
        match outcome {
            Ok(Going::On) => return,
            Ok(Going::Done) => tell_sent(shared, to, Some(snapshot)),
            Err(error) => {
                tracing::warn!(to = format!("{:x}", to.0), %error, "a snapshot was not sent");
                tell_sent(shared, to, None);
            }
        }
        outgoing.remove(&transfer);
    }

    /// A chunk came; blocks while it is written.
    pub(crate) fn take_chunk(shared: &Shared, chunk: &ReceivedChunk) {
        let (from, transfer) = (chunk.from, chunk.transfer);
        let Self { incoming, dir, .. } = &shared.snapshots;
        let accepted = incoming.lock().accept(shared, dir, chunk).unwrap_or_else(|error| {
            tracing::warn!(from = format!("{:x}", from.0), %error, "a snapshot can't be received");
            Some(SnapshotProgress::Refused)
        });
        let Some(progress) = accepted else { return };
        if progress == SnapshotProgress::Done {
            let (term, snapshot) = (chunk.term, chunk.snapshot.clone());
            tracing::info!(from = format!("{:x}", from.0), last = %snapshot.last, "received a snapshot");
            let event = NodeEvent::SnapshotReceived { group: GROUP, from, term, snapshot };
            shared.raft.put(RaftInput::Event(event));
        }
        shared.send(from, PeerMessage::SnapshotAck { group: GROUP, transfer, progress });
    }

    /// The node doesn't want what is ready.
    pub(crate) fn discard(shared: &Shared) {
        let mut incoming = shared.snapshots.incoming.lock();
        if !matches!(&*incoming, Incoming::Ready { .. }) {
            return;
        }
        if shared.makes(Bug::UnwantedKept) {
            *incoming = Incoming::Nothing;
        }
        incoming.discard();
    }

    /// A sender that has said nothing for so long has given up, or is gone: so does this side.
    fn give_up_silent(&self, now: Mono) {
        let mut incoming = self.incoming.lock();
        if let Incoming::Receiving { heard_at, .. } = &*incoming
            && now.since(*heard_at) >= nanoseconds(GIVE_UP_AFTER)
        {
            incoming.discard();
        }
    }

    /// Takes the snapshot that the node wants installed. Others are refused until [`Snapshots::installed`].
    ///
    /// # Errors
    /// It is not there: a mistake of ours.
    pub(crate) fn take_ready(&self, wanted: &SnapshotMeta) -> anyhow::Result<IncomingSnapshot> {
        let found = std::mem::replace(&mut *self.incoming.lock(), Incoming::Installing);
        if let Incoming::Ready { snapshot, file } = found
            && snapshot == *wanted
        {
            return Ok(file);
        }
        anyhow::bail!("snapshot {} is to be installed, but it is not there", wanted.last)
    }

    /// The file that was taken is not needed any more.
    pub(crate) fn installed(&self) {
        *self.incoming.lock() = Incoming::Nothing;
    }
}

fn begin(shared: &Shared, order: SnapshotOrder) {
    let transfer = shared.snapshots.transfers.fetch_add(1, Relaxed);
    let to = format!("{:x}", order.to.0);
    let sending = match Sending::new(shared, order, transfer) {
        Ok(sending) => sending,
        Err(error) => {
            tracing::error!(to, %error, "a snapshot can't be begun");
            return tell_sent(shared, order.to, None);
        }
    };
    let last = sending.snapshot.last;
    if shared.snapshots.push(transfer, sending) {
        tracing::info!(to, %last, "sending a snapshot");
        Snapshots::step(shared, transfer, |sending| sending.fill_window(shared));
    }
}

fn tell_sent(shared: &Shared, to: NodeId, snapshot: Option<SnapshotMeta>) {
    let event = NodeEvent::SnapshotSent { group: GROUP, to, snapshot };
    shared.raft.put(RaftInput::Event(event));
}

/// One transfer under way.
#[derive(Debug)]
struct Sending {
    order: SnapshotOrder,
    transfer: u64,
    snapshot: SnapshotMeta,
    writer: SnapshotWriter,
    /// The receiver has everything before.
    acked: u64,
    ended: bool,
    pace: Pace,
    /// Everything before was sent, at least once.
    furthest: u64,
    /// When it was last heard of.
    heard_at: Mono,
    /// When it last got further.
    progressed_at: Mono,
}

/// What became of a transfer.
type Outcome = anyhow::Result<Going>;

/// Whether a transfer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    On,
    Done,
}

impl Sending {
    fn new(shared: &Shared, order: SnapshotOrder, transfer: u64) -> io::Result<Self> {
        let held_bytes = shared.sizes.live.load(Relaxed);
        let reader = shared.reader.load_full();
        // Either may belong to the run before.
        let held_bytes = held_bytes.max(shared.sizes.live.load(Relaxed));
        let applied = reader.applied();
        let last = EntryId { term: Term(applied.term), index: Index(applied.index) };
        let snapshot = SnapshotMeta { last, membership: shared.identity.membership() };
        let head = receiving::head(last, held_bytes);
        let view = Arc::clone(reader.view());
        let salt = shared.vfs.random()?;
        let lower = shared.config.lower_limits.map(|lower| lower.snapshot_chunk_bytes);
        let chunk_bytes = lower.unwrap_or(CHUNK_BYTES);
        let writer = SnapshotWriter::new(view, TABLES.to_vec(), head, (chunk_bytes, salt));
        let (heard_at, progressed_at) = (shared.clock.now(), shared.clock.now());
        let pace = Pace::new(WINDOW, WINDOW_BOUNDS, nanoseconds(RESEND_AFTER));
        let (acked, furthest, ended) = (0, 0, false);
        Ok(Self {
            order,
            transfer,
            snapshot,
            writer,
            acked,
            ended,
            pace,
            furthest,
            heard_at,
            progressed_at,
        })
    }

    fn take_ack(&mut self, shared: &Shared, progress: SnapshotProgress) -> Outcome {
        self.heard_at = shared.clock.now();
        match progress {
            SnapshotProgress::Done => return Ok(Going::Done),
            SnapshotProgress::Refused => anyhow::bail!("the receiver refused it"),
            // It was sent a later chunk, so it had the first one when that was sent: this is no answer that was overtaken.
            SnapshotProgress::Expect(0) => anyhow::bail!("the receiver has lost what it had"),
            // Nobody has what was not sent.
            SnapshotProgress::Expect(next)
                if next > self.acked && next <= self.writer.next_sequence() =>
            {
                self.acked = next;
                self.pace.acked(self.heard_at, next);
                self.progressed_at = self.heard_at;
            }
            SnapshotProgress::Expect(_) => {}
        }
        self.fill_window(shared)
    }

    /// After a silence, what is under way is sent again.
    fn tick(&mut self, shared: &Shared) -> Outcome {
        let now = shared.clock.now();
        let lasted = now.since(self.progressed_at);
        anyhow::ensure!(lasted < nanoseconds(GIVE_UP_AFTER), "there is no progress");
        if now.since(self.heard_at) < self.pace.wait_ns() {
            return Ok(Going::On);
        }
        self.heard_at = now;
        self.pace.lost();
        self.writer.seek(self.acked)?;
        self.ended = false;
        self.fill_window(shared)
    }

    /// How many chunks may be under way. The first one goes alone: whoever is sent another one and knows of no transfer has
    /// started again since, and can say so at once.
    fn window(&self) -> u64 {
        if self.acked == 0 { 1 } else { self.pace.window() }
    }

    fn fill_window(&mut self, shared: &Shared) -> Outcome {
        while !self.ended && self.writer.next_sequence() < self.acked + self.window() {
            let number = self.writer.next_sequence();
            let Some(chunk) = self.writer.next_chunk()? else {
                self.ended = true;
                break;
            };
            let message = PeerMessage::SnapshotChunk {
                group: GROUP,
                term: self.order.term,
                transfer: self.transfer,
                snapshot: self.snapshot.clone(),
                number,
                last: chunk.last,
                data: chunk.bytes,
            };
            if !shared.send(self.order.to, message) {
                break;
            }
            if number >= self.furthest {
                self.furthest = number + 1;
                self.pace.sent(shared.clock.now(), self.furthest);
            }
        }
        Ok(Going::On)
    }
}

#[cfg(test)]
mod tests {
    use quorate_storage::vfs::MemoryVfs;

    use super::*;
    use crate::{ServerConfig, testing};

    const FOLLOWER: NodeId = NodeId(2);

    fn order(to: NodeId, term: u64) -> SnapshotOrder {
        SnapshotOrder { group: GROUP, to, term: Term(term) }
    }

    fn server() -> Arc<Shared> {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let server = testing::started(&vfs, &now, ServerConfig::default());
        Arc::clone(&server.handle.0)
    }

    fn under_way(shared: &Shared) -> Vec<(NodeId, u64)> {
        let outgoing = shared.snapshots.outgoing.lock();
        outgoing.values().map(|sending| (sending.order.to, sending.order.term.0)).collect()
    }

    /// A leader that lost and won an election went on with what it had sent before: the receiver refused it, and the node took
    /// that for the end of the one it had ordered since.
    #[test]
    fn a_new_transfer_takes_the_place_of_an_older_one_and_is_not_ended_with_it() {
        let shared = server();
        begin(&shared, order(FOLLOWER, 1));
        begin(&shared, order(NodeId(3), 1));
        let older = *shared.snapshots.outgoing.lock().keys().next().unwrap();
        begin(&shared, order(FOLLOWER, 3));
        assert_eq!(under_way(&shared), [(NodeId(3), 1), (FOLLOWER, 3)]);
        begin(&shared, order(FOLLOWER, 2));
        assert_eq!(under_way(&shared), [(NodeId(3), 1), (FOLLOWER, 3)], "of an earlier term");
        let told = shared.raft.len();
        Snapshots::take_ack(&shared, FOLLOWER, older, SnapshotProgress::Refused);
        assert_eq!(shared.raft.len(), told, "nobody ordered it any more");
        let newer = *shared.snapshots.outgoing.lock().keys().last().unwrap();
        Snapshots::take_ack(&shared, FOLLOWER, newer, SnapshotProgress::Refused);
        assert_eq!((under_way(&shared), shared.raft.len()), (vec![(NodeId(3), 1)], told + 1));
    }
}
