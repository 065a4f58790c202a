//! Breadth first through all worlds, so that the first counterexample is a shortest one.
//!
//! Worlds are numbered in the order in which they are found, and looked into in the same order. So the children of one world
//! have consecutive numbers, and those of an earlier world come earlier: it takes one byte for each world to know how many
//! children it has, and one for which action led to it, to find the way back from any world to the first.

use super::bound::{Bound, Bug};
use super::chart;
use super::frontier::Frontier;
use super::universe::Universe;
use super::visited::Visited;
use super::world::{Action, Fate, World};

/// When to stop before all is explored.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After so many different worlds.
    pub unique_max: u64,
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
    pub counterexample: Option<Counterexample>,
}

/// A run that breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// Which promise.
    pub what: String,
    /// The run, a line for each action, for reading and for replaying.
    pub script: Vec<String>,
    /// The run as a sequence chart.
    pub chart: String,
}

/// An exploration under way.
#[derive(Debug)]
pub struct Search {
    universe: Universe,
    visited: Visited,
    /// By number of a world: which action of its parent led to it.
    actions: Vec<u8>,
    /// By number of a world that was looked into: how many new worlds it led to.
    children: Vec<u8>,
    frontier: Frontier,
    report: Report,
}

/// Buffers for one world's turn.
#[derive(Default)]
struct Desk {
    world: World,
    next: World,
    actions: Vec<Action>,
    numbers: Vec<u64>,
}

/// After so many worlds it is asked whether to stop.
const PAUSE_WORLDS: u64 = 4096;

impl Search {
    /// Prepares an exploration.
    ///
    /// # Errors
    /// Says why the core refuses to start.
    pub fn new(bound: Bound, bug: Bug) -> Result<Self, String> {
        let mut universe = Universe::new(bound, bug);
        let world = World::first(&mut universe)?;
        let (mut visited, mut frontier) = (Visited::new(), Frontier::default());
        visited.insert(world.print());
        world.pack(&mut frontier);
        let report = Report { unique: 1, ..Report::default() };
        let (actions, children) = (vec![0], Vec::new());
        Ok(Self { universe, visited, actions, children, frontier, report })
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
        let mut desk = Desk::default();
        let mut level_end = self.report.unique;
        while desk.world.unpack(&mut self.frontier, &mut desk.numbers, &self.universe)? {
            let looked_into = self.children.len() as u64;
            if looked_into == level_end {
                level_end = self.report.unique;
                self.report.depth += 1;
            }
            let pause = looked_into.is_multiple_of(PAUSE_WORLDS) && self.is_over(stop);
            if pause || self.report.unique >= limits.unique_max {
                return Ok(self.close(false));
            }
            self.look_into(&mut desk)?;
            if self.report.counterexample.is_some() {
                return Ok(self.close(false));
            }
        }
        Ok(self.close(true))
    }

    /// Takes stock; asks whether to stop.
    fn is_over(&mut self, stop: &mut dyn FnMut(&Report) -> bool) -> bool {
        let bytes = self.frontier.size_bytes() as u64;
        self.report.frontier_bytes_max = self.report.frontier_bytes_max.max(bytes);
        stop(&self.report)
    }

    fn close(mut self, complete: bool) -> Report {
        self.report.complete = complete;
        let links = self.actions.capacity() + self.children.capacity();
        self.report.seen_bytes = (self.visited.size_bytes() + links) as u64;
        self.report.parts = self.universe.counts();
        self.report
    }

    fn look_into(&mut self, desk: &mut Desk) -> Result<(), String> {
        desk.world.actions(&self.universe, &mut desk.actions)?;
        let mut children = 0;
        for (action, number) in desk.actions.iter().zip(0_u8..) {
            let fate = desk.world.act(*action, &mut self.universe, &mut desk.next);
            let fate = fate.and_then(|fate| self.arrive(fate, action.place, number, &desk.next));
            match fate {
                Ok(new) => children += u8::from(new),
                Err(what) => return self.convict(what, number),
            }
        }
        reserve(&mut self.children);
        self.children.push(children);
        Ok(())
    }

    /// Takes in a next world; says whether it is new.
    fn arrive(
        &mut self,
        fate: Fate,
        place: usize,
        number: u8,
        next: &World,
    ) -> Result<bool, String> {
        if fate != Fate::Next {
            return Ok(false);
        }
        self.report.generated += 1;
        if !self.visited.insert(next.print()) {
            return Ok(false);
        }
        self.report.unique += 1;
        next.judge(place, &self.universe)?;
        next.pack(&mut self.frontier);
        reserve(&mut self.actions);
        self.actions.push(number);
        Ok(true)
    }

    /// The world that is looked into breaks a promise by that action.
    fn convict(&mut self, what: String, number: u8) -> Result<(), String> {
        let mut path = path_to(self.children.len(), &self.actions, &self.children);
        path.push(number);
        self.report.counterexample = Some(chart::by_numbers(what, &path, &mut self.universe)?);
        Ok(())
    }
}

/// Makes room, a sixteenth at a time; a vector left to itself would double.
fn reserve(links: &mut Vec<u8>) {
    if links.len() == links.capacity() {
        links.reserve_exact((links.len() >> 4) + 4096);
    }
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

    const ALL: Limits = Limits { unique_max: u64::MAX };

    fn explore(bound: &str, bug: Bug, unique_max: u64) -> Report {
        let bound = Bound::named(bound).expect("a bound");
        let search = Search::new(bound, bug).expect("a first world");
        search.run(Limits { unique_max }, &mut |_| false).expect("an exploration")
    }

    /// Each planted bug is found, the run leads to it again, and the same run is harmless without the bug.
    fn convicts(bound: &str, bug: Bug, promise: &str) {
        let report = explore(bound, bug, 300_000);
        let found = report.counterexample.unwrap_or_else(|| panic!("{bug:?} was not found"));
        assert!(found.what.contains(promise), "{}", found.what);
        let bound = Bound::named(bound).expect("a bound");
        let again = replay(bound, bug, &found.script).expect("the run is possible");
        assert_eq!(again.as_ref().map(|again| &again.what), Some(&found.what));
        assert!(found.chart.lines().count() > found.script.len(), "{}", found.chart);
        let harmless = replay(bound, Bug::None, &found.script);
        assert!(!matches!(harmless, Ok(Some(_))), "{harmless:?}");
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
        let bound = Bound::named("small").expect("a bound").with_budgets([2, 0, 0, 0, 0, 0, 0, 0]);
        let search = Search::new(bound, Bug::None).expect("a first world");
        let report = search.run(ALL, &mut |_| false).expect("an exploration");
        assert_eq!(report.counterexample, None);
        assert!(report.complete && report.unique > 1_000, "{report:?}");
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
