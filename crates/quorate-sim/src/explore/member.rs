//! One member with what surrounds it: the real core, its disk, and a driver that does the core's duties.
//!
//! The disk has two parts: what is durable, and writes on their way, in order. A crash keeps the durable part and any number of
//! the oldest writes, as a real disk may. Messages that wait for a write stay in the outbox until that write is done. The state
//! machine is volatile: after a crash everything committed is applied anew.
//!
//! Entries are their terms: in one term one leader makes at most one entry at a position, so a term and a position say all.
//!
//! Left out: snapshots, compaction, disk faults, transfers that a client asks for.

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
}

/// One write on its way.
#[derive(Clone, Debug)]
struct Write {
    hard_state: Option<HardState>,
    append: Option<(Index, Vec<Term>)>,
}

/// What a crash leaves.
#[derive(Clone, Debug, Default)]
struct Disk {
    hard_state: HardState,
    log: Vec<Term>,
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
    let recovered = Recovered {
        hard_state: disk.hard_state,
        base: SnapshotMeta { last: EntryId::default(), membership },
        entries: metas(&disk.log, 0..disk.log.len()),
        applied: Index(0),
    };
    let mut core = Core::recover(configuration(id, bug), recovered, NOW, starts)
        .map_err(|refused| format!("member {id} can't start again: {refused}"))?;
    core.explore_settle();
    Ok(core)
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
        let (unsynced, outbox) = (VecDeque::new(), Vec::new());
        Ok(Self {
            core,
            disk,
            log: Vec::new(),
            unsynced,
            outbox,
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

    /// Does one thing to it.
    ///
    /// # Errors
    /// Says which rule the core, or the driver, broke.
    pub(super) fn step(&self, input: Input<'_>, bug: Bug) -> Result<Stepped, String> {
        let mut next = self.clone();
        let mut out = Effects::default();
        let verdict = match input {
            Input::Crash { kept } => return next.crash(kept, bug),
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
        };
        next.perform(&mut out, input, bug)?;
        next.judge(self, verdict)?;
        next.spec = self.spec.after(&input, &next)?;
        let sent = next.leave();
        Ok(Stepped { member: next, sent, grants: out.reads, dropped: out.reads_dropped })
    }

    fn deliver(&mut self, parcel: &Parcel, silent: bool, out: &mut Effects) -> Verdict {
        if silent {
            self.core.explore_due(Timer::Silence);
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

    fn crash(mut self, kept: usize, bug: Bug) -> Result<Stepped, String> {
        for write in self.unsynced.drain(..).take(kept) {
            self.disk.apply(write);
        }
        if bug == Bug::ForgetVote {
            self.disk.hard_state.vote = None;
        }
        self.outbox.clear();
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
            let Io::Save { hard_state, append, .. } = io else {
                return Err("a snapshot is installed that nobody sent".to_owned());
            };
            let append = append.map(|append| {
                let terms = terms_of(append.origin, append.range, input);
                self.log.truncate(place(append.range.first));
                self.log.extend(&terms);
                (append.range.first, terms)
            });
            self.unsynced.push_back(Write { hard_state, append });
        }
        let from = self.core.view().id;
        let shift = self.core.explore_settle();
        for (token, _) in &mut self.outbox {
            *token = token.saturating_sub(shift);
        }
        for send in out.send.drain(..) {
            let entries =
                |range: EntryRange| metas(&self.log, place(range.first)..place(range.last.next()));
            let parcel = Parcel { from, to: send.to, message: send.message.map_entries(entries) };
            let after = send.after.filter(|_| bug != Bug::AckBeforeDurable);
            let item = (after.map_or(0, |token| token.0.saturating_sub(shift)), parcel);
            if !self.outbox.contains(&item) {
                self.outbox.push(item);
            }
        }
        Ok(())
    }

    /// Takes out the messages that wait for nothing.
    fn leave(&mut self) -> Vec<Parcel> {
        let ready = |(token, _): &mut (u64, Parcel)| *token == 0;
        self.outbox.extract_if(.., ready).map(|(_, parcel)| parcel).collect()
    }

    /// What must hold of one member across one step.
    fn judge(&self, before: &Self, verdict: Verdict) -> Result<(), String> {
        let id = self.core.view().id;
        if let Verdict::Rejected(why @ (Reject::Malformed(_) | Reject::UnknownPeer(_))) = verdict {
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
        out.extend(self.disk.log.iter().map(|term| term.0));
        for write in &self.unsynced {
            out.extend(write.hard_state.map_or([u64::MAX; 3], hard_state));
            let (first, terms) =
                write.append.as_ref().map_or((0, &[][..]), |(first, terms)| (first.0, terms));
            out.extend([first, terms.len() as u64]);
            out.extend(terms.iter().map(|term| term.0));
        }
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
        format!(
            "{:?} term {} vote {vote} log [{}] disk [{}] commit {} writes {}",
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
