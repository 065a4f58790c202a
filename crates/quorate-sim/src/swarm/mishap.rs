//! What can go wrong, or be asked for by an operator.

use super::plan::{MILLISECOND, SECOND, Weather};
use crate::dice::Dice;
use crate::world::Part;

/// A family of mishaps that a seed has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Processes die between steps.
    Crash,
    /// Processes die in the middle of a step.
    CrashInside,
    /// Processes stand still, and then go on as if nothing was.
    Pause,
    /// A node takes long for everything.
    SlowNode,
    /// Clocks jump and drift.
    Clock,
    /// Links are cut.
    Partition,
    /// Links are cut in one direction.
    OneWay,
    /// Links come and go.
    Flapping,
    /// Loss, duplication and delay.
    Weather,
    /// Messages of one kind are lost.
    TargetedLoss,
    /// Disks are slow, or hang.
    SlowDisk,
    /// A sync fails.
    SyncFailure,
    /// A disk is full or corrupt, for a time.
    DiskFault,
    /// Leadership is handed over.
    Transfer,
    /// A transport reports losses.
    Unreachable,
    /// State is saved and the log cut.
    Compaction,
    /// Processes are killed; the system writes what they gave it.
    Kill,
    /// Drives report syncs of what they hold only in their cache.
    LyingDisk,
    /// Bits flip and writes go to the wrong place.
    Damage,
    /// A disk is empty.
    Wipe,
    /// A disk takes no more.
    FullDisk,
    /// A disk does not answer until the power is cut.
    HungDisk,
    /// Clocks stand still.
    ClockStall,
    /// Frames arrive damaged.
    Corruption,
}

impl Class {
    /// Those that ruin a disk for good: there are one or two in a run.
    pub(crate) const RUIN: [Self; 3] = [Self::LyingDisk, Self::Damage, Self::Wipe];

    /// Those that came later, and are drawn apart, so that seeds mean what they meant.
    pub(crate) const LATER: [Self; 5] =
        [Self::Kill, Self::FullDisk, Self::HungDisk, Self::ClockStall, Self::Corruption];

    /// The first of them.
    pub(crate) const ALL: [Self; 16] = [
        Self::Crash,
        Self::CrashInside,
        Self::Pause,
        Self::SlowNode,
        Self::Clock,
        Self::Partition,
        Self::OneWay,
        Self::Flapping,
        Self::Weather,
        Self::TargetedLoss,
        Self::SlowDisk,
        Self::SyncFailure,
        Self::DiskFault,
        Self::Transfer,
        Self::Unreachable,
        Self::Compaction,
    ];
}

/// Whom it hits: the leader of the moment, or else this seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The seat, if there is no leader or it is not aimed at.
    pub(crate) seat: usize,
    /// Whether the leader is aimed at.
    pub(crate) leader: bool,
}

/// Which links are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// One member from all others.
    Isolate(Target),
    /// Those in the set from those outside.
    Split(u8),
    /// Two halves that only one member reaches.
    Bridge(usize),
    /// Everybody reaches only its neighbours in a ring.
    Ring,
    /// Everybody reaches only its neighbours in a row.
    Chain,
    /// One link, both ways.
    Link(usize, usize),
    /// One link, one way.
    OneWay(usize, usize),
    /// What one member sends is lost.
    Mute(Target),
    /// What is sent to one member is lost.
    Deaf(Target),
}

