//! The apply thread: owns the state machine.
//!
//! It takes all committed ranges that wait and applies them as one run: one engine commit with the applied index inside. Then,
//! in this order: the new reader becomes visible, watches hear of the revisions, leases of their changes, and the clients of
//! this node get their answers. So whoever has an answer reads its effect.
//!
//! The commit of a run isn't synced; the log can replay it. A checkpoint syncs the engine every few seconds, and then the
//! log may be cut behind it. In idle moments it removes what compaction left, a little at a time.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
    time::{Duration, Instant},
};

use anyhow::Context;
use quorate_engine::Durability;
use quorate_kv::{Committed, Reader, Store};
use quorate_node::{Apply, Entry, Envelope, NodeEvent, RoleChange};
use quorate_raft::{EntryKind, Index, Role, SnapshotMeta};

use super::{
    clock::nanoseconds,
    counts, hashes,
    pending::{Outcome, Waiter},
    shared::{ApplyInput, GROUP, RaftInput, Shared},
    slot::WakeBatch,
};

/// The longest that applied entries stay without a checkpoint. Each one holds back the answers of a moment; a start replays what
/// is behind the last.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// The most runs without a checkpoint: the engine keeps the pages they freed until then.
const CHECKPOINT_RUNS_MAX: u64 = 50_000;
/// The most content of one run, in bytes.
const RUN_BYTES_MAX: usize = 4 << 20;
/// How many changes one step of purging looks at: some milliseconds.
const PURGE_KEYS_MAX: usize = 500;

/// The apply thread's own things.
pub(super) struct ApplyLoop {
    shared: Arc<Shared>,
    store: Store,
    inputs: Vec<ApplyInput>,
    runs_unsynced: u64,
    last_checkpoint: Instant,
    /// There may be something to purge.
    purging: bool,
    purge_waiters: Vec<(i64, Waiter<()>)>,
    /// A compaction is being hashed.
    hashing: bool,
    stopping: bool,
}

