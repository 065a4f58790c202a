//! The data directory: whose it is, and whether all of it is there.
//!
//! | In the data directory | What |
//! |---|---|
//! | `identity` | whose it is, and who the first members were |
//! | `members` | which directory it is, and which ones of the others it has met |
//! | `wal/` | the log |
//! | `state/` | the state machine |
//!
//! `identity` is written last, when log and state are durable, so where it stands, they stood. A directory that has it and lacks one
//! of them has lost what its member promised: a new log would vote again in terms in which it has voted, and that is refused. A
//! directory that lacks it and whose log holds anything has lost it, and is refused as well, and so is one whose `members` names
//! others: nobody is met before `identity` is durable. Byte for byte: `docs/formats/identity.md`.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use quorate_raft::NodeId;
use quorate_storage::vfs::{Open, Vfs};

use crate::{Identity, MemberConfig};

const IDENTITY_FILE: &str = "identity";
const DRAFT_FILE: &str = "identity.new";
const VERSION_LINE: &str = "quorate-identity 2";
/// No identity is longer, in bytes.
const IDENTITY_BYTES_MAX: u64 = 1 << 20;

/// What tells of a directory without `identity` that it is not new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Used {
    /// Its log or its state holds something.
    Entries,
    /// Both are empty, and it has met others, whom it may have promised something.
    Met,
}

impl Used {
    fn told(self) -> &'static str {
        match self {
            Self::Entries => "the log beside it holds a member's entries: restore the file",
            Self::Met => {
                "the file members beside it names others that this directory has met, so what wal/ and state/ held is lost as \
                 well: restore all three as they were"
            }
        }
    }
}

/// A data directory, looked at before anything in it is opened.
#[derive(Debug)]
pub(crate) struct DataDir<'a> {
    vfs: &'a dyn Vfs,
    dir: &'a Path,
    /// Who it says to be, if it was used before.
    remembered: Option<Identity>,
}

impl<'a> DataDir<'a> {
    /// Looks at `dir`, which is made if it is missing, and durable by name when this returns.
    ///
    /// # Errors
    /// It is another program's, damaged, or part of it is missing: what, and where.
    pub(crate) fn open(vfs: &'a dyn Vfs, dir: &'a Path) -> anyhow::Result<Self> {
        refuse_etcds(vfs, dir)?;
        vfs.create_dir_all(dir).with_context(|| format!("make the directory {}", dir.display()))?;
        let path = dir.join(IDENTITY_FILE);
        let found = read(vfs, &path).with_context(|| format!("read {}", path.display()))?;
        let remembered = found.map(|bytes| decode(&path, &bytes)).transpose()?;
        let this = Self { vfs, dir, remembered };
        if this.remembered.is_some() {
            this.check_whole()?;
        }
        Ok(this)
    }

    /// Whose the directory is: `configured`, if nobody used it before.
    pub(crate) fn identity(&self, configured: Identity, name: &str) -> Identity {
        let Some(remembered) = &self.remembered else { return configured };
        let mut identity = remembered.clone();
        if (identity.cluster_id, identity.me) != (configured.cluster_id, configured.me) {
            tracing::warn!(
                data_dir = %self.dir.display(),
                member = format!("{:x}", identity.me.0),
                cluster = format!("{:x}", identity.cluster_id),
                configured_member = format!("{:x}", configured.me.0),
                configured_cluster = format!("{:x}", configured.cluster_id),
                "the directory says whose it is: --initial-* count at its first start only"
            );
        }
        if let Some(own) = identity.members.get_mut(&identity.me) {
            name.clone_into(&mut own.name);
        }
        identity
    }

    /// Log and state are open and durable; what in the directory was `used` before, if anything. It is `identity`'s from now on.
    ///
    /// # Errors
    /// It was used, and nobody knows by whom; those of the disk.
    pub(crate) fn claim(self, identity: &Identity, used: Option<Used>) -> anyhow::Result<()> {
        if self.remembered.is_some() {
            return Ok(());
        }
        let path = self.dir.join(IDENTITY_FILE);
        if let Some(used) = used {
            anyhow::bail!(
                "{} is missing, but {}. Keep the directory: without it the member is lost, and this version can't replace it",
                path.display(),
                used.told()
            );
        }
        self.write(&encode(identity)).with_context(|| format!("write {}", path.display()))
    }

