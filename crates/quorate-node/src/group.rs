//! One group on this node: its core, and everything that waits for it.
//!
//! [`Group::step`] takes an event in; [`Group::finish`] ends a round: what was queued in it becomes one `Propose`, one
//! question for all reads, one message of forwarded proposals. How the core's effects are carried out is `carry.rs`.
//!
//! Invariants
//! - `applied <= handed <= committed`; `handed` is what the state machine was given, and it is given everything once and in order.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_flight::Recorder;
use quorate_raft::{
    Core, Event, GroupId, Index, IoToken, Mono, NodeId, Reject, Role, Term, Verdict,
};

use crate::admission::tally;
use crate::cache::EntryCache;
use crate::carry::Content;
use crate::holds::{ENTRY_BYTES, Holds};
use crate::inbox::{Inbox, Room};
use crate::proposals::Proposals;
use crate::reads::Reads;
use crate::{
    Answer, LogStore, NodeConfig, NodeEffects, NodeEvent, PeerMessage, Proposal, ProposeError,
    ReadAnswer, Scope,
};

/// One group on this node.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) core: Core,
    pub(crate) effects: quorate_raft::Effects,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) cache: EntryCache,
    /// Messages that wait for a token.
    pub(crate) held: Vec<(IoToken, NodeId, PeerMessage)>,
    /// The newest token that is done.
    pub(crate) done: Option<IoToken>,
    /// Appends whose entries are in the log only, which has yet to read them.
    pub(crate) starved: VecDeque<quorate_raft::Send>,
    pub(crate) committed: Index,
    pub(crate) handed: Index,
    pub(crate) applied: Index,
    /// What was handed and is not applied: each range's end and bytes of content.
    pub(crate) at_machine: VecDeque<(Index, u64)>,
    pub(crate) bytes_at_machine: u64,
    pub(crate) checkpoint: Index,
    pub(crate) proposals: Proposals,
    pub(crate) inbox: Inbox,
    pub(crate) reads: Reads,
    pub(crate) holds: Holds,
    /// The log is not looked at again before this much may be cut.
    next_cut: Index,
    /// The newest version of commands that every member can apply.
    command_version: u8,
    /// A full round was taken, and there is more.
    more: bool,
}

/// What goes with every call: time, settings, log, and where effects go.
pub(crate) struct Round<'a> {
    pub(crate) now: Mono,
    pub(crate) config: &'a NodeConfig,
    pub(crate) log: &'a mut dyn LogStore,
    pub(crate) out: &'a mut NodeEffects,
}

impl Round<'_> {
    /// Where the answers to this group's proposals go.
    pub(crate) fn answer(&mut self, group: GroupId) -> impl FnMut(u64, ProposeError) {
        move |sequence, error| self.out.answers.push(Answer { group, sequence, error })
    }
}

impl Group {
    pub(crate) fn new(
        id: GroupId,
        core: Core,
        cache: EntryCache,
        recorder: Option<Recorder>,
        applied: Index,
    ) -> Self {
        Self {
            id,
            core,
            effects: quorate_raft::Effects::default(),
            recorder,
            cache,
            held: Vec::new(),
            done: None,
            starved: VecDeque::new(),
            committed: applied,
            handed: applied,
            applied,
            at_machine: VecDeque::new(),
            bytes_at_machine: 0,
            checkpoint: applied,
            proposals: Proposals::default(),
            inbox: Inbox::default(),
            reads: Reads::default(),
            holds: Holds::default(),
            next_cut: Index(0),
            command_version: 0,
            more: false,
        }
    }

