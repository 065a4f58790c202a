//! One member with everything a driver owes the core: content of entries, disk, held-back messages, state machine.

use std::collections::VecDeque;

use quorate_raft::{
    Append, AppendOutcome, Config, Core, Effects, EntryId, EntryKind, EntryMeta, EntryRange, Event,
    Fault, Index, Io, IoToken, Membership, Message, Mono, NodeId, Origin, Past, ReadContext,
    RecoverError, Recovered, SnapshotMeta, Term, Verdict,
};

use super::conviction::{Conviction, Judge as Property, hold};
use super::disk::{Disk, Snapshot, Write};
use super::entry::{Entry, Shelf, size_of};
use super::judge::{Court, advance, check_promise};
use crate::mutants::driver as bugs;

/// A message with its entries.
pub type Wire = Message<Vec<Entry>>;

/// What goes from member to member.
#[derive(Clone, Debug)]
pub enum Body {
    /// A message of the core.
    Message(Wire),
    /// A snapshot, whole.
    Snapshot {
        /// The sender's term.
        term: Term,
        /// The state.
        snapshot: Snapshot,
    },
}

/// Something on its way.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Who sent it.
    pub from: NodeId,
    /// Who should get it.
    pub to: NodeId,
    /// What it is.
    pub body: Body,
}

/// An event, with what the core does not see of it.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline is here.
    Wake,
    /// Something arrived.
    Arrival {
        /// Who sent it.
        from: NodeId,
        /// What it is.
        body: Body,
    },
    /// `count` payloads from `first` on.
    Propose {
        /// The first payload.
        first: u64,
        /// How many.
        count: u64,
    },
    /// A linearizable read.
    Read(u64),
    /// Writes are durable.
    Synced(IoToken),
    /// The disk failed.
    Fault(Fault),
    /// The disk was repaired.
    Repaired,
    /// Messages to this peer are being lost.
    Unreachable(NodeId),
    /// A snapshot was sent, or not.
    SnapshotSent {
        /// To whom.
        to: NodeId,
        /// Its end, if it arrived.
        last: Option<EntryId>,
    },
    /// Save the state, and drop the log up to here.
    Compact(Index),
    /// Hand leadership over.
    Transfer(NodeId),
}

#[derive(Debug)]
struct Held {
    after: IoToken,
    parcel: Parcel,
    /// The term of the entry that an acknowledgement speaks of, as it was when it was made: a later leader may have replaced
    /// that entry in memory, and the disk still holds what was acknowledged.
    acknowledged: Option<Term>,
}

/// The position up to which a message says that the sender's log is durable.
pub(super) fn acknowledged_index(wire: &Wire) -> Option<Index> {
    let Message::Appended { outcome: AppendOutcome::Matched(index), .. } = wire else {
        return None;
    };
    Some(*index)
}

/// A member.
#[derive(Debug)]
pub struct Member {
    /// Its settings.
    pub config: Config,
    /// Its core, while it runs.
    pub core: Option<Core>,
    /// What its next state is held against.
    pub past: Option<Past>,
    /// Its disk.
    pub disk: Disk,
    /// Its log in memory.
    pub log: Shelf,
    /// Its state machine in memory.
    pub state: Snapshot,
    /// After how many more effects of its next step it crashes.
    pub doom: Option<u32>,
    /// It does not start again.
    pub is_gone: bool,
    /// A bug of the driver that is switched on, by its number; see [`mutants`](crate::mutants).
    pub bug: u16,
    membership: Membership,
    held: VecDeque<Held>,
    metas: Vec<EntryMeta>,
    sizes: Vec<u32>,
}

