//! `quorate log`: reads the log of members that are dead, or alive.
//!
//! Nothing is written: the files are read into memory and recovered there, as a server would recover them. Of a member that runs
//! one sees what it had written when its files were read.

mod merge;
mod protojson;

use std::{
    ffi::OsString,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use quorate_kv::Command;
use quorate_node::{Entry, Envelope, GroupLog, LogStore};
use quorate_raft::{EntryKind, EntryMeta, EntryRange, GroupId, Index};
use quorate_storage::{Wal, WalConfig, vfs::MemoryVfs};
use serde_json::Value;

use crate::{Failure, output};
use merge::Source;

/// The group whose log holds etcd's key space.
const GROUP: GroupId = GroupId(0);

/// Read the log of members
#[derive(Debug, Parser)]
#[command(name = "quorate log")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Every committed entry that the given members still hold, merged, one line each
    Requests {
        /// As JSON: {"index":N,"term":N,"request":{...}}, the request in the form of etcd's raft log
        #[arg(long, required = true)]
        json: bool,
        /// The members' data directories; with all members of the cluster, the end of the log is found as well
        #[arg(required = true)]
        directories: Vec<PathBuf>,
    },
}

/// Reads logs as asked.
///
/// # Errors
/// A directory can't be read, a log is damaged, or the directories are not of different members of one cluster. Nothing is
/// printed then.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<(), Failure> {
    let name = OsString::from("quorate log");
    let parsed = Arguments::try_parse_from(std::iter::once(name).chain(arguments));
    let Arguments { task: Task::Requests { directories, .. } } = match parsed {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return Err(Failure::Usage(error.to_string())),
        Err(error) => return Ok(output::line(error)?),
    };
    check_members(&directories)?;
    let sources =
        directories.iter().map(|directory| load(directory)).collect::<Result<Vec<_>, _>>()?;
    let merged = merge::committed(&sources)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for (index, entry) in merged.entries {
        let line = line(index, entry).with_context(|| format!("entry {index}"))?;
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    if let Some((first, last)) = merged.undecided {
        output::complain(format_args!(
            "entries {first} to {last} are left out: no majority of the {} given members holds them alike, so they were not committed, or others hold them",
            directories.len()
        ));
    }
    Ok(())
}

/// Logs fit together when they are of different members of one cluster. A directory without a readable identity is judged by its
/// log alone.
fn check_members(directories: &[PathBuf]) -> anyhow::Result<()> {
    let mut known: Vec<(&Path, Owner)> = Vec::new();
    for directory in directories {
        let Some(owner) = Owner::of(directory) else { continue };
        if let Some((first, other)) =
            known.first().filter(|(_, other)| other.cluster != owner.cluster)
        {
            bail!(
                "{} is of cluster {}, and {} of cluster {}: give the directories of one cluster",
                first.display(),
                other.cluster,
                directory.display(),
                owner.cluster
            );
        }
        if let Some((twin, _)) = known.iter().find(|(_, other)| other.member == owner.member) {
            bail!(
                "{} and {} are both of member {}, which would count twice: give each member once",
                twin.display(),
                directory.display(),
                owner.member
            );
        }
        known.push((directory, owner));
    }
    Ok(())
}

/// Whose a data directory is, by its file `identity`.
#[derive(Debug)]
struct Owner {
    cluster: String,
    member: String,
}

impl Owner {
    fn of(directory: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(directory.join("identity")).ok()?;
        let value =
            |name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.to_owned()));
        Some(Self { cluster: value("cluster ")?, member: value("member ")? })
    }
}

/// What a member's directory holds of the group's log.
fn load(directory: &Path) -> anyhow::Result<Source> {
    let wal = directory.join("wal");
    let vfs = MemoryVfs::new();
    let files = std::fs::read_dir(&wal).with_context(|| format!("read {}", wal.display()))?;
    for file in files {
        let path = file.with_context(|| format!("read {}", wal.display()))?.path();
        let content = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        vfs.put(&path, &content);
    }
    let (mut log, mut groups) = Wal::open(Arc::new(vfs), &wal, WalConfig::default())?;
    match groups.remove(&GROUP) {
        Some(found) => {
            let log = with_content(&mut log, found)?;
            Ok(Source { place: directory.display().to_string(), log })
        }
        None => bail!("{} holds no log of the key space", wal.display()),
    }
}

/// Reads the content of all entries that were found.
fn with_content(log: &mut Wal, found: GroupLog<EntryMeta>) -> anyhow::Result<GroupLog> {
    let range = EntryRange { first: found.base().index.next(), last: found.last_index() };
    let entries = if range.is_empty() { Vec::new() } else { log.read(GROUP, range, u64::MAX)? };
    Ok(GroupLog { hard_state: found.hard_state, base: found.base, entries })
}

/// The fields in the order that is promised.
fn line(index: Index, entry: &Entry) -> anyhow::Result<String> {
    let request = match entry.meta.kind {
        EntryKind::Noop | EntryKind::Membership => Value::Null,
        EntryKind::Normal => {
            protojson::request(&Command::decode(Envelope::open(&entry.payload)?.command)?)
        }
    };
    let term = entry.meta.term;
    Ok(format!(r#"{{"index":{index},"term":{term},"request":{request}}}"#))
}
