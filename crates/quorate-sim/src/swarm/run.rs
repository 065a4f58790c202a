//! One run: the plan's faults and clients, the network and the disks, on one line of time.
//!
//! Everything that recurs has an alarm: each member's deadline and sync, the clients, the next mishap. Messages wait in a heap. The
//! next thing that happens is the earliest of all; ties are broken by a fixed order, so one seed gives one run.
//!
//! First comes the safety phase, in which things go wrong. Then, in [`mend`](super::mend), one quorum is healed, everything else
//! stays as it is or gets worse, and there must be progress.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_raft::{EntryId, Role, Verdict};

use super::calls::{code_of, garbled, perform};
use super::clock::Clock;
use super::hash::Rolling;
use super::misfortune::Ending;
use super::mishap::Target;
use super::network::{Network, kind_of};
use super::plan::{MEMBERS_MAX, Options, Plan};
use super::record::Recorder;
use super::tape::{Act, Mark, Taped};
use super::words;
use crate::chart::{Fate, Trace, Unit, Window};
use crate::dice::{Dice, mix};
use crate::mutants::driver;
use crate::world::{Body, Conviction, Counts, Input, Judge, Parcel, World, hold, id_of, seat_of};

/// The alarms: a wake and a sync for every seat, then the clients, then mishaps and their ends.
const ALARMS: usize = 2 * MEMBERS_MAX + 2;
const CLIENT: usize = 2 * MEMBERS_MAX;
const MISHAP: usize = CLIENT + 1;
/// A core that wants to be woken so often without time passing would never let a server rest.
const WAKES_IN_A_ROW_MAX: u32 = 1_000;

/// What became of a seed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// How many things happened.
    pub events: u64,
    /// How long it was, in simulated nanoseconds.
    pub simulated_ns: u64,
    /// The fingerprint of all that happened.
    pub hash: u128,
    /// How much of what is interesting happened.
    pub counts: Counts,
    /// What broke, if something did.
    pub failure: Option<Conviction>,
}

/// Something that arrives.
#[derive(Debug)]
enum Delivery {
    /// A message, when it left, and whether it is a further copy.
    Parcel(Parcel, u64, Fate),
    /// A connection broke; its sender hears of it.
    Broken { seat: usize, life: u32, peer: usize },
    /// The stream of a snapshot ended, at its sender.
    Report { seat: usize, life: u32, to: usize, last: Option<EntryId> },
}

/// Who looks on, and writes down.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Every call to the world.
    pub(crate) tape: Option<Vec<Taped>>,
    /// What people want to see.
    pub(crate) recorder: Option<Recorder>,
}

/// A run under way.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) world: World,
    pub(crate) now: u64,
    pub(crate) network: Network,
    pub(crate) clocks: [Clock; MEMBERS_MAX],
    pub(crate) paused_until: [u64; MEMBERS_MAX],
    /// At least and at most.
    pub(crate) sync_ns: [(u64, u64); MEMBERS_MAX],
    pub(crate) endings: BinaryHeap<Reverse<(u64, u64, Ending)>>,
    pub(crate) mishaps_done: usize,
    pub(crate) numbers: u64,
    pub(crate) dice: Dice,
    pub(crate) watch: Watch,
    pub(crate) clients_stopped: bool,
    alarms: [u64; ALARMS],
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    slab: Vec<Option<Delivery>>,
    free: Vec<u32>,
    lives: [u32; MEMBERS_MAX],
    wakes_in_a_row: u32,
    hash: Rolling,
    events: u64,
}

/// Runs one seed.
pub fn run_seed(seed: u64, options: &Options) -> Outcome {
    run_plan(&Plan::of(seed, options), Watch::default()).0
}

