//! Who may be talked to: the members as they were first met, and nobody who came back from another data directory.
//!
//! The file `members` in the data directory holds the number of this directory and those of the members that it has met:
//!
//! ```text
//! quorate-members 1
//! me <member> <directory>
//! met <member> <directory> <newest version of commands, hexadecimal>
//! crc32c <of everything before this line>
//! ```
//!
//! Numbers are sixteen hexadecimal digits (the sum: eight). The file is written whole, under another name, and takes its
//! name when it is durable. It is there before the log holds anything, so a directory with a log and without it has lost it; and
//! nobody is met before the file `identity` is there, so a directory that has met others and lacks that one was used.
//!
//! What it knows itself it proposes to the group; what the group agreed on it learns from the state machine.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use anyhow::Context;
use parking_lot::Mutex;
use quorate_kv::{COMMAND_VERSION, COMMAND_VERSION_FIRST, MemberDirectories, MemberDirectory};
use quorate_node::{Acquaintance, Admission, DirectoryId, MemberCard, NodeEvent, Roster};
use quorate_raft::NodeId;
use quorate_storage::vfs::{Open, Vfs};

use crate::{
    Handle, ServerConfig,
    bugs::Bug,
    shared::{RaftInput, Shared},
};

const FILE: &str = "members";
const VERSION: &str = "quorate-members 1";
/// Far more than the members of any group take.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// This directory speaks for a member that another one has spoken for.
#[derive(Debug, thiserror::Error)]
#[error(
    "member {member:x} has already been bootstrapped: {by} knows it from another data directory than {dir}, which \
     holds nothing of what the member has promised. Put the member's own data directory back as it was when the member \
     last ran; an older copy will not do. If it is lost, so is this member: the others go on without it, and this version \
     can't replace it"
)]
pub(crate) struct AlreadyBootstrapped {
    member: u64,
    by: String,
    dir: String,
}

impl AlreadyBootstrapped {
    pub(crate) fn new(member: NodeId, by: String, config: &ServerConfig) -> Self {
        Self { member: member.0, by, dir: config.data_dir.display().to_string() }
    }
}

/// What this member knows of the others' directories, and its own. The Raft thread and the apply thread ask it, so nothing that
/// they need is held while the disk is waited for.
#[derive(Debug)]
pub(crate) struct Door {
    directory: DirectoryId,
    /// Held for a look or a change, never for the disk.
    roster: Mutex<Roster>,
    /// The file is being written; who has it takes `roster` as well, and never the other way round.
    writing: Mutex<()>,
    /// A proposal of what is not agreed on is under way.
    proposing: AtomicBool,
}

