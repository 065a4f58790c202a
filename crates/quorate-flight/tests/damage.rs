//! Files that are not as they were written.

use proptest::prelude::*;
use quorate_flight::{FlightError, Problem, RING_BYTES_MIN, Recording, Violation, replay};

use crate::world::World;

const HEADER_BYTES: usize = 32;

fn file() -> Vec<u8> {
    let mut world = World::new(2, RING_BYTES_MIN);
    world.run(4_000);
    world.recording(0)
}

/// Sets all checksums right again, so that what is behind them is looked at.
fn reseal(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[12..HEADER_BYTES]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    let mut at = HEADER_BYTES;
    while at + 40 <= bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        let end = (at + 40).saturating_add(usize::try_from(length).unwrap()).min(bytes.len());
        let crc = crc32c::crc32c(&bytes[at + 8..end]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

#[test]
fn a_flipped_byte_is_refused_wherever_it_is() {
    let whole = file();
    let segments = Recording::read(&whole).unwrap().segments.len();
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        match Recording::read(&bytes) {
            Ok(recording) => {
                assert!(recording.damage.is_some(), "byte {at}");
                assert!(recording.segments.len() < segments, "byte {at}");
            }
            Err(_) => assert!(at < HEADER_BYTES, "byte {at}"),
        }
    }
}

#[test]
fn a_cut_file_is_played_as_far_as_it_is_whole() {
    let whole = file();
    let mut played = Vec::new();
    for length in (HEADER_BYTES..whole.len()).step_by(97) {
        let recording = Recording::read(&whole[..length]).unwrap();
        let Some(FlightError::Truncated { offset, .. }) = recording.damage else {
            panic!("{length}: {:?}", recording.damage)
        };
        assert_eq!(offset, length);
        let outcome = replay(&recording, |_| {});
        assert_eq!(outcome.violations, []);
        played.push(outcome.images);
    }
    assert!(played.is_sorted() && played.last() > played.first(), "{played:?}");
}

#[test]
fn what_follows_the_last_segment_is_told() {
    let mut bytes = file();
    let offset = bytes.len();
    bytes.push(0);
    let damage = Recording::read(&bytes).unwrap().damage;
    assert!(matches!(damage, Some(FlightError::Damaged { offset: at, .. }) if at == offset));
}

#[test]
fn other_files_and_versions_are_named() {
    assert_eq!(Recording::read(b"#!/bin/sh\nexit").unwrap_err(), FlightError::NotARecording);
    assert!(matches!(Recording::read(b"QRT"), Err(FlightError::Truncated { offset: 3, .. })));
    let mut bytes = file();
    bytes[12] = 9;
    reseal(&mut bytes);
    assert_eq!(Recording::read(&bytes).unwrap_err(), FlightError::Version { found: 9 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whoever writes the checksums can write anything: it is played, or named, and never more.
    #[test]
    fn senseless_content_is_played_or_named(
        seed in 0_u64..4, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let mut world = World::new(seed, RING_BYTES_MIN);
        world.run(150);
        let mut bytes = world.recording(0);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        reseal(&mut bytes);
        if let Ok(recording) = Recording::read(&bytes) {
            let outcome = replay(&recording, |_| {});
            let panicked = |violation: &Violation| violation.problem == Problem::Panicked;
            prop_assert!(!outcome.violations.iter().any(panicked), "{:?}", outcome);
        }
    }
}
