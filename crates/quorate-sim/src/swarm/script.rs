//! A short story that can be told again: who takes part, and the calls that are made to their world, one a line.
//!
//! ```text
//! quorate-sim script 1
//! voters 3
//! learners 0
//! mutant 6
//! announce 0
//! prompt 1 2 3
//! 1 0 start 8234 | 1 Follower term=0 ...
//! 1 1203000000 wake
//! 2 1203000000 deliver 1 RequestVote 1 93ab01
//! ```
//!
//! A line of a call says whose it is, what that member's own clock shows (nanoseconds), the call, and its arguments. `deliver` names the
//! sender, the kind of the message, its term and a hash of its content: of the messages that this sender has sent, the one that is most
//! like it. What stands behind `|` or `#` is for people. The disks of the members after `prompt` make every write durable at once.
//! After `spare` stand those whose disks the [atlas](crate::world::Atlas) lets be ruined, unless it is off (`atlas off`). Limits that are not the defaults follow `limits`.

use std::fmt::Write as _;

use quorate_raft::{Config, EntryId, Index, Mono, Term};

use super::plan::{MEMBERS_MAX, Plan};
use super::tape::{Act, Mark, Taped};
use super::words::{self, KIND_NAMES};
use crate::world::{Part, World, id_of};

/// The first line.
pub(crate) const HEAD: &str = "quorate-sim script 1";

/// Who takes part, and what they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// How many voters.
    pub(crate) voters: usize,
    /// How many learners.
    pub(crate) learners: usize,
    /// A bug that is switched on.
    pub(crate) mutant: u16,
    /// Whether snapshots are announced.
    pub(crate) announce: bool,
    /// Whose disks are at once done with every write. Bits, by seat.
    pub(crate) prompt: u8,
    /// Whose disks the atlas lets be ruined. Bits, by seat.
    pub(crate) spare: u8,
    /// Whether the atlas lets everything happen.
    pub(crate) atlas_off: bool,
    /// Every member's settings but the id.
    pub(crate) config: Config,
    /// The calls.
    pub(crate) tape: Vec<Taped>,
}

impl Script {
    /// What happened in a run of a plan.
    pub(crate) fn of(plan: &Plan, tape: Vec<Taped>) -> Self {
        Self {
            voters: plan.voters,
            learners: plan.learners,
            mutant: plan.mutant,
            announce: plan.announce,
            prompt: 0,
            spare: plan.spare(),
            atlas_off: plan.atlas_off,
            config: plan.config.clone(),
            tape,
        }
    }

    /// How many members there are.
    pub(crate) fn members(&self) -> usize {
        self.voters + self.learners
    }

    /// The world that it begins with: nobody runs.
    pub(crate) fn world(&self) -> World {
        let mut world = World::new(&self.config, self.voters, self.learners);
        world.announce = self.announce;
        (world.atlas.spare, world.atlas.off) = (self.spare, self.atlas_off);
        world.members.iter_mut().for_each(|member| member.bug = self.mutant);
        world
    }

    /// Everything in front of the calls.
    pub(crate) fn head(&self) -> String {
        let Self { voters, learners, mutant, announce, .. } = self;
        let announce = u8::from(*announce);
        let mut head = format!(
            "{HEAD}\nvoters {voters}\nlearners {learners}\nmutant {mutant}\nannounce {announce}\n"
        );
        for (name, set) in [("prompt", self.prompt), ("spare", self.spare)] {
            let seats = (0..MEMBERS_MAX).filter(|seat| set >> seat & 1 == 1);
            let ids: Vec<String> = seats.map(|seat| id_of(seat).to_string()).collect();
            if set != 0 {
                let _ = writeln!(head, "{name} {}", ids.join(" "));
            }
        }
        if self.atlas_off {
            head.push_str("atlas off\n");
        }
        let limits = limits(&self.config);
        if limits != limits_of_default() {
            let _ = writeln!(head, "limits {}", limits.map(|limit| limit.to_string()).join(" "));
        }
        head
    }

