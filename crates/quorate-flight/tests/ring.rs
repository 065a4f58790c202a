//! A run is played again and agrees; the ring is bounded; images are whole.

use quorate_flight::{Problem, RING_BYTES_MIN, Recorder, Recording, SEGMENTS_MAX, Scene, replay};
use quorate_raft::{
    Config, Core, Effects, EntryId, EntryKind, EntryMeta, Event, GroupId, HardState, Index,
    Membership, Mono, NodeId, Recovered, Role, SnapshotMeta, Term,
};

use crate::world::World;

/// Runs a world, plays all of its members again, and says how many steps and images that were.
fn agrees(seed: u64, ring_bytes_max: usize, events: u64) -> (World, u64, u64) {
    let mut world = World::new(seed, ring_bytes_max);
    world.run(events);
    let (mut steps, mut images) = (0, 0);
    for at in 0..3 {
        let file = world.recording(at);
        let recording = Recording::read(&file).unwrap();
        assert_eq!(recording.damage, None);
        assert_eq!(recording.group, GroupId(7));
        let mut last = None;
        let outcome = replay(&recording, |scene| {
            if let Scene::Step(step) = scene {
                last = Some(format!("{:?}", step.core));
            }
        });
        assert_eq!(outcome.violations, [], "seed {seed}, member {at}");
        assert_eq!(last.unwrap(), format!("{:?}", world.members[at].core));
        let recorded: u64 = recording.segments.iter().map(|segment| segment.steps).sum();
        assert_eq!(outcome.steps, recorded);
        (steps, images) = (steps + outcome.steps, images + outcome.images);
    }
    (world, steps, images)
}

#[test]
fn whole_runs_are_played_again_and_agree_in_every_step() {
    let (mut elections, mut commits, mut installs) = (0, 0, 0);
    for seed in 0..12 {
        let (world, steps, images) = agrees(seed, 8 << 20, 8_000);
        assert_eq!(images, 3, "nothing was dropped");
        let taken: u64 = world.members.iter().map(|member| member.recorder.steps()).sum();
        assert_eq!(steps, taken);
        elections += world.elections;
        commits += world.commits;
        installs += world.installs;
    }
    let counts = [elections, commits, installs];
    assert!(counts.iter().zip([50, 5_000, 5]).all(|(count, least)| *count > least), "{counts:?}");
}

#[test]
fn the_end_of_a_run_is_played_again_when_its_beginning_is_dropped() {
    for seed in 20..30 {
        let (world, steps, images) = agrees(seed, 64 << 10, 20_000);
        assert!(images > 6, "several segments are left: {images}");
        let taken: u64 = world.members.iter().map(|member| member.recorder.steps()).sum();
        assert!(steps < taken, "the oldest went: {steps} of {taken}");
    }
}

#[test]
fn the_ring_stays_below_its_limit_and_the_oldest_segment_goes() {
    let limit = 32 << 10;
    let mut world = World::new(3, limit);
    let mut oldest = 0;
    for _ in 0..200 {
        world.run(200);
        for member in &world.members {
            assert!(member.recorder.bytes() <= limit, "{}", member.recorder.bytes());
        }
        let file = world.recording(0);
        let recording = Recording::read(&file).unwrap();
        assert!((1..=SEGMENTS_MAX).contains(&recording.segments.len()));
        let first = recording.segments[0].first_step;
        assert!(first >= oldest);
        oldest = first;
        let ends = recording.segments.iter().map(|segment| segment.first_step + segment.steps);
        let begins = recording.segments.iter().skip(1).map(|segment| segment.first_step);
        assert!(ends.zip(begins).all(|(end, begin)| end == begin), "no gaps");
    }
    assert!(oldest > 1_000, "{oldest}");
}

#[test]
fn an_image_is_all_of_a_core() {
    let mut world = World::new(5, RING_BYTES_MIN);
    let mut roles = Vec::new();
    for _ in 0..600 {
        world.run(20);
        for member in &world.members {
            let mut words = Vec::new();
            assert!(member.core.image(&mut words));
            let mut words = words.into_iter();
            let again = Core::from_image(&mut words).unwrap();
            assert_eq!(words.next(), None);
            assert_eq!(format!("{again:?}"), format!("{:?}", member.core));
            roles.push(again.view().role);
        }
    }
    for role in [Role::Follower, Role::PreCandidate, Role::Candidate, Role::Leader] {
        assert!(roles.contains(&role), "{role:?} was seen");
    }
}

#[test]
fn a_step_that_gave_out_something_else_is_named() {
    for seed in 40..60 {
        let mut world = World::new(seed, 8 << 20);
        let (liar, after) = (world.dice.place(3), world.dice.below(1_000));
        world.lie_at = Some((liar, after));
        let mut told = None;
        while told.is_none() {
            world.run(1);
            told = world.lie_at.is_none().then(|| world.members[liar].recorder.steps());
        }
        let earliest = told.unwrap().saturating_sub(3);
        world.run(100);
        let file = world.recording(liar);
        let outcome = replay(&Recording::read(&file).unwrap(), |_| {});
        let [violation] = outcome.violations.as_slice() else { panic!("{outcome:?}") };
        assert_eq!(violation.problem, Problem::Diverged);
        assert!((earliest..told.unwrap()).contains(&violation.step), "{violation:?}, {told:?}");
    }
}

