//! One core alone, with peers played by the test: for sentences about a single member.

use quorate_raft::{
    AppendOutcome, Config, Core, Effects, EntryId, EntryKind, EntryMeta, EntryRange, Event,
    HardState, Index, Io, IoToken, Membership, Message, Mono, NodeId, Past, Recovered, Role,
    SnapshotMeta, Term, Verdict,
};

/// A core, and what it wanted last.
pub(crate) struct Solo {
    pub(crate) core: Core,
    pub(crate) now: Mono,
    pub(crate) out: Effects,
    issued: IoToken,
}

pub(crate) fn id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index) }
}

pub(crate) fn range(first: u64, last: u64) -> EntryRange {
    EntryRange { first: Index(first), last: Index(last) }
}

pub(crate) fn metas(terms: &[u64]) -> Vec<EntryMeta> {
    terms
        .iter()
        .map(|term| EntryMeta { term: Term(*term), kind: EntryKind::Normal, bytes: 1 })
        .collect()
}

pub(crate) fn config(node: u64) -> Config {
    Config { id: NodeId(node), ..Config::default() }
}

pub(crate) fn base(voters: u64) -> SnapshotMeta {
    SnapshotMeta {
        last: EntryId::default(),
        membership: Membership::of_voters((1..=voters).map(NodeId)),
    }
}

/// What a disk gives back that holds `terms`, after `term`.
pub(crate) fn recovered(voters: u64, term: u64, vote: Option<u64>, terms: &[u64]) -> Recovered {
    let hard_state = HardState { term: Term(term), vote: vote.map(NodeId), commit: Index(0) };
    Recovered { hard_state, base: base(voters), entries: metas(terms), applied: EntryId::default() }
}

impl Solo {
    /// Member 1 of `voters`.
    pub(crate) fn new(voters: u64, term: u64, terms: &[u64]) -> Self {
        Self::start(recovered(voters, term, None, terms))
    }

    pub(crate) fn start(recovered: Recovered) -> Self {
        let core = Core::recover(config(1), recovered, Mono(0), 1).unwrap();
        Self { core, now: Mono(0), out: Effects::default(), issued: IoToken(0) }
    }

    /// Gives one event; what it wants is in `out` afterwards.
    pub(crate) fn give(&mut self, event: Event<'_>) -> Verdict {
        self.out.clear();
        let past = Past::of(&self.core);
        let verdict = self.core.step(self.now, event, &mut self.out);
        self.core.check().unwrap();
        past.check(&self.core).unwrap();
        self.issued = self.out.io.last().map_or(self.issued, Io::token);
        verdict
    }

    /// A message from a peer; entries are named by their terms.
    pub(crate) fn hear(&mut self, from: u64, message: Message<Vec<u64>>) -> Verdict {
        let mut metas = Vec::new();
        if let Message::AppendEntries { entries, .. } = &message {
            metas = self::metas(entries);
        }
        let message = message.map_entries(|_| metas.as_slice());
        self.give(Event::Message { from: NodeId(from), message: &message })
    }

    pub(crate) fn wake(&mut self) -> Verdict {
        self.now = self.core.next_deadline().unwrap();
        self.give(Event::Wake)
    }

    /// Everything is durable.
    pub(crate) fn sync(&mut self) -> Verdict {
        self.give(Event::IoDone { token: self.issued })
    }

    pub(crate) fn propose(&mut self, count: usize) -> Verdict {
        self.give(Event::Propose { sizes: &vec![1; count] })
    }

    pub(crate) fn append(
        &mut self,
        term: u64,
        prev: EntryId,
        terms: &[u64],
        commit: u64,
    ) -> Verdict {
        self.hear(2, append(term, prev, terms, commit))
    }

    pub(crate) fn request_vote(&mut self, from: u64, term: u64, last: EntryId) -> Verdict {
        self.hear(
            from,
            Message::RequestVote { term: Term(term), pre_vote: false, last, transfer: false },
        )
    }

    pub(crate) fn matched(&mut self, from: u64, index: u64) -> Verdict {
        let term = self.core.view().term;
        self.hear(
            from,
            Message::Appended { term, round: 0, outcome: AppendOutcome::Matched(Index(index)) },
        )
    }

    /// The only message to `to`, and the token it waits for.
    pub(crate) fn sent(&self, to: u64) -> (Message<EntryRange>, Option<IoToken>) {
        let mut sends = self.out.send.iter().filter(|send| send.to == NodeId(to));
        let send =
            sends.next().unwrap_or_else(|| panic!("nothing is sent to {to}: {:?}", self.out));
        assert_eq!(sends.next(), None);
        (send.message.clone(), send.after)
    }

    pub(crate) fn receivers(&self) -> Vec<u64> {
        self.out.send.iter().map(|send| send.to.0).collect()
    }

    /// The token of this step's only write.
    pub(crate) fn written(&self) -> IoToken {
        assert_eq!(self.out.io.len(), 1, "{:?}", self.out);
        self.out.io[0].token()
    }

    pub(crate) fn saved_state(&self) -> Option<HardState> {
        match self.out.io.first()? {
            Io::Save { hard_state, .. } => *hard_state,
            Io::Install { hard_state, .. } => Some(*hard_state),
        }
    }

    pub(crate) fn appended(&self) -> Option<EntryRange> {
        match self.out.io.first()? {
            Io::Save { append, .. } => append.map(|append| append.range),
            Io::Install { .. } => None,
        }
    }

    /// Stands for election: past the rehearsal, with term and vote on disk.
    pub(crate) fn stand(&mut self) {
        self.wake();
        let term = self.core.view().term.next();
        for voter in 2..=3 {
            self.hear(voter, Message::Vote { term, pre_vote: true, granted: true });
        }
        assert_eq!(self.core.view().role, Role::Candidate);
        self.sync();
    }

    /// Wins an election among three. Its first entry is on its disk, and no further.
    pub(crate) fn lead(&mut self) {
        self.stand();
        let term = self.core.view().term;
        self.hear(2, Message::Vote { term, pre_vote: false, granted: true });
        assert_eq!(self.core.view().role, Role::Leader);
        self.sync();
    }
}

pub(crate) fn append(term: u64, prev: EntryId, terms: &[u64], commit: u64) -> Message<Vec<u64>> {
    Message::AppendEntries {
        term: Term(term),
        prev,
        entries: terms.to_vec(),
        commit: Index(commit),
        round: 0,
    }
}
