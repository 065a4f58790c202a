//! What a client can count on, checked over a whole run.

use std::collections::{BTreeMap, BTreeSet};

use crate::recordings;
use crate::world::{ELECTION_NS, Outcome, World};

/// The proposals' and reads' deadline, and the time an election may take on top.
const ANSWER_NS_MAX: u64 = 5_000_000_000 + 2 * ELECTION_NS;

/// Checks all promises after the world has settled: everybody runs, nothing is cut or lost.
pub(crate) fn check(world: &World) {
    let longest = longest_machine(world);
    replicas_agree(world, &longest);
    nothing_is_applied_twice(&longest);
    answers_are_true(world, &longest);
    everything_is_answered(world);
    for running in world.running.values() {
        recordings::agree(&running.node);
    }
}

fn longest_machine(world: &World) -> Vec<u64> {
    let lists = world.running.values().map(|running| running.machine.numbers.clone());
    lists.max_by_key(Vec::len).unwrap()
}

fn replicas_agree(world: &World, longest: &[u64]) {
    for running in world.running.values() {
        assert_eq!(running.machine.numbers.as_slice(), longest, "replicas agree in the end");
    }
}

fn nothing_is_applied_twice(longest: &[u64]) {
    let mut counts = BTreeMap::new();
    for number in longest {
        *counts.entry(number).or_insert(0) += 1;
    }
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "applied more than once: {twice:?}");
}

fn answers_are_true(world: &World, longest: &[u64]) {
    let applied: BTreeSet<u64> = longest.iter().copied().collect();
    for (number, asked) in &world.proposals {
        match asked.outcome {
            Outcome::Applied => assert!(applied.contains(number), "{number} was lost: {asked:?}"),
            Outcome::Failed(error) if error.is_certain() => {
                assert!(
                    !applied.contains(number),
                    "{number} was said to have no effect: {asked:?}"
                );
            }
            Outcome::Failed(_) | Outcome::Lost | Outcome::Open => {}
        }
    }
}

fn everything_is_answered(world: &World) {
    for (number, asked) in world.proposals.iter().chain(&world.reads) {
        assert_ne!(asked.outcome, Outcome::Open, "{number} has no answer: {asked:?}");
        let waited = asked.answered_at.since(asked.at);
        assert!(waited <= ANSWER_NS_MAX, "{number} waited {waited} ns: {asked:?}");
    }
}
