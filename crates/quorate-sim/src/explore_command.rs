//! `quorate-sim explore`: the command line of the explorer, and runs that were saved. A run that breaks a promise is drawn, and
//! saved as a golden script, which `--replay` steps through again, every step judged.
//!
//! Its last line reads `unique=N generated=N depth=N cpu_s=N bytes_per_state=N violations=N`; programs rely on it.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use quorate_sim::explore::{
    BOUNDS, Bound, Bug, Limits, Report, SPEND_MAX, Search, Story, replay, walk,
};

/// How to call it.
const USAGE: &str = "Usage: quorate-sim explore --bound A|B|C|E|F|small [--seconds N] [--states N] [--threads N] [--walk SEED] \
[--term N] [--log N] [--budgets timeouts,beats,checks,proposals,crashes,drops,duplicates,reads,compactions] \
[--bug NAME] [--save FILE] [--replay FILE]";

/// What the command line asks for.
#[derive(Clone, Debug)]
struct Order {
    bound: Bound,
    bug: Bug,
    limits: Limits,
    time_max: Option<Duration>,
    walk_seed: Option<u64>,
    save: Option<String>,
    replay: Option<String>,
}

/// Runs the command. Fails on bad arguments, files that can't be read or written, and what the explorer itself can't handle.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let order = parse(arguments)?;
    if let Some(file) = &order.replay {
        let text = std::fs::read_to_string(file).map_err(|why| format!("{file}: {why}"))?;
        return replay_text(&order, &text);
    }
    let start = Instant::now();
    let mut stop = |report: &Report| {
        order.time_max.is_some_and(|time| start.elapsed() >= time)
            || report.generated >= order.limits.unique_max && order.walk_seed.is_some()
    };
    let report = match order.walk_seed {
        Some(seed) => walk(order.bound, order.bug, seed, &mut stop)?,
        None => Search::new(order.bound, order.bug)?.run(order.limits, &mut stop)?,
    };
    if let Some(found) = &report.counterexample {
        save(&order, found)?;
    }
    println!("{}", tell(&order, &report));
    Ok(if report.counterexample.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn parse(arguments: &[String]) -> Result<Order, String> {
    let mut order = Order {
        bound: BOUNDS[0],
        bug: Bug::None,
        limits: Limits { unique_max: u64::MAX, threads: cores() },
        time_max: None,
        walk_seed: None,
        save: None,
        replay: None,
    };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{option} needs a value\n{USAGE}"))?;
        let number = || value.parse::<u64>().map_err(|why| format!("{option} {value}: {why}"));
        match option.as_str() {
            "--bound" => {
                order.bound = bound_named(value)?;
            }
            "--bug" => order.bug = Bug::named(value).ok_or_else(|| format!("no bug {value}"))?,
            "--term" => order.bound.term_max = number()?.min(15),
            "--log" => order.bound.log_max = usize::try_from(number()?.min(14)).unwrap_or(14),
            "--budgets" => order.bound = order.bound.with_budgets(budgets(value)?),
            "--seconds" => order.time_max = Some(Duration::from_secs(number()?)),
            "--states" => order.limits.unique_max = number()?,
            "--threads" => order.limits.threads = usize::try_from(number()?.max(1)).unwrap_or(1),
            "--walk" => order.walk_seed = Some(number()?),
            "--save" => order.save = Some(value.clone()),
            "--replay" => order.replay = Some(value.clone()),
            _ => return Err(format!("no option {option}\n{USAGE}")),
        }
    }
    Ok(order)
}

/// How many threads the machine can run at once; 1 where the system does not tell.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn bound_named(name: &str) -> Result<Bound, String> {
    if name.eq_ignore_ascii_case("D") {
        return Err("bound D is about changes of membership, which do not exist yet".to_owned());
    }
    Bound::named(name).ok_or_else(|| format!("no bound {name}\n{USAGE}"))
}

/// Writes a run that breaks a promise to where it was asked for, or to the directory that this runs in.
fn save(order: &Order, found: &Story) -> Result<(), String> {
    let name = format!("counterexample-{}-{}.txt", order.bound.name, order.bug);
    let file = order.save.as_ref().unwrap_or(&name);
    std::fs::write(file, &found.golden).map_err(|why| format!("{file}: {why}"))?;
    println!("the run is saved as a golden script: {file}");
    Ok(())
}

/// Nine numbers with commas between.
fn budgets(text: &str) -> Result<[u8; 9], String> {
    let numbers: Result<Vec<u8>, _> = text.split(',').map(str::parse).collect();
    let numbers = numbers.map_err(|why| format!("--budgets {text}: {why}"))?;
    if let Some(over) = numbers.iter().find(|number| **number > SPEND_MAX) {
        return Err(format!("--budgets {text}: {over} is more than {SPEND_MAX}"));
    }
    numbers.try_into().map_err(|_| format!("--budgets {text}: not nine numbers"))
}

/// The report for people, and the last line for programs.
fn tell(order: &Order, report: &Report) -> String {
    let mut text = String::new();
    let unique = report.unique.max(1);
    let whole = if report.complete { "all of it" } else { "not all of it" };
    let [members, messages, steps] = report.parts;
    let _ = writeln!(text, "bound {} to {:?}: {whole}", order.bound.name, order.bug);
    let _ = writeln!(
        text,
        "{members} different members, {messages} messages, {steps} steps of one member; frontier at most {} MiB; \
         resident at most {} MiB",
        report.frontier_bytes_max >> 20,
        resident_max_mib()
    );
    if let Some(found) = &report.counterexample {
        let _ = writeln!(text, "\n{}\n\n{}", found.what, found.chart);
    }
    let tenths = report.seen_bytes * 10 / unique;
    let _ = write!(
        text,
        "unique={} generated={} depth={} cpu_s={:.1} bytes_per_state={}.{} violations={}",
        report.unique,
        report.generated,
        report.depth,
        cpu_seconds(),
        tenths / 10,
        tenths % 10,
        u8::from(report.counterexample.is_some())
    );
    text
}

fn replay_text(order: &Order, text: &str) -> Result<ExitCode, String> {
    let again = replay(order.bound, order.bug, text)?;
    println!("{}\n\n{}", again.run.what, again.run.chart);
    Ok(if again.is_convicted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Processor time of this process so far, in seconds; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    f64::from(ticks) / 100.0
}

/// The most memory that this process ever held, in MiB; 0 where the system does not tell.
fn resident_max_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}