    /// Takes in one event.
    pub(crate) fn step(&mut self, event: NodeEvent, round: &mut Round<'_>) {
        match event {
            NodeEvent::Wake => self.wake(round),
            NodeEvent::Peer { from, message } => self.receive(from, message, round),
            NodeEvent::PeerUp { node } => self.peer_up(node),
            NodeEvent::CommandVersion { version } => self.command_version = version,
            NodeEvent::PeerDown { node } => self.tell(Event::Unreachable { node }, round),
            NodeEvent::Propose { proposal, .. } => self.propose(proposal, round),
            NodeEvent::Read { id, .. } => self.read(id, round),
            NodeEvent::Applied { index, .. } => self.note_applied(index, round),
            NodeEvent::Checkpointed { index, .. } => self.checkpoint = self.checkpoint.max(index),
            NodeEvent::IoDone { token, .. } => self.io_done(token, round),
            NodeEvent::Fault { fault, .. } => self.tell(Event::Fault(fault), round),
            NodeEvent::Repaired { .. } => self.tell(Event::Repaired, round),
            NodeEvent::SnapshotSent { to, snapshot, .. } => {
                let snapshot = snapshot.as_ref();
                self.holds.sent(to, snapshot.map(|snapshot| snapshot.last.index));
                self.tell(Event::SnapshotSent { to, snapshot }, round);
            }
            NodeEvent::SnapshotReceived { from, term, snapshot, .. } => {
                self.tell(Event::SnapshotReceived { from, term, snapshot: &snapshot }, round);
            }
            NodeEvent::TransferLeader { to, .. } => {
                self.tell(Event::TransferLeader { to }, round);
            }
        }
    }

    /// Ends a round.
    pub(crate) fn finish(&mut self, round: &mut Round<'_>) {
        self.read_again(round);
        self.expire(round);
        self.send_proposals(round);
        self.ask_for_reads(round);
        self.release_reads(round);
        self.cut_log(round);
        let durable = self.core.view().durable;
        self.cache.evict(self.applied.min(durable), round.config.cache_bytes_max);
        // A state machine that stands still must not keep all that is committed meanwhile in memory.
        self.cache.evict(durable, round.config.cache_bytes_max + round.config.apply_bytes_max);
    }

    /// When to come back at the latest.
    pub(crate) fn next_deadline(&self, config: &NodeConfig) -> Option<Mono> {
        if self.more {
            return Some(Mono(0));
        }
        let follows = !self.is_leaderless();
        let question = self.reads.next_question().filter(|_| follows);
        let resend = self.proposals.resend_at().filter(|_| follows);
        let expiry = self.oldest().map(|oldest| oldest.after(config.request_timeout_ns));
        [self.core.next_deadline(), question, resend, expiry].into_iter().flatten().min()
    }

    /// The term in which this node leads, if it does.
    pub(crate) fn leads(&self) -> Option<Term> {
        let view = self.core.view();
        (view.role == Role::Leader).then_some(view.term)
    }

    fn is_leaderless(&self) -> bool {
        self.core.view().leader.is_none()
    }

    fn wake(&mut self, round: &mut Round<'_>) {
        if self.core.next_deadline().is_some_and(|deadline| deadline <= round.now) {
            self.tell(Event::Wake, round);
        }
        if self.proposals.resend_at().is_some_and(|at| at <= round.now) {
            self.proposals.take_for_lost(round.now);
        }
    }

    fn peer_up(&mut self, node: NodeId) {
        if self.core.view().leader == Some(node) {
            self.proposals.rewind();
            self.reads.hurry();
        }
    }

    fn propose(&mut self, proposal: Proposal, round: &mut Round<'_>) {
        match self.refusal(&proposal, round.config) {
            Some(error) => round.answer(self.id)(proposal.sequence, error),
            None => self.proposals.push(proposal, round.now),
        }
    }

    fn refusal(&self, proposal: &Proposal, config: &NodeConfig) -> Option<ProposeError> {
        let bytes = self.proposals.bytes() + proposal.payload.len() as u64;
        let lag = self.committed.0 - self.applied.0;
        let full = self.proposals.len() >= config.proposals_max
            || bytes > config.proposal_bytes_max
            || lag > config.apply_lag_max;
        if config.commands.admit(&proposal.payload, self.command_version).is_err() {
            return Some(ProposeError::Refused);
        }
        match proposal.scope {
            Scope::LeaderOf(term) if self.leads() != Some(term) => Some(ProposeError::NotLeader),
            Scope::LeaderOf(_) | Scope::Anywhere => full.then_some(ProposeError::Overloaded),
        }
    }