#[test]
fn a_step_that_never_ended_is_played_too() {
    let mut world = World::new(9, 8 << 20);
    world.run(3_000);
    let now = world.now.after(1 << 40);
    let member = &mut world.members[1];
    member.recorder.before(now, &member.core, Event::Propose { sizes: &[1, 2] });
    let file = world.recording(1);
    let recording = Recording::read(&file).unwrap();
    assert!(recording.segments[0].unfinished);
    let mut last = Mono(0);
    let outcome = replay(&recording, |scene| {
        if let Scene::Step(step) = scene {
            last = step.now;
        }
    });
    assert_eq!(outcome.violations, []);
    assert_eq!((outcome.steps, last), (recording.segments[0].steps + 1, now));
}

#[test]
fn what_does_not_fit_leaves_a_gap_and_recording_goes_on() {
    let mut world = World::new(11, RING_BYTES_MIN);
    world.run(500);
    let sizes: Vec<u32> = (0..20_000).collect();
    for at in 0..3 {
        world.step(at, Event::Propose { sizes: &sizes });
    }
    world.run(20);
    for at in 0..3 {
        let file = world.recording(at);
        let mut gaps = 0;
        let outcome = replay(&Recording::read(&file).unwrap(), |scene| {
            if let Scene::Image { gap, .. } = scene {
                gaps += gap;
            }
        });
        assert_eq!(outcome.violations, []);
        assert!(gaps <= 1, "at most that step is missing: {gaps}");
        assert!(world.members[at].recorder.bytes() <= RING_BYTES_MIN);
    }
}

/// Ten thousand entries of different sizes take more than half a segment of the smallest ring.
#[test]
fn a_core_whose_image_does_not_fit_is_not_recorded_until_it_does() {
    let recovered = |count: u32| {
        let membership = Membership::of_voters([NodeId(1), NodeId(2)]);
        let base = SnapshotMeta { last: EntryId::default(), membership };
        let entry = |bytes| EntryMeta { term: Term(1), kind: EntryKind::Normal, bytes };
        let hard_state = HardState { term: Term(1), vote: None, commit: Index(u64::from(count)) };
        let applied = EntryId { term: Term(1), index: hard_state.commit };
        Recovered { base, entries: (0..count).map(entry).collect(), hard_state, applied }
    };
    let config = Config { id: NodeId(1), ..Config::default() };
    let mut core = Core::recover(config, recovered(10_000), Mono(0), 1).unwrap();
    let mut recorder = Recorder::new(RING_BYTES_MIN);
    let mut effects = Effects::default();
    let mut give = |event: Event<'_>| {
        effects.clear();
        recorder.before(Mono(1), &core, event);
        let verdict = core.step(Mono(1), event, &mut effects);
        recorder.after(&core, verdict, &effects).unwrap();
        let file = recorder.recording(GroupId(1));
        Recording::read(&file).unwrap().segments.len()
    };
    assert_eq!(give(Event::Wake), 0);
    assert_eq!(give(Event::Compacted { upto: Index(10_000) }), 0);
    let waited = (0..10_000).find(|_| give(Event::Wake) == 1);
    assert!(waited.is_some_and(|steps| steps > 1_000), "{waited:?}");
}

#[test]
fn a_core_that_went_back_is_noticed() {
    let mut world = World::new(4, RING_BYTES_MIN);
    world.run(200);
    let before = world.members[0].core.clone();
    while world.members[0].core.view().commit == before.view().commit {
        world.run(10);
    }
    let mut recorder = Recorder::new(RING_BYTES_MIN);
    assert_eq!(recorder.check(&before), Ok(()));
    assert_eq!(recorder.check(&world.members[0].core), Ok(()));
    let broken = recorder.check(&before).unwrap_err();
    assert!(broken.0.ends_with("never falls"), "{broken}");
}

/// Stepping down clears the vote; two votes in one term; an old refusal rewinds below the match: a recorder that looks every 64th
/// step notices each of them in some runs.
#[cfg(feature = "mutants")]
#[test]
fn a_broken_core_is_noticed_while_it_runs() {
    for mutant in [1, 7, 15] {
        let noticed = (0..60).filter(|seed| {
            let mut world = World::with_mutant(*seed, mutant);
            world.run(4_000);
            world.broken.is_some()
        });
        assert!(noticed.count() > 0, "bug {mutant}");
    }
}

/// A core with a bug is recorded, and played by one without: the first step in which they differ is named, and no earlier one.
#[cfg(feature = "mutants")]
#[test]
fn a_replay_without_the_bug_differs_in_the_very_step() {
    // A heartbeat tells more than the follower holds; a vote is forgotten; a read is served at once; no nudge after a loss.
    for mutant in [12, 1, 19, 33] {
        let mut found = 0;
        for seed in 0..20 {
            let mut world = World::with_mutant(seed, mutant);
            world.run(4_000);
            for at in 0..3 {
                let file = world.recording(at);
                let outcome = replay(&Recording::read(&file).unwrap(), |_| {});
                let diverged =
                    outcome.violations.iter().find(|one| one.problem == Problem::Diverged);
                let expected = world.honest[at].as_ref().err().copied();
                assert_eq!(diverged.map(|one| one.step), expected, "bug {mutant}, seed {seed}");
                found += u64::from(expected.is_some());
            }
        }
        assert!(found > 0, "bug {mutant} shows in some run");
    }
}
