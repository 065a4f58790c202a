//! What every engine promises, on the disk in memory: against a model, under crashes, under flipped bits.

use std::{
    collections::BTreeMap,
    ops::{
        Bound::{self, Excluded, Included, Unbounded},
        ControlFlow,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use proptest::prelude::*;
use quorate_engine::{
    Batch, Direction, Durability, Engine, Error, KeyRange, MemoryEngine, Table, View,
};

use super::{EngineConfig, RedbEngine};
use crate::vfs::{CrashStyle, Faults, MemoryVfs, RealVfs};

const T: Table = Table("t");
const U: Table = Table("u");
/// So small that pages are written before their commit and read again.
const SMALL: EngineConfig = EngineConfig { cache_bytes: 64 << 10 };

type Pairs = Vec<(Bytes, Bytes)>;

fn path() -> PathBuf {
    PathBuf::from("/d/state")
}

fn open(vfs: &MemoryVfs) -> Result<RedbEngine, Error> {
    RedbEngine::open(Arc::new(vfs.clone()), Path::new("/d"), SMALL)
}

fn collect(
    view: &dyn View,
    table: Table,
    range: KeyRange<'_>,
    order: Direction,
) -> Result<Pairs, Error> {
    let mut pairs = Vec::new();
    view.scan(table, range, order, &mut |key, value| {
        pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    })?;
    Ok(pairs)
}

fn all(view: &dyn View) -> Result<[Pairs; 2], Error> {
    let of = |table| collect(view, table, (Unbounded, Unbounded), Direction::Forward);
    Ok([of(T)?, of(U)?])
}

fn put(table: Table, pairs: &[(&'static str, &'static str)]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in pairs {
        batch.put(table, *key, *value);
    }
    batch
}

fn numbered(range: std::ops::Range<u32>, fill: u8, bytes: usize) -> Batch {
    let mut batch = Batch::new();
    for number in range {
        batch.put(T, number.to_be_bytes().to_vec(), vec![fill; bytes]);
    }
    batch
}

/// The promises of the port that do not need a disk.
fn check_promises(engine: &mut dyn Engine) {
    let empty = engine.view().unwrap();
    engine.commit(put(T, &[("a", "1"), ("b", "1"), ("c", "1")]), Durability::Relaxed).unwrap();
    let before = engine.view().unwrap();
    let mut batch = put(T, &[("b", "2"), ("d", "2"), ("b", "3")]);
    batch.delete(T, "a");
    batch.delete(T, "d");
    batch.delete(U, "not there");
    engine.commit(batch, Durability::Durable).unwrap();
    let after = engine.view().unwrap();

    assert_eq!(all(&*empty).unwrap(), [vec![], vec![]]);
    assert_eq!(before.get(T, b"a").unwrap(), Some(Bytes::from("1")));
    assert_eq!(before.get(T, b"b").unwrap(), Some(Bytes::from("1")));
    assert_eq!(after.get(T, b"a").unwrap(), None);
    assert_eq!(after.get(T, b"b").unwrap(), Some(Bytes::from("3")));
    assert_eq!(after.get(Table("never"), b"b").unwrap(), None);
    let keys = |range: KeyRange<'_>, order| {
        let pairs = collect(&*before, T, range, order).unwrap();
        pairs.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(keys((Included(b"a"), Excluded(b"c")), Direction::Reverse), ["b", "a"]);
    assert_eq!(keys((Excluded(b"a"), Included(b"c")), Direction::Forward), ["b", "c"]);
    assert!(keys((Included(b"c"), Excluded(b"a")), Direction::Forward).is_empty());
    assert!(keys((Excluded(b"b"), Excluded(b"b")), Direction::Forward).is_empty());
    let mut seen = 0;
    before
        .scan(T, (Unbounded, Unbounded), Direction::Forward, &mut |_, _| {
            seen += 1;
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(seen, 1, "a scan ends when it is told to");
}

#[test]
fn both_engines_keep_the_promises() {
    check_promises(&mut MemoryEngine::new());
    check_promises(&mut open(&MemoryVfs::new()).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let real = RedbEngine::open(Arc::new(RealVfs), dir.path(), EngineConfig::default());
    check_promises(&mut real.unwrap());
}

#[test]
fn a_killed_engine_comes_back_as_its_last_durable_commit() {
    let vfs = MemoryVfs::new();
    let mut engine = open(&vfs).unwrap();
    engine.commit(put(T, &[("a", "1")]), Durability::Relaxed).unwrap();
    engine.commit(put(U, &[("b", "1")]), Durability::Durable).unwrap();
    let durable = all(&*engine.view().unwrap()).unwrap();
    let size = engine.size_bytes().unwrap().in_use;
    engine.commit(put(T, &[("a", "2"), ("c", "2")]), Durability::Relaxed).unwrap();
    for style in CrashStyle::ALL {
        let after = open(&vfs.crashed_copy(style, 1)).unwrap();
        assert_eq!(all(&*after.view().unwrap()).unwrap(), durable, "{style:?}");
        assert_eq!(after.size_bytes().unwrap().in_use, size);
    }
    assert_eq!(size, 4, "two keys and two values of one byte each");
}

#[test]
fn a_dropped_engine_comes_back_whole() {
    let vfs = MemoryVfs::new();
    let mut engine = open(&vfs).unwrap();
    engine.commit(put(T, &[("a", "1")]), Durability::Relaxed).unwrap();
    assert_eq!(engine.views_held(), 0);
    let view = engine.view().unwrap();
    assert_eq!(engine.views_held(), 1);
    drop(engine);
    assert!(view.get(T, b"a").is_err(), "a view does not outlive its engine");
    let engine = open(&vfs.crashed_copy(CrashStyle::LoseAll, 0)).unwrap();
    assert_eq!(engine.view().unwrap().get(T, b"a").unwrap(), Some(Bytes::from("1")));
    assert_eq!(engine.size_bytes().unwrap().in_use, 2);
}

#[test]
fn two_engines_never_share_a_file() {
    let vfs = MemoryVfs::new();
    let held = open(&vfs).unwrap();
    let refused = open(&vfs).unwrap_err();
    assert!(matches!(&refused, Error::Io { what, .. } if what == "lock"), "{refused}");
    drop(held);
    open(&vfs).unwrap();
}

#[test]
fn readers_on_other_threads_see_their_own_commit() {
    let vfs = MemoryVfs::new();
    let mut engine = open(&vfs).unwrap();
    let check = |view: &dyn View, fill: u8| {
        for (_, value) in collect(view, T, (Unbounded, Unbounded), Direction::Forward).unwrap() {
            assert_eq!(value, vec![fill; 200]);
        }
    };
    std::thread::scope(|scope| {
        for fill in 0..20 {
            engine.commit(numbered(0..400, fill, 200), Durability::Relaxed).unwrap();
            let view = engine.view().unwrap();
            scope.spawn(move || (0..3).for_each(|_| check(&*view, fill)));
        }
        engine.commit(Batch::new(), Durability::Durable).unwrap();
    });
}

#[test]
fn a_failed_disk_ends_the_engine_and_loses_nothing_durable() {
    let failing = [
        Faults { fail_sync: Some(1), ..Faults::default() },
        Faults { fail_write: Some(3), ..Faults::default() },
        Faults { capacity_bytes: Some(100 << 10), ..Faults::default() },
    ];
    for faults in failing {
        let vfs = MemoryVfs::new();
        let mut engine = open(&vfs).unwrap();
        engine.commit(put(T, &[("a", "1")]), Durability::Durable).unwrap();
        vfs.set_faults(faults);
        let big = numbered(0..3000, 7, 300);
        let error = engine.commit(big, Durability::Durable).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(engine.commit(Batch::new(), Durability::Relaxed).is_err(), "it is final");
        let after = open(&vfs.crashed_copy(CrashStyle::Scatter, 5)).unwrap();
        let found = all(&*after.view().unwrap()).unwrap();
        assert_eq!(found, [vec![(Bytes::from("a"), Bytes::from("1"))], vec![]]);
    }
}

/// A script of commits whose durable states are known, on a disk that may lose power in it. Answers the states that may
/// be found afterwards: the last durable one, and the one being made durable.
fn run_script(vfs: &MemoryVfs) -> Vec<[Pairs; 2]> {
    let mut may_be = vec![[vec![], vec![]]];
    let mut model = MemoryEngine::new();
    let Ok(mut engine) = open(vfs) else {
        return may_be;
    };
    for round in 0_u8..8 {
        let low = u32::from(round) * 37 % 100;
        let mut batch = numbered(low..low + 30, round, 300);
        batch.put(U, vec![round], vec![round; 6000]);
        if let Some(old) = round.checked_sub(3) {
            batch.delete(U, vec![old]);
        }
        let durable = round % 3 == 2;
        let durability = if durable { Durability::Durable } else { Durability::Relaxed };
        model.commit(batch.clone(), durability).unwrap();
        if durable {
            may_be.push(all(&*model.view().unwrap()).unwrap());
        }
        if engine.commit(batch, durability).is_err() {
            return may_be.split_off(may_be.len().saturating_sub(2));
        }
        if durable {
            may_be = may_be.split_off(may_be.len() - 1);
        }
    }
    // Dropping it makes the rest durable.
    may_be.push(all(&*model.view().unwrap()).unwrap());
    may_be
}

#[test]
fn a_crash_at_every_call_leaves_a_durable_commit() {
    let made = MemoryVfs::new();
    drop(open(&made).unwrap());
    let calls = {
        let vfs = made.crashed_copy(CrashStyle::KeepAll, 0);
        run_script(&vfs);
        vfs.counts().total
    };
    assert!(calls > 150, "the script does enough to be interrupted: {calls}");
    for call in 0..calls {
        let vfs = made.crashed_copy(CrashStyle::KeepAll, 0);
        vfs.set_faults(Faults { power_off_at_call: Some(call), ..Faults::default() });
        let may_be = run_script(&vfs);
        for style in CrashStyle::ALL {
            let after = vfs.crashed_copy(style, call);
            let engine = open(&after).unwrap_or_else(|error| panic!("{call} {style:?}: {error}"));
            let found = all(&*engine.view().unwrap()).unwrap();
            assert!(may_be.contains(&found), "call {call}, {style:?}");
        }
    }
}

#[test]
fn a_crash_after_a_crash_is_no_worse() {
    let vfs = MemoryVfs::new();
    drop(open(&vfs).unwrap());
    let mut may_be = run_script(&vfs).split_off(1);
    let styles = CrashStyle::ALL.into_iter().cycle();
    for (seed, style) in (0..60).zip(styles) {
        vfs.crash(style, seed);
        vfs.set_faults(Faults { power_off_at_call: Some(seed * 3 % 97), ..Faults::default() });
        let round = u8::try_from(seed).unwrap();
        let mut model = MemoryEngine::new();
        if let Ok(mut engine) = open(&vfs) {
            let batch = numbered(0..100, round, 100);
            model.commit(filled(&may_be[0]), Durability::Relaxed).unwrap();
            if let Ok(view) = engine.view().map(|view| all(&*view)) {
                let found = view.unwrap_or_else(|_| may_be[0].clone());
                assert!(may_be.contains(&found), "seed {seed}");
                model = MemoryEngine::new();
                model.commit(filled(&found), Durability::Relaxed).unwrap();
                may_be = vec![found];
            }
            model.commit(batch.clone(), Durability::Durable).unwrap();
            let new = all(&*model.view().unwrap()).unwrap();
            match engine.commit(batch, Durability::Durable) {
                Ok(()) => may_be = vec![new],
                Err(_) => may_be.push(new),
            }
        }
    }
}

fn filled(state: &[Pairs; 2]) -> Batch {
    let mut batch = Batch::new();
    for (table, pairs) in [T, U].into_iter().zip(state) {
        for (key, value) in pairs {
            batch.put(table, key.clone(), value.clone());
        }
    }
    batch
}

/// A store of about half a megabyte with history in it: freed pages, large values, two tables.
fn aged_store() -> (MemoryVfs, [Pairs; 2]) {
    let vfs = MemoryVfs::new();
    let mut engine = open(&vfs).unwrap();
    for round in 0..6_u8 {
        let low = u32::from(round) * 60;
        let mut batch = numbered(low..low + 180, round, 250);
        batch.put(U, vec![round], vec![round; 30_000]);
        batch.delete(U, vec![round.saturating_sub(2)]);
        let durability = if round % 2 == 0 { Durability::Relaxed } else { Durability::Durable };
        engine.commit(batch, durability).unwrap();
    }
    let right = all(&*engine.view().unwrap()).unwrap();
    drop(engine);
    vfs.crash(CrashStyle::KeepAll, 0);
    (vfs, right)
}

fn read_everything(vfs: &MemoryVfs) -> Result<[Pairs; 2], Error> {
    let engine = open(vfs)?;
    let view = engine.view()?;
    let found = all(&*view)?;
    for (key, value) in found[0].iter().step_by(16) {
        assert_eq!(view.get(T, key)?.as_ref(), Some(value));
    }
    Ok(found)
}

#[test]
fn a_flipped_bit_is_refused_or_harmless_and_never_wrong() {
    let (vfs, right) = aged_store();
    let size = vfs.files().into_iter().find(|(file, _)| *file == path()).unwrap().1;
    let mut refused = 0;
    // A prime step visits every part of a block; the header's blocks are visited more closely.
    let offsets = (0..size).step_by(1021).chain((0..16384).step_by(211));
    let mut flips = 0_u64;
    for offset in offsets {
        flips += 1;
        let flipped = vfs.crashed_copy(CrashStyle::KeepAll, 0);
        flipped.flip(&path(), offset, 1 << (offset % 8));
        match read_everything(&flipped) {
            Ok(found) => assert_eq!(found, right, "offset {offset}"),
            Err(Error::Corrupt { location, offset: at, .. }) => {
                assert_eq!(location, "/d/state");
                assert_eq!(at / 4096, offset / 4096, "the error names the block");
                refused += 1;
            }
            Err(other) => panic!("offset {offset}: {other}"),
        }
    }
    assert!(flips > 500 && refused > 100, "{refused} of {flips} flips were refused");
}

#[test]
fn opening_after_a_kill_does_not_read_the_file() {
    let vfs = MemoryVfs::new();
    let mut engine = open(&vfs).unwrap();
    engine.commit(numbered(0..20_000, 1, 200), Durability::Durable).unwrap();
    vfs.crash(CrashStyle::KeepAll, 0);
    let engine = open(&vfs).unwrap();
    let blocks = engine.size_bytes().unwrap().total / 4096;
    let reads = vfs.counts().reads;
    assert!(blocks > 1000 && reads < 40, "{reads} reads for {blocks} blocks");
}

#[test]
fn garbage_and_short_files_are_refused_by_name() {
    let (vfs, _) = aged_store();
    let content = vfs.content(&path()).unwrap();
    let zeroes = vec![0; content.len()];
    let half = content[..content.len() / 2].to_vec();
    let mut swapped = content.clone();
    swapped[0..16384].fill(0xff);
    for bad in [Vec::new(), b"hello".to_vec(), zeroes, half, swapped] {
        let other = MemoryVfs::new();
        other.put(&path(), &bad);
        match open(&other) {
            Err(Error::Corrupt { location, .. }) => assert_eq!(location, "/d/state"),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("a file of {} bytes was taken", bad.len()),
        }
    }
}

#[test]
fn a_block_in_anothers_place_is_refused() {
    let (vfs, right) = aged_store();
    let mut content = vfs.content(&path()).unwrap();
    let mut refused = 0;
    for block in (6..60).step_by(3) {
        let start = block * 4096;
        content.copy_within(start + 4096..start + 8192, start);
        let other = MemoryVfs::new();
        other.put(&path(), &content);
        match read_everything(&other) {
            Ok(found) => assert_eq!(found, right),
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn more_tables_than_the_limit_are_an_error() {
    const NAMES: [&str; 17] =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"];
    let engine = open(&MemoryVfs::new()).unwrap();
    let view = engine.view().unwrap();
    let found: Vec<_> = NAMES.iter().map(|name| view.get(Table(name), b"x").is_ok()).collect();
    assert_eq!(found.iter().filter(|ok| **ok).count(), 16);
    assert!(!found[16]);
}

#[derive(Clone, Debug)]
enum Step {
    Commit { writes: Vec<(bool, u8, Option<u16>)>, durable: bool },
    Range { table: bool, low: Bound<u8>, high: Bound<u8>, reverse: bool },
    Crash { style: usize, seed: u64 },
    Reopen,
}

fn bound() -> impl Strategy<Value = Bound<u8>> {
    prop_oneof![Just(Unbounded), any::<u8>().prop_map(Included), any::<u8>().prop_map(Excluded),]
}

fn step() -> impl Strategy<Value = Step> {
    let write = (any::<bool>(), any::<u8>(), proptest::option::weighted(0.7, 0..6000_u16));
    prop_oneof![
        6 => (proptest::collection::vec(write, 0..40), proptest::bool::weighted(0.2))
            .prop_map(|(writes, durable)| Step::Commit { writes, durable }),
        3 => (any::<bool>(), bound(), bound(), any::<bool>())
            .prop_map(|(table, low, high, reverse)| Step::Range { table, low, high, reverse }),
        1 => (0..4_usize, any::<u64>()).prop_map(|(style, seed)| Step::Crash { style, seed }),
        1 => Just(Step::Reopen),
    ]
}

fn pick(table: bool) -> Table {
    if table { T } else { U }
}

/// The engine beside a model, and the model as it was at the last durable commit.
struct Pair {
    vfs: MemoryVfs,
    engine: Option<RedbEngine>,
    model: MemoryEngine,
    durable: MemoryEngine,
    views: Vec<(Arc<dyn View>, [Pairs; 2])>,
}

impl Pair {
    fn new() -> Self {
        let vfs = MemoryVfs::new();
        let engine = Some(open(&vfs).unwrap());
        let (model, durable) = (MemoryEngine::new(), MemoryEngine::new());
        Self { vfs, engine, model, durable, views: Vec::new() }
    }

    fn engine(&mut self) -> &mut RedbEngine {
        self.engine.as_mut().unwrap()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit { writes, durable } => self.commit(&writes, durable),
            Step::Range { table, low, high, reverse } => self.range(table, low, high, reverse),
            Step::Crash { style, seed } => {
                self.views.clear();
                self.vfs.crash(CrashStyle::ALL[style], seed);
                self.engine = None;
                self.engine = Some(open(&self.vfs).unwrap());
                self.model = self.durable.clone();
            }
            Step::Reopen => {
                self.views.clear();
                self.engine = None;
                self.engine = Some(open(&self.vfs).unwrap());
                self.durable = self.model.clone();
            }
        }
        let view = self.engine().view().unwrap();
        let found = all(&*view).unwrap();
        assert_eq!(found, all(&*self.model.view().unwrap()).unwrap());
        let live: usize = found.iter().flatten().map(|(key, value)| key.len() + value.len()).sum();
        assert_eq!(self.engine().size_bytes().unwrap().in_use, live as u64);
        for (view, then) in &self.views {
            assert_eq!(&all(&**view).unwrap(), then, "a view changed");
        }
        self.views.push((view, found));
        self.views.drain(..self.views.len().saturating_sub(3));
    }

    fn commit(&mut self, writes: &[(bool, u8, Option<u16>)], durable: bool) {
        let mut batch = Batch::new();
        for (number, (table, key, value)) in writes.iter().enumerate() {
            match value {
                Some(bytes) => {
                    let value = vec![u8::try_from(number).unwrap(); usize::from(*bytes)];
                    batch.put(pick(*table), vec![*key], value);
                }
                None => batch.delete(pick(*table), vec![*key]),
            }
        }
        let durability = if durable { Durability::Durable } else { Durability::Relaxed };
        self.model.commit(batch.clone(), durability).unwrap();
        self.engine().commit(batch, durability).unwrap();
        if durable {
            self.durable = self.model.clone();
        }
    }

    fn range(&mut self, table: bool, low: Bound<u8>, high: Bound<u8>, reverse: bool) {
        let (low, high) = (low.map(|key| [key]), high.map(|key| [key]));
        let range = (low.as_ref().map(<[u8; 1]>::as_slice), high.as_ref().map(<[u8; 1]>::as_slice));
        let order = if reverse { Direction::Reverse } else { Direction::Forward };
        let expected = collect(&*self.model.view().unwrap(), pick(table), range, order).unwrap();
        let view = self.engine().view().unwrap();
        assert_eq!(collect(&*view, pick(table), range, order).unwrap(), expected);
        let right: BTreeMap<_, _> = expected.into_iter().collect();
        for (key, value) in &right {
            assert_eq!(view.get(pick(table), key).unwrap().as_ref(), Some(value));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_history_equals_the_model(steps in proptest::collection::vec(step(), 1..30)) {
        let mut pair = Pair::new();
        for step in steps {
            pair.step(step);
        }
    }
}
