//! The block file alone, as a tenant sees it: crashes, decay, growth, and what it refuses.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use proptest::prelude::*;
use redb::StorageBackend;

use super::{
    BlockFile, Report, Start,
    layout::{BLOCK, BLOCK_BYTES, SUMS_PER_GROUP, data_offset, sum_offset},
};
use crate::vfs::{CrashStyle, Faults, MemoryVfs, Open, Vfs};

const PATH: &str = "/d/blocks";
const SALT: u64 = 0x5a17;

fn open(vfs: &MemoryVfs, start: Start) -> io::Result<BlockFile> {
    let how = if start == Start::New(SALT) { Open::CreateNew } else { Open::Existing };
    let file = vfs.open(Path::new(PATH), how)?;
    BlockFile::open(file, start, Arc::new(Report::new(PATH.into())))
}

fn made(blocks: u64) -> (MemoryVfs, BlockFile) {
    let vfs = MemoryVfs::new();
    let file = open(&vfs, Start::New(SALT)).unwrap();
    vfs.sync_dir(Path::new("/d")).unwrap();
    file.set_len(blocks * BLOCK).unwrap();
    file.sync_data().unwrap();
    (vfs, file)
}

fn block(fill: u8) -> Vec<u8> {
    vec![fill; BLOCK_BYTES]
}

/// The byte that fills a block.
fn read(file: &BlockFile, number: u64) -> io::Result<u8> {
    let mut bytes = block(0);
    file.read(number * BLOCK, &mut bytes)?;
    assert!(bytes == block(bytes[0]), "block {number} is mixed");
    Ok(bytes[0])
}

#[test]
fn blocks_come_back_across_groups_and_a_reopening() {
    let (vfs, file) = made(3 * SUMS_PER_GROUP);
    let across = [block(1), block(2), block(3), block(4)].concat();
    let start = SUMS_PER_GROUP - 1;
    file.write(start * BLOCK, &across).unwrap();
    file.write(3, b"header").unwrap();
    file.sync_data().unwrap();
    drop(file);
    let file = open(&vfs, Start::Existing).unwrap();
    let mut found = vec![0; across.len()];
    file.read(start * BLOCK, &mut found).unwrap();
    assert_eq!(found, across);
    let mut head = [0; 9];
    file.read(0, &mut head).unwrap();
    assert_eq!(&head, b"\0\0\0header");
    assert_eq!(file.len().unwrap(), 3 * SUMS_PER_GROUP * BLOCK);
}

#[test]
fn what_was_never_written_or_lies_elsewhere_is_refused() {
    let (_, file) = made(10);
    file.write(2 * BLOCK, &block(1)).unwrap();
    let unwritten = read(&file, 3).unwrap_err();
    assert!(unwritten.to_string().contains("has no checksum"), "{unwritten}");
    let input = io::ErrorKind::InvalidInput;
    assert_eq!(read(&file, 10).unwrap_err().kind(), input);
    assert_eq!(file.write(5, &[0; 4096]).unwrap_err().kind(), input);
    assert_eq!(file.write(2 * BLOCK + 1, &[0; 10]).unwrap_err().kind(), input);
    assert_eq!(file.write(2 * BLOCK, &[0; 10]).unwrap_err().kind(), input);
    assert_eq!(file.set_len(u64::MAX).unwrap_err().kind(), input);
    assert_eq!(file.read(u64::MAX, &mut [0; 10]).unwrap_err().kind(), input);
}

#[test]
fn blocks_cut_off_are_gone_when_the_file_grows_again() {
    let (vfs, file) = made(2 * SUMS_PER_GROUP);
    for number in [5, 9, SUMS_PER_GROUP + 5] {
        file.write(number * BLOCK, &block(7)).unwrap();
    }
    file.sync_data().unwrap();
    file.set_len(8 * BLOCK).unwrap();
    file.set_len(2 * SUMS_PER_GROUP * BLOCK).unwrap();
    assert_eq!(read(&file, 5).unwrap(), 7);
    assert!(read(&file, 9).is_err() && read(&file, SUMS_PER_GROUP + 5).is_err());
    file.set_len(8 * BLOCK).unwrap();
    file.sync_data().unwrap();
    let size = vfs.content(Path::new(PATH)).unwrap().len() as u64;
    assert_eq!(size, data_offset(8), "the file is cut after the sync");
}

