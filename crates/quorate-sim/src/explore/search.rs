//! Breadth first through all worlds, level by level, so that the first counterexample is a shortest one.
//!
//! Worlds are numbered in the order in which they are found, and looked into in the same order. So the children of one world
//! have consecutive numbers, and those of an earlier world come earlier: it takes one byte for each world to know how many
//! children it has, and one for which action led to it, to find the way back from any world to the first.

use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock};

use super::bound::{Bound, Bug};
use super::chart;
use super::frontier::Batch;
use super::level::{Conviction, Harvest, Level, Tally};
use super::universe::Universe;
use super::visited::Visited;
use super::world::World;

/// When to stop before all is explored.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After so many different worlds, or soon after.
    pub unique_max: u64,
    /// How many threads work at it.
    pub threads: usize,
}

/// What an exploration found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Different worlds, up to renaming.
    pub unique: u64,
    /// Steps taken, to worlds new or known.
    pub generated: u64,
    /// Steps from the first world to the farthest.
    pub depth: u64,
    /// Whether everything within the bound was seen.
    pub complete: bool,
    /// Bytes for the worlds seen: fingerprints and the way back.
    pub seen_bytes: u64,
    /// The most bytes for the worlds that were still to be looked into.
    pub frontier_bytes_max: u64,
    /// Different members, messages, and steps of one member.
    pub parts: [usize; 3],
    /// The run that breaks a promise, if there is one.
    pub counterexample: Option<Story>,
}

/// A run, told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Which promise it breaks, if any.
    pub what: String,
    /// The run, a line for each action, for reading and for replaying.
    pub script: Vec<String>,
    /// The run as a sequence chart.
    pub chart: String,
    /// The run as a golden script: the same lines as commands, and how the members end.
    pub golden: String,
}

/// An exploration under way.
#[derive(Debug)]
pub struct Search {
    universe: RwLock<Universe>,
    visited: Visited,
    /// By number of a world: which action of its parent led to it.
    actions: Vec<u8>,
    /// By number of a world that was looked into: how many new worlds it led to.
    children: Vec<u8>,
    /// The worlds of the level that is next.
    worlds: Vec<Batch>,
    tally: Tally,
    report: Report,
}

impl Search {
    /// Prepares an exploration.
    ///
    /// # Errors
    /// Says why the core refuses to start.
    pub fn new(bound: Bound, bug: Bug) -> Result<Self, String> {
        let mut universe = Universe::new(bound, bug);
        let world = World::first(&mut universe)?;
        let (visited, mut worlds, tally) = (Visited::new(), Vec::new(), Tally::default());
        visited.insert(world.print());
        world.pack(&mut worlds);
        tally.unique.store(1, Ordering::Relaxed);
        let bytes: usize = worlds.iter().map(Batch::size_bytes).sum();
        tally.frontier_bytes.store(bytes as u64, Ordering::Relaxed);
        Ok(Self {
            universe: RwLock::new(universe),
            visited,
            actions: vec![0],
            children: Vec::new(),
            worlds,
            tally,
            report: Report::default(),
        })
    }

    /// Explores level by level, until all is seen, a promise is broken, or `stop` says so; it is asked once in a while.
    ///
    /// # Errors
    /// What the explorer itself can't handle.
    pub fn run(
        mut self,
        limits: Limits,
        stop: &mut dyn FnMut(&Report) -> bool,
    ) -> Result<Report, String> {
        while !self.worlds.is_empty() {
            let worlds = std::mem::take(&mut self.worlds);
            let shared = (&self.universe, &self.visited, &self.tally);
            let level = Level::new(shared, limits.unique_max, self.children.len(), worlds);
            let report = &mut self.report;
            level.run(limits.threads, &mut |tally| {
                take_stock(report, tally);
                stop(report)
            })?;
            let (harvests, conviction) = level.end();
            if let Some(conviction) = conviction {
                self.convict(conviction)?;
                return Ok(self.close(false));
            }
            let Some(harvests) = harvests else { return Ok(self.close(false)) };
            for harvest in harvests {
                self.store(harvest);
            }
            self.report.depth += u64::from(!self.worlds.is_empty());
        }
        Ok(self.close(true))
    }

    /// Puts what was found in one batch behind what was found in the batches before it.
    fn store(&mut self, harvest: Harvest) {
        append(&mut self.actions, &harvest.actions);
        append(&mut self.children, &harvest.children);
        self.worlds.extend(harvest.worlds);
    }

    /// From the world, an action breaks a promise.
    fn convict(&mut self, conviction: Conviction) -> Result<(), String> {
        let Conviction { world, action, what } = conviction;
        let mut path = path_to(world, &self.actions, &self.children);
        path.push(action);
        let universe = self.universe.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.report.counterexample = Some(chart::by_numbers(what, &path, universe)?);
        Ok(())
    }

    fn close(mut self, complete: bool) -> Report {
        take_stock(&mut self.report, &self.tally);
        self.report.complete = complete;
        let links = self.actions.capacity() + self.children.capacity();
        self.report.seen_bytes = (self.visited.size_bytes() + links) as u64;
        let universe = self.universe.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.report.parts = universe.counts();
        self.report
    }
}

fn take_stock(report: &mut Report, tally: &Tally) {
    report.unique = tally.unique.load(Ordering::Relaxed);
    report.generated = tally.generated.load(Ordering::Relaxed);
    let bytes = tally.frontier_bytes.load(Ordering::Relaxed);
    report.frontier_bytes_max = report.frontier_bytes_max.max(bytes);
}

