//! Snapshots between members: a follower that lacks what the leader's log has dropped gets the whole state.
//!
//! The leader's node orders a snapshot; a thread of its own reads a view of the state and sends chunks, a few ahead of what
//! the follower has acknowledged. The follower writes them to a file; when the last one is durable its node decides, and
//! if it wants the snapshot the apply thread installs it. A transfer that makes no progress is given up; the node orders a
//! new one if it is still needed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_kv::TABLES;
use quorate_node::{NodeEvent, PeerMessage, SnapshotOrder, SnapshotProgress};
use quorate_raft::{EntryId, Index, NodeId, SnapshotMeta, Term};
use quorate_storage::{
    StateDir,
    snapshot::{CHUNK_BYTES, IncomingSnapshot, Progress, SnapshotHead, SnapshotWriter},
};

use super::shared::{GROUP, RaftInput, Shared};

/// How many chunks are under way.
const WINDOW: u64 = 4;
/// After this long without an acknowledgement, what is under way is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(1);
/// After this long without progress a transfer is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);

/// The transfers of this server, in both directions.
#[derive(Debug)]
pub(super) struct Snapshots {
    dir: StateDir,
    transfers: AtomicU64,
    outgoing: Mutex<BTreeMap<u64, mpsc::Sender<SnapshotProgress>>>,
    incoming: Mutex<Incoming>,
}

#[derive(Debug, Default)]
enum Incoming {
    #[default]
    Nothing,
    /// Chunks arrive.
    Receiving { transfer: u64, snapshot: SnapshotMeta, file: IncomingSnapshot },
    /// All is there; the node decides.
    Ready { snapshot: SnapshotMeta, file: IncomingSnapshot },
}

/// A chunk as it came from a peer.
#[derive(Debug)]
pub(super) struct ReceivedChunk {
    pub(super) from: NodeId,
    pub(super) term: Term,
    pub(super) transfer: u64,
    pub(super) snapshot: SnapshotMeta,
    pub(super) number: u64,
    pub(super) data: Bytes,
}

impl Snapshots {
    /// `first_transfer` is drawn at random: numbers of an earlier run mean nothing here.
    pub(super) fn new(dir: StateDir, first_transfer: u64) -> Self {
        Self {
            dir,
            transfers: AtomicU64::new(first_transfer),
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
        }
    }

    /// The directory of the state.
    pub(super) fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// Sends a snapshot of the newest state, on a thread of its own; tells the node how it went.
    pub(super) fn send(shared: &Arc<Shared>, order: SnapshotOrder) {
        let server = Arc::clone(shared);
        let work = move || {
            let snapshot = send_all(&server, order);
            let to = order.to;
            let event = NodeEvent::SnapshotSent { group: GROUP, to, snapshot };
            server.raft.put(RaftInput::Event(event));
        };
        if let Err(error) = thread::Builder::new().name("snapshot".into()).spawn(work) {
            tracing::error!(%error, "no thread to send a snapshot");
            let event = NodeEvent::SnapshotSent { group: GROUP, to: order.to, snapshot: None };
            shared.raft.put(RaftInput::Event(event));
        }
    }

    /// A receiver tells how far it is.
    pub(super) fn take_ack(&self, transfer: u64, progress: SnapshotProgress) {
        if let Some(sender) = self.outgoing.lock().get(&transfer) {
            // Its thread has ended.
            let _ = sender.send(progress);
        }
    }

    /// A chunk came; blocks while it is written.
    pub(super) fn take_chunk(shared: &Shared, chunk: &ReceivedChunk) {
        let (from, transfer) = (chunk.from, chunk.transfer);
        let progress = shared.snapshots.accept(chunk).unwrap_or_else(|error| {
            tracing::warn!(from = from.0, %error, "a snapshot can't be received");
            SnapshotProgress::Refused
        });
        if progress == SnapshotProgress::Done {
            let (term, snapshot) = (chunk.term, chunk.snapshot.clone());
            tracing::info!(from = format!("{:x}", from.0), last = %snapshot.last, "received a snapshot");
            let event = NodeEvent::SnapshotReceived { group: GROUP, from, term, snapshot };
            shared.raft.put(RaftInput::Event(event));
        }
        shared.send(from, PeerMessage::SnapshotAck { group: GROUP, transfer, progress });
    }

