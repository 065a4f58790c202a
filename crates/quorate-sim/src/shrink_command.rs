//! `quorate-sim shrink`: the short story of a failing seed, written out so that `run --script FILE` tells it again.

use std::process::ExitCode;

use quorate_sim::swarm::shrink_best;

use crate::cli::Arguments;
use crate::output::{out_file, write_out};
use crate::worlds::{WORLD_OPTIONS, options};

/// A story with no more events is short enough.
pub(crate) const ENOUGH: usize = 30;
/// How many other failing seeds are tried to find a shorter one.
pub(crate) const TRIES: usize = 8;

/// The subcommand.
pub(crate) fn shrink(arguments: &[String]) -> Result<ExitCode, String> {
    let mut known = vec!["seed", "tries", "out"];
    known.extend(WORLD_OPTIONS);
    let arguments = Arguments::parse(arguments, &known)?;
    let options = options(&arguments)?;
    let seed = arguments.number("seed")?.ok_or("--seed is missing")?;
    let tries = arguments.number("tries")?.and_then(|tries| usize::try_from(tries).ok());
    // A panic is one of the verdicts; its message would only be in the way.
    std::panic::set_hook(Box::new(|_| {}));
    let shrunk = match shrink_best(seed, &options, tries.unwrap_or(TRIES), ENOUGH) {
        Ok(shrunk) => shrunk,
        Err(outcome) => {
            println!("seed {seed} does not fail; hash={:032x}", outcome.hash);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let file = out_file(&arguments, "core", &options, shrunk.seed, "script");
    let (first, rest) = shrunk.script.split_once('\n').unwrap_or((&shrunk.script, ""));
    write_out(&file, format!("{first}\n# seed {}: {}\n{rest}", shrunk.seed, shrunk.failure))?;
    println!("seed {}: {}", shrunk.seed, shrunk.failure);
    print!("{rest}");
    println!("written to {0}; tell it again with: quorate-sim run --script {0}", file.display());
    let (voters, learners) = shrunk.members;
    println!(
        "seed={} events_before={} events={} mishaps_before={} mishaps={} voters={voters} learners={learners}",
        shrunk.seed, shrunk.events_before, shrunk.events, shrunk.mishaps.0, shrunk.mishaps.1
    );
    Ok(ExitCode::FAILURE)
}
