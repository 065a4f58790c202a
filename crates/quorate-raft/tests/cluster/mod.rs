//! A whole cluster in one thread: virtual time, one seed, a network and disks that misbehave as they are told.
//!
//! Everything that happens is decided by the seed and by the caller: the same again gives the same run. Members are real cores
//! with the smallest driver that fulfils all its duties; after each step [`Judge`] looks at all of them. By hand (scripts) messages
//! and writes wait until they are told to go on; on its own ([`Cluster::run_for`]) each takes a random time.
//!
//! Left out: clocks that run apart, corrupted content.

mod disk;
mod judge;
mod member;
mod timeless;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

pub(crate) use disk::Entry;
pub(crate) use judge::Judge;
pub(crate) use member::{Body, Input, Member, Outcome};
use quorate_raft::{
    AppendOutcome, Config, EntryId, HardState, Index, Membership, Message, Mono, NodeId, Role,
    SnapshotMeta, Term, Verdict,
};

pub(crate) const MILLISECOND: u64 = 1_000_000;

/// The seed's numbers (xorshift64*; the core's own generator is another).
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) due: Mono,
    pub(crate) body: Body,
}

/// How network and disks behave when the cluster runs on its own.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) loss_percent: u64,
    pub(crate) duplicate_percent: u64,
    pub(crate) delay_ns: (u64, u64),
    pub(crate) sync_ns: (u64, u64),
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            loss_percent: 0,
            duplicate_percent: 0,
            delay_ns: (MILLISECOND / 10, MILLISECOND),
            sync_ns: (MILLISECOND / 10, 2 * MILLISECOND),
        }
    }
}

pub(crate) struct Cluster {
    pub(crate) now: Mono,
    pub(crate) members: BTreeMap<NodeId, Member>,
    pub(crate) flying: Vec<Packet>,
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) weather: Weather,
    pub(crate) judge: Judge,
    pub(crate) dice: Dice,
    /// How many appends were refused.
    pub(crate) refusals: u64,
    payload: u64,
    context: u64,
    is_timeless: bool,
    is_judged: bool,
    /// The last snapshot that was sent, from whom and to whom.
    snapshots: BTreeMap<(NodeId, NodeId), SnapshotMeta>,
}

impl Cluster {
    /// Members `1..=voters`, then the learners; all fresh and started.
    pub(crate) fn new(config: &Config, voters: u64, learners: u64, seed: u64) -> Self {
        let membership = Membership {
            learners: (voters + 1..=voters + learners).map(NodeId).collect(),
            ..Membership::of_voters((1..=voters).map(NodeId))
        };
        let base = SnapshotMeta { last: EntryId::default(), membership };
        let member = |id| Member::new(Config { id, ..config.clone() }, base.clone());
        let members = base.membership.members().into_iter().map(|id| (id, member(id))).collect();
        let mut cluster = Self {
            now: Mono(0),
            members,
            flying: Vec::new(),
            cut: BTreeSet::new(),
            weather: Weather::default(),
            judge: Judge::default(),
            dice: Dice::new(seed),
            refusals: 0,
            payload: 0,
            context: 0,
            is_timeless: false,
            is_judged: true,
            snapshots: BTreeMap::new(),
        };
        for id in cluster.ids() {
            cluster.restart(id);
        }
        cluster
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        self.members.values().filter(|member| member.core.is_some()).map(Member::id).collect()
    }

    pub(crate) fn is_running(&self, id: NodeId) -> bool {
        self.members[&id].core.is_some()
    }

