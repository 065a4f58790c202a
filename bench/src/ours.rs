//! Three members of `quorate-raft`, with the least driver that is right: content beside the core, shared and never copied.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_flight::{RING_BYTES_DEFAULT, Recorder};
use quorate_raft::{
    Append, Config, Core, Effects, EntryId, EntryKind, EntryMeta, EntryRange, Event, Io,
    Membership, Message, Mono, NodeId, Origin, Recovered, Role, SnapshotMeta, Verdict,
};

const COMPACT_EVERY: u64 = 65_536;
const HOUR_NS: u64 = 3_600_000_000_000;

type Entry = (EntryMeta, Bytes);
type Wire = Message<Vec<Entry>>;

/// One member: its core, and the content of its log.
struct Member {
    core: Core,
    base: u64,
    log: VecDeque<Entry>,
    effects: Effects,
    recorder: Option<Recorder>,
    metas: Vec<EntryMeta>,
    applied: u64,
}

/// Three members, of which one leads.
pub struct Trio {
    members: Vec<Member>,
    queue: VecDeque<(NodeId, NodeId, Wire)>,
    now: Mono,
    leader: usize,
    compacted: u64,
    touched: u64,
    messages: u64,
    sizes: Vec<u32>,
}

/// Where the content of appended entries comes from.
enum Content {
    None,
    Proposed(Vec<Bytes>),
    Received(Vec<Entry>),
}

impl Trio {
    /// Elects a leader. Each member has a flight recorder, or none has.
    pub fn new(is_recorded: bool) -> Self {
        let membership = Membership::of_voters((1..=3).map(NodeId));
        let member = |id| {
            let config = Config {
                id: NodeId(id),
                heartbeat_interval_ns: HOUR_NS,
                election_timeout_ns: 10 * HOUR_NS,
                ..Config::default()
            };
            let recovered = Recovered {
                base: SnapshotMeta { last: EntryId::default(), membership: membership.clone() },
                ..Recovered::default()
            };
            let core = Core::recover(config, recovered, Mono(0), id).expect("a fresh member");
            Member {
                core,
                base: 0,
                log: VecDeque::new(),
                effects: Effects::default(),
                recorder: is_recorded.then(|| Recorder::new(RING_BYTES_DEFAULT)),
                metas: Vec::new(),
                applied: 0,
            }
        };
        let members = (1..=3).map(member).collect();
        let mut trio = Self {
            members,
            queue: VecDeque::new(),
            now: Mono(0),
            leader: 0,
            compacted: 0,
            touched: 0,
            messages: 0,
            sizes: Vec::new(),
        };
        trio.elect();
        trio
    }

    fn elect(&mut self) {
        loop {
            let deadline = |member: &Member| {
                member.core.next_deadline().map_or(u64::MAX, |deadline| deadline.0)
            };
            let next = (0..3).min_by_key(|at| deadline(&self.members[*at])).expect("three members");
            self.now = Mono(deadline(&self.members[next]));
            self.step(next, Event::Wake, Content::None);
            self.settle();
            if let Some(leader) =
                (0..3).find(|at| self.members[*at].core.view().role == Role::Leader)
            {
                self.leader = leader;
                return;
            }
        }
    }

    fn settle(&mut self) {
        while let Some((from, to, message)) = self.queue.pop_front() {
            self.messages += 1;
            let at = to.0 as usize - 1;
            self.deliver(at, from, message);
        }
    }

    fn deliver(&mut self, at: usize, from: NodeId, message: Wire) {
        let mut metas = std::mem::take(&mut self.members[at].metas);
        let mut content = Content::None;
        metas.clear();
        let message = message.map_entries(|entries| {
            metas.extend(entries.iter().map(|(meta, _)| *meta));
            content = Content::Received(entries);
            metas.as_slice()
        });
        self.step(at, Event::Message { from, message: &message }, content);
        self.members[at].metas = metas;
    }

