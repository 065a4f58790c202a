//! `quorate-sim run`: many seeds, on as many threads as asked for. Those that fail are drawn and cut down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use quorate_sim::Dice;
use quorate_sim::chart::Window;
use quorate_sim::swarm::{Options, Outcome, tell};
use quorate_sim::world::{Conviction, Judge};

use crate::cli::Arguments;
use crate::output::{out_file, write_chart, write_out};
use crate::shrink_command::write_story;
use crate::worlds::{WORLD_OPTIONS, World, options, world};

/// What this command knows beside the options of a world.
const RUN_OPTIONS: [&str; 11] = [
    "seeds",
    "first-seed",
    "seed",
    "also",
    "threads",
    "hashes",
    "script",
    "chart",
    "from-ms",
    "to-ms",
    "out",
];
/// Of a million seeds, how many are run twice.
const TWICE_PPM: u32 = 50_000;
/// How many failing seeds are drawn.
const CHARTS_MAX: usize = 8;
/// How many failing seeds are cut down.
const SCRIPTS_MAX: usize = 2;
/// A year, in seconds.
const YEAR_S: f64 = 365.25 * 24.0 * 3600.0;

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
    /// Each seed with its fingerprint.
    runs: BTreeMap<u64, u128>,
}

impl Sum {
    /// A line for each seed, in their order: builds of other kinds must write the same.
    fn hashes(&self) -> String {
        let lines: Vec<String> =
            self.runs.iter().map(|(seed, hash)| format!("{seed} {hash:032x}")).collect();
        lines.join("\n") + "\n"
    }

    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.runs.insert(outcome.seed, outcome.hash);
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

/// What the command line asks for.
struct Order {
    world: World,
    options: Options,
    seeds: Vec<u64>,
    threads: usize,
}

fn order(arguments: &Arguments) -> Result<Order, String> {
    let one = arguments.number("seed")?;
    let first = one.or(arguments.number("first-seed")?).unwrap_or(0);
    let count = if one.is_some() { 1 } else { arguments.number("seeds")?.unwrap_or(100) };
    let mut seeds: Vec<u64> = (0..count).map(|number| first.wrapping_add(number)).collect();
    if let Some(file) = arguments.text("also") {
        let text = std::fs::read_to_string(file).map_err(|why| format!("{file}: {why}"))?;
        seeds.extend(read_seeds(&text).map_err(|why| format!("{file}: {why}"))?);
    }
    let threads = arguments.number("threads")?.unwrap_or(1).clamp(1, 64);
    Ok(Order {
        world: world(arguments)?,
        options: options(arguments)?,
        seeds,
        threads: usize::try_from(threads).unwrap_or(1),
    })
}

/// A seed a line; what stands behind `#` is for people.
fn read_seeds(text: &str) -> Result<Vec<u64>, String> {
    let mut seeds = Vec::new();
    for line in text.lines() {
        let told = line.split('#').next().unwrap_or_default().trim();
        if !told.is_empty() {
            seeds.push(told.parse().map_err(|_| format!("{told} is not a seed"))?);
        }
    }
    Ok(seeds)
}

/// The subcommand.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let arguments = Arguments::parse(arguments, &[&RUN_OPTIONS[..], &WORLD_OPTIONS].concat())?;
    if let Some(file) = arguments.text("script") {
        return run_script(file, &arguments);
    }
    let order = order(&arguments)?;
    let before = cpu_seconds();
    let sum = run_all(&order);
    let cpu_s = cpu_seconds() - before;
    if let Some(file) = arguments.text("hashes") {
        write_out(Path::new(file), sum.hashes())?;
    }
    draw(&arguments, &order, &sum)?;
    shrink(&arguments, &order, &sum)?;
    Ok(report(&sum, cpu_s))
}

/// Draws the seeds that failed, and the one that is asked for.
fn draw(arguments: &Arguments, order: &Order, sum: &Sum) -> Result<(), String> {
    let Order { world, options, .. } = order;
    let failing = sum.failures.iter().take(CHARTS_MAX);
    let mut wanted: Vec<(u64, PathBuf)> = failing
        .map(|(seed, _)| (*seed, out_file(arguments, world.name, options, *seed, "html")))
        .collect();
    if let (Some(file), Some(first)) = (arguments.text("chart"), order.seeds.first()) {
        wanted.push((*first, PathBuf::from(file)));
    }
    let window = window(arguments)?;
    for (seed, file) in wanted {
        let (_, trace) = (world.chart_seed)(seed, options, window);
        write_chart(&file, &trace, window)?;
        println!("seed {seed} is drawn in {}", file.display());
        for (member, recording) in (world.recordings)(seed, options).iter().enumerate() {
            let file = file.with_extension(format!("m{member}.flight"));
            write_out(&file, recording)?;
        }
    }
    Ok(())
}

/// Cuts the first seeds that failed down.
fn shrink(arguments: &Arguments, order: &Order, sum: &Sum) -> Result<(), String> {
    for (seed, _) in sum.failures.iter().take(SCRIPTS_MAX) {
        if let Ok((shrunk, file)) = write_story(arguments, order.world, *seed, &order.options, 0)? {
            println!("seed {seed} in {} events: {}", shrunk.events, file.display());
        }
    }
    Ok(())
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

fn run_all(order: &Order) -> Sum {
    let next = AtomicUsize::new(0);
    let sum = Mutex::new(Sum::default());
    let work = || {
        while let Some(seed) = order.seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = run_checked(*seed, order);
            sum.lock().unwrap_or_else(PoisonError::into_inner).add(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..order.threads {
            scope.spawn(work);
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.failures.sort_by_key(|(seed, _)| *seed);
    sum
}

/// Runs a seed, some of them twice: both must be the same.
fn run_checked(seed: u64, order: &Order) -> Outcome {
    let mut outcome = (order.world.run_seed)(seed, &order.options);
    if outcome.failure.is_none() && Dice::fork(seed, 3).chance(TWICE_PPM) {
        let again = (order.world.run_seed)(seed, &order.options);
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
