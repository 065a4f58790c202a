//! Bugs that others have had, brought back one at a time, so that the judges can be judged: one that never convicts is no judge.
//!
//! Those of the core are one-line switches in `quorate-raft`, compiled only with the feature `mutants` and chosen by
//! `Config::mutant`. Those of a driver, from number 100 on, are switches in [`world`](crate::world). Those between the core and the
//! clients, from number 200 on, are switches in `quorate-server`, compiled only with the same feature; they are hunted in a
//! [world of whole servers](crate::full).

use crate::full;
use crate::swarm::{self, Options};
use crate::world::Judge;

/// Bugs of a driver, by number.
pub(crate) mod driver {
    /// Messages leave before the writes they wait for are durable.
    pub(crate) const HASTY_SEND: u16 = 100;
    /// The last sync before a crash was a lie.
    pub(crate) const LYING_SYNC: u16 = 101;
    /// Term and vote are never written.
    pub(crate) const NO_HARD_STATE: u16 = 102;
    /// The applied index is saved without the data.
    pub(crate) const APPLIED_APART: u16 = 103;
    /// Two writes reach the disk in the wrong order.
    pub(crate) const OUT_OF_ORDER: u16 = 104;
    /// A restart takes the log's last entry for a torn tail.
    pub(crate) const LOSE_TAIL: u16 = 105;
    /// A snapshot holds less than it claims.
    pub(crate) const OLD_SNAPSHOT: u16 = 106;
    /// A restart takes a damaged record in the middle of the log for its end.
    pub(crate) const TORN_FOR_DAMAGED: u16 = 107;
    /// A voter whose disk was wiped starts again under its id.
    pub(crate) const REJOIN_WIPED: u16 = 108;
    /// A frame's checksum is not looked at.
    pub(crate) const BAD_FRAME: u16 = 109;
}

/// One bug.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its number.
    pub number: u16,
    /// What is wrong.
    pub title: &'static str,
    /// Who had it, or which rule of the paper it breaks.
    pub source: &'static str,
}

impl Mutant {
    /// Whether only whole servers can have it.
    pub fn is_of_servers(&self) -> bool {
        self.number >= full::bugs::FIRST
    }
}

const fn of(number: u16, title: &'static str, source: &'static str) -> Mutant {
    Mutant { number, title, source }
}

