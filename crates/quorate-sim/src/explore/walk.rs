//! Random walks: far fewer worlds than a search, but as deep as one likes. Each starts anew and does one possible thing after
//! another, until nothing is possible or it is long enough.

use super::bound::{Bound, Bug};
use super::chart;
use super::search::{Report, Story};
use super::universe::Universe;
use super::world::{Action, Fate, World};
use crate::Dice;

/// The most steps of one walk.
const STEPS_MAX: u64 = 400;
/// How many different members and messages may be remembered before everything is forgotten.
const PARTS_MAX: usize = 400_000;

/// Walks until a promise is broken or `stop` says so.
///
/// # Errors
/// What the explorer itself can't handle.
pub fn walk(
    bound: Bound,
    bug: Bug,
    seed: u64,
    stop: &mut dyn FnMut(&Report) -> bool,
) -> Result<Report, String> {
    let mut universe = Universe::new(bound, bug);
    let mut report = Report::default();
    let mut dice = Dice::new(seed);
    while report.counterexample.is_none() && !stop(&report) {
        if universe.counts().iter().sum::<usize>() > PARTS_MAX {
            universe = Universe::new(bound, bug);
        }
        let mut path = Vec::new();
        if let Some(what) = one(&mut universe, &mut dice, &mut path, &mut report)? {
            report.counterexample = Some(chart::by_numbers(what, &path, &mut universe)?);
        }
    }
    report.parts = universe.counts();
    Ok(report)
}

/// One walk, told from its start to its end.
///
/// # Errors
/// What the explorer itself can't handle.
pub fn stroll(bound: Bound, bug: Bug, seed: u64) -> Result<Story, String> {
    let mut universe = Universe::new(bound, bug);
    let (mut path, mut report) = (Vec::new(), Report::default());
    let what = one(&mut universe, &mut Dice::new(seed), &mut path, &mut report)?;
    let what = what.unwrap_or_else(|| chart::NOTHING_BROKEN.to_owned());
    chart::by_numbers(what, &path, &mut universe)
}

/// One walk; says which promise was broken.
fn one(
    universe: &mut Universe,
    dice: &mut Dice,
    path: &mut Vec<u8>,
    report: &mut Report,
) -> Result<Option<String>, String> {
    let mut world = World::first(universe)?;
    let (mut next, mut actions) = (World::default(), Vec::new());
    for depth in 1..=STEPS_MAX {
        world.actions(universe, &mut actions)?;
        let Some((number, place, fate)) = step(&world, universe, dice, &actions, &mut next) else {
            break;
        };
        path.push(number);
        report.generated += 1;
        report.depth = report.depth.max(depth);
        if let Err(what) = fate.and_then(|_| next.judge(place, universe)) {
            return Ok(Some(what));
        }
        std::mem::swap(&mut world, &mut next);
    }
    Ok(None)
}

/// Tries actions from a random one on, until one changes the world.
fn step(
    world: &World,
    universe: &mut Universe,
    dice: &mut Dice,
    actions: &[Action],
    next: &mut World,
) -> Option<(u8, usize, Result<Fate, String>)> {
    let start = dice.position(actions.len());
    let order = (start..actions.len()).chain(0..start);
    for (number, action) in order.filter_map(|number| Some((number, actions.get(number)?))) {
        let fate = world.act_alone(*action, universe, next);
        if !matches!(fate, Ok(Fate::Same | Fate::Outside)) {
            return Some((u8::try_from(number).unwrap_or(u8::MAX), action.place, fate));
        }
    }
    None
}
