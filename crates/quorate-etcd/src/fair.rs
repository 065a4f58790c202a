//! A semaphore that is fair between clients, not between requests.
//!
//! Whoever asks for a permit says for which client it asks. Clients that wait take turns, one permit each; among the
//! requests of one client the oldest comes first. So a client that asks a thousand times waits long, and one that asks
//! once waits for one turn of each of the others. Nobody overtakes the client whose turn it is, so that a request of great
//! weight is not passed by light ones for ever.
//!
//! A request that is dropped leaves its place; a permit that is dropped is free again.
//!
//! A semaphore may also hold each client to a share, which others notice less than the whole, while others ask at all:
//! one that is alone gets everything.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

/// Who asks: a connection's number.
pub(crate) type ClientId = u64;

/// After so many requests of one client in a row it counts as alone.
const ALONE_AFTER: u32 = 1_000;

/// The line is as long as it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineFull;

/// See the [module](self). Clones are one semaphore.
#[derive(Clone)]
pub(crate) struct FairSemaphore(Arc<Shared>);

struct Shared {
    capacity: u64,
    /// What a client that is not alone may have.
    share: u64,
    /// The most weight that waits; half of it may be one client's.
    waiting_max: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    used_by: BTreeMap<ClientId, u64>,
    waiting: u64,
    next_ticket: u64,
    seats: BTreeMap<u64, Seat>,
    lanes: BTreeMap<ClientId, Lane>,
    /// Whose turn is next.
    turns: VecDeque<ClientId>,
    /// Who asked last, and how often in a row.
    last: (ClientId, u32),
}

/// A client's requests that wait.
#[derive(Default)]
struct Lane {
    /// Oldest first.
    tickets: BTreeSet<u64>,
    weight: u64,
}

/// A request that waits, or was granted and has not looked yet.
struct Seat {
    weight: u64,
    granted: bool,
    waker: Option<Waker>,
}

/// What a semaphore holds, for metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The weight of all permits.
    pub used: u64,
    /// The weight of the requests that wait.
    pub waiting: u64,
}

impl FairSemaphore {
    /// Permits of this weight in all. One request always goes on, whatever its weight. At most `waiting_max` of weight waits,
    /// and half of that of one client.
    pub(crate) fn new(capacity: u64, waiting_max: u64) -> Self {
        Self::shared(capacity, capacity, waiting_max)
    }