    /// Reads what [`head`](Self::head) and [`line`] wrote.
    ///
    /// # Errors
    /// Which line is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self {
            voters: 3,
            learners: 0,
            mutant: 0,
            announce: false,
            prompt: 0,
            spare: 0,
            atlas_off: false,
            config: Config::default(),
            tape: Vec::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let told = line.split(['#', '|']).next().unwrap_or_default();
            if number == 0 && told.trim() != HEAD {
                return Err(format!("line 1 is not {HEAD:?}"));
            }
            let words: Vec<&str> = told.split_whitespace().collect();
            if number > 0 && !words.is_empty() {
                let read = script.read(&words);
                read.map_err(|why| format!("line {}: {why}: {line}", number + 1))?;
            }
        }
        let size = script.voters.checked_add(script.learners);
        if script.voters == 0 || size.is_none_or(|size| size > MEMBERS_MAX) {
            return Err(format!("a group has 1 to {MEMBERS_MAX} members"));
        }
        script.config.arm(script.mutant);
        Ok(script)
    }

    fn read(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["voters", count] => self.voters = number(count)?,
            ["learners", count] => self.learners = number(count)?,
            ["mutant", bug] => self.mutant = number(bug)?,
            ["announce", yes] => self.announce = number::<u8>(yes)? != 0,
            ["prompt", ids @ ..] => self.prompt = seats(ids)?,
            ["spare", ids @ ..] => self.spare = seats(ids)?,
            ["atlas", "off"] => self.atlas_off = true,
            ["limits", numbers @ ..] => set_limits(&mut self.config, numbers)?,
            [who, now, verb, rest @ ..] => {
                let (seat, now) = (seat(who)?, Mono(number(now)?));
                self.tape.push(Taped { seat, now, act: decode(verb, rest)? });
            }
            _ => return Err("not understood".to_owned()),
        }
        Ok(())
    }
}

/// A bug of the core, where it can be switched on.
pub(crate) trait Arm {
    /// Switches it on.
    fn arm(&mut self, mutant: u16);
}

impl Arm for Config {
    #[cfg(feature = "mutants")]
    fn arm(&mut self, mutant: u16) {
        self.mutant = mutant;
    }

    #[cfg(not(feature = "mutants"))]
    fn arm(&mut self, _: u16) {}
}

fn limits_of_default() -> [u64; 7] {
    limits(&Config::default())
}

fn limits(config: &Config) -> [u64; 7] {
    [
        config.append_bytes_max,
        config.append_entries_max,
        config.inflight_appends_max as u64,
        config.inflight_bytes_max,
        config.uncommitted_bytes_max,
        config.uncommitted_entries_max,
        config.reads_max as u64,
    ]
}

fn set_limits(config: &mut Config, numbers: &[&str]) -> Result<(), String> {
    let [bytes, entries, appends, inflight, uncommitted, waiting, reads] = numbers else {
        return Err("seven limits are wanted".to_owned());
    };
    config.append_bytes_max = number(bytes)?;
    config.append_entries_max = number(entries)?;
    config.inflight_appends_max = number(appends)?;
    config.inflight_bytes_max = number(inflight)?;
    config.uncommitted_bytes_max = number(uncommitted)?;
    config.uncommitted_entries_max = number(waiting)?;
    config.reads_max = number(reads)?;
    Ok(())
}

/// A call as a line.
pub(crate) fn line(taped: &Taped) -> String {
    format!("{} {} {}", id_of(taped.seat), taped.now.0, encode(&taped.act))
}

fn encode(act: &Act) -> String {
    match act {
        Act::Start { random } => format!("start {random}"),
        Act::Crash { kept } => format!("crash {kept}"),
        Act::Doom { units } => format!("doom {units}"),
        Act::Wake => "wake".to_owned(),
        Act::Sync { count } => format!("sync {count}"),
        Act::Deliver { from, mark } => {
            let Mark { kind, term, digest } = mark;
            format!("deliver {} {} {term} {digest:x}", id_of(*from), words::kind(*kind))
        }
        Act::Propose { count } => format!("propose {count}"),
        Act::Read { context } => format!("read {context}"),
        Act::Compact { kept } => format!("compact {kept}"),
        Act::SyncFailed => "sync-failed".to_owned(),
        Act::DiskFault { which } => format!("disk-fault {which}"),
        Act::Repaired => "repaired".to_owned(),
        Act::Unreachable { peer } => format!("unreachable {}", id_of(*peer)),
        Act::SnapshotSent { to, last: Some(last) } => {
            format!("snapshot-sent {} {} {}", id_of(*to), last.term, last.index)
        }
        Act::SnapshotSent { to, last: None } => format!("snapshot-failed {}", id_of(*to)),
        Act::Transfer { to } => format!("transfer {}", id_of(*to)),
        Act::Kill => "kill".to_owned(),
        Act::Lie => "lie".to_owned(),
        Act::OwnUp => "own-up".to_owned(),
        Act::Damage { part: Part::Record } => "damage record".to_owned(),
        Act::Damage { part: Part::Snapshot } => "damage snapshot".to_owned(),
        Act::Damage { part: Part::HardState } => "damage hard-state".to_owned(),
        Act::Wipe => "wipe".to_owned(),
        Act::Full => "full".to_owned(),
        Act::Room => "room".to_owned(),
    }
}

