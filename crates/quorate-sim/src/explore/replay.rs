//! Runs that were saved: each line names an action, and so means the same whatever else has become possible beside it.

use super::bound::{Bound, Bug};
use super::chart::{self, Run};
use super::search::Counterexample;
use super::universe::Universe;

/// Does again what a script says, and tells which promise it breaks, if any.
///
/// # Errors
/// A line names something that is not possible there.
pub fn replay(bound: Bound, bug: Bug, script: &[String]) -> Result<Option<Counterexample>, String> {
    let mut universe = Universe::new(bound, bug);
    let mut run = Run::begin(&mut universe)?;
    for (line, number) in script.iter().zip(1..) {
        let mut chosen = None;
        for action in run.possible(&universe)? {
            if chart::name(action, &universe)? == *line {
                chosen = Some(action);
            }
        }
        let action = chosen.ok_or_else(|| format!("line {number}: not possible: {line}"))?;
        match run.take(action, &mut universe)? {
            None => return Err(format!("line {number}: changes nothing: {line}")),
            Some(Ok(())) => {}
            Some(Err(what)) => return Ok(Some(run.end(what))),
        }
    }
    Ok(None)
}
