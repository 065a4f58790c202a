//! Three members, each with a recorder; messages and disks that lose, delay and come in any order, as a seed decides.

use quorate_flight::Recorder;
use quorate_raft::{
    Config, Core, Effects, EntryId, EntryKind, EntryMeta, EntryRange, Event, Fault, GroupId, Index,
    Io, IoToken, Membership, Message, Mono, NodeId, Origin, ReadContext, Recovered, Role,
    SnapshotMeta, Term, Verdict,
};

pub(crate) const MS: u64 = 1_000_000;

/// Xorshift*, seeded.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % bound
    }

    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}

/// What an event brings along, kept for the world's own copy of the entries.
enum Flying {
    Message { from: NodeId, to: usize, message: Message<()>, entries: Vec<EntryMeta> },
    Snapshot { from: NodeId, to: usize, term: Term, snapshot: SnapshotMeta },
}

pub(crate) struct Member {
    pub(crate) core: Core,
    pub(crate) recorder: Recorder,
    log: Vec<EntryMeta>,
    issued: IoToken,
    held: Vec<quorate_raft::Send>,
}

pub(crate) struct World {
    pub(crate) members: Vec<Member>,
    pub(crate) now: Mono,
    pub(crate) dice: Dice,
    flying: Vec<Flying>,
    pub(crate) elections: u64,
    pub(crate) commits: u64,
    pub(crate) installs: u64,
    /// The member, and how many of its steps from here on, whose next message is kept from the recorder.
    pub(crate) lie_at: Option<(usize, u64)>,
    /// Copies of the members without the historical bug, as long as they do the same; else the step in which they don't.
    #[cfg(feature = "mutants")]
    pub(crate) honest: Vec<Result<Core, u64>>,
    #[cfg(feature = "mutants")]
    pub(crate) broken: Option<quorate_raft::Broken>,
}

fn config(node: u64) -> Config {
    Config {
        id: NodeId(node),
        heartbeat_interval_ns: 10 * MS,
        election_timeout_ns: 100 * MS,
        append_entries_max: 8,
        inflight_appends_max: 4,
        reads_max: 6,
        ..Config::default()
    }
}

impl World {
    pub(crate) fn new(seed: u64, ring_bytes_max: usize) -> Self {
        let member = |node: u64| {
            let membership = Membership::of_voters((1..=3).map(NodeId));
            let base = SnapshotMeta { last: EntryId::default(), membership };
            let recovered = Recovered { base, ..Recovered::default() };
            let core = Core::recover(config(node), recovered, Mono(0), seed * 8 + node).unwrap();
            let recorder = Recorder::new(ring_bytes_max);
            Member { core, recorder, log: Vec::new(), issued: IoToken(0), held: Vec::new() }
        };
        Self {
            members: (1..=3).map(member).collect(),
            now: Mono(5),
            dice: Dice::new(seed),
            flying: Vec::new(),
            elections: 0,
            commits: 0,
            installs: 0,
            lie_at: None,
            #[cfg(feature = "mutants")]
            honest: Vec::new(),
            #[cfg(feature = "mutants")]
            broken: None,
        }
    }

    /// The same with a historical bug in every member.
    #[cfg(feature = "mutants")]
    pub(crate) fn with_mutant(seed: u64, mutant: u16) -> Self {
        let mut world = Self::new(seed, 8 << 20);
        for (member, node) in world.members.iter_mut().zip(1..) {
            world.honest.push(Ok(member.core.clone()));
            let membership = Membership::of_voters((1..=3).map(NodeId));
            let base = SnapshotMeta { last: EntryId::default(), membership };
            let recovered = Recovered { base, ..Recovered::default() };
            let config = Config { mutant, ..config(node) };
            member.core = Core::recover(config, recovered, Mono(0), seed * 8 + node).unwrap();
        }
        world
    }

    /// The copy takes the step too.
    #[cfg(feature = "mutants")]
    fn compare(&mut self, at: usize, event: Event<'_>, verdict: Verdict, effects: &Effects) {
        let member = &self.members[at];
        let Some(Ok(core)) = self.honest.get_mut(at) else { return };
        let mut own = Effects::default();
        let same_verdict = core.step(self.now, event, &mut own) == verdict;
        let same_view = format!("{:?}", core.view()) == format!("{:?}", member.core.view());
        if !same_verdict || own != *effects || !same_view {
            self.honest[at] = Err(member.recorder.steps() - 1);
        }
    }

    pub(crate) fn recording(&self, at: usize) -> Vec<u8> {
        self.members[at].recorder.recording(GroupId(7))
    }

    /// So many things happen.
    pub(crate) fn run(&mut self, count: u64) {
        for _ in 0..count {
            self.now = self.now.after(self.dice.below(MS));
            let at = self.dice.place(3);
            if self.members[at].core.next_deadline().is_some_and(|due| due <= self.now) {
                self.step(at, Event::Wake);
            }
            match self.dice.below(100) {
                0..60 => self.deliver(),
                60..80 => {
                    let token = self.members[at].issued;
                    self.step(at, Event::IoDone { token });
                }
                80..92 => {
                    let sizes = vec![u32::try_from(self.dice.below(500)).unwrap(); 3];
                    self.step(at, Event::Propose { sizes: &sizes });
                }
                92..95 => {
                    let context = ReadContext(self.dice.below(1 << 40));
                    self.step(at, Event::Read { context });
                }
                _ => self.disturb(at),
            }
        }
    }

