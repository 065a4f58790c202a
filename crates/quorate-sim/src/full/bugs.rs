//! Bugs between the core and the clients, by their number in [`mutants`](crate::mutants).

#[cfg(feature = "mutants")]
use quorate_server::Bug;
use quorate_server::ServerConfig;
use quorate_storage::vfs::MemoryVfs;

use super::plan::Mishap;

/// The first number of a bug that only a world of whole servers can show.
pub(crate) const FIRST: u16 = 200;

/// A bug of installs, which takes a world of its own.
pub(super) const OF_INSTALLS: u16 = 210;

/// A bug of the disk: salts can be guessed.
const GUESSED_SALTS: u16 = 211;

/// A member's disk. Where salts can be guessed, whoever forges headers of the log uses the right one.
pub(super) fn disk(mutant: u16, seed: u64) -> MemoryVfs {
    if mutant == GUESSED_SALTS { MemoryVfs::predictable() } else { MemoryVfs::with_seed(seed) }
}

/// A bug of the transport: a frame's checksum is not looked at.
pub(super) const UNCHECKED_FRAMES: u16 = 275;

/// A bug of a leader whose apply side stands still.
const OF_LEADERSHIPS: u16 = 241;

/// A bug of members that have just started, best all at once.
const OF_STARTS: u16 = 242;

/// A bug that only a client in no hurry shows.
pub(super) const OF_VIEWS: u16 = 244;

/// What goes wrong in the world of a bug that takes one of its own.
pub(super) fn mishaps(mutant: u16) -> Option<Vec<Mishap>> {
    match mutant {
        OF_INSTALLS => Some(vec![Mishap::Strand, Mishap::InstallCut]),
        OF_LEADERSHIPS => {
            Some(vec![Mishap::Isolate, Mishap::Pause, Mishap::Crash, Mishap::ApplyHangs])
        }
        OF_VIEWS => Some(vec![Mishap::Pause]),
        OF_STARTS => Some(vec![Mishap::CrashAll]),
        GUESSED_SALTS => Some(vec![Mishap::Forge, Mishap::Forge, Mishap::Crash]),
        _ => None,
    }
}

/// What shows a bug beside the usual mishaps.
pub(super) fn further_mishap(mutant: u16) -> Option<Mishap> {
    match mutant {
        220 | 221 => Some(Mishap::Wipe),
        222 => Some(Mishap::WildTerm),
        223 => Some(Mishap::BadProposal),
        224 => Some(Mishap::Mislabel),
        _ => None,
    }
}

/// Every bug and its number.
#[cfg(feature = "mutants")]
const BUGS: &[(u16, Bug)] = &[
    (200, Bug::StaleHashEnds),
    (201, Bug::EventsForgotten),
    (202, Bug::RevocationUnbound),
    (203, Bug::CheckpointUnsynced),
    (204, Bug::LeasesNotReloaded),
    (205, Bug::ReadUnconfirmed),
    (OF_INSTALLS, Bug::InstallByIndex),
    (260, Bug::RenewalsShort),
    (250, Bug::RoomGivenBackEarly),
    (251, Bug::RoomKept),
    (273, Bug::CallsKept),
    (274, Bug::UnwantedKept),
    (240, Bug::CheckpointNotTakenBack),
    (OF_LEADERSHIPS, Bug::LessorOfAnyTerm),
    (OF_STARTS, Bug::ServesAtOnce),
    (230, Bug::RaftWaitsForDisk),
    (231, Bug::DeafWhileInstalling),
    (232, Bug::RefusedWithoutLeader),
    (243, Bug::ReplacedStateCloses),
    (220, Bug::WipedReadmitted),
    (221, Bug::DirectoriesUntold),
    (222, Bug::TermUnbounded),
    (223, Bug::CommandsUnexamined),
    (224, Bug::SnapshotUnchecked),
    (OF_VIEWS, Bug::ViewsKept),
    (252, Bug::ChunksReadAtOnce),
    (253, Bug::RaftReadsLog),
];

/// Switches a bug on, in a build that has switches.
#[cfg(feature = "mutants")]
pub(super) fn switch_on(config: &mut ServerConfig, number: u16) {
    let bug = BUGS.iter().find(|(known, _)| *known == number).map(|(_, bug)| *bug);
    config.breaks.bug = bug;
}

/// Switches nothing on: this build has no switches.
#[cfg(not(feature = "mutants"))]
pub(super) const fn switch_on(_: &mut ServerConfig, _: u16) {}
