//! The simulated worlds, judged: an honest run is let go, a planted bug is convicted, cut down and convicted again.

#[cfg(test)]
#[allow(
    dead_code,
    unused_imports,
    reason = "the cluster of the core's own tests, of which scripts need a part"
)]
#[path = "../../quorate-raft/tests/cluster/mod.rs"]
mod cluster;
#[cfg(test)]
mod golden;
#[cfg(test)]
#[path = "../../quorate-raft/tests/script.rs"]
mod script;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]
mod replay;

#[cfg(test)]
mod tests {
    use quorate_sim::chart::{Fate, Kind, Role};
    use quorate_sim::mutants::{CATALOGUE, hunt};
    use quorate_sim::swarm::{Options, chart_seed, run_seed, shrink_seed, tell};
    use quorate_sim::world::Judge;

    fn with(mutant: u16) -> Options {
        Options { mutant, ..Options::default() }
    }

    #[test]
    fn honest_runs_are_let_go_and_much_happens_in_them() {
        let (mut elections, mut commits, mut grants, mut installs, mut crashes) = (0, 0, 0, 0, 0);
        for seed in 0..40 {
            let outcome = run_seed(seed, &Options { seconds: Some(20), ..Options::default() });
            assert_eq!(outcome.failure, None, "seed {seed}");
            elections += outcome.counts.elections;
            commits += outcome.counts.commits;
            grants += outcome.counts.grants;
            installs += outcome.counts.installs;
            crashes += outcome.counts.crashes;
        }
        let counts = [elections, commits, grants, installs, crashes];
        assert!(
            counts.iter().zip([100, 3000, 1000, 5, 100]).all(|(count, least)| *count > least),
            "{counts:?}"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let options = Options { seconds: Some(20), ..Options::default() };
        let (one, other) = (run_seed(7, &options), run_seed(7, &options));
        assert_eq!((one.hash, one.events), (other.hash, other.events));
        assert_ne!(one.hash, run_seed(8, &options).hash);
    }

    #[test]
    fn every_planted_bug_of_a_driver_is_convicted() {
        let drivers = CATALOGUE.iter().filter(|mutant| (100..200).contains(&mutant.number));
        for mutant in drivers {
            let caught = hunt(*mutant, 0, 200, &Options::default());
            assert!(caught.is_some(), "{mutant:?}");
        }
    }

    #[test]
    fn a_hasty_message_is_convicted_and_the_story_is_short() {
        let shrunk = shrink_seed(0, &with(100)).expect("the bug is caught in this seed");
        assert_eq!(shrunk.failure.judge, Judge::Promise);
        assert!(shrunk.events <= 30, "{}", shrunk.script);
        let told = tell(&shrunk.script).expect("a story can be told again");
        assert_eq!(told.failure.map(|failure| failure.judge), Some(Judge::Promise));
        assert_eq!(told.lines.len(), shrunk.events);
        assert!(shrunk.script.contains("=> Promise"), "{}", shrunk.script);
    }

    #[test]
    fn a_run_that_is_drawn_is_the_same_run() {
        let options = Options { seconds: Some(20), ..Options::default() };
        let (outcome, trace) = chart_seed(3, &options, None);
        assert_eq!(outcome.hash, run_seed(3, &options).hash);
        let count = |wanted: fn(&Kind) -> bool| {
            trace.events.iter().filter(|event| wanted(&event.kind)).count()
        };
        assert!(count(|kind| *kind == Kind::Message(Fate::Delivered)) > 100);
        assert!(count(|kind| *kind == Kind::Message(Fate::Lost)) > 0);
        assert!(count(|kind| matches!(kind, Kind::State(Role::Leader, _))) > 0);
        assert!(count(|kind| *kind == Kind::Commit) > 10 && count(|kind| *kind == Kind::Fault) > 0);
    }

    #[test]
    fn what_the_atlas_refuses_is_convicted() {
        let small = Options { voters: Some(3), seconds: Some(20), ..Options::default() };
        let off = Options { atlas_off: true, ..small };
        let lacks = |seed: &u64| {
            run_seed(*seed, &off).failure.is_some_and(|failure| {
                failure.judge == Judge::LeaderCompleteness
                    && failure.detail.contains("beyond what Raft survives")
            })
        };
        assert!((0..300).any(|seed| lacks(&seed)));
    }

    #[test]
    fn an_honest_seed_cannot_be_cut_down() {
        let options = Options { seconds: Some(5), ..Options::default() };
        let outcome = shrink_seed(0, &options).expect_err("nothing fails");
        assert_eq!(outcome.hash, run_seed(0, &options).hash);
    }

    /// In a build with the feature `mutants`, the bugs of the core as well; the rarest are left to the command.
    #[cfg(feature = "mutants")]
    #[test]
    fn bugs_of_the_core_are_convicted() {
        let often = CATALOGUE.iter().filter(|mutant| mutant.number < 17);
        for mutant in often {
            assert!(hunt(*mutant, 0, 100, &Options::default()).is_some(), "{mutant:?}");
        }
    }
}
