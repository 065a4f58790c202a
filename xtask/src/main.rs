//! Development tasks: `cargo xtask check | fix | test | mutate | codegen`.
//!
//! `check` only reads; `fix` writes. Each check has a file: [`walls`] for what a crate may know, [`purity`] for what pure
//! code may touch, [`tidy`] for what a reviewer would otherwise say twice. Nothing is to be installed beyond Rust.

#![allow(clippy::print_stdout, reason = "a tool for a terminal says what it does")]

mod cargo;
mod mutate;
mod purity;
mod source;
mod tidy;
mod uses;
mod walls;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "Usage: cargo xtask <task>

  check [NAME...]  Read only: fmt, clippy, doc, locks, walls, purity, tidy; with --codegen also whether generated code is current
  fix              Format, and apply what clippy can
  test             All tests that need only Rust and a C compiler
  mutate           Plant faults in product code and tell which of them no test notices: --sample N --seed S --package NAME
  codegen          Write quorate-proto's code from its protocol definitions";

/// A check that reads only.
struct Check {
    name: &'static str,
    run: fn() -> Result<()>,
}

/// From the quickest to the slowest.
const CHECKS: [Check; 7] = [
    Check { name: "walls", run: walls::check },
    Check { name: "purity", run: purity::check },
    Check { name: "tidy", run: tidy::check },
    Check { name: "locks", run: cargo::locks },
    Check { name: "fmt", run: cargo::fmt_check },
    Check { name: "clippy", run: cargo::clippy },
    Check { name: "doc", run: cargo::doc },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let (task, rest) = arguments.split_first().map_or(("", arguments), |(task, rest)| (task, rest));
    match task {
        "check" => check(rest),
        "fix" => cargo::fix(),
        "test" => cargo::test(rest),
        "mutate" => mutate::run(rest),
        "codegen" => cargo::codegen(&[]),
        _ => bail!("{USAGE}"),
    }
}

/// Runs all checks, or those named, and says at the end which failed.
fn check(names: &[String]) -> Result<()> {
    let (codegen, names): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| *name == "--codegen");
    if let Some(unknown) = names.iter().find(|name| CHECKS.iter().all(|check| check.name != **name))
    {
        bail!("no check is called {unknown}\n\n{USAGE}");
    }
    let wanted = |check: &&Check| names.is_empty() || names.iter().any(|name| check.name == *name);
    let mut failed = Vec::new();
    for Check { name, run } in CHECKS.iter().filter(wanted) {
        println!("check {name}");
        if let Err(error) = run() {
            println!("{error:#}");
            failed.push(*name);
        }
    }
    if !codegen.is_empty() && cargo::codegen(&["--check"]).is_err() {
        failed.push("codegen");
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}
