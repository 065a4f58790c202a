//! The world: members, what is under way between them, their clients, and one queue of all that is going to happen.
//!
//! Whatever happens, happens to one member at one moment: a round of one of its sides, a message that arrives, a client's
//! turn. After each, what the member sent is on its way, its next rounds are planned, its clients have heard, and the judges
//! have looked at it.

use std::collections::{BTreeMap, BTreeSet};

use quorate_node::{MemberCard, PeerMessage, SnapshotProgress};
use quorate_raft::NodeId;
use quorate_storage::vfs::CrashStyle;

use super::{
    chronicle::Chronicle,
    clients::{sessions, watchers},
    dawdler::Dawdler,
    doors::Doors,
    history::History,
    judge::Witness,
    member::Member,
    network::{Network, exponential},
    plan::{MS, Plan, SECOND},
    session::Session,
    watcher::Watcher,
};
use crate::{
    dice::Dice,
    swarm::Rolling,
    world::{Conviction, Counts, Judge},
};

/// How often a server looks at its clock.
const TICK_NS: u64 = 200 * MS;
/// How long a member that has just started must not show an old state: what it waits for a quorum, less what its clock may be
/// ahead.
const READY_LEAST_NS: u64 = 4_500 * MS;
/// How much later than it could a thread runs, at most.
const THREAD_DELAY_NS: u64 = 40_000;

/// As many short jobs take the time of one long one.
const SHORT_JOBS: u64 = 100;

/// A side of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Raft = 0,
    Apply = 1,
    Beside = 2,
    Log = 3,
}

const SIDES: [Side; 4] = [Side::Raft, Side::Apply, Side::Beside, Side::Log];

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Event {
    Round {
        member: usize,
        boot: u64,
        side: Side,
    },
    Tick {
        member: usize,
        boot: u64,
    },
    Arrival {
        from: usize,
        to: usize,
        /// What the sender said of itself when the connection began.
        card: MemberCard,
        message: PeerMessage,
    },
    /// A member hears that another one knows it from another directory.
    Refused {
        member: usize,
        card: MemberCard,
        by: usize,
    },
    /// A member hears that a connection is up or down.
    Connection {
        at: usize,
        peer: usize,
        up: bool,
    },
    Session(usize),
    Watcher(usize),
    Dawdler(usize),
    Mishap,
    Restart(usize),
    /// The safety phase is over.
    Heal,
}

/// One world.
#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    pub(super) dice: Dice,
    pub(super) network: Network,
    pub(super) members: Vec<Member>,
    pub(super) sessions: Vec<Session>,
    pub(super) watchers: Vec<Watcher>,
    pub(super) dawdlers: Vec<Dawdler>,
    pub(super) history: History,
    pub(super) witness: Witness,
    /// Members whose disk was told to fail: they may stop with an error.
    pub(super) excused: BTreeSet<usize>,
    /// Members with a bit to flip before they start again.
    pub(super) rotten: BTreeSet<usize>,
    /// The power is to go while a snapshot is installed.
    pub(super) install_cut: bool,
    pub(super) doors: Doors,
    pub(super) healed_at: Option<u64>,
    /// How many mishaps there were, those that were left out included.
    pub(super) mishaps: u64,
    /// Clients ask for nothing more.
    pub(super) closing: bool,
    pub(super) events: u64,
    pub(super) hash: Rolling,
    pub(super) counts: Counts,
    pub(super) chronicle: Chronicle,
    numbers: BTreeMap<NodeId, usize>,
}

