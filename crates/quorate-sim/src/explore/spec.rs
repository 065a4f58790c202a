//! The rules of the Raft paper (figure 2), executable: what one server may do at one input, written anew and as plainly as
//! possible. Every step of the real core must be one of these.
//!
//! The specification keeps its own account of votes and of what peers hold, from messages alone. Where the paper leaves a
//! choice (to ignore a message, to give no vote, to stand or not, to give up), the core's choice is looked at and must be
//! allowed; where it leaves none, the result must be equal. Two rules are the thesis': a rehearsal of a vote changes nothing
//! (9.6), and a leader may step down by itself (6.2). A leader's first entry is its own (paper 8). Logs here are whole: what the core
//! has dropped from the head of its log counts as there (paper 7).
//!
//! Left out: membership changes, reads (judged by [`Past`](super::past::Past)), and which messages are sent when.

use quorate_raft::{AppendOutcome, Message, NodeId, Role, Term, Timer};

use super::MEMBERS;
use super::member::{Input, Member, Parcel};

/// The parts of figure 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Follower,
    Candidate,
    Leader,
}

/// One server, as figure 2 has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Server {
    id: u64,
    term: Term,
    vote: Option<NodeId>,
    part: Part,
    log: Vec<Term>,
    commit: u64,
    /// Candidate: a bit for each server that voted for it.
    votes: u64,
    /// Leader: up to where each server's log equals its own and is durable.
    matches: [u64; MEMBERS],
}

impl Server {
    /// A server that has never run.
    pub(super) fn fresh(id: NodeId) -> Self {
        Self { id: id.0, ..Self::default() }
    }

    /// What can be seen of a member, with this server's own account.
    fn seen(&self, member: &Member) -> Self {
        let view = member.core().view();
        let part = match view.role {
            Role::Follower | Role::PreCandidate => Part::Follower,
            Role::Candidate => Part::Candidate,
            Role::Leader => Part::Leader,
        };
        let log = member.log().to_vec();
        Self { term: view.term, vote: view.vote, part, log, commit: view.commit.0, ..self.clone() }
    }

    /// The server after a crash: what the disk holds, and nothing else.
    pub(super) fn restarted(&self, member: &Member) -> Self {
        Self { part: Part::Follower, votes: 0, matches: [0; MEMBERS], ..self.seen(member) }
    }

    /// The server after an input that made the member what it is now.
    ///
    /// # Errors
    /// The paper does not allow that.
    pub(super) fn after(&self, input: &Input<'_>, member: &Member) -> Result<Self, String> {
        let mut next = self.clone();
        let seen = self.seen(member);
        if let Input::Deliver { parcel, .. } = input {
            next.receive(parcel, &seen)?;
        }
        next.own_will(input, &seen)?;
        if *input == Input::Propose && next.part == Part::Leader && seen.log.len() > next.log.len()
        {
            next.log.push(next.term);
        }
        next.learn_commit(&seen, member.core().view().durable.0)?;
        if next.part == Part::Follower {
            (next.votes, next.matches) = (0, [0; MEMBERS]);
        }
        let same = (next.term, next.vote, next.part) == (seen.term, seen.vote, seen.part);
        if same && next.log == seen.log && next.commit == seen.commit {
            return Ok(next);
        }
        Err(format!("the paper's rules lead to {next:?}, the core to {seen:?}"))
    }

    /// "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower" (5.1), and then what
    /// each message does in its own term.
    fn receive(&mut self, parcel: &Parcel, seen: &Self) -> Result<(), String> {
        let (from, message) = (parcel.from, &parcel.message);
        let rehearsal = matches!(
            message,
            Message::RequestVote { pre_vote: true, .. }
                | Message::Vote { pre_vote: true, granted: true, .. }
        );
        if !rehearsal && message.term() > self.term && seen.term >= message.term() {
            (self.term, self.vote, self.part) = (message.term(), None, Part::Follower);
        }
        if message.term() != self.term || rehearsal {
            return Ok(());
        }
        match message {
            Message::RequestVote { last, .. } => {
                let own = (self.log.last().copied().unwrap_or_default(), self.log.len() as u64);
                let free = self.vote.is_none_or(|vote| vote == from);
                if free && (last.term, last.index.0) >= own && seen.vote == Some(from) {
                    self.vote = Some(from);
                }
            }
            Message::Vote { granted: true, .. } if self.part == Part::Candidate => {
                self.votes |= 1 << from.0;
                self.lead_if_won();
            }
            Message::AppendEntries { prev, entries, commit, .. } => {
                self.part = follower_of(self.part, from)?;
                let terms: Vec<Term> = entries.iter().map(|entry| entry.term).collect();
                self.append(prev.index.0, prev.term, &terms, commit.0);
            }
            Message::Heartbeat { commit, .. } => {
                self.part = follower_of(self.part, from)?;
                self.commit = self.commit.max(commit.0.min(self.log.len() as u64));
            }
            Message::TimeoutNow { .. } => self.part = follower_of(self.part, from)?,
            Message::Appended { outcome: AppendOutcome::Matched(index), .. }
                if self.part == Part::Leader =>
            {
                if let Some(held) = self.matches.get_mut(place(from)) {
                    *held = index.0.max(*held);
                }
            }
            Message::InstallSnapshot { .. } => {
                self.part = follower_of(self.part, from)?;
                self.install(&parcel.state);
            }
            Message::ReadIndexReply { .. }
            | Message::ReadIndex { .. }
            | Message::Vote { .. }
            | Message::Appended { .. }
            | Message::HeartbeatReply { .. } => {}
        }
        Ok(())
    }