    /// One step, and at once all that it asks for; the disk is memory, so every write is done when it is made.
    fn step(&mut self, at: usize, event: Event<'_>, mut content: Content) -> Verdict {
        let mut effects = std::mem::take(&mut self.members[at].effects);
        effects.clear();
        let verdict = self.members[at].step(self.now, event, &mut effects);
        loop {
            let mut done = None;
            for io in &effects.io {
                self.members[at].save(io, &mut content);
                done = Some(io.token());
            }
            self.send(at, &effects);
            self.apply(at, effects.commit);
            effects.clear();
            let Some(token) = done else { break };
            self.members[at].step(self.now, Event::IoDone { token }, &mut effects);
        }
        self.members[at].effects = effects;
        verdict
    }

    fn send(&mut self, at: usize, effects: &Effects) {
        let from = NodeId(at as u64 + 1);
        for send in &effects.send {
            let member = &self.members[at];
            let message = send.message.clone().map_entries(|range| member.read(range));
            self.queue.push_back((from, send.to, message));
        }
    }

    fn apply(&mut self, at: usize, commit: Option<EntryRange>) {
        let Some(range) = commit else { return };
        let member = &mut self.members[at];
        let from = (range.first.0 - member.base - 1) as usize;
        for (meta, payload) in member.log.range(from..from + range.len() as usize) {
            self.touched += payload.first().copied().map_or(0, u64::from);
            member.applied += u64::from(meta.kind == EntryKind::Normal);
        }
    }

    fn compact(&mut self) {
        let applied = self.members[self.leader].applied;
        if applied < self.compacted + COMPACT_EVERY {
            return;
        }
        self.compacted = applied;
        for at in 0..3 {
            let upto = self.members[at].core.view().commit;
            self.step(at, Event::Compacted { upto }, Content::None);
            let member = &mut self.members[at];
            member.log.drain(..(upto.0 - member.base) as usize);
            member.base = upto.0;
        }
    }
}

impl Member {
    fn step(&mut self, now: Mono, event: Event<'_>, effects: &mut Effects) -> Verdict {
        let Some(recorder) = &mut self.recorder else {
            return self.core.step(now, event, effects);
        };
        recorder.before(now, &self.core, event);
        let verdict = self.core.step(now, event, effects);
        recorder.after(&self.core, verdict, effects).expect("a core that works");
        verdict
    }

    fn save(&mut self, io: &Io, content: &mut Content) {
        let Io::Save { append: Some(Append { range, origin }), .. } = io else { return };
        self.log.truncate((range.first.0 - self.base - 1) as usize);
        match (*origin, std::mem::replace(content, Content::None)) {
            (Origin::Noop { term }, _) => self
                .log
                .push_back((EntryMeta { term, kind: EntryKind::Noop, bytes: 0 }, Bytes::new())),
            (Origin::Proposed { term }, Content::Proposed(payloads)) => {
                let meta = |payload: &Bytes| EntryMeta {
                    term,
                    kind: EntryKind::Normal,
                    bytes: payload.len() as u32,
                };
                self.log.extend(payloads.into_iter().map(|payload| (meta(&payload), payload)));
            }
            (Origin::Received { skip }, Content::Received(entries)) => {
                self.log.extend(entries.into_iter().skip(skip))
            }
            _ => unreachable!("the content of an append comes with the event of its step"),
        }
    }

    fn read(&self, range: EntryRange) -> Vec<Entry> {
        let from = (range.first.0 - self.base - 1) as usize;
        self.log.range(from..from + range.len() as usize).cloned().collect()
    }
}

impl super::Cluster for Trio {
    fn round(&mut self, count: usize) -> u64 {
        let before = self.members[self.leader].applied;
        let payloads: Vec<Bytes> = (0..count).map(|_| Bytes::from(vec![7_u8; 16])).collect();
        let mut sizes = std::mem::take(&mut self.sizes);
        sizes.clear();
        sizes.resize(count, 16);
        let verdict =
            self.step(self.leader, Event::Propose { sizes: &sizes }, Content::Proposed(payloads));
        assert!(matches!(verdict, Verdict::Proposed { .. }), "{verdict:?}");
        self.sizes = sizes;
        self.settle();
        self.compact();
        self.members[self.leader].applied - before
    }

    fn messages(&self) -> u64 {
        self.messages
    }

    fn steps(&self) -> u64 {
        self.members.iter().filter_map(|member| member.recorder.as_ref()).map(Recorder::steps).sum()
    }
}
