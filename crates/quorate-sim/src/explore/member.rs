//! One member with what surrounds it: the real core, its disk, and a driver that does the core's duties.
//!
//! The disk has two parts: what is durable, and writes on their way, in order. A crash keeps the durable part and any number of
//! the oldest writes, as a real disk may. Messages that wait for a write stay in the outbox until that write is done. The state
//! machine is volatile: after a crash everything committed is applied anew.
//!
//! Entries are their terms: in one term one leader makes at most one entry at a position, so a term and a position say all.
//!
//! A log keeps what was dropped from its head, for the judges to compare; the core knows nothing of it. What is dropped is in the
//! state machine, durably, and a snapshot is the terms of all that was applied. It travels as one message, and its sender hears
//! that it was sent, or was not, at any moment after.
//!
//! Left out: disk faults, transfers that a client asks for, snapshots that are announced first.

use std::collections::VecDeque;

use quorate_raft::{
    Config, Core, Effects, EntryId, EntryKind, EntryMeta, EntryRange, Event, HardState, Index, Io,
    IoToken, Membership, Message, NOW, NodeId, Origin, Past, ReadContext, ReadGrant, Recovered,
    Reject, SnapshotMeta, Term, Timer, Verdict,
};

use super::bound::Bug;
use super::hash::rename;
use super::spec::Server;
use super::{MEMBERS, parcel};

/// A message with its entries, between two members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parcel {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) message: Message<Vec<EntryMeta>>,
    /// What a snapshot holds: the terms of all that it stands for.
    pub(super) state: Vec<Term>,
}

/// What can happen to one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input<'a> {
    /// A message arrives; `silent`: the receiver has not heard its leader for a while.
    Deliver { parcel: &'a Parcel, silent: bool },
    /// A timer is due.
    Fire(Timer),
    /// A client proposes an entry.
    Propose,
    /// A client reads.
    Read(ReadContext),
    /// The oldest write is durable.
    Synced,
    /// The process dies; this many of its unfinished writes survive; it starts again.
    Crash { kept: usize },
    /// The driver saw that messages to a peer are lost.
    Unreachable(NodeId),
    /// All that was applied is saved in the state machine, and dropped from the log.
    Compact,
    /// A snapshot to this peer was sent, or was not.
    Sent { to: NodeId, failed: bool },
}

/// One write on its way.
#[derive(Clone, Debug)]
struct Write {
    hard_state: Option<HardState>,
    append: Option<(Index, Vec<Term>)>,
    install: Option<Vec<Term>>,
}

/// What a crash leaves.
#[derive(Clone, Debug, Default)]
struct Disk {
    hard_state: HardState,
    log: Vec<Term>,
    /// How much of the log is dropped, being in the state machine.
    base: usize,
}

/// A member of the group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    core: Core,
    disk: Disk,
    /// What the core's log holds.
    log: Vec<Term>,
    unsynced: VecDeque<Write>,
    /// Messages and the number of the unfinished write that each waits for, from 1.
    outbox: Vec<(u64, Parcel)>,
    /// Snapshots under way: to whom, and where each ends.
    sending: Vec<(NodeId, EntryId)>,
    /// How often it was started again.
    starts: u64,
    /// The same member by the rules of the paper.
    spec: Server,
}

/// What came of an input.
#[derive(Debug)]
pub(super) struct Stepped {
    pub(super) member: Member,
    pub(super) sent: Vec<Parcel>,
    pub(super) grants: Vec<ReadGrant>,
    pub(super) dropped: Vec<ReadContext>,
}

fn configuration(id: NodeId, bug: Bug) -> Config {
    let config = Config { id, append_entries_max: 2, inflight_appends_max: 2, ..Config::default() };
    #[cfg(feature = "mutants")]
    if let Bug::Core(mutant) = bug {
        return Config { mutant, ..config };
    }
    #[cfg(not(feature = "mutants"))]
    let _ = bug;
    config
}

fn recover(id: NodeId, disk: &Disk, starts: u64, bug: Bug) -> Result<Core, String> {
    let membership = Membership::of_voters((1..=MEMBERS as u64).map(NodeId));
    let last = end_of(disk.log.get(..disk.base).unwrap_or_default());
    let recovered = Recovered {
        hard_state: disk.hard_state,
        base: SnapshotMeta { last, membership },
        entries: metas(&disk.log, disk.base..disk.log.len()),
        applied: last,
    };
    let mut core = Core::recover(configuration(id, bug), recovered, NOW, starts)
        .map_err(|refused| format!("member {id} can't start again: {refused}"))?;
    core.explore_settle();
    Ok(core)
}