    fn read(&mut self, id: u64, round: &mut Round<'_>) {
        if self.reads.len() < round.config.reads_max {
            self.reads.push(id, round.now);
        } else {
            let result = Err(ProposeError::Overloaded);
            round.out.reads.push(ReadAnswer { group: self.id, id, result });
        }
    }

    fn receive(&mut self, from: NodeId, message: PeerMessage, round: &mut Round<'_>) {
        match message {
            PeerMessage::Raft { message, .. } => self.receive_raft(from, message, round),
            PeerMessage::Forward { term, incarnation, number, proposals, .. } => {
                self.receive_forward(from, term, (incarnation, number), proposals, round);
            }
            PeerMessage::ForwardAck { term, incarnation, next, gap, .. } => {
                if incarnation == round.config.incarnation {
                    self.proposals.ack(round.now, term, next, gap);
                }
            }
            PeerMessage::ForwardRefused { term, incarnation, numbers, .. } => {
                if incarnation == round.config.incarnation {
                    let mut answer = round.answer(self.id);
                    for number in numbers {
                        self.proposals.refused(term, number, &mut answer);
                    }
                }
            }
            PeerMessage::ServiceRequest { .. }
            | PeerMessage::ServiceReply { .. }
            | PeerMessage::SnapshotChunk { .. }
            | PeerMessage::SnapshotAck { .. } => {}
        }
    }

    fn receive_forward(
        &mut self,
        from: NodeId,
        term: Term,
        (incarnation, number): (u64, u64),
        proposals: Vec<Bytes>,
        round: &mut Round<'_>,
    ) {
        // Refused without a word in any other term: the sender learns of the new term from Raft itself.
        if self.leads() != Some(term) || !self.core.view().membership.contains(from) {
            return;
        }
        self.inbox.enter(term);
        let proposals = self.examine(from, term, (incarnation, number), proposals, round);
        let NodeConfig { inbox_max, inbox_bytes_max, .. } = *round.config;
        let room = Room { proposals: inbox_max, bytes: inbox_bytes_max };
        let taken = self.inbox.take((from, incarnation), number, proposals, room);
        let (next, gap) = (taken.next, taken.gap);
        let ack = PeerMessage::ForwardAck { group: self.id, term, incarnation, next, gap };
        round.out.send.push((from, ack));
    }

    /// Forwarded proposals without those that not every member can apply; their sender hears of these.
    fn examine(
        &self,
        from: NodeId,
        term: Term,
        (incarnation, number): (u64, u64),
        proposals: Vec<Bytes>,
        round: &mut Round<'_>,
    ) -> Vec<Option<Bytes>> {
        let mut refused = Vec::new();
        let mut examine = |(nth, payload): (u64, Bytes)| match round
            .config
            .commands
            .admit(&payload, self.command_version)
        {
            Ok(()) => Some(payload),
            Err(version) => {
                refused.push((number.wrapping_add(nth), version));
                None
            }
        };
        let proposals = (0..).zip(proposals).map(&mut examine).collect();
        if let Some(refusal) = tally(refused.iter().map(|(_, version)| *version)) {
            round.out.unreadable.push((from, refusal));
            let numbers = refused.into_iter().map(|(number, _)| number).collect();
            let group = self.id;
            let answer = PeerMessage::ForwardRefused { group, term, incarnation, numbers };
            round.out.send.push((from, answer));
        }
        proposals
    }

    fn note_applied(&mut self, index: Index, round: &mut Round<'_>) {
        self.applied = self.applied.max(index.min(self.handed));
        while self.at_machine.front().is_some_and(|(end, _)| *end <= self.applied) {
            self.bytes_at_machine -= self.at_machine.pop_front().map_or(0, |(_, bytes)| bytes);
        }
        self.hand_over(round);
        self.release_reads(round);
    }

