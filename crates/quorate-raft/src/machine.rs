//! The core: its fields, its one function, and what every step ends with.
//!
//! A step goes through four gates, in this order:
//! 1. an event that contradicts the protocol, or itself, is refused before anything changes ([`inbox`](crate::inbox));
//! 2. the topic that the event belongs to decides: election, append, replication, read, snapshot, transfer, fault;
//! 3. commits are given out as far as they are known *and* durable here ([`commit`](crate::commit));
//! 4. what the step changed of term, vote and log becomes one atomic write with one token ([`durability`](crate::durability)).
//!
//! Fields and invariants (all of them are in code in [`invariants`](crate::invariants)):
//! - `released <= commit <= log.last`; neither ever falls.
//! - `vote` belongs to `term`; both are staged for writing in the step that changes them.
//! - `leader`, if known, leads `term`; it is this member exactly when the state is `Leader`.
//! - a faulted member neither campaigns nor leads.
//!
//! Left out: the content of entries, membership changes, leases, quiescence.

use crate::durability::Durability;
use crate::election::{Leadership, State};
use crate::log::Log;
use crate::quorum::Quorum;
use crate::random::Random;
use crate::read::Reads;
use crate::replication::Line;
use crate::{
    Append, Config, Effects, EntryRange, Event, Fault, HardState, Index, Io, IoToken, Membership,
    Message, Mono, NodeId, Notice, Origin, Reject, Role, Send, SnapshotMeta, Term, Verdict,
};

/// One member of one group: a pure state machine. See the [crate] for how to drive it.
#[derive(Clone, Debug)]
pub struct Core {
    pub(crate) config: Config,
    pub(crate) membership: Membership,
    /// The voters of `membership`, ready for counting.
    pub(crate) quorum: Quorum,
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    pub(crate) log: Log,
    pub(crate) durability: Durability,
    pub(crate) commit: Index,
    /// How far commits were given out.
    pub(crate) released: Index,
    pub(crate) state: State,
    pub(crate) leader: Option<NodeId>,
    /// When the leader last gave a sign of life. Means nothing without a leader.
    pub(crate) leader_seen: Mono,
    /// The election is due `wait_ns` after this, unless something puts it off.
    pub(crate) armed: Mono,
    pub(crate) wait_ns: u64,
    pub(crate) fault: Option<Fault>,
    pub(crate) reads: Reads,
    pub(crate) random: Random,
    pub(crate) staged: Staged,
}

/// What the step under way will make durable, beside what [`Durability`] counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Staged {
    pub(crate) hard_state: bool,
    pub(crate) append: Option<Append>,
    pub(crate) install: Option<SnapshotMeta>,
}

/// The step under way: its moment, and where its effects go.
pub(crate) struct Turn<'a> {
    pub(crate) now: Mono,
    pub(crate) out: &'a mut Effects,
}

impl Turn<'_> {
    pub(crate) fn send(
        &mut self,
        to: NodeId,
        after: Option<IoToken>,
        message: Message<EntryRange>,
    ) {
        self.out.send.push(Send { to, after, message });
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.out.notices.push(notice);
    }
}

impl Core {
    /// Takes in one event and adds what follows from it to `out`, which may hold the effects of earlier steps.
    ///
    /// Total: no event panics or blocks, whatever it holds. After [`Verdict::Rejected`] the state is as before. The caller owes
    /// the duties listed at [`Effects`], in their order, and the next [`Event::Wake`] at [`Core::next_deadline`].
    pub fn step(&mut self, now: Mono, event: Event<'_>, out: &mut Effects) -> Verdict {
        let before = self.standing();
        let mut turn = Turn { now, out };
        let verdict = self.dispatch(event, &mut turn).unwrap_or_else(Verdict::Rejected);
        self.release(&mut turn);
        self.flush(&mut turn);
        let (role, term, leader) = self.standing();
        if before != (role, term, leader) {
            turn.notice(Notice::RoleChanged { role, term, leader });
        }
        verdict
    }

