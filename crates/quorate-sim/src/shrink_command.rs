//! `quorate-sim shrink`: the short story of a failing seed, written out so that `run --script FILE` tells it again. `run` does the same
//! by itself with seeds that fail.

use std::path::PathBuf;
use std::process::ExitCode;

use quorate_sim::swarm::{Options, Outcome, Shrunk, tell};

use crate::cli::Arguments;
use crate::output::{out_file, write_chart, write_out};
use crate::worlds::{WORLD_OPTIONS, World, options, world};

/// A story with no more events is short enough.
pub(crate) const ENOUGH: usize = 30;
/// How many other failing seeds are tried to find a shorter one.
pub(crate) const TRIES: usize = 8;

/// The subcommand.
pub(crate) fn shrink(arguments: &[String]) -> Result<ExitCode, String> {
    let mut known = vec!["seed", "tries", "out"];
    known.extend(WORLD_OPTIONS);
    let arguments = Arguments::parse(arguments, &known)?;
    let (world, options) = (world(&arguments)?, options(&arguments)?);
    let seed = arguments.number("seed")?.ok_or("--seed is missing")?;
    let tries = arguments.number("tries")?.and_then(|tries| usize::try_from(tries).ok());
    let (shrunk, file) =
        match write_story(&arguments, world, seed, &options, tries.unwrap_or(TRIES))? {
            Ok(story) => story,
            Err(outcome) => {
                println!("seed {seed} does not fail; hash={:032x}", outcome.hash);
                return Ok(ExitCode::SUCCESS);
            }
        };
    println!("seed {}: {}", shrunk.seed, shrunk.failure);
    shrunk.script.lines().skip(1).for_each(|line| println!("{line}"));
    println!("written to {0}; tell it again with: quorate-sim run --script {0}", file.display());
    let (voters, learners) = shrunk.members;
    println!(
        "seed={} events_before={} events={} mishaps_before={} mishaps={} voters={voters} learners={learners}",
        shrunk.seed, shrunk.events_before, shrunk.events, shrunk.mishaps.0, shrunk.mishaps.1
    );
    Ok(ExitCode::FAILURE)
}

/// Cuts a failing seed down, and writes the script and its chart. The inner result says what became of a seed that
/// does not fail.
///
/// # Errors
/// A file can't be written.
pub(crate) fn write_story(
    arguments: &Arguments,
    world: World,
    seed: u64,
    options: &Options,
    tries: usize,
) -> Result<Result<(Shrunk, PathBuf), Outcome>, String> {
    // A panic is one of the verdicts; its message would only be in the way.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let shrunk = (world.shrink)(seed, options, tries, ENOUGH);
    std::panic::set_hook(hook);
    let shrunk = match shrunk {
        Ok(shrunk) => shrunk,
        Err(outcome) => return Ok(Err(outcome)),
    };
    let file = out_file(arguments, world.name, options, shrunk.seed, "script");
    let (first, rest) = shrunk.script.split_once('\n').unwrap_or((&shrunk.script, ""));
    let what = shrunk.failure.to_string();
    let what = what.lines().next().unwrap_or_default();
    write_out(&file, format!("{first}\n# seed {}: {what}\n{rest}", shrunk.seed))?;
    write_chart(&file.with_extension("script.html"), &tell(&shrunk.script)?.trace, None)?;
    Ok(Ok((shrunk, file)))
}