/// One mishap. Durations are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Power is lost; `kept` pending writes make it; it starts again.
    Crash { target: Target, kept: usize, down_ns: u64 },
    /// As before, after so many effects of the next step.
    CrashInside { target: Target, units: u32, down_ns: u64 },
    /// Everybody loses power at once.
    CrashAll { kept: usize, down_ns: u64 },
    /// The process stands still.
    Pause { target: Target, for_ns: u64 },
    /// Messages to and from it take longer.
    SlowNode { target: Target, lag_ns: u64, for_ns: u64 },
    /// What goes from one to another takes longer.
    SlowLink { from: usize, to: usize, lag_ns: u64, for_ns: u64 },
    /// The clock jumps forward.
    ClockJump { target: Target, by_ns: u64 },
    /// The clock runs at this rate, in millionths.
    ClockRate { target: Target, ppm: u64 },
    /// Links are cut.
    Cut { pattern: Pattern, for_ns: u64 },
    /// Links are cut, and heal, in turn.
    Flap { pattern: Pattern, period_ns: u64, for_ns: u64 },
    /// Another weather.
    Weather { weather: Weather, for_ns: u64 },
    /// Messages of one kind are lost.
    TargetedLoss { kind: usize, ppm: u32, for_ns: u64 },
    /// Syncs take longer.
    SlowDisk { target: Target, sync_ns: u64, for_ns: u64 },
    /// A sync fails: the process hears it, and is started again later.
    SyncFailure { target: Target, kept: usize, down_ns: u64 },
    /// Full, corrupt or reported slow, until repaired.
    DiskFault { target: Target, which: u64, for_ns: u64 },
    /// The process dies, and loses nothing that it has written.
    Kill { target: Target, down_ns: u64 },
    /// Syncs reach only the drive's cache.
    LyingDisk { target: Target, for_ns: u64 },
    /// A part of the disk is damaged; it may be read at once.
    Damage { target: Target, part: Part, read: bool },
    /// The disk is empty.
    Wipe { target: Target },
    /// The next write is refused; there is room again later.
    FullDisk { target: Target, for_ns: u64 },
    /// Syncs take for ever, until the machine is switched off.
    HungDisk { target: Target, kept: usize, for_ns: u64 },
    /// The clock stands still.
    ClockStall { target: Target, for_ns: u64 },
    /// Frames arrive damaged, so many of a million.
    Corruption { ppm: u32, for_ns: u64 },
    /// The leader is asked to hand over to this seat.
    Transfer { to: usize },
    /// A member hears that messages to another are being lost.
    Unreachable { target: Target, peer: usize },
    /// A member saves its state and drops its log but for so many entries.
    Compact { target: Target, kept: u64 },
}

/// A mishap and its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Nanoseconds from the start.
    pub(crate) at: u64,
    /// What happens.
    pub(crate) mishap: Mishap,
}

/// How many kinds of messages there are; the last is the snapshot itself.
pub(crate) const KINDS: usize = 11;

fn target(dice: &mut Dice, members: usize) -> Target {
    Target { seat: dice.position(members), leader: dice.chance(500_000) }
}

/// Most are short, some are very long.
fn span(dice: &mut Dice) -> u64 {
    let longest = [100 * MILLISECOND, SECOND, 3 * SECOND, 10 * SECOND];
    let longest = dice.pick(&longest).copied().unwrap_or(SECOND);
    dice.within(MILLISECOND, longest)
}

fn pattern(dice: &mut Dice, members: usize) -> Pattern {
    let (one, other) = (dice.position(members), dice.position(members));
    match dice.below(7) {
        0 | 1 => Pattern::Isolate(target(dice, members)),
        2 => Pattern::Split(u8::try_from(dice.below(1 << members)).unwrap_or(0)),
        3 => Pattern::Bridge(one),
        4 => Pattern::Ring,
        5 => Pattern::Chain,
        _ => Pattern::Link(one, other),
    }
}

fn one_way(dice: &mut Dice, members: usize) -> Pattern {
    match dice.below(3) {
        0 => Pattern::Mute(target(dice, members)),
        1 => Pattern::Deaf(target(dice, members)),
        _ => Pattern::OneWay(dice.position(members), dice.position(members)),
    }
}

fn bad_weather(dice: &mut Dice) -> Weather {
    let slow = dice.chance(250_000);
    Weather {
        loss_ppm: u32::try_from(dice.below(400_000)).unwrap_or(0),
        duplicate_ppm: u32::try_from(dice.below(400_000)).unwrap_or(0),
        delay_ns: dice.within(0, if slow { 400 } else { 10 } * MILLISECOND),
        jitter_ns: dice.within(0, if slow { 1500 } else { 100 } * MILLISECOND),
        in_order: false,
    }
}

/// A mishap of a class that hits processes.
fn process(class: Class, target: Target, dice: &mut Dice) -> Mishap {
    let (kept, for_ns) = (dice.position(4), span(dice));
    let all = dice.chance(100_000);
    let units = u32::try_from(dice.below(6)).unwrap_or(0);
    if class == Class::CrashInside {
        Mishap::CrashInside { target, units, down_ns: for_ns }
    } else if class == Class::SyncFailure {
        Mishap::SyncFailure { target, kept, down_ns: for_ns }
    } else if all {
        Mishap::CrashAll { kept, down_ns: for_ns }
    } else {
        Mishap::Crash { target, kept, down_ns: for_ns }
    }
}

fn slow(target: Target, members: usize, dice: &mut Dice) -> Mishap {
    let for_ns = span(dice);
    if dice.chance(500_000) {
        return Mishap::SlowNode { target, lag_ns: dice.below(500 * MILLISECOND), for_ns };
    }
    let lag_ns = dice.within(100 * MILLISECOND, 5 * SECOND);
    Mishap::SlowLink { from: dice.position(members), to: dice.position(members), lag_ns, for_ns }
}

