//! Real members, real clients, real faults.
//!
//! Three or five servers run on loopback, each pair of them with a proxy between ([`proxy`]). Clients do what clients do ([`work`])
//! and write down what they see ([`history`]). Meanwhile members are killed and paused, links cut, slowed and damaged, disks filled, bits
//! turned and clocks moved ([`nemesis`]). In the end all is mended, and the judges of `quorate-check` say whether every promise
//! was kept ([`judge`]).
//!
//! One seed decides the order of faults and what clients draw; what the machine does in between is its own.
//!
//! Left out: members that come and go, compaction, TLS, networks that are not loopback.

mod cluster;
mod convert;
mod conviction;
mod dice;
mod disk;
mod ending;
mod faults;
mod history;
mod judge;
mod links;
mod member;
mod nemesis;
mod options;
mod proxy;
mod session;
mod work;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cluster::Cluster,
    dice::Dice,
    history::{Clock, Counts, History},
    judge::judge,
    nemesis::{Nemesis, Tally},
    options::{Options, USAGE},
    session::{Session, World},
};

/// How often the accounts of the bank may be opened: the first leader may be gone again.
const OPENINGS_MAX: u32 = 20;

/// How long the load goes on before the first fault.
const WARM_UP: Duration = Duration::from_millis(2500);

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("quake: {error:#}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let ended = tokio::select! {
        ended = run(&options) => ended,
        stopped = interrupted() => stopped,
    };
    match ended {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("quake: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn interrupted() -> Result<usize> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminated.recv() => {}
    }
    bail!("interrupted")
}

/// How many promises were broken.
async fn run(options: &Options) -> Result<usize> {
    match options.breaks {
        Some(promise) => conviction::convict(options, promise).await,
        None => Ok(shake(options).await?.len()),
    }
}

/// One run; the promises that were broken.
async fn shake(options: &Options) -> Result<Vec<String>> {
    println!("seed {}, {} members", options.seed, options.members);
    let mut dice = Dice::new(options.seed);
    let mut cluster = Cluster::start(options).await?;
    let at_the_start = cluster.held();
    let world = Arc::new(World {
        endpoints: cluster.endpoints(),
        clock: Clock::start(),
        counts: Counts::default(),
        over: AtomicBool::new(false),
        quiet: AtomicBool::new(false),
    });
    let mut first = Session::new(0, 0, dice.split(), Arc::clone(&world)).await?;
    open_accounts(&mut first).await?;
    let mut history = std::mem::take(&mut first.history);
    let mut clients = work::begin(&world, &mut dice).await?;
    let (tally, probed) = strike(&mut cluster, options, &world, dice.split()).await?;
    history.absorb(probed);
    world.over.store(true, Relaxed);
    while let Some(seen) = clients.join_next().await {
        history.absorb(seen.context("a client failed")?);
    }
    let ending = ending::gather(&cluster, &mut first, &mut history).await;
    history.absorb(std::mem::take(&mut first.history));
    drop(first);
    if options.breaks.is_none() {
        history.complaints.extend(ending::given_back(&cluster, &at_the_start).await);
    }
    history.complaints.extend(tally.complaints.iter().cloned());
    history.complaints.extend(ending::failures(&mut cluster));
    let began = Instant::now();
    let breaches = judge(history, ending, &options.report)?;
    println!("judged in {} ms", began.elapsed().as_millis());
    if !breaches.is_empty() {
        ending::keep_logs(&cluster, &options.report)?;
    }
    tell(&world, &tally, breaches.len());
    cluster.end().await;
    Ok(breaches)
}

async fn open_accounts(session: &mut Session) -> Result<()> {
    for _ in 0..OPENINGS_MAX {
        if work::open_accounts(session).await.is_ok() {
            return Ok(());
        }
    }
    work::open_accounts(session).await
}

/// Breaks and mends until there was enough of everything.
async fn strike(
    cluster: &mut Cluster,
    options: &Options,
    world: &Arc<World>,
    dice: Dice,
) -> Result<(Tally, History)> {
    let mut nemesis = Nemesis::new(cluster, options, world, dice).await?;
    tokio::time::sleep(WARM_UP).await;
    let began = Instant::now();
    loop {
        let (sent, faults) = (world.counts.sent.load(Relaxed), nemesis.tally.faults);
        if began.elapsed() >= options.duration && sent >= options.ops && faults >= options.faults {
            break;
        }
        if began.elapsed() >= 3 * options.duration {
            let what = format!("only {sent} requests and {faults} faults in {:?}", began.elapsed());
            nemesis.tally.complaints.push(what);
            break;
        }
        nemesis.strike().await?;
        if options.breaks.is_some() && !nemesis.tally.complaints.is_empty() {
            break;
        }
    }
    Ok(nemesis.into_history())
}

fn tell(world: &World, tally: &Tally, violations: usize) {
    let counts = &world.counts;
    println!(
        "events={} slowest_first_write_ms={}",
        counts.events.load(Relaxed),
        tally.slowest_first.as_millis()
    );
    println!(
        "ops={} acked={} unknown={} faults={} kinds={} slowest_resume_ms={} violations={violations}",
        counts.sent.load(Relaxed),
        counts.answered.load(Relaxed),
        counts.unknown.load(Relaxed),
        tally.faults,
        tally.kinds.len(),
        tally.slowest_all.as_millis()
    );
}