    /// The same, where a client that is not alone may have no more than `share`.
    pub(crate) fn shared(capacity: u64, share: u64, waiting_max: u64) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Shared { capacity, share, waiting_max, state }))
    }

    /// Asks for a permit. The line is joined at once.
    ///
    /// # Errors
    /// [`LineFull`].
    pub(crate) fn acquire(&self, client: ClientId, weight: u64) -> Result<Acquire, LineFull> {
        let mut state = self.0.state.lock();
        state.note(client);
        let granted = state.lanes.is_empty() && self.0.fits(&state, client, weight);
        let ticket = state.next_ticket;
        if granted {
            state.take(client, weight);
        } else {
            self.0.queue(&mut state, client, ticket, weight)?;
        }
        state.next_ticket += 1;
        state.seats.insert(ticket, Seat { weight, granted, waker: None });
        // Those who wait may do so only for their own shares.
        let woken = if granted { Vec::new() } else { self.0.grant(&mut state) };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        Ok(Acquire { semaphore: self.clone(), client, ticket })
    }

    /// A permit, if there is one without waiting.
    pub(crate) fn try_acquire(&self, client: ClientId, weight: u64) -> Option<Permit> {
        let mut state = self.0.state.lock();
        state.note(client);
        let free = state.lanes.is_empty() && self.0.fits(&state, client, weight);
        free.then(|| {
            state.take(client, weight);
            Permit { semaphore: self.clone(), client, weight }
        })
    }

    /// What it holds.
    pub(crate) fn load(&self) -> Load {
        let state = self.0.state.lock();
        Load { used: state.used, waiting: state.waiting }
    }

    /// Takes weight back and lets in whoever may come now.
    fn release(&self, client: ClientId, weight: u64) {
        let mut state = self.0.state.lock();
        state.give_back(client, weight);
        let woken = self.0.grant(&mut state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn note(&mut self, client: ClientId) {
        let (last, times) = self.last;
        self.last = (client, if last == client { times.saturating_add(1) } else { 0 });
    }

    fn is_alone(&self, client: ClientId) -> bool {
        self.last.0 == client && self.last.1 >= ALONE_AFTER
    }

    fn take(&mut self, client: ClientId, weight: u64) {
        self.used += weight;
        *self.used_by.entry(client).or_default() += weight;
    }

    fn give_back(&mut self, client: ClientId, weight: u64) {
        self.used = self.used.saturating_sub(weight);
        if let Some(used) = self.used_by.get_mut(&client) {
            *used = used.saturating_sub(weight);
            if *used == 0 {
                self.used_by.remove(&client);
            }
        }
    }

    /// Takes the first ticket out of a client's lane.
    fn leave(&mut self, client: ClientId, ticket: u64, weight: u64) {
        self.waiting = self.waiting.saturating_sub(weight);
        let Some(lane) = self.lanes.get_mut(&client) else { return };
        lane.tickets.remove(&ticket);
        lane.weight = lane.weight.saturating_sub(weight);
        if lane.tickets.is_empty() {
            self.lanes.remove(&client);
            self.turns.retain(|other| *other != client);
        }
    }
}

/// Whether a client's next request may go on.
#[derive(PartialEq, Eq)]
enum Room {
    Here,
    /// It has its share.
    NotForIt,
    /// Everything is used.
    ForNobody,
}

impl Shared {
    fn fits(&self, state: &State, client: ClientId, weight: u64) -> bool {
        self.room(state, client, weight) == Room::Here
    }

    fn room(&self, state: &State, client: ClientId, weight: u64) -> Room {
        let used_by = state.used_by.get(&client).copied().unwrap_or(0);
        let within = |used: u64, most| used == 0 || used.saturating_add(weight) <= most;
        if !within(state.used, self.capacity) {
            Room::ForNobody
        } else if !within(used_by, self.share) && !state.is_alone(client) {
            Room::NotForIt
        } else {
            Room::Here
        }
    }

    fn queue(
        &self,
        state: &mut State,
        client: ClientId,
        ticket: u64,
        weight: u64,
    ) -> Result<(), LineFull> {
        let of_client = state.lanes.get(&client).map_or(0, |lane| lane.weight);
        let of_client_max = self.waiting_max.div_ceil(2);
        if state.waiting.saturating_add(weight) > self.waiting_max
            || of_client.saturating_add(weight) > of_client_max
        {
            return Err(LineFull);
        }
        state.waiting += weight;
        let lane = state.lanes.entry(client).or_default();
        lane.weight += weight;
        lane.tickets.insert(ticket);
        if lane.tickets.len() == 1 {
            state.turns.push_back(client);
        }
        Ok(())
    }

    /// Grants in turn as long as there is room. Who is to be woken.
    fn grant(&self, state: &mut State) -> Vec<Waker> {
        let (mut woken, mut passed) = (Vec::new(), 0);
        while passed < state.turns.len() {
            let Some(client) = state.turns.front().copied() else { break };
            let ticket = state.lanes.get(&client).and_then(|lane| lane.tickets.first().copied());
            let weight = ticket.and_then(|ticket| Some(state.seats.get(&ticket)?.weight));
            let (Some(ticket), Some(weight)) = (ticket, weight) else {
                state.turns.pop_front();
                state.lanes.remove(&client);
                continue;
            };
            match self.room(state, client, weight) {
                Room::ForNobody => break,
                Room::NotForIt => {
                    state.turns.rotate_left(1);
                    passed += 1;
                }
                Room::Here => {
                    state.turns.rotate_left(1);
                    state.leave(client, ticket, weight);
                    state.take(client, weight);
                    passed = 0;
                    if let Some(seat) = state.seats.get_mut(&ticket) {
                        seat.granted = true;
                        woken.extend(seat.waker.take());
                    }
                }
            }
        }
        woken
    }
}

impl fmt::Debug for FairSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairSemaphore").field("load", &self.load()).finish_non_exhaustive()
    }
}

/// A request for a permit. It has its place in the line from the moment it was made.
#[derive(Debug)]
pub(crate) struct Acquire {
    semaphore: FairSemaphore,
    client: ClientId,
    ticket: u64,
}

impl Future for Acquire {
    type Output = Permit;

