//! `quorate-sim mutants`: every bug of the catalogue must be convicted.

use std::process::ExitCode;

use quorate_sim::mutants::{CATALOGUE, Caught, Mutant, hunt};

use crate::cli::Arguments;
use crate::run_command::{WORLD_OPTIONS, options};

/// After how many seeds a bug counts as not caught.
const SEEDS_MAX: u64 = 1_000;

/// The subcommand.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let mut known = vec!["first-seed", "seeds", "only"];
    known.extend(WORLD_OPTIONS);
    let arguments = Arguments::parse(arguments, &known)?;
    if !cfg!(feature = "mutants") {
        return Err("the bugs are compiled in only with --features mutants".to_owned());
    }
    let options = options(&arguments)?;
    let first = arguments.number("first-seed")?.unwrap_or(0);
    let seeds = arguments.number("seeds")?.unwrap_or(SEEDS_MAX);
    let only = arguments.number("only")?;
    // A panic is one of the verdicts; its message would only be in the way.
    std::panic::set_hook(Box::new(|_| {}));
    println!("| Mutant | Bug | Source | Convicted by | Seeds |");
    println!("|---|---|---|---|---|");
    let wanted = |mutant: &&Mutant| only.is_none_or(|only| u64::from(mutant.number) == only);
    let found: Vec<Option<Caught>> = CATALOGUE
        .iter()
        .filter(wanted)
        .map(|mutant| {
            let caught = hunt(*mutant, first, seeds, &options);
            print_row(mutant, caught);
            caught
        })
        .collect();
    Ok(report(&found))
}

fn print_row(mutant: &Mutant, caught: Option<Caught>) {
    let Mutant { number, title, source } = mutant;
    match caught {
        Some(Caught { judge, seeds, .. }) => {
            println!("| {number} | {title} | {source} | {judge:?} | {seeds} |");
        }
        None => println!("| {number} | {title} | {source} | nobody | - |"),
    }
}

fn report(found: &[Option<Caught>]) -> ExitCode {
    let mut seeds: Vec<u64> = found.iter().flatten().map(|caught| caught.seeds).collect();
    seeds.sort_unstable();
    let median = seeds.get(seeds.len() / 2).copied().unwrap_or(0);
    println!("mutants={} caught={} median_seeds={median}", found.len(), seeds.len());
    ExitCode::from(u8::from(seeds.len() < found.len()))
}
