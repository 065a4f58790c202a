//! What one seed decides beforehand: how large the world is, how bad, and what its clients do.
//!
//! Swarm testing: each seed leaves kinds of mishaps out, so that the others come more often and meet in other ways.

use std::collections::BTreeSet;

use quorate_etcd::Limits;
use quorate_server::LowerLimits;

use super::bugs;
use crate::{dice::Dice, swarm::Options};

/// One millisecond, in nanoseconds.
pub(super) const MS: u64 = 1_000_000;
/// One second, in nanoseconds.
pub(super) const SECOND: u64 = 1_000 * MS;

/// What a state may hold, in bytes, where history is compacted and where it is not: more than it does, and so little that its
/// file grows past its bound while somebody reads an old state.
const QUOTA_BYTES: (u64, u64) = (300 << 10, 2 << 20);

/// How long the safety phase is when nothing else is said, in seconds.
const SECONDS: u64 = 60;

/// Everything a run needs.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// How many members.
    pub(super) members: usize,
    /// How long the safety phase is.
    pub(super) safety_ns: u64,
    pub(super) network: NetworkPlan,
    pub(super) disk: DiskPlan,
    /// The mean time between mishaps.
    pub(super) mishap_every_ns: u64,
    /// The kinds of mishaps that happen, each as often as it stands here.
    pub(super) mishaps: Vec<Mishap>,
    /// The mishaps that do not happen, by their number in the run.
    pub(super) skipped: BTreeSet<u64>,
    /// How often a leader gives a sign of life, and how long a follower waits for one at least.
    pub(super) heartbeat_ns: u64,
    pub(super) election_ns: u64,
    /// How far a member's clock may run from the world's, in millionths.
    pub(super) drift_ppm: u64,
    /// How many applied entries pile up before the log is cut, and how many stay.
    pub(super) snapshot_count: u64,
    pub(super) catchup_entries: u64,
    /// How much committed content may wait for a state machine, in bytes.
    pub(super) apply_bytes_max: u64,
    /// How long it takes until the state is a snapshot that has arrived.
    pub(super) install_ns: u64,
    /// How long work beside may wait for its turn, at most.
    pub(super) job_delay_ns: u64,
    /// Limits that are lowered to where they are hit.
    pub(super) lower_limits: Option<LowerLimits>,
    /// How long segments of the log are, in bytes.
    pub(super) segment_bytes: u64,
    /// How many of a million places between two things that an apply side makes visible give others a turn.
    pub(super) turn_ppm: u32,
    /// How often the time that is left of long leases is noted.
    pub(super) lease_checkpoint_seconds: u64,
    pub(super) load: Load,
    /// How much clients may take of a member: in a share of the seeds so little that they reach it.
    pub(super) limits: Limits,
    /// What the state may hold, in bytes.
    pub(super) quota_bytes: u64,
    /// A bug that is switched on, by its number; 0: none.
    pub(super) mutant: u16,
}

/// How messages travel.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetworkPlan {
    /// The least time that a message takes.
    pub(super) delay_least_ns: u64,
    /// The mean of what comes on top.
    pub(super) delay_more_ns: u64,
    /// How much content passes in one direction of a link in a second, in bytes; `None`: any.
    pub(super) bytes_per_second: Option<u64>,
    /// How many of a million are lost.
    pub(super) lost_ppm: u32,
    /// How many of a million arrive twice.
    pub(super) twice_ppm: u32,
    /// How many of a million become a frame on the way in which a bit flips; `None`: messages pass as values.
    pub(super) damaged_ppm: Option<u32>,
    /// Whether a message may overtake an earlier one of its lane.
    pub(super) overtakes: bool,
}

