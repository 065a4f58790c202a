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
use quorate_node::{Entry, Envelope, GroupLog};
use quorate_raft::{EntryKind, GroupId, Index};
use quorate_storage::{Wal, WalConfig, vfs::MemoryVfs};
use serde_json::Value;

use crate::Failure;

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
/// A directory can't be read, a log is damaged, or the members' logs do not fit together.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<(), Failure> {
    let name = OsString::from("quorate log");
    let parsed = Arguments::try_parse_from(std::iter::once(name).chain(arguments));
    let Arguments { task: Task::Requests { directories, .. } } = match parsed {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return Err(Failure::Usage(error.to_string())),
        Err(error) => return Ok(crate::output::line(error)?),
    };
    let logs =
        directories.iter().map(|directory| load(directory)).collect::<Result<Vec<_>, _>>()?;
    let mut out = BufWriter::new(io::stdout().lock());
    for (index, entry) in merge::committed(&logs)? {
        let line = line(index, entry).with_context(|| format!("entry {index}"))?;
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// What a member's directory holds of the group's log.
fn load(directory: &Path) -> anyhow::Result<GroupLog> {
    let wal = directory.join("wal");
    let vfs = MemoryVfs::new();
    let files = std::fs::read_dir(&wal).with_context(|| format!("read {}", wal.display()))?;
    for file in files {
        let path = file.with_context(|| format!("read {}", wal.display()))?.path();
        let content = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        vfs.put(&path, &content);
    }
    let (_, mut groups) = Wal::open(Arc::new(vfs), &wal, WalConfig::default())?;
    match groups.remove(&GROUP) {
        Some(log) => Ok(log),
        None => bail!("{} holds no log of the key space", wal.display()),
    }
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
