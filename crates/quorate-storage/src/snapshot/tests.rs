//! Snapshots there and back, over a network that damages and a disk that crashes.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use proptest::prelude::*;
use quorate_engine::{Batch, Direction, Durability, Engine, MemoryEngine, Table, View};

use super::{
    CHUNK_BYTES, CHUNK_BYTES_MAX, Chunk, IncomingSnapshot, Progress, Record, SnapshotError,
    SnapshotHead, SnapshotReader, SnapshotWriter,
};
use crate::{
    EngineConfig, RedbEngine, StateDir,
    vfs::{CrashStyle, Faults, MemoryVfs, Vfs},
};

const T: Table = Table("t");
const U: Table = Table("u");
const DIR: &str = "/d";
const SALT: u64 = 0x5a17;
const SMALL: EngineConfig = EngineConfig { cache_bytes: 64 << 10 };

type Content = BTreeMap<(&'static str, Bytes), Bytes>;

fn head() -> SnapshotHead {
    SnapshotHead { index: 70, term: 3, header: Bytes::from("1,2,3") }
}

fn content(view: &dyn View) -> Content {
    let mut content = Content::new();
    for table in [T, U] {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        view.scan(table, everything, Direction::Forward, &mut |key, value| {
            let key = (table.0, Bytes::copy_from_slice(key));
            content.insert(key, Bytes::copy_from_slice(value));
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    content
}

fn fill(pairs: u32) -> Batch {
    let mut batch = Batch::new();
    for number in 0..pairs {
        batch.put(T, number.to_be_bytes().to_vec(), vec![7; (number * 37 % 400) as usize]);
    }
    batch.put(U, "large", vec![9; 5000]);
    batch
}

fn sender() -> Arc<dyn View> {
    let mut engine = MemoryEngine::new();
    engine.commit(fill(200), Durability::Durable).unwrap();
    engine.view().unwrap()
}

fn writer(view: &Arc<dyn View>, chunk_bytes: usize) -> SnapshotWriter {
    SnapshotWriter::new(view.clone(), vec![T, U], head(), (chunk_bytes, SALT))
}

fn chunks(view: &Arc<dyn View>, chunk_bytes: usize) -> Vec<Chunk> {
    let mut writer = writer(view, chunk_bytes);
    let mut chunks = Vec::new();
    while let Some(chunk) = writer.next_chunk().unwrap() {
        chunks.push(chunk);
    }
    chunks
}

fn open(vfs: &MemoryVfs) -> (StateDir, RedbEngine) {
    StateDir::open(Arc::new(vfs.clone()), Path::new(DIR), SMALL).unwrap()
}

fn receive(dir: &StateDir, chunks: &[Chunk]) -> Result<IncomingSnapshot, SnapshotError> {
    let mut incoming = dir.receive()?;
    for chunk in chunks {
        incoming.accept(&chunk.bytes)?;
    }
    Ok(incoming)
}

#[test]
fn a_snapshot_becomes_the_state() {
    let view = sender();
    for chunk_bytes in [1, 100, 4096, CHUNK_BYTES] {
        let vfs = MemoryVfs::new();
        let (dir, mut old) = open(&vfs);
        let mut batch = Batch::new();
        batch.put(T, "old", "1");
        old.commit(batch, Durability::Durable).unwrap();
        let old_view = old.view().unwrap();
        assert_eq!(old.installed_snapshot().unwrap(), None);

        let chunks = chunks(&view, chunk_bytes);
        let (last, others) = chunks.split_last().unwrap();
        assert!(last.last && others.iter().all(|chunk| !chunk.last));
        let incoming = receive(&dir, &chunks).unwrap();
        assert_eq!(incoming.head(), Some(&head()));
        let engine = dir.install(incoming).unwrap();

        assert_eq!(content(&*engine.view().unwrap()), content(&*view));
        assert_eq!(old_view.get(T, b"old").unwrap(), Some(Bytes::from("1")), "old views go on");
        drop((old, engine, dir));
        vfs.crash(CrashStyle::LoseAll, 0);
        let (_, engine) = open(&vfs);
        assert_eq!(content(&*engine.view().unwrap()), content(&*view));
        assert_eq!(engine.installed_snapshot().unwrap(), Some(head()));
        let live: usize = content(&*view).iter().map(|((_, k), v)| k.len() + v.len()).sum();
        assert_eq!(engine.size_bytes().unwrap().in_use, live as u64);
        let names = vfs.list(Path::new(DIR)).unwrap();
        assert!(names.iter().all(|name| name == "state" || name == "LOCK"), "{names:?}");
    }
}

#[test]
fn a_snapshot_that_is_given_up_leaves_no_file() {
    let vfs = MemoryVfs::new();
    let (dir, _engine) = StateDir::open(Arc::new(vfs.clone()), Path::new(DIR), SMALL).unwrap();
    let before = vfs.files();
    let mut incoming = dir.receive().unwrap();
    incoming.accept(&chunks(&sender(), 1000)[0].bytes).unwrap();
    assert_ne!(vfs.files(), before);
    incoming.discard().unwrap();
    assert_eq!(vfs.files(), before);
}

#[test]
fn chunks_are_bounded_and_repeatable() {
    let view = sender();
    let first = chunks(&view, 1000);
    assert!(first.len() > 40);
    assert!(first.iter().all(|chunk| chunk.bytes.len() <= 1000 + 40));
    assert_eq!(chunks(&view, 1000), first);
}

#[test]
fn a_refused_chunk_changes_nothing_and_is_taken_when_it_comes_whole() {
    let vfs = MemoryVfs::new();
    let (dir, _engine) = open(&vfs);
    let view = sender();
    let sent = chunks(&view, 3000);
    let mut incoming = dir.receive().unwrap();
    for (number, chunk) in sent.iter().enumerate() {
        let bit = number * 7919 % (chunk.bytes.len() * 8);
        let mut flipped = chunk.bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut late = sent.get(number + 1).map_or(Vec::new(), |next| next.bytes.to_vec());
        late.truncate(late.len());
        let early = number.checked_sub(1).map_or(Vec::new(), |at| sent[at].bytes.to_vec());
        let short = chunk.bytes[..chunk.bytes.len() - 1].to_vec();
        for bad in [flipped, late, early, short, Vec::new(), b"QSN1".to_vec()] {
            let error = incoming.accept(&bad).unwrap_err();
            let expected = number as u64;
            assert!(
                matches!(&error, SnapshotError::Refused { expected: e, .. } if *e == expected),
                "{error}"
            );
        }
        assert_eq!(incoming.next_sequence(), number as u64);
        let progress = incoming.accept(&chunk.bytes).unwrap();
        assert_eq!(progress == Progress::Complete, chunk.last);
    }
    assert!(incoming.accept(&sent[0].bytes).is_err(), "nothing follows the last chunk");
    let engine = dir.install(incoming).unwrap();
    assert_eq!(content(&*engine.view().unwrap()), content(&*view));
}

#[test]
fn every_flipped_bit_of_a_chunk_is_refused() {
    let vfs = MemoryVfs::new();
    let (dir, _engine) = open(&vfs);
    let first = &chunks(&sender(), 100)[0];
    let mut incoming = dir.receive().unwrap();
    for bit in 0..first.bytes.len() * 8 {
        let mut flipped = first.bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(incoming.accept(&flipped).is_err(), "bit {bit}");
    }
    assert_eq!(incoming.accept(&first.bytes).unwrap(), Progress::Wants(1));
}

#[test]
fn chunks_of_two_snapshots_do_not_mix() {
    let vfs = MemoryVfs::new();
    let (dir, _engine) = open(&vfs);
    let mut other = MemoryEngine::new();
    other.commit(fill(201), Durability::Durable).unwrap();
    let other = chunks(&other.view().unwrap(), 1000);
    let one = chunks(&sender(), 1000);
    let differs = one.iter().zip(&other).position(|(one, other)| one != other).unwrap();
    let mut incoming = receive(&dir, &one[..=differs]).unwrap();
    let mixed = incoming.accept(&other[differs + 1].bytes).unwrap_err();
    assert!(mixed.to_string().contains("another snapshot"), "{mixed}");
}

#[test]
fn an_incomplete_snapshot_is_not_installed() {
    let vfs = MemoryVfs::new();
    let (dir, _engine) = open(&vfs);
    let sent = chunks(&sender(), 1000);
    let incoming = receive(&dir, &sent[..sent.len() - 1]).unwrap();
    let error = dir.install(incoming).unwrap_err();
    let missing = sent.len() as u64 - 1;
    assert!(matches!(error, SnapshotError::Incomplete { expected } if expected == missing));
}

#[test]
fn a_bit_that_flips_on_disk_before_the_installation_is_found_there() {
    let vfs = MemoryVfs::new();
    let (dir, engine) = open(&vfs);
    let sent = chunks(&sender(), 1000);
    let path = Path::new(DIR).join("snapshot.incoming");
    let size: usize = sent.iter().map(|chunk| chunk.bytes.len()).sum();
    for offset in (0..size as u64).step_by(size / 40) {
        let incoming = receive(&dir, &sent).unwrap();
        vfs.flip(&path, offset, 0x10);
        let error = dir.install(incoming).unwrap_err();
        let SnapshotError::Corrupt { location, offset: at, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(location, "/d/snapshot.incoming");
        assert!(at <= offset && offset < at + 1100, "{at} names the chunk of {offset}");
    }
    assert!(content(&*engine.view().unwrap()).is_empty());
    drop((engine, dir));
    assert!(content(&*open(&vfs).1.view().unwrap()).is_empty(), "the old state stands");
}

#[test]
fn a_crash_at_any_call_leaves_the_old_state_or_the_new_one() {
    let made = MemoryVfs::new();
    let (dir, mut engine) = open(&made);
    let mut batch = Batch::new();
    batch.put(T, "old", "1");
    engine.commit(batch, Durability::Durable).unwrap();
    let old = content(&*engine.view().unwrap());
    drop((dir, engine));
    let view = sender();
    let new = content(&*view);
    let sent = chunks(&view, 20_000);
    let attempt = |vfs: &MemoryVfs| {
        let opened = StateDir::open(Arc::new(vfs.clone()), Path::new(DIR), SMALL);
        let (dir, _engine) = opened.map_err(SnapshotError::Engine)?;
        dir.install(receive(&dir, &sent)?).map(drop)
    };
    let vfs = made.crashed_copy(CrashStyle::KeepAll, 0);
    attempt(&vfs).unwrap();
    let calls = vfs.counts().total;
    let mut found = [0, 0];
    for call in 0..calls {
        let vfs = made.crashed_copy(CrashStyle::KeepAll, 0);
        vfs.set_faults(Faults { power_off_at_call: Some(call), ..Faults::default() });
        let done = attempt(&vfs).is_ok();
        for style in CrashStyle::ALL {
            let (_, engine) = open(&vfs.crashed_copy(style, call));
            let state = content(&*engine.view().unwrap());
            let is_new = state == new;
            assert!(is_new || (state == old && !done), "call {call}, {style:?}");
            assert_eq!(engine.installed_snapshot().unwrap().is_some(), is_new);
            found[usize::from(is_new)] += 1;
        }
    }
    assert!(found[0] > 100 && found[1] > 4, "{found:?}");
}

#[test]
fn a_directory_made_anew_survives_a_crash_at_any_call() {
    let attempt = |vfs: &MemoryVfs| {
        let opened = StateDir::open(Arc::new(vfs.clone()), Path::new(DIR), SMALL);
        opened.map(drop)
    };
    let vfs = MemoryVfs::new();
    attempt(&vfs).unwrap();
    for call in 0..vfs.counts().total {
        let vfs = MemoryVfs::new();
        vfs.set_faults(Faults { power_off_at_call: Some(call), ..Faults::default() });
        let _ = attempt(&vfs);
        for style in CrashStyle::ALL {
            let (_, engine) = open(&vfs.crashed_copy(style, call));
            assert!(content(&*engine.view().unwrap()).is_empty());
        }
    }
}

#[test]
fn a_state_dir_belongs_to_one() {
    let vfs = MemoryVfs::new();
    let (dir, engine) = open(&vfs);
    let again = || StateDir::open(Arc::new(vfs.clone()), Path::new(DIR), SMALL);
    assert!(again().is_err());
    drop(dir);
    assert!(again().is_err(), "the engine holds it too");
    drop(engine);
    assert!(again().is_ok());
}

#[test]
fn a_full_disk_leaves_the_old_state() {
    let vfs = MemoryVfs::new();
    let (dir, _engine) = open(&vfs);
    let incoming = receive(&dir, &chunks(&sender(), CHUNK_BYTES)).unwrap();
    vfs.set_faults(Faults { capacity_bytes: Some(300 << 10), ..Faults::default() });
    let error = dir.install(incoming).unwrap_err();
    assert!(matches!(error, SnapshotError::Engine(_)), "{error}");
    let (_, engine) = open(&vfs.crashed_copy(CrashStyle::Tear, 3));
    assert!(content(&*engine.view().unwrap()).is_empty());
}

#[test]
fn whole_chunks_that_make_no_snapshot_are_told_apart() {
    let vfs = MemoryVfs::new();
    let (dir, _engine) = open(&vfs);
    let pair = [2, 1, 0, 0, 0, 0, 0, 0, 0, b'k'];
    let mut huge = vec![2];
    huge.extend([0xff; 8]);
    for payload in [&[9, 9][..], &pair, &huge, &[]] {
        let mut incoming = dir.receive().unwrap();
        let chunk = Chunk::encode(SALT, (0, 0), true, payload);
        let error = incoming.accept(&chunk.bytes).unwrap_err();
        assert!(matches!(error, SnapshotError::Corrupt { .. }), "{error}");
        assert!(incoming.accept(&chunk.bytes).is_err() && !incoming.is_complete());
    }
    let long = Chunk::encode(SALT, (0, 0), false, &vec![0; CHUNK_BYTES_MAX + 1]);
    let error = dir.receive().unwrap().accept(&long.bytes).unwrap_err();
    assert!(matches!(error, SnapshotError::Refused { .. }), "{error}");
}

#[test]
fn a_reader_tells_what_a_file_holds() {
    let vfs = MemoryVfs::new();
    let (dir, _engine) = open(&vfs);
    let incoming = receive(&dir, &chunks(&sender(), 512)).unwrap();
    let mut reader = SnapshotReader::open(&vfs, incoming.path()).unwrap();
    let mut tables = Vec::new();
    let mut pairs = 0;
    while let Some(record) = reader.next_record().unwrap() {
        match record {
            Record::Head(found) => assert_eq!(found, head()),
            Record::Table(name) => tables.push(name),
            Record::Pair(..) => pairs += 1,
            Record::End { pairs: said } => assert_eq!(said, pairs),
        }
    }
    assert_eq!((tables, pairs), (vec!["t".to_owned(), "u".to_owned()], 201));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_content_survives_the_way(
        pairs in proptest::collection::btree_map(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..20)),
            proptest::collection::vec(any::<u8>(), 0..300),
            0..60,
        ),
        chunk_bytes in 1..700_usize,
    ) {
        let mut engine = MemoryEngine::new();
        let mut batch = Batch::new();
        for ((table, key), value) in pairs {
            batch.put(if table { T } else { U }, key, value);
        }
        engine.commit(batch, Durability::Relaxed).unwrap();
        let view = engine.view().unwrap();
        let vfs = MemoryVfs::new();
        let (dir, _old) = open(&vfs);
        let new = dir.install(receive(&dir, &chunks(&view, chunk_bytes)).unwrap()).unwrap();
        prop_assert_eq!(content(&*new.view().unwrap()), content(&*view));
    }

    #[test]
    fn no_bytes_make_the_receiver_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let vfs = MemoryVfs::new();
        let mut incoming =
            IncomingSnapshot::create(Arc::new(vfs), Path::new("/d/x")).unwrap();
        prop_assert!(incoming.accept(&bytes).is_err());
        let wrapped = Chunk::encode(SALT, (0, 0), true, &bytes);
        prop_assert!(incoming.accept(&wrapped.bytes).is_err());
    }
}
