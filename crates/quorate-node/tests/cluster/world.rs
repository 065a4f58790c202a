//! The world: nodes, their disks and machines, the network between them, and a clock that jumps to the next event.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, BytesMut};
use quorate_node::{
    Apply, Entry, Envelope, GroupStart, LogError, LogRecord, LogStore, MemoryLogStore, Node,
    NodeConfig, NodeEffects, NodeEvent, NodeIo, PeerMessage, Proposal, ProposeError, Scope,
    SnapshotOrder,
};
use quorate_raft::{
    Config, EntryId, EntryKind, EntryRange, GroupId, Index, Membership, Mono, NodeId, Role,
    SnapshotMeta, Term,
};

use crate::recordings;

pub(crate) const GROUP: GroupId = GroupId(0);
pub(crate) const MS: u64 = 1_000_000;
pub(crate) const ELECTION_NS: u64 = 1_000 * MS;

/// A small generator of choices: xorshift*, seeded.
#[derive(Debug)]
pub(crate) struct Choices(u64);

impl Choices {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// A log that somebody writes.
struct Away;

impl LogStore for Away {
    fn append(&mut self, _: &[LogRecord<'_>]) -> Result<(), LogError> {
        Err(LogError::Busy)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        Err(LogError::Busy)
    }

    fn read(&mut self, _: GroupId, _: EntryRange, _: u64) -> Result<Vec<Entry>, LogError> {
        Err(LogError::Busy)
    }
}

/// The state machine: every number that was applied, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) applied: EntryId,
    /// The snapshot that it began with.
    installed: Option<EntryId>,
    pub(crate) numbers: Vec<u64>,
}

/// One proposal or read as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    Applied,
    Failed(ProposeError),
    /// Its node crashed: nobody will answer.
    Lost,
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) node: NodeId,
    pub(crate) at: Mono,
    pub(crate) answered_at: Mono,
    pub(crate) outcome: Outcome,
    /// For a read: how many numbers were acknowledged when it began.
    pub(crate) must_see: usize,
}

pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) machine: Machine,
    inbox: Vec<NodeEvent>,
    /// Until then the disk is busy and the node takes nothing in.
    busy_until: Option<Mono>,
    tokens: Vec<(GroupId, quorate_raft::IoToken)>,
    sequences: BTreeMap<u64, u64>,
    sequence: u64,
    pub(crate) roles: Vec<(Role, Term)>,
}

pub(crate) struct World {
    pub(crate) now: Mono,
    pub(crate) choices: Choices,
    pub(crate) running: BTreeMap<NodeId, Running>,
    pub(crate) disks: BTreeMap<NodeId, MemoryLogStore>,
    durable: BTreeMap<NodeId, Machine>,
    members: Vec<NodeId>,
    flying: BTreeMap<(Mono, u64), (NodeId, NodeEvent, NodeId)>,
    snapshots: BTreeMap<(NodeId, Index), Machine>,
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    /// One message in this many is lost; 0: none.
    pub(crate) loss: u64,
    pub(crate) disk_ns: u64,
    /// While events are taken in, the log is being written and can't be read; it can at the end of a round.
    pub(crate) always_writing: bool,
    /// How long a message takes.
    pub(crate) delay_ns: u64,
    /// How long a snapshot is on its way.
    pub(crate) snapshot_ns: u64,
    /// How many snapshots were ordered.
    pub(crate) ordered: usize,
    pub(crate) proposals: BTreeMap<u64, Asked>,
    pub(crate) reads: BTreeMap<u64, Asked>,
    pub(crate) acknowledged: usize,
    pub(crate) messages: Vec<(NodeId, NodeId, PeerMessage)>,
    pub(crate) record_messages: bool,
    effects: NodeEffects,
    numbers: u64,
    incarnations: u64,
    tweak: Box<dyn Fn(&mut NodeConfig)>,
}

impl World {
    pub(crate) fn new(count: u64, seed: u64, tweak: impl Fn(&mut NodeConfig) + 'static) -> Self {
        let mut world = Self {
            now: Mono(1_000 * MS),
            choices: Choices::new(seed),
            running: BTreeMap::new(),
            disks: BTreeMap::new(),
            durable: BTreeMap::new(),
            members: (1..=count).map(NodeId).collect(),
            flying: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            cut: BTreeSet::new(),
            loss: 0,
            disk_ns: MS / 5,
            always_writing: false,
            delay_ns: MS / 10,
            snapshot_ns: 50 * MS,
            ordered: 0,
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
            acknowledged: 0,
            messages: Vec::new(),
            record_messages: false,
            effects: NodeEffects::default(),
            numbers: 0,
            incarnations: seed << 20,
            tweak: Box::new(tweak),
        };
        for id in world.members.clone() {
            world.disks.insert(id, MemoryLogStore::new());
            world.durable.insert(id, Machine::default());
            world.start(id);
        }
        world
    }

