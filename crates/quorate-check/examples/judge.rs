//! Judges a history of registers: JSON lines on standard input, the verdict on standard output.
//!
//! `cargo run -p quorate-check --example judge [revision|lock|cycles] [TIMELINE.html] < history.jsonl` ends with 0 if the history
//! holds, 1 if it is broken, 2 if it cannot be judged. The first argument chooses another kind of history than registers.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::{error::Error, fmt::Debug, io, path::Path, process::ExitCode};

use quorate_check::{
    Operation, Verdict, cycles, linear, lock, read_lines, revision, timeline_html,
};
use serde::de::DeserializeOwned;

fn main() -> ExitCode {
    match run() {
        Ok(Verdict::Holds) => ExitCode::SUCCESS,
        Ok(Verdict::Broken(_)) => ExitCode::from(1),
        Ok(Verdict::Undecided(_)) => ExitCode::from(2),
        Err(error) => {
            eprintln!("cannot judge: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<Verdict, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let page = arguments.last().filter(|page| Path::new(page).extension().is_some()).cloned();
    match arguments.first().map(String::as_str) {
        Some("revision") => judge(page, |history| revision::check(history, &[])),
        Some("lock") => judge(page, lock::check),
        Some("cycles") => judge(page, cycles::check),
        _ => judge(page, linear::check),
    }
}

fn judge<Q, R>(
    page: Option<String>,
    check: impl Fn(&[Operation<Q, R>]) -> Result<Verdict, quorate_check::Error>,
) -> Result<Verdict, Box<dyn Error>>
where
    Q: Debug + DeserializeOwned,
    R: Debug + DeserializeOwned,
{
    let history: Vec<Operation<Q, R>> = read_lines(&io::read_to_string(io::stdin())?)?;
    let verdict = check(&history)?;
    println!("operations={} {verdict}", history.len());
    if let Some(page) = page {
        std::fs::write(page, timeline_html(&history, &verdict))?;
    }
    Ok(verdict)
}
