//! Stories, each with the promise it shows.

use quorate_node::{NodeConfig, NodeEvent, PeerMessage, ProposeError, Scope};
use quorate_raft::{Config, Message, NodeId, Role, Term};

use crate::promises;
use crate::world::{Asked, ELECTION_NS, GROUP, MS, Outcome, World};

const ANYWHERE: Scope = Scope::Anywhere;

fn usual(_: &mut NodeConfig) {}

fn small_limits(config: &mut NodeConfig) {
    config.snapshot_count = 60;
    config.snapshot_catchup_entries = 10;
    config.cache_bytes_max = 2_000;
    config.batch_entries_max = 7;
    config.inbox_max = 20;
    config.apply_bytes_max = 300;
    config.flight_bytes_max = 64 << 10;
}

fn other_than(world: &World, id: NodeId) -> NodeId {
    world.members().into_iter().find(|other| *other != id).unwrap()
}

/// Heals everything and lets the world come to rest.
fn come_to_rest(world: &mut World) {
    world.loss = 0;
    for id in world.members() {
        world.isolate(id, false);
        if !world.running.contains_key(&id) {
            world.start(id);
        }
    }
    world.run(20 * ELECTION_NS);
}

/// One step of a bad day: load, and now and then a crash, a cut or a repair.
fn bad_day(world: &mut World) {
    let members = world.members();
    let pick = |world: &mut World| {
        members[usize::try_from(world.choices.below(members.len() as u64)).unwrap()]
    };
    for _ in 0..world.choices.below(12) {
        let id = pick(world);
        match world.choices.below(4) {
            0 => world.read(id),
            _ => world.propose(id, ANYWHERE),
        };
    }
    let id = pick(world);
    match world.choices.below(60) {
        0 => world.crash(id),
        1 => world.isolate(id, true),
        2 => {
            let to = pick(world);
            world.give(id, NodeEvent::TransferLeader { group: GROUP, to });
        }
        3 => {
            if let Some(leader) = world.leader() {
                let term = world.running[&leader].node.view(GROUP).unwrap().term;
                world.propose(leader, Scope::LeaderOf(term));
                world.crash(leader);
            }
        }
        4..14 => {
            for id in world.members() {
                world.isolate(id, false);
                if !world.running.contains_key(&id) {
                    world.start(id);
                }
            }
        }
        _ => {}
    }
    let pause = world.choices.below(150 * MS) + MS;
    world.run(pause);
}

fn survives_bad_days(count: u64, seed: u64, tweak: fn(&mut NodeConfig)) {
    let mut world = World::new(count, seed, tweak);
    world.loss = [0, 5, 30][usize::try_from(seed % 3).unwrap()];
    for _ in 0..400 {
        bad_day(&mut world);
    }
    come_to_rest(&mut world);
    promises::check(&world);
    let done = world.proposals.values().filter(|one| one.outcome == Outcome::Applied).count();
    assert!(done * 5 > world.proposals.len(), "seed {seed}: only {done} were applied");
}

#[test]
fn nothing_is_lost_or_doubled_under_loss_crashes_and_new_leaders() {
    for seed in 0..24 {
        survives_bad_days(3, seed, usual);
    }
}

#[test]
fn the_same_holds_with_every_limit_small_and_snapshots_all_the_time() {
    for seed in 100..124 {
        survives_bad_days(3, seed, small_limits);
    }
}

#[test]
fn the_same_holds_for_five_nodes_and_for_one() {
    for seed in 200..204 {
        survives_bad_days(5, seed, small_limits);
        survives_bad_days(1, seed, small_limits);
    }
}

#[test]
fn a_round_is_one_record_one_sync_and_one_message_to_each_peer() {
    let mut world = World::new(3, 1, usual);
    let leader = world.run_until_led();
    world.run(ELECTION_NS);
    let before = world.disks[&leader].calls();
    world.record_messages = true;
    for _ in 0..100 {
        world.propose(leader, ANYWHERE);
    }
    world.run(10 * MS);
    let after = world.disks[&leader].calls();
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1));
    let appends = world.messages.iter().filter(|(from, _, message)| {
        let is_append = matches!(
            message,
            PeerMessage::Raft { message: Message::AppendEntries { entries, .. }, .. }
                if entries.len() == 100
        );
        *from == leader && is_append
    });
    assert_eq!(appends.count(), 2);
    assert_eq!(world.acknowledged, 100);
}

/// What a follower lacks is in the log only, and whenever the leader hears of it, the log is being written. Appends were lost
/// then, and lost again, until the follower needed a snapshot.
#[test]
fn a_follower_catches_up_from_a_log_that_is_always_being_written() {
    let mut world = World::new(3, 11, |config| config.cache_bytes_max = 0);
    let leader = world.run_until_led();
    let follower = other_than(&world, leader);
    world.isolate(follower, true);
    for _ in 0..50 {
        world.propose(leader, ANYWHERE);
        world.run(5 * MS);
    }
    world.always_writing = true;
    world.isolate(follower, false);
    world.run(ELECTION_NS);
    assert_eq!(world.ordered, 0, "no snapshot is needed");
    let numbers = |id| world.running[&id].machine.numbers.len();
    assert_eq!((numbers(leader), numbers(follower)), (50, 50));
}