    fn check_whole(&self) -> anyhow::Result<()> {
        let has = |part: &str, wanted: &dyn Fn(&str) -> bool| {
            list(self.vfs, &self.dir.join(part)).map(|names| names.iter().any(|name| wanted(name)))
        };
        let has_log = has("wal", &|name| name.strip_suffix(".wal").is_some())?;
        let has_state = has("state", &|name| name == "state")?;
        let missing = match (has_log, has_state) {
            (true, true) => return Ok(()),
            (false, true) => "wal/",
            (true, false) => "state/",
            (false, false) => "wal/ and state/",
        };
        anyhow::bail!(
            "{} is used, but {missing} in it is missing or empty: this member would break what it promised. Restore what is missing, and keep the directory: without it the member is lost, and this version can't replace it",
            self.dir.display()
        )
    }

    /// Whole or not at all: a new file takes the name when it is durable.
    fn write(&self, text: &str) -> io::Result<()> {
        let draft: PathBuf = self.dir.join(DRAFT_FILE);
        let file = self.vfs.open(&draft, Open::Create)?;
        file.set_len(0)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync_data()?;
        drop(file);
        self.vfs.rename(&draft, &self.dir.join(IDENTITY_FILE))?;
        self.vfs.sync_dir(self.dir)
    }
}

fn refuse_etcds(vfs: &dyn Vfs, dir: &Path) -> anyhow::Result<()> {
    for part in ["member/wal", "member/snap"] {
        anyhow::ensure!(
            list(vfs, &dir.join(part))?.is_empty(),
            "{} holds a member of etcd; give an empty directory",
            dir.display()
        );
    }
    Ok(())
}

/// The files in `dir`; none, if there is no such directory.
fn list(vfs: &dyn Vfs, dir: &Path) -> anyhow::Result<Vec<String>> {
    match vfs.list(dir) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(Vec::new())
        }
        listed => listed.with_context(|| format!("list {}", dir.display())),
    }
}

fn read(vfs: &dyn Vfs, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match vfs.open(path, Open::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let bytes = file.size_bytes()?.min(IDENTITY_BYTES_MAX);
    let mut content = vec![0; usize::try_from(bytes).unwrap_or_default()];
    file.read_exact_at(&mut content, 0)?;
    Ok(Some(content))
}

fn encode(identity: &Identity) -> String {
    let Identity { cluster_id, me, members } = identity;
    let head = format!("{VERSION_LINE}\ncluster {cluster_id:016x}\nmember {:016x}\n", me.0);
    let peer = |MemberConfig { id, name, peer_urls }: &MemberConfig| {
        format!("peer {:016x} {} {name}\n", id.0, peer_urls.join(","))
    };
    let body: String = std::iter::once(head).chain(members.values().map(peer)).collect();
    let sum = crc32c::crc32c(body.as_bytes());
    format!("{body}sum {sum:08x}\n")
}

fn decode(path: &Path, bytes: &[u8]) -> anyhow::Result<Identity> {
    let corrupt = |what: &str| anyhow::anyhow!("{}: corrupt at offset 0: {what}", path.display());
    let text = std::str::from_utf8(bytes).map_err(|_| corrupt("it is no text"))?;
    anyhow::ensure!(
        !text.starts_with("quorate-identity 1\n"),
        "{} is of version 1, which no release wrote, and this program reads {VERSION_LINE:?}",
        path.display()
    );
    let (body, sum) = text.rsplit_once("sum ").ok_or_else(|| corrupt("it has no checksum"))?;
    if sum != format!("{:08x}\n", crc32c::crc32c(body.as_bytes())) {
        return Err(corrupt("it fails its checksum"));
    }
    let mut lines = body.lines();
    let version = lines.next().unwrap_or_default();
    anyhow::ensure!(
        version == VERSION_LINE,
        "{} is of version {version:?}, and this program reads {VERSION_LINE:?}",
        path.display()
    );
    fields(lines).ok_or_else(|| corrupt("its lines are not those of an identity"))
}

fn fields<'t>(mut lines: impl Iterator<Item = &'t str>) -> Option<Identity> {
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let cluster_id = number(lines.next()?.strip_prefix("cluster ")?)?;
    let me = NodeId(number(lines.next()?.strip_prefix("member ")?)?);
    let peer = |line: &str| {
        let mut words = line.strip_prefix("peer ")?.splitn(3, ' ');
        let (id, urls, name) = (NodeId(number(words.next()?)?), words.next()?, words.next()?);
        let peer_urls = urls.split(',').map(str::to_owned).collect();
        Some((id, MemberConfig { id, name: name.to_owned(), peer_urls }))
    };
    let members: BTreeMap<_, _> = lines.map(peer).collect::<Option<_>>()?;
    members.contains_key(&me).then_some(Identity { cluster_id, me, members })
}

