//! What one seed stands for: the group, its weather, its clients, and everything that will go wrong, with the moment.
//!
//! Each seed leaves some classes of faults out (swarm testing: Groce and others, ISSTA 2012): runs without, say, crashes go
//! elsewhere than runs where a crash cuts everything short. The plan is data, so a failing one can be cut down part by part.

use quorate_raft::Config;

use super::mishap::{Class, Mishap, Planned};
use super::script::Arm as _;
use crate::dice::Dice;
use crate::world::World;

/// One thousandth of a second, in nanoseconds.
pub(crate) const MILLISECOND: u64 = 1_000_000;
/// One second, in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// The most members of a simulated group.
pub(crate) const MEMBERS_MAX: usize = 8;

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Lost, of a million.
    pub(crate) loss_ppm: u32,
    /// Delivered twice, of a million.
    pub(crate) duplicate_ppm: u32,
    /// The shortest way.
    pub(crate) delay_ns: u64,
    /// How much longer it may take; now and then, up to eight times as much.
    pub(crate) jitter_ns: u64,
    /// Messages of a link do not overtake each other.
    pub(crate) in_order: bool,
}

/// What the user of the simulator fixes; everything else is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How many voters.
    pub voters: Option<usize>,
    /// How many learners.
    pub learners: Option<usize>,
    /// Client operations a second.
    pub rate: Option<u64>,
    /// How long the safety phase is, in simulated seconds.
    pub seconds: Option<u64>,
    /// Disks are ruined at anybody, and whoever forgot what it acknowledged comes back: the atlas is off.
    pub atlas_off: bool,
    /// A bug to switch on, by its number in [`mutants`](crate::mutants); those of the core need the feature `mutants`.
    pub mutant: u16,
}

/// Everything a run needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What it was drawn from, and what decides the fate of every message.
    pub(crate) seed: u64,
    /// How many voters.
    pub(crate) voters: usize,
    /// How many learners.
    pub(crate) learners: usize,
    /// A bug that is switched on, by its number.
    pub(crate) mutant: u16,
    /// Whether the atlas lets everything happen.
    pub(crate) atlas_off: bool,
    /// Every member's settings but the id.
    pub(crate) config: Config,
    /// The weather while nothing is wrong.
    pub(crate) weather: Weather,
    /// How long a sync takes, at least and at most, while nothing is wrong.
    pub(crate) sync_ns: (u64, u64),
    /// Mean time between client operations.
    pub(crate) client_gap_ns: u64,
    /// How many operations are reads, of a million.
    pub(crate) read_ppm: u32,
    /// The most payloads of one proposal.
    pub(crate) batch_max: u64,
    /// A member drops its log's head when it is longer than this.
    pub(crate) log_max: u64,
    /// Whether snapshots are announced.
    pub(crate) announce: bool,
    /// Whether a cut also takes what was under way.
    pub(crate) cuts_in_flight: bool,
    /// How long things go wrong.
    pub(crate) safety_ns: u64,
    /// What goes wrong, in order of time.
    pub(crate) mishaps: Vec<Planned>,
    /// Those of them that must be well again at the end; the others are cut off. Bits, by seat.
    pub(crate) healthy: u8,
    /// How those that are not are cut off: 0 down, 1 both ways, 2 they hear nothing, 3 they are not heard.
    pub(crate) fate: u64,
}

