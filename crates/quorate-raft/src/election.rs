//! Elections (Raft paper 5.2, 5.4.1), with pre-vote (thesis 9.6), check-quorum (thesis 6.2) and leader stickiness (thesis 4.2.3).
//!
//! A member that hears of no leader asks first whether it would win, in a rehearsal that changes nobody's term; only then does
//! it start a term. A member that hears from its leader refuses both: a node that comes back from a partition disturbs nobody.
//! The exception is a transfer of leadership, which the leader itself asked for. A leader steps down when it has not heard from
//! a quorum, itself included, for an election timeout, so that a leader cut off from its followers does not hold out for ever.
//!
//! Order of durability: a term and the vote in it are saved before the request or the answer that speaks of them may leave. A
//! candidate counts its own vote at once: every other vote answers a request that has waited for it, and a lone voter's first
//! entry goes into the same atomic write.
//!
//! Learners and faulted members neither vote nor campaign. Left out: priorities among candidates.

use crate::config::{TERM_JUMP_MAX, TERM_MAX};
use crate::machine::{Core, Turn};
use crate::progress::Progress;
use crate::quorum::Tally;
use crate::transfer::Transfer;
use crate::{EntryId, Index, Message, Mono, NodeId, Notice, Origin, Reject, Role, Term, Verdict};

/// The part a member plays, with what only that part knows.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Follower,
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(Leadership),
}

impl State {
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Follower => Role::Follower,
            Self::PreCandidate(_) => Role::PreCandidate,
            Self::Candidate(_) => Role::Candidate,
            Self::Leader(_) => Role::Leader,
        }
    }
}

/// The answers to one campaign so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ballot {
    votes: Vec<(NodeId, bool)>,
}

impl Ballot {
    /// Notes an answer. A vote once granted stays granted, whatever late answers of an older campaign say.
    fn note(&mut self, node: NodeId, granted: bool) {
        match self.votes.iter_mut().find(|(voter, _)| *voter == node) {
            Some((_, vote)) => *vote |= granted,
            None => self.votes.push((node, granted)),
        }
    }

    /// Every answer so far.
    #[cfg(feature = "explore")]
    pub(crate) fn votes(&self) -> impl Iterator<Item = (NodeId, bool)> + '_ {
        self.votes.iter().copied()
    }

    /// Writes out every answer so far.
    #[cfg(feature = "record")]
    pub(crate) fn image(&self, out: &mut impl crate::record::Sink) {
        out.put(self.votes.len() as u64);
        for (node, granted) in &self.votes {
            out.put_all([node.0, u64::from(*granted)]);
        }
    }

    /// The answers that were written out.
    #[cfg(feature = "record")]
    pub(crate) fn from_image(
        reader: &mut crate::record::Reader<'_>,
    ) -> Result<Self, crate::record::RecordError> {
        let count = reader.count("number of votes")?;
        let votes = reader.list(count, |reader| Ok((reader.node()?, reader.flag()?)))?;
        Ok(Self { votes })
    }

    pub(crate) fn vote_of(&self, node: NodeId) -> Option<bool> {
        self.votes.iter().find(|(voter, _)| *voter == node).map(|(_, vote)| *vote)
    }
}

/// What only a leader knows.
#[derive(Clone, Debug)]
pub(crate) struct Leadership {
    /// Every other member, in order of ids.
    pub(crate) peers: Vec<Progress>,
    /// Position of the first entry of its term.
    pub(crate) term_start: Index,
    /// Content of all entries behind the commit index.
    pub(crate) uncommitted_bytes: u64,
    pub(crate) heartbeat_due: Mono,
    pub(crate) quorum_due: Mono,
    pub(crate) transfer: Option<Transfer>,
}

impl Leadership {
    pub(crate) fn peer(&self, node: NodeId) -> Option<&Progress> {
        self.peers.iter().find(|peer| peer.node == node)
    }

    /// How far a peer's log is known to be durable and equal to ours.
    pub(crate) fn match_of(&self, node: NodeId) -> Index {
        self.peer(node).map_or(Index(0), |peer| peer.match_index)
    }

    pub(crate) fn peer_mut(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|peer| peer.node == node)
    }
}

impl Core {
    /// Whether this member may ask for votes at all.
    pub(crate) fn may_campaign(&self) -> bool {
        (self.fault.is_none() || self.config.bug(46)) && self.quorum.contains(self.config.id)
    }

    /// Whether a leader gave a sign of life within the shortest election timeout. A leader itself is alive: it counts its quorum.
    fn is_leader_alive(&self, now: Mono) -> bool {
        match self.leader {
            None => false,
            Some(leader) if leader == self.config.id => true,
            Some(_) => now.since(self.leader_seen) < self.config.election_timeout_ns,
        }
    }

