//! What each mishap does to a run, and how it ends.

use std::cmp::Reverse;

use super::clock::Clock;
use super::mishap::{Mishap, Pattern, Target};
use super::network::{Matrix, matrix};
use super::plan::{MEMBERS_MAX, SECOND, Weather};
use super::run::Run;
use super::tape::Act;
use super::words;
use crate::world::{Conviction, Part};

/// A sync of a disk that hangs never ends: it takes longer than any run.
const HUNG_NS: u64 = 1_000_000 * SECOND;
/// A clock that runs as it should.
const EVEN_PPM: u64 = 1_000_000;

/// What makes something well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    Restart(usize),
    Mend(u32),
    FairWeather,
    Arrives(usize),
    QuickNode(usize),
    QuickLink(usize, usize),
    QuickDisk(usize),
    OwnUp(usize),
    Room(usize),
    /// A machine whose disk hangs is switched off and on.
    PowerCycle(usize, usize),
    ClockRuns(usize),
    Intact,
    Repair(usize),
    /// The links of a pattern change between cut and whole until a moment; `cut` says what comes next.
    Flap {
        number: u32,
        matrix: [u8; MEMBERS_MAX],
        period_ns: u64,
        until: u64,
        cut: bool,
    },
}

impl Run<'_> {
    /// Everything that goes wrong, or well again, now.
    pub(crate) fn misfortune(&mut self) -> Result<(), Conviction> {
        while let Some(planned) =
            self.plan.mishaps.get(self.mishaps_done).filter(|planned| planned.at <= self.now)
        {
            self.mishaps_done += 1;
            self.record_mishap(&planned.mishap);
            self.befall(planned.mishap)?;
        }
        while self.endings.peek().is_some_and(|Reverse((at, _, _))| *at <= self.now) {
            if let Some(Reverse((_, _, ending))) = self.endings.pop() {
                self.end(ending)?;
            }
        }
        self.arm_mishap();
        Ok(())
    }

    fn record_mishap(&mut self, mishap: &Mishap) {
        let Some((target, for_ns)) = mishap.lasts() else { return };
        let seat = target.map(|target| self.aim(target));
        let now = self.now;
        if let Some(recorder) = &mut self.watch.recorder {
            recorder.fault(seat, (now, now.saturating_add(for_ns)), words::mishap(mishap));
        }
    }

    fn end_in(&mut self, wait_ns: u64, ending: Ending) {
        self.numbers += 1;
        self.endings.push(Reverse((self.now + wait_ns, self.numbers, ending)));
    }

    fn befall(&mut self, mishap: Mishap) -> Result<(), Conviction> {
        match mishap {
            Mishap::Crash { target, kept, down_ns } => {
                return self.crash(self.aim(target), kept, down_ns);
            }
            Mishap::CrashAll { kept, down_ns } => {
                let mut seats = 0..self.plan.members();
                return seats.try_for_each(|seat| self.crash(seat, kept, down_ns));
            }
            Mishap::CrashInside { target, units, down_ns } => {
                return self.act_for(target, down_ns, Ending::Restart, Act::Doom { units });
            }
            Mishap::SyncFailure { target, kept, down_ns } => {
                let seat = self.aim(target);
                self.act(seat, Act::SyncFailed)?;
                return self.crash(seat, kept, down_ns);
            }
            Mishap::DiskFault { target, which, for_ns } => {
                return self.act_for(target, for_ns, Ending::Repair, Act::DiskFault { which });
            }
            Mishap::ClockJump { target, by_ns } => {
                return self.bend(target, |clock, now| clock.jump(now, by_ns));
            }
            Mishap::ClockRate { target, ppm } => {
                return self.bend(target, |clock, now| clock.run_at(now, ppm));
            }
            Mishap::Kill { target, down_ns } => {
                return self.act_for(target, down_ns, Ending::Restart, Act::Kill);
            }
            Mishap::LyingDisk { target, for_ns } => {
                let target = self.spare(target, self.plan.atlas_off);
                return self.act_for(target, for_ns, Ending::OwnUp, Act::Lie);
            }
            Mishap::Damage { target, part, read } => return self.damage(target, part, read),
            Mishap::Wipe { target } => {
                let target = self.spare(target, self.plan.atlas_off);
                return self.act_for(target, SECOND, Ending::Restart, Act::Wipe);
            }
            Mishap::FullDisk { target, for_ns } => {
                return self.act_for(target, for_ns, Ending::Room, Act::Full);
            }
            Mishap::HungDisk { target, kept, for_ns } => {
                let seat = self.aim(target);
                self.slow_disk(seat, (HUNG_NS, HUNG_NS));
                self.put_off(MEMBERS_MAX + seat, self.now + HUNG_NS);
                self.end_in(for_ns, Ending::PowerCycle(seat, kept));
            }
            Mishap::ClockStall { target, for_ns } => {
                let seat = self.aim(target);
                self.end_in(for_ns, Ending::ClockRuns(seat));
                return self.bend(target, |clock, now| clock.run_at(now, 1));
            }
            Mishap::Corruption { ppm, for_ns } => {
                self.network.corrupt_ppm = ppm;
                self.end_in(for_ns, Ending::Intact);
            }
            Mishap::Transfer { to } => return self.on_leader(Act::Transfer { to }),
            Mishap::Unreachable { target, peer } => {
                let seat = self.aim(target);
                return if peer == seat {
                    Ok(())
                } else {
                    self.act(seat, Act::Unreachable { peer })
                };
            }
            Mishap::Compact { target, kept } => {
                return self.act(self.aim(target), Act::Compact { kept });
            }
            Mishap::Pause { target, for_ns } => self.pause(self.aim(target), for_ns),
            Mishap::SlowNode { target, lag_ns, for_ns } => {
                let seat = self.aim(target);
                self.lag(seat, lag_ns);
                self.end_in(for_ns, Ending::QuickNode(seat));
            }
            Mishap::SlowLink { from, to, lag_ns, for_ns } => {
                self.network.slow_link(from, to, lag_ns);
                self.end_in(for_ns, Ending::QuickLink(from, to));
            }
            Mishap::Cut { pattern, for_ns } => {
                let (number, cuts) = self.cuts(pattern);
                self.network.cut(number, cuts);
                self.end_in(for_ns, Ending::Mend(number));
            }
            Mishap::Flap { pattern, period_ns, for_ns } => {
                let (number, matrix) = self.cuts(pattern);
                let until = self.now + for_ns;
                self.end_in(0, Ending::Flap { number, matrix, period_ns, until, cut: true });
            }
            Mishap::Weather { weather, for_ns } => {
                self.network.weather = weather;
                self.end_in(for_ns, Ending::FairWeather);
            }
            Mishap::TargetedLoss { kind, ppm, for_ns } => {
                self.lose(kind, ppm);
                self.end_in(for_ns, Ending::Arrives(kind));
            }
            Mishap::SlowDisk { target, sync_ns, for_ns } => {
                let seat = self.aim(target);
                self.slow_disk(seat, (sync_ns / 2, sync_ns));
                self.end_in(for_ns, Ending::QuickDisk(seat));
            }
        }
        Ok(())
    }

    /// Something happens at a target that ends after a time.
    fn act_for(
        &mut self,
        target: Target,
        for_ns: u64,
        ending: fn(usize) -> Ending,
        act: Act,
    ) -> Result<(), Conviction> {
        let seat = self.aim(target);
        self.end_in(for_ns, ending(seat));
        self.act(seat, act)
    }

    /// A target whose disk may be ruined, if there is one; with `any`, it is as good as another.
    fn spare(&self, target: Target, any: bool) -> Target {
        let (aimed, members) = (self.aim(target), self.plan.members());
        let spare = |seat: &usize| any || self.plan.spare() >> seat & 1 == 1;
        let seat = (0..members).map(|step| (aimed + step) % members).find(spare);
        Target { seat: seat.unwrap_or(aimed), leader: false }
    }

    /// Damage is found by whoever reads: at once, or at the next start.
    fn damage(&mut self, target: Target, part: Part, read: bool) -> Result<(), Conviction> {
        let seat = self.aim(self.spare(target, false));
        self.act(seat, Act::Damage { part })?;
        let damaged =
            self.world.members.get(seat).is_some_and(|member| member.disk.damage.is_some());
        if !(damaged && read) {
            return Ok(());
        }
        self.end_in(SECOND, Ending::Restart(seat));
        self.act(seat, Act::Kill)
    }

    fn on_leader(&mut self, act: Act) -> Result<(), Conviction> {
        self.leader().map_or(Ok(()), |seat| self.act(seat, act))
    }

    fn crash(&mut self, seat: usize, kept: usize, down_ns: u64) -> Result<(), Conviction> {
        self.end_in(down_ns, Ending::Restart(seat));
        self.act(seat, Act::Crash { kept })
    }

    fn pause(&mut self, seat: usize, for_ns: u64) {
        let until = self.now + for_ns;
        if let Some(slot) = self.paused_until.get_mut(seat) {
            *slot = until.max(*slot);
        }
        self.put_off(seat, until);
        self.put_off(MEMBERS_MAX + seat, until);
    }

    fn bend(
        &mut self,
        target: Target,
        how: impl FnOnce(&mut Clock, u64),
    ) -> Result<(), Conviction> {
        let (seat, now) = (self.aim(target), self.now);
        if let Some(clock) = self.clocks.get_mut(seat) {
            how(clock, now);
        }
        self.arm(seat)
    }

    /// The links that a pattern cuts now, and a number for the cut.
    fn cuts(&mut self, pattern: Pattern) -> (u32, Matrix) {
        let cuts = matrix(pattern, self.plan.members(), |target| self.aim(target));
        (self.number(), cuts)
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        u32::try_from(self.numbers).unwrap_or(u32::MAX)
    }

    /// An alarm that is set rings no earlier than this.
    fn put_off(&mut self, alarm: usize, until: u64) {
        let due = self.alarm(alarm);
        if due != u64::MAX {
            self.set(alarm, due.max(until));
        }
    }

    pub(crate) fn lag(&mut self, seat: usize, lag_ns: u64) {
        if let Some(slot) = self.network.lag_ns.get_mut(seat) {
            *slot = lag_ns;
        }
    }

    pub(crate) fn lose(&mut self, kind: usize, ppm: u32) {
        if let Some(slot) = self.network.targeted.get_mut(kind) {
            *slot = ppm;
        }
    }

    pub(crate) fn slow_disk(&mut self, seat: usize, sync_ns: (u64, u64)) {
        if let Some(slot) = self.sync_ns.get_mut(seat) {
            *slot = sync_ns;
        }
    }

    fn end(&mut self, ending: Ending) -> Result<(), Conviction> {
        match ending {
            Ending::Restart(seat) => self.restart(seat),
            Ending::Repair(seat) => self.act(seat, Act::Repaired),
            Ending::OwnUp(seat) => self.act(seat, Act::OwnUp),
            Ending::Room(seat) => {
                self.act(seat, Act::Room)?;
                self.start(seat)
            }
            Ending::PowerCycle(seat, kept) => {
                self.slow_disk(seat, self.plan.sync_ns);
                self.act(seat, Act::Crash { kept })?;
                self.start(seat)
            }
            Ending::ClockRuns(seat) => {
                self.bend(Target { seat, leader: false }, |clock, now| clock.run_at(now, EVEN_PPM))
            }
            Ending::Intact => {
                self.network.corrupt_ppm = 0;
                Ok(())
            }
            Ending::Mend(number) => {
                self.network.mend(number);
                Ok(())
            }
            Ending::FairWeather => {
                self.network.weather = self.plan.weather;
                Ok(())
            }
            Ending::Arrives(kind) => {
                self.lose(kind, 0);
                Ok(())
            }
            Ending::QuickNode(seat) => {
                self.lag(seat, 0);
                Ok(())
            }
            Ending::QuickLink(from, to) => {
                self.network.slow_link(from, to, 0);
                Ok(())
            }
            Ending::QuickDisk(seat) => {
                self.slow_disk(seat, self.plan.sync_ns);
                Ok(())
            }
            Ending::Flap { number, matrix, period_ns, until, cut } => {
                self.network.mend(number);
                if self.now < until {
                    if cut {
                        self.network.cut(number, matrix);
                    }
                    let next = Ending::Flap { number, matrix, period_ns, until, cut: !cut };
                    self.end_in(period_ns, next);
                }
                Ok(())
            }
        }
    }

    /// Starts a member that is down. One that was to die inside a step and has not yet gets its start later.
    fn restart(&mut self, seat: usize) -> Result<(), Conviction> {
        if self.world.running(seat).is_some_and(|member| member.doom.is_some()) {
            self.end_in(SECOND, Ending::Restart(seat));
            return Ok(());
        }
        self.start(seat)
    }

    /// The weather of a healthy network.
    pub(crate) fn calm(&self) -> Weather {
        Weather { loss_ppm: 0, duplicate_ppm: 0, ..self.plan.weather }
    }
}
