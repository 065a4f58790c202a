//! One level of the search, looked through by several threads.
//!
//! The worlds of a level lie in batches. A thread takes the next batch, looks into each of its worlds, and keeps what it found
//! beside the batch's place; when all are done, the findings are put together in the order of the batches. So worlds are
//! numbered as one thread would have numbered them, but for which of two threads came first to a world that both found.
//!
//! What the threads share: the set of worlds seen, shard by shard; and the universe, which is read by all and written seldom. A
//! thread lets go of it after every world, so that whoever must write waits for one world and not for a batch.
//!
//! Which worlds a level has does not depend on who finds them. So the counts of a search that is not cut short are the same
//! for any number of threads, and so is the length of the run to a broken promise; which of several such runs is told may differ.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::frontier::Batch;
use super::universe::{Halt, Lack, Universe};
use super::visited::Visited;
use super::world::{Action, Fate, World};

/// A batch in waiting.
#[derive(Debug)]
struct Lot {
    place: usize,
    /// The number of its first world.
    first: usize,
    batch: Batch,
}

/// What was found in one batch of worlds.
#[derive(Debug, Default)]
pub(super) struct Harvest {
    place: usize,
    /// The new worlds.
    pub(super) worlds: Vec<Batch>,
    /// For each of them, which action led to it.
    pub(super) actions: Vec<u8>,
    /// For each world of the batch, how many new ones it led to.
    pub(super) children: Vec<u8>,
    /// Steps taken, to worlds new or known.
    generated: u64,
}

/// A world from which an action breaks a promise.
#[derive(Debug)]
pub(super) struct Conviction {
    /// The number of the world.
    pub(super) world: usize,
    /// Which of its actions.
    pub(super) action: u8,
    /// Which promise.
    pub(super) what: String,
}

/// Counts that all threads add to after each batch.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Different worlds.
    pub(super) unique: AtomicU64,
    /// Steps taken.
    pub(super) generated: AtomicU64,
    /// Bytes of worlds in waiting.
    pub(super) frontier_bytes: AtomicU64,
}

/// A level under way.
#[derive(Debug)]
pub(super) struct Level<'a> {
    universe: &'a RwLock<Universe>,
    visited: &'a Visited,
    tally: &'a Tally,
    unique_max: u64,
    waiting: Mutex<VecDeque<Lot>>,
    harvests: Mutex<Vec<Harvest>>,
    convictions: Mutex<Vec<Conviction>>,
    is_over: AtomicBool,
}

/// Buffers for one world's turn.
#[derive(Default)]
struct Desk {
    world: World,
    next: World,
    actions: Vec<Action>,
    numbers: Vec<u64>,
    harvest: Harvest,
}