    /// Follows from now on, in `term`, which is not lower than before. A vote in the same term is kept.
    pub(crate) fn become_follower(
        &mut self,
        term: Term,
        leader: Option<NodeId>,
        turn: &mut Turn<'_>,
    ) {
        if term > self.term {
            self.term = term;
            self.vote = None;
            if !self.config.bug(39) {
                self.stage_hard_state(turn);
            }
        } else if self.config.bug(1) {
            self.vote = None;
        }
        if self.leader != leader {
            self.drop_reads(turn);
        }
        if self.state.role() != Role::Follower {
            self.state = State::Follower;
            self.arm(turn.now);
        }
        self.leader = leader;
    }

    /// Follows `from` in a later term, but for a term that is too far ahead: then only part of the way, in a term without a
    /// leader. Whether it got there, and the message may be taken in. Raising one's term is always safe (Raft paper 5.1).
    pub(crate) fn follow_term(
        &mut self,
        from: NodeId,
        claimed: Term,
        leader: Option<NodeId>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let nearest = Term(self.term.0.saturating_add(TERM_JUMP_MAX));
        if claimed <= nearest || self.config.bug(60) {
            self.become_follower(claimed, leader, turn);
            return true;
        }
        self.become_follower(nearest, None, turn);
        turn.notice(Notice::TermJump { from, claimed, term: nearest });
        false
    }

    /// A leader of this term gave a sign of life.
    pub(crate) fn follow(&mut self, leader: NodeId, turn: &mut Turn<'_>) {
        if self.leader != Some(leader) || self.state.role() != Role::Follower {
            self.become_follower(self.term, Some(leader), turn);
        }
        self.leader_seen = turn.now;
        self.armed = turn.now;
    }

    /// Asks whether an election would be won (thesis 9.6).
    pub(crate) fn pre_campaign(&mut self, turn: &mut Turn<'_>) {
        self.leave_leader(turn);
        self.state = State::PreCandidate(Ballot::default());
        self.ask_for_votes(self.term.next(), true, false, turn);
    }

    /// Starts a term and asks for votes in it.
    pub(crate) fn campaign(&mut self, transfer: bool, turn: &mut Turn<'_>) {
        self.leave_leader(turn);
        if self.term.0 >= TERM_MAX {
            self.state = State::Follower;
            return;
        }
        self.term = self.term.next();
        self.vote = Some(self.config.id);
        if !self.config.bug(40) {
            self.stage_hard_state(turn);
        }
        self.state = State::Candidate(Ballot::default());
        self.ask_for_votes(self.term, false, transfer, turn);
    }

    fn leave_leader(&mut self, turn: &mut Turn<'_>) {
        self.drop_reads(turn);
        self.leader = None;
        self.arm(turn.now);
    }

    /// Votes for itself; if that decides, nobody is asked.
    fn ask_for_votes(&mut self, term: Term, pre_vote: bool, transfer: bool, turn: &mut Turn<'_>) {
        self.count_vote(self.config.id, true, turn);
        if !matches!(self.state, State::PreCandidate(_) | State::Candidate(_))
            || self.quorum.is_lone(self.config.id)
        {
            return;
        }
        let last = self.log.last();
        for voter in self.membership.voters.union(&self.membership.voters_outgoing) {
            if *voter != self.config.id {
                let message = Message::RequestVote { term, pre_vote, last, transfer };
                if self.config.bug(2) {
                    turn.send(*voter, None, message);
                } else {
                    self.send(*voter, message, turn);
                }
            }
        }
    }

    fn count_vote(&mut self, from: NodeId, granted: bool, turn: &mut Turn<'_>) {
        let (State::PreCandidate(ballot) | State::Candidate(ballot)) = &mut self.state else {
            return;
        };
        ballot.note(from, granted);
        let ballot = &*ballot;
        match (self.quorum.tally(|voter| ballot.vote_of(voter)), self.state.role()) {
            (Tally::Pending, _) => {}
            (Tally::Lost, _) => self.become_follower(self.term, None, turn),
            (Tally::Won, Role::PreCandidate) => self.campaign(false, turn),
            (Tally::Won, Role::Candidate | Role::Follower | Role::Leader) => {
                self.become_leader(turn);
            }
        }
    }

