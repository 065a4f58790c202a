//! `quorate-sim run`: many seeds, on as many threads as asked for. Of those that fail, charts are drawn.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use quorate_sim::Dice;
use quorate_sim::chart::{Trace, Window, html, svg};
use quorate_sim::swarm::{Options, Outcome, tell};
use quorate_sim::world::{Conviction, Judge};
use quorate_sim::{full, swarm};

use crate::cli::Arguments;

/// The options that say what world it is.
pub(crate) const WORLD_OPTIONS: [&str; 6] =
    ["world", "members", "learners", "rate", "seconds", "mutant"];

/// Of a million seeds, how many are run twice.
const TWICE_PPM: u32 = 50_000;
/// How many failing seeds are drawn.
const CHARTS_MAX: usize = 8;
/// Where charts and scripts of failing seeds go, unless `--out` says otherwise.
const OUT: &str = "target/sim";
/// A year, in seconds.
const YEAR_S: f64 = 365.25 * 24.0 * 3600.0;

/// A kind of world, and how its seeds are run and drawn.
#[derive(Clone, Copy)]
struct World {
    name: &'static str,
    run_seed: fn(u64, &Options) -> Outcome,
    chart_seed: fn(u64, &Options, Option<Window>) -> (Outcome, Trace),
}

/// All kinds.
const WORLDS: [World; 2] = [
    World { name: "core", run_seed: swarm::run_seed, chart_seed: swarm::chart_seed },
    World { name: "full", run_seed: full::run_seed, chart_seed: full::chart_seed },
];

fn world(arguments: &Arguments) -> Result<World, String> {
    let name = arguments.text("world").unwrap_or("core");
    let found = WORLDS.into_iter().find(|world| world.name == name);
    found.ok_or_else(|| format!("no world is called {name}; there are: core, full"))
}

/// Reads the options that say what a world is like.
pub(crate) fn options(arguments: &Arguments) -> Result<Options, String> {
    let size = |name| -> Result<Option<usize>, String> {
        Ok(arguments.number(name)?.and_then(|number| usize::try_from(number).ok()))
    };
    let mutant = arguments.number("mutant")?.unwrap_or(0);
    if (1..100).contains(&mutant) && !cfg!(feature = "mutants") {
        return Err("--mutant below 100 needs a build with --features mutants".to_owned());
    }
    Ok(Options {
        voters: size("members")?,
        learners: size("learners")?,
        rate: arguments.number("rate")?,
        seconds: arguments.number("seconds")?,
        mutant: u16::try_from(mutant).map_err(|_| "--mutant is out of range")?,
    })
}

/// What all seeds came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    events: u64,
    simulated_ns: u128,
    hash: u128,
    commits: u64,
    elections: u64,
    grants: u64,
    installs: u64,
    crashes: u64,
    failures: Vec<(u64, Conviction)>,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        self.simulated_ns += u128::from(outcome.simulated_ns);
        // Seeds end in any order, so their hashes are added up; the seed is part of each.
        self.hash = self.hash.wrapping_add(outcome.hash);
        self.commits += outcome.counts.commits;
        self.elections += outcome.counts.elections;
        self.grants += outcome.counts.grants;
        self.installs += outcome.counts.installs;
        self.crashes += outcome.counts.crashes;
        self.failures.extend(outcome.failure.map(|failure| (outcome.seed, failure)));
    }
}

/// The subcommand.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let mut known = vec![
        "seeds",
        "first-seed",
        "seed",
        "threads",
        "chart",
        "from-ms",
        "to-ms",
        "out",
        "script",
    ];
    known.extend(WORLD_OPTIONS);
    let arguments = Arguments::parse(arguments, &known)?;
    if let Some(file) = arguments.text("script") {
        return run_script(file, &arguments);
    }
    let (world, options) = (world(&arguments)?, options(&arguments)?);
    let one = arguments.number("seed")?;
    let first = one.or(arguments.number("first-seed")?).unwrap_or(0);
    let seeds = if one.is_some() { 1 } else { arguments.number("seeds")?.unwrap_or(100) };
    let threads = arguments.number("threads")?.unwrap_or(1).clamp(1, 64);
    let before = cpu_seconds();
    let sum = run_all((first, seeds, threads), world, &options);
    let cpu_s = cpu_seconds() - before;
    let mut wanted: Vec<(u64, PathBuf)> = sum
        .failures
        .iter()
        .take(CHARTS_MAX)
        .map(|(seed, _)| (*seed, out_file(&arguments, &options, *seed, "html")))
        .collect();
    if let Some(file) = arguments.text("chart") {
        wanted.push((first, PathBuf::from(file)));
    }
    let window = window(&arguments)?;
    for (seed, file) in wanted {
        let (_, trace) = (world.chart_seed)(seed, &options, window);
        write_chart(&file, &trace, window)?;
        println!("seed {seed} is drawn in {}", file.display());
    }
    Ok(report(&sum, cpu_s))
}

