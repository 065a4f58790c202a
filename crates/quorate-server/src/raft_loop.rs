//! The Raft side: owns the node and the log.
//!
//! A round takes everything that waits, lets the node decide, sends what may leave at once, and then writes the log with one call
//! and one sync; meanwhile the peers already work on the same entries, and the next round's requests gather. There are no
//! batch timers.
//!
//! Order of durability, which `carry_out` keeps: messages that promise something are held back inside the node until its log is
//! synced and the node was told; entries go to the state machine only when they are durable here.

use std::{collections::BTreeMap, fmt, sync::Arc};

use anyhow::Context;
use quorate_etcd::backend::ServerError;
use quorate_node::{LogRecord, LogStore, Node, NodeEffects, NodeEvent, NodeIo, ReadAnswer};
use quorate_proto::inspect::RaftResponse;
use quorate_raft::{Broken, GroupId, Index, IoToken, Mono, NodeId, Notice, Role, Term, View};
use quorate_storage::Wal;

use crate::{
    clock::nanoseconds,
    flight::{self, Reason},
    inspect,
    pending::Waiter,
    shared::{ApplyInput, GROUP, RaftInput, Shared, server_error},
    slot::WakeBatch,
    snapshots::Snapshots,
};

/// This many entries behind, the node wants to hear of each step the state machine makes.
const LAG_WATCHED: u64 = 64;

/// The Raft side.
pub struct RaftLoop {
    shared: Arc<Shared>,
    node: Node,
    log: Wal,
    effects: NodeEffects,
    inputs: Vec<RaftInput>,
    /// Durable since the last round.
    done: Vec<(GroupId, IoToken)>,
    reads: BTreeMap<u64, Vec<Waiter<()>>>,
    reads_begun: u64,
    /// Who asks what this side knows, once a round's decisions are durable.
    inspectors: Vec<Waiter<RaftResponse>>,
    told_applied: u64,
    unreachable: Vec<NodeId>,
    /// What is to be made durable once the state machine is the snapshot that goes with it. Everything else waits.
    installing: Option<NodeEffects>,
    /// When to end, once it was asked for.
    end_at: Option<Mono>,
}

impl fmt::Debug for RaftLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftLoop").field("view", &self.view()).finish_non_exhaustive()
    }
}

impl Drop for RaftLoop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_recording(Reason::Panic);
        }
    }
}

impl RaftLoop {
    pub(crate) fn new(shared: Arc<Shared>, node: Node, log: Wal) -> Self {
        let told_applied = shared.standing.applied();
        Self {
            shared,
            node,
            log,
            effects: NodeEffects::default(),
            inputs: Vec::new(),
            done: Vec::new(),
            reads: BTreeMap::new(),
            reads_begun: 0,
            inspectors: Vec::new(),
            told_applied,
            unreachable: Vec::new(),
            installing: None,
            end_at: None,
        }
    }

