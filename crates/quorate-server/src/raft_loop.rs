//! The Raft side: owns the node.
//!
//! A round takes everything that waits, lets the node decide, sends what may leave at once, and then gives the log side what is to
//! be durable, one batch at a time; meanwhile the peers already work on the same entries, and the next batch gathers. There are no
//! batch timers.
//!
//! Order of durability: messages that promise something are held back inside the node until their batch is synced and the node
//! was told; entries go to the state machine only when they are durable here. The record of a snapshot's install, and whatever
//! comes after it, is written only when the state machine is that snapshot, durably. Neither a write nor an install keeps this
//! side from its other work.
//!
//! This side uses no disk at all, and waits for nobody who does: what is to be read or removed, others read or remove.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use anyhow::Context;
use quorate_kv::COMMAND_VERSION;
use quorate_node::{Node, NodeEffects, NodeEvent, NodeIo, ReadAnswer, Throttle, Unreadable};
use quorate_raft::{Broken, Index, Mono, NodeId, Notice, Role, SnapshotMeta, Term, View};
use quorate_storage::Wal;

#[cfg(feature = "breakable")]
use crate::log_loop::LogJob;
use crate::{
    bugs::Bug,
    clock::nanoseconds,
    door::AlreadyBootstrapped,
    flight::{self, Reason},
    inspect::Inspectors,
    log_writer::LogWriter,
    pending::Waiter,
    shared::{ApplyInput, GROUP, RaftInput, Shared, server_error},
    slot::WakeBatch,
    snapshots::Snapshots,
};

/// How often what members should not send is worth a line, of each kind.
const LOGGED_EVERY_NS: u64 = 1_000_000_000;
/// This many entries behind, the node wants to hear of each step the state machine makes.
const LAG_WATCHED: u64 = 64;

/// How much longer than a request may take the state machine has to answer what is committed.
const GRACE: Duration = Duration::from_millis(100);

