//! Runs that were saved as golden scripts: each line names an action, and so means the same whatever else has become possible
//! beside it. Every step is judged as it is in a search.

use super::bound::{Bound, Bug};
use super::chart::{NOTHING_BROKEN, Run};
use super::golden;
use super::search::Story;
use super::universe::Universe;

/// What became of a run that was done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Whether it breaks a promise; if so, it ends there.
    pub is_convicted: bool,
    /// The run, as far as it went.
    pub run: Story,
}

/// Does again what a golden script says, and tells which promise it breaks, if any.
///
/// # Errors
/// It does not begin with the bound's prelude, or a line names something that is not possible there, or that changes nothing.
pub fn replay(bound: Bound, bug: Bug, script: &str) -> Result<Replay, String> {
    let mut universe = Universe::new(bound, bug);
    let mut run = Run::begin(&mut universe)?;
    let commands = golden::commands(script);
    let (prelude, rest) = commands.split_at(bound.prelude.len().min(commands.len()));
    if prelude != bound.prelude {
        return Err(format!("it does not begin as all runs of bound {}", bound.name));
    }
    for (line, number) in rest.iter().zip(1..) {
        let action = golden::action(line, &run.world, &universe);
        let action = action.map_err(|why| format!("step {number} of the exploration: {why}"))?;
        match run.take(action, &mut universe)? {
            None => {
                return Err(format!("step {number} of the exploration: changes nothing: {line}"));
            }
            Some(Ok(())) => {}
            Some(Err(what)) => {
                return Ok(Replay { is_convicted: true, run: run.end(what, &universe)? });
            }
        }
    }
    let run = run.end(NOTHING_BROKEN.to_owned(), &universe)?;
    Ok(Replay { is_convicted: false, run })
}
