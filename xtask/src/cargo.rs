//! What cargo itself checks, fixes and tests.

use std::{env, process::Command};

use anyhow::{Context, Result, bail};

use crate::source;

/// Workspaces beside the main one, each with a lock file of its own.
const OTHER_WORKSPACES: [&str; 4] = ["bench", "fuzz", "interop/rust", "xtask/codegen"];

/// Whether the other workspaces' lock files still fit: they depend on crates of the main one, whose dependencies change.
pub(crate) fn locks() -> Result<()> {
    for workspace in OTHER_WORKSPACES {
        let manifest = format!("{workspace}/Cargo.toml");
        let arguments =
            ["metadata", "--locked", "--format-version", "1", "--manifest-path", &manifest];
        let output = command(&arguments).output().context("run cargo metadata")?;
        if !output.status.success() {
            bail!("{manifest}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(())
}

/// Whether every file is formatted.
pub(crate) fn fmt_check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])
}

/// Lints; a warning is an error.
pub(crate) fn clippy() -> Result<()> {
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
}

/// Documentation builds without a warning.
pub(crate) fn doc() -> Result<()> {
    let mut command = command(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Formats, and applies what clippy can.
pub(crate) fn fix() -> Result<()> {
    cargo(&["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"])?;
    cargo(&["fmt", "--all"])
}

/// Tests; `more` goes to the test programs.
pub(crate) fn test(more: &[String]) -> Result<()> {
    let mut command = command(&["test", "--workspace", "--release", "--locked"]);
    if !more.is_empty() {
        command.arg("--").args(more);
    }
    run(&mut command)
}

/// Writes generated code, or with `--check` compares it.
pub(crate) fn codegen(arguments: &[&str]) -> Result<()> {
    let mut command = command(&["run", "--quiet", "--manifest-path", "xtask/codegen/Cargo.toml"]);
    run(command.arg("--").args(arguments))
}

/// What cargo prints about the workspace's own packages, as JSON.
pub(crate) fn metadata() -> Result<String> {
    let output = command(&["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    run(&mut command(arguments))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(source::root());
    command
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().context("run cargo")?;
    if status.success() { Ok(()) } else { bail!("{command:?}: {status}") }
}