    pub(crate) fn view(&self, id: NodeId) -> quorate_raft::View<'_> {
        self.members[&id].core.as_ref().unwrap().view()
    }

    /// The leader of the latest term, if there is one.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let views = self.running().into_iter().map(|id| self.view(id));
        views
            .filter(|view| view.role == Role::Leader)
            .max_by_key(|view| view.term)
            .map(|view| view.id)
    }

    /// Gives `id` an event and sends what comes of it.
    pub(crate) fn step(&mut self, id: NodeId, input: &Input) -> Outcome {
        let io_due = self.now.after(self.pick(self.weather.sync_ns));
        let member = self.members.get_mut(&id).unwrap();
        let outcome = member.step(self.now, input, io_due);
        if self.is_timeless {
            member.settle();
        }
        if self.is_judged {
            self.judge.after_step(&self.members, id, &outcome);
        }
        let member = self.members.get_mut(&id).unwrap();
        member.past = member.core.as_ref().map(quorate_raft::Past::of);
        for (to, body) in &outcome.sent {
            self.refusals += u64::from(is_refusal(body));
            self.post(id, *to, body.clone());
        }
        outcome
    }

    pub(crate) fn propose(&mut self, id: NodeId, count: u64) -> Outcome {
        let payloads = (1..=count).map(|more| self.payload + more).collect();
        self.payload += count;
        self.step(id, &Input::Propose(payloads))
    }

    pub(crate) fn read(&mut self, id: NodeId) -> (u64, Outcome) {
        self.context += 1;
        self.judge.read_begins(id, self.context);
        (self.context, self.step(id, &Input::Read(self.context)))
    }

    pub(crate) fn crash(&mut self, id: NodeId, kept: usize) {
        self.members.get_mut(&id).unwrap().crash(kept);
        if self.is_judged {
            self.judge.crashed(&self.members, id);
        }
    }

    pub(crate) fn restart(&mut self, id: NodeId) {
        let (now, chance) = (self.now, self.dice.next());
        let member = self.members.get_mut(&id).unwrap();
        let seed = if self.is_timeless { member.starts } else { chance };
        member.start(now, seed).unwrap();
        if self.is_timeless {
            member.settle();
        }
    }

    /// Starts `id` again with a log of these terms and in this term, as if it had been there.
    pub(crate) fn forge(&mut self, id: NodeId, terms: &[u64], term: u64) {
        let entries: Vec<Entry> =
            terms.iter().zip(1..).map(|(term, index)| Entry::forged(*term, index)).collect();
        let member = self.members.get_mut(&id).unwrap();
        member.crash(0);
        member.disk.log.put(Index(1), &entries);
        member.disk.hard_state = HardState { term: Term(term), vote: None, commit: Index(0) };
        self.restart(id);
    }

    /// Makes the oldest write of `id` durable.
    pub(crate) fn sync_one(&mut self, id: NodeId) -> Option<Outcome> {
        let token = self.members.get_mut(&id).unwrap().disk.sync_one()?;
        Some(self.step(id, &Input::Synced(token)))
    }

    /// Nobody in `one` and in `other` hears each other.
    pub(crate) fn cut(&mut self, one: &[NodeId], other: &[NodeId]) {
        for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
            self.cut.extend([(a, b), (b, a)]);
        }
    }

    pub(crate) fn isolate(&mut self, id: NodeId) {
        let others: Vec<NodeId> = self.ids().into_iter().filter(|other| *other != id).collect();
        self.cut(&[id], &others);
    }

    fn pick(&mut self, (least, most): (u64, u64)) -> u64 {
        least + self.dice.below(most - least + 1)
    }

    /// Puts a message on its way, unless it is lost at once.
    fn post(&mut self, from: NodeId, to: NodeId, body: Body) {
        if let Body::Snapshot { meta, .. } = &body {
            self.snapshots.insert((from, to), meta.clone());
        }
        if self.cut.contains(&(from, to)) || self.dice.chance(self.weather.loss_percent) {
            return self.lost(from, to, &body);
        }
        if self.dice.chance(self.weather.duplicate_percent) {
            let due = self.now.after(self.pick(self.weather.delay_ns));
            self.flying.push(Packet { from, to, due, body: body.clone() });
        }
        let due = self.now.after(self.pick(self.weather.delay_ns));
        self.flying.push(Packet { from, to, due, body });
    }

    /// A snapshot's sender learns that it failed.
    fn lost(&mut self, from: NodeId, to: NodeId, body: &Body) {
        if matches!(body, Body::Snapshot { .. }) && self.is_running(from) {
            self.step(from, &Input::SnapshotSent { to, meta: None });
        }
    }

    /// The message arrives, if anybody is there and can be reached.
    pub(crate) fn deliver(&mut self, packet: Packet) -> Option<Outcome> {
        let Packet { from, to, body, .. } = packet;
        if self.cut.contains(&(from, to)) || !self.is_running(to) {
            self.lost(from, to, &body);
            return None;
        }
        let meta = match &body {
            Body::Snapshot { meta, .. } => Some(meta.clone()),
            Body::Message(_) => None,
        };
        let outcome = self.step(to, &Input::Receive { from, body });
        assert!(
            !self.is_judged
                || !matches!(outcome.verdict, Verdict::Rejected(reject) if reject != quorate_raft::Reject::Faulted),
            "a core refuses what another core said: {:?}",
            outcome.verdict
        );
        if meta.is_some() && self.is_running(from) && !self.is_timeless {
            self.step(from, &Input::SnapshotSent { to, meta });
        }
        Some(outcome)
    }

    /// What happens next on its own, and when.
    fn next_happening(&self) -> Option<(Mono, Happening)> {
        let packets =
            self.flying.iter().enumerate().map(|(at, packet)| (packet.due, Happening::Arrival(at)));
        let running = || self.members.values().filter(|member| member.core.is_some());
        let writes = running().filter_map(|member| {
            Some((member.disk.queue.front()?.due, Happening::Sync(member.id())))
        });
        let wakes = running().filter_map(|member| {
            Some((member.core.as_ref()?.next_deadline()?, Happening::Wake(member.id())))
        });
        packets.chain(writes).chain(wakes).min()
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, span_ns: u64) {
        let end = self.now.after(span_ns);
        while let Some((due, happening)) = self.next_happening().filter(|(due, _)| *due <= end) {
            self.now = self.now.max(due);
            match happening {
                Happening::Arrival(at) => {
                    let packet = self.flying.swap_remove(at);
                    self.deliver(packet);
                }
                Happening::Sync(id) => {
                    self.sync_one(id);
                }
                Happening::Wake(id) => {
                    self.step(id, &Input::Wake);
                    let next = self.members[&id].core.as_ref().unwrap().next_deadline();
                    assert!(
                        next.is_none_or(|next| next > self.now),
                        "a wake leaves its own deadline behind"
                    );
                }
            }
        }
        self.now = end;
    }

    /// Runs until `done`, at most `span_ns`. Says whether it was.
    pub(crate) fn run_until(&mut self, span_ns: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.after(span_ns);
        while !done(self) {
            if self.now >= end {
                return false;
            }
            self.run_for(MILLISECOND);
        }
        true
    }

    /// Whether every running member has applied everything, and the leader has nothing left to commit and stays.
    pub(crate) fn is_even(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let last = self.view(leader).last.index;
        self.view(leader).transferee.is_none()
            && self.running().into_iter().all(|id| self.view(id).released == last)
    }

    /// Everybody runs, hears everybody and has a sound disk; then: one leader, and all that is proposed is applied by all.
    pub(crate) fn heal_and_expect_progress(&mut self) {
        self.cut.clear();
        self.weather = Weather::default();
        for id in self.ids() {
            if !self.is_running(id) {
                self.restart(id);
            } else if self.view(id).fault.is_some() {
                self.step(id, &Input::Repaired);
            }
        }
        let timeout = self.members[&NodeId(1)].config.election_timeout_ns;
        assert!(
            self.run_until(20 * timeout, Self::is_even),
            "no progress after all is well: {}",
            self.describe()
        );
        let leader = self.leader().unwrap();
        let before = self.judge.commit_index();
        assert!(
            matches!(self.propose(leader, 3).verdict, Verdict::Proposed { .. }),
            "{}",
            self.describe()
        );
        let reader = *self.ids().last().unwrap();
        self.read(reader);
        assert!(self.run_until(10 * timeout, |cluster| cluster.is_even()
            && cluster.judge.reads_open() == 0));
        assert!(self.judge.commit_index() >= Index(before.0 + 3));
    }

    /// One line a member.
    pub(crate) fn describe(&self) -> String {
        self.ids()
            .into_iter()
            .fold(String::new(), |text, id| text + &self.describe_member(id) + "\n")
    }

    pub(crate) fn describe_member(&self, id: NodeId) -> String {
        if !self.is_running(id) {
            return format!("{id} is down");
        }
        let view = self.view(id);
        let leader = view.leader.map_or("-".to_string(), |leader| leader.to_string());
        let vote = view.vote.map_or("-".to_string(), |vote| vote.to_string());
        let mut text = format!(
            "{id} {:?} term={} vote={vote} leader={leader} commit={} last={} durable={}",
            view.role, view.term, view.commit, view.last, view.durable
        );
        if view.base.index > Index(0) {
            let _ = write!(text, " base={}", view.base);
        }
        if let Some(fault) = view.fault {
            let _ = write!(text, " fault={fault:?}");
        }
        for peer in view.peers() {
            let _ = write!(
                text,
                " {}:{:?}/{}/{}",
                peer.node, peer.state, peer.match_index, peer.next_index
            );
        }
        text
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrival(usize),
    Sync(NodeId),
    Wake(NodeId),
}

fn is_refusal(body: &Body) -> bool {
    matches!(body, Body::Message(Message::Appended { outcome: AppendOutcome::Rejected { .. }, .. }))
}
