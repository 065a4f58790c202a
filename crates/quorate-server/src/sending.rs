//! A snapshot on its way out: which chunks were read, sent and acknowledged.
//!
//! | Numbers | What |
//! |---|---|
//! | before `acked` | the receiver has them |
//! | `acked..next` | under way; lost if there is silence, and sent again from what is kept |
//! | `next..acked + kept` | read, and not sent yet, or not since the last silence |
//!
//! Nothing here waits: the state is read by a job, to which [`Sending::lend`] lends the source and which brings it back with
//! what it read. No chunk is read twice. Of each transfer at most [`WINDOW_BOUNDS`] chunks are in memory.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use quorate_kv::TABLES;
use quorate_node::{Pace, PeerMessage, SnapshotOrder, SnapshotProgress};
use quorate_raft::{EntryId, Index, Mono, SnapshotMeta, Term};
use quorate_storage::snapshot::{CHUNK_BYTES, Chunk, SnapshotError, SnapshotWriter};

use crate::{
    clock::nanoseconds,
    receiving,
    shared::{GROUP, Shared},
    snapshots::GIVE_UP_AFTER,
};

/// How many chunks are under way at first.
const WINDOW: u64 = 2;
/// How few and how many they become, as the link carries them. So many are kept in memory, too.
const WINDOW_BOUNDS: (u64, u64) = (1, 16);
/// At least so long a silence means that what is under way was lost, and longer where round trips are.
const RESEND_AFTER: Duration = Duration::from_secs(1);

/// One transfer under way.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) order: SnapshotOrder,
    pub(crate) snapshot: SnapshotMeta,
    transfer: u64,
    /// Where the next chunks come from: away while they are read, and gone after the last one.
    source: Option<SnapshotWriter>,
    /// What was read and is not acknowledged, oldest first: number `acked` and those behind it.
    kept: VecDeque<Chunk>,
    /// The receiver has everything before.
    acked: u64,
    /// The next one to send.
    next: u64,
    /// Everything before was sent, at least once.
    furthest: u64,
    pace: Pace,
    /// When it was last heard of, or the first of what is under way was sent.
    heard_at: Mono,
    /// When it last got further.
    progressed_at: Mono,
}

/// What became of a transfer.
pub(crate) type Outcome = anyhow::Result<Going>;

/// Whether a transfer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Going {
    On,
    Done,
}

impl Sending {
    /// A transfer of the newest state.
    pub(crate) fn new(shared: &Shared, order: SnapshotOrder, transfer: u64) -> io::Result<Self> {
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
        let source = SnapshotWriter::new(view, TABLES.to_vec(), head, (chunk_bytes, salt));
        let now = shared.clock.now();
        Ok(Self {
            order,
            snapshot,
            transfer,
            source: Some(source),
            kept: VecDeque::new(),
            acked: 0,
            next: 0,
            furthest: 0,
            pace: Pace::new(WINDOW, WINDOW_BOUNDS, nanoseconds(RESEND_AFTER)),
            heard_at: now,
            progressed_at: now,
        })
    }

    /// Lends what the next chunks are to be read from, if some are lacking and nobody reads.
    pub(crate) fn lend(&mut self) -> Option<SnapshotWriter> {
        let is_lacking = (self.kept.len() as u64) < self.window();
        self.source.take_if(|_| is_lacking)
    }

    /// Takes what was read, with what it was read from.
    pub(crate) fn take_read(
        &mut self,
        shared: &Shared,
        source: SnapshotWriter,
        read: Result<Option<Chunk>, SnapshotError>,
    ) -> Outcome {
        let Some(chunk) = read? else { return Ok(Going::On) };
        if !chunk.last {
            self.source = Some(source);
        }
        self.kept.push_back(chunk);
        self.send_window(shared);
        Ok(Going::On)
    }

    /// The receiver says how far it is.
    pub(crate) fn take_ack(&mut self, shared: &Shared, progress: SnapshotProgress) -> Outcome {
        self.heard_at = shared.clock.now();
        match progress {
            SnapshotProgress::Done => return Ok(Going::Done),
            SnapshotProgress::Refused => anyhow::bail!("the receiver refused it"),
            // It was sent a later chunk, so it had the first one when that was sent: this is no answer that was overtaken.
            SnapshotProgress::Expect(0) => anyhow::bail!("the receiver has lost what it had"),
            // Nobody has what was not sent.
            SnapshotProgress::Expect(next) if next > self.acked && next <= self.furthest => {
                (self.acked..next).for_each(|_| drop(self.kept.pop_front()));
                self.acked = next;
                self.next = self.next.max(next);
                self.pace.acked(self.heard_at, next);
                self.progressed_at = self.heard_at;
            }
            SnapshotProgress::Expect(_) => {}
        }
        self.send_window(shared);
        Ok(Going::On)
    }

    /// After a silence, what is under way is sent again.
    pub(crate) fn tick(&mut self, shared: &Shared) -> Outcome {
        let now = shared.clock.now();
        let lasted = now.since(self.progressed_at);
        anyhow::ensure!(lasted < nanoseconds(GIVE_UP_AFTER), "there is no progress");
        if now.since(self.heard_at) < self.pace.wait_ns() {
            return Ok(Going::On);
        }
        self.heard_at = now;
        if self.next > self.acked {
            self.pace.lost();
            self.next = self.acked;
        }
        self.send_window(shared);
        Ok(Going::On)
    }

    /// How many chunks may be under way. The first one goes alone: whoever is sent another one and knows of no transfer has
    /// started again since, and can say so at once.
    fn window(&self) -> u64 {
        if self.acked == 0 { 1 } else { self.pace.window() }
    }

