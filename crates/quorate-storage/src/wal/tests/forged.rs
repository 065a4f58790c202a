//! Values that were made to look like the log: nothing that a client stores is ever taken for structure, wherever it comes to lie.

use super::*;
use crate::vfs::CrashStyle;

/// Values go into segments of this size, of which each holds several.
const SEGMENT_BYTES: u64 = 32 << 10;

fn config() -> WalConfig {
    WalConfig { segment_bytes: SEGMENT_BYTES, ..WalConfig::default() }
}

fn open_log(vfs: &MemoryVfs) -> Result<(Wal, Groups), LogError> {
    open_with(vfs, config())
}

/// Every segment that another member's log ever had, whole: it is far ahead in batches, and level in segments.
fn segments_of_another() -> Vec<Vec<u8>> {
    let vfs = MemoryVfs::with_seed(7);
    let (mut wal, _) = open(&vfs).unwrap();
    let mut images = BTreeMap::new();
    for index in 1..600 {
        append(&mut wal, &[save(0, index, vec![entry(1, 1, 90)])]).unwrap();
        wal.sync().unwrap();
        images.extend(segments_on(&vfs));
        append(&mut wal, &[Step::Compacted { group: 0, base: base(index, 1) }]).unwrap();
    }
    images.into_values().collect()
}

fn segments_on(vfs: &MemoryVfs) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let segments = vfs.files().into_iter().map(|(path, _)| path);
    let segments = segments.filter(|path| path.extension().is_some_and(|suffix| suffix == "wal"));
    segments.map(|path| (path.clone(), vfs.content(&path).unwrap())).collect()
}

fn entry_of(payload: Vec<u8>) -> Entry {
    let bytes = u32::try_from(payload.len()).unwrap();
    let meta = EntryMeta { term: Term(1), kind: EntryKind::Normal, bytes };
    Entry { meta, payload: payload.into() }
}

/// Stores `values`, one by one, in a log that drops each soon after, so that its files are used again and again; and opens it
/// again after each, as it was left and as a crash may leave it.
fn store(vfs: &MemoryVfs, values: impl IntoIterator<Item = Vec<u8>>) {
    let mut model = MemoryLogStore::new();
    for (value, index) in values.into_iter().zip(1..) {
        let (mut wal, groups) = open_log(vfs).unwrap_or_else(|e| panic!("value {index}: {e}"));
        assert_eq!(groups, all_of(&model, 1), "value {index}");
        let steps = [
            save(0, index, vec![entry_of(value)]),
            Step::Compacted { group: 0, base: base(index - index.min(2), 1) },
        ];
        for step in steps {
            append(&mut wal, std::slice::from_ref(&step)).unwrap();
            append(&mut model, &[step]).unwrap();
            wal.sync().unwrap();
        }
        let torn = save(0, index + 1, vec![entry(1, 1, 5000)]);
        append(&mut wal, &[torn]).unwrap();
        drop(wal);
        vfs.crash(CrashStyle::LoseAll, index);
    }
}

/// Wherever a value begins, one of these starts its content at a multiple of eight.
fn shifted(content: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..8).map(|shift| [vec![0; shift], content.to_vec()].concat())
}

#[test]
fn pieces_of_another_members_segments_are_only_values() {
    let vfs = MemoryVfs::with_seed(1);
    let segments = segments_of_another();
    assert!(segments.len() > 20);
    let values: Vec<_> = segments.iter().flat_map(|segment| shifted(&segment[4096..])).collect();
    store(&vfs, values);
    let newest = segments_on(&vfs).into_keys().next_back().unwrap();
    assert!(newest > dir().join("0000000000000010.wal"), "files were used again: {newest:?}");
}

#[test]
fn pieces_of_the_members_own_segments_are_only_values() {
    let vfs = MemoryVfs::with_seed(1);
    store(&vfs, (0..20).map(|fill| vec![fill; 3000]));
    for shift in 0..8 {
        let own: Vec<u8> = segments_on(&vfs).into_values().flatten().collect();
        let piece = [vec![0; shift], own[own.len() - 12_000..].to_vec()].concat();
        let (mut wal, groups) = open_log(&vfs).unwrap();
        let next = groups[&GroupId(0)].last_index().0 + 1;
        append(&mut wal, &[save(0, next, vec![entry_of(piece)])]).unwrap();
        wal.sync().unwrap();
        append(&mut wal, &[Step::Compacted { group: 0, base: base(next - 1, 1) }]).unwrap();
        wal.sync().unwrap();
    }
    open_log(&vfs).unwrap();
}

/// Where the salts can be guessed, the same values keep the log from opening: the judges would see it.
#[test]
fn forged_headers_are_only_values_unless_the_salt_is_known() {
    let forged = || {
        let shifts = (0..8_usize).cycle();
        (0..60_u64).zip(shifts).map(|(turn, shift)| forged_headers(1 + turn / 4, (shift, 6000)))
    };
    store(&MemoryVfs::with_seed(1), forged());
    let guessed = std::panic::catch_unwind(|| store(&MemoryVfs::predictable(), forged()));
    assert!(guessed.is_err(), "headers with the right salt are believed");
}