#[test]
fn a_shorter_length_is_durable_before_the_file_is_cut() {
    let (vfs, file) = made(50);
    file.write(40 * BLOCK, &block(4)).unwrap();
    file.sync_data().unwrap();
    file.set_len(20 * BLOCK).unwrap();
    for style in CrashStyle::ALL {
        let after = open(&vfs.crashed_copy(style, 2), Start::Existing).unwrap();
        assert_eq!(after.len().unwrap(), 50 * BLOCK);
        assert_eq!(read(&after, 40).unwrap(), 4);
    }
}

#[test]
fn a_torn_sum_block_condemns_no_neighbour() {
    let (vfs, file) = made(20);
    for number in 1..20 {
        file.write(number * BLOCK, &block(1)).unwrap();
    }
    file.sync_data().unwrap();
    file.write(7 * BLOCK, &block(2)).unwrap();
    file.sync_data().unwrap();
    drop(file);
    // The newer of the two slots, as a crash in the middle of its first write would leave it.
    let mut content = vfs.content(Path::new(PATH)).unwrap();
    let at = usize::try_from(sum_offset(0, 1)).unwrap();
    content[at + 512..at + 4096].fill(0xaa);
    vfs.put(Path::new(PATH), &content);
    let file = open(&vfs, Start::Existing).unwrap();
    for number in (1..20).filter(|number| *number != 7) {
        assert_eq!(read(&file, number).unwrap(), 1);
    }
    let error = read(&file, 7).unwrap_err().to_string();
    let expected =
        format!("corrupt at offset {}: this checksum block is not whole", sum_offset(0, 1));
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn a_header_older_than_the_sums_is_a_lost_write() {
    let (vfs, file) = made(20);
    let old = vfs.content(Path::new(PATH)).unwrap()[..16384].to_vec();
    for round in 0..3 {
        file.write(2 * BLOCK, &block(round)).unwrap();
        file.sync_data().unwrap();
    }
    drop(file);
    let mut content = vfs.content(Path::new(PATH)).unwrap();
    content[..16384].copy_from_slice(&old);
    vfs.put(Path::new(PATH), &content);
    let file = open(&vfs, Start::Existing).unwrap();
    let error = read(&file, 2).unwrap_err().to_string();
    assert!(error.contains("a newer one was lost"), "{error}");
}

#[test]
fn reads_that_go_astray_once_are_read_again() {
    let (vfs, file) = made(100);
    for number in 1..100 {
        file.write(number * BLOCK, &block(u8::try_from(number).unwrap())).unwrap();
    }
    file.sync_data().unwrap();
    for number in 1..99 {
        vfs.set_faults(Faults { misdirect_read: Some(0), ..Faults::default() });
        assert_eq!(u64::from(read(&file, number).unwrap()), number);
    }
}

/// A file whose last durable header, in all of its sectors, says 2. With `cut_off`, the process died in the next sync, before this write.
fn died(cut_off: Option<u64>) -> MemoryVfs {
    let (vfs, file) = made(20);
    file.write(BLOCK, &vec![1; 9 * BLOCK_BYTES]).unwrap();
    for header in 1..3 {
        file.write(0, &[header; 4000]).unwrap();
        file.sync_data().unwrap();
    }
    if cut_off.is_some() {
        file.write(0, &[3; 4000]).unwrap();
        file.write(12 * BLOCK, &block(3)).unwrap();
        vfs.set_faults(Faults { fail_write: cut_off, ..Faults::default() });
        file.sync_data().unwrap_err();
    }
    vfs
}

#[test]
fn a_crash_at_any_call_of_an_opening_costs_nothing() {
    for cut_off in [None, Some(0), Some(1), Some(2)] {
        for (call, seed) in (0..14).flat_map(|call| (0..8).map(move |seed| (call, seed))) {
            let vfs = died(cut_off);
            vfs.set_faults(Faults { power_off_at_call: Some(call), ..Faults::default() });
            let _ = open(&vfs, Start::Existing);
            vfs.crash(CrashStyle::Scatter, seed);
            let file = open(&vfs, Start::Existing).unwrap();
            let mut header = [0; 4000];
            file.read(0, &mut header).unwrap();
            let right = header == [2; 4000] || (cut_off.is_some() && header == [3; 4000]);
            assert!(right, "{cut_off:?}, call {call}, seed {seed}: {}", header[0]);
            (1..10).for_each(|number| assert_eq!(read(&file, number).unwrap(), 1));
        }
    }
}

#[test]
fn a_closed_file_has_four_copies_of_its_header() {
    let (vfs, file) = made(10);
    file.write(0, &[8; 320]).unwrap();
    file.sync_data().unwrap();
    file.close().unwrap();
    drop(file);
    for slot in [0, 1] {
        let after = vfs.crashed_copy(CrashStyle::KeepAll, 0);
        after.flip(Path::new(PATH), slot * BLOCK + 100, 1);
        after.flip(Path::new(PATH), (slot + 2) * BLOCK + 200, 1);
        let mut bytes = [0; 320];
        open(&after, Start::Existing).unwrap().read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [8; 320]);
    }
}

