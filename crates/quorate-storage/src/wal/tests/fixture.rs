//! Logs of released versions open for ever; and this version writes, byte for byte, what its fixture holds.
//!
//! `UPDATE_FIXTURES=1` writes the fixture anew, which is right only while the version is not released.

use std::{fs, path::PathBuf};

use super::*;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v2")
}

/// A log with every kind of record, over two segments.
fn written() -> (MemoryVfs, Groups) {
    let vfs = MemoryVfs::new();
    let mut model = MemoryLogStore::new();
    let (mut wal, _) = open(&vfs).unwrap();
    let install = Step::Install { group: 2, hard_state: hard_state(4, Some(1)), base: base(30, 3) };
    let vote = Some(hard_state(2, Some(3)));
    let rounds = [
        vec![save(0, 1, vec![entry(1, 0, 0), entry(1, 1, 700), entry(1, 2, 700)]), install],
        vec![save(0, 3, vec![entry(2, 3, 900)]), save(2, 31, vec![entry(4, 4, 20)])],
        vec![Step::Save { group: 1, hard_state: vote, first: 1, entries: vec![entry(2, 5, 1000)] }],
        vec![Step::Compacted { group: 0, base: base(2, 1) }],
        vec![save(1, 2, vec![entry(2, 6, 1200)])],
        vec![save(0, 4, vec![entry(2, 7, 100)])],
    ];
    for steps in &rounds {
        append(&mut wal, steps).unwrap();
        append(&mut model, steps).unwrap();
        wal.sync().unwrap();
    }
    assert_eq!(wal.stats().segments, 2);
    (vfs, all_of(&model, 3))
}

#[test]
fn this_version_writes_its_fixture() {
    let (vfs, _) = written();
    for (path, _) in vfs.files() {
        let content = vfs.content(&path).unwrap();
        let kept = fixture().join(path.file_name().unwrap());
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs::create_dir_all(fixture()).unwrap();
            fs::write(&kept, &content).unwrap();
        }
        assert!(fs::read(&kept).unwrap() == content, "{} differs", kept.display());
    }
}

#[test]
fn a_log_of_version_2_opens() {
    let vfs = MemoryVfs::new();
    for file in fs::read_dir(fixture()).unwrap() {
        let file = file.unwrap();
        vfs.put(&dir().join(file.file_name()), &fs::read(file.path()).unwrap());
    }
    let (_, groups) = open(&vfs).unwrap();
    assert_eq!(groups, written().1);
}