    pub(crate) fn members(&self) -> Vec<NodeId> {
        self.members.clone()
    }

    pub(crate) fn start(&mut self, id: NodeId) {
        self.incarnations += 1;
        let raft = Config { id, election_timeout_ns: ELECTION_NS, ..Config::default() };
        let mut config = NodeConfig::new(raft, self.incarnations);
        (self.tweak)(&mut config);
        let machine = self.durable[&id].clone();
        let mut start = GroupStart {
            group: GROUP,
            log: self.disks[&id].group(GROUP).without_content(),
            applied: machine.applied,
            installed: machine.installed,
            first_membership: Membership::of_voters(self.members.iter().copied()),
        };
        if let Some((hard_state, snapshot)) = start.catch_up().unwrap() {
            let log = self.disks.get_mut(&id).unwrap();
            let install = LogRecord::Install { group: GROUP, hard_state, snapshot: &snapshot };
            log.append(&[install]).unwrap();
            log.sync().unwrap();
        }
        let node = Node::recover(config, [start], self.now, self.choices.below(u64::MAX)).unwrap();
        let running = Running {
            node,
            machine,
            inbox: Vec::new(),
            busy_until: None,
            tokens: Vec::new(),
            sequences: BTreeMap::new(),
            sequence: self.choices.below(u64::MAX / 2),
            roles: Vec::new(),
        };
        self.running.insert(id, running);
    }

    /// The process dies: what the disk was not made to keep may be lost, and nobody answers its clients.
    pub(crate) fn crash(&mut self, id: NodeId) {
        let Some(running) = self.running.remove(&id) else { return };
        recordings::agree(&running.node);
        let disk = self.disks.get_mut(&id).unwrap();
        let kept = self.choices.below(disk.unsynced_records() as u64 + 1);
        disk.crash(usize::try_from(kept).unwrap());
        for asked in self.proposals.values_mut().chain(self.reads.values_mut()) {
            if asked.node == id && asked.outcome == Outcome::Open {
                asked.outcome = Outcome::Lost;
            }
        }
        self.flying.retain(|_, (to, _, _)| *to != id);
    }

    /// Cuts `id` off from everybody, or joins it again.
    pub(crate) fn isolate(&mut self, id: NodeId, is_cut: bool) {
        for other in self.members() {
            for pair in [(id, other), (other, id)] {
                if is_cut {
                    self.cut.insert(pair);
                } else {
                    self.cut.remove(&pair);
                }
            }
        }
        if !is_cut {
            for other in self.members().into_iter().filter(|other| *other != id) {
                self.give(id, NodeEvent::PeerUp { node: other });
                self.give(other, NodeEvent::PeerUp { node: id });
            }
        }
    }

    pub(crate) fn give(&mut self, id: NodeId, event: NodeEvent) {
        if let Some(running) = self.running.get_mut(&id) {
            running.inbox.push(event);
        }
    }

    /// A client proposes the next number at `id`.
    pub(crate) fn propose(&mut self, id: NodeId, scope: Scope) -> u64 {
        self.numbers += 1;
        let number = self.numbers;
        let Some(running) = self.running.get_mut(&id) else { return number };
        running.sequence += 1;
        let sequence = running.sequence;
        running.sequences.insert(sequence, number);
        let mut payload = BytesMut::new();
        Envelope::begin(id, sequence, &mut payload);
        payload.put_u64(number);
        let proposal = Proposal { sequence, payload: payload.freeze(), scope };
        running.inbox.push(NodeEvent::Propose { group: GROUP, proposal });
        self.proposals.insert(number, self.asked(id));
        number
    }

    /// A client reads at `id`.
    pub(crate) fn read(&mut self, id: NodeId) -> u64 {
        self.numbers += 1;
        let number = self.numbers;
        if self.running.contains_key(&id) {
            self.give(id, NodeEvent::Read { group: GROUP, id: number });
            self.reads.insert(number, self.asked(id));
        }
        number
    }

    fn asked(&self, node: NodeId) -> Asked {
        let (at, must_see) = (self.now, self.acknowledged);
        Asked { node, at, answered_at: at, outcome: Outcome::Open, must_see }
    }