/// How long a disk takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskPlan {
    /// The least time for one sync.
    pub(super) sync_least_ns: u64,
    /// The mean of what comes on top.
    pub(super) sync_more_ns: u64,
}

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// How many ask for keys.
    pub(super) clients: usize,
    /// How many watch.
    pub(super) watchers: usize,
    /// How many take the whole state as a stream, in their own time.
    pub(super) dawdlers: usize,
    /// How many hold leases.
    pub(super) lessees: usize,
    /// How many append to lists.
    pub(super) appenders: usize,
    /// The mean time between an answer and the next request.
    pub(super) pause_ns: u64,
    /// How many keys there are.
    pub(super) keys: u64,
    /// Whether history is compacted now and then.
    pub(super) compacts: bool,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// A process dies between two steps.
    Crash,
    /// The power goes at some call of the disk a little later, perhaps while the member starts again.
    PowerOff,
    /// All processes die at once.
    CrashAll,
    /// A process stands still and goes on.
    Pause,
    /// One member can't talk to the others.
    Isolate,
    /// Two sides, between which nothing passes.
    Split,
    /// Nothing passes in one direction.
    OneWay,
    /// Everybody reaches one member, and nobody anybody else.
    Bridge,
    /// A disk takes much longer.
    SlowDisk,
    /// A member's state machine makes no progress; the rest of it goes on.
    ApplyHangs,
    /// A disk hangs: what is written is done only when it goes on.
    DiskHangs,
    /// A sync fails.
    SyncFails,
    /// A disk is full.
    DiskFull,
    /// A bit flips in a file of a member that is down: it must refuse it, or show the same state.
    BitFlip,
    /// A disk is lost with all that was on it: its member starts again with an empty one, and must count nowhere.
    Wipe,
    /// A member hears of a term that nobody can have reached.
    WildTerm,
    /// The leader is sent proposals that nobody can apply.
    BadProposal,
    /// For a while, snapshots that are sent come with another one that tells a wrong end.
    Mislabel,
    /// All connections of a member break, and what is under way on them is lost.
    Reset,
    /// A client stores what looks like the headers of the log, for segments that are still to come.
    Forge,
    /// One member can't talk to the others, and its clients leave it many proposals that change nothing: where it leads, a long
    /// tail that is never committed.
    Strand,
    /// The power goes at some call of the disk while the next snapshot is installed, at whichever member.
    InstallCut,
}

impl Mishap {
    const ALL: [Self; 22] = [
        Self::Crash,
        Self::PowerOff,
        Self::CrashAll,
        Self::Pause,
        Self::Isolate,
        Self::Split,
        Self::OneWay,
        Self::Bridge,
        Self::SlowDisk,
        Self::ApplyHangs,
        Self::DiskHangs,
        Self::SyncFails,
        Self::DiskFull,
        Self::BitFlip,
        Self::Wipe,
        Self::WildTerm,
        Self::BadProposal,
        Self::Mislabel,
        Self::Reset,
        Self::Forge,
        Self::Strand,
        Self::InstallCut,
    ];
}

impl Plan {
    /// Whether the members are far apart.
    pub(super) fn is_far(&self) -> bool {
        self.network.delay_least_ns > 20 * MS
    }

    /// Whether the members carry, from afar, what these clients ask for: with limits that low they don't, nor while their states
    /// are snapshots being installed for most of the time.
    pub(super) fn is_far_and_able(&self) -> bool {
        let waits = self.limits.proposal_bytes_max == 1 || self.install_ns >= SECOND;
        self.is_far() && self.lower_limits.is_none() && !waits
    }

