//! Flight recordings as files: `flight/NNNNNNNN-REASON.flight` in the data directory, for `quorate-sim replay`.
//!
//! A recording is kept when somebody asks for one, and when the Raft side ends otherwise than it was told to: by a panic, by a
//! broken invariant of its core, by a disk that failed. The latest [`RECORDINGS_MAX`] stay.
//!
//! Keeping one may fail, above all on a disk that has just failed. That is told in the log and changes nothing else.

use std::{io, path::Path};

use quorate_storage::vfs::{Open, Vfs};

/// How many recordings stay in the data directory.
pub(crate) const RECORDINGS_MAX: usize = 8;

const SUFFIX: &str = ".flight";

/// Why a recording is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Somebody asked.
    Asked,
    /// An invariant of the core does not hold.
    Invariant,
    /// The log failed.
    Disk,
    /// The Raft side panicked.
    Panic,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Invariant => "invariant",
            Self::Disk => "disk",
            Self::Panic => "panic",
        }
    }
}

/// Keeps a recording, and says so in the log.
pub(crate) fn keep(vfs: &dyn Vfs, data_dir: &Path, reason: Reason, recording: &[u8]) {
    let dir = data_dir.join("flight");
    match write(vfs, &dir, reason, recording) {
        Ok(name) => tracing::info!(file = %dir.join(name).display(), "flight recording kept"),
        Err(error) => tracing::error!(?reason, %error, "the flight recording can't be kept"),
    }
}

/// Durable when it returns.
fn write(vfs: &dyn Vfs, dir: &Path, reason: Reason, recording: &[u8]) -> io::Result<String> {
    vfs.create_dir_all(dir)?;
    let mut kept: Vec<(u64, String)> =
        vfs.list(dir)?.into_iter().filter_map(|name| Some((number(&name)?, name))).collect();
    kept.sort_unstable();
    let next = kept.last().map_or(1, |(number, _)| number.saturating_add(1));
    let name = format!("{next:08}-{}{SUFFIX}", reason.name());
    let file = vfs.open(&dir.join(&name), Open::CreateNew)?;
    file.write_all_at(recording, 0)?;
    file.sync_data()?;
    let surplus = (kept.len() + 1).saturating_sub(RECORDINGS_MAX);
    for (_, old) in kept.iter().take(surplus) {
        vfs.remove(&dir.join(old))?;
    }
    vfs.sync_dir(dir)?;
    Ok(name)
}

fn number(name: &str) -> Option<u64> {
    let (number, _) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{Arc, atomic::AtomicU64, atomic::Ordering::SeqCst},
    };

    use quorate_flight::{Recording, replay};
    use quorate_storage::vfs::{Faults, MemoryVfs};

    use super::*;
    use crate::{ServerConfig, testing};

    /// The steps of the only recording, whose name ends like this.
    fn steps_of(vfs: &MemoryVfs, end: &str) -> u64 {
        let dir = ServerConfig::default().data_dir.join("flight");
        let names = vfs.list(&dir).unwrap();
        let [name] = names.as_slice() else { panic!("{names:?}") };
        assert!(name.ends_with(end), "{name}");
        let bytes = vfs.content(&dir.join(name)).unwrap();
        let outcome = replay(&Recording::read(&bytes).unwrap(), |_| {});
        assert_eq!(outcome.violations, []);
        outcome.steps
    }

    #[test]
    fn a_recording_is_kept_when_it_is_asked_for() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let mut server = testing::started(&vfs, &now, ServerConfig::default());
        for _ in 0..5 {
            server.turn().unwrap();
            now.fetch_add(1_000_000, SeqCst);
        }
        server.handle.keep_recording();
        server.turn().unwrap();
        assert!(steps_of(&vfs, "-asked.flight") >= 2, "it was elected and its write was done");
    }

    #[test]
    fn a_recording_is_kept_when_the_disk_fails() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let mut server = testing::started(&vfs, &now, ServerConfig::default());
        vfs.set_faults(Faults { fail_sync: Some(0), ..Faults::default() });
        server.turn().unwrap();
        server.turn().unwrap_err();
        assert!(steps_of(&vfs, "-disk.flight") >= 1);
    }

    #[test]
    fn a_recording_is_kept_when_the_raft_side_panics() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let mut server = testing::started(&vfs, &now, ServerConfig::default());
        server.turn().unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(move || {
            let _raft = server.raft;
            panic!("as planned");
        }));
        assert!(outcome.is_err());
        assert!(steps_of(&vfs, "-panic.flight") >= 1);
    }

    #[test]
    fn the_latest_stay_and_other_files_are_left_alone() {
        let vfs = MemoryVfs::new();
        let dir = Path::new("/data/flight");
        vfs.create_dir_all(dir).unwrap();
        vfs.open(&dir.join("notes.flight"), Open::CreateNew).unwrap();
        for count in 1..=20_u8 {
            let reason = if count == 20 { Reason::Panic } else { Reason::Asked };
            write(&vfs, dir, reason, &[count]).unwrap();
        }
        let names = vfs.list(dir).unwrap();
        assert_eq!(names.len(), RECORDINGS_MAX + 1);
        assert_eq!(names[0], "00000013-asked.flight");
        assert_eq!(names[RECORDINGS_MAX - 1..], ["00000020-panic.flight", "notes.flight"]);
        let mut byte = [0];
        let file = vfs.open(&dir.join("00000020-panic.flight"), Open::Read).unwrap();
        file.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(byte, [20]);
    }
}
