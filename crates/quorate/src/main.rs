//! The `quorate` binary: one member of a cluster, a cluster to try, and a client.
//!
//! `quorate server` takes etcd's flags, `quorate demo` starts several servers on this machine, `quorate ctl` speaks to any
//! etcd. Under the name `etcd` (a link) the binary is `quorate server`, so that whatever starts etcd can start it.
//!
//! This file only decides who is meant. Exit codes: 0 done, 1 failed, 2 used wrongly.

mod ctl;
mod demo;
mod flags;
mod log;
mod logging;
mod output;
mod server;
mod version;

use std::{ffi::OsString, path::Path, process::ExitCode};

// Built without transparent huge pages: with them a server keeps twice the memory, and a request that touches a fresh one
// waits for 2 MiB of zeros (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why the program ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was used wrongly: exit code 2.
    Usage(String),
    /// It could not do its work: exit code 1.
    Failed(anyhow::Error),
    /// It could not do its work, and programs look at the exit code.
    Coded(u8, String),
    /// It has said so itself, or nobody listens any more: this exit code.
    Silent(u8),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let gone = error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
        if gone { Self::Silent(1) } else { Self::Failed(error) }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    match dispatch(&program, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            output::complain(text);
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            output::complain(format_args!("Error: {error:#}"));
            ExitCode::FAILURE
        }
        Err(Failure::Coded(code, text)) => {
            output::complain(format_args!("Error: {text}"));
            ExitCode::from(code)
        }
        Err(Failure::Silent(code)) => ExitCode::from(code),
    }
}

fn dispatch(program: &OsString, mut arguments: Vec<OsString>) -> Result<(), Failure> {
    if Path::new(program).file_name().is_some_and(|name| name == "etcd") {
        return serve("etcd", arguments);
    }
    if arguments.is_empty() {
        return Err(Failure::Usage(USAGE.to_owned()));
    }
    let verb = arguments.remove(0);
    match verb.to_str() {
        Some("server") => serve("quorate server", arguments),
        Some("demo") => demo::run(arguments),
        Some("ctl") => ctl::run(arguments),
        Some("log") => log::run(arguments),
        Some("version" | "--version" | "-V") => Ok(output::line(version::own())?),
        Some("help" | "--help" | "-h") => Ok(output::line(USAGE)?),
        _ => Err(Failure::Usage(format!("unknown command {}\n\n{USAGE}", verb.display()))),
    }
}

/// Runs a server, or answers what was asked about it.
fn serve(program: &str, arguments: Vec<OsString>) -> Result<(), Failure> {
    let environment = std::env::vars_os().collect();
    let asked = flags::read(program, arguments, environment).map_err(Failure::Usage)?;
    let settings = match asked {
        flags::Asked::Serve(settings) => settings,
        flags::Asked::Help => return Ok(output::line(flags::help(program))?),
        flags::Asked::Version(reported) => return Ok(output::line(version::as_etcd(&reported))?),
    };
    logging::start(&settings.log)?;
    demo::stop_with_parent()?;
    for warning in &settings.warnings {
        tracing::warn!(warning, "a setting has no effect");
    }
    server::run(&settings.server).map_err(|error| {
        tracing::error!(error = format!("{error:#}"), "the server stopped");
        Failure::Silent(1)
    })
}

const USAGE: &str = "Usage: quorate <command>

  server   Run one member of a cluster; takes etcd's flags and ETCD_* variables
  demo     Start a whole cluster on this machine, to try it
  ctl      Read and write keys, watch, leases: etcdctl's verbs
  log      Read the log of members, dead or alive
  version  Say which version this is

quorate <command> --help says more.";