/// The last entry of a log that starts at the first one.
fn end_of(log: &[Term]) -> EntryId {
    EntryId { term: log.last().copied().unwrap_or_default(), index: Index(log.len() as u64) }
}

/// What the core knows of the entries at these places. A leader's first entry of its term is empty.
fn metas(log: &[Term], places: std::ops::Range<usize>) -> Vec<EntryMeta> {
    let first = places.start;
    let entries = log.get(places).unwrap_or_default().iter().enumerate();
    let meta = |(offset, term): (usize, &Term)| {
        let before = (first + offset).checked_sub(1).and_then(|place| log.get(place));
        let noop = before != Some(term);
        let kind = if noop { EntryKind::Noop } else { EntryKind::Normal };
        EntryMeta { term: *term, kind, bytes: u32::from(!noop) }
    };
    entries.map(meta).collect()
}

/// Where a position is in a list; positions are few here.
fn place(index: Index) -> usize {
    usize::try_from(index.0.saturating_sub(1)).unwrap_or(usize::MAX)
}

impl Disk {
    fn apply(&mut self, write: Write) {
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
        if let Some((first, terms)) = write.append {
            self.log.truncate(place(first));
            self.log.extend(terms);
        }
        if let Some(state) = write.install {
            self.base = state.len();
            self.log = state;
        }
    }
}

impl Member {
    /// A member that has never run.
    ///
    /// # Errors
    /// Says why the core refuses.
    pub(super) fn fresh(id: NodeId, bug: Bug) -> Result<Self, String> {
        let disk = Disk::default();
        let core = recover(id, &disk, 0, bug)?;
        Ok(Self {
            core,
            disk,
            log: Vec::new(),
            unsynced: VecDeque::new(),
            outbox: Vec::new(),
            sending: Vec::new(),
            starts: 0,
            spec: Server::fresh(id),
        })
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    /// The terms of its log.
    pub(super) fn log(&self) -> &[Term] {
        &self.log
    }

    /// The terms of its durable log.
    pub(super) fn disk_log(&self) -> &[Term] {
        &self.disk.log
    }

    /// The term on its disk.
    pub(super) fn disk_term(&self) -> Term {
        self.disk.hard_state.term
    }

    /// How many writes are on their way.
    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// To whom a snapshot is under way: a bit for each.
    pub(super) fn sending(&self) -> u8 {
        self.sending.iter().fold(0, |bits, (to, _)| bits | 1 << (to.0 & 7))
    }

    /// Whether something of its log is applied, durable, and not dropped yet.
    pub(super) fn can_compact(&self) -> bool {
        let view = self.core.view();
        view.base.index < view.released && view.released <= view.durable
    }

    /// Does one thing to it.
    ///
    /// # Errors
    /// Says which rule the core, or the driver, broke.
    pub(super) fn step(&self, input: Input<'_>, bug: Bug) -> Result<Stepped, String> {
        let (mut stepped, verdict) = self.advance(input, bug)?;
        if !matches!(input, Input::Crash { .. }) {
            stepped.member.judge(self, verdict)?;
            stepped.member.spec = self.spec.after(&input, &stepped.member)?;
        }
        Ok(stepped)
    }

    /// The same, and nobody judges.
    ///
    /// # Errors
    /// The core or the driver can't go on at all.
    pub(super) fn advance(&self, input: Input<'_>, bug: Bug) -> Result<(Stepped, Verdict), String> {
        let mut next = self.clone();
        let mut out = Effects::default();
        let verdict = match input {
            Input::Crash { kept } => return Ok((next.crash(kept, bug)?, Verdict::Ok)),
            Input::Deliver { parcel, silent } => next.deliver(parcel, silent, &mut out),
            Input::Fire(timer) => {
                next.core.explore_due(timer);
                next.core.step(NOW, Event::Wake, &mut out)
            }
            Input::Propose => next.core.step(NOW, Event::Propose { sizes: &[1] }, &mut out),
            Input::Read(context) if bug == Bug::ReadLocally => {
                let index = next.core.view().commit;
                out.reads.push(ReadGrant { context, index });
                Verdict::Ok
            }
            Input::Read(context) => next.core.step(NOW, Event::Read { context }, &mut out),
            Input::Synced => next.synced(bug, &mut out),
            Input::Unreachable(node) => next.core.step(NOW, Event::Unreachable { node }, &mut out),
            Input::Compact => next.compact(&mut out),
            Input::Sent { to, failed } => next.report_sent(to, failed, &mut out),
        };
        next.perform(&mut out, input, bug)?;
        next.send_snapshots(&mut out, self.core.view().released);
        let sent = next.leave();
        let stepped = Stepped { member: next, sent, grants: out.reads, dropped: out.reads_dropped };
        Ok((stepped, verdict))
    }

    fn deliver(&mut self, parcel: &Parcel, silent: bool, out: &mut Effects) -> Verdict {
        if silent {
            self.core.explore_due(Timer::Silence);
        }
        if let Message::InstallSnapshot { term, snapshot } = &parcel.message {
            let (from, term) = (parcel.from, *term);
            return self.core.step(NOW, Event::SnapshotReceived { from, term, snapshot }, out);
        }
        let message = parcel::borrowed(&parcel.message);
        self.core.step(NOW, Event::Message { from: parcel.from, message: &message }, out)
    }

    fn synced(&mut self, bug: Bug, out: &mut Effects) -> Verdict {
        if let Some(write) = self.unsynced.pop_front().filter(|_| bug != Bug::LoseWrites) {
            self.disk.apply(write);
        }
        self.core.step(NOW, Event::IoDone { token: IoToken(1) }, out)
    }

    fn compact(&mut self, out: &mut Effects) -> Verdict {
        let upto = self.core.view().released;
        let verdict = self.core.step(NOW, Event::Compacted { upto }, out);
        self.disk.base = place(upto.next());
        verdict
    }

    fn report_sent(&mut self, to: NodeId, failed: bool, out: &mut Effects) -> Verdict {
        let last = self.sending.iter().find(|(node, _)| *node == to).map(|(_, last)| *last);
        self.sending.retain(|(node, _)| *node != to);
        let membership = self.core.view().membership.clone();
        let snapshot = last.filter(|_| !failed).map(|last| SnapshotMeta { last, membership });
        let event = Event::SnapshotSent { to, snapshot: snapshot.as_ref() };
        self.core.step(NOW, event, out)
    }

    /// Sends what was applied before this step to whom the log has nothing for.
    fn send_snapshots(&mut self, out: &mut Effects, applied: Index) {
        let view = self.core.view();
        let (from, term, membership) = (view.id, view.term, view.membership.clone());
        let state = self.log.get(..place(applied.next())).unwrap_or_default();
        for to in out.snapshots.drain(..) {
            let snapshot = SnapshotMeta { last: end_of(state), membership: membership.clone() };
            self.sending.retain(|(node, _)| *node != to);
            self.sending.push((to, snapshot.last));
            let message = Message::InstallSnapshot { term, snapshot };
            self.outbox.push((0, Parcel { from, to, message, state: state.to_vec() }));
        }
    }

    fn crash(mut self, kept: usize, bug: Bug) -> Result<Stepped, String> {
        for write in self.unsynced.drain(..).take(kept) {
            self.disk.apply(write);
        }
        if bug == Bug::ForgetVote {
            self.disk.hard_state.vote = None;
        }
        self.outbox.clear();
        self.sending.clear();
        self.starts += 1;
        self.log.clone_from(&self.disk.log);
        self.core = recover(self.core.view().id, &self.disk, self.starts, bug)?;
        self.spec = self.spec.restarted(&self);
        let (sent, grants, dropped) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Stepped { member: self, sent, grants, dropped })
    }

