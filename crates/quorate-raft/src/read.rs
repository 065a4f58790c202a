//! Linearizable reads without a log entry (thesis 6.4): `ReadIndex`, at the leader and, through it, anywhere.
//!
//! The leader notes its commit index and then makes sure that it still leads: a quorum answers something that was sent after the
//! read came in. One such *round* serves all reads that wait for it. A few rounds may be under way at a time; reads that come
//! in meanwhile wait together for the next. No round begins before the leader has committed an entry of its own term: until
//! then its commit index may lag behind what its predecessor committed. A round that is lost is carried again by every later
//! heartbeat and append.
//!
//! A follower, or a learner, asks its leader, in the same way: few requests under way, many reads in each. Its requests carry
//! numbers that it never uses twice, from a random start, not the driver's: so a late answer to an older request, even to one of
//! before a restart, never serves a newer read with an older index (etcd-io/raft#397).
//!
//! An answer counts for every read that came in before its request left, however many requests left since. On a slow link an
//! answer may take two round trips, longer than an election timeout: a follower that has waited so long takes the request for
//! lost and may send another one, but the answer to the first still counts.
//!
//! A read that can't be answered is reported, never kept: when the leader changes or steps down, and after
//! [`READ_ELECTIONS_MAX`] election timeouts.
//!
//! Invariants: rounds in the queue never fall, and none is above `asked + 1`; `answered <= asked`.
//! Left out: leases.

use std::collections::VecDeque;

use crate::election::State;
use crate::machine::{Core, Turn};
use crate::{Index, Message, Mono, NodeId, ReadContext, ReadGrant, Role, Verdict};

/// How many rounds, or requests to a leader, may be under way. One would make a read wait for nearly two rounds when many come
/// in; each more costs a message per peer.
pub(crate) const ROUNDS_MAX: u64 = 4;

/// After how many election timeouts a read is given up. The answer to a follower takes two round trips; settings under which
/// that is longer can't keep a leader.
pub(crate) const READ_ELECTIONS_MAX: u64 = 4;

#[derive(Clone, Copy, Debug)]
struct Read {
    context: ReadContext,
    /// The member that asked, if it is another one.
    from: Option<NodeId>,
    round: u64,
    /// Leader only: known once the round has begun.
    index: Index,
    since: Mono,
}

/// The reads under way, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    queue: VecDeque<Read>,
    /// The newest round begun, or request sent. Never falls.
    asked: u64,
    /// No round up to here is under way: it was answered, given up, or, at a follower, taken for lost.
    answered: u64,
    salt: u64,
}

impl Reads {
    pub(crate) fn new(salt: u64) -> Self {
        Self { queue: VecDeque::new(), asked: 0, answered: 0, salt }
    }

    /// The newest round begun.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    /// When the oldest read is given up, or, at a follower, the oldest request under way is taken for lost.
    pub(crate) fn due(&self, timeout_ns: u64, follows: bool) -> Option<Mono> {
        let oldest = self.queue.front()?;
        let given_up = oldest.since.after(give_up_ns(timeout_ns));
        let request = self.oldest_under_way().filter(|_| follows);
        let lost = request.map(|read| read.since.after(timeout_ns));
        Some(lost.map_or(given_up, |lost| lost.min(given_up)))
    }

    /// The oldest read of the oldest round under way.
    fn oldest_under_way(&self) -> Option<&Read> {
        let first = self.queue.partition_point(|read| read.round <= self.answered);
        self.queue.get(first).filter(|read| read.round <= self.asked)
    }

    /// Requests that have waited for `age_ns` make room for others. Their reads stay: an answer may still come.
    fn take_for_lost(&mut self, now: Mono, age_ns: u64) {
        while let Some(read) =
            self.oldest_under_way().filter(|read| read.since.after(age_ns) <= now)
        {
            self.answered = read.round;
        }
    }

    fn push(&mut self, context: ReadContext, from: Option<NodeId>, since: Mono) {
        let round = self.asked + 1;
        self.queue.push_back(Read { context, from, round, index: Index(0), since });
    }

    /// Begins a round at `index` for the reads that wait for one. Says whether there was anything to begin.
    fn begin(&mut self, index: Index) -> bool {
        let next = self.asked + 1;
        let waiting = self.queue.back().is_some_and(|read| read.round == next);
        if !waiting || self.asked - self.answered >= ROUNDS_MAX {
            return false;
        }
        for read in self.queue.iter_mut().rev().take_while(|read| read.round == next) {
            read.index = index;
        }
        self.asked = next;
        true
    }

