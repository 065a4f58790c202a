//! A world: three members, what is on the network, the past, and what may still be spent. What can happen in it, and then.

use quorate_raft::{Message, NodeId, Timer};

use super::bound::{Spend, left, spent};
use super::frontier::{Batch, Reader};
use super::hash::{Prints, RENAMINGS, add, remove, world_print};
use super::member::Member;
use super::past::Past;
use super::universe::{Act, Halt, Id, Universe};
use super::{MEMBERS, golden, judge, parcel};

/// The most things that may be possible in one world: the number of one fits a byte.
const ACTIONS_MAX: usize = 255;

/// A world, as numbers of the universe's things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct World {
    pub(super) members: [Id; MEMBERS],
    pub(super) past: Id,
    pub(super) budgets: u64,
    /// In order, each once.
    network: Vec<Id>,
    /// The sum of the parts' fingerprints.
    sums: Prints,
}

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    /// The member that acts, from 0.
    pub(super) place: usize,
    pub(super) act: Act,
    /// The message that it takes off the network.
    pub(super) taken: Option<Id>,
    pub(super) spend: Option<Spend>,
}

/// What came of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing happened.
    Same,
    /// Something beyond the bound happened.
    Outside,
    /// There is a next world.
    Next,
}

impl World {
    /// Where the exploration begins.
    ///
    /// # Errors
    /// Says why the core refuses to start, or what of the bound's prelude is not possible.
    pub(super) fn first(universe: &mut Universe) -> Result<Self, String> {
        let (mut world, mut next) = (Self::fresh(universe)?, Self::default());
        for command in universe.bound.prelude {
            let action = golden::action(command, &world, universe)?;
            if world.act_alone(action, universe, &mut next)? != Fate::Next {
                return Err(format!("changes nothing: {command}"));
            }
            next.judge(action.place, universe)?;
            std::mem::swap(&mut world, &mut next);
        }
        world.budgets = universe.bound.budgets();
        Ok(world)
    }

    /// Where nothing has happened yet.
    ///
    /// # Errors
    /// Says why the core refuses to start.
    pub(super) fn fresh(universe: &mut Universe) -> Result<Self, String> {
        let mut world = Self { budgets: universe.bound.prelude_budgets(), ..Self::default() };
        for (member, node) in world.members.iter_mut().zip(1..) {
            *member = universe.member_id(Member::fresh(NodeId(node), universe.bug)?);
        }
        world.past = universe.past_id(Past::default());
        world.sum(universe)?;
        Ok(world)
    }

    /// Its fingerprint.
    pub(super) fn print(&self) -> u128 {
        world_print(&self.sums, self.budgets)
    }

    fn sum(&mut self, universe: &Universe) -> Result<(), String> {
        let mut sums = [0; RENAMINGS];
        for member in self.members {
            add(&mut sums, &universe.local(member)?.prints);
        }
        for parcel in &self.network {
            add(&mut sums, &universe.parcel(*parcel)?.1);
        }
        add(&mut sums, &universe.past(self.past)?.1);
        self.sums = sums;
        Ok(())
    }

    /// Puts itself at the end of the worlds in waiting.
    pub(super) fn pack(&self, queue: &mut Vec<Batch>) {
        let [one, two, three] = self.members;
        let head =
            [self.budgets, u64::from(one), u64::from(two), u64::from(three), u64::from(self.past)];
        Batch::push(
            queue,
            head.len() + self.network.len(),
            head.into_iter().chain(self.network.iter().copied().map(u64::from)),
        );
    }

    /// Becomes the next world of a batch; `false` if there is none. `numbers` is a buffer.
    pub(super) fn unpack(
        &mut self,
        reader: &mut Reader<'_>,
        numbers: &mut Vec<u64>,
        universe: &Universe,
    ) -> Result<bool, String> {
        if !reader.pop(numbers) {
            return Ok(false);
        }
        let id = |number: u64| Id::try_from(number).unwrap_or(Id::MAX);
        if let [budgets, one, two, three, past, network @ ..] = &**numbers {
            self.budgets = *budgets;
            self.members = [id(*one), id(*two), id(*three)];
            self.past = id(*past);
            self.network.clear();
            self.network.extend(network.iter().copied().map(id));
        }
        self.sum(universe)?;
        Ok(true)
    }

