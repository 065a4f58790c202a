//! Worlds of whole servers: everything behind the sockets is the real code, over disks in memory, with clients.
//!
//! A member is a `quorate-server` as it ships: its node, its write-ahead log and its redb state over checksummed
//! blocks, its leases and watches, and etcd's request handlers in front. Only sockets, threads and the clock are this
//! world's. Clients read, write, compare, append to lists, hold leases and watch; the members crash at any call of their disks,
//! stand still, are cut off, run out of space, find flipped bits. One seed decides all of it.
//!
//! A run has two phases. In the first, safety: judges look after every step (`judge`). Then everything is mended,
//! and the cluster must come to rest: every client is answered, every member has applied everything, all states are
//! equal. What the members' flight recorders kept is replayed and must agree. In the end the clients' histories are judged by `quorate-check`, which knows none of our code.
//!
//! | File | What |
//! |---|---|
//! | `plan` | what the seed decides beforehand |
//! | `world` | the queue of all that happens |
//! | `member`, `ports` | one server and its ports |
//! | `network`, `frames` | what lies between members |
//! | `mishaps` | what goes wrong |
//! | `clients`, `session`, `trades`, `watcher`, `dawdler`, `call` | clients |
//! | `shrink`, `cuts` | cutting a failing run down, and what is left of it as a text |
//! | `doors` | who admits whom; members whose disk is lost |
//! | `history`, `wire` | what they saw, for the judges |
//! | `judge`, `patience`, `conservation` | what must hold after every step, and what must be gone in the end |
//!
//! Left out: syncs that lie: a majority of such disks loses data whatever one does.

pub(crate) mod bugs;
mod call;
mod chronicle;
mod clients;
mod conservation;
mod cuts;
mod dawdler;
mod doors;
mod frames;
mod history;
mod judge;
mod member;
mod mishaps;
mod network;
mod patience;
mod plan;
mod ports;
mod session;
mod shrink;
#[cfg(test)]
mod tests;
mod trades;
mod watcher;
mod wire;
mod world;

pub use cuts::HEAD;
pub use shrink::{shrink_seed, tell};

use std::panic::{AssertUnwindSafe, catch_unwind};

use chronicle::Chronicle;
use judge::Look;
use member::Member;
use plan::{MS, Plan, SECOND};
use quorate_check::lease::Bounds;
use quorate_etcd::Load;
use quorate_flight::{Recording, replay};
use world::World;

use crate::{
    chart::{Trace, Window},
    swarm::{Options, Outcome},
    world::{Conviction, Judge},
};

/// After the faults are over, everything must be well within this time.
const LIVENESS_NS: u64 = 60 * SECOND;
/// How long a healed world goes on at least.
const HEALED_LEAST_NS: u64 = 3 * SECOND;
/// How long it goes on when nobody asks any more and everything is applied, so that watches hear of everything.
const REST_NS: u64 = 2 * SECOND;
/// How many answers each client must get in a healed world.
const ANSWERS_LEAST: u64 = 2;
/// How late a lease may end: whoever has no leader can't end one.
const LATE_NS: u64 = 3_600 * SECOND;

/// Runs the world of a seed.
pub fn run_seed(seed: u64, options: &Options) -> Outcome {
    run(Plan::new(seed, options), Chronicle::default()).0
}

/// Runs the world of a seed and gives the members' flight recordings at its end, for `quorate-sim replay`.
pub fn recordings(seed: u64, options: &Options) -> Vec<Vec<u8>> {
    let (_, world) = run(Plan::new(seed, options), Chronicle::default());
    let recording = |member: &Member| member.running.as_ref()?.raft.recording();
    world.members.iter().filter_map(recording).collect()
}

/// Runs the world of a seed and writes down what happens, all of it whatever the window.
pub fn chart_seed(seed: u64, options: &Options, _: Option<Window>) -> (Outcome, Trace) {
    let plan = Plan::new(seed, options);
    let title = format!("full world, seed {seed}");
    let chronicle = Chronicle::writing(title, plan.members);
    let (outcome, world) = run(plan, chronicle);
    (outcome, world.chronicle.into_trace())
}

