//! The liveness phase: one random quorum is made well, everything else is cut off for ever, and there must be progress.
//!
//! Progress is: a leader, a proposal made after the healing that is committed, a read made after it that is granted, and every healthy
//! member with the same log, all of it applied, or at least nearer to that than it was before. Source: `TigerBeetle`'s simulator.

use quorate_raft::Fault;

use super::network::Matrix;
use super::plan::{MEMBERS_MAX, MILLISECOND};
use super::run::Run;
use super::tape::Act;
use crate::world::{Conviction, Judge, id_of};

/// How long healing may take, in election timeouts. A few elections may be split; a leader may have to find out first that it is
/// none.
const PATIENCE_TIMEOUTS: u64 = 40;
/// How often clients try again.
const RETRY_NS: u64 = 250 * MILLISECOND;

impl Run<'_> {
    pub(crate) fn expect_progress(&mut self) -> Result<(), Conviction> {
        self.heal()?;
        let (commits, grants) = (self.world.court.counts.commits, self.world.court.counts.grants);
        let patience = PATIENCE_TIMEOUTS * self.plan.config.election_timeout_ns;
        let (mut end, mut lag) = (self.now + patience, self.behind());
        while self.now < end {
            let counts = self.world.court.counts;
            let served = counts.commits > commits && counts.grants > grants;
            if served && self.is_even() {
                return Ok(());
            }
            if served && self.behind() < lag {
                // Whoever gets one entry at a time over a slow network needs long, and gets there.
                (end, lag) = (self.now + patience, self.behind());
            }
            if !served {
                self.try_again(counts.commits == commits)?;
            }
            self.run_to(self.now + RETRY_NS)?;
        }
        let detail =
            format!("no progress in {PATIENCE_TIMEOUTS} election timeouts: {}", self.describe());
        Err(Conviction::new(Judge::Liveness, detail))
    }

    fn try_again(&mut self, write: bool) -> Result<(), Conviction> {
        let Some(seat) = self.leader().filter(|seat| self.is_healthy(*seat)) else { return Ok(()) };
        if write {
            self.propose(seat, 1)?;
        }
        let reader = usize::try_from(self.plan.healthy.trailing_zeros()).unwrap_or(0);
        self.read(reader)
    }

    fn is_healthy(&self, seat: usize) -> bool {
        self.plan.healthy & (1 << seat) != 0
    }

    /// How many committed entries the slowest healthy member has not applied.
    fn behind(&self) -> u64 {
        let released = |seat: usize| self.world.view(seat).map_or(0, |view| view.released.0);
        let healthy = (0..self.plan.members()).filter(|seat| self.is_healthy(*seat));
        let least = healthy.map(released).min().unwrap_or(0);
        self.world.court.commit_index().0.saturating_sub(least)
    }

    fn is_even(&self) -> bool {
        let last = self.world.court.last_committed();
        let mut healthy = (0..self.plan.members()).filter(|seat| self.is_healthy(*seat));
        healthy.all(|seat| {
            self.world
                .view(seat)
                .is_some_and(|view| view.last == last && view.released == last.index)
                && self.world.court.reads_open(id_of(seat)) == 0
        })
    }

    fn record_healing(&mut self) {
        let ids: Vec<String> = (0..self.plan.members())
            .filter(|seat| self.is_healthy(*seat))
            .map(|seat| id_of(seat).to_string())
            .collect();
        let now = self.now;
        if let Some(recorder) = &mut self.watch.recorder {
            let text = format!("only {} are well, and stay so", ids.join(","));
            recorder.fault(None, (now, u64::MAX), text);
        }
    }

    fn heal(&mut self) -> Result<(), Conviction> {
        self.record_healing();
        self.clients_stopped = true;
        self.endings.clear();
        self.mishaps_done = self.plan.mishaps.len();
        self.arm_mishap();
        self.network.mend_all();
        self.network.weather = self.calm();
        for seat in 0..self.plan.members() {
            if self.is_healthy(seat) {
                self.heal_member(seat)?;
            } else if self.plan.fate == 0 {
                self.act(seat, Act::Crash { kept: 0 })?;
            }
        }
        let cuts = self.cut_off();
        self.network.cut(0, cuts);
        Ok(())
    }

    fn heal_member(&mut self, seat: usize) -> Result<(), Conviction> {
        if let Some(until) = self.paused_until.get_mut(seat) {
            *until = 0;
        }
        if let Some(clock) = self.clocks.get_mut(seat) {
            clock.run_at(self.now, 1_000_000);
        }
        self.slow_disk(seat, self.plan.sync_ns);
        if self.world.members.get(seat).is_some_and(|member| member.disk.is_full) {
            self.act(seat, Act::Room)?;
        }
        let fault = self.world.view(seat).and_then(|view| view.fault);
        let doomed = self.world.running(seat).is_some_and(|member| member.doom.is_some());
        if doomed || fault == Some(Fault::SyncFailed) {
            self.act(seat, Act::Crash { kept: 0 })?;
        }
        self.start(seat)?;
        if fault.is_some() {
            self.act(seat, Act::Repaired)?;
        }
        if self.world.running(seat).is_some_and(|member| member.disk.syncing > 0) {
            self.set(MEMBERS_MAX + seat, self.now + self.plan.sync_ns.1);
        }
        self.arm(seat)
    }

    /// The links from and to those that are not healthy.
    fn cut_off(&self) -> Matrix {
        let (hears, is_heard) = match self.plan.fate {
            2 => (false, true),
            3 => (true, false),
            _ => (false, false),
        };
        let mut matrix = [0; MEMBERS_MAX];
        for (from, row) in matrix.iter_mut().enumerate() {
            for to in 0..MEMBERS_MAX {
                let speaks = self.is_healthy(from) || is_heard;
                let listens = self.is_healthy(to) || hears;
                if !(speaks && listens) {
                    *row |= 1 << to;
                }
            }
        }
        matrix
    }

    /// One line a member.
    fn describe(&self) -> String {
        let member = |seat| match self.world.view(seat) {
            None => format!("{} down", id_of(seat)),
            Some(view) => format!(
                "{} {:?} term={} commit={} last={} durable={} fault={:?}",
                view.id, view.role, view.term, view.commit, view.last, view.durable, view.fault
            ),
        };
        (0..self.plan.members()).map(member).collect::<Vec<_>>().join("; ")
    }
}