    fn accept(&self, chunk: &ReceivedChunk) -> anyhow::Result<SnapshotProgress> {
        let mut incoming = self.incoming.lock();
        let is_known = match &*incoming {
            Incoming::Nothing => false,
            Incoming::Receiving { transfer, .. } => *transfer == chunk.transfer,
            Incoming::Ready { .. } => return Ok(SnapshotProgress::Refused),
        };
        if !is_known {
            if chunk.number != 0 {
                return Ok(SnapshotProgress::Expect(0));
            }
            let (transfer, snapshot) = (chunk.transfer, chunk.snapshot.clone());
            // The file of an unfinished transfer is begun anew.
            *incoming = Incoming::Nothing;
            *incoming = Incoming::Receiving { transfer, snapshot, file: self.dir.receive()? };
        }
        let Incoming::Receiving { file, .. } = &mut *incoming else {
            return Ok(SnapshotProgress::Refused);
        };
        if chunk.number != file.next_sequence() {
            return Ok(SnapshotProgress::Expect(file.next_sequence()));
        }
        match file.accept(&chunk.data) {
            Ok(Progress::Wants(next)) => Ok(SnapshotProgress::Expect(next)),
            Ok(Progress::Complete) => {
                if let Incoming::Receiving { snapshot, file, .. } = std::mem::take(&mut *incoming) {
                    *incoming = Incoming::Ready { snapshot, file };
                }
                Ok(SnapshotProgress::Done)
            }
            Err(error) => {
                *incoming = Incoming::Nothing;
                Err(error.into())
            }
        }
    }

    /// The node doesn't want what is ready.
    pub(super) fn discard(&self) {
        let mut incoming = self.incoming.lock();
        if matches!(&*incoming, Incoming::Ready { .. }) {
            *incoming = Incoming::Nothing;
        }
    }

    /// Takes the snapshot that the node wants installed.
    ///
    /// # Errors
    /// It is not there: a mistake of ours.
    pub(super) fn take_ready(&self, wanted: &SnapshotMeta) -> anyhow::Result<IncomingSnapshot> {
        let found = std::mem::take(&mut *self.incoming.lock());
        if let Incoming::Ready { snapshot, file } = found
            && snapshot == *wanted
        {
            return Ok(file);
        }
        anyhow::bail!("snapshot {} is to be installed, but it is not there", wanted.last)
    }
}

fn send_all(shared: &Shared, order: SnapshotOrder) -> Option<SnapshotMeta> {
    let snapshots = &shared.snapshots;
    let transfer = snapshots.transfers.fetch_add(1, Relaxed);
    let (sender, acks) = mpsc::channel();
    snapshots.outgoing.lock().insert(transfer, sender);
    let sending = Sending::new(shared, order, transfer);
    let snapshot = sending.snapshot.clone();
    tracing::info!(to = format!("{:x}", order.to.0), last = %snapshot.last, "sending a snapshot");
    let outcome = sending.run(&acks);
    snapshots.outgoing.lock().remove(&transfer);
    match outcome {
        Ok(()) => Some(snapshot),
        Err(error) => {
            tracing::warn!(to = format!("{:x}", order.to.0), %error, "a snapshot was not sent");
            None
        }
    }
}

/// One transfer under way.
struct Sending<'a> {
    shared: &'a Shared,
    order: SnapshotOrder,
    transfer: u64,
    snapshot: SnapshotMeta,
    writer: SnapshotWriter,
    /// The receiver has everything before.
    acked: u64,
    ended: bool,
}

impl<'a> Sending<'a> {
    fn new(shared: &'a Shared, order: SnapshotOrder, transfer: u64) -> Self {
        let reader = shared.reader.load_full();
        let applied = reader.applied();
        let last = EntryId { term: Term(applied.term), index: Index(applied.index) };
        let snapshot = SnapshotMeta { last, membership: shared.identity.membership() };
        let head = SnapshotHead { index: applied.index, term: applied.term, header: Bytes::new() };
        let view = Arc::clone(reader.view());
        let writer = SnapshotWriter::new(view, TABLES.to_vec(), head, CHUNK_BYTES);
        Self { shared, order, transfer, snapshot, writer, acked: 0, ended: false }
    }

    fn run(mut self, acks: &mpsc::Receiver<SnapshotProgress>) -> anyhow::Result<()> {
        let mut progressed = Instant::now();
        loop {
            self.fill_window()?;
            match acks.recv_timeout(RESEND_AFTER) {
                Ok(SnapshotProgress::Done) => return Ok(()),
                Ok(SnapshotProgress::Refused) => anyhow::bail!("the receiver refused it"),
                Ok(SnapshotProgress::Expect(next)) if next > self.acked => {
                    self.acked = next;
                    progressed = Instant::now();
                }
                Ok(SnapshotProgress::Expect(_)) => {}
                Err(_) => self.rewind()?,
            }
            anyhow::ensure!(progressed.elapsed() < GIVE_UP_AFTER, "there is no progress");
        }
    }

    fn fill_window(&mut self) -> anyhow::Result<()> {
        while !self.ended && self.writer.next_sequence() < self.acked + WINDOW {
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
            if !self.shared.send(self.order.to, message) {
                break;
            }
        }
        Ok(())
    }

    fn rewind(&mut self) -> anyhow::Result<()> {
        self.writer.seek(self.acked)?;
        self.ended = false;
        Ok(())
    }
}