#[test]
fn a_sum_block_whose_read_went_astray_is_read_again() {
    let (vfs, file) = made(10);
    for fill in 1..3 {
        file.write(BLOCK, &block(fill)).unwrap();
        file.sync_data().unwrap();
    }
    drop(file);
    let file = open(&vfs, Start::Existing).unwrap();
    vfs.set_faults(Faults { misdirect_read: Some(0), ..Faults::default() });
    assert_eq!(read(&file, 1).unwrap(), 2);
}

#[test]
fn a_failed_sync_is_final() {
    let (vfs, file) = made(10);
    file.write(BLOCK, &block(1)).unwrap();
    vfs.set_faults(Faults { fail_sync: Some(0), ..Faults::default() });
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_err() && file.write(BLOCK, &block(2)).is_err());
    assert_eq!(read(&file, 1).unwrap(), 1, "readers may finish");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u64, u8, u64),
    Header(u8),
    Resize(u64),
    Sync,
    Crash(usize, u64),
    /// The power goes at this call of the next sync.
    Interrupted(u64, usize, u64),
    /// The power goes once more, at this call of the opening after a crash.
    CrashInOpening(u64, usize, u64),
    /// The process dies, the machine does not.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..40_u64, any::<u8>(), 1..4_u64).prop_map(|(at, fill, count)| Step::Write(at, fill, count)),
        2 => any::<u8>().prop_map(Step::Header),
        1 => (20..60_u64).prop_map(Step::Resize),
        3 => Just(Step::Sync),
        1 => (0..4_usize, any::<u64>()).prop_map(|(style, seed)| Step::Crash(style, seed)),
        2 => (0..8_u64, 0..4_usize, any::<u64>())
            .prop_map(|(call, style, seed)| Step::Interrupted(call, style, seed)),
        2 => (0..10_u64, 0..4_usize, any::<u64>())
            .prop_map(|(call, style, seed)| Step::CrashInOpening(call, style, seed)),
        2 => Just(Step::Kill),
    ]
}

/// What a tenant knows of its file.
#[derive(Clone, Debug, Default)]
struct Known {
    length: u64,
    header: u8,
    blocks: BTreeMap<u64, u8>,
}