    /// What `seed` decides, but for what `options` say.
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let mut dice = Dice::fork(seed, 0x0f11);
        let members = options.voters.unwrap_or_else(|| if dice.chance(150_000) { 5 } else { 3 });
        let mishaps = Mishap::ALL.into_iter().filter(|_| dice.chance(500_000)).collect();
        let load = Load {
            dawdlers: Dice::fork(seed, 0xda_3d1e).position(3),
            ..Self::load(&mut dice, options.rate)
        };
        let far = Far::draw(&mut Dice::fork(seed, 0xfa2));
        let mut plan = Self {
            seed,
            members,
            safety_ns: options.seconds.unwrap_or(SECONDS) * SECOND,
            network: NetworkPlan {
                damaged_ppm: Self::damage(&mut Dice::fork(seed, 0xf4a3e)),
                ..far.network(Self::network(&mut dice))
            },
            disk: DiskPlan {
                sync_least_ns: 50_000,
                sync_more_ns: one_of(&mut dice, &[200_000, MS, 5 * MS, 20 * MS]),
            },
            mishap_every_ns: one_of(&mut dice, &[1, 2, 5, 10]) * SECOND,
            mishaps,
            skipped: BTreeSet::new(),
            heartbeat_ns: far.heartbeat_ns,
            election_ns: far.election_ns,
            drift_ppm: one_of(&mut dice, &[0, 100, 500, 20_000]),
            snapshot_count: one_of(&mut dice, &[3, 20, 60, 200, 10_000]),
            catchup_entries: one_of(&mut dice, &[0, 5, 20, 100]),
            apply_bytes_max: one_of(&mut dice, &[100, 1_000, 64 << 20]),
            install_ns: one_of(&mut Dice::fork(seed, 0x1257), &[0, 0, 300 * MS, 4 * SECOND]),
            job_delay_ns: one_of(&mut dice, &[MS, 100 * MS, 15 * SECOND]),
            lower_limits: Self::lower_limits(&mut Dice::fork(seed, 0x10_3e8)),
            segment_bytes: one_of(&mut Dice::fork(seed, 0x5e6), &[16 << 10, 64 << 10, 64 << 10]),
            turn_ppm: u32::try_from(one_of(&mut dice, &[0, 0, 100_000, 500_000])).unwrap_or(0),
            lease_checkpoint_seconds: one_of(&mut dice, &[1, 2, 300]),
            load,
            limits: Self::limits(&mut dice),
            quota_bytes: 0,
            mutant: options.mutant,
        };
        if options.mutant >= bugs::FIRST {
            plan.aim();
        }
        if options.mutant == bugs::OF_INSTALLS {
            plan.aim_at_installs();
        }
        plan.mishaps = bugs::mishaps(options.mutant).unwrap_or(plan.mishaps);
        let (compacted, kept) = QUOTA_BYTES;
        plan.quota_bytes = if plan.load.compacts { compacted } else { kept };
        plan
    }

    /// For a planted bug: a world in which leadership moves, leases matter and snapshots are sent, so that few seeds are needed.
    fn aim(&mut self) {
        self.mishaps = vec![Mishap::Isolate, Mishap::Pause, Mishap::Crash];
        if (230..240).contains(&self.mutant) {
            self.mishaps.extend([Mishap::ApplyHangs, Mishap::DiskHangs]);
        }
        self.mishaps.extend(bugs::further_mishap(self.mutant));
        if self.mutant == 231 {
            self.install_ns = 4 * SECOND;
        }
        self.mishap_every_ns = 2 * SECOND;
        (self.snapshot_count, self.catchup_entries) = (20, 5);
        self.job_delay_ns = 5 * SECOND;
        if self.mutant == bugs::UNCHECKED_FRAMES {
            self.network.damaged_ppm = Some(3_000);
        }
        self.lease_checkpoint_seconds = 1;
        // A client in no hurry shows nothing else.
        let dawdlers = if self.mutant == bugs::OF_VIEWS { 3 } else { 0 };
        let pause_ns = self.load.pause_ns / 2;
        self.load = Load { lessees: 3, compacts: true, dawdlers, pause_ns, ..self.load };
    }

    /// For a planted bug of installs: leaders are cut off with a tail, and are soon so far behind that they need a snapshot which
    /// ends within it.
    fn aim_at_installs(&mut self) {
        (self.snapshot_count, self.catchup_entries) = (3, 0);
        self.job_delay_ns = MS;
        (self.limits, self.lower_limits) = (usual_limits(), None);
    }

    /// In half of the seeds so little that clients reach it.
    fn limits(dice: &mut Dice) -> Limits {
        let usual = usual_limits();
        if dice.chance(500_000) {
            return usual;
        }
        let slice_steps = usize::try_from(one_of(dice, &[1, 3, 20])).unwrap_or(1);
        // One proposal at a time.
        let (proposal_bytes_max, proposal_bytes_of_client_max) = (1, 1);
        Limits {
            slice_steps,
            long_reads_max: 1,
            proposal_bytes_max,
            proposal_bytes_of_client_max,
            ..usual
        }
    }

    /// In a share of the seeds.
    fn lower_limits(dice: &mut Dice) -> Option<LowerLimits> {
        let mut size = |of: &[u64]| usize::try_from(one_of(dice, of)).unwrap_or(1);
        let limits = LowerLimits {
            append_entries_max: size(&[1, 2, 8]) as u64,
            append_bytes_max: size(&[50, 400, 4_000]) as u64,
            inflight_appends_max: size(&[1, 2, 4]),
            uncommitted_entries_max: size(&[4, 10, 40]) as u64,
            proposals_max: size(&[2, 5, 20]),
            reads_max: size(&[1, 3, 20]),
            batch_entries_max: size(&[1, 3, 20]),
            inbox_max: size(&[1, 4, 20]),
            cache_bytes_max: size(&[0, 200, 4_000]) as u64,
            watch_revisions_max: size(&[1, 8, 64]),
            watch_pull_bytes_max: size(&[1, 200, 4_000]),
            snapshot_chunk_bytes: size(&[100, 1_000, 10_000]),
        };
        dice.chance(250_000).then_some(limits)
    }

    /// In a share of the seeds: frames are what takes most time of a run.
    fn damage(dice: &mut Dice) -> Option<u32> {
        let ppm = one_of(dice, &[0, 300, 3_000, 30_000]);
        dice.chance(150_000).then_some(u32::try_from(ppm).unwrap_or(0))
    }

    fn network(dice: &mut Dice) -> NetworkPlan {
        NetworkPlan {
            delay_least_ns: one_of(dice, &[20_000, 100_000, MS]),
            bytes_per_second: None,
            delay_more_ns: one_of(dice, &[50_000, 500_000, 5 * MS, 30 * MS]),
            lost_ppm: u32::try_from(one_of(dice, &[0, 0, 5_000, 50_000, 150_000])).unwrap_or(0),
            twice_ppm: u32::try_from(one_of(dice, &[0, 0, 10_000, 100_000])).unwrap_or(0),
            damaged_ppm: None,
            overtakes: dice.chance(300_000),
        }
    }

    /// `rate`: requests of all clients that ask for keys, in a second.
    fn load(dice: &mut Dice, rate: Option<u64>) -> Load {
        let clients = dice.within(2, 4);
        let rate = rate.unwrap_or_else(|| one_of(dice, &[3, 6, 12])).max(1);
        Load {
            clients: usize::try_from(clients).unwrap_or(2),
            watchers: dice.position(3),
            dawdlers: 0,
            lessees: dice.position(4),
            appenders: dice.position(3),
            pause_ns: SECOND * clients / rate,
            keys: one_of(dice, &[2, 5, 12]),
            compacts: dice.chance(500_000),
        }
    }
}

