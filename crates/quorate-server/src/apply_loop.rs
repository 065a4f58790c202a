//! The apply side: owns the state machine.
//!
//! It takes all committed ranges that wait and applies them as one run: one engine commit with the applied index inside. Then
//! others see what it did, one thing after another; [`publication`](crate::publication) says in which order, and where a
//! round may end. Nothing else happens before all of it is visible.
//!
//! The commit of a run isn't synced; the log can replay it. A checkpoint syncs the engine every few seconds, and then the
//! log may be cut behind it. It removes what compaction left, a little at a time: in idle moments, and for a share of its time
//! when there are none.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use anyhow::Context;
use quorate_engine::{Durability, Engine};
use quorate_kv::{Committed, Reader, Store};
use quorate_node::{Apply, Entry, Envelope, NodeEvent, RoleChange};
use quorate_raft::{EntryKind, Index, Mono, Role, SnapshotMeta, Term};

use crate::{
    bugs::Bug,
    clock::nanoseconds,
    counts, hashes,
    pending::Waiter,
    publication::{Publication, Publications},
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
/// How many states that a snapshot has replaced are kept for their readers.
const REPLACED_MAX: usize = 2;
/// How often it is looked whether such a state still has readers, when nothing else happens.
const REPLACED_LOOK: Duration = Duration::from_secs(1);
/// How many changes one step of purging looks at when nothing waits: some milliseconds.
const PURGE_KEYS_MAX: usize = 500;
/// How many changes are looked at for each change, or entry without one, that is applied when something always waits: more
/// than one, so that what compaction left becomes less.
const PURGE_SHARE: usize = 2;
/// The most changes that one step of purging looks at between two runs.
const PURGE_BUSY_KEYS_MAX: usize = 4_000;

/// What to do about an entry that this version can't apply.
const LATER_VERSION: &str =
    "the log was written by a later version of this program: start this member with that version";

/// The apply side.
pub struct ApplyLoop {
    shared: Arc<Shared>,
    store: Store,
    /// What waits, oldest first.
    inputs: VecDeque<ApplyInput>,
    /// Entries out of the inputs that are to be applied next.
    entries: VecDeque<(Index, Entry)>,
    /// What is applied and not visible yet.
    publications: Publications,
    /// This node leads in this term, of which nothing is applied yet.
    elected: Option<Term>,
    runs_unsynced: u64,
    last_checkpoint: Mono,
    /// There may be something to purge.
    purging: bool,
    /// How many changes it may look at before the next run.
    purge_share: usize,
    purge_waiters: Vec<(i64, Waiter<()>)>,
    /// A compaction is being hashed.
    hashing: bool,
    /// States that a snapshot has replaced and somebody still reads, oldest first.
    replaced: VecDeque<Box<dyn Engine>>,
    /// When they were last looked at.
    replaced_looked_at: Mono,
    /// What is being hashed is of a state that a snapshot has replaced since: its end means nothing.
    hash_is_stale: bool,
    /// The state has become a snapshot, and the Raft side is to hear so.
    installed: bool,
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
            inputs: VecDeque::new(),
            entries: VecDeque::new(),
            publications: Publications::default(),
            elected: None,
            runs_unsynced: 0,
            last_checkpoint,
            purging: true,
            purge_share: 0,
            purge_waiters: Vec::new(),
            hashing: false,
            replaced: VecDeque::new(),
            replaced_looked_at: last_checkpoint,
            hash_is_stale: false,
            installed: false,
            stopping: false,
        }
    }

    /// Whether a round has something to do now.
    pub fn is_ready(&self) -> bool {
        let due = self.next_deadline().is_some_and(|due| due <= self.shared.clock.now());
        self.goes_on() || due || !self.shared.apply.is_empty()
    }

    /// When a round is due at the latest.
    pub fn next_deadline(&self) -> Option<Mono> {
        let checkpoint = self.last_checkpoint.after(nanoseconds(CHECKPOINT_INTERVAL));
        let checkpoint = (self.runs_unsynced > 0).then_some(checkpoint);
        let look = self.replaced_looked_at.after(nanoseconds(REPLACED_LOOK));
        let look = (!self.replaced.is_empty()).then_some(look);
        checkpoint.into_iter().chain(look).min()
    }

    /// How many wait until what was compacted is gone.
    pub(crate) fn purges_waiting(&self) -> usize {
        self.purge_waiters.len()
    }

    /// Blocks until a round has something to do.
    pub fn wait(&mut self) {
        if !self.goes_on() {
            let until = self.next_deadline().and_then(|due| self.shared.clock.instant(due));
            self.shared.apply.wait(until);
        }
    }

    /// Whether there is more to do without anything new.
    fn goes_on(&self) -> bool {
        self.purging || !self.is_done()
    }

    /// Whether everything that was taken is applied and visible.
    fn is_done(&self) -> bool {
        self.publications.is_empty() && self.entries.is_empty() && self.inputs.is_empty()
    }

    /// Applies everything that waits, or as much as the world's [turns](crate::Turns) allow. Whether it was told to stop,
    /// and then the state is durable.
    ///
    /// # Errors
    /// The state machine failed; which file or table, where and how. Final.
    pub fn round(&mut self) -> anyhow::Result<bool> {
        let mut new = Vec::new();
        self.shared.apply.take(&mut new);
        self.inputs.extend(new);
        if self.is_done() {
            self.purge(PURGE_KEYS_MAX)?;
        }
        while self.publish()? {
            if !self.step()? {
                self.end_purges();
                self.drop_replaced();
                if self.stopping || self.must_checkpoint() {
                    self.checkpoint()?;
                }
                return Ok(self.stopping);
            }
        }
        Ok(false)
    }

    /// Makes visible what is applied. Whether all of it is.
    fn publish(&mut self) -> anyhow::Result<bool> {
        if !self.publications.publish(&self.shared) {
            return Ok(false);
        }
        if std::mem::take(&mut self.installed) {
            self.shared.raft.put(RaftInput::Installed);
            self.checkpoint()?;
        }
        Ok(true)
    }

    /// Does the next thing that waits. Whether there was one.
    fn step(&mut self) -> anyhow::Result<bool> {
        if self.purge_share >= PURGE_KEYS_MAX {
            let keys_max = self.purge_share.min(PURGE_BUSY_KEYS_MAX);
            self.purge_share = 0;
            self.purge(keys_max)?;
            return Ok(true);
        }
        if !self.entries.is_empty() {
            self.apply_run()?;
            return Ok(true);
        }
        let Some(input) = self.inputs.pop_front() else { return Ok(false) };
        match input {
            ApplyInput::Entries(apply) => self.take_entries(apply),
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
            ApplyInput::Stop => self.stopping = true,
        }
        Ok(true)
    }

    /// All ranges that follow one another are applied together.
    fn take_entries(&mut self, first: Apply) {
        self.entries.extend(indexed(first));
        while matches!(self.inputs.front(), Some(ApplyInput::Entries(_))) {
            if let Some(ApplyInput::Entries(next)) = self.inputs.pop_front() {
                self.entries.extend(indexed(next));
            }
        }
    }

    /// Applies as many entries as go into one commit.
    fn apply_run(&mut self) -> anyhow::Result<()> {
        let length = run_length(&self.entries, self.elected);
        let entries: Vec<_> = self.entries.drain(..length).collect();
        let mut committed = Vec::with_capacity(entries.len());
        let mut mine = Vec::with_capacity(entries.len());
        for (index, entry) in &entries {
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
        let output = self.store.apply(&committed, Durability::Relaxed).map_err(|error| {
            let is_later = matches!(error, quorate_kv::Error::CommandVersion { .. });
            let what = if is_later { LATER_VERSION } else { "the state machine can't apply" };
            anyhow::Error::new(error).context(what)
        })?;
        self.shared.metrics.backend_commit_seconds.observe(self.shared.clock.elapsed(begun));
        self.runs_unsynced += 1;
        if output.compacted.is_some() {
            self.purging = true;
            self.hash_compaction(&self.store.reader())?;
        }
        counts::count_applied(&self.shared.metrics, &output);
        if self.purging {
            let changes: usize = output.revisions.iter().map(|one| one.events.len()).sum();
            self.purge_share += PURGE_SHARE * changes.max(length);
        }
        if output.members_changed {
            self.learn_directories()?;
        }
        self.publish_state()?;
        let applied = self.store.applied();
        let promotion = self.elected.take_if(|elected| applied.term >= elected.0);
        self.publications.push_run(output, mine, promotion, applied.index);
        Ok(())
    }

    /// The group knows more of its members' directories.
    fn learn_directories(&self) -> anyhow::Result<()> {
        let agreed = self.store.reader().member_directories();
        if self.shared.door.learn(&agreed.context("read the members")?) {
            self.shared.end_as_known_from_elsewhere("the group".to_owned());
        }
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

    /// The state that was just committed is what reads are to see.
    fn publish_state(&mut self) -> anyhow::Result<()> {
        let size = self.store.size().context("the state's size is not known")?;
        self.publications.push(Publication::State(Box::new(self.store.reader()), size));
        Ok(())
    }

    /// A leader counts the time of leases, once everything of earlier terms is applied: what those terms acknowledged of a
    /// lease is in the lessor only then. Everybody else doesn't count.
    ///
    /// Source: etcd promotes its lessor at the applied empty entry of its term (`server/etcdserver/server.go`,
    /// `applyEntryNormal`).
    fn change_role(&mut self, change: &RoleChange) {
        let leads = change.role == Role::Leader;
        self.elected = leads.then_some(change.term);
        if self.shared.lessor.lock().demote_unless(self.elected.map(|term| term.0)) {
            self.elected = None;
        }
        let applied = self.store.applied().term;
        if let Some(term) = self.elected.take_if(|elected| applied >= elected.0) {
            self.publications.push(Publication::Promotion(term));
        }
    }

    /// The state becomes the snapshot that arrived; durably, before the log hears of it. Whoever reads the old one goes on
    /// with it.
    fn install(&mut self, snapshot: &SnapshotMeta) -> anyhow::Result<()> {
        let shared = &self.shared;
        let incoming = shared.snapshots.take_ready(snapshot)?;
        let engine = shared.snapshots.dir().install(incoming).context("install a snapshot")?;
        shared.snapshots.installed();
        let old = self.store.restore(Box::new(engine)).context("open the installed snapshot")?;
        if !shared.makes(Bug::ReplacedStateCloses) && !shared.makes(Bug::StaleHashEnds) {
            self.replaced.push_back(old);
        }
        let reader = self.store.reader();
        let applied = reader.applied();
        anyhow::ensure!(
            (applied.index, applied.term) == (snapshot.last.index.0, snapshot.last.term.0),
            "a snapshot of {} holds the state at {}/{}",
            snapshot.last,
            applied.term,
            applied.index
        );
        let revision = reader.revision();
        self.learn_directories()?;
        tracing::info!(last = %snapshot.last, revision, "installed a snapshot");
        if !shared.makes(Bug::LeasesNotReloaded) {
            let leases = reader.leases().context("read the leases")?;
            self.publications.push(Publication::AllLeases(leases));
        }
        self.publish_state()?;
        self.publications.push(Publication::Restored(revision));
        self.publications.push(Publication::Applied(applied.index));
        self.purging = true;
        self.hash_is_stale = self.hashing;
        self.installed = true;
        Ok(())
    }

    /// One step of removing what compaction left.
    fn purge(&mut self, keys_max: usize) -> anyhow::Result<()> {
        if self.purging {
            self.purging = self.store.purge(keys_max).context("purge")?;
            self.runs_unsynced += 1;
            self.publish_state()?;
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

    /// Closes replaced states that nobody reads any more, and the oldest of too many.
    fn drop_replaced(&mut self) {
        self.replaced_looked_at = self.shared.clock.now();
        self.replaced.retain(|engine| engine.views_held() > 0);
        while self.replaced.len() > REPLACED_MAX {
            tracing::warn!("too many replaced states have readers: the oldest is closed");
            self.replaced.pop_front();
        }
    }

    fn must_checkpoint(&self) -> bool {
        let lasted = self.shared.clock.now().since(self.last_checkpoint);
        let due = self.runs_unsynced > 0 && lasted >= nanoseconds(CHECKPOINT_INTERVAL);
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

fn indexed(apply: Apply) -> impl Iterator<Item = (Index, Entry)> {
    (apply.first.0..).map(Index).zip(apply.entries)
}

/// How many of `entries` fit into one run; at least one. The first entry of the term in which this node was elected ends
/// its run: the lessor is promoted right behind it.
fn run_length(entries: &VecDeque<(Index, Entry)>, elected: Option<Term>) -> usize {
    let (mut bytes, mut promoted) = (0, false);
    let fitting = entries.iter().take_while(|(_, entry)| {
        let fits = bytes < RUN_BYTES_MAX && !promoted;
        bytes += entry.payload.len();
        promoted = elected.is_some_and(|elected| entry.meta.term >= elected);
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
            .with_context(|| format!("entry {index} can't be read; {LATER_VERSION}")),
    }
}