struct Tenant {
    vfs: MemoryVfs,
    file: BlockFile,
    now: Known,
    durable: Known,
    /// The length shrank since the last sync: growing again syncs first.
    shrunk: bool,
}

impl Tenant {
    fn new() -> Self {
        let (vfs, file) = made(40);
        let known = Known { length: 40, ..Known::default() };
        Self { vfs, file, now: known.clone(), durable: known, shrunk: false }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(at, fill, count) => self.write(at, fill, count),
            Step::Header(fill) => {
                self.file.write(0, &[fill; 4000]).unwrap();
                self.now.header = fill;
            }
            Step::Resize(length) => {
                self.file.set_len(length * BLOCK).unwrap();
                if self.shrunk && length > self.now.length {
                    self.synced();
                }
                self.shrunk |= length < self.now.length;
                self.now.length = length;
                self.now.blocks.retain(|block, _| *block < length);
            }
            Step::Sync => {
                self.file.sync_data().unwrap();
                self.synced();
            }
            Step::Crash(style, seed) => self.crash(style, seed),
            Step::CrashInOpening(call, style, seed) => {
                self.vfs.crash(CrashStyle::ALL[style], seed);
                let faults = Faults { power_off_at_call: Some(call), ..Faults::default() };
                self.vfs.set_faults(faults);
                let _ = open(&self.vfs, Start::Existing);
                self.crash(style, seed.wrapping_add(1));
            }
            Step::Kill => self.reopen(),
            Step::Interrupted(call, style, seed) => {
                let faults = Faults { power_off_at_call: Some(call), ..Faults::default() };
                self.vfs.set_faults(faults);
                if self.file.sync_data().is_ok() {
                    self.synced();
                }
                self.crash(style, seed);
            }
        }
        self.check();
    }

    fn synced(&mut self) {
        self.durable = self.now.clone();
        self.shrunk = false;
    }

    fn write(&mut self, at: u64, fill: u8, count: u64) {
        let end = (at + count).min(self.now.length);
        let bytes: Vec<u8> = (at..end).flat_map(|_| block(fill)).collect();
        if !bytes.is_empty() {
            self.file.write(at * BLOCK, &bytes).unwrap();
            self.now.blocks.extend((at..end).map(|number| (number, fill)));
        }
    }

    fn crash(&mut self, style: usize, seed: u64) {
        self.vfs.crash(CrashStyle::ALL[style], seed);
        self.reopen();
    }

    /// Afterwards header and length are together of the last sync or of the one that was interrupted; every block
    /// that was not written since the last sync is there; one that was is old, new, or refused.
    fn reopen(&mut self) {
        self.file = open(&self.vfs, Start::Existing).unwrap();
        let mut header = [0; 1];
        self.file.read(3999, &mut header).unwrap();
        let length = self.file.len().unwrap() / BLOCK;
        let same = |known: &Known| (known.length, known.header) == (length, header[0]);
        assert!(same(&self.durable) || same(&self.now), "{length} {header:?}");
        let mut found = Known { length, header: header[0], blocks: BTreeMap::new() };
        for number in 1..length {
            let (old, new) = (self.durable.blocks.get(&number), self.now.blocks.get(&number));
            match read(&self.file, number) {
                Ok(fill) => {
                    assert!([old, new].contains(&Some(&fill)), "block {number}");
                    found.blocks.insert(number, fill);
                }
                // Cut off by a resize that was lost, or grown by one that was not.
                Err(_) => assert!(old != new || old.is_none(), "block {number} was not touched"),
            }
        }
        self.now = found;
        self.synced();
    }

    fn check(&self) {
        for number in 1..self.now.length {
            match self.now.blocks.get(&number) {
                Some(fill) => assert_eq!(read(&self.file, number).unwrap(), *fill),
                None => assert!(read(&self.file, number).is_err()),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_crash_costs_a_block_that_was_not_being_written(
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let mut tenant = Tenant::new();
        for step in steps {
            tenant.step(step);
        }
    }
}