    /// Lets the world go on for this long.
    pub(crate) fn run(&mut self, for_ns: u64) {
        let end = self.now.after(for_ns);
        loop {
            self.settle();
            let flying = self.flying.keys().next().map(|(at, _)| *at);
            let nodes = self
                .running
                .values()
                .filter_map(|running| running.busy_until.or_else(|| running.node.next_deadline()));
            let Some(next) = nodes.chain(flying).min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = next.max(self.now);
            while let Some(entry) = self.flying.first_entry().filter(|one| one.key().0 <= next) {
                let (to, event, from) = entry.remove();
                if !self.cut.contains(&(from, to)) {
                    self.give(to, event);
                }
            }
        }
    }

    /// Until somebody leads and has committed in its term; panics after a long time.
    pub(crate) fn run_until_led(&mut self) -> NodeId {
        for _ in 0..1_000 {
            self.run(20 * MS);
            if let Some(leader) = self.leader() {
                return leader;
            }
        }
        panic!("nobody leads");
    }

    /// Who leads the newest term and has committed in it.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let newest =
            self.running.values().filter_map(|one| one.node.view(GROUP)).map(|v| v.term).max()?;
        let leads = |running: &&Running| {
            let view = running.node.view(GROUP).unwrap();
            let applied = running.machine.applied.term == newest;
            view.role == Role::Leader && view.term == newest && applied
        };
        self.running.values().find(leads).and_then(|one| one.node.view(GROUP)).map(|view| view.id)
    }

    /// Rounds of all nodes that have something to do now.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let due = self.running.iter().find(|(_, running)| self.is_due(running));
            let Some(id) = due.map(|(id, _)| *id) else { return };
            self.round(id);
        }
        panic!("node spins at {:?}", self.now);
    }

    fn is_due(&self, running: &Running) -> bool {
        if let Some(until) = running.busy_until {
            return until <= self.now;
        }
        let deadline = running.node.next_deadline();
        !running.inbox.is_empty() || deadline.is_some_and(|deadline| deadline <= self.now)
    }

    fn round(&mut self, id: NodeId) {
        let mut out = std::mem::take(&mut self.effects);
        out.clear();
        let (now, always_writing) = (self.now, self.always_writing);
        let (running, log) = self.parts(id);
        let mut events = std::mem::take(&mut running.inbox);
        if running.busy_until.take().is_some() {
            log.sync().unwrap();
            let tokens = std::mem::take(&mut running.tokens);
            let done = tokens.into_iter().map(|(group, token)| NodeEvent::IoDone { group, token });
            events.splice(0..0, done);
        }
        events.push(NodeEvent::Wake);
        for event in events {
            if always_writing {
                running.node.step(now, event, &mut Away, &mut out);
            } else {
                running.node.step(now, event, log, &mut out);
            }
        }
        running.node.finish(now, log, &mut out);
        assert!(out.fault.is_none(), "{:?}", out.fault);
        assert_eq!(out.broken, None);
        self.carry_out(id, &out);
        self.effects = out;
    }

    fn parts(&mut self, id: NodeId) -> (&mut Running, &mut MemoryLogStore) {
        (self.running.get_mut(&id).unwrap(), self.disks.get_mut(&id).unwrap())
    }

    fn carry_out(&mut self, id: NodeId, out: &NodeEffects) {
        for (to, message) in &out.send {
            self.fly(id, *to, message);
        }
        for apply in &out.apply {
            self.apply(id, apply);
        }
        for io in &out.io {
            self.install(id, io);
        }
        if !out.io.is_empty() {
            let busy = self.now.after(self.choices.below(self.disk_ns) + self.disk_ns / 2);
            let (running, log) = self.parts(id);
            let records: Vec<LogRecord<'_>> = out.io.iter().map(NodeIo::record).collect();
            log.append(&records).unwrap();
            running.tokens = out.tokens();
            running.busy_until = Some(busy);
        }
        for answer in &out.answers {
            let number = self.running.get_mut(&id).unwrap().sequences.remove(&answer.sequence);
            let number = number.expect("a proposal is answered once");
            self.close(number, Outcome::Failed(answer.error));
        }
        for read in &out.reads {
            self.close_read(id, read.id, read.result);
        }
        for order in &out.snapshots {
            self.send_snapshot(id, *order);
        }
        for role in &out.roles {
            self.running.get_mut(&id).unwrap().roles.push((role.role, role.term));
        }
    }

    fn fly(&mut self, from: NodeId, to: NodeId, message: &PeerMessage) {
        if self.record_messages {
            self.messages.push((from, to, message.clone()));
        }
        let lost = self.loss > 0 && self.choices.one_in(self.loss);
        if lost || self.cut.contains(&(from, to)) || !self.running.contains_key(&to) {
            return;
        }
        let copies = if self.loss > 0 && self.choices.one_in(20) { 2 } else { 1 };
        for _ in 0..copies {
            let event = NodeEvent::Peer { from, message: message.clone() };
            let delay = if self.loss > 0 { self.choices.below(5 * MS) } else { 0 };
            self.schedule(self.delay_ns + delay, to, event, from);
        }
    }

    fn schedule(&mut self, after_ns: u64, to: NodeId, event: NodeEvent, from: NodeId) {
        let at = self.now.after(after_ns);
        let next = self.flying.range((at, 0)..=(at, u64::MAX)).next_back();
        let nth = next.map_or(0, |((_, nth), _)| nth + 1);
        self.flying.insert((at, nth), (to, event, from));
    }

    fn apply(&mut self, id: NodeId, apply: &Apply) {
        let mut done = Vec::new();
        let running = self.running.get_mut(&id).unwrap();
        assert_eq!(apply.first, running.machine.applied.index.next(), "handed over in order");
        for entry in &apply.entries {
            let index = running.machine.applied.index.next();
            running.machine.applied = EntryId { term: entry.meta.term, index };
            if entry.meta.kind != EntryKind::Normal {
                continue;
            }
            let envelope = Envelope::open(&entry.payload).unwrap();
            let number = u64::from_be_bytes(envelope.command.try_into().unwrap());
            running.machine.numbers.push(number);
            if envelope.origin == id {
                done.extend(running.sequences.remove(&envelope.sequence));
            }
        }
        let index = running.machine.applied.index;
        running.inbox.push(NodeEvent::Applied { group: GROUP, index });
        let applied = running.machine.numbers.len();
        for number in done {
            self.acknowledged = self.acknowledged.max(applied);
            self.close(number, Outcome::Applied);
        }
        if self.choices.one_in(10) {
            self.durable.insert(id, self.running[&id].machine.clone());
            self.give(id, NodeEvent::Checkpointed { group: GROUP, index });
        }
    }

    fn install(&mut self, id: NodeId, io: &NodeIo) {
        if let NodeIo::Install { snapshot, .. } = io {
            let mut machine = self.snapshots[&(id, snapshot.last.index)].clone();
            machine.installed = Some(snapshot.last);
            assert!(machine.applied.index > self.running[&id].machine.applied.index);
            self.durable.insert(id, machine.clone());
            self.running.get_mut(&id).unwrap().machine = machine;
            let index = snapshot.last.index;
            self.give(id, NodeEvent::Applied { group: GROUP, index });
            self.give(id, NodeEvent::Checkpointed { group: GROUP, index });
        }
    }

    fn send_snapshot(&mut self, from: NodeId, order: SnapshotOrder) {
        let to = order.to;
        self.ordered += 1;
        let machine = self.running[&from].machine.clone();
        let membership = self.running[&from].node.view(GROUP).unwrap().membership.clone();
        let snapshot = SnapshotMeta { last: machine.applied, membership };
        let arrives = self.running.contains_key(&to) && !self.cut.contains(&(from, to));
        let sent = arrives.then(|| snapshot.clone());
        if arrives {
            self.snapshots.insert((to, machine.applied.index), machine);
            let term = order.term;
            let event = NodeEvent::SnapshotReceived { group: GROUP, from, term, snapshot };
            self.schedule(self.snapshot_ns, to, event, from);
        }
        let event = NodeEvent::SnapshotSent { group: GROUP, to, snapshot: sent };
        self.schedule(self.snapshot_ns + 10 * MS, from, event, from);
    }

    fn close(&mut self, number: u64, outcome: Outcome) {
        let now = self.now;
        let asked = self.proposals.get_mut(&number).unwrap();
        assert_eq!(asked.outcome, Outcome::Open, "proposal {number} is answered once");
        (asked.outcome, asked.answered_at) = (outcome, now);
    }

    fn close_read(&mut self, id: NodeId, number: u64, result: Result<(), ProposeError>) {
        let (now, seen) = (self.now, self.running[&id].machine.numbers.len());
        let asked = self.reads.get_mut(&number).unwrap();
        assert_eq!(asked.outcome, Outcome::Open, "read {number} is answered once");
        asked.answered_at = now;
        asked.outcome = match result {
            Ok(()) => {
                assert!(seen >= asked.must_see, "a stale read: {seen} of {}", asked.must_see);
                Outcome::Applied
            }
            Err(error) => Outcome::Failed(error),
        };
    }
}
