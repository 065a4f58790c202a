//! Runs of the explorer, told as golden scripts to the runner of the core's own tests: another driver, which judges for itself,
//! must bring other cores to the same end.

use goldenscript::generate;
use quorate_sim::explore::{Bound, Bug, Story, stroll};

use crate::script::Script;

/// The script says at its end what the runner finds there.
fn assert_retold(story: &Story) {
    let again = generate(&mut Script::default(), &story.golden)
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", story.golden, story.chart));
    assert_eq!(again, story.golden, "{}", story.chart);
}

#[test]
fn honest_runs_end_the_same_under_another_driver() {
    let (mut steps, mut seen) = (0, [0; 6]);
    let things = ["commit=2", "reboot", "\"Snapshot t", "sent ", "keep=yes", "number="];
    for (name, budgets) in [
        ("B", [4, 2, 2, 2, 3, 2, 2, 0, 0]),
        ("E", [3, 2, 2, 0, 0, 0, 0, 4, 0]),
        ("F", [2, 4, 0, 3, 1, 2, 0, 0, 3]),
    ] {
        let bound = Bound::named(name).expect("a bound").with_budgets(budgets);
        for seed in 0..200 {
            let story = stroll(bound, Bug::None, seed).expect("a walk");
            assert_eq!(story.what, "no promise is broken", "{}", story.chart);
            assert_retold(&story);
            steps += story.script.len();
            for (count, thing) in seen.iter_mut().zip(things) {
                *count += u64::from(story.golden.contains(thing));
            }
        }
    }
    assert!(steps > 10_000 && seen.iter().all(|count| *count > 0), "{steps} {seen:?}");
}

/// In a build with the feature `mutants`: what the explorer convicts is seen by the other driver too.
#[cfg(feature = "mutants")]
#[test]
fn convicted_bugs_of_the_core_show_under_another_driver() {
    use quorate_sim::explore::{Limits, Search};

    for (name, number) in [("E", 1), ("E", 5), ("E", 7), ("E", 9), ("E", 10), ("F", 22)] {
        let bound = Bound::named(name).expect("a bound");
        let bug = Bug::Core(number);
        let search = Search::new(bound, bug).expect("a first world");
        let limits = Limits { unique_max: 2_000_000, threads: 2 };
        let report = search.run(limits, &mut |_| false).expect("an exploration");
        let story = report.counterexample.unwrap_or_else(|| panic!("{bug} was not found"));
        assert_retold(&story);
    }
}
