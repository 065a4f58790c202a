//! A recording, played again by the real core.
//!
//! Each segment's image becomes a core, which takes the recorded steps. After each one
//! - the bits of the digest that the recording keeps are held against those of what the core just gave out;
//! - the core's invariants are checked, those of one moment and those from one step to the next;
//! - the core's word to its driver is checked: tokens rise, commits come once and in order, and nobody speaks of a later term.
//!
//! Where the next segment goes on without a gap, its image and the replayed core must be the same, word for word.
//!
//! Once a step gave out something else than in the live run, what follows is the story of another core: it is told, and its
//! invariants are checked, but it is not compared again before the next image.

use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_raft::{
    Broken, Core, Effects, EntryId, EntryRange, Index, IoToken, Message, Mono, NodeId, Past,
    RecordError, RecordedEvent, Role, Term, Verdict,
};

use crate::words::{Digest, Words, Writer, unfold};
use crate::{FlightError, Recording, SegmentView};

/// How many violations are kept; more are only counted.
pub const VIOLATIONS_MAX: usize = 1_000;

/// Something that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// An invariant does not hold.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The core does not keep its contract with its driver.
    #[error("broken contract: {0}")]
    Contract(&'static str),
    /// The core panics.
    #[error("the core panics")]
    Panicked,
    /// The live run gave out something else in this step.
    #[error("the live run gave out something else in this step")]
    Diverged,
    /// The core that took the recorded steps is not the one that the image is of.
    #[error("the live run came to another state than these steps lead to")]
    ImageDiffers,
    /// The recording can't be played on from here.
    #[error(transparent)]
    Senseless(#[from] FlightError),
}

/// A problem, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The step's number; of an image, the number of the step before which it was taken.
    pub step: u64,
    /// When.
    pub now: Mono,
    /// What.
    pub problem: Problem,
}

/// What a member is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The part it plays.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it voted for.
    pub vote: Option<NodeId>,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// How far it knows the log to be committed.
    pub commit: Index,
    /// How far commits were given out.
    pub released: Index,
    /// Where its log begins.
    pub base: EntryId,
    /// Where its log ends.
    pub last: EntryId,
    /// How far its log is durable.
    pub durable: Index,
}

impl Standing {
    /// What this member is now.
    pub fn of(core: &Core) -> Self {
        let view = core.view();
        Self {
            role: view.role,
            term: view.term,
            vote: view.vote,
            leader: view.leader,
            commit: view.commit,
            released: view.released,
            base: view.base,
            last: view.last,
            durable: view.durable,
        }
    }
}

/// One step, taken again.
#[derive(Debug)]
pub struct Step<'a> {
    /// Its number: how many steps the core had taken before.
    pub number: u64,
    /// When.
    pub now: Mono,
    /// What the core was told.
    pub event: &'a RecordedEvent,
    /// What it was before.
    pub before: Standing,
    /// What it said; `None` if it panicked.
    pub verdict: Option<Verdict>,
    /// What it gave out.
    pub effects: &'a Effects,
    /// What it is now.
    pub core: &'a Core,
    /// It gave out something else in the live run, in this step or since the last image.
    pub diverged: bool,
}

/// What a replay shows, in order. Problems follow the image or the step that they are of.
#[derive(Debug)]
pub enum Scene<'a> {
    /// The core is put up from an image.
    Image {
        /// How many steps it had taken.
        step: u64,
        /// When.
        now: Mono,
        /// What it is.
        core: &'a Core,
        /// How many steps before it are missing, if any are.
        gap: u64,
    },
    /// The core takes a step.
    Step(Step<'a>),
    /// Something must not be.
    Violation(Violation),
}

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Steps taken.
    pub steps: u64,
    /// Images begun with.
    pub images: u64,
    /// How many violations there were.
    pub violation_count: u64,
    /// The first [`VIOLATIONS_MAX`] of them.
    pub violations: Vec<Violation>,
}

/// Plays a recording, as far as it is whole, and gives each scene to `show`. Damage of the file is not among the violations; it
/// stands in [`Recording::damage`].
pub fn replay(recording: &Recording<'_>, show: impl FnMut(&Scene<'_>)) -> Outcome {
    let outcome = Outcome::default();
    let mut player = Player { show, outcome, effects: Effects::default(), end: None };
    for segment in &recording.segments {
        player.play(segment);
    }
    player.outcome
}

struct Player<F> {
    show: F,
    outcome: Outcome,
    effects: Effects,
    /// The core as the last segment left it, unless it went astray; and how many steps it had taken.
    end: Option<(u64, Option<Core>)>,
}

/// A segment being played.
struct Take<'a> {
    core: Core,
    words: Words<'a>,
    offset: usize,
    number: u64,
    now: Mono,
    digest: Digest,
    diverged: bool,
    issued: Option<IoToken>,
}

impl Take<'_> {
    fn senseless(&self, source: RecordError) -> Problem {
        Problem::Senseless(FlightError::Senseless { offset: self.offset + self.words.at(), source })
    }
}