    /// The driver's duties: writes are on their way, messages wait for them.
    fn perform(&mut self, out: &mut Effects, input: Input<'_>, bug: Bug) -> Result<(), String> {
        for io in out.io.drain(..) {
            let write = match io {
                Io::Install { hard_state, .. } => self.begin_install(hard_state, input)?,
                Io::Save { hard_state, append, .. } => {
                    let append = append.map(|append| {
                        let terms = terms_of(append.origin, append.range, input);
                        self.log.truncate(place(append.range.first));
                        self.log.extend(&terms);
                        (append.range.first, terms)
                    });
                    Write { hard_state, append, install: None }
                }
            };
            self.unsynced.push_back(write);
        }
        let from = self.core.view().id;
        let shift = self.core.explore_settle();
        for (token, _) in &mut self.outbox {
            *token = token.saturating_sub(shift);
        }
        for send in out.send.drain(..) {
            let entries =
                |range: EntryRange| metas(&self.log, place(range.first)..place(range.last.next()));
            let parcel = Parcel {
                from,
                to: send.to,
                message: send.message.map_entries(entries),
                state: Vec::new(),
            };
            let after = send.after.filter(|_| bug != Bug::AckBeforeDurable);
            let item = (after.map_or(0, |token| token.0.saturating_sub(shift)), parcel);
            if !self.outbox.contains(&item) {
                self.outbox.push(item);
            }
        }
        Ok(())
    }