impl Member {
    /// A fresh member that does not run yet.
    pub fn new(config: Config, membership: Membership) -> Self {
        Self {
            config,
            core: None,
            past: None,
            disk: Disk::default(),
            log: Shelf::default(),
            state: Snapshot::default(),
            doom: None,
            is_gone: false,
            bug: 0,
            membership,
            held: VecDeque::new(),
            metas: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// Which member it is.
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// Starts with what the disk gives back.
    ///
    /// # Errors
    /// The disk breaks an invariant.
    pub fn start(&mut self, now: Mono, seed: u64) -> Result<(), RecoverError> {
        if self.bug == bugs::LOSE_TAIL {
            self.disk.image.log.drop_last();
        }
        if self.disk.damage.take().is_some() {
            self.disk.image.cut_in_the_middle();
        }
        let image = &self.disk.image;
        let base = SnapshotMeta { last: image.log.base(), membership: self.membership.clone() };
        let recovered = Recovered {
            hard_state: image.hard_state,
            base,
            entries: image.log.entries().map(|entry| entry.meta).collect(),
            applied: image.checkpoint.last,
        };
        let core = Core::recover(self.config.clone(), recovered, now, seed)?;
        self.log = image.log.clone();
        self.state = image.checkpoint;
        self.past = Some(Past::of(&core));
        self.core = Some(core);
        Ok(())
    }

    /// The process stops. What it had in memory is gone.
    pub fn stop(&mut self) {
        self.core = None;
        self.past = None;
        self.doom = None;
        self.held.clear();
        self.disk.forget();
        self.log = Shelf::default();
    }

    /// Gives one event to the core.
    pub(crate) fn give(
        &mut self,
        now: Mono,
        input: &mut Input,
        out: &mut Effects,
    ) -> Option<Verdict> {
        let core = self.core.as_mut()?;
        let metas = &mut self.metas;
        let mut step = |event: Event<'_>| Some(core.step(now, event, out));
        match input {
            Input::Wake => step(Event::Wake),
            Input::Arrival { from, body: Body::Message(wire) } => {
                let (verdict, entries) = {
                    metas.clear();
                    if let Message::AppendEntries { entries, .. } = &*wire {
                        metas.extend(entries.iter().map(|entry| entry.meta));
                    }
                    let mut kept = Vec::new();
                    let taken = std::mem::replace(wire, Message::TimeoutNow { term: Term(0) });
                    let message = taken.map_entries(|entries| {
                        kept = entries;
                        metas.as_slice()
                    });
                    let verdict = step(Event::Message { from: *from, message: &message });
                    (verdict, message.map_entries(|_| kept))
                };
                *wire = entries;
                verdict
            }
            Input::Arrival { from, body: Body::Snapshot { term, snapshot } } => {
                let meta =
                    SnapshotMeta { last: snapshot.last, membership: self.membership.clone() };
                step(Event::SnapshotReceived { from: *from, term: *term, snapshot: &meta })
            }
            Input::Propose { first, count } => {
                self.sizes.clear();
                self.sizes.extend((*first..*first + *count).map(size_of));
                step(Event::Propose { sizes: &self.sizes })
            }
            Input::Read(context) => step(Event::Read { context: ReadContext(*context) }),
            Input::Synced(token) => step(Event::IoDone { token: *token }),
            Input::Fault(fault) => step(Event::Fault(*fault)),
            Input::Repaired => step(Event::Repaired),
            Input::Unreachable(node) => step(Event::Unreachable { node: *node }),
            Input::SnapshotSent { to, last } => {
                let meta =
                    last.map(|last| SnapshotMeta { last, membership: self.membership.clone() });
                step(Event::SnapshotSent { to: *to, snapshot: meta.as_ref() })
            }
            Input::Compact(upto) => step(Event::Compacted { upto: *upto }),
            Input::Transfer(to) => step(Event::TransferLeader { to: *to }),
        }
    }

    /// Makes `count` of the oldest writes durable, and says the newest token.
    pub(crate) fn sync(
        &mut self,
        count: usize,
        court: &Court,
    ) -> Result<Option<IoToken>, Conviction> {
        let mut newest = None;
        if self.bug == bugs::LYING_SYNC {
            self.disk.platter = Some(self.disk.image.clone());
        }
        if self.bug == bugs::OUT_OF_ORDER && self.disk.queue.len() > 1 {
            self.disk.queue.swap(0, 1);
        }
        for _ in 0..count.min(self.disk.queue.len()) {
            let Some(write) = self.disk.queue.pop_front() else { break };
            court.check_write(self.id(), &self.disk.image, &write)?;
            hold(self.disk.image.keep(&write), Property::Contract, || {
                format!("node {}: {write:?} leaves a gap on disk", self.id())
            })?;
            newest = Some(write.token);
        }
        self.disk.syncing = 0;
        if let Some(token) = newest {
            self.disk.done = token;
        }
        Ok(newest)
    }

    /// Puts a write into the disk's queue, and its entries into the log in memory. Says what was appended.
    pub(crate) fn begin_write(
        &mut self,
        io: &Io,
        input: &Input,
        court: &mut Court,
    ) -> Result<Option<EntryRange>, Conviction> {
        let token = io.token();
        match io {
            Io::Save { hard_state, append, .. } => {
                let range = append.map(|append| append.range);
                let append = append.map(|append| self.put(append, input)).transpose()?;
                let saved = hard_state.filter(|_| self.bug != bugs::NO_HARD_STATE);
                self.disk.queue.push_back(Write {
                    token,
                    hard_state: saved,
                    append,
                    install: None,
                });
                Ok(range)
            }
            Io::Install { hard_state, snapshot, .. } => {
                let Input::Arrival { body: Body::Snapshot { snapshot: arrived, .. }, .. } = input
                else {
                    return Err(self.broke("a snapshot is installed that did not arrive"));
                };
                hold(
                    arrived.last == snapshot.last,
                    Property::Contract,
                    || "another snapshot is installed",
                )?;
                court.installed(self.id(), *arrived)?;
                self.log = Shelf::new(snapshot.last);
                self.state = *arrived;
                let install = Some(*arrived);
                self.disk.queue.push_back(Write {
                    token,
                    hard_state: Some(*hard_state),
                    append: None,
                    install,
                });
                Ok(None)
            }
        }
    }

    fn broke(&self, what: &str) -> Conviction {
        Conviction::new(Property::Contract, format!("node {}: {what}", self.id()))
    }

    fn put(&mut self, append: Append, input: &Input) -> Result<(Index, Vec<Entry>), Conviction> {
        let first = append.range.first;
        let entries =
            content(append, input).ok_or_else(|| self.broke("content comes from nowhere"))?;
        if entries.len() as u64 != append.range.len() || !self.log.put(first, &entries) {
            return Err(self.broke("an append does not fit the log"));
        }
        Ok((first, entries))
    }

    /// Sends a message now, or holds it back until its write is durable.
    pub(crate) fn send(
        &mut self,
        send: quorate_raft::Send,
        outbox: &mut Vec<Parcel>,
    ) -> Result<(), Conviction> {
        let mut missing = false;
        let wire = send.message.map_entries(|range| {
            self.log.slice(range).unwrap_or_else(|| {
                missing = true;
                Vec::new()
            })
        });
        hold(!missing, Property::Contract, || {
            format!("node {}: {wire:?} names entries that it lacks", self.id())
        })?;
        let acknowledged = acknowledged_index(&wire).and_then(|index| self.log.term_at(index));
        let parcel = Parcel { from: self.id(), to: send.to, body: Body::Message(wire) };
        let waits = |token: &IoToken| *token > self.disk.done && self.bug != bugs::HASTY_SEND;
        match send.after.filter(waits) {
            Some(after) => self.held.push_back(Held { after, parcel, acknowledged }),
            None => self.leave(parcel, acknowledged, outbox)?,
        }
        Ok(())
    }

    fn leave(
        &self,
        parcel: Parcel,
        acknowledged: Option<Term>,
        outbox: &mut Vec<Parcel>,
    ) -> Result<(), Conviction> {
        if let Body::Message(wire) = &parcel.body {
            check_promise(self, parcel.to, wire, acknowledged)?;
        }
        outbox.push(parcel);
        Ok(())
    }

    /// Writes are durable: what waited for them may leave.
    pub(crate) fn let_go(&mut self, outbox: &mut Vec<Parcel>) -> Result<(), Conviction> {
        for _ in 0..self.held.len() {
            let Some(held) = self.held.pop_front() else { break };
            if held.after <= self.disk.done {
                self.leave(held.parcel, held.acknowledged, outbox)?;
            } else {
                self.held.push_back(held);
            }
        }
        Ok(())
    }

    /// Sends the state to a peer whose next entry the log holds no more.
    pub(crate) fn send_snapshot(&self, to: NodeId, announce: bool, outbox: &mut Vec<Parcel>) {
        let Some(core) = &self.core else { return };
        let (term, mut snapshot) = (core.view().term, self.state);
        if self.bug == bugs::OLD_SNAPSHOT {
            snapshot.state = self.disk.image.checkpoint.state;
        }
        if announce {
            let meta = SnapshotMeta { last: snapshot.last, membership: self.membership.clone() };
            let message = Message::InstallSnapshot { term, snapshot: meta };
            outbox.push(Parcel { from: self.id(), to, body: Body::Message(message) });
        }
        outbox.push(Parcel { from: self.id(), to, body: Body::Snapshot { term, snapshot } });
    }

    /// Applies committed entries.
    pub(crate) fn apply(&mut self, range: EntryRange, court: &Court) -> Result<(), Conviction> {
        for index in (range.first.0..=range.last.0).map(Index) {
            let Some(entry) = self.log.get(index) else {
                return Err(self.broke("it applies what it lacks"));
            };
            if index != self.state.last.index.next() {
                return Err(self.broke("commits do not follow each other"));
            }
            let id = EntryId { term: entry.meta.term, index };
            if !self.disk.image.log.holds(id) {
                return Err(self.broke("it applies what is not durable here"));
            }
            let state = advance(self.state.state, index, entry.payload);
            court.applied(self.id(), index, entry, state)?;
            self.state = Snapshot { last: id, state };
        }
        Ok(())
    }

    /// The log is dropped up to here, after the state was saved.
    pub(crate) fn compact(&mut self, upto: Index) {
        let before = self.disk.image.checkpoint.state;
        self.disk.image.checkpoint = self.state;
        if self.bug == bugs::APPLIED_APART {
            self.disk.image.checkpoint.state = before;
        }
        self.disk.image.log.compact(upto);
        self.log.compact(upto);
    }
}

/// The entries an append stands for: always of the event of the same step.
fn content(append: Append, input: &Input) -> Option<Vec<Entry>> {
    let entry =
        |term, kind, payload, bytes| Entry { meta: EntryMeta { term, kind, bytes }, payload };
    match (append.origin, input) {
        (Origin::Noop { term }, _) => Some(vec![entry(term, EntryKind::Noop, 0, 0)]),
        (Origin::Proposed { term }, Input::Propose { first, count }) => {
            let normal = |payload| entry(term, EntryKind::Normal, payload, size_of(payload));
            Some((*first..*first + *count).map(normal).collect())
        }
        (
            Origin::Received { skip },
            Input::Arrival { body: Body::Message(Message::AppendEntries { entries, .. }), .. },
        ) => entries.get(skip..).map(<[Entry]>::to_vec),
        (Origin::Proposed { .. } | Origin::Received { .. }, _) => None,
    }
}