    fn disturb(&mut self, at: usize) {
        let node = NodeId(1 + self.dice.below(3));
        match self.dice.below(24) {
            0 => self.step(at, Event::Fault(Fault::SlowDisk { stalled_for_ns: 7 })),
            1..6 => self.step(at, Event::Repaired),
            6 => self.step(at, Event::TransferLeader { to: node }),
            7 => self.step(at, Event::Unreachable { node }),
            8 => self.now = self.now.after(150 * MS),
            9 => self.flying.clear(),
            10..18 => {
                let upto = self.members[at].core.view().released;
                self.step(at, Event::Compacted { upto });
            }
            _ => {}
        }
    }

    /// One of the messages under way arrives, or is lost.
    fn deliver(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let pick = self.dice.place(self.flying.len().min(6));
        let flying = self.flying.remove(pick);
        if self.dice.below(30) == 0 {
            return;
        }
        match flying {
            Flying::Message { from, to, message, entries } => {
                let message = message.map_entries(|()| entries.as_slice());
                self.step(to, Event::Message { from, message: &message });
            }
            Flying::Snapshot { from, to, term, snapshot } => {
                self.step(to, Event::SnapshotReceived { from, term, snapshot: &snapshot });
                let sender = usize::try_from(from.0 - 1).unwrap();
                let to = NodeId(to as u64 + 1);
                self.step(sender, Event::SnapshotSent { to, snapshot: Some(&snapshot) });
            }
        }
    }

    pub(crate) fn step(&mut self, at: usize, event: Event<'_>) {
        let member = &mut self.members[at];
        let mut effects = Effects::default();
        let before = member.core.view().role;
        member.recorder.before(self.now, &member.core, event);
        let verdict = member.core.step(self.now, event, &mut effects);
        let mut told = effects.clone();
        if let Some((liar, steps)) = self.lie_at
            && liar == at
            && member.recorder.steps() >= steps
            && told.send.pop().is_some()
        {
            self.lie_at = None;
        }
        let checked = member.recorder.after(&member.core, verdict, &told);
        #[cfg(not(feature = "mutants"))]
        checked.unwrap();
        #[cfg(feature = "mutants")]
        if let Err(broken) = checked {
            assert!(!self.honest.is_empty(), "{broken}");
            self.broken = Some(broken);
        }
        self.elections +=
            u64::from(before != Role::Leader && member.core.view().role == Role::Leader);
        #[cfg(feature = "mutants")]
        self.compare(at, event, verdict, &effects);
        self.carry_out(at, event, verdict, &effects);
    }

    fn carry_out(&mut self, at: usize, event: Event<'_>, verdict: Verdict, effects: &Effects) {
        for io in &effects.io {
            self.members[at].issued = io.token();
            match io {
                Io::Save { append: Some(append), .. } => self.append(at, *append, event),
                Io::Save { append: None, .. } => {}
                Io::Install { .. } => {
                    self.members[at].log.clear();
                    self.installs += 1;
                }
            }
        }
        if let Event::Compacted { upto } = event
            && verdict == Verdict::Ok
        {
            let member = &mut self.members[at];
            let kept = member.core.view().last.index.0 - upto.0;
            let dropped = member.log.len() - usize::try_from(kept).unwrap();
            member.log.drain(..dropped);
        }
        self.commits += effects.commit.map_or(0, EntryRange::len);
        self.members[at].held.extend(effects.send.iter().cloned());
        self.post(at);
        for to in &effects.snapshots {
            let view = self.members[at].core.view();
            let to = usize::try_from(to.0 - 1).unwrap();
            let snapshot = SnapshotMeta { last: view.base, membership: view.membership.clone() };
            let (from, term) = (view.id, view.term);
            self.flying.push(Flying::Snapshot { from, to, term, snapshot });
        }
    }

    fn append(&mut self, at: usize, append: quorate_raft::Append, event: Event<'_>) {
        let count = usize::try_from(append.range.len()).unwrap();
        let new: Vec<EntryMeta> = match (append.origin, event) {
            (Origin::Noop { term }, _) => vec![EntryMeta { term, kind: EntryKind::Noop, bytes: 0 }],
            (Origin::Proposed { term }, Event::Propose { sizes }) => {
                let meta = |bytes: &u32| EntryMeta { term, kind: EntryKind::Normal, bytes: *bytes };
                sizes.iter().take(count).map(meta).collect()
            }
            (
                Origin::Received { skip },
                Event::Message { message: Message::AppendEntries { entries, .. }, .. },
            ) => entries.iter().skip(skip).take(count).copied().collect(),
            _ => panic!("the core names content that its event did not bring"),
        };
        let keep = self.place(at, append.range.first);
        let log = &mut self.members[at].log;
        log.truncate(keep);
        log.extend(new);
    }

    fn place(&self, at: usize, index: Index) -> usize {
        usize::try_from(index.0 - self.members[at].core.view().base.index.0 - 1).unwrap()
    }

    /// Sends what no longer waits for the disk.
    fn post(&mut self, at: usize) {
        let view = self.members[at].core.view();
        let from = view.id;
        let done = view.durable == view.last.index;
        let held = std::mem::take(&mut self.members[at].held);
        for send in held {
            if send.after.is_some() && !done {
                self.members[at].held.push(send);
                continue;
            }
            let mut entries = Vec::new();
            if let Message::AppendEntries { entries: range, .. } = &send.message
                && !range.is_empty()
            {
                let (first, last) = (range.first, range.last);
                if first <= self.members[at].core.view().base.index
                    || last > self.members[at].core.view().last.index
                {
                    continue;
                }
                entries =
                    self.members[at].log[self.place(at, first)..=self.place(at, last)].to_vec();
            }
            let to = usize::try_from(send.to.0 - 1).unwrap();
            let message = send.message.map_entries(|_| ());
            self.flying.push(Flying::Message { from, to, message, entries });
        }
    }
}