    fn dispatch(&mut self, event: Event<'_>, turn: &mut Turn<'_>) -> Result<Verdict, Reject> {
        match event {
            Event::Wake => Ok(self.on_wake(turn)),
            Event::Message { from, message } => self.on_message(from, message, turn),
            Event::Propose { sizes } => self.on_propose(sizes, turn),
            Event::Read { context } => Ok(self.on_read(context, turn)),
            Event::IoDone { token } => self.on_io_done(token, turn),
            Event::Fault(fault) => Ok(self.on_fault(fault, turn)),
            Event::Repaired => self.on_repaired(turn),
            Event::Unreachable { node } => self.on_unreachable(node),
            Event::SnapshotSent { to, snapshot } => self.on_snapshot_sent(to, snapshot),
            Event::SnapshotReceived { from, term, snapshot } => {
                self.on_snapshot_received(from, term, snapshot, turn)
            }
            Event::Compacted { upto } => self.on_compacted(upto),
            Event::TransferLeader { to } => self.on_transfer(to, turn),
        }
    }

    /// What [`Notice::RoleChanged`] reports.
    fn standing(&self) -> (Role, Term, Option<NodeId>) {
        (self.state.role(), self.term, self.leader)
    }

    /// Makes one write of all that the step changed.
    fn flush(&mut self, turn: &mut Turn<'_>) {
        let Some(token) = self.durability.take_staged() else { return };
        let Staged { hard_state, append, install } = std::mem::take(&mut self.staged);
        let state = HardState { term: self.term, vote: self.vote, commit: self.commit };
        turn.out.io.push(match install {
            Some(snapshot) => Io::Install { token, hard_state: state, snapshot },
            None => Io::Save { token, hard_state: hard_state.then_some(state), append },
        });
    }

    /// Term or vote changed: they are saved before anything is said in their name.
    pub(crate) fn stage_hard_state(&mut self, turn: &Turn<'_>) {
        self.staged.hard_state = true;
        self.durability.stage_hard_state(turn.now);
    }

    /// The log grew by `range`: it is saved in this step's write.
    pub(crate) fn stage_append(&mut self, range: EntryRange, origin: Origin, turn: &Turn<'_>) {
        self.staged.append = Some(Append { range, origin });
        self.durability.stage_entries(turn.now, range.last);
    }

    /// Sends a message that speaks in the present term: not before that term is durable.
    pub(crate) fn send(&self, to: NodeId, message: Message<EntryRange>, turn: &mut Turn<'_>) {
        turn.send(to, self.durability.after_hard_state(), message);
    }

    /// A leader's own knowledge and, apart from it, what it needs to talk to its peers.
    pub(crate) fn leading(&mut self) -> Option<(&mut Leadership, Line<'_>)> {
        let State::Leader(lead) = &mut self.state else { return None };
        let line = Line {
            config: &self.config,
            log: &self.log,
            term: self.term,
            commit: self.commit,
            round: self.reads.asked(),
            after: self.durability.after_hard_state(),
        };
        Some((lead, line))
    }

    fn on_io_done(&mut self, token: IoToken, turn: &mut Turn<'_>) -> Result<Verdict, Reject> {
        match self.durability.complete(token) {
            None => Err(Reject::Malformed("this io token was never issued")),
            Some(false) => Ok(Verdict::Stale),
            Some(true) => {
                self.settle(turn);
                Ok(Verdict::Ok)
            }
        }
    }

    /// The driver dropped the head of the log.
    fn on_compacted(&mut self, upto: Index) -> Result<Verdict, Reject> {
        if upto > self.released.min(self.durability.durable()) {
            return Err(Reject::Malformed("compaction beyond what was committed and is durable"));
        }
        Ok(if self.log.compact(upto) { Verdict::Ok } else { Verdict::Stale })
    }
}