#[cfg(test)]
mod tests {
    use quorate_storage::vfs::{CrashStyle, MemoryVfs};

    use super::*;
    use crate::ServerConfig;

    const DIR: &str = "/data/m";

    fn dir() -> &'static Path {
        Path::new(DIR)
    }

    fn identity(names: &[&str], me: &str) -> Identity {
        let url = |name: &&str| ((*name).to_owned(), vec![format!("http://{name}:2380")]);
        let initial_cluster = names.iter().map(url).collect();
        let config =
            ServerConfig { name: me.to_owned(), initial_cluster, ..ServerConfig::default() };
        Identity::of(&config).unwrap()
    }

    /// A directory that `identity` has claimed, with something in place of log and state.
    fn claimed(identity: &Identity) -> MemoryVfs {
        let vfs = MemoryVfs::new();
        let found = DataDir::open(&vfs, dir()).unwrap();
        vfs.put(&dir().join("wal/0000000000000001.wal"), b"log");
        vfs.put(&dir().join("state/state"), b"state");
        found.claim(identity, None).unwrap();
        vfs
    }

    fn refused(vfs: &MemoryVfs) -> String {
        format!("{:#}", DataDir::open(vfs, dir()).unwrap_err())
    }

    #[test]
    fn a_directory_remembers_its_member_whatever_is_configured() {
        let one = identity(&["a", "b"], "a");
        let vfs = claimed(&one).crashed_copy(CrashStyle::LoseAll, 0);
        for other in [identity(&["a", "b"], "b"), identity(&["a", "b", "c"], "a"), one.clone()] {
            let found = DataDir::open(&vfs, dir()).unwrap();
            let shown = found.identity(other, "a");
            assert_eq!(shown, one);
            found.claim(&shown, Some(Used::Entries)).unwrap();
        }
        let renamed = DataDir::open(&vfs, dir()).unwrap().identity(one.clone(), "new name");
        assert_eq!(renamed.members[&one.me].name, "new name");
    }

    #[test]
    fn what_is_missing_is_said_and_never_made_up() {
        let vfs = claimed(&identity(&["a", "b"], "a"));
        let (log, state) = (dir().join("wal/0000000000000001.wal"), dir().join("state/state"));
        let without = |gone: &[&PathBuf]| {
            let copy = vfs.crashed_copy(CrashStyle::KeepAll, 0);
            for path in gone {
                copy.remove(path).unwrap();
            }
            refused(&copy)
        };
        assert!(without(&[&log]).contains("wal/ in it is missing"), "{}", without(&[&log]));
        assert!(without(&[&state]).contains("state/ in it is missing"));
        assert!(without(&[&log, &state]).contains("wal/ and state/ in it is missing"));
        vfs.remove(&dir().join(IDENTITY_FILE)).unwrap();
        for (used, told) in [
            (Used::Entries, "holds a member's entries"),
            (Used::Met, "wal/ and state/ held is lost"),
        ] {
            let found = DataDir::open(&vfs, dir()).unwrap();
            let error = found.claim(&identity(&["a", "b"], "a"), Some(used)).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("identity is missing") && error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_with_its_file_and_offset() {
        let vfs = claimed(&identity(&["a", "b"], "a"));
        let path = dir().join(IDENTITY_FILE);
        let bits = 8 * vfs.content(&path).unwrap().len();
        for bit in 0..bits {
            let copy = vfs.crashed_copy(CrashStyle::KeepAll, 0);
            copy.flip(&path, bit as u64 / 8, 1 << (bit % 8));
            let error = refused(&copy);
            assert!(error.contains("identity: corrupt at offset"), "{error}");
        }
    }

    #[test]
    fn a_directory_of_etcd_is_left_alone() {
        let vfs = MemoryVfs::new();
        vfs.put(&dir().join("member/snap/db"), b"bbolt");
        assert!(refused(&vfs).contains("holds a member of etcd"));
    }
}