impl Plan {
    /// Draws the plan of a seed.
    pub(crate) fn of(seed: u64, options: &Options) -> Self {
        let dice = &mut Dice::fork(seed, 1);
        let voters = draw_voters(dice);
        let learners = usize::from(dice.chance(200_000));
        let voters = options.voters.unwrap_or(voters).clamp(1, MEMBERS_MAX - 1);
        let learners = options.learners.unwrap_or(learners).min(MEMBERS_MAX - voters);
        let tight = dice.chance(500_000);
        let rate = [1, 5, 10, 10, 20, 40].get(dice.position(6)).copied().unwrap_or(10);
        let seconds = options.seconds.unwrap_or_else(|| dice.within(40, 120));
        let safety_ns = seconds.saturating_mul(SECOND);
        let has_snapshots = dice.chance(600_000);
        let log_max = if has_snapshots { draw_log_max(dice) } else { 2_000 };
        let mut mishaps = draw_mishaps(dice, voters + learners, safety_ns);
        mishaps.extend(draw_later(&mut Dice::fork(seed, 4), voters + learners, safety_ns));
        mishaps.sort_by_key(|planned| planned.at);
        Self {
            seed,
            voters,
            learners,
            mutant: options.mutant,
            atlas_off: options.atlas_off,
            config: draw_config(dice, tight, options.mutant),
            weather: slow_down(draw_fair_weather(dice), &mut Dice::fork(seed, 6)),
            sync_ns: draw_sync(dice),
            client_gap_ns: SECOND / options.rate.unwrap_or(rate).max(1),
            read_ppm: if dice.chance(800_000) { 400_000 } else { 0 },
            batch_max: dice.within(1, 4),
            log_max,
            announce: dice.chance(500_000),
            cuts_in_flight: dice.chance(500_000),
            safety_ns,
            mishaps,
            healthy: draw_quorum(dice, voters, draw_learners(seed, learners)),
            fate: dice.below(4),
        }
    }

    /// The world that the plan begins with: nobody runs.
    pub(crate) fn world(&self) -> World {
        let mut world = World::new(&self.config, self.voters, self.learners);
        world.announce = self.announce;
        (world.atlas.spare, world.atlas.off) = (self.spare(), self.atlas_off);
        world.members.iter_mut().for_each(|member| member.bug = self.mutant);
        world
    }

    /// Makes the group smaller; there are no more than these voters and learners. Some majority stays well.
    pub(crate) fn shrink_to(&mut self, voters: usize, learners: usize) {
        let (voters, learners) = (voters.clamp(1, self.voters), learners.min(self.learners));
        let seats = |from: usize, count: usize| {
            (from..from + count).fold(0_u8, |set, seat| set | 1 << seat)
        };
        let mut votes = self.healthy & seats(0, voters);
        for seat in 0..voters {
            if usize::try_from(votes.count_ones()).unwrap_or(0) <= voters / 2 {
                votes |= 1 << seat;
            }
        }
        let well = self.healthy >> self.voters != 0;
        self.healthy = votes | if well { seats(voters, learners) } else { 0 };
        (self.voters, self.learners) = (voters, learners);
    }

    /// Whose disks may be ruined: of whoever is not needed in the end.
    pub(crate) fn spare(&self) -> u8 {
        let all = (0..self.members()).fold(0_u8, |set, seat| set | 1 << seat);
        all & !self.healthy
    }

    /// Forgets tight limits.
    pub(crate) fn set_default_limits(&mut self) {
        self.config = Config::default();
        self.config.arm(self.mutant);
    }

    /// How many members there are.
    pub(crate) fn members(&self) -> usize {
        self.voters + self.learners
    }
}

/// Often so short that whoever misses little needs a snapshot.
fn draw_log_max(dice: &mut Dice) -> u64 {
    if dice.chance(600_000) { dice.within(3, 20) } else { dice.within(20, 400) }
}

fn draw_voters(dice: &mut Dice) -> usize {
    [3, 3, 3, 3, 5, 5, 1, 2, 4, 7].get(dice.position(10)).copied().unwrap_or(3)
}

/// The defaults, or limits so small that every one of them is met.
fn draw_config(dice: &mut Dice, tight: bool, mutant: u16) -> Config {
    let mut config = Config::default();
    if tight {
        config.append_bytes_max = 50 + dice.below(400);
        config.append_entries_max = [1, 1, 2, 8].get(dice.position(4)).copied().unwrap_or(1);
        config.inflight_appends_max = 1 + dice.position(4);
        config.inflight_bytes_max = 100 + dice.below(1000);
        config.uncommitted_bytes_max = 300 + dice.below(2000);
        config.uncommitted_entries_max = 10 + dice.below(40);
        config.reads_max = 1 + dice.position(20);
    }
    config.arm(mutant);
    config
}