    /// The oldest read, if it is of a round up to `round`.
    fn pop_upto(&mut self, round: u64) -> Option<Read> {
        let read = self.queue.front().filter(|read| read.round <= round).copied()?;
        self.queue.pop_front();
        Some(read)
    }

    /// The oldest read, if it has waited for `age_ns`. A round that nobody waits for any more counts as answered.
    fn pop_older(&mut self, now: Mono, age_ns: u64) -> Option<Read> {
        let read = self.queue.front().filter(|read| read.since.after(age_ns) <= now).copied()?;
        self.queue.pop_front();
        if self.queue.front().is_none_or(|next| next.round > read.round) {
            self.answered = self.answered.max(read.round.min(self.asked));
        }
        Some(read)
    }

    /// The request's number on the wire.
    fn number(&self) -> ReadContext {
        ReadContext(self.salt.wrapping_add(self.asked))
    }

    /// Which request a number on the wire belongs to, if any that was sent.
    fn request_of(&self, number: ReadContext) -> Option<u64> {
        let request = number.0.wrapping_sub(self.salt);
        (request > 0 && request <= self.asked).then_some(request)
    }

    /// Lets every read have come in at `since`.
    #[cfg(feature = "explore")]
    pub(crate) fn set_since(&mut self, since: Mono) {
        for read in &mut self.queue {
            read.since = since;
        }
    }

    /// Writes out the reads under way, with members named by `name`.
    #[cfg(feature = "explore")]
    pub(crate) fn words(&self, name: &dyn Fn(Option<NodeId>) -> u64, out: &mut Vec<u64>) {
        out.extend([self.asked, self.answered, self.salt, self.queue.len() as u64]);
        let reads = self.queue.iter();
        out.extend(
            reads.flat_map(|read| [read.context.0, name(read.from), read.round, read.index.0]),
        );
    }

    /// Writes out the reads under way.
    #[cfg(feature = "record")]
    pub(crate) fn image(&self, out: &mut impl crate::record::Sink) {
        out.put_all([self.asked, self.answered, self.salt, self.queue.len() as u64]);
        for read in &self.queue {
            out.put_all([read.context.0, read.round, read.index.0, read.since.0]);
            out.put_option(read.from.map(|node| node.0));
        }
    }

    /// The reads that were written out.
    #[cfg(feature = "record")]
    pub(crate) fn from_image(
        reader: &mut crate::record::Reader<'_>,
    ) -> Result<Self, crate::record::RecordError> {
        let asked = reader.up_to("read round", 1 << 62)?;
        let (answered, salt) = (reader.word()?, reader.word()?);
        let count = reader.count("number of reads")?;
        let queue = reader.list(count, |reader| {
            let (context, round) = (ReadContext(reader.word()?), reader.word()?);
            let (index, since) = (reader.index()?, reader.moment()?);
            Ok(Read { context, from: reader.some_node()?, round, index, since })
        })?;
        Ok(Self { queue, asked, answered, salt })
    }

    /// Whether the fields agree with each other.
    pub(crate) fn is_consistent(&self) -> bool {
        let rounds = self.queue.iter().map(|read| read.round);
        let rises = rounds.clone().zip(rounds.clone().skip(1)).all(|(one, next)| one <= next);
        rises
            && self.answered <= self.asked
            && self.queue.back().is_none_or(|read| read.round <= self.asked + 1)
    }
}

impl Core {
    /// A read of this member's driver.
    pub(crate) fn on_read(&mut self, context: ReadContext, turn: &mut Turn<'_>) -> Verdict {
        if self.leader.is_none() || self.reads.queue.len() >= self.config.reads_max {
            turn.out.reads_dropped.push(context);
            return Verdict::Ok;
        }
        self.reads.push(context, None, turn.now);
        self.ask_round(turn);
        Verdict::Ok
    }

    /// A read that another member asks for.
    pub(crate) fn on_read_index(
        &mut self,
        from: NodeId,
        context: ReadContext,
        turn: &mut Turn<'_>,
    ) -> Verdict {
        if self.state.role() != Role::Leader || self.reads.queue.len() >= self.config.reads_max {
            self.send(
                from,
                Message::ReadIndexReply { term: self.term, context, index: None },
                turn,
            );
            return Verdict::Ok;
        }
        self.reads.push(context, Some(from), turn.now);
        self.ask_round(turn);
        Verdict::Ok
    }