impl ApplyLoop {
    pub(super) fn new(shared: Arc<Shared>, store: Store) -> Self {
        Self {
            shared,
            store,
            inputs: Vec::new(),
            runs_unsynced: 0,
            last_checkpoint: Instant::now(),
            purging: true,
            purge_waiters: Vec::new(),
            hashing: false,
            stopping: false,
        }
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// The state machine failed; which file or table, where and how.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        while !self.stopping {
            let mut inputs = std::mem::take(&mut self.inputs);
            self.wait(&mut inputs);
            if inputs.is_empty() {
                self.purge()?;
            }
            self.take_in(&mut inputs)?;
            self.end_purges();
            self.inputs = inputs;
            self.checkpoint_if_due()?;
        }
        self.checkpoint()
    }

    fn wait(&self, inputs: &mut Vec<ApplyInput>) {
        if self.purging {
            self.shared.apply.take_now(inputs);
            return;
        }
        let due = self.last_checkpoint + CHECKPOINT_INTERVAL;
        self.shared.apply.take(inputs, (self.runs_unsynced > 0).then_some(due));
    }

    fn take_in(&mut self, inputs: &mut Vec<ApplyInput>) -> anyhow::Result<()> {
        let mut run: Vec<Apply> = Vec::new();
        for input in inputs.drain(..) {
            if let ApplyInput::Entries(apply) = input {
                run.push(apply);
                continue;
            }
            self.apply(&mut run)?;
            match input {
                ApplyInput::Role(change) => self.change_role(&change),
                ApplyInput::Install(snapshot, done) => self.install(&snapshot, &done)?,
                ApplyInput::Purged(revision, waiter) => self.purge_waiters.push((revision, waiter)),
                ApplyInput::Hashed => self.hashing = false,
                ApplyInput::Stop | ApplyInput::Entries(_) => self.stopping = true,
            }
        }
        self.apply(&mut run)
    }

    /// Applies all of `run` in few commits, and empties it.
    fn apply(&mut self, run: &mut Vec<Apply>) -> anyhow::Result<()> {
        let entries: Vec<(Index, &Entry)> = run.iter().flat_map(indexed).collect();
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(run_length(rest));
            self.apply_entries(now)?;
            rest = later;
        }
        run.clear();
        Ok(())
    }

    fn apply_entries(&mut self, entries: &[(Index, &Entry)]) -> anyhow::Result<()> {
        let mut committed = Vec::with_capacity(entries.len());
        let mut mine = Vec::with_capacity(entries.len());
        for (index, entry) in entries {
            let envelope = open(*index, entry)?;
            if let Some(envelope) = envelope {
                mine.push(
                    (envelope.origin == self.shared.identity.me).then_some(envelope.sequence),
                );
            }
            committed.push(Committed {
                index: index.0,
                term: entry.meta.term.0,
                command: envelope.map(|envelope| envelope.command),
            });
        }
        let begun = Instant::now();
        let output = self
            .store
            .apply(&committed, Durability::Relaxed)
            .context("the state machine can't apply")?;
        self.shared.metrics.backend_commit_seconds.observe(begun.elapsed());
        self.runs_unsynced += 1;
        let reader = self.store.reader();
        if output.compacted.is_some() {
            self.purging = true;
            self.hash_compaction(&reader)?;
        }
        self.shared.reader.store(Arc::new(reader));
        self.note_sizes()?;
        counts::count_applied(&self.shared.metrics, &output);
        self.shared.watches.publish(&output.revisions);
        if !output.leases.is_empty() {
            let (now, mut lessor) = (self.shared.clock.now(), self.shared.lessor.lock());
            output.leases.iter().for_each(|change| lessor.apply(now.0, change));
        }
        let outcomes = mine.into_iter().zip(output.replies).filter_map(|(sequence, reply)| {
            let outcome: Outcome = reply.map_err(Into::into);
            Some((sequence?, outcome))
        });
        let outcomes = outcomes.collect();
        self.shared.pending.close_all(outcomes, &mut WakeBatch::default());
        self.tell_applied();
        Ok(())
    }

    /// One at a time: a compaction that comes while another is being hashed has no hash kept.
    fn hash_compaction(&mut self, reader: &Reader) -> anyhow::Result<()> {
        if !self.hashing {
            let previous = self.shared.reader.load().compact_revision();
            hashes::start(Arc::clone(&self.shared), reader.clone(), previous)
                .context("start a thread that hashes a compaction")?;
            self.hashing = true;
        }
        Ok(())
    }

    fn tell_applied(&self) {
        if self.shared.standing.set_applied(self.store.applied().index) {
            self.shared.raft.put(RaftInput::Applied);
        }
    }

    fn note_sizes(&self) -> anyhow::Result<()> {
        let size = self.store.size().context("the state's size is not known")?;
        self.shared.sizes.total.store(size.total, Relaxed);
        self.shared.sizes.live.store(size.in_use, Relaxed);
        Ok(())
    }

    /// A leader counts the time of leases; everybody else doesn't.
    fn change_role(&self, change: &RoleChange) {
        let mut lessor = self.shared.lessor.lock();
        let leads = change.role == Role::Leader;
        if leads && !lessor.is_primary() {
            let extend_ns = nanoseconds(self.shared.config.election_timeout);
            lessor.promote(self.shared.clock.now().0, extend_ns);
        } else if !leads {
            lessor.demote();
        }
    }

    /// The state becomes the snapshot that arrived; durably, before the log hears of it.
    fn install(&mut self, snapshot: &SnapshotMeta, done: &mpsc::Sender<()>) -> anyhow::Result<()> {
        let shared = &self.shared;
        let incoming = shared.snapshots.take_ready(snapshot)?;
        let engine = shared.snapshots.dir().install(incoming).context("install a snapshot")?;
        self.store.restore(Box::new(engine)).context("open the installed snapshot")?;
        let reader = self.store.reader();
        let applied = reader.applied();
        anyhow::ensure!(
            (applied.index, applied.term) == (snapshot.last.index.0, snapshot.last.term.0),
            "a snapshot of {} holds the state at {}/{}",
            snapshot.last,
            applied.term,
            applied.index
        );
        shared.lessor.lock().load(reader.leases().context("read the leases")?);
        let revision = reader.revision();
        shared.reader.store(Arc::new(reader));
        shared.watches.restored(revision);
        tracing::info!(last = %snapshot.last, revision, "installed a snapshot");
        self.note_sizes()?;
        self.purging = true;
        self.tell_applied();
        // Its end is the Raft thread's, which waits here.
        let _ = done.send(());
        self.checkpoint()
    }

    /// One step of removing what compaction left.
    fn purge(&mut self) -> anyhow::Result<()> {
        if self.purging {
            self.purging = self.store.purge(PURGE_KEYS_MAX).context("purge")?;
            self.shared.reader.store(Arc::new(self.store.reader()));
            self.runs_unsynced += 1;
            self.note_sizes()?;
        }
        Ok(())
    }

    /// Tells those who wait that there is nothing left to purge.
    fn end_purges(&mut self) {
        if self.purging || self.hashing || self.purge_waiters.is_empty() {
            return;
        }
        let compacted = self.store.reader().compact_revision();
        let mut batch = WakeBatch::default();
        let done = self.purge_waiters.extract_if(.., |(revision, _)| *revision <= compacted);
        done.for_each(|(_, waiter)| waiter.give(Ok(()), &mut batch));
    }

    fn checkpoint_if_due(&mut self) -> anyhow::Result<()> {
        let due = self.runs_unsynced > 0 && self.last_checkpoint.elapsed() >= CHECKPOINT_INTERVAL
            || self.runs_unsynced >= CHECKPOINT_RUNS_MAX;
        if due { self.checkpoint() } else { Ok(()) }
    }

    fn checkpoint(&mut self) -> anyhow::Result<()> {
        self.store.checkpoint().context("the state can't be made durable")?;
        self.runs_unsynced = 0;
        self.last_checkpoint = Instant::now();
        let index = Index(self.store.applied().index);
        let event = NodeEvent::Checkpointed { group: GROUP, index };
        self.shared.raft.put(RaftInput::Event(event));
        Ok(())
    }
}

fn indexed(apply: &Apply) -> impl Iterator<Item = (Index, &Entry)> {
    (apply.first.0..).map(Index).zip(&apply.entries)
}

/// How many of `entries` fit into one run; at least one.
fn run_length(entries: &[(Index, &Entry)]) -> usize {
    let mut bytes = 0;
    let fitting = entries.iter().take_while(|(_, entry)| {
        let fits = bytes < RUN_BYTES_MAX;
        bytes += entry.payload.len();
        fits
    });
    fitting.count()
}

/// The command in an entry, if it has one.
fn open(index: Index, entry: &Entry) -> anyhow::Result<Option<Envelope<'_>>> {
    match entry.meta.kind {
        EntryKind::Noop | EntryKind::Membership => Ok(None),
        EntryKind::Normal => Envelope::open(&entry.payload)
            .map(Some)
            .with_context(|| format!("entry {index} can't be read")),
    }
}