fn draw_fair_weather(dice: &mut Dice) -> Weather {
    Weather {
        loss_ppm: if dice.chance(500_000) { 0 } else { 10_000 },
        duplicate_ppm: if dice.chance(500_000) { 0 } else { 10_000 },
        delay_ns: dice.within(100_000, 5 * MILLISECOND),
        jitter_ns: dice.within(0, 20 * MILLISECOND),
        in_order: dice.chance(300_000),
    }
}

/// In one of twelve seeds the members are far apart: a message takes up to a quarter of an election timeout.
fn slow_down(weather: Weather, dice: &mut Dice) -> Weather {
    if !dice.chance(83_000) {
        return weather;
    }
    Weather { delay_ns: dice.within(60 * MILLISECOND, 250 * MILLISECOND), ..weather }
}

fn draw_sync(dice: &mut Dice) -> (u64, u64) {
    let least = dice.within(50_000, 2 * MILLISECOND);
    (least, least + dice.within(0, 20 * MILLISECOND))
}

/// How many of the learners are well in the end: all, or none, so that their disks may be ruined too.
fn draw_learners(seed: u64, learners: usize) -> usize {
    if Dice::fork(seed, 5).chance(300_000) { 0 } else { learners }
}

/// A random majority of the voters, and the first of the learners.
fn draw_quorum(dice: &mut Dice, voters: usize, learners: usize) -> u8 {
    let mut healthy = 0_u8;
    let enough = u32::try_from(voters / 2 + 1).unwrap_or(1);
    while healthy.count_ones() < enough {
        healthy |= 1 << dice.position(voters);
    }
    (voters..voters + learners).fold(healthy, |set, seat| set | 1 << seat)
}

/// Mishaps of the later classes, in half of the seeds, and at most two ruined disks.
fn draw_later(dice: &mut Dice, members: usize, until_ns: u64) -> Vec<Planned> {
    let mut mishaps = Vec::new();
    if dice.chance(500_000) {
        return mishaps;
    }
    let classes: Vec<Class> = Class::LATER.into_iter().filter(|_| dice.chance(400_000)).collect();
    let mean_gap = dice.within(300 * MILLISECOND, 8 * SECOND);
    let mut at = dice.within(MILLISECOND, 2 * mean_gap);
    while let Some(class) = dice.pick(&classes).copied().filter(|_| at < until_ns) {
        mishaps.push(Planned { at, mishap: Mishap::draw(class, members, dice) });
        at += dice.within(MILLISECOND, 2 * mean_gap);
    }
    for _ in 0..dice.below(3) {
        let at = dice.below(until_ns);
        if let Some(class) = dice.pick(&Class::RUIN).copied() {
            mishaps.push(Planned { at, mishap: Mishap::draw(class, members, dice) });
        }
    }
    mishaps
}

fn draw_mishaps(dice: &mut Dice, members: usize, until_ns: u64) -> Vec<Planned> {
    let classes: Vec<Class> = Class::ALL.into_iter().filter(|_| dice.chance(450_000)).collect();
    // In half of the seeds there is hardly time for an election between two mishaps.
    let dense = dice.chance(500_000);
    let (least, most) = if dense { (50, 500) } else { (300, 6_000) };
    let mean_gap = dice.within(least * MILLISECOND, most * MILLISECOND);
    let mut mishaps = Vec::new();
    let mut at = 0;
    while !classes.is_empty() {
        at += dice.within(MILLISECOND, 2 * mean_gap);
        if at >= until_ns {
            break;
        }
        if let Some(class) = dice.pick(&classes).copied() {
            mishaps.push(Planned { at, mishap: Mishap::draw(class, members, dice) });
        }
    }
    mishaps
}
