//! Breaks things and mends them, one fault after the other, and measures how soon all members serve writes again.

mod elections;
mod files;
mod network;
mod processes;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Result;
use quorate_check::etcd::{Range, Step, Txn};

use crate::{
    cluster::Cluster,
    dice::Dice,
    faults::Fault,
    history::History,
    options::Options,
    session::{Freshness, Session, World},
};

/// How long after the end of a fault a member may take until it serves a write.
const RESUME_MAX: Duration = Duration::from_secs(15);

/// The same where a broken server is to be convicted: it may never come back.
const RESUME_BROKEN_MAX: Duration = Duration::from_secs(3);

/// What the faults did.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many there were.
    pub faults: u64,
    /// Which kinds.
    pub kinds: BTreeSet<&'static str>,
    /// The longest time from the end of a fault until a write was acknowledged.
    pub slowest_first: Duration,
    /// The longest time from the end of a fault until a write was acknowledged through every member.
    pub slowest_all: Duration,
    /// What should not have happened.
    pub complaints: Vec<String>,
}

/// Who breaks things.
pub struct Nemesis<'a> {
    /// What it breaks.
    pub cluster: &'a mut Cluster,
    /// What came of it.
    pub tally: Tally,
    world: Arc<World>,
    dice: Dice,
    choice: Vec<Fault>,
    bag: Vec<Fault>,
    /// One client for each member, which stays with it.
    probes: Vec<Session>,
    resume_max: Duration,
}

impl<'a> Nemesis<'a> {
    /// One that knows the members.
    ///
    /// # Errors
    /// A client that cannot be made.
    pub async fn new(
        cluster: &'a mut Cluster,
        options: &Options,
        world: &Arc<World>,
        mut dice: Dice,
    ) -> Result<Self> {
        let mut probes = Vec::new();
        for at in 0..cluster.members.len() {
            let id = 1000 + u64::try_from(at)?;
            let mut probe = Session::new(id, at, dice.split(), Arc::clone(world)).await?;
            probe.stays = true;
            probes.push(probe);
        }
        let mut choice = Fault::choice(options);
        if cluster.small_disk.is_none() {
            choice.retain(|fault| *fault != Fault::DiskFull);
        }
        let needs_library = |fault: &Fault| matches!(fault, Fault::ClockStrobe | Fault::FreezeDisk);
        if cluster.launch.library.is_none() && choice.iter().any(needs_library) {
            println!(
                "libquake_clock.so is not beside this program: no clock jumps, no disk freezes"
            );
            choice.retain(|fault| !needs_library(fault));
        }
        anyhow::ensure!(!choice.is_empty(), "there is no fault to choose from");
        let resume_max = if options.breaks.is_some() { RESUME_BROKEN_MAX } else { RESUME_MAX };
        let (tally, bag) = (Tally::default(), Vec::new());
        let world = Arc::clone(world);
        Ok(Self { cluster, tally, world, dice, choice, bag, probes, resume_max })
    }

