//! `quorate-sim mutants`: every bug of the catalogue must be convicted; with `--shrink DIR` in few events, which the honest code survives.

use std::path::Path;
use std::process::ExitCode;

use quorate_sim::mutants::{CATALOGUE, Caught, Mutant, hunt};
use quorate_sim::swarm::{Options, shrink_best, tell};

use crate::cli::Arguments;
use crate::output::write_out;
use crate::shrink_command::{ENOUGH, TRIES};
use crate::worlds::{WORLD_OPTIONS, only_core, options};

/// After how many seeds a bug counts as not caught.
const SEEDS_MAX: u64 = 2_000;

/// The subcommand.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let mut known = vec!["first-seed", "seeds", "only", "shrink"];
    known.extend(WORLD_OPTIONS);
    let arguments = Arguments::parse(arguments, &known)?;
    if !cfg!(feature = "mutants") {
        return Err("the bugs are compiled in only with --features mutants".to_owned());
    }
    only_core(&arguments)?;
    let options = options(&arguments)?;
    let first = arguments.number("first-seed")?.unwrap_or(0);
    let seeds = arguments.number("seeds")?.unwrap_or(SEEDS_MAX);
    let only = arguments.number("only")?;
    // A panic is one of the verdicts; its message would only be in the way.
    std::panic::set_hook(Box::new(|_| {}));
    let folder = arguments.text("shrink");
    if folder.is_some() {
        println!(
            "| Mutant | Convicted by | Events | Events of the whole run | Voters | Learners |"
        );
        println!("|---|---|---|---|---|---|");
    } else {
        println!("| Mutant | Bug | Source | Convicted by | Seeds |");
        println!("|---|---|---|---|---|");
    }
    let wanted = |mutant: &&Mutant| only.is_none_or(|only| u64::from(mutant.number) == only);
    let found: Vec<Option<Caught>> = CATALOGUE
        .iter()
        .filter(wanted)
        .map(|mutant| {
            let caught = hunt(*mutant, first, seeds, &options);
            match (folder, caught) {
                (Some(folder), Some(caught)) if !mutant.is_of_servers() => {
                    shrink_row(mutant, caught, &options, folder)?;
                }
                _ => print_row(mutant, caught),
            }
            Ok(caught)
        })
        .collect::<Result<_, String>>()?;
    Ok(report(&found))
}

/// Cuts the story of a mutant down, writes it out, and tells it to the honest code, which must survive it.
fn shrink_row(
    mutant: &Mutant,
    caught: Caught,
    options: &Options,
    folder: &str,
) -> Result<(), String> {
    let number = mutant.number;
    let armed = Options { mutant: number, ..options.clone() };
    let Ok(shrunk) = shrink_best(caught.seed, &armed, TRIES, ENOUGH) else { return Ok(()) };
    write_out(&Path::new(folder).join(format!("mutant-{number}.script")), &shrunk.script)?;
    let planted = format!("\nmutant {number}\n");
    let again = tell(&shrunk.script)?.failure;
    let honest = tell(&shrunk.script.replacen(&planted, "\nmutant 0\n", 1))?.failure;
    let again = again.ok_or(format!("mutant {number}: the story does not end as it did"))?;
    if let Some(failure) = honest {
        return Err(format!("mutant {number}: the honest code fails as well: {failure}"));
    }
    let (voters, learners) = shrunk.members;
    println!(
        "| {number} | {:?} | {} | {} | {voters} | {learners} |",
        again.judge, shrunk.events, shrunk.events_before
    );
    Ok(())
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