/// Runs one seed and writes down what happens in a window of its time; without one, all of it.
pub fn chart_seed(seed: u64, options: &Options, window: Option<Window>) -> (Outcome, Trace) {
    let plan = Plan::of(seed, options);
    let recorder = Some(Recorder::new(&plan, Unit::Nanoseconds, window));
    let (outcome, watch) = run_plan(&plan, Watch { tape: None, recorder });
    let end = |recorder: Recorder| recorder.end(outcome.simulated_ns, outcome.failure.as_ref());
    let trace = watch.recorder.map(end).unwrap_or_default();
    (outcome, trace)
}

/// Runs a plan before the eyes of `watch`.
pub(crate) fn run_plan(plan: &Plan, watch: Watch) -> (Outcome, Watch) {
    let mut run = Run::new(plan, watch);
    let ended = catch_unwind(AssertUnwindSafe(|| run.play()));
    let failure = match ended {
        Ok(Ok(())) => None,
        Ok(Err(conviction)) => Some(conviction),
        Err(_) => Some(Conviction::new(Judge::Panic, "the code under test panicked")),
    };
    let failure = failure.map(|failure| match run.world.atlas.verdict() {
        None => failure,
        Some(why) => Conviction::new(failure.judge, format!("{} ({why})", failure.detail)),
    });
    let outcome = Outcome {
        seed: plan.seed,
        events: run.events,
        simulated_ns: run.now,
        hash: run.hash.value(),
        counts: run.world.court.counts,
        failure,
    };
    (outcome, run.watch)
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, watch: Watch) -> Self {
        let world = plan.world();
        Self {
            plan,
            world,
            now: 0,
            network: Network::new(plan.seed, plan.weather),
            clocks: std::array::from_fn(|seat| Clock::new(mix(plan.seed ^ seat as u64) >> 24)),
            paused_until: [0; MEMBERS_MAX],
            sync_ns: [plan.sync_ns; MEMBERS_MAX],
            endings: BinaryHeap::new(),
            mishaps_done: 0,
            numbers: 0,
            dice: Dice::fork(plan.seed, 2),
            watch,
            clients_stopped: false,
            alarms: [u64::MAX; ALARMS],
            heap: BinaryHeap::new(),
            slab: Vec::new(),
            free: Vec::new(),
            lives: [0; MEMBERS_MAX],
            wakes_in_a_row: 0,
            hash: Rolling::new(plan.seed),
            events: 0,
        }
    }

    fn play(&mut self) -> Result<(), Conviction> {
        for seat in 0..self.plan.members() {
            self.start(seat)?;
        }
        self.set(CLIENT, self.plan.client_gap_ns);
        self.arm_mishap();
        self.run_to(self.plan.safety_ns)?;
        self.expect_progress()
    }

    /// Lets everything happen that happens before `end`.
    pub(crate) fn run_to(&mut self, end: u64) -> Result<(), Conviction> {
        loop {
            let (alarm, due) = self.earliest();
            let message = self.heap.peek().map_or(u64::MAX, |Reverse((at, _, _))| *at);
            if due.min(message) >= end {
                self.now = end;
                return Ok(());
            }
            if message <= due {
                self.now = message;
                self.deliver_next()?;
            } else {
                self.now = due.max(self.now);
                self.ring(alarm)?;
            }
        }
    }

    fn earliest(&self) -> (usize, u64) {
        let mut best = (0, u64::MAX);
        for (alarm, due) in self.alarms.iter().enumerate() {
            if *due < best.1 {
                best = (alarm, *due);
            }
        }
        best
    }

    pub(crate) fn set(&mut self, alarm: usize, due: u64) {
        if let Some(slot) = self.alarms.get_mut(alarm) {
            *slot = due;
        }
    }

    pub(crate) fn alarm(&self, alarm: usize) -> u64 {
        self.alarms.get(alarm).copied().unwrap_or(u64::MAX)
    }

    fn ring(&mut self, alarm: usize) -> Result<(), Conviction> {
        match alarm {
            CLIENT => self.client(),
            MISHAP => self.misfortune(),
            wake if wake < MEMBERS_MAX => self.act(wake, Act::Wake),
            sync => {
                let seat = sync - MEMBERS_MAX;
                let count = self.world.members.get(seat).map_or(0, |member| member.disk.syncing);
                self.act(seat, Act::Sync { count })
            }
        }
    }

    fn local(&self, seat: usize) -> quorate_raft::Mono {
        self.clocks.get(seat).map_or(quorate_raft::Mono(0), |clock| clock.local(self.now))
    }

    /// Makes a call to the world, and carries on with what comes of it.
    pub(crate) fn act(&mut self, seat: usize, act: Act) -> Result<(), Conviction> {
        let now = self.local(seat);
        if let Some(tape) = &mut self.watch.tape {
            tape.push(Taped { seat, now, act });
        }
        if let Some(recorder) = &mut self.watch.recorder {
            recorder.act(self.now, seat, &act);
        }
        let code = code_of(&act);
        let verdict = perform(&mut self.world, seat, now, &act)?;
        self.after(seat, code, verdict)
    }

    fn deliver_next(&mut self) -> Result<(), Conviction> {
        let Some(Reverse((_, number, slot))) = self.heap.pop() else { return Ok(()) };
        let place = usize::try_from(slot).unwrap_or(usize::MAX);
        let Some(delivery) = self.slab.get_mut(place).and_then(Option::take) else { return Ok(()) };
        let seat = match &delivery {
            Delivery::Parcel(parcel, ..) => seat_of(parcel.to),
            Delivery::Report { seat, .. } | Delivery::Broken { seat, .. } => *seat,
        };
        let resumes = self.paused_until.get(seat).copied().unwrap_or(0);
        if resumes > self.now {
            // It waits, in its order, for the process to go on.
            if let Some(slot) = self.slab.get_mut(place) {
                *slot = Some(delivery);
            }
            self.heap.push(Reverse((resumes, number, slot)));
            return Ok(());
        }
        self.free.push(slot);
        match delivery {
            Delivery::Parcel(parcel, left, fate) => self.deliver(seat, parcel, (left, fate)),
            Delivery::Report { life, to, last, .. } => {
                if self.lives.get(seat) != Some(&life) {
                    return Ok(());
                }
                self.act(seat, Act::SnapshotSent { to, last })
            }
            Delivery::Broken { life, peer, .. } => {
                if self.lives.get(seat) != Some(&life) {
                    return Ok(());
                }
                self.act(seat, Act::Unreachable { peer })
            }
        }
    }

    fn deliver(
        &mut self,
        seat: usize,
        parcel: Parcel,
        (left, fate): (u64, Fate),
    ) -> Result<(), Conviction> {
        let from = seat_of(parcel.from);
        let cut = self.plan.cuts_in_flight && self.network.is_cut(from, seat);
        let lost = cut || self.world.running(seat).is_none();
        self.record_message(&parcel, left, if lost { Fate::Lost } else { fate });
        if lost {
            return Ok(());
        }
        let now = self.local(seat);
        if let Some(tape) = &mut self.watch.tape {
            let act = Act::Deliver { from, mark: Mark::of(&parcel.body) };
            tape.push(Taped { seat, now, act });
        }
        let kind = kind_of(&parcel.body) as u64;
        let input = Input::Arrival { from: parcel.from, body: parcel.body };
        let verdict = self.world.step(seat, now, input)?;
        self.after(seat, kind, verdict)
    }

    /// Looks at what a step changed: what was sent, what must be synced, when to wake.
    fn after(
        &mut self,
        seat: usize,
        code: u64,
        verdict: Option<Verdict>,
    ) -> Result<(), Conviction> {
        self.events += 1;
        self.carry();
        if let Some(recorder) = &mut self.watch.recorder {
            recorder.state(self.now, seat, self.world.view(seat));
        }
        self.arm(seat)?;
        self.hash.add(self.now);
        let settled = u64::from(matches!(verdict, Some(Verdict::Ok | Verdict::Proposed { .. })));
        let mut state = code << 8 | (seat as u64) << 1 | settled;
        if let Some(view) = self.world.view(seat) {
            state ^= view.term.0 << 16
                ^ view.last.index.0.rotate_left(32)
                ^ view.commit.0.rotate_left(48)
                ^ (view.role as u64) << 62;
        }
        self.hash.add(state);
        Ok(())
    }

    /// Hands what was sent to the network.
    fn carry(&mut self) {
        if self.world.outbox.is_empty() {
            return;
        }
        let mut outbox = std::mem::take(&mut self.world.outbox);
        for parcel in outbox.drain(..) {
            let (from, to, kind) =
                (seat_of(parcel.from), seat_of(parcel.to), kind_of(&parcel.body));
            let fate = self.network.fate(self.now, from, to, kind);
            if let Some(at) = fate.broken {
                let life = self.lives.get(from).copied().unwrap_or(0);
                self.post(at, Delivery::Broken { seat: from, life, peer: to });
                if self.plan.mutant == driver::BAD_FRAME {
                    let parcel = garbled(&parcel);
                    self.post(at, Delivery::Parcel(parcel, self.now, Fate::Delivered));
                }
            }
            if let Body::Snapshot { snapshot, .. } = &parcel.body {
                let last = fate.first.map(|_| snapshot.last);
                let life = self.lives.get(from).copied().unwrap_or(0);
                let at = fate.first.unwrap_or(self.now) + self.plan.weather.delay_ns + 1;
                self.post(at, Delivery::Report { seat: from, life, to, last });
            }
            if fate.first.is_none() && fate.second.is_none() {
                self.record_message(&parcel, self.now, Fate::Lost);
            }
            if let Some(at) = fate.second {
                let copy = if fate.first.is_some() { Fate::Again } else { Fate::Delivered };
                self.post(at, Delivery::Parcel(parcel.clone(), self.now, copy));
            }
            if let Some(at) = fate.first {
                self.post(at, Delivery::Parcel(parcel, self.now, Fate::Delivered));
            }
        }
        self.world.outbox = outbox;
    }

    fn record_message(&mut self, parcel: &Parcel, left: u64, fate: Fate) {
        if let Some(recorder) = &mut self.watch.recorder {
            let ends = (seat_of(parcel.from), seat_of(parcel.to));
            let what = (kind_of(&parcel.body), words::message(&parcel.body));
            recorder.message((left, self.now), ends, fate, what);
        }
    }

    fn post(&mut self, at: u64, delivery: Delivery) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slab.push(None);
            u32::try_from(self.slab.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.slab.get_mut(usize::try_from(slot).unwrap_or(usize::MAX)) {
            *place = Some(delivery);
        }
        self.numbers += 1;
        self.heap.push(Reverse((at, self.numbers, slot)));
    }

    /// Sets a member's alarms anew.
    pub(crate) fn arm(&mut self, seat: usize) -> Result<(), Conviction> {
        let Some(member) = self.world.members.get_mut(seat) else { return Ok(()) };
        let resumes = self.paused_until.get(seat).copied().unwrap_or(0);
        let Some(core) = &member.core else {
            self.set(seat, u64::MAX);
            self.set(MEMBERS_MAX + seat, u64::MAX);
            return Ok(());
        };
        let deadline = core.next_deadline();
        let long = member.log.last().index.0 - member.log.base().index.0 > self.plan.log_max;
        if member.disk.begin_sync() {
            let (least, most) = self.sync_ns.get(seat).copied().unwrap_or(self.plan.sync_ns);
            let due = self.now + self.dice.within(least, most);
            self.set(MEMBERS_MAX + seat, due.max(resumes));
        } else if member.disk.syncing == 0 {
            self.set(MEMBERS_MAX + seat, u64::MAX);
        }
        let wake = match (deadline, self.clocks.get(seat)) {
            (Some(deadline), Some(clock)) => clock.when(deadline).max(resumes),
            _ => u64::MAX,
        };
        self.set(seat, wake);
        self.wakes_in_a_row = if wake <= self.now { self.wakes_in_a_row + 1 } else { 0 };
        hold(self.wakes_in_a_row < WAKES_IN_A_ROW_MAX, Judge::Liveness, || {
            format!("node {} wants to be woken again and again", id_of(seat))
        })?;
        if long { self.cut_log(seat) } else { Ok(()) }
    }

    /// The log is long: drops most of what is applied, if that is much.
    fn cut_log(&mut self, seat: usize) -> Result<(), Conviction> {
        let kept = self.plan.log_max / 4;
        let base = self.world.view(seat).map_or(0, |view| view.base.index.0);
        let upto = self.world.compactable(seat, kept);
        let much = upto.is_some_and(|upto| upto.0 > base + self.plan.log_max / 2);
        if much { self.act(seat, Act::Compact { kept }) } else { Ok(()) }
    }

    /// The seat of the leader of the highest term.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leaders = (0..self.plan.members()).filter_map(|seat| {
            self.world
                .view(seat)
                .filter(|view| view.role == Role::Leader)
                .map(|view| (view.term, seat))
        });
        leaders.max().map(|(_, seat)| seat)
    }

    pub(crate) fn aim(&self, target: Target) -> usize {
        self.leader().filter(|_| target.leader).unwrap_or(target.seat)
    }

    /// A client proposes or reads: mostly where it was told the leader is, sometimes anywhere, and above all at members that
    /// believe to lead and do not.
    fn client(&mut self) -> Result<(), Conviction> {
        let gap = self.plan.client_gap_ns;
        let next = if self.clients_stopped {
            u64::MAX
        } else {
            self.now + self.dice.within(gap / 2, gap + gap / 2)
        };
        self.set(CLIENT, next);
        let draw = self.dice.draw();
        let anywhere = usize::try_from(draw >> 32).unwrap_or(0) % self.plan.members();
        let seat =
            if draw.trailing_zeros() >= 3 { anywhere } else { self.leader().unwrap_or(anywhere) };
        if self.dice.chance(self.plan.read_ppm) {
            self.read(seat)?;
            let leads =
                |seat: &usize| self.world.view(*seat).is_some_and(|view| view.role == Role::Leader);
            let other = (0..self.plan.members()).filter(|other| *other != seat).find(leads);
            return other.map_or(Ok(()), |other| self.read(other));
        }
        let count = self.dice.within(1, self.plan.batch_max);
        self.propose(seat, count)
    }

    pub(crate) fn propose(&mut self, seat: usize, count: u64) -> Result<(), Conviction> {
        if self.paused_until.get(seat).is_some_and(|until| *until > self.now) {
            return Ok(());
        }
        self.act(seat, Act::Propose { count })
    }

    pub(crate) fn read(&mut self, seat: usize) -> Result<(), Conviction> {
        if self.paused_until.get(seat).is_some_and(|until| *until > self.now) {
            return Ok(());
        }
        self.numbers += 1;
        self.act(seat, Act::Read { context: self.numbers })
    }

    pub(crate) fn start(&mut self, seat: usize) -> Result<(), Conviction> {
        if self.world.running(seat).is_some() {
            return Ok(());
        }
        if let Some(life) = self.lives.get_mut(seat) {
            *life += 1;
        }
        let random = self.dice.draw();
        self.act(seat, Act::Start { random })
    }

    /// Sets the alarm of what goes wrong, or well again, next.
    pub(crate) fn arm_mishap(&mut self) {
        let planned =
            self.plan.mishaps.get(self.mishaps_done).map_or(u64::MAX, |planned| planned.at);
        let ending = self.endings.peek().map_or(u64::MAX, |Reverse((at, _, _))| *at);
        self.set(MISHAP, planned.min(ending));
    }
}