impl<'a> Level<'a> {
    /// Prepares to look through these worlds, of which the first has this number.
    pub(super) fn new(
        (universe, visited, tally): (&'a RwLock<Universe>, &'a Visited, &'a Tally),
        unique_max: u64,
        mut first: usize,
        worlds: Vec<Batch>,
    ) -> Self {
        let mut waiting = VecDeque::with_capacity(worlds.len());
        for (place, batch) in worlds.into_iter().enumerate() {
            let after = first + batch.len();
            waiting.push_back(Lot { place, first, batch });
            first = after;
        }
        Self {
            universe,
            visited,
            tally,
            unique_max,
            waiting: Mutex::new(waiting),
            harvests: Mutex::default(),
            convictions: Mutex::default(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Looks through all of it. `stop` is asked by this thread after each of its batches.
    ///
    /// # Errors
    /// What the explorer itself can't handle.
    pub(super) fn run(
        &self,
        threads: usize,
        stop: &mut dyn FnMut(&Tally) -> bool,
    ) -> Result<(), String> {
        let helpers = threads.min(lock(&self.waiting).len()).saturating_sub(1);
        std::thread::scope(|scope| {
            let helpers: Vec<_> =
                (0..helpers).map(|_| scope.spawn(|| self.work(&mut |_| false))).collect();
            let mut result = self.work(stop);
            for helper in helpers {
                let other = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(other);
            }
            result
        })
    }

    /// What was found, in order; and the first world, if any, that leads to a broken promise. `None` if the level was cut short.
    pub(super) fn end(self) -> (Option<Vec<Harvest>>, Option<Conviction>) {
        let mut harvests = self.harvests.into_inner().unwrap_or_else(PoisonError::into_inner);
        harvests.sort_unstable_by_key(|harvest| harvest.place);
        let convictions = self.convictions.into_inner().unwrap_or_else(PoisonError::into_inner);
        let first = convictions.into_iter().min_by_key(|conviction| conviction.world);
        ((!self.is_over.into_inner()).then_some(harvests), first)
    }

    fn work(&self, stop: &mut dyn FnMut(&Tally) -> bool) -> Result<(), String> {
        let mut desk = Desk::default();
        while !self.is_over.load(Ordering::Relaxed) {
            let Some(lot) = lock(&self.waiting).pop_front() else { break };
            let result = self.look_through(&lot, &mut desk);
            let cut_short = result.as_ref().map_or(true, |whole| !whole);
            self.hand_in(&lot, std::mem::take(&mut desk.harvest));
            if cut_short || stop(self.tally) {
                self.is_over.store(true, Ordering::Relaxed);
            }
            result?;
        }
        Ok(())
    }

    fn hand_in(&self, lot: &Lot, mut harvest: Harvest) {
        let bytes = |batches: &[Batch]| batches.iter().map(Batch::size_bytes).sum::<usize>() as u64;
        let tally = self.tally;
        tally.frontier_bytes.fetch_add(bytes(&harvest.worlds), Ordering::Relaxed);
        tally.frontier_bytes.fetch_sub(lot.batch.size_bytes() as u64, Ordering::Relaxed);
        tally.unique.fetch_add(harvest.actions.len() as u64, Ordering::Relaxed);
        tally.generated.fetch_add(harvest.generated, Ordering::Relaxed);
        harvest.place = lot.place;
        lock(&self.harvests).push(harvest);
    }

    /// Looks into the worlds of a batch. Says whether into all of them.
    fn look_through(&self, lot: &Lot, desk: &mut Desk) -> Result<bool, String> {
        let known = self.tally.unique.load(Ordering::Relaxed);
        let mut reader = lot.batch.reader();
        for world in lot.first.. {
            let universe = self.read();
            if !desk.world.unpack(&mut reader, &mut desk.numbers, &universe)? {
                break;
            }
            desk.world.actions(&universe, &mut desk.actions)?;
            if let Err((action, what)) = self.look_into(universe, desk) {
                lock(&self.convictions).push(Conviction { world, action, what });
                return Ok(false);
            }
            let full = known + desk.harvest.actions.len() as u64 >= self.unique_max;
            if full || self.is_over.load(Ordering::Relaxed) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tries all that is possible in the world on the desk.
    ///
    /// # Errors
    /// Which action breaks which promise.
    fn look_into(
        &self,
        mut universe: RwLockReadGuard<'a, Universe>,
        desk: &mut Desk,
    ) -> Result<(), (u8, String)> {
        let mut children = 0;
        for (action, number) in desk.actions.iter().zip(0_u8..) {
            let fate = loop {
                match desk.world.act(*action, &universe, &mut desk.next) {
                    Ok(fate) => break fate,
                    Err(Halt::Broken(what)) => return Err((number, what)),
                    Err(Halt::Lacks(lack)) => {
                        drop(universe);
                        self.teach(lack).map_err(|what| (number, what))?;
                        universe = self.read();
                    }
                }
            };
            if fate != Fate::Next {
                continue;
            }
            desk.harvest.generated += 1;
            if self.visited.insert(desk.next.print()) {
                desk.next.judge(action.place, &universe).map_err(|what| (number, what))?;
                desk.next.pack(&mut desk.harvest.worlds);
                desk.harvest.actions.push(number);
                children += 1;
            }
        }
        desk.harvest.children.push(children);
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'a, Universe> {
        self.universe.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn teach(&self, lack: Lack) -> Result<(), String> {
        self.universe.write().unwrap_or_else(PoisonError::into_inner).learn(lack)
    }
}

/// A lock's content. A thread that panics takes the search with it, so what it leaves is never looked at.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
