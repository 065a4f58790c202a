//! The worlds that seeds are run in, and the options that they have in common.

use quorate_sim::chart::{Trace, Window};
use quorate_sim::full;
use quorate_sim::swarm::{self, Options, Outcome, Shrunk};

use crate::cli::Arguments;

/// The options that say what world it is.
pub(crate) const WORLD_OPTIONS: [&str; 7] =
    ["world", "members", "learners", "rate", "seconds", "mutant", "atlas"];

type Shrink = fn(u64, &Options, usize, usize) -> Result<Shrunk, Outcome>;

/// A world: what it is called, and how a seed is run and drawn in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) run_seed: fn(u64, &Options) -> Outcome,
    pub(crate) chart_seed: fn(u64, &Options, Option<Window>) -> (Outcome, Trace),
    /// How a seed that fails is cut down: how many other seeds may be tried to find a shorter story, and how few events are enough.
    pub(crate) shrink: Shrink,
    /// The members' flight recordings at the end.
    pub(crate) recordings: fn(u64, &Options) -> Vec<Vec<u8>>,
}

/// All of them; the first is meant when none is named.
const WORLDS: [World; 2] = [
    World {
        name: "core",
        run_seed: swarm::run_seed,
        chart_seed: swarm::chart_seed,
        shrink: swarm::shrink_best,
        recordings: |_, _| Vec::new(),
    },
    World {
        name: "full",
        run_seed: full::run_seed,
        chart_seed: full::chart_seed,
        shrink: full::shrink_seed,
        recordings: full::recordings,
    },
];

/// The world that is asked for.
pub(crate) fn world(arguments: &Arguments) -> Result<World, String> {
    let name = arguments.text("world").unwrap_or("core");
    let known = WORLDS.iter().find(|world| world.name == name).copied();
    known.ok_or_else(|| {
        let names: Vec<&str> = WORLDS.iter().map(|world| world.name).collect();
        format!("no world is called {name}; there are: {}", names.join(", "))
    })
}

/// Refuses every world but that of cores, for what is made for it alone.
pub(crate) fn only_core(arguments: &Arguments) -> Result<(), String> {
    match arguments.text("world") {
        None | Some("core") => Ok(()),
        Some(other) => Err(format!("--world {other}: this works in the core world only")),
    }
}

/// Reads the options that say what world it is.
pub(crate) fn options(arguments: &Arguments) -> Result<Options, String> {
    let size = |name| -> Result<Option<usize>, String> {
        Ok(arguments.number(name)?.and_then(|number| usize::try_from(number).ok()))
    };
    let mutant = arguments.number("mutant")?.unwrap_or(0);
    if mutant != 0 && !(100..200).contains(&mutant) && !cfg!(feature = "mutants") {
        return Err("--mutant of a core or a server needs --features mutants".to_owned());
    }
    let is_full = arguments.text("world") == Some("full");
    if mutant != 0 && is_full != (mutant >= 200) {
        return Err(format!(
            "--mutant {mutant} is of the other world: from 200 on, of --world full"
        ));
    }
    if is_full && arguments.text("learners").is_some() {
        return Err("--learners: the full world has none".to_owned());
    }
    Ok(Options {
        voters: size("members")?,
        learners: size("learners")?,
        rate: arguments.number("rate")?,
        seconds: arguments.number("seconds")?,
        atlas_off: match arguments.text("atlas") {
            None | Some("on") => false,
            Some("off") => true,
            Some(other) => return Err(format!("--atlas {other}: on or off")),
        },
        mutant: u16::try_from(mutant).map_err(|_| "--mutant is out of range")?,
    })
}