    fn io_done(&mut self, token: IoToken, round: &mut Round<'_>) {
        self.tell(Event::IoDone { token }, round);
        self.done = self.done.max(Some(token));
        let released = self.held.extract_if(.., |(after, _, _)| *after <= token);
        round.out.send.extend(released.map(|(_, to, message)| (to, message)));
    }

    /// Gives the core an event that brings no content along.
    pub(crate) fn tell(&mut self, event: Event<'_>, round: &mut Round<'_>) {
        self.step_core(event, Content::None, round);
    }

    fn send_proposals(&mut self, round: &mut Round<'_>) {
        self.more = false;
        let (role, term, leader) = {
            let view = self.core.view();
            (view.role, view.term, view.leader)
        };
        if role == Role::Leader {
            self.inbox.enter(term);
            self.append_proposals(term, round);
        } else if let Some(leader) = leader {
            self.forward_proposals(term, leader, round);
        }
    }

    /// One `Propose` of everything that waits here and in the inbox, up to a round's limits.
    fn append_proposals(&mut self, term: Term, round: &mut Round<'_>) {
        let own = self.proposals.may_send_in(term);
        let mut batch = Batch::new(round.config);
        let forwarded = batch.take(self.inbox.waiting());
        let queued = if own { batch.take(self.proposals.queued()) } else { 0 };
        if batch.payloads.is_empty() {
            return;
        }
        let event = Event::Propose { sizes: &batch.sizes };
        // Counted before the step: in a group of one, the step's own effects commit nothing yet, since nothing is durable.
        match self.step_core(event, Content::Proposed(&batch.payloads), round) {
            Verdict::Proposed { term, .. } => {
                self.inbox.appended(forwarded);
                self.proposals.appended(queued, term);
                self.more = batch.is_full;
            }
            Verdict::Rejected(Reject::Faulted) => self.refuse_queued(round),
            // The window is full or leadership is being handed over: they wait for the next event.
            Verdict::Ok | Verdict::Stale | Verdict::Rejected(_) => {}
        }
    }

    fn refuse_queued(&mut self, round: &mut Round<'_>) {
        self.proposals.refuse(ProposeError::Faulted, &mut round.answer(self.id));
    }

    fn forward_proposals(&mut self, term: Term, leader: NodeId, round: &mut Round<'_>) {
        let NodeConfig { inbox_max, batch_entries_max, batch_bytes_max, .. } = *round.config;
        if !self.proposals.may_send_in(term) {
            return;
        }
        let window_bytes_max = round.config.raft.inflight_bytes_max;
        self.proposals.admit(term, inbox_max, window_bytes_max);
        if self.proposals.resend_at().is_none() {
            self.proposals.expect_ack(round.now, round.config.resend_ns, window_bytes_max);
        }
        let mut sent = false;
        while let Some((number, proposals)) =
            self.proposals.transmit(round.now, batch_entries_max, batch_bytes_max)
        {
            let (group, incarnation) = (self.id, round.config.incarnation);
            let forward = PeerMessage::Forward { group, term, incarnation, number, proposals };
            round.out.send.push((leader, forward));
            sent = true;
        }
        if sent {
            self.proposals.expect_ack(round.now, round.config.resend_ns, window_bytes_max);
        }
    }

    fn ask_for_reads(&mut self, round: &mut Round<'_>) {
        if !self.is_leaderless() && self.reads.wants_to_ask(round.now) {
            let again_at = round.now.after(round.config.resend_ns.max(1));
            let context = self.reads.ask(again_at);
            self.tell(Event::Read { context }, round);
        }
    }

    pub(crate) fn release_reads(&mut self, round: &mut Round<'_>) {
        let group = self.id;
        self.reads.release(self.applied, |id| {
            round.out.reads.push(ReadAnswer { group, id, result: Ok(()) });
        });
    }