fn clock(target: Target, dice: &mut Dice) -> Mishap {
    if dice.chance(500_000) {
        Mishap::ClockJump { target, by_ns: span(dice) }
    } else {
        Mishap::ClockRate { target, ppm: dice.within(900_000, 1_100_000) }
    }
}

fn slow_disk(target: Target, dice: &mut Dice) -> Mishap {
    let (hangs, for_ns) = (dice.chance(500_000), span(dice));
    let sync_ns = if hangs { for_ns } else { dice.below(500 * MILLISECOND) };
    Mishap::SlowDisk { target, sync_ns, for_ns }
}

fn flapping(members: usize, dice: &mut Dice) -> Mishap {
    let both = dice.chance(500_000);
    let pattern = if both { pattern(dice, members) } else { one_way(dice, members) };
    let period_ns = dice.within(10 * MILLISECOND, SECOND);
    Mishap::Flap { pattern, period_ns, for_ns: 2 * span(dice) }
}

fn targeted(dice: &mut Dice) -> Mishap {
    let ppm = dice.pick(&[1_000_000, 800_000, 300_000]).copied().unwrap_or(0);
    Mishap::TargetedLoss { kind: dice.position(KINDS), ppm, for_ns: span(dice) }
}

impl Mishap {
    /// Whom it hits, or nobody alone, and for how long, if it is a state that lasts and not a call that is made.
    pub(crate) fn lasts(&self) -> Option<(Option<Target>, u64)> {
        match *self {
            Self::Pause { target, for_ns }
            | Self::SlowNode { target, for_ns, .. }
            | Self::SlowDisk { target, for_ns, .. }
            | Self::HungDisk { target, for_ns, .. }
            | Self::ClockStall { target, for_ns } => Some((Some(target), for_ns)),
            Self::ClockJump { target, .. } | Self::ClockRate { target, .. } => {
                Some((Some(target), 0))
            }
            Self::SlowLink { for_ns, .. }
            | Self::Cut { for_ns, .. }
            | Self::Flap { for_ns, .. }
            | Self::Weather { for_ns, .. }
            | Self::Corruption { for_ns, .. }
            | Self::TargetedLoss { for_ns, .. } => Some((None, for_ns)),
            Self::Crash { .. }
            | Self::CrashInside { .. }
            | Self::CrashAll { .. }
            | Self::SyncFailure { .. }
            | Self::DiskFault { .. }
            | Self::Kill { .. }
            | Self::LyingDisk { .. }
            | Self::Damage { .. }
            | Self::Wipe { .. }
            | Self::FullDisk { .. }
            | Self::Transfer { .. }
            | Self::Unreachable { .. }
            | Self::Compact { .. } => None,
        }
    }

    /// Draws one of a class.
    pub(crate) fn draw(class: Class, members: usize, dice: &mut Dice) -> Self {
        let target = target(dice, members);
        match class {
            Class::Crash | Class::CrashInside | Class::SyncFailure => process(class, target, dice),
            Class::Pause => Self::Pause { target, for_ns: span(dice) },
            Class::SlowNode => slow(target, members, dice),
            Class::Clock => clock(target, dice),
            Class::Partition => Self::Cut { pattern: pattern(dice, members), for_ns: span(dice) },
            Class::OneWay => Self::Cut { pattern: one_way(dice, members), for_ns: span(dice) },
            Class::Flapping => flapping(members, dice),
            Class::Weather => Self::Weather { weather: bad_weather(dice), for_ns: span(dice) },
            Class::TargetedLoss => targeted(dice),
            Class::SlowDisk => slow_disk(target, dice),
            Class::DiskFault => {
                Self::DiskFault { target, which: dice.below(3), for_ns: span(dice) }
            }
            Class::Transfer => Self::Transfer { to: target.seat },
            Class::Unreachable => Self::Unreachable { target, peer: dice.position(members) },
            Class::Compaction => Self::Compact { target, kept: dice.below(6) },
            Class::Kill => Self::Kill { target, down_ns: span(dice) },
            Class::LyingDisk => Self::LyingDisk { target, for_ns: 2 * span(dice) },
            Class::Damage => {
                let part = dice.pick(&Part::ALL).copied().unwrap_or(Part::Record);
                Self::Damage { target, part, read: dice.chance(300_000) }
            }
            Class::Wipe => Self::Wipe { target },
            Class::FullDisk => Self::FullDisk { target, for_ns: span(dice) },
            Class::HungDisk => {
                Self::HungDisk { target, kept: dice.position(4), for_ns: span(dice) }
            }
            Class::ClockStall => Self::ClockStall { target, for_ns: span(dice) },
            Class::Corruption => {
                let ppm = dice.pick(&[1_000, 20_000, 200_000]).copied().unwrap_or(0);
                Self::Corruption { ppm, for_ns: span(dice) }
            }
        }
    }
}
