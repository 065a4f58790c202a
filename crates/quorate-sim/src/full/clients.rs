//! The world's side of its clients: their turns, and what they are woken for.

use super::{
    member::Member,
    plan::{MS, Plan},
    session::Session,
    trades::{Keys, Leases, Lists, Trade, Who},
    watcher::Watcher,
    world::{Event, World},
};
use crate::{
    dice::Dice,
    world::{Conviction, Judge, hold},
};

/// How often a client that takes its time looks at its member.
const DAWDLER_LOOKS_NS: u64 = 500 * MS;

impl World {
    /// Polls whoever was woken at a member.
    pub(super) fn wake_clients(&mut self, member: usize) -> Result<(), Conviction> {
        let mut turns = Vec::new();
        for session in &mut self.sessions {
            if session.member == member && session.call.is_some() && session.alarm.take() {
                session.poll(self.now, &mut self.history);
                if session.call.is_none() {
                    let at = session.next_at;
                    let number = usize::try_from(session.who.client).unwrap_or(0);
                    turns.push((at, Event::Session(number)));
                }
            }
        }
        for (at, turn) in turns {
            self.put(at, turn);
        }
        let excused = self.excused.contains(&member);
        for watcher in &mut self.watchers {
            if watcher.member == member && watcher.is_open() && watcher.alarm.take() {
                let polled = watcher.poll(self.now, &mut self.history.watches);
                watcher.forgive(polled, excused, &mut self.history.watches)?;
            }
        }
        for dawdler in &mut self.dawdlers {
            if dawdler.member == member && dawdler.asks() && dawdler.alarm.take() {
                dawdler.poll(self.now)?;
            }
        }
        Ok(())
    }

    /// A client's turn: to ask, or to look whether it has waited long enough.
    pub(super) fn turn(&mut self, number: usize) -> Result<(), Conviction> {
        let (now, closing) = (self.now, self.closing);
        let Some(session) = self.sessions.get_mut(number) else { return Ok(()) };
        if session.call.is_none() && closing {
            return Ok(());
        }
        if session.call.is_none() && session.next_at > now {
            let at = session.next_at;
            self.put(at, Event::Session(number));
            return Ok(());
        }
        let member = session.member;
        let Some(one) = self.members.get(member) else { return Ok(()) };
        let running = one.running.as_ref().filter(|_| !self.doors.is_wiped(member));
        let reachable = running.is_some() && one.paused_until <= now;
        session.look_patient(now, one, &self.plan)?;
        match (running, &session.call) {
            (Some(running), None) if reachable => {
                one.tell_time(now);
                session.begin(&running.front, now);
                session.poll(now, &mut self.history);
            }
            // What was sent to a process that stands still is read when it goes on.
            (Some(_), None) if self.dice.chance(500_000) => session.next_at = one.paused_until,
            (_, None) => session.move_on(now),
            (_, Some(call)) if reachable || call.give_up_at <= now => {
                one.tell_time(now);
                session.poll(now, &mut self.history);
            }
            (_, Some(_)) => {}
        }
        let at = session.due(now).max(now + 1);
        self.put(at, Event::Session(number));
        self.settle(member)
    }

    /// A watcher's turn: to open its stream, or to ask how far it is.
    pub(super) fn turn_of_watcher(&mut self, number: usize) -> Result<(), Conviction> {
        let now = self.now;
        let Some(watcher) = self.watchers.get_mut(number) else { return Ok(()) };
        let member = watcher.member;
        let Some(one) = self.members.get(member) else { return Ok(()) };
        if watcher.next_at <= now && one.paused_until <= now {
            match one.running.as_ref().filter(|_| !self.doors.is_wiped(member)) {
                Some(running) if !running.handle.serves() => {}
                Some(running) if !watcher.is_open() => watcher.open(&running.front, now),
                Some(_) => watcher.ask_for_progress(now),
                None => watcher.disconnect(now, &mut self.history.watches),
            }
            let polled = watcher.poll(now, &mut self.history.watches);
            let excused = self.excused.contains(&member);
            watcher.forgive(polled, excused, &mut self.history.watches)?;
        }
        let at = watcher.next_at.max(now + 100 * MS);
        self.put(at, Event::Watcher(number));
        self.settle(member)
    }

    /// A dawdler's turn: to ask for the state, or for more of it.
    pub(super) fn turn_of_dawdler(&mut self, number: usize) -> Result<(), Conviction> {
        let now = self.now;
        let Some(dawdler) = self.dawdlers.get_mut(number) else { return Ok(()) };
        let member = dawdler.member;
        let Some(one) = self.members.get(member) else { return Ok(()) };
        dawdler.look(now, one);
        if dawdler.next_at <= now && one.paused_until <= now {
            match one.running.as_ref().filter(|_| !self.doors.is_wiped(member)) {
                Some(running) if !dawdler.asks() => dawdler.begin(&running.front, &running.handle),
                Some(_) => {}
                None => dawdler.disconnect(now),
            }
            dawdler.poll(now)?;
        }
        self.put(now + DAWDLER_LOOKS_NS, Event::Dawdler(number));
        self.settle(member)
    }

    /// Whoever heard of a revision at a member looks there at once, and finds it.
    pub(super) fn look_where_told(&mut self, member: usize) -> Result<(), Conviction> {
        let told = self.sessions.iter_mut().filter(|session| session.member == member);
        let told = told.filter_map(|session| session.told.take());
        let heard = self.watchers.iter_mut().filter(|watcher| watcher.member == member);
        let heard = heard.filter_map(|watcher| watcher.told.take());
        let Some(newest) = told.chain(heard).max() else { return Ok(()) };
        let Some(reader) = self.members.get(member).and_then(Member::reader) else { return Ok(()) };
        let shown = reader.revision();
        hold(shown >= newest, Judge::Visibility, || {
            format!("member {member} told of revision {newest} and shows {shown}")
        })
    }
}

/// Everybody who asks for things.
pub(super) fn sessions(plan: &Plan) -> Vec<Session> {
    let load = plan.load;
    let keys = (0..load.clients).map(|_| Box::new(Keys(load)) as Box<dyn Trade>);
    let lists = (0..load.appenders).map(|_| Box::new(Lists::default()) as _);
    let leases = (0..load.lessees).map(|_| Box::new(Leases::default()) as _);
    let session = |(client, trade)| {
        let who = Who::new(client, Dice::fork(plan.seed, 0x5e55 + client));
        Session::new(who, plan.members, load.pause_ns, trade)
    };
    (0..).zip(keys.chain(lists).chain(leases)).map(session).collect()
}

/// Everybody who watches.
pub(super) fn watchers(plan: &Plan) -> Vec<Watcher> {
    let watcher = |number| {
        let dice = Dice::fork(plan.seed, 0x3a7c4 + number as u64);
        Watcher::new(number, plan, dice)
    };
    (0..plan.load.watchers).map(watcher).collect()
}