impl World {
    pub(super) fn new(plan: Plan, chronicle: Chronicle) -> Self {
        let members = Member::all(&plan);
        let numbers = members.iter().map(|member| (member.id, member.number)).collect();
        let mut world = Self {
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            dice: Dice::fork(plan.seed, 0x3071d),
            network: Network::new(plan.network, Dice::fork(plan.seed, 0x4e7)),
            witness: Witness::new(members.len()),
            members,
            sessions: sessions(&plan),
            watchers: watchers(&plan),
            dawdlers: Dawdler::all(&plan),
            history: History::default(),
            excused: BTreeSet::new(),
            rotten: BTreeSet::new(),
            install_cut: false,
            doors: Doors::default(),
            healed_at: None,
            mishaps: 0,
            closing: false,
            events: 0,
            hash: Rolling::new(plan.seed),
            counts: Counts::default(),
            chronicle,
            numbers,
            plan,
        };
        world.plan_beginning();
        world
    }

    fn plan_beginning(&mut self) {
        for member in 0..self.members.len() {
            let at = self.dice.below(100 * MS);
            self.put(at, Event::Restart(member));
        }
        for session in 0..self.sessions.len() {
            self.put(SECOND, Event::Session(session));
        }
        for watcher in 0..self.watchers.len() {
            self.put(SECOND, Event::Watcher(watcher));
        }
        for dawdler in 0..self.dawdlers.len() {
            self.put(SECOND, Event::Dawdler(dawdler));
        }
        if !self.plan.mishaps.is_empty() {
            self.put(2 * SECOND, Event::Mishap);
        }
        self.put(self.plan.safety_ns, Event::Heal);
    }