    /// `AppendEntries`, receiver, rules 2 to 5.
    fn append(&mut self, prev: u64, prev_term: Term, terms: &[Term], commit: u64) {
        let before = usize::try_from(prev).unwrap_or(usize::MAX);
        let matches = prev == 0 || self.log.get(before - 1) == Some(&prev_term);
        if !matches {
            return;
        }
        for (at, term) in (before..).zip(terms) {
            if self.log.get(at) != Some(term) {
                self.log.truncate(at);
                self.log.push(*term);
            }
        }
        self.commit = self.commit.max(commit.min(prev + terms.len() as u64));
    }

    /// `InstallSnapshot`, receiver: a log that holds the snapshot's last entry stays as it is (rule 6), any other one is thrown
    /// away (rule 7). A snapshot of what is known to be committed brings nothing.
    fn install(&mut self, state: &[Term]) {
        let end = state.len() as u64;
        if end <= self.commit {
            return;
        }
        if self.log.get(state.len() - 1) != state.last() {
            self.log = state.to_vec();
        }
        self.commit = end;
    }

    /// What a server does because it chooses to: stand for election, or stop standing or leading.
    fn own_will(&mut self, input: &Input<'_>, seen: &Self) -> Result<(), String> {
        if seen.term == self.term.next() && seen.part != Part::Follower {
            let cause = match input {
                Input::Fire(timer) => *timer == Timer::Election,
                Input::Deliver { parcel, .. } => matches!(
                    parcel.message,
                    Message::Vote { pre_vote: true, granted: true, .. }
                        | Message::TimeoutNow { .. }
                ),
                Input::Propose
                | Input::Read(_)
                | Input::Synced
                | Input::Crash { .. }
                | Input::Unreachable(_)
                | Input::Compact
                | Input::Sent { .. } => false,
            };
            if !cause || self.part == Part::Leader {
                return Err(format!("server {} stands for election without a cause", self.id));
            }
            self.term = seen.term;
            (self.vote, self.part, self.votes) =
                (Some(NodeId(self.id)), Part::Candidate, 1 << self.id);
        }
        if seen.part == Part::Follower {
            self.part = Part::Follower;
        }
        Ok(())
    }

    /// "Votes received from majority of servers: become leader" (5.2).
    fn lead_if_won(&mut self) {
        if 2 * self.votes.count_ones() as usize > MEMBERS {
            (self.part, self.votes, self.matches) = (Part::Leader, 0, [0; MEMBERS]);
            self.log.push(self.term);
        }
    }

    /// "If there exists an N such that N > commitIndex, a majority of matchIndex[i] >= N, and log[N].term == currentTerm: set
    /// commitIndex = N" (5.3, 5.4). A leader counts itself only as far as its own disk goes.
    fn learn_commit(&mut self, seen: &Self, durable: u64) -> Result<(), String> {
        if self.part != Part::Leader || seen.commit <= self.commit {
            return Ok(());
        }
        let own = place(NodeId(self.id));
        let holds = |(other, held): (usize, &u64)| {
            if other == own { durable >= seen.commit } else { *held >= seen.commit }
        };
        let holders = self.matches.iter().enumerate().filter(|pair| holds(*pair)).count();
        let at = usize::try_from(seen.commit - 1).unwrap_or(usize::MAX);
        if 2 * holders <= MEMBERS || self.log.get(at) != Some(&self.term) {
            return Err(format!(
                "server {} commits {} with {holders} holders",
                self.id, seen.commit
            ));
        }
        self.commit = seen.commit;
        Ok(())
    }

    /// Writes out its own account, members renamed by `name`.
    pub(super) fn words(&self, name: &dyn Fn(NodeId) -> NodeId, out: &mut Vec<u64>) {
        let mut account = [(0, 0); MEMBERS];
        for (node, held) in (1..).map(NodeId).zip(&self.matches) {
            if let Some(slot) = account.get_mut(place(name(node))) {
                *slot = (self.votes >> node.0 & 1, *held);
            }
        }
        out.extend(account.into_iter().flat_map(|(vote, held)| [vote, held]));
    }
}

/// Who hears from the leader of its term follows it. A leader hears from no other leader of its term.
fn follower_of(part: Part, from: NodeId) -> Result<Part, String> {
    match part {
        Part::Leader => Err(format!("a leader hears from {from}, another one of its term")),
        Part::Follower | Part::Candidate => Ok(Part::Follower),
    }
}

/// Where a server stands in a list.
fn place(node: NodeId) -> usize {
    usize::try_from(node.0).unwrap_or(0).wrapping_sub(1)
}
