//! What disks do to members.

use quorate_raft::{Config, EntryId, Index, Mono, Term};

use super::{Part, Snapshot, World, Write};

const DAY_NS: u64 = 86_400_000_000_000;

/// The last of so many voters is spare.
fn world(voters: usize) -> World {
    let mut world = World::new(&Config::default(), voters, 0);
    world.atlas.spare = 1 << (voters - 1);
    for seat in 0..voters {
        world.start(seat, Mono(0), 7).unwrap();
    }
    world
}

/// A lone voter with some entries, all of them durable.
fn lone(entries: u64) -> World {
    let mut world = world(1);
    world.step(0, Mono(DAY_NS), super::Input::Wake).unwrap();
    for _ in 0..entries {
        world.propose(0, 1, Mono(DAY_NS)).unwrap();
    }
    settle(&mut world, 0);
    world
}

fn settle(world: &mut World, seat: usize) {
    while world.running(seat).is_some_and(|member| !member.disk.queue.is_empty()) {
        world.sync(seat, usize::MAX, Mono(DAY_NS)).unwrap();
    }
}

fn last(world: &World) -> Index {
    world.members[0].disk.image.log.last().index
}

#[test]
fn a_killed_process_loses_nothing_and_a_power_cut_what_was_not_synced() {
    for (cut, left) in [(false, 4), (true, 3)] {
        let mut world = lone(2);
        world.propose(0, 1, Mono(DAY_NS)).unwrap();
        let stopped = if cut { world.crash(0, 0) } else { world.kill(0) };
        stopped.unwrap();
        assert_eq!((last(&world), world.running(0).is_some()), (Index(left), false));
    }
}

#[test]
fn a_lying_drive_keeps_what_it_says_until_the_power_goes() {
    let mut world = lone(1);
    world.lie(0);
    world.propose(0, 1, Mono(DAY_NS)).unwrap();
    settle(&mut world, 0);
    world.kill(0).unwrap();
    assert_eq!(last(&world), Index(3));
    world.start(0, Mono(DAY_NS), 1).unwrap();
    world.crash(0, 0).unwrap();
    assert_eq!(last(&world), Index(2));
    world.start(0, Mono(DAY_NS), 1).unwrap();
    assert!(world.running(0).is_none() && world.members[0].is_gone);
}

#[test]
fn a_drive_that_owned_up_loses_nothing() {
    let mut world = lone(1);
    world.lie(0);
    world.propose(0, 1, Mono(DAY_NS)).unwrap();
    settle(&mut world, 0);
    world.members[0].disk.own_up();
    world.crash(0, 0).unwrap();
    world.start(0, Mono(DAY_NS), 1).unwrap();
    assert_eq!((last(&world), world.running(0).is_some()), (Index(3), true));
}

#[test]
fn damage_is_found_at_the_next_start_and_is_final() {
    for part in Part::ALL {
        let mut world = lone(1);
        world.damage(0, part);
        assert!(world.running(0).is_some());
        world.kill(0).unwrap();
        world.start(0, Mono(DAY_NS), 1).unwrap();
        assert!(world.running(0).is_none() && world.members[0].is_gone, "{part:?}");
    }
}

#[test]
fn a_full_disk_ends_the_process_at_its_next_write_and_room_lets_it_start() {
    let mut world = lone(1);
    world.members[0].disk.is_full = true;
    assert!(world.running(0).is_some());
    world.propose(0, 1, Mono(DAY_NS)).unwrap();
    assert!(world.running(0).is_none());
    world.start(0, Mono(DAY_NS), 1).unwrap();
    assert!(world.running(0).is_none());
    world.members[0].disk.is_full = false;
    world.start(0, Mono(DAY_NS), 1).unwrap();
    assert_eq!((last(&world), world.running(0).is_some()), (Index(2), true));
}

#[test]
fn a_wiped_voter_is_gone_unless_majorities_share_another() {
    for (voters, gone) in [(3, true), (4, false), (5, true)] {
        let mut world = world(voters);
        world.wipe(voters - 1).unwrap();
        world.start(voters - 1, Mono(DAY_NS), 1).unwrap();
        assert_eq!(world.running(voters - 1).is_none(), gone, "{voters}");
        world.wipe(0).unwrap();
        assert!(world.running(0).is_some() && world.atlas.refused == 1);
    }
}

#[test]
fn what_a_lost_disk_promised_counts_as_promised() {
    let mut world = world(3);
    let entry = EntryId { term: Term(2), index: Index(9) };
    let install = Some(Snapshot { last: entry, state: 1 });
    let token = quorate_raft::IoToken(1);
    let write = Write { token, hard_state: None, append: None, install };
    world.members[2].disk.image.keep(&write);
    world.wipe(2).unwrap();
    let disk = &world.members[2].disk;
    assert!(disk.vouches_for(entry) && !disk.image.log.holds(entry));
}
