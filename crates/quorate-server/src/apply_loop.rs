//! The apply side: owns the state machine.
//!
//! It takes all committed ranges that wait and applies them as one run: one engine commit with the applied index inside. Then,
//! in this order: the new reader becomes visible, watches hear of the revisions, leases of their changes, and the clients of
//! this node get their answers. So whoever has an answer reads its effect.
//!
//! The commit of a run isn't synced; the log can replay it. A checkpoint syncs the engine every few seconds, and then the
//! log may be cut behind it. In idle moments it removes what compaction left, a little at a time.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context;
use quorate_engine::Durability;
use quorate_kv::{Committed, Reader, Store};
use quorate_node::{Apply, Entry, Envelope, NodeEvent, RoleChange};
use quorate_raft::{EntryKind, Index, Mono, Role, SnapshotMeta};

use crate::{
    bugs::Bug,
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

/// The apply side.
pub struct ApplyLoop {
    shared: Arc<Shared>,
    store: Store,
    inputs: Vec<ApplyInput>,
    runs_unsynced: u64,
    last_checkpoint: Mono,
    /// There may be something to purge.
    purging: bool,
    purge_waiters: Vec<(i64, Waiter<()>)>,
    /// A compaction is being hashed.
    hashing: bool,
    /// What is being hashed is of a state that a snapshot has replaced since: its end means nothing.
    hash_is_stale: bool,
    stopping: bool,
}

impl fmt::Debug for ApplyLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplyLoop").field("applied", &self.store.applied()).finish_non_exhaustive()
    }
}

impl ApplyLoop {
    pub(crate) fn new(shared: Arc<Shared>, store: Store) -> Self {
        let last_checkpoint = shared.clock.now();
        Self {
            shared,
            store,
            inputs: Vec::new(),
            runs_unsynced: 0,
            last_checkpoint,
            purging: true,
            purge_waiters: Vec::new(),
            hashing: false,
            hash_is_stale: false,
            stopping: false,
        }
    }

    /// Whether a round has something to do now.
    pub fn is_ready(&self) -> bool {
        let due = self.next_deadline().is_some_and(|due| due <= self.shared.clock.now());
        self.purging || due || !self.shared.apply.is_empty()
    }

    /// When a round is due at the latest.
    pub fn next_deadline(&self) -> Option<Mono> {
        let due = self.last_checkpoint.after(nanoseconds(CHECKPOINT_INTERVAL));
        (self.runs_unsynced > 0).then_some(due)
    }

    /// How many wait until what was compacted is gone.
    pub(crate) fn purges_waiting(&self) -> usize {
        self.purge_waiters.len()
    }

    /// Blocks until a round has something to do.
    pub fn wait(&mut self) {
        if !self.purging {
            let until = self.next_deadline().and_then(|due| self.shared.clock.instant(due));
            self.shared.apply.wait(until);
        }
    }

    /// Applies everything that waits. Whether it was told to stop, and then the state is durable.
    ///
    /// # Errors
    /// The state machine failed; which file or table, where and how. Final.
    pub fn round(&mut self) -> anyhow::Result<bool> {
        let mut inputs = std::mem::take(&mut self.inputs);
        self.shared.apply.take(&mut inputs);
        if inputs.is_empty() {
            self.purge()?;
        }
        self.take_in(&mut inputs)?;
        self.end_purges();
        self.inputs = inputs;
        if self.stopping || self.must_checkpoint() {
            self.checkpoint()?;
        }
        Ok(self.stopping)
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
                ApplyInput::Install(snapshot) => self.install(&snapshot)?,
                ApplyInput::Purged(revision, waiter) => self.purge_waiters.push((revision, waiter)),
                ApplyInput::Hashed(outcome) => {
                    let is_stale = std::mem::take(&mut self.hash_is_stale);
                    self.hashing = false;
                    if !is_stale || self.shared.makes(Bug::StaleHashEnds) {
                        outcome?;
                    }
                }
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
        let begun = self.shared.clock.now();
        let output = self
            .store
            .apply(&committed, Durability::Relaxed)
            .context("the state machine can't apply")?;
        self.shared.metrics.backend_commit_seconds.observe(self.shared.clock.elapsed(begun));
        self.runs_unsynced += 1;
        let reader = self.store.reader();
        if output.compacted.is_some() {
            self.purging = true;
            self.hash_compaction(&reader)?;
        }
        self.shared.reader.store(Arc::new(reader));
        self.note_sizes()?;
        counts::count_applied(&self.shared.metrics, &output);
        let told = match output.revisions.split_last() {
            Some((_, told)) if self.shared.makes(Bug::EventsForgotten) => told,
            Some(_) | None => &output.revisions,
        };
        self.shared.watches.publish(told);
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
                .context("begin to hash a compaction")?;
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
    fn install(&mut self, snapshot: &SnapshotMeta) -> anyhow::Result<()> {
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
        if !shared.makes(Bug::LeasesNotReloaded) {
            shared.lessor.lock().load(reader.leases().context("read the leases")?);
        }
        let revision = reader.revision();
        shared.reader.store(Arc::new(reader));
        shared.watches.restored(revision);
        tracing::info!(last = %snapshot.last, revision, "installed a snapshot");
        self.note_sizes()?;
        self.purging = true;
        self.tell_applied();
        self.hash_is_stale = self.hashing;
        self.shared.raft.put(RaftInput::Installed);
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

    fn must_checkpoint(&self) -> bool {
        let due = self.next_deadline().is_some_and(|due| due <= self.shared.clock.now());
        due || self.runs_unsynced >= CHECKPOINT_RUNS_MAX
    }

    fn checkpoint(&mut self) -> anyhow::Result<()> {
        if !self.shared.makes(Bug::CheckpointUnsynced) {
            self.store.checkpoint().context("the state can't be made durable")?;
        }
        self.runs_unsynced = 0;
        self.last_checkpoint = self.shared.clock.now();
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