#[test]
fn a_forwarded_proposal_that_dies_with_its_leader_is_proposed_again_once() {
    let mut world = World::new(3, 7, usual);
    let leader = world.run_until_led();
    world.run(ELECTION_NS);
    let follower = other_than(&world, leader);
    // The leader takes it in, but its own appends reach nobody.
    for id in world.members() {
        world.cut.insert((leader, id));
    }
    let number = world.propose(follower, ANYWHERE);
    world.run(20 * MS);
    world.crash(leader);
    world.cut.clear();
    world.run(4 * ELECTION_NS);
    let asked = &world.proposals[&number];
    assert_eq!(asked.outcome, Outcome::Applied);
    assert!(asked.answered_at.since(asked.at) < 4 * ELECTION_NS, "{asked:?}");
    come_to_rest(&mut world);
    promises::check(&world);
}

/// etcd's time of a request: five seconds and two elections.
const REQUEST_NS: u64 = 5_000 * MS + 2 * ELECTION_NS;

#[test]
fn without_a_leader_requests_are_answered_when_their_time_is_up() {
    let mut world = World::new(3, 3, usual);
    let leader = world.run_until_led();
    world.run(ELECTION_NS);
    let left = other_than(&world, leader);
    for id in world.members().into_iter().filter(|id| *id != left) {
        world.crash(id);
    }
    let sent = world.propose(left, ANYWHERE);
    world.run(3 * ELECTION_NS);
    let waiting = world.propose(left, ANYWHERE);
    let read = world.read(left);
    let bound = world.propose(left, Scope::LeaderOf(Term(1)));
    world.run(REQUEST_NS + MS);
    let outcome = |number: u64| world.proposals[&number].outcome;
    assert_eq!(outcome(sent), Outcome::Failed(ProposeError::LeaderLost));
    assert_eq!(outcome(waiting), Outcome::Failed(ProposeError::NoLeader));
    assert_eq!(world.reads[&read].outcome, Outcome::Failed(ProposeError::NoLeader));
    assert_eq!(outcome(bound), Outcome::Failed(ProposeError::NotLeader));
    let waited = |asked: &Asked| asked.answered_at.since(asked.at);
    assert_eq!(waited(&world.proposals[&sent]), REQUEST_NS);
    assert_eq!(waited(&world.proposals[&waiting]), REQUEST_NS);
    assert_eq!(waited(&world.reads[&read]), REQUEST_NS);
    come_to_rest(&mut world);
    promises::check(&world);
}

/// The leader dies while another member stands still for three elections: nobody can be elected meanwhile. Whoever asks the third
/// member in all that time gets his answer, and none gets an error.
#[test]
fn requests_wait_for_an_election_that_takes_long() {
    let mut world = World::new(3, 23, usual);
    let leader = world.run_until_led();
    world.run(ELECTION_NS);
    let left = other_than(&world, leader);
    let paused = world.members().into_iter().find(|id| *id != leader && *id != left).unwrap();
    world.isolate(paused, true);
    world.crash(leader);
    for _ in 0..30 {
        world.propose(left, ANYWHERE);
        world.read(left);
        world.run(ELECTION_NS / 10);
    }
    world.isolate(paused, false);
    world.run(4 * ELECTION_NS);
    for asked in world.proposals.values().chain(world.reads.values()) {
        assert_eq!(asked.outcome, Outcome::Applied, "{asked:?}");
    }
    come_to_rest(&mut world);
    promises::check(&world);
}

#[test]
fn a_leader_cut_off_answers_in_time_and_its_proposals_are_not_lost_for_it() {
    let mut world = World::new(3, 5, usual);
    let leader = world.run_until_led();
    world.run(ELECTION_NS);
    world.isolate(leader, true);
    let number = world.propose(leader, ANYWHERE);
    world.run(REQUEST_NS + MS);
    let asked = &world.proposals[&number];
    assert_eq!(asked.answered_at.since(asked.at), REQUEST_NS, "{asked:?}");
    assert_eq!(asked.outcome, Outcome::Failed(ProposeError::LeaderLost), "{asked:?}");
    come_to_rest(&mut world);
    promises::check(&world);
}

#[test]
fn a_follower_that_slept_gets_a_snapshot_and_goes_on() {
    let mut world = World::new(3, 9, small_limits);
    let leader = world.run_until_led();
    let sleeper = other_than(&world, leader);
    world.crash(sleeper);
    for _ in 0..40 {
        for _ in 0..10 {
            world.propose(leader, ANYWHERE);
        }
        world.run(50 * MS);
    }
    assert!(world.running[&leader].node.view(GROUP).unwrap().base.index.0 > 100, "the log was cut");
    world.start(sleeper);
    world.run(5 * ELECTION_NS);
    let number = world.propose(sleeper, ANYWHERE);
    come_to_rest(&mut world);
    assert_eq!(world.proposals[&number].outcome, Outcome::Applied);
    promises::check(&world);
}

