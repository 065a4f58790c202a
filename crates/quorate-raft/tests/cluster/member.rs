//! One member with everything a driver does for the core: content of entries, disk, held-back messages, state machine.

use quorate_raft::{
    Append, Config, Core, Effects, EntryKind, EntryMeta, EntryRange, Event, Fault, Index, Io,
    IoToken, Message, Mono, NodeId, Notice, Origin, Past, ReadContext, ReadGrant, RecoverError,
    Recovered, SnapshotMeta, Term, Verdict,
};

use super::disk::{Disk, Entry, Shelf, State, Write};

/// A message with its entries.
pub(crate) type Wire = Message<Vec<Entry>>;

/// What goes from member to member.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Message(Wire),
    Snapshot { term: Term, meta: SnapshotMeta, state: State },
}

/// An event, with what the core does not see of it.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Wake,
    Receive { from: NodeId, body: Body },
    Propose(Vec<u64>),
    Read(u64),
    Synced(IoToken),
    Fault(Fault),
    Repaired,
    Unreachable(NodeId),
    SnapshotSent { to: NodeId, meta: Option<SnapshotMeta> },
    Compact(Index),
    Transfer(NodeId),
}

/// What one step led to, as far as others are concerned.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) sent: Vec<(NodeId, Body)>,
    pub(crate) appended: Vec<EntryRange>,
    pub(crate) saved: Vec<Io>,
    pub(crate) held: usize,
    pub(crate) committed: Option<EntryRange>,
    pub(crate) reads: Vec<ReadGrant>,
    pub(crate) dropped: Vec<ReadContext>,
    pub(crate) notices: Vec<Notice>,
}

pub(crate) struct Member {
    pub(crate) config: Config,
    pub(crate) core: Option<Core>,
    pub(crate) past: Option<Past>,
    pub(crate) disk: Disk,
    pub(crate) log: Shelf,
    pub(crate) state: State,
    pub(super) held: Vec<(IoToken, NodeId, Body)>,
    /// How often it was started.
    pub(crate) starts: u64,
    effects: Effects,
}

/// Size of an entry's content, as the core counts it.
pub(crate) fn size_of(payload: u64) -> u32 {
    u32::try_from(payload % 97).unwrap() + 1
}