    /// Plans something.
    pub(super) fn put(&mut self, at: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), event);
    }

    /// Lets the next thing happen.
    ///
    /// # Errors
    /// A judge convicts.
    pub(super) fn step(&mut self) -> Result<(), Conviction> {
        let Some(((at, _), event)) = self.queue.pop_first() else { return Ok(()) };
        self.now = at;
        self.events += 1;
        self.hash.add(at);
        match event {
            Event::Round { member, boot, side } => self.round(member, boot, side),
            Event::Tick { member, boot } => self.tick(member, boot),
            Event::Arrival { from, to, card, message } => self.arrive((from, to), card, message),
            Event::Refused { member, card, by } => self.refused(member, card, by),
            Event::Connection { at, peer, up } => self.connection(at, peer, up),
            Event::Session(session) => self.turn(session),
            Event::Watcher(watcher) => self.turn_of_watcher(watcher),
            Event::Dawdler(dawdler) => self.turn_of_dawdler(dawdler),
            Event::Mishap => {
                self.mishap();
                Ok(())
            }
            Event::Restart(member) => self.restart(member),
            Event::Heal => {
                self.heal();
                Ok(())
            }
        }
    }

    /// Whether this process is the one that was meant, and not standing still; if it stands still, `again` comes later.
    fn is_awake(
        &mut self,
        member: usize,
        boot: Option<u64>,
        again: impl FnOnce() -> Event,
    ) -> bool {
        let Some(one) = self.members.get(member) else { return false };
        if one.running.is_none() || boot.is_some_and(|boot| boot != one.boots) {
            return false;
        }
        let until = one.paused_until;
        if until > self.now {
            self.excuse_until(member, until);
            // Its threads wake in any order.
            let at = until + self.dice.below(MS);
            self.put(at, again());
            return false;
        }
        true
    }

    fn round(&mut self, member: usize, boot: u64, side: Side) -> Result<(), Conviction> {
        if !self.is_awake(member, Some(boot), || Event::Round { member, boot, side }) {
            return Ok(());
        }
        let now = self.now;
        if self.is_hung(member, side) {
            return Ok(());
        }
        let busy_ns = self.disk_time(member);
        let Some(one) = self.members.get_mut(member) else { return Ok(()) };
        one.tell_time(now);
        let Some(running) = &mut one.running else { return Ok(()) };
        let busy_until = running.busy_until(side);
        // Another one is planned at another time.
        let Some(planned) = running.planned.get_mut(side as usize) else { return Ok(()) };
        if planned.take_if(|planned| *planned <= now).is_none() {
            return Ok(());
        }
        if busy_until > now {
            *planned = Some(busy_until);
            self.put(busy_until, Event::Round { member, boot, side });
            return Ok(());
        }
        let calls = one.disk.counts();
        let outcome = match side {
            Side::Raft => {
                one.unheard_since = None;
                running.raft.round().map(drop)
            }
            Side::Log => {
                running.log.round();
                Ok(())
            }
            Side::Apply => running.apply.round().map(drop),
            Side::Beside => {
                running.backlog.take().into_iter().for_each(|job| job());
                Ok(())
            }
        };
        if side == Side::Apply && one.disk.counts().syncs > calls.syncs {
            running.hang(now + busy_ns);
        }
        let installs = running.raft.is_installing();
        match outcome {
            Ok(()) => {
                if side == Side::Raft {
                    self.look_at_calls(member, calls, "the Raft side")?;
                }
                self.maybe_cut_install(member, installs);
                self.settle(member)
            }
            Err(error) => self.stopped(member, &error),
        }
    }

    /// Whether a side waits for a disk that hangs. It goes on when the disk does.
    fn is_hung(&mut self, member: usize, side: Side) -> bool {
        let Some(one) = self.members.get_mut(member).filter(|_| side != Side::Raft) else {
            return false;
        };
        let (boot, until) = (one.boots, one.hung_until);
        let slot = one.running.as_mut().and_then(|running| running.planned.get_mut(side as usize));
        let Some(planned) = slot.filter(|_| until > self.now) else { return false };
        *planned = Some(until);
        self.put(until, Event::Round { member, boot, side });
        true
    }

    /// How long a sync takes here and now.
    fn disk_time(&mut self, member: usize) -> u64 {
        let disk = self.plan.disk;
        let mut lasts_ns = disk.sync_least_ns + exponential(&mut self.dice, disk.sync_more_ns);
        if let Some(one) = self.members.get(member)
            && one.slow_disk.0 > self.now
        {
            lasts_ns += one.slow_disk.1;
        }
        lasts_ns
    }

    /// How long a job takes at most, or waits for its turn: long ones as long as the plan says.
    fn job_time(&self, member: usize) -> u64 {
        let running = self.members.get(member).and_then(|one| one.running.as_ref());
        let is_short = running.is_some_and(|running| running.backlog.is_short());
        if is_short { self.plan.job_delay_ns / SHORT_JOBS } else { self.plan.job_delay_ns }
    }

    fn tick(&mut self, member: usize, boot: u64) -> Result<(), Conviction> {
        if !self.is_awake(member, Some(boot), || Event::Tick { member, boot }) {
            return Ok(());
        }
        let now = self.now;
        self.put(now + TICK_NS, Event::Tick { member, boot });
        let Some(one) = self.members.get_mut(member) else { return Ok(()) };
        one.tell_time(now);
        if let Some(running) = &mut one.running {
            running.keeper.tick();
        }
        self.settle(member)
    }

    fn connection(&mut self, at: usize, peer: usize, up: bool) -> Result<(), Conviction> {
        if !self.is_awake(at, None, || Event::Connection { at, peer, up }) {
            return Ok(());
        }
        if up && !self.would_dial(at, peer) {
            return self.settle(at);
        }
        let Some(peer) = self.members.get(peer).map(|one| one.id) else { return Ok(()) };
        let Some(one) = self.members.get(at) else { return Ok(()) };
        one.tell_time(self.now);
        if let Some(running) = &one.running {
            if up {
                running.handle.peer_connected(peer);
                running.handle.introduce(peer);
            } else {
                running.handle.peer_disconnected(peer);
            }
        }
        self.settle(at)
    }

    /// After something happened to a member: what it sent leaves, what it has to do is planned, its clients hear, judges look.
    pub(super) fn settle(&mut self, member: usize) -> Result<(), Conviction> {
        self.carry(member)?;
        self.plan_rounds(member);
        self.wake_clients(member)?;
        if let Some(failure) = self.history.take_failure()
            && !self.excused.contains(&member)
        {
            let detail = format!("a client of member {member} is told: {failure}");
            return Err(Conviction::new(Judge::Contract, detail));
        }
        self.look_where_told(member)?;
        let Some(one) = self.members.get_mut(member) else { return Ok(()) };
        if let (Some(reader), Some(running)) = (one.reader(), &mut one.running) {
            running.views.note(reader.view());
        }
        one.note_service(self.now);
        one.look_at_limits()?;
        one.look_awake(self.now, &self.plan)?;
        self.sessions.iter_mut().try_for_each(|session| session.look_refused(&self.plan))?;
        // What a member without its disk believes counts for nothing; what others believe of it is seen at them.
        if !self.doors.is_wiped(member) {
            self.witness.look(one, self.excused.contains(&member))?;
        }
        if let Some(view) = one.running.as_ref().and_then(|running| running.raft.view()) {
            self.hash.add(view.term.0 << 32 ^ view.commit.0);
            self.hash.add(view.last.index.0);
            self.chronicle.note(self.now, member, &view);
        }
        Ok(())
    }

    fn carry(&mut self, from: usize) -> Result<(), Conviction> {
        let Some(card) = self.card(from) else { return Ok(()) };
        let sent = self.members.get(from).and_then(|one| one.running.as_ref());
        let sent = sent.map(|running| running.outbox.take()).unwrap_or_default();
        for (to, message) in sent {
            if let (Some(wrong), Some(to)) =
                (self.mislabelled(&message), self.numbers.get(&to).copied())
            {
                self.put(self.now, Event::Arrival { from, to, card, message: wrong });
            }
            let Some(to) = self.numbers.get(&to).copied() else { continue };
            if !self.would_dial(from, to) {
                continue;
            }
            if matches!(message, PeerMessage::SnapshotAck { progress: SnapshotProgress::Done, .. })
            {
                self.counts.installs += 1;
            }
            let Some(message) = self.over_the_wire((from, to), message)? else { continue };
            let arrivals = self.network.arrivals(self.now, (from, to), &message);
            self.chronicle.message(self.now, (from, to), &message, &arrivals);
            for at in arrivals {
                let message = message.clone();
                self.put(at, Event::Arrival { from, to, card, message });
            }
        }
        Ok(())
    }

    pub(super) fn plan_rounds(&mut self, member: usize) {
        for side in SIDES {
            let most_ns = match side {
                Side::Raft | Side::Apply => THREAD_DELAY_NS,
                Side::Beside => self.job_time(member),
                Side::Log => self.disk_time(member),
            };
            let delay_ns = self.dice.below(most_ns);
            let now = self.now;
            if side == Side::Log && self.writes_already(member) {
                continue;
            }
            let Some(one) = self.members.get_mut(member) else { return };
            let boot = one.boots;
            let Some(at) = one.next_round(side, now) else { continue };
            let at = at.max(one.install_end(side, now, self.plan.install_ns)) + delay_ns;
            let Some(running) = &mut one.running else { return };
            let Some(planned) = running.planned.get_mut(side as usize) else { continue };
            if planned.is_none_or(|planned| planned > at || planned < now) {
                *planned = Some(at);
                self.put(at, Event::Round { member, boot, side });
            }
        }
    }

    /// Whether the end of a write is planned.
    fn writes_already(&mut self, member: usize) -> bool {
        let now = self.now;
        let Some(one) = self.members.get_mut(member) else { return false };
        let Some(running) = &one.running else { return false };
        if running.log.is_ready() && running.raft.is_writing() {
            one.writes_since.get_or_insert(now);
        } else {
            one.writes_since = None;
        }
        let planned = running.planned.get(Side::Log as usize).copied().flatten();
        planned.is_some_and(|planned| planned >= now)
    }

    /// What is under way from and to a member is lost.
    pub(super) fn forget_arrivals(&mut self, member: usize) {
        let touches = |event: &Event| matches!(event, Event::Arrival { from, to, .. } if *from == member || *to == member);
        self.queue.retain(|_, event| !touches(event));
    }

    /// What is under way from one member to another is lost.
    pub(super) fn forget_arrivals_between(&mut self, sender: usize, receiver: usize) {
        let is_one = |event: &Event| matches!(event, Event::Arrival { from, to, .. } if (*from, *to) == (sender, receiver));
        self.queue.retain(|_, event| !is_one(event));
    }

    /// A process is gone: its clients notice, its peers a little later.
    pub(super) fn lose_process(&mut self, member: usize) {
        let now = self.now;
        for session in self.sessions.iter_mut().filter(|session| session.member == member) {
            session.disconnect(now, &mut self.history);
        }
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.member == member) {
            watcher.disconnect(now, &mut self.history.watches);
        }
        for dawdler in self.dawdlers.iter_mut().filter(|dawdler| dawdler.member == member) {
            dawdler.disconnect(now);
        }
        if let Some(one) = self.members.get_mut(member) {
            one.running = None;
            one.paused_until = 0;
        }
        self.connections(member, false);
    }

    /// The other members hear of this one.
    fn connections(&mut self, member: usize, up: bool) {
        for other in (0..self.members.len()).filter(|other| *other != member) {
            let at = self.now + self.dice.within(MS, 20 * MS);
            self.put(at, Event::Connection { at: other, peer: member, up });
            if up {
                self.put(at, Event::Connection { at: member, peer: other, up });
            }
        }
    }

    /// A process ended by itself, with an error: it must have been told so by its disk.
    fn stopped(&mut self, member: usize, error: &anyhow::Error) -> Result<(), Conviction> {
        if self.ends_for_its_directory(member, error)? {
            return Ok(());
        }
        if !self.excused.contains(&member) {
            let detail = format!("member {member} stopped: {error:#}");
            return Err(Conviction::new(Judge::Contract, detail));
        }
        self.chronicle.fault(self.now, Some(member), format!("stops: {error:#}"), None);
        self.crash(member);
        Ok(())
    }

    /// The process dies, and what its disk had not made durable is in doubt. It starts again in a while.
    pub(super) fn crash(&mut self, member: usize) {
        self.counts.crashes += 1;
        let style = self.dice.pick(&CrashStyle::ALL).copied().unwrap_or(CrashStyle::LoseAll);
        let seed = self.dice.draw();
        self.chronicle.crash(self.now, member);
        if let Some(one) = self.members.get_mut(member) {
            // First, so that nothing that is dropped can still write.
            one.disk.crash(style, seed);
            one.power_was_lost = style != CrashStyle::KeepAll;
        }
        self.excused.remove(&member);
        self.lose_process(member);
        let most_ns = if self.healed_at.is_some() { 300 * MS } else { 5 * SECOND };
        let at = self.now + self.dice.within(20 * MS, most_ns);
        self.put(at, Event::Restart(member));
    }

    fn restart(&mut self, member: usize) -> Result<(), Conviction> {
        let now = self.now;
        if self.rotten.remove(&member) && !self.doors.is_wiped(member) {
            self.try_a_flipped_bit(member)?;
        }
        let Some(one) = self.members.get_mut(member) else { return Ok(()) };
        match one.start(now) {
            Ok(()) => {
                let boot = one.boots;
                self.history.starts(member, now + READY_LEAST_NS);
                let ticks_at = now + self.dice.below(TICK_NS);
                self.put(ticks_at, Event::Tick { member, boot });
                self.connections(member, true);
                self.chronicle.fault(now, Some(member), "starts".into(), None);
                self.settle(member)
            }
            Err(_) if self.excused.contains(&member) => {
                self.crash(member);
                Ok(())
            }
            Err(error) => {
                let detail = format!("member {member} can't start: {error:#}");
                Err(Conviction::new(Judge::Recovery, detail))
            }
        }
    }
}