/// All of them.
pub const CATALOGUE: &[Mutant] = &[
    of(1, "stepping down in the same term clears the vote", "microsoft/CCF#8094"),
    of(2, "RequestVote leaves before term and vote are durable", "wenweihu86/raft-java#57"),
    of(3, "a granted vote leaves before it is durable", "hashicorp/raft#661"),
    of(4, "a granted vote is never written", "Raft paper, figure 2"),
    of(5, "a vote for a candidate whose log is behind", "Raft paper 5.4.1"),
    of(6, "up-to-date compares positions and not terms", "Raft paper 5.4.1"),
    of(7, "two votes in one term", "Raft paper 5.2"),
    of(8, "entries of earlier terms are committed by counting", "logcabin#44; Raft paper 5.4.2"),
    of(9, "a leader counts its own copy before it is durable", "etcd#14370"),
    of(10, "a follower acknowledges before its write is durable", "etcd#12589"),
    of(11, "an old AppendEntries truncates what matches", "openraft 9540c904"),
    of(12, "a heartbeat tells more than the follower is known to match", "tikv#7353"),
    of(13, "what was sent counts as matched at the first answer", "Raft paper 5.3"),
    of(14, "a refusal counts as a match", "CCF#5674"),
    of(15, "an old refusal rewinds below the match", "raft-rs#557, etcd-io/raft#149"),
    of(16, "two copies commit, whatever the number of voters", "openraft#1802"),
    of(17, "a leader without a quorum stays", "Cloudflare, November 2020"),
    of(18, "a read index before the first commit of the term", "etcd#7331, tikv#6340"),
    of(19, "a read without asking a quorum", "etcd before 2.3; Jepsen 2014"),
    of(20, "a late read index answers a newer read", "etcd-io/raft#397"),
    of(21, "any sign of life confirms the newest read round", "thesis 6.4"),
    of(22, "an append from before the start of the log drops the log", "openraft#511"),
    of(
        23,
        "a late completion speaks for entries that were replaced",
        "etcd-io/raft, async storage, ABA",
    ),
    of(24, "a snapshot's end is matched by position only", "hashicorp/raft#704"),
    of(25, "a snapshot is acknowledged before it is durable", "tikv#12618"),
    of(26, "a snapshot older than the commit index is installed", "openraft eed681d5"),
    of(27, "an answer to a rehearsal counts as a vote", "openraft 511f33c7"),
    of(28, "a vote of an earlier term counts", "openraft#1220"),
    of(29, "a leader does not hear of later terms", "Raft paper 5.1"),
    of(30, "entries are given out before they are durable here", "NuRaft#185"),
    of(33, "lost appends are never sent again", "etcd-io/raft, replicate_pause"),
    of(
        34,
        "a peer in Probe is never asked again",
        "etcd-io/raft, heartbeat_resp_recovers_from_probing",
    ),
    of(35, "a snapshot that failed is waited for for ever", "etcd#7042, dgraph#2707"),
    of(36, "reads of a former leader are never answered", "restate#2947, etcd#11483"),
    of(37, "reads that nobody answers are never given up", "etcd#11483"),
    of(38, "the entry before an append is not compared", "Raft paper 5.3"),
    of(39, "a later term is not written", "Raft paper, figure 2"),
    of(40, "a candidate's term and vote are not written", "seaweedfs/raft#9"),
    of(41, "heartbeats carry no commit index", "etcd-io/raft, lagging_commit"),
    of(42, "a transfer of leadership is never given up", "canonical/raft#203"),
    of(43, "election timeouts are all the same", "Raft paper 5.2"),
    of(44, "messages of earlier terms are taken in", "Raft paper 5.1"),
    of(45, "an acknowledgement of an earlier term counts", "openraft cecb5de8"),
    of(46, "a member with a broken disk campaigns", "hashicorp/raft#614"),
    of(50, "a read is given up while its answer is under way", "Quorate, reads on slow links"),
    of(driver::HASTY_SEND, "messages do not wait for their writes", "openraft, io_ordering"),
    of(
        driver::LYING_SYNC,
        "a sync returns before the data is safe",
        "etcd#14370; Rebello, ATC 2020",
    ),
    of(driver::NO_HARD_STATE, "term and vote are never synced", "Raft paper, figure 2"),
    of(driver::APPLIED_APART, "applied index and data are not one write", "etcd#13766"),
    of(driver::OUT_OF_ORDER, "writes reach the disk out of order", "openraft#1960"),
    of(driver::LOSE_TAIL, "a good last record is taken for a torn one", "Alagappan, FAST 2018"),
    of(
        driver::OLD_SNAPSHOT,
        "a snapshot is taken of an older state than it says",
        "dragonboat#369",
    ),
    of(
        driver::TORN_FOR_DAMAGED,
        "a damaged record in the middle of the log is taken for its end",
        "Alagappan, FAST 2018",
    ),
    of(
        driver::REJOIN_WIPED,
        "a voter whose disk was wiped comes back under its id",
        "Raft paper, figure 2: state must persist",
    ),
    of(
        driver::BAD_FRAME,
        "a frame's checksum is not looked at",
        "what checksums on frames are for",
    ),
    of(200, "a hash of a replaced state ends the member", "Quorate, 306243d"),
    of(201, "a watch is not told of a run's last revision", "etcd API guarantees: reliable"),
    of(202, "a deposed leader's end of a lease reaches the log", "etcd#15247"),
    of(203, "the log is cut behind a state that is not durable", "etcd#13766"),
    of(204, "leases are not read again from a snapshot", "etcd#13205"),
    of(205, "a read is answered without asking anybody", "etcd before 2.3; Jepsen 2014"),
    of(210, "after a crash in an install, log and state are compared by index alone", "Quorate"),
    of(211, "whoever forges headers of the log knows its salt", "Quorate"),
    of(260, "of leases renewed together only the first is", "this code, when it learnt to"),
    of(250, "a request that was taken back takes up no room", "CVE-2023-44487, rapid reset"),
    of(251, "what a request takes up is not given back", "Quorate, hash and snapshot floods"),
    of(
        273,
        "a call of the leader outlives its client",
        "Quorate, before its counts were looked at",
    ),
    of(
        274,
        "a snapshot that nobody wants stays on the disk",
        "Quorate, before its counts were looked at",
    ),
    of(275, "a frame's checksum is not looked at", "what checksums on frames are for"),
    of(240, "a renewal leaves the lease's checkpoint in the log", "etcd#13294"),
    of(241, "a leader ends leases by the clock of an earlier leadership", "etcd#15247"),
    of(230, "nothing is heard while the log is written", "Quorate, hung disks"),
    of(231, "nothing is heard while a snapshot is installed", "Quorate, installs"),
    of(232, "a request is refused for want of a leader while its time runs", "Quorate"),
    of(242, "a member serves clients before it has replayed its log", "Quorate"),
    of(243, "a state that a snapshot replaces is closed under its readers", "Quorate"),
    of(
        244,
        "a client keeps an old state, whatever space it takes",
        "Quorate, 71 to 286 MB past 40",
    ),
    of(220, "a voter whose disk was wiped comes back under its id", "etcd#11410"),
    of(221, "the group never hears which directories its members speak from", "Quorate"),
    of(222, "one message uses up the terms", "Quorate"),
    of(223, "a leader appends what nobody can apply", "Quorate"),
    of(224, "a snapshot is taken for what its sender says it is", "Quorate"),
    of(252, "the state is read by whoever brings a chunk's acknowledgement", "Quorate"),
    of(253, "the Raft side reads entries that are no longer in memory itself", "Quorate"),
];

/// Who convicted a mutant.
#[derive(Clone, Copy, Debug)]
pub struct Caught {
    /// By which property.
    pub judge: Judge,
    /// In which seed.
    pub seed: u64,
    /// After how many seeds, itself included.
    pub seeds: u64,
}

/// Runs seeds with a bug switched on until one fails.
pub fn hunt(mutant: Mutant, first_seed: u64, seeds_max: u64, options: &Options) -> Option<Caught> {
    let options = Options { mutant: mutant.number, ..options.clone() };
    (0..seeds_max).find_map(|number| {
        let seed = first_seed.wrapping_add(number);
        let outcome = if mutant.is_of_servers() {
            full::run_seed(seed, &options)
        } else {
            swarm::run_seed(seed, &options)
        };
        let failure = outcome.failure?;
        Some(Caught { judge: failure.judge, seed, seeds: number + 1 })
    })
}