    /// The snapshot that has just arrived becomes the log.
    fn begin_install(&mut self, hard_state: HardState, input: Input<'_>) -> Result<Write, String> {
        let Input::Deliver { parcel, .. } = input else {
            return Err("a snapshot is installed that did not arrive".to_owned());
        };
        self.log.clone_from(&parcel.state);
        let install = Some(parcel.state.clone());
        Ok(Write { hard_state: Some(hard_state), append: None, install })
    }

    /// Takes out the messages that wait for nothing.
    fn leave(&mut self) -> Vec<Parcel> {
        let ready = |(token, _): &mut (u64, Parcel)| *token == 0;
        self.outbox.extract_if(.., ready).map(|(_, parcel)| parcel).collect()
    }

    /// What must hold of one member across one step.
    fn judge(&self, before: &Self, verdict: Verdict) -> Result<(), String> {
        let id = self.core.view().id;
        if let Verdict::Rejected(
            why @ (Reject::Malformed(_) | Reject::Conflict { .. } | Reject::UnknownPeer(_)),
        ) = verdict
        {
            return Err(format!("member {id} refuses what a correct member sent: {why}"));
        }
        let past = Past::of(&before.core);
        let checks = self.core.check().and_then(|()| past.check(&self.core));
        checks.map_err(|broken| format!("member {id}: {broken}"))?;
        let (old, new) = (before.disk.hard_state, self.disk.hard_state);
        if new.term < old.term
            || (new.term == old.term && old.vote.is_some() && new.vote != old.vote)
        {
            return Err(format!("member {id}: term and vote went back on its disk"));
        }
        let durable = place(self.core.view().durable.next());
        if self.disk.log.get(..durable) != self.log.get(..durable) {
            return Err(format!("member {id} holds for durable what is not on its disk"));
        }
        Ok(())
    }

    /// Writes out all that decides what this member can still do, members renamed.
    pub(super) fn words(&self, renaming: usize, out: &mut Vec<u64>) {
        let name = |node: NodeId| rename(renaming, node);
        self.core.explore_words(&name, out);
        self.spec.words(&name, out);
        let hard_state = |saved: HardState| {
            [saved.term.0, saved.vote.map_or(0, |node| name(node).0), saved.commit.0]
        };
        out.extend(hard_state(self.disk.hard_state));
        out.extend([self.starts, self.disk.log.len() as u64, self.unsynced.len() as u64]);
        out.push(self.disk.base as u64);
        out.extend(self.disk.log.iter().map(|term| term.0));
        for write in &self.unsynced {
            out.extend(write.hard_state.map_or([u64::MAX; 3], hard_state));
            let (first, terms) =
                write.append.as_ref().map_or((0, &[][..]), |(first, terms)| (first.0, terms));
            out.extend([first, terms.len() as u64]);
            out.extend(terms.iter().map(|term| term.0));
            let install = write.install.as_deref().unwrap_or_default();
            out.push(install.len() as u64);
            out.extend(install.iter().map(|term| term.0));
        }
        let mut sending: Vec<[u64; 3]> = self
            .sending
            .iter()
            .map(|(to, last)| [name(*to).0, last.term.0, last.index.0])
            .collect();
        sending.sort_unstable();
        out.push(sending.len() as u64);
        out.extend(sending.into_iter().flatten());
        let mut waiting: Vec<Vec<u64>> = self
            .outbox
            .iter()
            .map(|(token, parcel)| {
                let mut words = vec![*token];
                parcel::words(parcel, renaming, &mut words);
                words
            })
            .collect();
        waiting.sort_unstable();
        out.extend(waiting.into_iter().flatten());
    }

    /// One line about it.
    pub(super) fn summary(&self) -> String {
        let view = self.core.view();
        let vote = view.vote.map_or("-".to_owned(), |node| node.to_string());
        let terms =
            |log: &[Term]| log.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let base = match view.base.index {
            Index(0) => String::new(),
            index => format!(" from {index}"),
        };
        format!(
            "{:?} term {} vote {vote} log [{}]{base} disk [{}] commit {} writes {}",
            view.role,
            view.term,
            terms(&self.log),
            terms(&self.disk.log),
            view.commit,
            self.unsynced.len()
        )
    }
}

/// The terms of entries to append.
fn terms_of(origin: Origin, range: EntryRange, input: Input<'_>) -> Vec<Term> {
    match (origin, input) {
        (Origin::Noop { term }, _) => vec![term],
        (Origin::Proposed { term }, _) => (range.first.0..=range.last.0).map(|_| term).collect(),
        (Origin::Received { skip }, Input::Deliver { parcel, .. }) => {
            parcel::entries(&parcel.message).iter().skip(skip).map(|entry| entry.term).collect()
        }
        (Origin::Received { .. }, _) => Vec::new(),
    }
}