/// A snapshot takes as long as three hundred entries, and the log is cut every fifty: it stays for the receiver, who needs one.
fn snapshots_for_a_slow_one(hold_bytes_max: u64) -> usize {
    let mut world = World::new(3, 29, move |config| {
        small_limits(config);
        config.log_hold_bytes_max = hold_bytes_max;
    });
    let leader = world.run_until_led();
    let sleeper = other_than(&world, leader);
    world.crash(sleeper);
    let load = |world: &mut World, rounds: u64| {
        for _ in 0..rounds {
            world.propose(leader, ANYWHERE);
            world.run(10 * MS);
        }
    };
    load(&mut world, 300);
    world.snapshot_ns = 3_000 * MS;
    world.start(sleeper);
    load(&mut world, 1_500);
    let ordered = world.ordered;
    come_to_rest(&mut world);
    promises::check(&world);
    let log = &world.running[&leader].node;
    let (base, last) = log.view(GROUP).map(|view| (view.base.index.0, view.last.index.0)).unwrap();
    assert!(last - base < 200, "the log is cut again when nobody needs it: {base} of {last}");
    ordered
}

#[test]
fn the_log_stays_for_who_is_being_sent_a_snapshot_within_a_bound_of_bytes() {
    assert_eq!(snapshots_for_a_slow_one(1 << 20), 1);
    assert!(snapshots_for_a_slow_one(2_000) > 2, "too much is not kept");
}

#[test]
fn many_reads_share_one_question() {
    let mut world = World::new(3, 11, usual);
    let leader = world.run_until_led();
    world.run(ELECTION_NS);
    let follower = other_than(&world, leader);
    world.record_messages = true;
    for _ in 0..50 {
        world.read(follower);
    }
    world.run(20 * MS);
    let questions = world.messages.iter().filter(|(_, _, message)| {
        matches!(message, PeerMessage::Raft { message: Message::ReadIndex { .. }, .. })
    });
    assert_eq!(questions.count(), 1);
    assert!(world.reads.values().all(|read| read.outcome == Outcome::Applied));
}

/// The settings of an operator who knows his network: heartbeats as often as a message travels there and back, elections ten
/// times as long (etcd, "Tuning").
fn advised(rtt_ns: u64) -> impl Fn(&mut NodeConfig) {
    move |config| {
        let raft = Config {
            heartbeat_interval_ns: rtt_ns.max(100 * MS),
            election_timeout_ns: (10 * rtt_ns).max(ELECTION_NS),
            ..config.raft.clone()
        };
        *config = NodeConfig::new(raft, config.incarnation);
    }
}

/// On a network with this round trip every read ends well at every member: two round trips after its question, which waits
/// for the one before, but no longer than two more.
fn reads_end(rtt_ns: u64, disk_ns: u64, tweak: impl Fn(&mut NodeConfig) + 'static) {
    let mut world = World::new(3, 17, tweak);
    (world.delay_ns, world.disk_ns) = (rtt_ns / 2, disk_ns);
    world.run_until_led();
    world.run(3 * ELECTION_NS);
    for number in 0..40 {
        for id in world.members() {
            world.read(id);
            if number % 4 == 0 {
                world.propose(id, ANYWHERE);
            }
        }
        world.run(70 * MS);
    }
    world.run(8 * ELECTION_NS);
    let longest = world.reads.values().map(|read| read.answered_at.since(read.at)).max();
    for read in world.reads.values() {
        assert_eq!(read.outcome, Outcome::Applied, "rtt {rtt_ns}, disk {disk_ns}: {read:?}");
    }
    let bound = rtt_ns * 9 / 2 + 8 * disk_ns + 300 * MS;
    assert!(longest < Some(bound), "rtt {rtt_ns}, disk {disk_ns}: {longest:?}");
}

#[test]
fn reads_end_on_links_of_any_speed_and_over_slow_disks() {
    for rtt_ms in [1, 90, 120, 250, 500] {
        for disk_ns in [MS / 5, 60 * MS] {
            reads_end(rtt_ms * MS, disk_ns, usual);
            reads_end(rtt_ms * MS, disk_ns, advised(rtt_ms * MS));
        }
    }
}

#[test]
fn roles_are_reported_and_leadership_can_be_handed_over() {
    let mut world = World::new(3, 13, usual);
    let leader = world.run_until_led();
    world.run(ELECTION_NS);
    let next = other_than(&world, leader);
    world.give(leader, NodeEvent::TransferLeader { group: GROUP, to: next });
    world.run(ELECTION_NS / 2);
    assert_eq!(world.leader(), Some(next));
    let role = |id: NodeId| world.running[&id].roles.last().map(|(role, _)| *role);
    assert_eq!((role(leader), role(next)), (Some(Role::Follower), Some(Role::Leader)));
}
