//! What must hold of one member after every step. Tests, simulations, explorations and replays call this after each one; a running
//! server does so now and then (`quorate-flight`).
//!
//! The five properties of the Raft paper (figure 3) speak of all members at once. Each has a part that a single member can
//! check, and that is here, beside the agreement of the core's own fields:
//! - *Election safety*: in one term a member votes for one candidate and knows one leader; a leader voted for itself.
//! - *Leader append-only*: a leader's log only grows.
//! - *Log matching*: terms in the log never fall, and none is above the member's own.
//! - *Leader completeness*: what is committed stays in the log, and the commit index never falls.
//! - *State machine safety*: commits are given out once, in order, and only of what is committed.
//!
//! Left out: everything that needs two members; the harness of the tests has those.

use crate::election::{Leadership, State};
use crate::machine::Core;
use crate::progress::{Progress, ProgressState};
use crate::{EntryId, Index, NodeId, Role, Term};

/// An invariant that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broken invariant: {0}")]
pub struct Broken(pub &'static str);

fn all(rules: &[(bool, &'static str)]) -> Result<(), Broken> {
    match rules.iter().find(|(holds, _)| !holds) {
        Some((_, what)) => Err(Broken(what)),
        None => Ok(()),
    }
}

impl Core {
    /// Checks the state between two steps. Takes time in proportion to the log.
    ///
    /// # Errors
    /// [`Broken`] says which invariant does not hold: a defect of this crate.
    pub fn check(&self) -> Result<(), Broken> {
        self.check_fields()?;
        self.check_role()?;
        match &self.state {
            State::Leader(lead) => self.check_leader_state(lead),
            State::Follower | State::PreCandidate(_) | State::Candidate(_) => Ok(()),
        }
    }

    fn check_fields(&self) -> Result<(), Broken> {
        let last = self.log.last();
        all(&[
            (self.log.is_consistent(), "the log agrees with itself"),
            (
                self.durability.is_consistent(last.index),
                "the ledger of writes agrees with itself and the log",
            ),
            (self.durability.covers(last.index), "every entry is durable or on its way"),
            (self.reads.is_consistent(), "reads are in order of their rounds"),
            (self.released <= self.commit, "only what is committed is given out"),
            (self.commit <= last.index, "the commit index lies within the log"),
            (
                self.log.base().index <= self.released,
                "only what was given out is dropped from the log",
            ),
            (last.term <= self.term, "no entry has a later term than its member"),
            (
                !self.staged.hard_state && self.staged.append.is_none(),
                "nothing is left unsaved after a step",
            ),
        ])
    }

    fn check_role(&self) -> Result<(), Broken> {
        let role = self.state.role();
        let stands = matches!(role, Role::Candidate | Role::Leader);
        let own = Some(self.config.id);
        all(&[
            (
                (role == Role::Leader) == (self.leader == own),
                "the leader is itself exactly when it leads",
            ),
            (!stands || self.vote == own, "a candidate or leader voted for itself"),
            (role == Role::Follower || self.fault.is_none(), "a faulted member only follows"),
            (
                role == Role::Follower || self.quorum.contains(self.config.id),
                "only voters stand or lead",
            ),
            (self.vote.is_none() || self.term > Term(0), "nobody votes in term 0"),
        ])
    }

    fn check_leader_state(&self, lead: &Leadership) -> Result<(), Broken> {
        let start = self.log.term_at(lead.term_start);
        let bytes = self.log.bytes_between(self.commit, self.log.last().index);
        all(&[
            (
                start.is_none_or(|term| term == self.term),
                "a leader's term starts with its own entry",
            ),
            (lead.uncommitted_bytes == bytes, "the uncommitted size is the sum of its entries"),
            (
                lead.transfer.is_none_or(|transfer| self.quorum.contains(transfer.to)),
                "leadership goes to a voter",
            ),
        ])?;
        lead.peers.iter().try_for_each(|peer| self.check_peer(peer))
    }

    fn check_peer(&self, peer: &Progress) -> Result<(), Broken> {
        let end = self.log.last().index;
        let streams = peer.state == ProgressState::Replicate;
        all(&[
            (peer.match_index < peer.next_index, "the next position lies behind the match"),
            (
                peer.next_index <= end.next(),
                "the next position lies within the log or just behind it",
            ),
            (streams || peer.inflights.is_empty(), "the window is empty outside Replicate"),
            (
                peer.inflights.is_consistent(self.config.inflight_appends_max),
                "the window is in order",
            ),
            (peer.commit_sent <= self.commit, "nobody is told more than is committed"),
            (peer.round_acked <= self.reads.asked(), "nobody answers a round that was not begun"),
        ])
    }
}

/// What a later state of the same member, without a restart between, is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    role: Role,
    term: Term,
    vote: Option<NodeId>,
    leader: Option<NodeId>,
    commit: Index,
    commit_term: Option<Term>,
    released: Index,
    last: EntryId,
}

impl Past {
    /// Remembers a member as it is.
    pub fn of(core: &Core) -> Self {
        Self {
            role: core.state.role(),
            term: core.term,
            vote: core.vote,
            leader: core.leader,
            commit: core.commit,
            commit_term: core.log.term_at(core.commit),
            released: core.released,
            last: core.log.last(),
        }
    }

    /// Checks what may never happen between then and now.
    ///
    /// # Errors
    /// [`Broken`] says which invariant does not hold: a defect of this crate.
    pub fn check(&self, core: &Core) -> Result<(), Broken> {
        let same_term = core.term == self.term;
        let leads_on = same_term && self.role == Role::Leader && core.state.role() == Role::Leader;
        let end = core.log.term_at(self.last.index);
        let committed = core.log.term_at(self.commit);
        all(&[
            (core.term >= self.term, "the term never falls"),
            (
                !same_term || self.vote.is_none() || core.vote == self.vote,
                "a vote is never changed in its term",
            ),
            (
                !same_term
                    || self.leader.is_none()
                    || core.leader.is_none()
                    || core.leader == self.leader,
                "a term has one leader",
            ),
            (core.commit >= self.commit, "the commit index never falls"),
            (core.released >= self.released, "commits are given out once"),
            (
                committed.is_none() || self.commit_term.is_none() || committed == self.commit_term,
                "a committed entry never changes",
            ),
            (!leads_on || core.log.last() >= self.last, "a leader's log only grows"),
            (
                !leads_on || end.is_none_or(|term| term == self.last.term),
                "a leader never replaces an entry",
            ),
        ])
    }
}