    pub(crate) fn on_read_index_reply(
        &mut self,
        context: ReadContext,
        index: Option<Index>,
        turn: &mut Turn<'_>,
    ) -> Verdict {
        let late = self.config.bug(20).then_some(self.reads.asked);
        let Some(request) = late.or_else(|| self.reads.request_of(context)) else {
            return Verdict::Stale;
        };
        let is_news = request > self.reads.answered;
        self.reads.answered = self.reads.answered.max(request);
        let mut verdict = if is_news { Verdict::Ok } else { Verdict::Stale };
        while let Some(read) = self.reads.pop_upto(request) {
            self.answer(read, index, turn);
            verdict = Verdict::Ok;
        }
        self.ask_round(turn);
        verdict
    }

    /// Begins a round, or asks the leader, if reads wait for it and not too much is under way.
    pub(crate) fn ask_round(&mut self, turn: &mut Turn<'_>) {
        match (&self.state, self.leader) {
            (State::Leader(lead), _) => {
                let may_ask = self.commit >= lead.term_start || self.config.bug(18);
                if may_ask && self.reads.begin(self.commit) {
                    self.send_round(turn);
                    self.confirm_reads(turn);
                }
            }
            (_, Some(leader)) => {
                if self.reads.begin(Index(0)) {
                    let context = self.reads.number();
                    self.send(leader, Message::ReadIndex { term: self.term, context }, turn);
                }
            }
            (_, None) => {}
        }
    }

    fn send_round(&mut self, turn: &mut Turn<'_>) {
        if self.quorum.is_lone(self.config.id) {
            return;
        }
        let voters = self.quorum.clone();
        let Some((lead, line)) = self.leading() else { return };
        for peer in lead.peers.iter_mut().filter(|peer| voters.contains(peer.node)) {
            line.heartbeat(peer, turn);
        }
    }

    /// A leader looks which rounds a quorum, itself included, has answered.
    pub(crate) fn confirm_reads(&mut self, turn: &mut Turn<'_>) {
        let (id, asked) = (self.config.id, self.reads.asked);
        let State::Leader(lead) = &self.state else { return };
        if self.reads.answered == asked {
            return;
        }
        let acked = |node| {
            if node == id { asked } else { lead.peer(node).map_or(0, |peer| peer.round_acked) }
        };
        let mut confirmed = self.quorum.reached(|node| Index(acked(node))).0;
        if self.config.bug(19) {
            confirmed = asked;
        }
        if confirmed <= self.reads.answered {
            return;
        }
        self.reads.answered = confirmed;
        while let Some(read) = self.reads.pop_upto(confirmed) {
            self.answer(read, Some(read.index), turn);
        }
        self.ask_round(turn);
    }

    /// Reads that waited for too long are given up, and a follower's requests that did are taken for lost.
    pub(crate) fn expire_reads(&mut self, turn: &mut Turn<'_>) {
        if self.config.bug(37) {
            return;
        }
        let timeout_ns = self.config.election_timeout_ns;
        let patience_ns = if self.config.bug(50) { timeout_ns } else { give_up_ns(timeout_ns) };
        while let Some(read) = self.reads.pop_older(turn.now, patience_ns) {
            self.answer(read, None, turn);
        }
        if !matches!(self.state, State::Leader(_)) {
            self.reads.take_for_lost(turn.now, timeout_ns);
        }
        self.ask_round(turn);
    }

    /// Whoever could have answered is the leader no more. Other members find that out themselves.
    pub(crate) fn drop_reads(&mut self, turn: &mut Turn<'_>) {
        let told = !self.config.bug(36);
        let own = self.reads.queue.drain(..).filter(|read| read.from.is_none() && told);
        turn.out.reads_dropped.extend(own.map(|read| read.context));
        self.reads.answered = self.reads.asked;
    }

    fn answer(&self, read: Read, index: Option<Index>, turn: &mut Turn<'_>) {
        let context = read.context;
        match (read.from, index) {
            (Some(from), index) => {
                self.send(from, Message::ReadIndexReply { term: self.term, context, index }, turn);
            }
            (None, Some(index)) => turn.out.reads.push(ReadGrant { context, index }),
            (None, None) => turn.out.reads_dropped.push(context),
        }
    }
}

/// How long a read may wait, given the election timeout; both in nanoseconds.
pub(crate) fn give_up_ns(timeout_ns: u64) -> u64 {
    timeout_ns.saturating_mul(READ_ELECTIONS_MAX)
}