    fn oldest(&self) -> Option<Mono> {
        [self.proposals.oldest(), self.reads.oldest()].into_iter().flatten().min()
    }

    /// Answers what has waited for the time of a request. An election that goes on ends nothing before: what is in nobody's log
    /// can wait for the next leader, and what may be in a log is perhaps about to be committed by it.
    fn expire(&mut self, round: &mut Round<'_>) {
        let timeout_ns = round.config.request_timeout_ns;
        if self.oldest().is_none_or(|oldest| oldest.after(timeout_ns) > round.now) {
            return;
        }
        let limit = Mono(round.now.0.saturating_sub(timeout_ns));
        let leaderless = self.is_leaderless();
        self.proposals.expire(limit, leaderless, &mut round.answer(self.id));
        let error = if leaderless { ProposeError::NoLeader } else { ProposeError::Timeout };
        let group = self.id;
        self.reads.expire(limit, |id| {
            round.out.reads.push(ReadAnswer { group, id, result: Err(error) });
        });
    }

    /// Drops the log's head, once enough piled up that the state machine holds durably.
    fn cut_log(&mut self, round: &mut Round<'_>) {
        let base = self.core.view().base.index;
        let NodeConfig { snapshot_count, snapshot_catchup_entries, .. } = *round.config;
        let upto =
            Index(self.checkpoint.min(self.applied).0.saturating_sub(snapshot_catchup_entries));
        let due = upto.0.saturating_sub(base.0);
        if upto <= base || due < snapshot_count.saturating_sub(snapshot_catchup_entries) {
            return;
        }
        if upto >= self.next_cut || self.holds.is_empty() {
            // Held back, it is looked at again when there is some more to drop.
            self.next_cut = Index(upto.0 + (snapshot_count / CUT_LOOKS).max(1));
            let upto = self.held_back(upto, round.config);
            if upto > base {
                self.cut_log_at(upto, round);
            }
        }
    }

    /// How far of `upto` the log may be cut while snapshots are on their way.
    fn held_back(&mut self, upto: Index, config: &NodeConfig) -> Index {
        let view = self.core.view();
        let last = view.last.index;
        let enough = Index(last.0.saturating_sub(config.snapshot_catchup_entries));
        for peer in view.peers() {
            self.holds.matched(peer.node, peer.match_index, enough);
        }
        while let Some(limit) = self.holds.limit().filter(|limit| *limit < upto) {
            let kept_bytes = self.core.log_bytes(limit, last) + (last.0 - limit.0) * ENTRY_BYTES;
            if kept_bytes <= config.log_hold_bytes_max {
                return limit;
            }
            self.holds.give_up_first();
        }
        upto
    }
}

/// While a log is held back, it is looked at this often for as many entries as pile up between two cuts.
const CUT_LOOKS: u64 = 16;

/// Proposals on their way into one `Propose`.
struct Batch {
    payloads: Vec<Bytes>,
    sizes: Vec<u32>,
    bytes: u64,
    entries_max: usize,
    bytes_max: u64,
    is_full: bool,
}

impl Batch {
    fn new(config: &NodeConfig) -> Self {
        Self {
            payloads: Vec::new(),
            sizes: Vec::new(),
            bytes: 0,
            entries_max: config.batch_entries_max,
            bytes_max: config.batch_bytes_max,
            is_full: false,
        }
    }

    /// Takes as many as fit, but at least one into an empty batch, and says how many.
    fn take<'a>(&mut self, waiting: impl Iterator<Item = &'a Bytes>) -> usize {
        let before = self.payloads.len();
        for payload in waiting {
            let grown = self.bytes + payload.len() as u64;
            let fits = self.payloads.len() < self.entries_max && grown <= self.bytes_max;
            if !fits && !self.payloads.is_empty() {
                self.is_full = true;
                break;
            }
            self.bytes = grown;
            self.sizes.push(u32::try_from(payload.len()).unwrap_or(u32::MAX));
            self.payloads.push(payload.clone());
        }
        self.payloads.len() - before
    }
}
