//! A run for people: one line for each action, and the same as a chart with a lifeline for each member.

use std::fmt::Write as _;

use super::MEMBERS;
use super::golden;
use super::member::Member;
use super::parcel;
use super::search::Story;
use super::universe::{Act, Universe};
use super::world::{Action, Fate, World};

/// Columns from one lifeline to the next.
const PITCH: usize = 34;
/// Columns in front of the first lifeline.
const MARGIN: usize = 4;

/// What an action is called.
fn name(action: Action, universe: &Universe) -> Result<String, String> {
    let node = action.place + 1;
    Ok(match action.act {
        Act::Deliver { parcel, silent } => {
            let parcel = &universe.parcel(parcel)?.0;
            let copy = if action.taken.is_none() { " again" } else { "" };
            let silent = if silent { " (leader silent)" } else { "" };
            format!(
                "{} > {}: {}{silent}{copy}",
                parcel.from,
                parcel.to,
                parcel::label(&parcel.message)
            )
        }
        Act::Unreachable(to) => format!("{node}: messages to {to} are lost"),
        Act::Fire(timer) => format!("{node}: {timer:?} is due"),
        Act::Propose => format!("{node}: propose"),
        Act::Read(context) => format!("{node}: read {context}"),
        Act::Synced => format!("{node}: write done"),
        Act::Crash(kept) => format!("{node}: crash, {kept} unfinished writes kept"),
        Act::Compact => format!("{node}: drop the head of the log"),
        Act::Sent { to, failed } => {
            format!("{node}: snapshot to {to} {}", if failed { "failed" } else { "sent" })
        }
    })
}

/// What is said of a run that breaks none.
pub(super) const NOTHING_BROKEN: &str = "no promise is broken";

/// The run that these actions are, each the number of one in its world's list.
///
/// # Errors
/// An action is not possible where it stands.
pub(super) fn by_numbers(
    what: String,
    path: &[u8],
    universe: &mut Universe,
) -> Result<Story, String> {
    let mut run = Run::begin(universe)?;
    for number in path {
        let action = run.possible(universe)?.get(usize::from(*number)).copied();
        let action = action.ok_or_else(|| format!("there is no action {number}"))?;
        run.take(action, universe)?;
    }
    run.end(what, universe)
}

/// A run being told.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) world: World,
    script: Vec<String>,
    chart: String,
    /// The member that broke a rule in the last step, and its place.
    broken: Option<(usize, Member)>,
}

impl Run {
    /// Where the exploration begins, with what came before.
    pub(super) fn begin(universe: &mut Universe) -> Result<Self, String> {
        let mut run = Self::fresh(universe)?;
        for command in universe.bound.prelude {
            let action = golden::action(command, &run.world, universe)?;
            run.take(action, universe)?;
        }
        // What comes before the exploration spends nothing.
        run.world.budgets = universe.bound.budgets();
        Ok(run)
    }

    /// Where nothing has happened yet.
    fn fresh(universe: &mut Universe) -> Result<Self, String> {
        let mut chart = " ".repeat(MARGIN);
        for node in 1..=MEMBERS {
            let _ = write!(chart, "{node:<PITCH$}");
        }
        let chart = chart.trim_end().to_owned() + "\n";
        Ok(Self { world: World::fresh(universe)?, script: Vec::new(), chart, broken: None })
    }

    /// What can happen now.
    pub(super) fn possible(&self, universe: &Universe) -> Result<Vec<Action>, String> {
        let mut actions = Vec::new();
        self.world.actions(universe, &mut actions)?;
        Ok(actions)
    }

    /// Goes on by one action. Says which promise it breaks, if any; the run is over then. `None`: nothing happened.
    pub(super) fn take(
        &mut self,
        action: Action,
        universe: &mut Universe,
    ) -> Result<Option<Result<(), String>>, String> {
        let name = name(action, universe)?;
        let mut next = World::default();
        let verdict = self.world.act_alone(action, universe, &mut next);
        let known = matches!(verdict, Ok(Fate::Next));
        match &verdict {
            Ok(Fate::Next) | Err(_) => {}
            Ok(Fate::Same | Fate::Outside) => return Ok(None),
        }
        let verdict = verdict.and_then(|_| next.judge(action.place, universe));
        let after = if known {
            let member = next.members.get(action.place).copied().unwrap_or_default();
            universe.local(member)?.member.summary()
        } else {
            self.break_down(action, universe)?
        };
        self.draw(action, &name, &after, universe)?;
        self.script.push(golden::command(action, universe)?);
        if known {
            self.world = next;
        }
        Ok(Some(verdict))
    }

    /// The last step breaks a rule: says how the member stands then.
    fn break_down(&mut self, action: Action, universe: &Universe) -> Result<String, String> {
        let before = self.world.members.get(action.place).copied().unwrap_or_default();
        let member = universe.advance(before, action.act)?;
        let after = member.as_ref().map_or_else(|| "broken".to_owned(), Member::summary);
        self.broken = member.map(|member| (action.place, member));
        Ok(after)
    }

    /// The whole run, and what it shows.
    pub(super) fn end(self, what: String, universe: &Universe) -> Result<Story, String> {
        let [one, two, three] = self.world.members;
        let mut members = [
            &universe.local(one)?.member,
            &universe.local(two)?.member,
            &universe.local(three)?.member,
        ];
        if let Some((place, member)) = &self.broken
            && let Some(slot) = members.get_mut(*place)
        {
            *slot = member;
        }
        let with = (universe.bound, universe.bug);
        let golden = golden::script(&what, with, &self.script, &members);
        Ok(Story { what, script: self.script, chart: self.chart, golden })
    }

    fn draw(
        &mut self,
        action: Action,
        name: &str,
        after: &str,
        universe: &Universe,
    ) -> Result<(), String> {
        let mut line: Vec<char> = vec![' '; MARGIN + PITCH * MEMBERS];
        let stand = |place: usize| MARGIN + PITCH * place;
        for place in 0..MEMBERS {
            put(&mut line, stand(place), "|");
        }
        let label = name.split_once(": ").map_or(name, |(_, label)| label);
        if let Act::Deliver { parcel, .. } = action.act {
            let from = usize::try_from(universe.parcel(parcel)?.0.from.0 - 1).unwrap_or(0);
            let (left, right) = (stand(from.min(action.place)), stand(from.max(action.place)));
            put(&mut line, left + 1, &"-".repeat(right - left - 1));
            let head = if from < action.place { (right - 1, ">") } else { (left + 1, "<") };
            put(&mut line, left + 3, &format!(" {label} "));
            put(&mut line, head.0, head.1);
        } else {
            put(&mut line, stand(action.place), &format!("* {label} "));
        }
        let line: String = line.into_iter().collect();
        let _ = writeln!(self.chart, "{line}  {}: {after}", action.place + 1);
        Ok(())
    }
}

/// Writes text over what stands there; what does not fit is cut off.
fn put(line: &mut [char], at: usize, text: &str) {
    for (cell, letter) in line.iter_mut().skip(at).zip(text.chars()) {
        *cell = letter;
    }
}