impl<F: FnMut(&Scene<'_>)> Player<F> {
    fn play(&mut self, segment: &SegmentView<'_>) {
        let before = self.end.take();
        let Some(mut take) = self.put_up(segment) else { return };
        self.compare_image(segment, before, &take);
        for _ in 0..segment.steps {
            if !self.step(&mut take, true) {
                return;
            }
        }
        if segment.unfinished {
            self.step(&mut take, false);
        } else if !take.words.is_empty() {
            let what = "a segment has more than its steps";
            let offset = take.offset + take.words.at();
            self.blame(&take, Problem::Senseless(FlightError::Damaged { offset, what }));
        }
        let core = (!take.diverged).then_some(take.core);
        self.end = Some((take.number, core));
    }

    fn put_up<'a>(&mut self, segment: &SegmentView<'a>) -> Option<Take<'a>> {
        let mut words = Words::new(segment.body);
        match Core::from_image(&mut words) {
            Ok(core) => Some(Take {
                core,
                words,
                offset: segment.offset,
                number: segment.first_step,
                now: segment.begun,
                digest: Digest::default(),
                diverged: false,
                issued: None,
            }),
            Err(source) => {
                let offset = segment.offset + words.at();
                let problem = if let RecordError::Broken(broken) = source {
                    Problem::Broken(broken)
                } else {
                    Problem::Senseless(FlightError::Senseless { offset, source })
                };
                let (step, now) = (segment.first_step, segment.begun);
                self.convict(Violation { step, now, problem });
                None
            }
        }
    }

    /// The state that the recorded steps lead to, and the one that the live run came to.
    fn compare_image(
        &mut self,
        segment: &SegmentView<'_>,
        before: Option<(u64, Option<Core>)>,
        take: &Take<'_>,
    ) {
        let (end, core) = before.unwrap_or((segment.first_step, None));
        self.outcome.images += 1;
        (self.show)(&Scene::Image {
            step: segment.first_step,
            now: segment.begun,
            core: &take.core,
            gap: segment.first_step.saturating_sub(end),
        });
        let Some(core) = core.filter(|_| end == segment.first_step) else { return };
        let mut image = Vec::new();
        core.image(&mut Writer(&mut image));
        if segment.body.get(..take.words.at()) != Some(image.as_slice()) {
            self.blame(take, Problem::ImageDiffers);
        }
    }

    /// Takes the next step. Says whether it goes on.
    fn step(&mut self, take: &mut Take<'_>, is_whole: bool) -> bool {
        let Some(difference) = take.words.next() else {
            self.blame(take, take.senseless(RecordError::Ended));
            return false;
        };
        take.now = Mono(take.now.0.wrapping_add(unfold(difference)));
        let event = match RecordedEvent::read(&mut take.words) {
            Ok(event) => event,
            Err(error) => {
                self.blame(take, take.senseless(error));
                return false;
            }
        };
        let recorded = if is_whole { take.words.pair() } else { None };
        if is_whole && recorded.is_none() {
            self.blame(take, take.senseless(RecordError::Ended));
            return false;
        }
        self.give(take, &event, recorded)
    }

    fn give(&mut self, take: &mut Take<'_>, event: &RecordedEvent, recorded: Option<u16>) -> bool {
        let (before, past) = (Standing::of(&take.core), Past::of(&take.core));
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            event.with(|event| take.core.step(take.now, event, &mut effects))
        }));
        let verdict = verdict.ok();
        let mut problems = Vec::new();
        match verdict {
            None => problems.push(Problem::Panicked),
            Some(verdict) => {
                take.core.digest(verdict, &effects, &mut take.digest);
                let differs = recorded.is_some_and(|recorded| recorded != take.digest.low());
                if differs && !take.diverged {
                    take.diverged = true;
                    problems.push(Problem::Diverged);
                }
                judge(take, &before, &past, &effects, &mut problems);
            }
        }
        let (number, now, core) = (take.number, take.now, &take.core);
        let diverged = take.diverged;
        let step = Step { number, now, event, before, verdict, effects: &effects, core, diverged };
        (self.show)(&Scene::Step(step));
        for problem in problems {
            self.blame(take, problem);
        }
        self.effects = effects;
        self.outcome.steps += 1;
        take.number += 1;
        verdict.is_some()
    }

    fn blame(&mut self, take: &Take<'_>, problem: Problem) {
        self.convict(Violation { step: take.number, now: take.now, problem });
    }

    fn convict(&mut self, violation: Violation) {
        (self.show)(&Scene::Violation(violation));
        self.outcome.violation_count += 1;
        if self.outcome.violations.len() < VIOLATIONS_MAX {
            self.outcome.violations.push(violation);
        }
    }
}

/// Everything that must hold after a step.
fn judge(
    take: &mut Take<'_>,
    before: &Standing,
    past: &Past,
    effects: &Effects,
    problems: &mut Vec<Problem>,
) {
    let core = &take.core;
    let broken = [core.check(), past.check(core)].into_iter().filter_map(Result::err);
    problems.extend(broken.map(Problem::Broken));
    let now = Standing::of(core);
    for io in &effects.io {
        if take.issued.is_some_and(|issued| io.token() <= issued) {
            problems.push(Problem::Contract("tokens rise"));
        }
        take.issued = Some(io.token());
    }
    if let Some(EntryRange { first, last }) = effects.commit {
        if first != before.released.next() || last != now.released {
            problems.push(Problem::Contract("commits are given out once and in order"));
        }
        if last > now.commit || last > now.durable {
            problems.push(Problem::Contract("what is given out is committed and durable"));
        }
    }
    let speaks_ahead = |send: &quorate_raft::Send| {
        let rehearsal = matches!(
            send.message,
            Message::RequestVote { pre_vote: true, .. } | Message::Vote { pre_vote: true, .. }
        );
        !rehearsal && send.message.term() > now.term
    };
    if effects.send.iter().any(speaks_ahead) {
        problems.push(Problem::Contract("nobody speaks of a later term than its own"));
    }
}