    /// Sends what is read and may be under way.
    fn send_window(&mut self, shared: &Shared) {
        let now = shared.clock.now();
        while self.next < self.acked + self.window() {
            let nth = usize::try_from(self.next - self.acked).unwrap_or(usize::MAX);
            let Some(chunk) = self.kept.get(nth) else { break };
            if !shared.send(self.order.to, self.message(chunk)) {
                break;
            }
            if self.next == self.acked {
                self.heard_at = now;
            }
            self.next += 1;
            if self.next > self.furthest {
                self.furthest = self.next;
                self.pace.sent(now, self.furthest);
            }
        }
    }

    fn message(&self, chunk: &Chunk) -> PeerMessage {
        PeerMessage::SnapshotChunk {
            group: GROUP,
            term: self.order.term,
            transfer: self.transfer,
            snapshot: self.snapshot.clone(),
            number: chunk.sequence,
            last: chunk.last,
            data: chunk.bytes.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    use bytes::Bytes;
    use quorate_engine::{
        Batch, Direction, Durability, Engine, Error, KeyRange, MemoryEngine, Table, View, Visitor,
    };
    use quorate_raft::NodeId;
    use quorate_storage::snapshot::SnapshotHead;

    use super::*;
    use crate::{ServerConfig, snapshots::Snapshots, testing::Cluster};

    const TRANSFER: u64 = 7;

    /// A state that counts how often it is read, and looks who waits meanwhile.
    #[derive(Debug)]
    struct Watched {
        view: Arc<dyn View>,
        shared: Arc<Shared>,
        scans: AtomicU64,
        keeps_waiting: AtomicBool,
    }

    impl View for Watched {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
            self.view.get(table, key)
        }

        fn scan(
            &self,
            table: Table,
            range: KeyRange<'_>,
            direction: Direction,
            visit: &mut Visitor<'_>,
        ) -> Result<(), Error> {
            self.scans.fetch_add(1, SeqCst);
            self.keeps_waiting.fetch_or(self.shared.snapshots.are_busy(), SeqCst);
            self.view.scan(table, range, direction, visit)
        }
    }

    fn watched(shared: &Arc<Shared>) -> Arc<Watched> {
        let mut engine = MemoryEngine::new();
        let mut batch = Batch::new();
        for key in 0..200_u8 {
            batch.put(TABLES[0], vec![key], vec![key; 100]);
        }
        engine.commit(batch, Durability::Durable).unwrap();
        let (view, shared) = (engine.view().unwrap(), Arc::clone(shared));
        let (scans, keeps_waiting) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Watched { view, shared, scans, keeps_waiting })
    }

    fn source(view: &Arc<Watched>) -> SnapshotWriter {
        SnapshotWriter::new(
            Arc::clone(view) as _,
            TABLES.to_vec(),
            SnapshotHead::default(),
            (500, 3),
        )
    }

    /// Begins a transfer to another member.
    fn begin(shared: &Arc<Shared>, to: NodeId, view: &Arc<Watched>) {
        let order = SnapshotOrder { group: GROUP, to, term: Term(1) };
        let mut sending = Sending::new(shared, order, TRANSFER).unwrap();
        sending.source = Some(source(view));
        assert!(shared.snapshots.push(TRANSFER, sending));
        Snapshots::go_on(shared, TRANSFER, |_| Ok(Going::On));
    }

    /// The chunks that are on the wire now.
    fn arrived(cluster: &Cluster) -> Vec<(u64, Bytes)> {
        let chunk = |(_, _, message)| {
            let PeerMessage::SnapshotChunk { number, data, .. } = message else { return None };
            Some((number, data))
        };
        cluster.take_wire().into_iter().filter_map(chunk).collect()
    }

    /// A lost chunk once had the whole state read again from its beginning, with the transfers locked: every acknowledgement
    /// waited, and with it the votes and heartbeats behind it on the urgent lane.
    #[test]
    fn lost_chunks_are_sent_again_unread_and_nobody_waits_for_the_state() {
        let cluster = Cluster::new(3, &ServerConfig::default());
        let (shared, to) = (cluster.handle(0).0, cluster.handle(1).membership().me);
        let mut plain = Vec::new();
        let alone = watched(&shared);
        let mut reading = source(&alone);
        while let Some(chunk) = reading.next_chunk().unwrap() {
            plain.push((chunk.sequence, chunk.bytes));
        }
        let view = watched(&shared);
        cluster.take_wire();
        begin(&shared, to, &view);
        assert_eq!(view.scans.load(SeqCst), 0, "a job reads");
        cluster.begin_jobs(0);
        let (mut received, mut losses) = (Vec::new(), 0);
        while received.len() < plain.len() {
            let mut chunks = arrived(&cluster);
            assert!(chunks.len() as u64 <= WINDOW_BOUNDS.1);
            if losses < 5 && chunks.len() > 3 {
                // The first gets through, or none at all; then nothing is heard.
                losses += 1;
                chunks.truncate(losses % 2);
                cluster.stand_still_ms(30_000);
                let scans = view.scans.load(SeqCst);
                Snapshots::tick(&shared);
                cluster.begin_jobs(0);
                assert_eq!(view.scans.load(SeqCst), scans, "what is sent again was kept");
            }
            for (number, data) in chunks.drain(..) {
                if number == received.len() as u64 {
                    received.push((number, data));
                }
                let progress = SnapshotProgress::Expect(received.len() as u64);
                Snapshots::take_ack(&shared, to, TRANSFER, progress);
            }
            cluster.begin_jobs(0);
        }
        assert_eq!((received, losses), (plain, 5));
        assert_eq!(view.scans.load(SeqCst), alone.scans.load(SeqCst), "each chunk is read once");
        assert!(!view.keeps_waiting.load(SeqCst), "nobody waited while it was read");
    }
}