/// The usual limits, and the same on every machine.
fn usual_limits() -> Limits {
    Limits { slices_at_once: 1, ..Limits::default() }
}

/// How far the members are apart, and what an operator makes of it.
struct Far {
    /// How long a message takes at least, where they are far apart.
    delay_ns: Option<u64>,
    bytes_per_second: Option<u64>,
    heartbeat_ns: u64,
    election_ns: u64,
}

impl Far {
    /// In one of ten seeds a message takes up to a quarter of a second; half of the operators leave the settings as they are,
    /// the others set heartbeats to a round trip and elections to ten of them (etcd, "Tuning").
    fn draw(dice: &mut Dice) -> Self {
        let (heartbeat_ns, election_ns) = (100 * MS, SECOND);
        let near = Self { delay_ns: None, bytes_per_second: None, heartbeat_ns, election_ns };
        if !dice.chance(100_000) {
            return near;
        }
        let delay_ns = dice.within(50 * MS, 250 * MS);
        let slow = one_of(dice, &[10_000, 40_000, 200_000]);
        let bytes_per_second = dice.chance(600_000).then_some(slow);
        let far = Self { delay_ns: Some(delay_ns), bytes_per_second, ..near };
        if delay_ns > 150 * MS || dice.chance(500_000) {
            return far;
        }
        Self { heartbeat_ns: 2 * delay_ns, election_ns: 20 * delay_ns, ..far }
    }

    fn network(&self, near: NetworkPlan) -> NetworkPlan {
        match self.delay_ns {
            Some(delay_least_ns) => {
                NetworkPlan { delay_least_ns, bytes_per_second: self.bytes_per_second, ..near }
            }
            None => near,
        }
    }
}

fn one_of(dice: &mut Dice, of: &[u64]) -> u64 {
    dice.pick(of).copied().unwrap_or_default()
}