    /// Draws a fault, breaks, mends, and waits until all is well again.
    ///
    /// # Errors
    /// What stands in the way of doing so; what a member does wrong is a complaint.
    pub async fn strike(&mut self) -> Result<()> {
        let fault = self.draw();
        let leader = self.cluster.leader().await;
        let leader = leader.unwrap_or_else(|| self.dice.place(self.cluster.members.len()));
        let began = self.probes[0].world.clock.now();
        let what = self.carry_out(fault, leader).await?;
        self.mend(fault)?;
        let mended = Instant::now();
        let (first, all) = self.resume(fault, mended).await;
        self.tally.faults += 1;
        self.tally.kinds.insert(fault.name());
        println!(
            "{:>6.1} s  {:<14} {what}; writes again after {} ms, through all after {} ms",
            Duration::from_nanos(began).as_secs_f64(),
            fault.name(),
            first.as_millis(),
            all.as_millis()
        );
        let pause = self.dice.milliseconds(100, 500);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Every kind comes once before any comes again.
    fn draw(&mut self) -> Fault {
        if self.bag.is_empty() {
            self.bag.clone_from(&self.choice);
            self.dice.shuffle(&mut self.bag);
        }
        self.bag.pop().unwrap_or(Fault::KillLeader)
    }

    async fn carry_out(&mut self, fault: Fault, leader: usize) -> Result<String> {
        match fault {
            Fault::KillLeader => self.kill(&[leader]).await,
            Fault::KillFollower => self.kill(&self.minority(leader)).await,
            Fault::KillAll => self.kill_all().await,
            Fault::PauseLeader => self.pause(leader).await,
            Fault::PauseFollower => self.pause(self.follower(leader)).await,
            Fault::CutLeader => self.cut_off(&[leader]).await,
            Fault::CutFollower => self.cut_off(&[self.follower(leader)]).await,
            Fault::CutHalves => self.cut_off(&[leader, self.follower(leader)]).await,
            Fault::Bridge => self.bridge(leader).await,
            Fault::Ring => self.ring().await,
            Fault::DeafLeader => self.one_way(leader, false).await,
            Fault::MuteLeader => self.one_way(leader, true).await,
            Fault::CutAll => self.cut_all().await,
            Fault::SlowLink => self.slow(leader).await,
            Fault::Distance => self.keep_apart().await,
            Fault::ResetLinks => self.reset().await,
            Fault::Strangers => self.crowd(leader).await,
            Fault::DamageLinks => self.damage(leader).await,
            Fault::DiskFull => self.fill_disk().await,
            Fault::FreezeDisk => self.freeze_disk(leader).await,
            Fault::BitFlip => self.flip_bit(leader).await,
            Fault::Wipe => self.wipe(leader).await,
            Fault::ClockStrobe => self.strobe(self.follower(leader)).await,
            Fault::ElectionStorm => self.election_storm(leader).await,
            Fault::Depose => self.depose(leader).await,
            Fault::VoteTwice => self.vote_twice(leader).await,
        }
    }

    /// Somebody else than the leader.
    fn follower(&self, leader: usize) -> usize {
        let members = self.cluster.members.len();
        (leader + 1 + self.dice.clone().place(members - 1)) % members
    }

    /// Followers, as many as a majority can do without.
    fn minority(&self, leader: usize) -> Vec<usize> {
        let members = self.cluster.members.len();
        let first = self.follower(leader);
        let after = (first..first + members).map(|at| at % members).filter(|at| *at != leader);
        after.take((members - 1) / 2).collect()
    }

    /// Lets a fault last.
    async fn hold(&mut self) -> String {
        let time = self.dice.milliseconds(700, 1900);
        tokio::time::sleep(time).await;
        format!("for {} ms", time.as_millis())
    }

    /// Ends every fault: links open, processes go on, those that were killed start again.
    fn mend(&mut self, fault: Fault) -> Result<()> {
        self.cluster.links.heal();
        self.world.quiet.store(false, Relaxed);
        for at in 0..self.cluster.members.len() {
            self.cluster.freeze(at, false)?;
            let member = &mut self.cluster.members[at];
            member.signal(libc::SIGCONT);
            if let Some(status) = member.ended() {
                let said = member.why_ended();
                let what = format!(
                    "{} ended by itself in {} ({status}): {said}",
                    member.name,
                    fault.name()
                );
                self.tally.complaints.push(what);
                member.kill();
            }
            if !member.runs() {
                self.cluster.restart(at, &[])?;
            }
        }
        Ok(())
    }

    /// Waits until each member has acknowledged a write and answered a read; the time to the first one and to the last.
    async fn resume(&mut self, fault: Fault, since: Instant) -> (Duration, Duration) {
        self.resume_without(None, fault, since).await
    }

    /// The same without one of them, which may not be able to.
    async fn resume_without(
        &mut self,
        without: Option<usize>,
        fault: Fault,
        since: Instant,
    ) -> (Duration, Duration) {
        let mut running = tokio::task::JoinSet::new();
        let at_most = self.resume_max;
        let mut back = Vec::new();
        for (at, probe) in self.probes.drain(..).enumerate() {
            if without == Some(at) {
                back.push((at, probe));
                continue;
            }
            running.spawn(async move { (at, serve_once(probe, at, since, at_most).await) });
        }
        let (mut first, mut all) = (at_most, Duration::ZERO);
        while let Some(Ok((at, (probe, took)))) = running.join_next().await {
            if took.is_none() {
                let what = format!(
                    "no write and read through n{at} for {at_most:?} after {}",
                    fault.name()
                );
                self.tally.complaints.push(what);
            }
            let took = took.unwrap_or(at_most);
            (first, all) = (first.min(took), all.max(took));
            back.push((at, probe));
        }
        back.sort_by_key(|(at, _)| *at);
        self.probes = back.into_iter().map(|(_, probe)| probe).collect();
        self.tally.slowest_first = self.tally.slowest_first.max(first);
        self.tally.slowest_all = self.tally.slowest_all.max(all);
        (first, all)
    }

    /// What the probes saw.
    pub fn into_history(self) -> (Tally, History) {
        let mut history = History::default();
        for probe in self.probes {
            history.absorb(probe.history);
        }
        (self.tally, history)
    }
}

async fn serve_once(
    mut probe: Session,
    at: usize,
    since: Instant,
    at_most: Duration,
) -> (Session, Option<Duration>) {
    while since.elapsed() < at_most {
        let value = probe.unique();
        let key = format!("q/{at}");
        let step = Step::Put { key: key.clone(), value };
        let txn = Txn { success: vec![step], ..Txn::default() };
        if probe.transact(&txn, None).await.outcome.reply().is_some()
            && probe
                .read(&Range::one(&key), Freshness::Linearizable)
                .await
                .outcome
                .reply()
                .is_some()
        {
            return (probe, Some(since.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (probe, None)
}