fn run(plan: Plan, chronicle: Chronicle) -> (Outcome, World) {
    let seed = plan.seed;
    let mut world = World::new(plan, chronicle);
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
    let failure = match played {
        Ok(played) => played.err(),
        Err(panic) => Some(Conviction::new(Judge::Panic, words(panic.as_ref()))),
    };
    if let Some(failure) = &failure {
        world.chronicle.broken(world.now, failure.to_string());
    }
    world.counts.commits = world.witness.committed();
    world.counts.elections = world.witness.leaders();
    world.counts.grants = world.history.reads();
    let outcome = Outcome {
        seed,
        events: world.events,
        simulated_ns: world.now,
        hash: world.hash.value(),
        counts: world.counts,
        failure,
    };
    (outcome, world)
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn play(world: &mut World) -> Result<(), Conviction> {
    while world.healed_at.is_none() {
        world.step()?;
    }
    let (healed_at, committed) = (world.now, world.witness.committed());
    world.count_answers();
    let patience_ns = LIVENESS_NS + world.healed_least_ns();
    while world.now < healed_at + world.healed_least_ns() || world.unrest(committed).is_some() {
        if let (true, Some(unrest)) = (world.now > healed_at + patience_ns, world.unrest(committed))
        {
            let waited_s = patience_ns / SECOND;
            return Err(Conviction::new(Judge::Liveness, format!("after {waited_s} s: {unrest}")));
        }
        step_for(world, 50 * MS)?;
    }
    world.stay_calm()?;
    world.closing = true;
    rest(world, patience_ns)?;
    world.dismiss_clients();
    let end = world.now + LIVENESS_NS;
    while let Some(held) = world.held() {
        if world.now > end {
            return Err(Conviction::new(Judge::Conservation, held));
        }
        step_for(world, 50 * MS)?;
    }
    world.conclude()?;
    world.members.iter().try_for_each(replay_flight)
}

/// Nobody asks any more: everything ends and is applied, and then there is time to tell watches of it. What is applied
/// last, the end of a lease mostly, may not be visible yet when it is.
fn rest(world: &mut World, patience_ns: u64) -> Result<(), Conviction> {
    let begun = world.now;
    let mut busy_at = begun;
    while world.now < busy_at + REST_NS {
        step_for(world, 50 * MS)?;
        let Some(remainder) = world.remainder() else { continue };
        if world.now > begun + REST_NS + patience_ns {
            return Err(Conviction::new(Judge::Liveness, remainder));
        }
        busy_at = world.now;
    }
    Ok(())
}

/// When the last client has gone, a member holds nothing for clients any more.
fn returned(member: &Member) -> Result<(), Conviction> {
    let loads = member.running.as_ref().map(|running| running.front.loads()).unwrap_or_default();
    match loads.into_iter().find(|(_, load)| *load != Load::default()) {
        Some((limit, load)) => {
            let detail = format!("member {} keeps {load:?} of {limit}", member.number);
            Err(Conviction::new(Judge::Contract, detail))
        }
        None => Ok(()),
    }
}

impl Member {
    /// No more proposals of clients are on their way than may be, whether their clients still wait or not.
    ///
    /// # Errors
    /// There are more.
    fn look_at_limits(&self) -> Result<(), Conviction> {
        let Some(running) = &self.running else { return Ok(()) };
        let max = running.proposals_max;
        let waiting = running.handle.proposals_waiting() as u64;
        if waiting <= max {
            return Ok(());
        }
        let detail = format!("member {} has {waiting} proposals in flight, not {max}", self.number);
        Err(Conviction::new(Judge::Contract, detail))
    }
}

/// What a member's flight recorder kept is what its core did.
fn replay_flight(member: &Member) -> Result<(), Conviction> {
    let running = member.running.as_ref();
    let Some(file) = running.and_then(|running| running.raft.recording()) else { return Ok(()) };
    let convict = |detail: String| {
        let detail = format!("the flight of member {}: {detail}", member.number);
        Conviction::new(Judge::Determinism, detail)
    };
    let recording = Recording::read(&file).map_err(|error| convict(error.to_string()))?;
    let outcome = replay(&recording, |_| {});
    match outcome.violations.first() {
        Some(violation) => Err(convict(format!("{violation:?}"))),
        None => Ok(()),
    }
}

/// Lets everything happen that happens within this time.
fn step_for(world: &mut World, lasts_ns: u64) -> Result<(), Conviction> {
    let end = world.now + lasts_ns;
    while world.now < end {
        world.step()?;
    }
    Ok(())
}

impl World {
    /// From here on, answers are counted.
    fn count_answers(&mut self) {
        self.sessions.iter_mut().for_each(|session| session.answers = 0);
    }

    /// What is not yet as it must be in a healed world. Clients go on, so that somebody may always be an entry behind; but what
    /// was committed when it healed, everybody gets.
    fn unrest(&self, committed: u64) -> Option<String> {
        let waits = self.sessions.iter().find(|session| session.answers < ANSWERS_LEAST);
        let waits = waits.map(|session| format!("client {} is not answered", session.who.client));
        waits.or_else(|| self.difference(committed)).or_else(|| self.unknown_directory())
    }

    /// What is not yet as it must be when nobody asks any more: leases end, and everybody applies everything.
    fn remainder(&self) -> Option<String> {
        let lease = |member: &Member| Some(member.reader()?.leases().ok()?.first()?.0);
        let lease = self.members.iter().find_map(lease);
        let lease = lease.map(|lease| format!("lease {lease} has not ended"));
        self.difference(self.witness.committed()).or(lease).or_else(|| self.unknown_directory())
    }

    /// Who has not applied everything up to there.
    fn difference(&self, committed: u64) -> Option<String> {
        let kept = self.members.iter().filter(|member| !self.doors.is_wiped(member.number));
        kept.into_iter().find_map(|member| match member.reader() {
            None => Some(format!("member {} is down", member.number)),
            Some(reader) if reader.applied().index < committed => {
                let applied = reader.applied().index;
                Some(format!("member {} has applied {applied} of {committed}", member.number))
            }
            Some(_) => None,
        })
    }

    /// The run is over: all states are equal, and no client saw anything that it must not.
    fn conclude(&mut self) -> Result<(), Conviction> {
        for member in &self.members {
            let Some(reader) = member.reader() else { continue };
            self.witness.look_at_hash(member.number, &reader).map_err(Look::into_conviction)?;
        }
        self.members.iter().try_for_each(returned)?;
        let early = 11 * SECOND * self.plan.drift_ppm / 1_000_000 + 2 * MS;
        self.history.judge(self.witness.revisions(), Bounds { early, late: LATE_NS })
    }
}
