//! Random runs: many seeds, all faults at once, judged after every step; then all is well again and there must be progress.
//!
//! Sources of the mix: openraft's `tests-turmoil`, the scenarios of etcd raft, and the list in the robustness page.

use quorate_raft::{Config, EntryRange, Fault, Index, NodeId, Role};

use crate::cluster::{Cluster, Dice, Input, MILLISECOND, Weather};

/// Small limits, so that every one of them is met.
fn config(dice: &mut Dice) -> Config {
    Config {
        heartbeat_interval_ns: 10 * MILLISECOND,
        election_timeout_ns: 100 * MILLISECOND,
        append_bytes_max: 50 + dice.below(400),
        append_entries_max: 1 + dice.below(8),
        inflight_appends_max: 1 + usize::try_from(dice.below(4)).unwrap(),
        inflight_bytes_max: 100 + dice.below(1000),
        uncommitted_bytes_max: 300 + dice.below(2000),
        uncommitted_entries_max: 10 + dice.below(40),
        reads_max: 1 + usize::try_from(dice.below(20)).unwrap(),
        ..Config::default()
    }
}

fn weather(dice: &mut Dice) -> Weather {
    let (slow_net, slow_disk) = (dice.chance(20), dice.chance(20));
    Weather {
        loss_percent: if dice.chance(50) { dice.below(30) } else { 0 },
        duplicate_percent: dice.below(20),
        delay_ns: (0, if slow_net { 150 } else { 5 } * MILLISECOND),
        sync_ns: (0, if slow_disk { 250 } else { 5 } * MILLISECOND),
    }
}

fn any(dice: &mut Dice, ids: &[NodeId]) -> NodeId {
    ids[usize::try_from(dice.below(ids.len() as u64)).unwrap()]
}

/// One thing goes wrong, or is asked for.
fn disturb(cluster: &mut Cluster, dice: &mut Dice) {
    let ids = cluster.ids();
    let id = any(dice, &ids);
    let likely = cluster.leader().filter(|_| dice.chance(70)).unwrap_or(id);
    match dice.below(100) {
        0..4 => cluster.crash(id, usize::try_from(dice.below(3)).unwrap()),
        4..12 if !cluster.is_running(id) => cluster.restart(id),
        12..16 => cluster.isolate(likely),
        16..19 => {
            let other = any(dice, &ids);
            cluster.cut(&[id], &[other]);
        }
        19..20 => {
            let other = any(dice, &ids);
            cluster.cut.insert((id, other));
        }
        20..22 => {
            let (one, other) = ids.split_at(ids.len() / 2);
            cluster.cut(one, other);
        }
        22..28 => cluster.cut.clear(),
        28..31 => cluster.weather = weather(dice),
        _ if !cluster.is_running(likely) => cluster.restart(likely),
        31..34 => compact(cluster, likely, dice),
        34..37 => {
            cluster.step(likely, &Input::Transfer(id));
        }
        37..39 => {
            cluster.step(likely, &Input::Unreachable(id));
        }
        39..41 => fault(cluster, likely, dice),
        41..46 => {
            cluster.step(likely, &Input::Repaired);
        }
        46..66 => read(cluster, likely),
        _ => {
            let count = 1 + dice.below(6);
            cluster.propose(likely, count);
        }
    }
}

/// Above all at members that believe to lead: all but one of them are wrong.
fn read(cluster: &mut Cluster, likely: NodeId) {
    cluster.read(likely);
    for id in cluster.running() {
        if cluster.view(id).role == Role::Leader {
            cluster.read(id);
        }
    }
}

fn compact(cluster: &mut Cluster, id: NodeId, dice: &mut Dice) {
    let upto = cluster.view(id).released.0.saturating_sub(dice.below(5));
    cluster.step(id, &Input::Compact(Index(upto)));
}

fn fault(cluster: &mut Cluster, id: NodeId, dice: &mut Dice) {
    let fault = match dice.below(3) {
        0 => Fault::DiskFull,
        1 => Fault::SlowDisk { stalled_for_ns: 1 },
        _ => Fault::Corrupt(EntryRange { first: Index(1), last: Index(2) }),
    };
    cluster.step(id, &Input::Fault(fault));
}

fn run(seed: u64, steps: u64) -> Cluster {
    let mut dice = Dice::new(seed);
    let voters = [1, 2, 3, 3, 3, 4, 5, 5][usize::try_from(dice.below(8)).unwrap()];
    let learners = u64::from(dice.chance(30));
    let mut cluster = Cluster::new(&config(&mut dice), voters, learners, seed);
    cluster.weather = weather(&mut dice);
    for _ in 0..steps {
        disturb(&mut cluster, &mut dice);
        let span = dice.below(40 * MILLISECOND);
        cluster.run_for(span);
    }
    cluster.heal_and_expect_progress();
    cluster
}

/// Answers take nearly as long as the shortest election timeout: there is a leader, and it stays. They take longer: no leader can
/// know that it has a quorum, but terms rise no faster than elections are due.
/// Source: cockroach#15702, d-engine#352 (V13).
#[test]
fn a_slow_network_brings_no_storm_of_terms() {
    for seed in 0..20 {
        let config = config(&mut Dice::new(seed));
        let timeout = config.election_timeout_ns;
        let mut cluster = Cluster::new(&config, 3 + 2 * (seed % 2), 0, seed);
        cluster.weather.delay_ns = (timeout * 3 / 10, timeout * 48 / 100);
        let latest =
            |cluster: &Cluster| cluster.ids().into_iter().map(|id| cluster.view(id).term.0).max();
        assert!(
            cluster.run_until(20 * timeout, |cluster| cluster.leader().is_some()),
            "seed {seed}"
        );
        cluster.run_for(10 * timeout);
        let settled = latest(&cluster);
        cluster.run_for(100 * timeout);
        assert_eq!(
            (latest(&cluster), settled < Some(8)),
            (settled, true),
            "seed {seed}: {}",
            cluster.describe()
        );
        cluster.weather.delay_ns = (timeout * 6 / 10, timeout * 9 / 10);
        cluster.run_for(50 * timeout);
        assert!(
            latest(&cluster) < settled.map(|term| term + 50),
            "seed {seed}: {}",
            cluster.describe()
        );
        cluster.heal_and_expect_progress();
    }
}

/// How many seeds are tried; `QUORATE_SEEDS=10000 cargo test -p quorate-raft random` looks for longer.
fn seeds() -> u64 {
    std::env::var("QUORATE_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(100)
}

#[test]
fn any_mix_of_faults_is_safe_and_ends_in_progress() {
    let (mut elections, mut grants, mut commits) = (0, 0, 0);
    for seed in 0..seeds() {
        let cluster =
            std::panic::catch_unwind(|| run(seed, 250)).unwrap_or_else(|_| panic!("seed {seed}"));
        elections += cluster.judge.elections;
        grants += cluster.judge.grants;
        commits += cluster.judge.commit_index().0;
    }
    assert!(
        elections > 300 && grants > 300 && commits > 3000,
        "{elections} elections, {grants} reads, {commits} commits"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let story = |seed| {
        let cluster = run(seed, 150);
        (cluster.describe(), cluster.judge.committed().to_vec(), cluster.now)
    };
    assert_eq!(story(7), story(7));
}
