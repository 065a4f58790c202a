//! The world of whole servers, judged: honest runs are let go, much happens in them, and they repeat.

use super::run_seed;
use crate::{swarm::Options, world::Counts};

fn short() -> Options {
    Options { seconds: Some(15), ..Options::default() }
}

#[test]
fn honest_runs_are_let_go_and_much_happens_in_them() {
    let mut sum = Counts::default();
    for seed in 0..24 {
        let outcome = run_seed(seed, &short());
        assert_eq!(outcome.failure, None, "seed {seed}");
        sum.elections += outcome.counts.elections;
        sum.commits += outcome.counts.commits;
        sum.grants += outcome.counts.grants;
        sum.crashes += outcome.counts.crashes;
    }
    let counts = [sum.elections, sum.commits, sum.grants, sum.crashes];
    let least = [48, 1_200, 800, 24];
    assert!(counts.iter().zip(least).all(|(count, least)| *count > least), "{counts:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (one, other) = (run_seed(3, &short()), run_seed(3, &short()));
    assert_eq!((one.hash, one.events), (other.hash, other.events));
    assert_ne!(one.hash, run_seed(4, &short()).hash);
}

/// Cut down, a planted bug still shows, and what is left tells nothing against the honest code.
#[cfg(feature = "mutants")]
#[test]
fn a_failing_seed_is_cut_down() {
    let options = Options { mutant: 205, ..Options::default() };
    let shrunk = (0..20).find_map(|seed| super::shrink_seed(seed, &options, 0, 0).ok()).unwrap();
    assert!(shrunk.mishaps.1 <= shrunk.mishaps.0, "{shrunk:?}");
    assert!(shrunk.events <= usize::try_from(shrunk.events_before).unwrap(), "{shrunk:?}");
    let told = super::tell(&shrunk.script).unwrap();
    assert!(told.failure.is_some(), "{shrunk:?}");
    let honest = super::tell(&shrunk.script.replace("mutant 205", "mutant 0")).unwrap();
    assert_eq!(honest.failure, None, "{}", shrunk.script);
}