impl Member {
    pub(crate) fn new(config: Config, base: SnapshotMeta) -> Self {
        let log = Shelf::new(base.last);
        let disk = Disk::new(base);
        let effects = Effects::default();
        Self {
            config,
            core: None,
            past: None,
            disk,
            log,
            state: State::new(),
            held: Vec::new(),
            starts: 0,
            effects,
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.config.id
    }

    /// Starts, or starts again, with what the disk gives back.
    pub(crate) fn start(&mut self, now: Mono, seed: u64) -> Result<(), RecoverError> {
        let recovered = Recovered {
            hard_state: self.disk.hard_state,
            base: self.disk.base.clone(),
            entries: self.disk.log.entries().iter().map(|entry| entry.meta).collect(),
            applied: self.disk.applied(),
        };
        let core = Core::recover(self.config.clone(), recovered, now, seed)?;
        core.check().unwrap();
        self.starts += 1;
        self.log = self.disk.log.clone();
        self.state = self.disk.checkpoint.clone();
        self.past = Some(Past::of(&core));
        self.core = Some(core);
        Ok(())
    }

    pub(crate) fn crash(&mut self, kept: usize) {
        self.core = None;
        self.past = None;
        self.held.clear();
        self.disk.crash(kept);
        self.log = self.disk.log.clone();
    }

    /// Gives one event to the core and does what it wants. `io_due` is when a write begun now will be done.
    pub(crate) fn step(&mut self, now: Mono, input: &Input, io_due: Mono) -> Outcome {
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        let verdict = self.give(now, input, &mut effects);
        let mut sent = Vec::new();
        if let (Input::Synced(token), Verdict::Ok) = (input, verdict) {
            self.let_go(*token, &mut sent);
        }
        let appended = effects
            .io
            .iter()
            .filter_map(|io| self.begin_write(io, input, verdict, io_due))
            .collect();
        self.send_out(&effects, &mut sent);
        if let Some(range) = effects.commit {
            self.apply(range);
        }
        if let (Input::Compact(upto), Verdict::Ok) = (input, verdict) {
            self.log.compact(*upto);
            self.disk.compact(*upto, &self.state);
        }
        let outcome = Outcome {
            verdict,
            sent,
            appended,
            saved: effects.io.clone(),
            held: self.held.len(),
            committed: effects.commit,
            reads: effects.reads.clone(),
            dropped: effects.reads_dropped.clone(),
            notices: effects.notices.clone(),
        };
        self.effects = effects;
        outcome
    }

    fn give(&mut self, now: Mono, input: &Input, out: &mut Effects) -> Verdict {
        let core = self.core.as_mut().expect("the member runs");
        let mut step = |event: Event<'_>| core.step(now, event, out);
        match input {
            Input::Wake => step(Event::Wake),
            Input::Receive { from, body: Body::Message(wire) } => {
                let mut metas = Vec::new();
                if let Message::AppendEntries { entries, .. } = wire {
                    metas.extend(entries.iter().map(|entry| entry.meta));
                }
                let message = wire.clone().map_entries(|_| metas.as_slice());
                step(Event::Message { from: *from, message: &message })
            }
            Input::Receive { from, body: Body::Snapshot { term, meta, .. } } => {
                step(Event::SnapshotReceived { from: *from, term: *term, snapshot: meta })
            }
            Input::Propose(payloads) => {
                let sizes: Vec<u32> = payloads.iter().map(|payload| size_of(*payload)).collect();
                step(Event::Propose { sizes: &sizes })
            }
            Input::Read(context) => step(Event::Read { context: ReadContext(*context) }),
            Input::Synced(token) => step(Event::IoDone { token: *token }),
            Input::Fault(fault) => step(Event::Fault(*fault)),
            Input::Repaired => step(Event::Repaired),
            Input::Unreachable(node) => step(Event::Unreachable { node: *node }),
            Input::SnapshotSent { to, meta } => {
                step(Event::SnapshotSent { to: *to, snapshot: meta.as_ref() })
            }
            Input::Compact(upto) => step(Event::Compacted { upto: *upto }),
            Input::Transfer(to) => step(Event::TransferLeader { to: *to }),
        }
    }

    /// Puts a write into the disk's queue, and its entries into the log in memory. Says what was appended.
    fn begin_write(
        &mut self,
        io: &Io,
        input: &Input,
        verdict: Verdict,
        due: Mono,
    ) -> Option<EntryRange> {
        let token = io.token();
        match io {
            Io::Save { hard_state, append, .. } => {
                let append = append.map(|append| (append.range, content(append, input, verdict)));
                if let Some((range, entries)) = &append {
                    self.log.put(range.first, entries);
                }
                let range = append.as_ref().map(|(range, _)| *range);
                let append = append.map(|(range, entries)| (range.first, entries));
                self.disk.queue.push_back(Write {
                    token,
                    due,
                    hard_state: *hard_state,
                    append,
                    install: None,
                });
                range
            }
            Io::Install { hard_state, snapshot, .. } => {
                let Input::Receive { body: Body::Snapshot { meta, state, .. }, .. } = input else {
                    panic!("a snapshot is installed that did not arrive")
                };
                assert_eq!(meta, snapshot);
                self.log = Shelf::new(snapshot.last);
                self.state.clone_from(state);
                let install = Some((snapshot.clone(), state.clone()));
                self.disk.queue.push_back(Write {
                    token,
                    due,
                    hard_state: Some(*hard_state),
                    append: None,
                    install,
                });
                None
            }
        }
    }

    fn send_out(&mut self, effects: &Effects, sent: &mut Vec<(NodeId, Body)>) {
        for send in &effects.send {
            let wire =
                send.message.clone().map_entries(|range| self.log.slice(range.first, range.last));
            match send.after.filter(|token| *token > self.disk.done) {
                Some(token) => self.held.push((token, send.to, Body::Message(wire))),
                None => sent.push((send.to, Body::Message(wire))),
            }
        }
        for node in &effects.snapshots {
            let core = self.core.as_ref().unwrap();
            let index = Index(self.state.len() as u64);
            let term = self.state.last().map_or(Term(0), |entry| entry.meta.term);
            let last = quorate_raft::EntryId { term, index };
            let meta = SnapshotMeta { last, membership: core.view().membership.clone() };
            sent.push((
                *node,
                Body::Snapshot { term: core.view().term, meta, state: self.state.clone() },
            ));
        }
    }

    /// A write is done: what waited for it may leave.
    fn let_go(&mut self, token: IoToken, sent: &mut Vec<(NodeId, Body)>) {
        let (free, held) =
            std::mem::take(&mut self.held).into_iter().partition(|(after, _, _)| *after <= token);
        self.held = held;
        let free: Vec<(IoToken, NodeId, Body)> = free;
        sent.extend(free.into_iter().map(|(_, to, body)| (to, body)));
    }

    fn apply(&mut self, range: EntryRange) {
        assert_eq!(
            range.first.0,
            self.state.len() as u64 + 1,
            "commits follow each other without a gap"
        );
        for entry in self.log.slice(range.first, range.last) {
            let index = Index(self.state.len() as u64 + 1);
            let id = quorate_raft::EntryId { term: entry.meta.term, index };
            assert!(self.disk.log.holds(id), "{id} is applied before it is durable here");
            self.state.push(entry);
        }
    }
}

/// The entries an append stands for: always of the event of the same step.
fn content(append: Append, input: &Input, verdict: Verdict) -> Vec<Entry> {
    match (append.origin, input) {
        (Origin::Noop { term }, _) => {
            vec![Entry { meta: EntryMeta { term, kind: EntryKind::Noop, bytes: 0 }, payload: 0 }]
        }
        (Origin::Proposed { term }, Input::Propose(payloads)) => {
            assert_eq!(verdict, Verdict::Proposed { range: append.range, term });
            let meta =
                |payload| EntryMeta { term, kind: EntryKind::Normal, bytes: size_of(payload) };
            payloads
                .iter()
                .map(|payload| Entry { meta: meta(*payload), payload: *payload })
                .collect()
        }
        (
            Origin::Received { skip },
            Input::Receive { body: Body::Message(Message::AppendEntries { entries, .. }), .. },
        ) => entries[skip..].to_vec(),
        (origin, input) => panic!("{origin:?} does not come from {input:?}"),
    }
}
