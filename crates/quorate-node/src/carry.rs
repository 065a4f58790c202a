//! Carries out what a group's core wants: joins entries with their content, holds back what must wait for the disk, hands
//! committed entries to the state machine.
//!
//! Messages are given their content in the very step that asks for them: a later step of the same round may replace those
//! entries by another leader's.

use bytes::Bytes;
use quorate_raft::{
    Append, Effects, EntryKind, EntryMeta, EntryRange, Event, Index, Io, IoToken, Message, NodeId,
    Notice, Origin, Reject, SnapshotMeta, Term, Verdict,
};

use crate::group::{Group, Round};
use crate::{
    Apply, Entry, Envelope, LogError, NodeIo, PeerMessage, Refused, RoleChange, SnapshotOrder,
};

/// The most content of one [`Apply`], in bytes; a single larger entry goes alone.
const APPLY_BYTES_MAX: u64 = 4 << 20;

/// The most messages that wait for the disk. A good one keeps a handful waiting.
const HELD_MAX: usize = 4_096;
/// The most appends that wait for the log; the core has fewer under way to each peer.
const STARVED_MAX: usize = 4_096;

/// The content that an event brings along.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// None.
    None,
    /// Proposals.
    Proposed(&'a [Bytes]),
    /// Entries from a leader.
    Received(&'a [Entry]),
}

impl Group {
    /// Steps the core and carries out what it wants.
    pub(crate) fn step_core(
        &mut self,
        event: Event<'_>,
        content: Content<'_>,
        round: &mut Round<'_>,
    ) -> Verdict {
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        if let Some(recorder) = &mut self.recorder {
            recorder.before(round.now, &self.core, event);
        }
        let verdict = self.core.step(round.now, event, &mut effects);
        if let Some(recorder) = &mut self.recorder
            && let Err(broken) = recorder.after(&self.core, verdict, &effects)
        {
            round.out.broken.get_or_insert((self.id, broken));
        }
        self.carry_out(&mut effects, content, round);
        self.effects = effects;
        verdict
    }

    /// A Raft message: the core sees what its entries are, the content waits beside it.
    pub(crate) fn receive_raft(
        &mut self,
        from: NodeId,
        message: Message<Vec<Entry>>,
        round: &mut Round<'_>,
    ) {
        let mut entries = Vec::new();
        let message = message.map_entries(|received| entries = received);
        let metas: Vec<EntryMeta> = entries.iter().map(|entry| entry.meta).collect();
        if entries.iter().any(|entry| entry.meta.bytes as usize != entry.payload.len()) {
            return;
        }
        if let Some(refusal) = round.config.commands.unreadable(&entries) {
            round.out.unreadable.push((from, refusal));
            return;
        }
        let message = message.map_entries(|()| metas.as_slice());
        let event = Event::Message { from, message: &message };
        if let Verdict::Rejected(why) = self.step_core(event, Content::Received(&entries), round) {
            self.refused(from, why, round);
        }
    }

    /// Once a round for each sender: it may send many.
    fn refused(&self, from: NodeId, why: Reject, round: &mut Round<'_>) {
        if round.out.refused.iter().all(|known| known.from != from) {
            round.out.refused.push(Refused { group: self.id, from, why });
        }
    }

    /// Gives the state machine committed entries, as far as it may hold more.
    pub(crate) fn hand_over(&mut self, round: &mut Round<'_>) {
        while self.handed < self.committed && self.bytes_at_machine < round.config.apply_bytes_max {
            let range = EntryRange { first: self.handed.next(), last: self.committed };
            let Some(entries) = self.read_some(range, APPLY_BYTES_MAX, round) else { return };
            for entry in &entries {
                self.note_committed(entry, round);
            }
            let bytes = entries.iter().map(|entry| entry.payload.len() as u64).sum();
            let apply = Apply { group: self.id, first: range.first, entries };
            self.handed = apply.range().last;
            self.at_machine.push_back((self.handed, bytes));
            self.bytes_at_machine += bytes;
            round.out.apply.push(apply);
        }
    }

    /// Makes `upto` the start of the log.
    pub(crate) fn cut_log_at(&mut self, upto: Index, round: &mut Round<'_>) {
        self.tell(Event::Compacted { upto }, round);
        let view = self.core.view();
        if view.base.index == upto {
            let base = SnapshotMeta { last: view.base, membership: view.membership.clone() };
            round.out.io.push(NodeIo::Compacted { group: self.id, base });
        }
    }

    fn carry_out(&mut self, effects: &mut Effects, content: Content<'_>, round: &mut Round<'_>) {
        for io in effects.io.drain(..) {
            self.persist(io, content, round);
        }
        for send in effects.send.drain(..) {
            self.post(send, round);
        }
        for notice in effects.notices.drain(..) {
            self.take_note(notice, round);
        }
        if let Some(range) = effects.commit.take() {
            self.committed = self.committed.max(range.last);
            self.hand_over(round);
        }
        for grant in effects.reads.drain(..) {
            self.reads.grant(grant.context, grant.index);
        }
        for context in effects.reads_dropped.drain(..) {
            self.reads.refuse(context, round.now.after(round.config.refused_read_pause_ns()));
        }
        let (group, term) = (self.id, self.core.view().term);
        for to in effects.snapshots.drain(..) {
            self.holds.begin(to, self.applied);
            round.out.snapshots.push(SnapshotOrder { group, to, term });
        }
    }

    fn persist(&mut self, io: Io, content: Content<'_>, round: &mut Round<'_>) {
        let group = self.id;
        let io = match io {
            Io::Save { token, hard_state, append } => {
                let entries = append.map_or_else(Vec::new, |append| appended(append, content));
                let first = match append {
                    Some(append) => append.range.first,
                    None => self.core.view().last.index.next(),
                };
                if append.is_some() {
                    self.cache.replace_from(first, &entries);
                }
                NodeIo::Save { group, token, hard_state, first, entries }
            }
            Io::Install { token, hard_state, snapshot } => {
                self.install(&snapshot, round);
                NodeIo::Install { group, token, hard_state, snapshot }
            }
        };
        round.out.io.push(io);
    }

    /// Everything up to the snapshot counts as handed over; `Applied` tells when the state machine is there.
    fn install(&mut self, snapshot: &SnapshotMeta, round: &mut Round<'_>) {
        let last = snapshot.last;
        self.cache.replace_from(last.index.next(), &[]);
        self.committed = last.index;
        self.handed = last.index;
        self.proposals.supersede(last.term, &mut round.answer(self.id));
    }

    /// What had to wait for the log goes on, if the log is there now. Were these appends lost instead, a follower that needs
    /// more than the cache has would get nothing from a leader that always writes.
    pub(crate) fn read_again(&mut self, round: &mut Round<'_>) {
        self.hand_over(round);
        for send in std::mem::take(&mut self.starved) {
            self.post(send, round);
        }
    }

    fn post(&mut self, send: quorate_raft::Send, round: &mut Round<'_>) {
        if let Message::AppendEntries { term, entries, .. } = &send.message {
            let append = (*term, *entries);
            self.append(send, append, round);
        } else {
            self.post_with(send, Vec::new(), round);
        }
    }

    /// Sends an append, in its turn: one that overtakes others is refused, and asks for them again.
    fn append(
        &mut self,
        send: quorate_raft::Send,
        (term, range): (Term, EntryRange),
        round: &mut Round<'_>,
    ) {
        let is_wanted = self.leads() == Some(term) && range.first > self.core.view().base.index;
        let waits = self.starved.iter().any(|other| other.to == send.to);
        let entries = (is_wanted && !waits).then(|| self.read_all(range, round)).flatten();
        if let Some(entries) = entries {
            self.post_with(send, entries, round);
        } else if is_wanted && round.out.fault.is_none() && self.starved.len() < STARVED_MAX {
            // The core begins anew there: what waits from there on, it has given up.
            self.starved.retain(|other| other.to != send.to || begins_before(other, range.first));
            self.starved.push_back(send);
        } else if !round.out.unsent.contains(&send.to) {
            // Lost, as any message may be; an error of the log stops the node.
            round.out.unsent.push(send.to);
        }
    }

    fn post_with(&mut self, send: quorate_raft::Send, entries: Vec<Entry>, round: &mut Round<'_>) {
        let quorate_raft::Send { to, after, message } = send;
        let message = message.map_entries(|_| entries);
        let message = PeerMessage::Raft { group: self.id, message };
        match after {
            Some(token) if self.done < Some(token) => self.hold(token, to, message),
            None | Some(_) => round.out.send.push((to, message)),
        }
    }

    /// Keeps a message until its write is durable. Where a disk keeps very many waiting, the oldest is lost, as any may be.
    fn hold(&mut self, token: IoToken, to: NodeId, message: PeerMessage) {
        if self.held.len() >= HELD_MAX {
            self.held.remove(0);
        }
        self.held.push((token, to, message));
    }

    fn take_note(&mut self, notice: Notice, round: &mut Round<'_>) {
        if let Notice::RoleChanged { role, term, leader } = notice {
            let leads = self.leads();
            self.holds.clear();
            self.proposals.unbind(leads, &mut round.answer(self.id));
            self.reads.hurry();
            round.out.roles.push(RoleChange { group: self.id, role, term, leader });
            return;
        }
        round.out.notices.push((self.id, notice));
    }

    fn note_committed(&mut self, entry: &Entry, round: &mut Round<'_>) {
        let term = entry.meta.term;
        self.proposals.bury(term, &mut round.answer(self.id));
        if entry.meta.kind == EntryKind::Normal
            && let Ok(envelope) = Envelope::open(&entry.payload)
            && envelope.origin == round.config.raft.id
        {
            self.proposals.committed(term, envelope.sequence);
        }
    }

    /// All entries of `range`.
    fn read_all(&self, range: EntryRange, round: &mut Round<'_>) -> Option<Vec<Entry>> {
        let mut all = Vec::new();
        let mut rest = range;
        while !rest.is_empty() {
            let mut some = self.read_some(rest, u64::MAX, round)?;
            rest.first = Index(rest.first.0 + some.len() as u64);
            if all.is_empty() {
                all = some;
            } else {
                all.append(&mut some);
            }
        }
        Some(all)
    }

    /// The first entries of `range`, at least one: from memory, else from the log. `None`: the log failed, or has yet to read them.
    fn read_some(
        &self,
        range: EntryRange,
        bytes_max: u64,
        round: &mut Round<'_>,
    ) -> Option<Vec<Entry>> {
        if let Some(entries) = self.cache.get(range, bytes_max) {
            return Some(entries);
        }
        let last = range.last.min(self.cache.first().previous());
        let stored = EntryRange { first: range.first, last };
        let unavailable = LogError::Unavailable { group: self.id, index: range.first };
        let error = match round.log.read(self.id, stored, bytes_max) {
            Ok(entries) if !entries.is_empty() => return Some(entries),
            Ok(_) => unavailable,
            Err(LogError::Busy) => return None,
            Err(error) => error,
        };
        round.out.fault.get_or_insert(error);
        None
    }
}

/// Whether an append's entries begin before `index`.
fn begins_before(send: &quorate_raft::Send, index: Index) -> bool {
    let Message::AppendEntries { entries, .. } = &send.message else { return true };
    entries.first < index
}

/// The entries that an append names, joined with the content of the event.
fn appended(append: Append, content: Content<'_>) -> Vec<Entry> {
    let count = usize::try_from(append.range.len()).unwrap_or(usize::MAX);
    match (append.origin, content) {
        (Origin::Noop { term }, _) => {
            let meta = EntryMeta { term, kind: EntryKind::Noop, bytes: 0 };
            vec![Entry { meta, payload: Bytes::new() }]
        }
        (Origin::Proposed { term }, Content::Proposed(payloads)) => {
            payloads.iter().take(count).map(|payload| normal(term, payload)).collect()
        }
        (Origin::Received { skip }, Content::Received(entries)) => {
            entries.iter().skip(skip).take(count).cloned().collect()
        }
        (Origin::Proposed { .. } | Origin::Received { .. }, _) => {
            debug_assert!(false, "the core names content that its event did not bring");
            Vec::new()
        }
    }
}

fn normal(term: Term, payload: &Bytes) -> Entry {
    let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    Entry { meta: EntryMeta { term, kind: EntryKind::Normal, bytes }, payload: payload.clone() }
}
