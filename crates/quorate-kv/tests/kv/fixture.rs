//! A log written by version 1 still replays to the same state.
//!
//! `testdata/v1/log.hex` holds one encoded command a line; `testdata/v1/state.txt` what replaying it gave when it was
//! written. Both stay as they are for ever: a later version adds files of its own.

use std::fmt::Write as _;

use quorate_engine::Durability;
use quorate_engine::MemoryEngine;
use quorate_kv::{Committed, Store};

const LOG: &str = include_str!("../../testdata/v1/log.hex");
const STATE: &str = include_str!("../../testdata/v1/state.txt");

fn parse(line: &str) -> Vec<u8> {
    let digits: Vec<u32> = line.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

fn replay(store: &mut Store, log: &[Vec<u8>]) -> String {
    let mut story = String::new();
    for (index, command) in (1..).zip(log) {
        let entry = Committed { index, term: 1, command: Some(command) };
        let output = store.apply(&[entry], Durability::Relaxed).unwrap();
        let outcome = match &output.replies[0] {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        let reader = store.reader();
        let (revision, hash) = (reader.revision(), reader.hash().unwrap());
        writeln!(story, "{index} revision={revision} hash={hash:08x} {outcome}").unwrap();
    }
    story
}

#[test]
fn a_log_of_version_1_replays_to_the_same_state() {
    let log: Vec<Vec<u8>> = LOG.lines().map(parse).collect();
    let mut store = Store::open(Box::new(MemoryEngine::new())).unwrap();
    let story = replay(&mut store, &log);
    assert_eq!(story, STATE, "replayed:\n{story}");
}

/// The commands that were written to the log, and their bytes today.
#[test]
fn version_1_still_writes_the_same_bytes() {
    for line in LOG.lines() {
        let bytes = parse(line);
        let command = quorate_kv::Command::decode(&bytes).unwrap();
        assert_eq!(&command.encode()[..], &bytes[..], "{command:?}");
    }
}