impl Door {
    /// Reads what `dir` knows; a directory whose log is empty (`is_fresh`) may have no file yet, and gets one.
    ///
    /// # Errors
    /// The file is damaged, lost, or can't be read or written.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        dir: &Path,
        me: NodeId,
        is_fresh: bool,
        draw: impl FnOnce() -> u64,
    ) -> anyhow::Result<Self> {
        let path = dir.join(FILE);
        remove_draft(vfs, &path).with_context(|| format!("tidy up beside {}", path.display()))?;
        // A process that was killed may have renamed and not synced: whom it met is met only if no power cut takes it back.
        vfs.sync_dir(dir).with_context(|| format!("sync {}", dir.display()))?;
        let roster = match read(vfs, &path) {
            Ok(bytes) => parse(&bytes, me).with_context(|| {
                format!("{}: corrupt at offset 0, or not this member's", path.display())
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                anyhow::ensure!(
                    is_fresh,
                    "{} is lost, and there is a log: put the directory back as it was",
                    path.display()
                );
                let own = DirectoryId::drawn(draw());
                let roster = Roster::new((me, own), []);
                write(vfs, dir, &roster).with_context(|| format!("write {}", path.display()))?;
                roster
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let (directory, roster) = (roster.own(), Mutex::new(roster));
        let (writing, proposing) = (Mutex::default(), AtomicBool::default());
        Ok(Self { directory, roster, writing, proposing })
    }

    /// What this member says of itself.
    pub(crate) fn card(&self) -> MemberCard {
        MemberCard { directory: self.directory, command_version: COMMAND_VERSION }
    }

    /// Whether this directory has ever met another member.
    pub(crate) fn has_met(&self) -> bool {
        self.roster.lock().met().next().is_some()
    }

    /// Whether `peer` may be talked to; if it is met for the first time, it is remembered when this returns.
    fn admits(&self, shared: &Shared, peer: NodeId, card: MemberCard) -> anyhow::Result<bool> {
        let judged = self.roster.lock().judge(peer, card);
        verdict(shared, judged).map_or_else(|| self.remember(shared, peer, card), Ok)
    }

    /// Writes down that this one was met, one at a time; the others are asked meanwhile, however long it takes. Whether it may be
    /// talked to by what is known afterwards.
    fn remember(&self, shared: &Shared, peer: NodeId, card: MemberCard) -> anyhow::Result<bool> {
        let writing = self.writing.lock();
        let mut met = self.roster.lock().clone();
        if let Some(verdict) = verdict(shared, met.judge(peer, card)) {
            return Ok(verdict);
        }
        met.meet(peer, card);
        let dir = &shared.config.data_dir;
        write(&*shared.vfs, dir, &met)
            .with_context(|| format!("write {}", dir.join(FILE).display()))?;
        let judged = {
            let mut roster = self.roster.lock();
            // Not `met`: the group may have agreed on something since.
            roster.meet(peer, card);
            roster.judge(peer, card)
        };
        drop(writing);
        shared.tell_command_version();
        tracing::info!(
            peer = format!("{:x}", peer.0),
            directory = format!("{:x}", card.directory.0),
            command_version = card.command_version,
            "a member was met"
        );
        Ok(verdict(shared, judged).unwrap_or_default())
    }

    /// Takes in what the group agreed on. Whether it knows this member from another directory.
    pub(crate) fn learn(&self, agreed: &[MemberDirectory]) -> bool {
        let entry = |known: &MemberDirectory| (NodeId(known.member), DirectoryId(known.directory));
        self.roster.lock().learn(agreed.iter().map(entry))
    }

    /// What to propose now: nothing while a proposal is under way, until [`Door::proposed`].
    pub(crate) fn to_propose(&self) -> Option<MemberDirectories> {
        let unagreed = self.roster.lock().unagreed();
        if unagreed.is_empty() || self.proposing.swap(true, SeqCst) {
            return None;
        }
        let members = unagreed.into_iter().map(|(member, directory)| MemberDirectory {
            member: member.0,
            directory: directory.0,
        });
        Some(MemberDirectories { members: members.collect() })
    }

    /// A proposal has its answer.
    pub(crate) fn proposed(&self) {
        self.proposing.store(false, SeqCst);
    }
}

/// Whether a member may be talked to. `None`: when it is remembered.
fn verdict(shared: &Shared, judged: Acquaintance) -> Option<bool> {
    match judged {
        Acquaintance::Known => Some(true),
        Acquaintance::Other => Some(shared.makes(Bug::WipedReadmitted)),
        Acquaintance::New => None,
    }
}

impl Handle {
    /// What this member says of itself before anything else.
    pub fn card(&self) -> MemberCard {
        self.0.door.card()
    }

    /// Whether a member with this card may be talked to: to be asked before anything is exchanged with it, in both directions.
    /// Waits for the disk when it is met for the first time.
    pub fn admits(&self, peer: NodeId, card: MemberCard) -> Admission {
        // No member says so: taken in, it would keep all others from proposing anything.
        if card.command_version < COMMAND_VERSION_FIRST {
            return Admission::Unavailable;
        }
        match self.0.door.admits(&self.0, peer, card) {
            Ok(true) => Admission::Admitted,
            Ok(false) => Admission::OtherDirectory,
            Err(error) => {
                self.0.end(error.context("remember a member"));
                Admission::Unavailable
            }
        }
    }

    /// A member knows this one from another data directory: it has to end.
    pub fn is_known_from_elsewhere(&self, by: NodeId) {
        self.0.end_as_known_from_elsewhere(format!("member {:x}", by.0));
    }
}

impl Shared {
    /// The node hears which commands all members can apply.
    pub(crate) fn tell_command_version(&self) {
        let members = self.identity.members.keys();
        let known = self.door.roster.lock().command_version(members, COMMAND_VERSION);
        let version = known.unwrap_or(COMMAND_VERSION_FIRST).max(COMMAND_VERSION_FIRST);
        self.raft.put(RaftInput::Event(NodeEvent::CommandVersion { version }));
    }

    /// The process can't go on, for a reason that is not the log's.
    pub(crate) fn end(&self, error: anyhow::Error) {
        self.raft.put(RaftInput::Failed(error));
    }

    pub(crate) fn end_as_known_from_elsewhere(&self, by: String) {
        self.end(AlreadyBootstrapped::new(self.identity.me, by, &self.config).into());
    }
}

fn read(vfs: &dyn Vfs, path: &Path) -> io::Result<Vec<u8>> {
    let file = vfs.open(path, Open::Read)?;
    let length = usize::try_from(file.size_bytes()?.min(FILE_BYTES_MAX)).unwrap_or_default();
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// What a crash may have left of a file that was being written.
fn remove_draft(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    match vfs.remove(&path.with_extension("new")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Durable when it returns, and before that the old file or the new one.
fn write(vfs: &dyn Vfs, dir: &Path, roster: &Roster) -> io::Result<()> {
    let path = dir.join(FILE);
    let draft: PathBuf = path.with_extension("new");
    let file = vfs.open(&draft, Open::Create)?;
    file.set_len(0)?;
    file.write_all_at(text(roster).as_bytes(), 0)?;
    file.sync_data()?;
    vfs.rename(&draft, &path)?;
    vfs.sync_dir(dir)
}

fn text(roster: &Roster) -> String {
    let mut text = format!("{VERSION}\nme {:016x} {:016x}\n", roster.me().0, roster.own().0);
    text.extend(roster.met().map(|(member, card)| {
        let (directory, version) = (card.directory.0, card.command_version);
        format!("met {:016x} {directory:016x} {version:02x}\n", member.0)
    }));
    let sum = crc32c::crc32c(text.as_bytes());
    text + &format!("crc32c {sum:08x}\n")
}

fn parse(bytes: &[u8], me: NodeId) -> anyhow::Result<Roster> {
    let text = std::str::from_utf8(bytes).context("it is no text")?;
    let (content, sum) = text.rsplit_once("crc32c ").context("it has no checksum")?;
    let right = format!("{:08x}\n", crc32c::crc32c(content.as_bytes()));
    anyhow::ensure!(sum == right, "its checksum is {sum:?} and not {right:?}");
    let mut lines = content.lines();
    anyhow::ensure!(lines.next() == Some(VERSION), "it is not of version {VERSION:?}");
    let own = lines.next().and_then(parse_own).context("it names no member")?;
    anyhow::ensure!(own.0 == me, "it is member {:x}'s, and this is {:x}", own.0.0, me.0);
    let met: Option<Vec<_>> = lines.map(parse_met).collect();
    Ok(Roster::new(own, met.context("a line names no member")?))
}

fn parse_own(line: &str) -> Option<(NodeId, DirectoryId)> {
    let (member, directory) = line.strip_prefix("me ")?.split_once(' ')?;
    Some((NodeId(hexadecimal(member)?), DirectoryId(hexadecimal(directory)?)))
}

fn parse_met(line: &str) -> Option<(NodeId, MemberCard)> {
    let (member, rest) = line.strip_prefix("met ")?.split_once(' ')?;
    let (directory, version) = rest.split_once(' ')?;
    let directory = DirectoryId(hexadecimal(directory)?);
    let command_version = u8::try_from(hexadecimal(version)?).ok()?;
    Some((NodeId(hexadecimal(member)?), MemberCard { directory, command_version }))
}

fn hexadecimal(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock, atomic::AtomicU64};

    use quorate_storage::vfs::{CrashStyle, Faults, MemoryVfs, VfsFile, VfsLock};

    use super::*;
    use crate::testing;

    const ME: NodeId = NodeId(0xa);
    const TWO: NodeId = NodeId(0xb);

    fn open(vfs: &MemoryVfs, is_fresh: bool) -> anyhow::Result<Door> {
        vfs.create_dir_all(Path::new("data"))?;
        Door::open(vfs, Path::new("data"), ME, is_fresh, || 77)
    }

    fn card(directory: u64) -> MemberCard {
        MemberCard { directory: DirectoryId(directory), command_version: 2 }
    }

    fn meet(vfs: &MemoryVfs, door: &Door, card: MemberCard) -> io::Result<()> {
        let mut roster = door.roster.lock();
        roster.meet(TWO, card);
        write(vfs, Path::new("data"), &roster)
    }

    /// Taken in, it once kept every other member from proposing anything.
    #[test]
    fn nobody_is_met_who_can_apply_nothing() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let server = testing::started(&vfs, &now, ServerConfig::default());
        let card = MemberCard { command_version: 0, ..card(5) };
        assert_eq!(server.handle.admits(TWO, card), Admission::Unavailable);
        assert_eq!(server.handle.0.door.roster.lock().judge(TWO, card), Acquaintance::New);
    }

    #[test]
    fn what_was_met_is_known_after_a_restart_and_a_crash() {
        let vfs = MemoryVfs::new();
        let door = open(&vfs, true).unwrap();
        meet(&vfs, &door, card(5)).unwrap();
        vfs.crash(CrashStyle::LoseAll, 0);
        let again = Door::open(&vfs, Path::new("data"), ME, false, || 78).unwrap();
        assert_eq!(again.card().directory, DirectoryId(77));
        assert_eq!(again.roster.lock().judge(TWO, card(6)), Acquaintance::Other);
        assert_eq!(again.roster.lock().judge(TWO, card(5)), Acquaintance::Known);
    }

    #[test]
    fn a_crash_at_any_call_leaves_the_old_file_or_the_new_one() {
        for call in 0..8 {
            for style in CrashStyle::ALL {
                let vfs = MemoryVfs::new();
                let door = open(&vfs, true).unwrap();
                vfs.set_faults(Faults { power_off_at_call: Some(call), ..Faults::default() });
                let met = meet(&vfs, &door, card(5));
                vfs.crash(style, call);
                let again = open(&vfs, false).unwrap();
                assert!(vfs.files().iter().all(|(path, _)| path.ends_with(FILE)), "{style:?}");
                let judged = again.roster.lock().judge(TWO, card(6));
                assert!(met.is_err() || judged == Acquaintance::Other, "{call} {style:?}");
            }
        }
    }

    #[test]
    fn a_lost_or_damaged_file_is_refused_and_not_made_up() {
        let vfs = MemoryVfs::new();
        assert!(open(&vfs, false).unwrap_err().to_string().contains("is lost"));
        let door = open(&vfs, true).unwrap();
        meet(&vfs, &door, card(5)).unwrap();
        let path = Path::new("data").join(FILE);
        let length = read(&vfs, &path).unwrap().len() as u64;
        for bit in 0..8 * length {
            vfs.flip(&path, bit / 8, 1 << (bit % 8));
            let error = open(&vfs, true).unwrap_err().to_string();
            assert!(error.contains("members: corrupt at offset"), "bit {bit}: {error}");
            vfs.flip(&path, bit / 8, 1 << (bit % 8));
        }
        let other = Door::open(&vfs, Path::new("data"), TWO, false, || 1).unwrap_err();
        assert!(format!("{other:#}").contains("is member a's"), "{other:#}");
    }

    /// A disk that asks at each call, once there is somebody to ask, whether the roster is free.
    #[derive(Debug, Default)]
    struct AskingVfs {
        disk: MemoryVfs,
        asked: OnceLock<Handle>,
        answers: Mutex<Vec<bool>>,
    }

    impl AskingVfs {
        fn ask(&self) -> &MemoryVfs {
            if let Some(handle) = self.asked.get() {
                self.answers.lock().push(handle.0.door.roster.try_lock().is_some());
            }
            &self.disk
        }
    }

    impl Vfs for AskingVfs {
        fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn VfsFile>> {
            self.ask().open(path, open)
        }

        fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
            self.ask().create_dir_all(dir)
        }

        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            self.ask().list(dir)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.ask().rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.ask().remove(path)
        }

        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.ask().sync_dir(dir)
        }

        fn random(&self) -> io::Result<u64> {
            self.disk.random()
        }

        fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
            self.disk.lock(path)
        }
    }

    /// The thread that tells the door of an answered proposal is the Raft thread.
    #[test]
    fn nobody_waits_for_the_disk_while_a_member_is_remembered() {
        let (vfs, now) = (Arc::new(AskingVfs::default()), Arc::new(AtomicU64::new(1)));
        let server = testing::try_start(vfs.clone(), &now, ServerConfig::default()).unwrap();
        vfs.asked.set(server.handle.clone()).unwrap();
        assert_eq!(server.handle.admits(TWO, card(5)), Admission::Admitted);
        assert_eq!(*vfs.answers.lock(), [true; 3], "open, rename, sync");
        assert_eq!(server.handle.admits(TWO, card(5)), Admission::Admitted);
        assert_eq!(server.handle.admits(TWO, card(6)), Admission::OtherDirectory);
        assert_eq!(vfs.answers.lock().len(), 3, "it is written once");
        let door = &server.handle.0.door;
        assert!(door.to_propose().is_some() && door.to_propose().is_none());
        door.proposed();
        assert!(door.to_propose().is_some());
    }
}
