//! `quorate-sim shrink` and `replay`: the short story of a failing seed.

use std::process::ExitCode;

use quorate_sim::swarm::shrink_seed;

use crate::cli::Arguments;
use crate::run_command::{WORLD_OPTIONS, options};

/// The subcommand.
pub(crate) fn shrink(arguments: &[String]) -> Result<ExitCode, String> {
    let mut known = vec!["seed"];
    known.extend(WORLD_OPTIONS);
    let arguments = Arguments::parse(arguments, &known)?;
    let options = options(&arguments)?;
    let seed = arguments.number("seed")?.ok_or("--seed is missing")?;
    let shrunk = match shrink_seed(seed, &options) {
        Ok(shrunk) => shrunk,
        Err(outcome) => {
            println!("seed {seed} does not fail; hash={:032x}", outcome.hash);
            return Ok(ExitCode::SUCCESS);
        }
    };
    println!("seed {seed}: {}", shrunk.failure);
    shrunk.script.iter().for_each(|line| println!("{line}"));
    println!(
        "seed={seed} events_before={} events={} mishaps_before={} mishaps={}",
        shrunk.events.0, shrunk.events.1, shrunk.mishaps.0, shrunk.mishaps.1
    );
    Ok(ExitCode::FAILURE)
}