    /// Leads from now on. The first entry of the term is its own, so that everything before it can be committed (5.4.2, 8).
    fn become_leader(&mut self, turn: &mut Turn<'_>) {
        let id = self.config.id;
        let last = self.log.last().index;
        let others = self.membership.members().into_iter().filter(|node| *node != id);
        let lead = Leadership {
            peers: others.map(|node| Progress::new(node, last.next())).collect(),
            term_start: last.next(),
            uncommitted_bytes: self.log.bytes_between(self.commit, last),
            heartbeat_due: turn.now.after(self.config.heartbeat_interval_ns),
            quorum_due: turn.now.after(self.config.election_timeout_ns),
            transfer: None,
        };
        self.state = State::Leader(lead);
        self.leader = Some(id);
        let range = self.log.append(self.term, [0]);
        self.stage_append(range, Origin::Noop { term: self.term }, turn);
        self.replicate_all(turn);
    }

    /// `RequestVote`, receiver side (figure 2), and its rehearsal.
    pub(crate) fn on_request_vote(
        &mut self,
        from: NodeId,
        request: Request,
        turn: &mut Turn<'_>,
    ) -> Result<Verdict, Reject> {
        let Request { term, pre_vote, last, transfer } = request;
        if self.fault.is_some() {
            return Err(Reject::Faulted);
        }
        let held_back = !transfer && self.leader != Some(from) && self.is_leader_alive(turn.now);
        if !self.quorum.contains(self.config.id) || (term > self.term && held_back) {
            return Ok(Verdict::Stale);
        }
        if term > self.term && !pre_vote && !self.follow_term(from, term, None, turn) {
            return Ok(Verdict::Ok);
        }
        let own = self.log.last();
        let is_current =
            last >= own || self.config.bug(5) || (self.config.bug(6) && last.index >= own.index);
        let granted =
            is_current && if pre_vote { term > self.term } else { self.may_vote(from, term) };
        if granted && !pre_vote {
            self.grant_vote(from, turn);
        }
        let term = if granted { term } else { self.term };
        if self.config.bug(3) {
            turn.send(from, None, Message::Vote { term, pre_vote, granted });
            return Ok(Verdict::Ok);
        }
        self.send(from, Message::Vote { term, pre_vote, granted }, turn);
        Ok(Verdict::Ok)
    }

    fn may_vote(&self, candidate: NodeId, term: Term) -> bool {
        let free = (self.vote.is_none() && self.leader.is_none()) || self.config.bug(7);
        term == self.term && (free || self.vote == Some(candidate))
    }

    fn grant_vote(&mut self, candidate: NodeId, turn: &mut Turn<'_>) {
        self.armed = turn.now;
        if self.vote != Some(candidate) {
            self.vote = Some(candidate);
            if !self.config.bug(4) {
                self.stage_hard_state(turn);
            }
        }
    }

    /// An answer to `RequestVote` or its rehearsal. Answers that belong to no campaign under way start nothing.
    pub(crate) fn on_vote(&mut self, from: NodeId, answer: Answer, turn: &mut Turn<'_>) -> Verdict {
        let Answer { term, pre_vote, granted } = answer;
        let asked = if pre_vote { self.term.next() } else { self.term };
        if term > self.term && !(pre_vote && granted) {
            self.follow_term(from, term, None, turn);
            return Verdict::Ok;
        }
        let counts = match self.state.role() {
            Role::PreCandidate => pre_vote && (!granted || term == asked),
            Role::Candidate if pre_vote => term == self.term && self.config.bug(27),
            Role::Candidate => term == asked || self.config.bug(28),
            Role::Follower | Role::Leader => false,
        };
        if !counts {
            return Verdict::Stale;
        }
        self.count_vote(from, granted, turn);
        Verdict::Ok
    }

    /// Whether a leader has not heard from a quorum since it last looked; looks once per election timeout (thesis 6.2).
    pub(crate) fn is_quorum_lost(&mut self, now: Mono) -> bool {
        let id = self.config.id;
        let State::Leader(lead) = &mut self.state else { return false };
        if lead.quorum_due > now {
            return false;
        }
        lead.quorum_due = now.after(self.config.election_timeout_ns);
        let active = |node| node == id || lead.peer(node).is_some_and(|peer| peer.recent_active);
        let lost = !self.quorum.is_met(active) && !self.config.bug(17);
        for peer in &mut lead.peers {
            peer.recent_active = false;
        }
        lost
    }
}

/// `RequestVote`'s content.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) term: Term,
    pub(crate) pre_vote: bool,
    pub(crate) last: EntryId,
    pub(crate) transfer: bool,
}

/// `Vote`'s content.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) term: Term,
    pub(crate) pre_vote: bool,
    pub(crate) granted: bool,
}
