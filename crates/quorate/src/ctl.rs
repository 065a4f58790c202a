//! `quorate ctl`: keys, transactions, watches, leases from the command line, with etcdctl's verbs, flags and formats.
//!
//! It speaks to any etcd. What it prints is what etcdctl 3.7.1 prints for the same answers, so that scripts can't tell;
//! errors say more where etcdctl's say little. Each verb has its file: its flags, its requests, its four formats
//! ([`mod@print`] knows the formats' common parts).
//!
//! Left out: users, roles, snapshots (a server's are no backup, see docs/compatibility.md), alarms, locks and elections; TLS and
//! passwords; the `protobuf` format.

mod args;
mod connector;
mod endpoint;
mod go;
mod json;
mod kv;
mod lease;
mod member;
mod move_leader;
mod print;
mod session;
mod txn;
mod watch;

use std::ffi::OsString;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::{Failure, output};
use args::Global;
pub(crate) use go::base64;
use session::Session;

/// etcdctl's exit codes, besides 1; and one of our own.
mod exit {
    /// The lease to keep alive is not there.
    pub(super) const CONNECTION: u8 = 2;
    /// What was read from standard input makes no sense.
    pub(super) const INPUT: u8 = 3;
    /// A value of a flag that is not known.
    pub(super) const FEATURE: u8 = 4;
    /// The server ended a watch.
    pub(super) const INTERRUPTED: u8 = 5;
    /// Nothing is wrong as far as one can see, and that is not far enough. Not one of etcdctl's.
    pub(super) const UNKNOWN: u8 = 7;
    /// Wrong number or form of arguments.
    pub(super) const ARGUMENTS: u8 = 128;
}

/// Read and write keys, watch, leases: etcdctl's verbs.
#[derive(Debug, Parser)]
#[command(name = "quorate ctl")]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Put the given key into the store
    Put(kv::PutArgs),
    /// Get the key or a range of keys
    Get(kv::GetArgs),
    /// Remove the specified key or range of keys
    Del(kv::DelArgs),
    /// Process all the requests in one transaction
    Txn(txn::TxnArgs),
    /// Watch events on keys or prefixes
    Watch(watch::WatchArgs),
    /// Lease related commands
    #[command(subcommand)]
    Lease(lease::LeaseVerb),
    /// Compact the event history
    Compaction(kv::CompactionArgs),
    /// Endpoint related commands
    Endpoint(endpoint::EndpointArgs),
    /// Membership related commands
    #[command(subcommand)]
    Member(member::MemberVerb),
    /// Transfers leadership to another node in the cluster
    MoveLeader(move_leader::MoveLeaderArgs),
}

/// Runs one command.
///
/// # Errors
/// With etcdctl's exit code.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<(), Failure> {
    let program = OsString::from("quorate ctl");
    let arguments = match Arguments::try_parse_from([program].into_iter().chain(arguments)) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return Err(Failure::Usage(error.to_string())),
        Err(help) => return Ok(output::line(help)?),
    };
    let session = Session::new(arguments.global)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    let outcome = runtime.block_on(dispatch(&session, arguments.verb));
    // A thread that still reads standard input must not hold the end back.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(session: &Session, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Put(args) => kv::put(session, args).await,
        Verb::Get(args) => kv::get(session, args).await,
        Verb::Del(args) => kv::del(session, args).await,
        Verb::Txn(args) => txn::run(session, &args).await,
        Verb::Watch(args) => watch::run(session, args).await,
        Verb::Lease(verb) => lease::run(session, verb).await,
        Verb::Compaction(args) => kv::compaction(session, args).await,
        Verb::Endpoint(args) => endpoint::run(session, args).await,
        Verb::Member(verb) => member::run(session, verb).await,
        Verb::MoveLeader(args) => move_leader::run(session, &args).await,
    }
}