/// The Raft side.
pub struct RaftLoop {
    shared: Arc<Shared>,
    node: Node,
    log: LogWriter,
    effects: NodeEffects,
    inputs: Vec<RaftInput>,
    reads: BTreeMap<u64, Vec<Waiter<()>>>,
    reads_begun: u64,
    /// Who asks what this side knows.
    inspectors: Inspectors,
    told_applied: u64,
    jumps: Throttle,
    refusals: Throttle,
    unreachable: Vec<NodeId>,
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
        let log = LogWriter::new(log, shared.makes(Bug::RaftReadsLog));
        Self {
            shared,
            node,
            log,
            effects: NodeEffects::default(),
            inputs: Vec::new(),
            reads: BTreeMap::new(),
            reads_begun: 0,
            inspectors: Inspectors::default(),
            told_applied,
            jumps: Throttle::default(),
            refusals: Throttle::default(),
            unreachable: Vec::new(),
            end_at: None,
        }
    }

    /// What the core of the group shows of itself.
    pub fn view(&self) -> Option<View<'_>> {
        self.node.view(GROUP)
    }

    /// When a round is due at the latest.
    pub fn next_deadline(&self) -> Option<Mono> {
        if self.stands_still() {
            return None;
        }
        let inspectors = self.inspectors.next_deadline(self.shared.request_timeout());
        let pending = self.shared.pending.oldest().map(|since| since.after(self.patience_ns()));
        [self.node.next_deadline(), inspectors, pending, self.end_at].into_iter().flatten().min()
    }

    /// Whether a round has something to do now.
    pub fn is_ready(&self) -> bool {
        let due = || self.next_deadline().is_some_and(|due| due <= self.shared.clock.now());
        let has_work = || self.must_hear_of_applied() || !self.shared.raft.is_empty() || due();
        !self.stands_still() && has_work()
    }

    /// Whether this build makes the mistake of waiting for the disk or the state machine, and does now.
    fn stands_still(&self) -> bool {
        let (log, shared) = (&self.log, &self.shared);
        let writes = shared.makes(Bug::RaftWaitsForDisk) && shared.log.is_ready();
        let is_done = |input: &RaftInput| matches!(input, RaftInput::Installed);
        let installs = shared.makes(Bug::DeafWhileInstalling) && log.is_installing();
        writes || (installs && !shared.raft.any(is_done))
    }

    /// Whether the state machine is becoming a snapshot that the log does not know of yet.
    pub fn is_installing(&self) -> bool {
        self.log.is_installing()
    }

    /// Whether something waits to be durable, and for nothing but the disk.
    pub fn is_writing(&self) -> bool {
        self.log.is_writing()
    }

    /// The term of the log's entry at `index`, if the core knows it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let view =
            self.view().filter(|view| index >= view.base.index && index <= view.last.index)?;
        let mut runs = self.node.log_terms(GROUP).rev();
        let run = runs.find(|first| first.index <= index);
        Some(run.map_or(view.base.term, |first| first.term))
    }

    /// Blocks until a round has something to do.
    pub fn wait(&mut self) {
        if !self.must_hear_of_applied() {
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

    /// Takes everything that waits, decides, and gives the log side what is to be durable. Whether it was told to stop, and has.
    ///
    /// # Errors
    /// The log failed; which file, where and how. Or an invariant of the core does not hold. Final; what the core was told before is
    /// kept in a file.
    pub fn round(&mut self) -> anyhow::Result<bool> {
        let outcome = self.take_round();
        if let Err(error) = &outcome
            && error.downcast_ref::<AlreadyBootstrapped>().is_none()
        {
            let broken = error.downcast_ref::<Broken>().is_some();
            self.keep_recording(if broken { Reason::Invariant } else { Reason::Disk });
        }
        outcome
    }

    fn take_round(&mut self) -> anyhow::Result<bool> {
        let mut inputs = std::mem::take(&mut self.inputs);
        self.shared.raft.take(&mut inputs);
        self.inputs = inputs;
        let now = self.shared.clock.now();
        self.end_waits(now);
        self.step_all(now)?;
        self.carry_out(now)?;
        self.show(now)?;
        Ok(self.end_at.is_some_and(|end| end <= now || self.is_dispensable()))
    }

    /// Whether more is applied than the node knows, and it waits for that. If it waits in vain, the apply thread will call.
    fn must_hear_of_applied(&self) -> bool {
        let progress = self.node.progress(GROUP).unwrap_or_default();
        let lag = progress.committed.0 - progress.applied.0;
        let stands = progress.handed < progress.committed;
        let waits = lag > 0 && (stands || progress.reads > 0 || lag > LAG_WATCHED);
        waits && self.shared.standing.want_applied(self.told_applied)
    }

    /// How long a proposal may wait: a little longer than the node keeps it, which knows better what became of it.
    fn patience_ns(&self) -> u64 {
        nanoseconds(self.shared.request_timeout() + GRACE)
    }

    /// Ends the waits for a state machine that stands still.
    fn end_waits(&self, now: Mono) {
        let limit = now.0.checked_sub(self.patience_ns());
        let oldest = self.shared.pending.oldest();
        if let Some(limit) = limit.map(Mono).filter(|limit| oldest.is_some_and(|at| at <= *limit)) {
            self.shared.pending.expire(limit, &mut WakeBatch::default());
        }
    }

    fn step_all(&mut self, now: Mono) -> anyhow::Result<()> {
        self.tell_applied(now);
        let mut waiters = Vec::new();
        let mut inputs = std::mem::take(&mut self.inputs);
        // The log comes back first: what peers said meanwhile may have to be read from it.
        let is_written = |input: &mut RaftInput| matches!(input, RaftInput::Written(_));
        let written: Vec<_> = inputs.extract_if(.., is_written).collect();
        for input in written.into_iter().chain(inputs.drain(..)) {
            match input {
                RaftInput::Event(NodeEvent::SnapshotReceived { group, from, term, snapshot }) => {
                    let received = snapshot.clone();
                    self.step(now, NodeEvent::SnapshotReceived { group, from, term, snapshot });
                    self.discard_unwanted(received);
                }
                RaftInput::Event(event) => self.step(now, event),
                RaftInput::Read(waiter) => waiters.push(waiter),
                RaftInput::Inspect(waiter) => self.inspectors.push(now, waiter),
                RaftInput::Written(written) => {
                    for (group, token) in self.log.take_back(*written)? {
                        self.step(now, NodeEvent::IoDone { group, token });
                    }
                }
                RaftInput::Applied => {}
                RaftInput::Installed => self.log.installed(),
                RaftInput::Failed(error) => return Err(error),
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
        Ok(())
    }

    fn step(&mut self, now: Mono, event: NodeEvent) {
        self.node.step(now, event, &mut self.log, &mut self.effects);
    }

    /// A received snapshot that the node doesn't install makes room for another.
    fn discard_unwanted(&self, received: SnapshotMeta) {
        let installs = |io: &NodeIo| matches!(io, NodeIo::Install { .. });
        if !self.effects.io.iter().any(installs) {
            Snapshots::discard(&self.shared, received);
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

    /// Tells those who asked what this side knows, once it is durable.
    fn show(&mut self, now: Mono) -> anyhow::Result<()> {
        let (staged, written) = self.log.counts();
        let applied = self.shared.standing.applied();
        let broken = self.inspectors.look(&mut self.node, applied, staged);
        self.inspectors.tell(written, now, self.shared.request_timeout());
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
            if !self.shared.send(to, message) {
                effects.unsent.push(to);
            }
        }
        for to in effects.unsent.drain(..) {
            if !self.unreachable.contains(&to) {
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
        self.write(effects);
        Ok(())
    }

    /// Gives the log side what is to be durable, and the state machine the snapshots that it is to become before.
    fn write(&mut self, effects: &mut NodeEffects) {
        for io in &effects.io {
            if let NodeIo::Install { snapshot, .. } = io {
                self.shared.apply.put(ApplyInput::Install(snapshot.clone()));
            }
        }
        self.log.stage(&mut effects.io);
        let job = self.log.next_job();
        #[cfg(feature = "breakable")]
        let job = job.map(|job| {
            let view = self.view();
            let forget = view.map(|view| (self.shared.config.breaks, view.last.term, view.commit));
            LogJob { forget, ..job }
        });
        if let Some(job) = job {
            self.shared.log.put(job);
        }
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
            if let Notice::TermJump { from, claimed, term } = notice {
                self.shared.metrics.term_jumps.increment();
                if let Some(more) = self.jumps.pass(now.0, LOGGED_EVERY_NS) {
                    let from = format!("{:x}", from.0);
                    let (claimed, term) = (claimed.0, term.0);
                    tracing::warn!(from, claimed, term, more, "a member claims a term far ahead");
                }
            } else if let Notice::LogTruncated { first } = notice {
                tracing::info!(group, first = first.0, "the log's tail is replaced");
            } else {
                tracing::warn!(group, ?notice, "raft");
            }
        }
        for refused in effects.refused.drain(..) {
            self.shared.refusals.note(now, refused);
        }
        for (from, refusal) in effects.unreadable.drain(..) {
            self.shared.metrics.commands_refused.add(refusal.count);
            if let Some(more) = self.refusals.pass(now.0, LOGGED_EVERY_NS) {
                tell_refusal(from, refusal, more);
            }
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
        !leads && self.log.is_idle()
    }
}

fn tell_refusal(from: NodeId, refusal: Unreadable, more: u64) {
    let (from, count, newest) = (format!("{:x}", from.0), refusal.count, COMMAND_VERSION);
    if let Some(version) = refusal.version {
        let what =
            "a member sent commands of a version that not all members can apply: not taken in";
        tracing::warn!(from, count, version, newest, more, "{what}");
    } else {
        tracing::warn!(from, count, more, "a member sent what is no command: not taken in");
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
            server.turn().unwrap();
            server.apply.round().unwrap();
            now.fetch_add(1_000_000, SeqCst);
        }
        for key in 0..8_u8 {
            let request = PutRequest { key: vec![key].into(), ..PutRequest::default() };
            server.handle.0.propose(&Command::Put(request), Scope::Anywhere, None);
            while server.raft.is_ready() || server.log.is_ready() {
                server.turn().unwrap();
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
            let works = server.raft.is_ready() || server.log.is_ready();
            assert!(works || server.apply.is_ready(), "all sides wait");
            if works {
                server.turn().unwrap();
            }
            if server.apply.is_ready() {
                server.apply.round().unwrap();
            }
        }
    }
}
