//! `cargo xtask mutate`: plants small faults in product code, one at a time, and runs the tests of the crate. A fault that no test
//! notices is a survivor: a line that nobody judges, or one that does not matter.
//!
//! Everything happens in a copy of the repository (`target/mutate`), with a build directory of its own. What is planted is decided by
//! the seed. A fault that does not compile is no fault; another one is drawn.
//!
//! Source of the idea: "Hints on test data selection: help for the practicing programmer", IEEE Computer, 1978.

mod faults;
mod tree;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use self::{
    faults::{Fault, in_source},
    tree::{Tree, Verdict},
};
use crate::source;

/// Where faults are planted when nobody says where: what must not lose data.
const PACKAGES: [&str; 5] =
    ["quorate-raft", "quorate-node", "quorate-kv", "quorate-storage", "quorate-net"];
/// How many are planted when nobody says how many.
const SAMPLE: usize = 20;
/// For one that is planted, so many may be drawn that do not compile.
const DRAWS_PER_FAULT: usize = 10;

/// What is asked for.
#[derive(Debug)]
struct Order {
    sample: usize,
    seed: u64,
    packages: Vec<String>,
}

/// The task: `--sample N --seed S --package NAME` (more than once).
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let order = order(arguments)?;
    let mut faults = Vec::new();
    for source in source::all()? {
        if order.packages.iter().any(|package| source.package() == Some(package)) {
            faults.extend(in_source(&source));
        }
    }
    println!("{} faults in {}", faults.len(), order.packages.join(", "));
    let tree = Tree::copy()?;
    for package in &order.packages {
        if tree.test(package)? != Verdict::Unnoticed {
            bail!("the tests of {package} fail as it is");
        }
    }
    let verdicts = plant_all(&tree, shuffled(faults, order.seed), order.sample)?;
    report(&verdicts);
    Ok(())
}

fn order(arguments: &[String]) -> Result<Order> {
    let mut order = Order { sample: SAMPLE, seed: 0, packages: Vec::new() };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { bail!("{pair:?}: a name and a value, please") };
        match name.as_str() {
            "--sample" => order.sample = value.parse().context("--sample")?,
            "--seed" => order.seed = value.parse().context("--seed")?,
            "--package" => order.packages.push(value.clone()),
            _ => bail!("{name} is unknown: --sample N --seed S --package NAME"),
        }
    }
    if order.packages.is_empty() {
        order.packages = PACKAGES.map(str::to_owned).to_vec();
    }
    Ok(order)
}

fn plant_all(tree: &Tree, faults: Vec<Fault>, sample: usize) -> Result<Vec<(Fault, Verdict)>> {
    let mut verdicts = Vec::new();
    for fault in faults.into_iter().take(sample.saturating_mul(DRAWS_PER_FAULT)) {
        if verdicts.len() == sample {
            break;
        }
        let verdict = tree.plant(&fault)?;
        println!("{verdict:?}: {fault}");
        if verdict != Verdict::NoFault {
            verdicts.push((fault, verdict));
        }
    }
    Ok(verdicts)
}

fn report(verdicts: &[(Fault, Verdict)]) {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (fault, verdict) in verdicts {
        let count = counts.entry(&fault.package).or_default();
        count.0 += 1;
        count.1 += usize::from(*verdict == Verdict::Unnoticed);
    }
    println!("\n| Crate | Planted | Survivors |\n|---|---|---|");
    for (package, (planted, unnoticed)) in counts {
        println!("| {package} | {planted} | {unnoticed} |");
    }
    for (fault, _) in verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Unnoticed) {
        println!("survivor: {fault}");
    }
}

/// In an order that the seed decides.
fn shuffled(mut faults: Vec<Fault>, seed: u64) -> Vec<Fault> {
    faults.sort_by_cached_key(|fault| mix(seed ^ mix(fault.fingerprint())));
    faults
}

/// One step of `SplitMix64`.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