fn decode(verb: &str, rest: &[&str]) -> Result<Act, String> {
    Ok(match (verb, rest) {
        ("start", [random]) => Act::Start { random: number(random)? },
        ("crash", [kept]) => Act::Crash { kept: number(kept)? },
        ("doom", [units]) => Act::Doom { units: number(units)? },
        ("wake", []) => Act::Wake,
        ("sync", [count]) => Act::Sync { count: number(count)? },
        ("deliver", [from, kind, term, digest]) => {
            let kind = KIND_NAMES.iter().position(|name| name == kind);
            let kind = kind.ok_or("no such kind of message")?;
            let digest = u64::from_str_radix(digest, 16).map_err(|why| why.to_string())?;
            Act::Deliver { from: seat(from)?, mark: Mark { kind, term: number(term)?, digest } }
        }
        ("propose", [count]) => Act::Propose { count: number(count)? },
        ("read", [context]) => Act::Read { context: number(context)? },
        ("compact", [kept]) => Act::Compact { kept: number(kept)? },
        ("sync-failed", []) => Act::SyncFailed,
        ("disk-fault", [which]) => Act::DiskFault { which: number(which)? },
        ("repaired", []) => Act::Repaired,
        ("unreachable", [peer]) => Act::Unreachable { peer: seat(peer)? },
        ("snapshot-sent", [to, term, index]) => {
            let last = EntryId { term: Term(number(term)?), index: Index(number(index)?) };
            Act::SnapshotSent { to: seat(to)?, last: Some(last) }
        }
        ("snapshot-failed", [to]) => Act::SnapshotSent { to: seat(to)?, last: None },
        ("transfer", [to]) => Act::Transfer { to: seat(to)? },
        ("kill", []) => Act::Kill,
        ("lie", []) => Act::Lie,
        ("own-up", []) => Act::OwnUp,
        ("damage", ["record"]) => Act::Damage { part: Part::Record },
        ("damage", ["snapshot"]) => Act::Damage { part: Part::Snapshot },
        ("damage", ["hard-state"]) => Act::Damage { part: Part::HardState },
        ("wipe", []) => Act::Wipe,
        ("full", []) => Act::Full,
        ("room", []) => Act::Room,
        _ => return Err("no such call".to_owned()),
    })
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is not a number that fits"))
}

fn seats(ids: &[&str]) -> Result<u8, String> {
    ids.iter().try_fold(0, |set, id| Ok(set | 1 << seat(id)?))
}

fn seat(id: &str) -> Result<usize, String> {
    let id: usize = number(id)?;
    let seat = id.checked_sub(1).filter(|seat| *seat < MEMBERS_MAX);
    seat.ok_or_else(|| format!("no member has the id {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_act() -> Vec<Act> {
        let last = EntryId { term: Term(3), index: Index(9) };
        let mark = Mark { kind: 2, term: 4, digest: 0xabc };
        vec![
            Act::Start { random: u64::MAX },
            Act::Crash { kept: 2 },
            Act::Doom { units: 3 },
            Act::Wake,
            Act::Sync { count: 5 },
            Act::Deliver { from: 1, mark },
            Act::Propose { count: 2 },
            Act::Read { context: 77 },
            Act::Compact { kept: 1 },
            Act::SyncFailed,
            Act::DiskFault { which: 2 },
            Act::Repaired,
            Act::Unreachable { peer: 0 },
            Act::SnapshotSent { to: 1, last: Some(last) },
            Act::SnapshotSent { to: 1, last: None },
            Act::Transfer { to: 2 },
            Act::Kill,
            Act::Lie,
            Act::OwnUp,
            Act::Damage { part: Part::Record },
            Act::Damage { part: Part::Snapshot },
            Act::Damage { part: Part::HardState },
            Act::Wipe,
            Act::Full,
            Act::Room,
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let taped = |(at, act)| Taped { seat: at % 3, now: Mono(at as u64), act };
        let mut config = Config { append_bytes_max: 77, ..Config::default() };
        config.arm(100);
        let script = Script {
            voters: 3,
            learners: 1,
            mutant: 100,
            announce: true,
            prompt: 0b101,
            spare: 0b100,
            atlas_off: true,
            config,
            tape: every_act().into_iter().enumerate().map(taped).collect(),
        };
        let lines: Vec<String> = script.tape.iter().map(|taped| line(taped) + " | # so").collect();
        assert_eq!(Script::parse(&(script.head() + &lines.join("\n"))), Ok(script));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_line() {
        let refused = |text: &str| Script::parse(text).unwrap_err();
        assert!(refused("something else").contains("line 1"));
        for line in ["1 2 fly", "0 2 wake", "9 2 wake", "1 x wake", "voters many", "limits 1 2"] {
            assert!(refused(&format!("{HEAD}\n\n{line}")).contains("line 3"), "{line}");
        }
        assert!(refused(&format!("{HEAD}\nvoters 0")).contains("members"));
    }
}