    /// What the core of the group shows of itself.
    pub fn view(&self) -> Option<View<'_>> {
        self.node.view(GROUP)
    }

    /// When a round is due at the latest.
    pub fn next_deadline(&self) -> Option<Mono> {
        let node = self.installing.is_none().then(|| self.node.next_deadline()).flatten();
        node.into_iter().chain(self.end_at).min()
    }

    /// Whether a round has something to do now.
    pub fn is_ready(&self) -> bool {
        let due = || self.next_deadline().is_some_and(|due| due <= self.shared.clock.now());
        self.goes_on() || !self.shared.raft.is_empty() || due()
    }

    /// The term of the log's entry at `index`, if the core knows it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let view =
            self.view().filter(|view| index >= view.base.index && index <= view.last.index)?;
        let mut runs = self.node.log_terms(GROUP).rev();
        let run = runs.find(|first| first.index <= index);
        Some(run.map_or(view.base.term, |first| first.term))
    }

    /// Whether the state machine is becoming a snapshot that the log does not know of yet.
    pub fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// Blocks until a round has something to do.
    pub fn wait(&mut self) {
        if !self.goes_on() {
            let until = self.next_deadline().and_then(|due| self.shared.clock.instant(due));
            self.shared.raft.wait(until);
        }
    }

    /// How many wait for a linearizable read.
    pub(crate) fn reads_waiting(&self) -> usize {
        self.reads.values().map(Vec::len).sum()
    }

    /// The flight recording: what the core was told of late, as a file for `quorate-sim replay`. `None` if nothing is recorded.
    pub fn recording(&self) -> Option<Vec<u8>> {
        self.node.recording(GROUP)
    }

    /// Takes everything that waits, decides, and makes it durable. Whether it was told to stop, and has.
    ///
    /// # Errors
    /// The log failed; which file, where and how. Or an invariant of the core does not hold. Final; what the core was told before is
    /// kept in a file.
    pub fn round(&mut self) -> anyhow::Result<bool> {
        let outcome = self.take_round();
        if let Err(error) = &outcome {
            let broken = error.downcast_ref::<Broken>().is_some();
            self.keep_recording(if broken { Reason::Invariant } else { Reason::Disk });
        }
        outcome
    }

    fn take_round(&mut self) -> anyhow::Result<bool> {
        if !self.take_inputs()? {
            return Ok(false);
        }
        let now = self.shared.clock.now();
        self.step_all(now);
        self.carry_out(now)?;
        self.show()?;
        Ok(self.end_at.is_some_and(|end| end <= now || self.is_dispensable()))
    }

    /// Takes what waits. Whether the node may hear of it: not while the state machine becomes a snapshot.
    fn take_inputs(&mut self) -> anyhow::Result<bool> {
        let mut new = Vec::new();
        let into = if self.inputs.is_empty() { &mut self.inputs } else { &mut new };
        self.shared.raft.take(into);
        self.inputs.append(&mut new);
        let Some(mut effects) = self.installing.take() else { return Ok(true) };
        if !self.inputs.iter().any(|input| matches!(input, RaftInput::Installed)) {
            self.installing = Some(effects);
            return Ok(false);
        }
        self.persist(&mut effects)?;
        Ok(true)
    }

    /// Whether there is more to do without anything new.
    fn goes_on(&self) -> bool {
        self.installing.is_none() && (!self.done.is_empty() || self.must_hear_of_applied())
    }

    /// Whether more is applied than the node knows, and it waits for that. If it waits in vain, the apply thread will call.
    fn must_hear_of_applied(&self) -> bool {
        let progress = self.node.progress(GROUP).unwrap_or_default();
        let lag = progress.committed.0 - progress.applied.0;
        let stands = progress.handed < progress.committed;
        let waits = lag > 0 && (stands || progress.reads > 0 || lag > LAG_WATCHED);
        waits && self.shared.standing.want_applied(self.told_applied)
    }

    fn step_all(&mut self, now: Mono) {
        let mut done = std::mem::take(&mut self.done);
        for (group, token) in done.drain(..) {
            self.step(now, NodeEvent::IoDone { group, token });
        }
        self.done = done;
        self.tell_applied(now);
        let mut waiters = Vec::new();
        let mut inputs = std::mem::take(&mut self.inputs);
        for input in inputs.drain(..) {
            match input {
                RaftInput::Event(event @ NodeEvent::SnapshotReceived { .. }) => {
                    self.step(now, event);
                    self.discard_unwanted();
                }
                RaftInput::Event(event) => self.step(now, event),
                RaftInput::Read(waiter) => waiters.push(waiter),
                RaftInput::Inspect(waiter) => self.inspectors.push(waiter),
                RaftInput::Applied | RaftInput::Installed => {}
                RaftInput::KeepRecording => self.keep_recording_beside(),
                RaftInput::Stop => self.begin_to_stop(now),
            }
        }
        self.inputs = inputs;
        self.begin_reads(now, waiters);
        for node in std::mem::take(&mut self.unreachable) {
            self.step(now, NodeEvent::PeerDown { node });
        }
        if self.node.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.step(now, NodeEvent::Wake);
        }
        self.node.finish(now, &mut self.log, &mut self.effects);
    }

    fn step(&mut self, now: Mono, event: NodeEvent) {
        self.node.step(now, event, &mut self.log, &mut self.effects);
    }

    /// A received snapshot that the node doesn't install makes room for another.
    fn discard_unwanted(&self) {
        let installs = |io: &NodeIo| matches!(io, NodeIo::Install { .. });
        if !self.effects.io.iter().any(installs) {
            Snapshots::discard(&self.shared);
        }
    }

    fn tell_applied(&mut self, now: Mono) {
        let applied = self.shared.standing.applied();
        if applied > self.told_applied {
            self.told_applied = applied;
            self.step(now, NodeEvent::Applied { group: GROUP, index: Index(applied) });
        }
    }

    /// All reads that came in one round are one to the node.
    fn begin_reads(&mut self, now: Mono, waiters: Vec<Waiter<()>>) {
        if !waiters.is_empty() {
            self.reads_begun += 1;
            let id = self.reads_begun;
            self.reads.insert(id, waiters);
            self.step(now, NodeEvent::Read { group: GROUP, id });
        }
    }

    fn carry_out(&mut self, now: Mono) -> anyhow::Result<()> {
        let mut effects = std::mem::take(&mut self.effects);
        let outcome = self.carry_out_all(now, &mut effects);
        effects.clear();
        self.effects = effects;
        outcome
    }

    /// Tells those who asked what this side knows; not while a snapshot stands before what is to be durable.
    fn show(&mut self) -> anyhow::Result<()> {
        if self.installing.is_some() || self.inspectors.is_empty() {
            return Ok(());
        }
        let (picture, broken) = inspect::picture(&mut self.node, self.shared.standing.applied());
        let mut batch = WakeBatch::default();
        for waiter in self.inspectors.drain(..) {
            let none = || ServerError::Internal("there is no Raft group".to_owned());
            waiter.give(picture.clone().ok_or_else(none), &mut batch);
        }
        broken.map_or(Ok(()), |broken| Err(broken.into()))
    }

    fn keep_recording(&self, reason: Reason) {
        if let Some(recording) = self.recording() {
            let Shared { vfs, config, .. } = &*self.shared;
            flight::keep(&**vfs, &config.data_dir, reason, &recording);
        }
    }

    /// Nobody waits for the file.
    fn keep_recording_beside(&self) {
        let Some(recording) = self.recording() else {
            return tracing::warn!("there is no flight recorder: --flight-recorder-bytes is 0");
        };
        let (vfs, data_dir) = (Arc::clone(&self.shared.vfs), self.shared.config.data_dir.clone());
        let job = move || flight::keep(&*vfs, &data_dir, Reason::Asked, &recording);
        if let Err(error) = self.shared.jobs.run("flight", Box::new(job)) {
            tracing::error!(%error, "the flight recording can't be kept");
        }
    }

    fn carry_out_all(&mut self, now: Mono, effects: &mut NodeEffects) -> anyhow::Result<()> {
        if let Some((group, broken)) = effects.broken.take() {
            return Err(anyhow::Error::new(broken).context(format!("the core of group {group}")));
        }
        for (to, message) in effects.send.drain(..) {
            if !self.shared.send(to, message) && !self.unreachable.contains(&to) {
                self.unreachable.push(to);
            }
        }
        self.report(now, effects);
        self.shared.apply.put_all(effects.apply.drain(..).map(ApplyInput::Entries));
        let mut batch = WakeBatch::default();
        for answer in effects.answers.drain(..) {
            self.shared.metrics.proposals_failed.increment();
            self.shared.pending.close(answer.sequence, Err(server_error(answer.error)), &mut batch);
        }
        for read in effects.reads.drain(..) {
            self.end_read(read, &mut batch);
        }
        drop(batch);
        for order in effects.snapshots.drain(..) {
            Snapshots::send(&self.shared, order);
        }
        if let Some(error) = effects.fault.take() {
            return Err(error).context("the log can't be read");
        }
        self.install_and_persist(effects)
    }

    /// The state machine first becomes a snapshot that the log is about to begin behind.
    fn install_and_persist(&mut self, effects: &mut NodeEffects) -> anyhow::Result<()> {
        let snapshot = effects.io.iter().find_map(|io| match io {
            NodeIo::Install { snapshot, .. } => Some(snapshot.clone()),
            NodeIo::Save { .. } | NodeIo::Compacted { .. } => None,
        });
        if let Some(snapshot) = snapshot {
            self.shared.apply.put(ApplyInput::Install(snapshot));
            self.installing = Some(std::mem::take(effects));
            return Ok(());
        }
        self.persist(effects)
    }

    /// One write and one sync for everything.
    fn persist(&mut self, effects: &mut NodeEffects) -> anyhow::Result<()> {
        if effects.io.is_empty() {
            return Ok(());
        }
        let records = effects.io.iter().map(NodeIo::record).collect();
        let records: Vec<LogRecord<'_>> = self.broken(records);
        self.log.append(&records).context("the log can't be written")?;
        self.log.sync().context("the log can't be made durable")?;
        self.shared.metrics.wal_write_bytes.raise_to(self.log.stats().written_bytes);
        self.done = effects.tokens();
        Ok(())
    }

    /// The records as they are.
    #[cfg(not(feature = "breakable"))]
    #[allow(clippy::unused_self, reason = "the same call as in a build that can break promises")]
    const fn broken<'a>(&self, records: Vec<LogRecord<'a>>) -> Vec<LogRecord<'a>> {
        records
    }

    /// The records less what they are told to forget.
    #[cfg(feature = "breakable")]
    fn broken<'a>(&self, mut records: Vec<LogRecord<'a>>) -> Vec<LogRecord<'a>> {
        if let Some(view) = self.view() {
            self.shared.config.breaks.forget(&mut records, view.last.term, view.commit);
        }
        records
    }

    fn end_read(&mut self, read: ReadAnswer, batch: &mut WakeBatch) {
        for waiter in self.reads.remove(&read.id).into_iter().flatten() {
            if read.result.is_err() {
                self.shared.metrics.read_indexes_failed.increment();
            }
            waiter.give(read.result.map_err(server_error), batch);
        }
    }

    fn report(&mut self, now: Mono, effects: &mut NodeEffects) {
        let standing = &self.shared.standing;
        for change in effects.roles.drain(..) {
            if change.leader.is_some() && change.leader != standing.leader() {
                self.shared.metrics.leader_changes_seen.increment();
            }
            standing.set_role(now, &change);
            let leader = change.leader.map(|leader| format!("{:x}", leader.0));
            tracing::info!(role = ?change.role, term = change.term.0, leader, "role");
            self.shared.apply.put(ApplyInput::Role(change));
        }
        for (group, notice) in effects.notices.drain(..) {
            let group = group.0;
            if let Notice::LogTruncated { first } = notice {
                tracing::info!(group, first = first.0, "the log's tail is replaced");
            } else {
                tracing::warn!(group, ?notice, "raft");
            }
        }
        for refused in effects.refused.drain(..) {
            self.shared.refusals.note(now, refused);
        }
        if let Some(progress) = self.node.progress(GROUP) {
            standing.set_commit(progress.committed.0);
        }
    }

    /// A leader hands over first, so that the others need no election.
    fn begin_to_stop(&mut self, now: Mono) {
        let wait_ns = nanoseconds(self.shared.config.election_timeout);
        self.end_at = Some(now.after(wait_ns));
        let best = self.node.view(GROUP).and_then(|view| {
            let up = view.peers().filter(|peer| peer.recent_active);
            up.max_by_key(|peer| peer.match_index).map(|peer| peer.node)
        });
        match best {
            Some(to) => self.step(now, NodeEvent::TransferLeader { group: GROUP, to }),
            None => self.end_at = Some(now),
        }
    }

    /// Whether nobody misses this node for a moment: it doesn't lead and has told all it promised.
    fn is_dispensable(&self) -> bool {
        let leads = self.node.view(GROUP).is_some_and(|view| view.role == Role::Leader);
        !leads && self.done.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use quorate_kv::Command;
    use quorate_node::Scope;
    use quorate_proto::etcdserverpb::PutRequest;
    use quorate_storage::vfs::MemoryVfs;

    use super::*;
    use crate::{ServerConfig, testing};

    /// A full apply side holds entries back. When it has room again, nothing else may have to happen before the Raft side gives
    /// it more: no message, no timer (they once had to, so that a busy member waited for its next sign of life).
    #[test]
    fn room_in_a_full_apply_queue_is_heard_of_at_once() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let config = ServerConfig { apply_bytes_max: Some(1), ..ServerConfig::default() };
        let mut server = testing::started(&vfs, &now, config);
        while server.raft.view().is_some_and(|view| view.role != Role::Leader) {
            server.raft.round().unwrap();
            server.apply.round().unwrap();
            now.fetch_add(1_000_000, SeqCst);
        }
        for key in 0..8_u8 {
            let request = PutRequest { key: vec![key].into(), ..PutRequest::default() };
            server.handle.0.propose(&Command::Put(request), Scope::Anywhere, None);
            while server.raft.is_ready() {
                server.raft.round().unwrap();
            }
        }
        assert_eq!(
            server.handle.0.standing.commit(),
            9,
            "the first entry of a term and eight more"
        );
        let mut turns = 0;
        while server.handle.0.standing.applied() < 9 {
            turns += 1;
            assert!(turns < 100, "applied {}", server.handle.0.standing.applied());
            assert!(server.raft.is_ready() || server.apply.is_ready(), "both sides wait");
            if server.raft.is_ready() {
                server.raft.round().unwrap();
            }
            if server.apply.is_ready() {
                server.apply.round().unwrap();
            }
        }
    }
}