/// Tells again what `shrink` wrote.
fn run_script(file: &str, arguments: &Arguments) -> Result<ExitCode, String> {
    let text = std::fs::read_to_string(file).map_err(|why| format!("{file}: {why}"))?;
    let told = tell(&text).map_err(|why| format!("{file}: {why}"))?;
    told.lines.iter().for_each(|line| println!("{line}"));
    if let Some(chart) = arguments.text("chart") {
        write_chart(Path::new(chart), &told.trace, window(arguments)?)?;
    }
    let failures = u8::from(told.failure.is_some());
    if let Some(failure) = told.failure {
        println!("=> {failure}");
    }
    println!("events={} failures={failures}", told.lines.len());
    Ok(ExitCode::from(failures))
}

/// The part of the time that is asked for.
fn window(arguments: &Arguments) -> Result<Option<Window>, String> {
    let (from, to) = (arguments.number("from-ms")?, arguments.number("to-ms")?);
    let ns = |ms: u64| ms.saturating_mul(1_000_000);
    let whole = from.is_none() && to.is_none();
    Ok((!whole).then(|| Window { from: ns(from.unwrap_or(0)), to: to.map_or(u64::MAX, ns) }))
}

/// Where something about a seed goes that nobody gave a name.
pub(crate) fn out_file(
    arguments: &Arguments,
    options: &Options,
    seed: u64,
    ending: &str,
) -> PathBuf {
    let world = arguments.text("world").unwrap_or("core");
    let bug =
        if options.mutant == 0 { String::new() } else { format!("-mutant-{}", options.mutant) };
    Path::new(arguments.text("out").unwrap_or(OUT))
        .join(format!("{world}-seed-{seed}{bug}.{ending}"))
}

/// Writes a chart: an SVG if the name says so, and otherwise a page.
pub(crate) fn write_chart(
    file: &Path,
    trace: &Trace,
    window: Option<Window>,
) -> Result<(), String> {
    let window = window.unwrap_or_else(|| Window::of(trace));
    let is_svg = file.extension().is_some_and(|ending| ending == "svg");
    write_out(file, &if is_svg { svg(trace, window) } else { html(trace, window) })
}

/// Writes a file, and makes the directory it lies in.
pub(crate) fn write_out(file: &Path, text: &str) -> Result<(), String> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    }
    std::fs::write(file, text).map_err(|why| format!("{}: {why}", file.display()))
}

fn run_all((first, seeds, threads): (u64, u64, u64), world: World, options: &Options) -> Sum {
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Sum::default());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= seeds {
                return;
            }
            let outcome = run_checked(first.wrapping_add(number), world, options);
            sum.lock().unwrap_or_else(PoisonError::into_inner).add(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a seed, some of them twice: both must be the same.
fn run_checked(seed: u64, world: World, options: &Options) -> Outcome {
    let mut outcome = (world.run_seed)(seed, options);
    if outcome.failure.is_none() && Dice::fork(seed, 3).chance(TWICE_PPM) {
        let again = (world.run_seed)(seed, options);
        if again.hash != outcome.hash {
            let detail = format!("{:032x}, then {:032x}", outcome.hash, again.hash);
            outcome.failure = Some(Conviction::new(Judge::Determinism, detail));
        }
    }
    outcome
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn report(sum: &Sum, cpu_s: f64) -> ExitCode {
    for (seed, failure) in &sum.failures {
        println!("seed {seed}: {failure}");
    }
    let simulated_s = sum.simulated_ns as f64 / 1e9;
    let years = simulated_s / YEAR_S / (cpu_s.max(1e-3) / 3600.0);
    println!(
        "elections={} commits={} reads={} snapshots={} crashes={}",
        sum.elections, sum.commits, sum.grants, sum.installs, sum.crashes
    );
    println!(
        "seeds={} events={} simulated_s={simulated_s:.0} cpu_s={cpu_s:.1} sim_years_per_cpu_hour={years:.3} hash={:032x} failures={}",
        sum.seeds,
        sum.events,
        sum.hash,
        sum.failures.len()
    );
    ExitCode::from(u8::from(!sum.failures.is_empty()))
}

/// What this process has used of all processors, in seconds; 0 where the system does not say.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in brackets: fields 14 and 15 of all are user and system time, in hundredths.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}