/// Appends, and makes room a sixteenth at a time; a vector left to itself would double.
fn append(links: &mut Vec<u8>, more: &[u8]) {
    if links.capacity() - links.len() < more.len() {
        links.reserve_exact(more.len() + (links.len() >> 4));
    }
    links.extend_from_slice(more);
}

/// The actions from the first world to the one with this number, which has no smaller number than any that was looked into.
fn path_to(world: usize, actions: &[u8], children: &[u8]) -> Vec<u8> {
    let mut path = Vec::new();
    let mut wanted = world;
    let mut end = 1 + children.iter().map(|count| usize::from(*count)).sum::<usize>();
    for (parent, count) in children.iter().enumerate().rev() {
        let first = end - usize::from(*count);
        if (first..end).contains(&wanted) {
            path.extend(actions.get(wanted));
            wanted = parent;
        }
        end = first;
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::super::replay;
    use super::*;

    const ALL: Limits = Limits { unique_max: u64::MAX, threads: 2 };

    fn explore(bound: &str, bug: Bug, unique_max: u64) -> Report {
        let bound = Bound::named(bound).expect("a bound");
        let search = Search::new(bound, bug).expect("a first world");
        search.run(Limits { unique_max, threads: 2 }, &mut |_| false).expect("an exploration")
    }

    /// Each planted bug is found, the run leads to it again, and the same run is harmless without the bug.
    fn convicts(bound: &str, bug: Bug, promise: &str) {
        let report = explore(bound, bug, 300_000);
        let found = report.counterexample.unwrap_or_else(|| panic!("{bug:?} was not found"));
        assert!(found.what.contains(promise), "{}", found.what);
        let bound = Bound::named(bound).expect("a bound");
        let again = replay(bound, bug, &found.golden).expect("the run is possible");
        assert!(again.is_convicted);
        assert_eq!(again.run, found);
        assert!(found.chart.lines().count() > found.script.len(), "{}", found.chart);
        let harmless = replay(bound, Bug::None, &found.golden);
        assert!(harmless.as_ref().map_or(true, |harmless| !harmless.is_convicted), "{harmless:?}");
    }

    #[test]
    fn a_forgotten_vote_makes_two_leaders() {
        convicts("small", Bug::ForgetVote, "election safety");
    }

    #[test]
    fn an_answer_before_the_write_commits_what_no_disk_holds() {
        convicts("small", Bug::AckBeforeDurable, "durability");
    }

    #[test]
    fn a_lost_write_is_noticed() {
        convicts("small", Bug::LoseWrites, "not on its disk");
    }

    #[test]
    fn a_read_without_a_round_is_stale() {
        convicts("E", Bug::ReadLocally, "linearizable reads");
    }

    /// Historical bugs in the core itself, each convicted by another judge.
    #[cfg(feature = "mutants")]
    #[test]
    fn bugs_of_the_core_are_found() {
        convicts("E", Bug::Core(1), "a vote is never changed in its term");
        convicts("E", Bug::Core(5), "the paper's rules");
        convicts("E", Bug::Core(7), "voted for itself");
        convicts("E", Bug::Core(9), "with 1 holders");
        convicts("E", Bug::Core(10), "durability");
    }

    #[test]
    fn everything_small_is_explored_and_keeps_all_promises() {
        let bound =
            Bound::named("small").expect("a bound").with_budgets([2, 0, 0, 0, 0, 0, 0, 0, 0]);
        let search = Search::new(bound, Bug::None).expect("a first world");
        let report = search.run(ALL, &mut |_| false).expect("an exploration");
        assert_eq!(report.counterexample, None);
        assert!(report.complete && report.unique > 1_000, "{report:?}");
    }

    /// What is found does not depend on how many threads look for it.
    #[test]
    fn two_threads_find_what_one_finds() {
        let bound =
            Bound::named("small").expect("a bound").with_budgets([2, 0, 0, 1, 1, 0, 0, 0, 0]);
        let [one, two] = [1, 2].map(|threads| {
            let search = Search::new(bound, Bug::None).expect("a first world");
            let limits = Limits { threads, ..ALL };
            let report = search.run(limits, &mut |_| false).expect("an exploration");
            let found = report.counterexample.is_some();
            (report.complete, report.unique, report.generated, report.depth, found)
        });
        assert!(one.0 && one.1 > 10_000, "{one:?}");
        assert_eq!(one, two);
        let [one, two] = [1, 2].map(|threads| {
            let search = Search::new(bound, Bug::ForgetVote).expect("a first world");
            let limits = Limits { threads, ..ALL };
            let report = search.run(limits, &mut |_| false).expect("an exploration");
            report.counterexample.map(|found| found.script.len())
        });
        assert!(one.is_some());
        assert_eq!(one, two);
    }

    #[test]
    fn the_way_back_is_found() {
        // World 0 leads to 1 and 2, world 1 to nothing, world 2 to 3.
        let (actions, children) = ([0, 7, 8, 9], [2, 0, 1]);
        assert_eq!(path_to(3, &actions, &children), [8, 9]);
        assert_eq!(path_to(1, &actions, &children), [7]);
        assert_eq!(path_to(0, &actions, &children), [0_u8; 0]);
    }
}