    /// All that may be possible, always in the same order. Some of it may turn out to change nothing.
    pub(super) fn actions(&self, universe: &Universe, out: &mut Vec<Action>) -> Result<(), String> {
        out.clear();
        for parcel in &self.network {
            self.deliveries(*parcel, universe, out)?;
        }
        for place in 0..MEMBERS {
            self.own_actions(place, universe, out)?;
        }
        if out.len() > ACTIONS_MAX {
            Err("too much is possible in one world".to_owned())
        } else {
            Ok(())
        }
    }

    fn deliveries(&self, id: Id, universe: &Universe, out: &mut Vec<Action>) -> Result<(), String> {
        let parcel = &universe.parcel(id)?.0;
        let place = usize::try_from(parcel.to.0 - 1).unwrap_or(0);
        let (taken, deliver) = (Some(id), Act::Deliver { parcel: id, silent: false });
        out.push(Action { place, act: deliver, taken, spend: None });
        let asks = matches!(parcel.message, Message::RequestVote { .. });
        let member = self.members.get(place).copied().unwrap_or_default();
        if asks && universe.face(member)?.follows {
            out.push(Action {
                place,
                act: Act::Deliver { parcel: id, silent: true },
                taken,
                spend: None,
            });
        }
        if left(self.budgets, Spend::Duplicates) > 0 {
            out.push(Action { place, act: deliver, taken: None, spend: Some(Spend::Duplicates) });
        }
        Ok(())
    }

    fn own_actions(
        &self,
        place: usize,
        universe: &Universe,
        out: &mut Vec<Action>,
    ) -> Result<(), String> {
        let face = universe.face(self.members.get(place).copied().unwrap_or_default())?;
        let mut push = |act, spend: Option<Spend>| {
            if spend.is_none_or(|spend| left(self.budgets, spend) > 0) {
                out.push(Action { place, act, taken: None, spend });
            }
        };
        if face.unsynced > 0 {
            push(Act::Synced, None);
            push(Act::Fire(Timer::Stall), Some(Spend::Checks));
        }
        if face.leads {
            push(Act::Propose, Some(Spend::Proposals));
            push(Act::Fire(Timer::Beat), Some(Spend::Beats));
            push(Act::Fire(Timer::Quorum), Some(Spend::Checks));
            for other in (0..MEMBERS).filter(|other| *other != place).map(|other| other as u64 + 1)
            {
                push(Act::Unreachable(NodeId(other)), Some(Spend::Drops));
            }
        } else {
            push(Act::Fire(Timer::Election), Some(Spend::Timeouts));
        }
        let asked = universe.bound.reads() - left(self.budgets, Spend::Reads);
        push(Act::Read(asked + 1), Some(Spend::Reads));
        if asked > 0 {
            push(Act::Fire(Timer::Reads), Some(Spend::Checks));
        }
        for kept in 0..=face.unsynced {
            push(Act::Crash(kept), Some(Spend::Crashes));
        }
        if face.can_compact {
            push(Act::Compact, Some(Spend::Compactions));
        }
        for to in (1..=MEMBERS as u64).map(NodeId).filter(|to| face.sending >> to.0 & 1 == 1) {
            push(Act::Sent { to, failed: false }, None);
            push(Act::Sent { to, failed: true }, Some(Spend::Drops));
        }
        Ok(())
    }