    /// Must not be polled again once it gave the permit.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let mut state = self.semaphore.0.state.lock();
        let Some(seat) = state.seats.get_mut(&self.ticket) else { return Poll::Pending };
        if !seat.granted {
            seat.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let weight = seat.weight;
        state.seats.remove(&self.ticket);
        drop(state);
        Poll::Ready(Permit { semaphore: self.semaphore.clone(), client: self.client, weight })
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let mut state = self.semaphore.0.state.lock();
        let Some(seat) = state.seats.remove(&self.ticket) else { return };
        if seat.granted {
            drop(state);
            return self.semaphore.release(self.client, seat.weight);
        }
        state.leave(self.client, self.ticket, seat.weight);
        // It may have stood before others that fit.
        let woken = self.semaphore.0.grant(&mut state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// Leave to go on, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    semaphore: FairSemaphore,
    client: ClientId,
    weight: u64,
}

impl Permit {
    /// Changes its weight, without waiting, also beyond what the semaphore has.
    pub(crate) fn set_weight(&mut self, weight: u64) {
        let before = mem::replace(&mut self.weight, weight);
        if weight < before {
            self.semaphore.release(self.client, before - weight);
        } else {
            self.semaphore.0.state.lock().take(self.client, weight - before);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.release(self.client, self.weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(acquire: &mut Acquire) -> Option<Permit> {
        let cx = &mut Context::from_waker(Waker::noop());
        match Pin::new(acquire).poll(cx) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    /// Asks for each client in this order, then gives permits back one by one; who got them, in order.
    fn served(capacity: u64, clients: &[ClientId]) -> Vec<ClientId> {
        let semaphore = FairSemaphore::new(capacity, 100);
        let mut waiting: Vec<_> =
            clients.iter().map(|client| semaphore.acquire(*client, 1).unwrap()).collect();
        let (mut held, mut order) = (VecDeque::new(), Vec::new());
        while !waiting.is_empty() {
            waiting.retain_mut(|one| match poll(one) {
                Some(permit) => {
                    order.push(one.client);
                    held.push_back(permit);
                    false
                }
                None => true,
            });
            held.pop_front();
        }
        held.clear();
        assert_eq!(semaphore.load(), Load::default());
        order
    }

    #[test]
    fn clients_take_turns_however_often_they_ask() {
        assert_eq!(served(1, &[1, 1, 1, 1, 2, 3, 3]), [1, 1, 2, 3, 1, 3, 1]);
        assert_eq!(served(2, &[1, 1, 1, 1, 2]), [1, 1, 1, 2, 1]);
    }

    #[test]
    fn the_line_has_an_end_for_all_and_for_each() {
        let semaphore = FairSemaphore::new(1, 4);
        let _held = semaphore.acquire(1, 1).unwrap();
        let _first: Vec<_> = (0..2).map(|_| semaphore.acquire(1, 1).unwrap()).collect();
        assert_eq!(semaphore.acquire(1, 1).unwrap_err(), LineFull);
        let _others: Vec<_> = (0..2).map(|client| semaphore.acquire(2 + client, 1)).collect();
        assert_eq!(semaphore.acquire(9, 1).unwrap_err(), LineFull);
        assert_eq!(semaphore.load(), Load { used: 1, waiting: 4 });
    }

    #[test]
    fn a_client_has_its_share_while_others_ask_and_everything_when_alone() {
        let semaphore = FairSemaphore::shared(10, 2, 100);
        let mut greedy: Vec<_> = (0..10).map(|_| semaphore.acquire(1, 1).unwrap()).collect();
        assert_eq!(semaphore.load(), Load { used: 2, waiting: 8 });
        let modest = poll(&mut semaphore.acquire(2, 1).unwrap()).expect("its share is free");
        greedy.truncate(1);
        assert_eq!(semaphore.load(), Load { used: 2, waiting: 0 });
        drop((greedy, modest));
        let mut alone = Vec::new();
        for _ in 0..=ALONE_AFTER {
            drop(semaphore.acquire(1, 1));
        }
        alone.extend((0..10).map(|_| poll(&mut semaphore.acquire(1, 1).unwrap()).unwrap()));
        let mut late = semaphore.acquire(2, 1).unwrap();
        assert!(poll(&mut late).is_none());
        alone.pop();
        let late = poll(&mut late).unwrap();
        let mut again = semaphore.acquire(1, 1).unwrap();
        drop(late);
        assert!(poll(&mut again).is_none(), "it has more than its share");
        alone.truncate(1);
        assert!(poll(&mut again).is_some());
        drop((alone, again));
        assert_eq!(semaphore.load(), Load::default());
        assert!(semaphore.0.state.lock().used_by.is_empty());
    }

    #[test]
    fn one_that_leaves_makes_room() {
        let semaphore = FairSemaphore::new(10, 100);
        let light = poll(&mut semaphore.acquire(1, 1).unwrap()).unwrap();
        let heavy = semaphore.acquire(2, 10).unwrap();
        let mut behind = semaphore.acquire(3, 1).unwrap();
        assert!(poll(&mut behind).is_none(), "nobody overtakes whose turn it is");
        assert!(semaphore.try_acquire(7, 1).is_none());
        drop(heavy);
        let behind = poll(&mut behind).unwrap();
        let granted = semaphore.acquire(4, 1).unwrap();
        drop((granted, light, behind));
        assert_eq!(semaphore.load(), Load::default());
    }

    #[test]
    fn one_goes_on_however_heavy_it_is_and_whatever_it_becomes() {
        let semaphore = FairSemaphore::new(10, 100);
        let mut heavy = semaphore.try_acquire(1, 100).unwrap();
        assert!(semaphore.try_acquire(7, 1).is_none());
        heavy.set_weight(5);
        let mut other = semaphore.try_acquire(2, 5).unwrap();
        other.set_weight(50);
        assert_eq!(semaphore.load().used, 55);
        drop((heavy, other));
        assert_eq!(semaphore.load(), Load::default());
    }
}