    /// Does one thing, into `next`.
    ///
    /// A message that changes nothing stays where it is: the world without it can do nothing that this one can't.
    ///
    /// # Errors
    /// Says which rule is broken then, or what the universe must learn first.
    pub(super) fn act(
        &self,
        action: Action,
        universe: &Universe,
        next: &mut Self,
    ) -> Result<Fate, Halt> {
        let before = self.members.get(action.place).copied().unwrap_or_default();
        let outcome = universe.outcome(before, action.act)?;
        if outcome.outside {
            return Ok(Fate::Outside);
        }
        let idle =
            outcome.member == before && outcome.sent.is_empty() && outcome.answers.is_empty();
        if idle {
            return Ok(Fate::Same);
        }
        next.clone_from(self);
        next.budgets = spent(self.budgets, action.spend);
        next.move_to(action.place, outcome.member, universe)?;
        if let Some(parcel) = action.taken {
            next.network.retain(|other| *other != parcel);
            remove(&mut next.sums, &universe.parcel(parcel)?.1);
        }
        for parcel in universe.sent(&outcome.sent) {
            if let Err(at) = next.network.binary_search(parcel) {
                next.network.insert(at, *parcel);
                add(&mut next.sums, &universe.parcel(*parcel)?.1);
            }
        }
        next.bury(universe)?;
        next.remember(action, &outcome.answers, universe)?;
        Ok(Fate::Next)
    }

    /// The same for whoever has the universe to itself.
    ///
    /// # Errors
    /// Says which rule is broken then.
    pub(super) fn act_alone(
        &self,
        action: Action,
        universe: &mut Universe,
        next: &mut Self,
    ) -> Result<Fate, String> {
        loop {
            match self.act(action, universe, next) {
                Ok(fate) => return Ok(fate),
                Err(Halt::Broken(what)) => return Err(what),
                Err(Halt::Lacks(lack)) => universe.learn(lack)?,
            }
        }
    }

    /// Takes messages off the network that can never do anything again.
    fn bury(&mut self, universe: &Universe) -> Result<(), String> {
        let [one, two, three] = self.members;
        let faces = [universe.face(one)?, universe.face(two)?, universe.face(three)?];
        let sums = &mut self.sums;
        self.network.retain(|id| {
            let Ok((parcel, prints)) = universe.parcel(*id) else { return true };
            let to = usize::try_from(parcel.to.0 - 1).unwrap_or(0);
            let dead = faces.get(to).is_some_and(|face| parcel::is_dead(&parcel.message, face));
            if dead {
                remove(sums, prints);
            }
            !dead
        });
        Ok(())
    }

    fn move_to(&mut self, place: usize, member: Id, universe: &Universe) -> Result<(), String> {
        if let Some(slot) = self.members.get_mut(place) {
            remove(&mut self.sums, &universe.local(*slot)?.prints);
            add(&mut self.sums, &universe.local(member)?.prints);
            *slot = member;
        }
        Ok(())
    }

    /// The past grows by what the member that acted shows, and by reads.
    fn remember(
        &mut self,
        action: Action,
        answers: &std::ops::Range<u32>,
        universe: &Universe,
    ) -> Result<(), Halt> {
        let face = *universe.face(self.members.get(action.place).copied().unwrap_or_default())?;
        let node = u8::try_from(action.place + 1).unwrap_or(u8::MAX);
        let past = &universe.past(self.past)?.0;
        let reads = matches!(action.act, Act::Read(_)) || !answers.is_empty();
        if past.knows(node, &face) && !reads {
            return Ok(());
        }
        let mut past = past.clone();
        if let Act::Read(context) = action.act {
            past.ask(context);
        }
        past.learn(node, &face)?;
        for answer in universe.answers(answers) {
            past.answer(*answer)?;
        }
        let past = universe.past_known(past)?;
        remove(&mut self.sums, &universe.past(self.past)?.1);
        self.past = past;
        add(&mut self.sums, &universe.past(self.past)?.1);
        Ok(())
    }

    /// Judges it, after the member at `place` has changed.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub(super) fn judge(&self, place: usize, universe: &Universe) -> Result<(), String> {
        let [one, two, three] = self.members;
        let faces = [universe.face(one)?, universe.face(two)?, universe.face(three)?];
        judge::world(&faces, place, &universe.past(self.past)?.0)
    }
}
