//! The network: which messages arrive, how often, and when.
//!
//! A message's fate is a hash of the seed, its link and how many the link carried before it, so taking one fault or operation out of a
//! plan leaves the fate of what other links carry as it was.

use quorate_raft::Message;

use super::mishap::{KINDS, Pattern};
use super::plan::{MEMBERS_MAX, MILLISECOND, Weather};
use crate::dice::mix;
use crate::world::Body;

/// From which seat (the position) to which (the bit) nothing arrives.
pub(crate) type Matrix = [u8; MEMBERS_MAX];

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    seed: u64,
    pub(crate) weather: Weather,
    /// Loss by kind of message, of a million.
    pub(crate) targeted: [u32; KINDS],
    /// What a slow node adds.
    pub(crate) lag_ns: [u64; MEMBERS_MAX],
    /// What a slow link adds.
    link_ns: [[u64; MEMBERS_MAX]; MEMBERS_MAX],
    /// Cuts under way, by number.
    cuts: Vec<(u32, Matrix)>,
    blocked: Matrix,
    /// Frames that arrive damaged, of a million.
    pub(crate) corrupt_ppm: u32,
    /// Until when a link is down because its connection broke.
    down_until: [[u64; MEMBERS_MAX]; MEMBERS_MAX],
    carried: [[u64; MEMBERS_MAX]; MEMBERS_MAX],
    latest: [[u64; MEMBERS_MAX]; MEMBERS_MAX],
}

/// How long a link is down after its connection broke.
const RECONNECT_NS: u64 = 50 * MILLISECOND;
/// Makes another draw of a message's.
const CORRUPT: u64 = 0x636f_7272_7570_7400;

/// When copies of a message arrive, after it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) first: Option<u64>,
    pub(crate) second: Option<u64>,
    /// It arrives damaged, and its connection breaks.
    pub(crate) broken: Option<u64>,
}

/// Which kind of message it is.
pub(crate) fn kind_of(body: &Body) -> usize {
    match body {
        Body::Message(message) => match message {
            Message::RequestVote { .. } => 0,
            Message::Vote { .. } => 1,
            Message::AppendEntries { .. } => 2,
            Message::Appended { .. } => 3,
            Message::Heartbeat { .. } => 4,
            Message::HeartbeatReply { .. } => 5,
            Message::InstallSnapshot { .. } => 6,
            Message::ReadIndex { .. } => 7,
            Message::ReadIndexReply { .. } => 8,
            Message::TimeoutNow { .. } => 9,
        },
        Body::Snapshot { .. } => 10,
    }
}

/// Twenty bits of `draw`, as a number of a million.
fn millionth(draw: u64, shift: u32) -> u32 {
    u32::try_from((((draw >> shift) & 0xf_ffff) * 1_000_000) >> 20).unwrap_or(0)
}

impl Network {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        Self {
            seed: mix(seed ^ 0x6e65_7477_6f72_6b00),
            weather,
            targeted: [0; KINDS],
            lag_ns: [0; MEMBERS_MAX],
            link_ns: [[0; MEMBERS_MAX]; MEMBERS_MAX],
            cuts: Vec::new(),
            blocked: [0; MEMBERS_MAX],
            corrupt_ppm: 0,
            down_until: [[0; MEMBERS_MAX]; MEMBERS_MAX],
            carried: [[0; MEMBERS_MAX]; MEMBERS_MAX],
            latest: [[0; MEMBERS_MAX]; MEMBERS_MAX],
        }
    }

    /// Whether a link is cut.
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.blocked.get(from).is_some_and(|row| row & (1 << to) != 0)
    }

    /// Decides on a message that leaves now.
    pub(crate) fn fate(&mut self, now: u64, from: usize, to: usize, kind: usize) -> Fate {
        if self.is_cut(from, to) {
            return Fate::default();
        }
        let Some(carried) = self.carried.get_mut(from).and_then(|row| row.get_mut(to)) else {
            return Fate::default();
        };
        *carried += 1;
        let link = (from * MEMBERS_MAX + to) as u64;
        let draw = mix(self.seed ^ (link << 48) ^ *carried);
        let targeted = self.targeted.get(kind).copied().unwrap_or(0);
        let roll = millionth(draw, 0);
        let lost = roll < self.weather.loss_ppm.max(targeted);
        let second = millionth(draw, 20) < self.weather.duplicate_ppm;
        if self.is_corrupt(draw) {
            let at = now + self.delay(draw, from, to);
            self.break_link(from, to, at + RECONNECT_NS);
            return Fate { broken: Some(at), ..Fate::default() };
        }
        if self.is_down(now, from, to) {
            return Fate::default();
        }
        let snapshot = if kind == KINDS - 1 { 8 } else { 1 };
        let delay = |draw| self.delay(draw, from, to) * snapshot;
        let arrive = (!lost).then(|| now + delay(draw));
        let again = second.then(|| now + delay(mix(draw)));
        let first =
            arrive.map(|at| if self.weather.in_order { self.queue(from, to, at) } else { at });
        Fate { first, second: again, broken: None }
    }

    /// A frame with a bad checksum is dropped, and the connection it came by closed.
    fn is_corrupt(&self, draw: u64) -> bool {
        self.corrupt_ppm > 0 && millionth(mix(draw ^ CORRUPT), 0) < self.corrupt_ppm
    }

    fn is_down(&self, now: u64, from: usize, to: usize) -> bool {
        self.down_until.get(from).and_then(|row| row.get(to)).is_some_and(|until| *until > now)
    }

    fn break_link(&mut self, from: usize, to: usize, until: u64) {
        if let Some(slot) = self.down_until.get_mut(from).and_then(|row| row.get_mut(to)) {
            *slot = until.max(*slot);
        }
    }

    fn delay(&self, draw: u64, from: usize, to: usize) -> u64 {
        let Weather { delay_ns, jitter_ns, .. } = self.weather;
        let stretched = jitter_ns << (draw >> 40 & 0xff).leading_zeros().saturating_sub(56).min(3);
        let random = (u128::from(stretched) * u128::from(draw >> 48)) >> 16;
        let link = self.link_ns.get(from).and_then(|row| row.get(to)).copied().unwrap_or(0);
        let lag = |seat: usize| self.lag_ns.get(seat).copied().unwrap_or(0);
        delay_ns + u64::try_from(random).unwrap_or(0) + lag(from) + lag(to) + link
    }

    /// Not before what the link carries already.
    fn queue(&mut self, from: usize, to: usize, at: u64) -> u64 {
        let Some(latest) = self.latest.get_mut(from).and_then(|row| row.get_mut(to)) else {
            return at;
        };
        *latest = at.max(*latest + 1);
        *latest
    }

    pub(crate) fn slow_link(&mut self, from: usize, to: usize, lag_ns: u64) {
        if let Some(slot) = self.link_ns.get_mut(from).and_then(|row| row.get_mut(to)) {
            *slot = lag_ns;
        }
    }

    pub(crate) fn cut(&mut self, number: u32, matrix: Matrix) {
        self.cuts.push((number, matrix));
        self.unite();
    }

    pub(crate) fn mend(&mut self, number: u32) {
        self.cuts.retain(|(cut, _)| *cut != number);
        self.unite();
    }

    /// Every link is whole and quick again.
    pub(crate) fn mend_all(&mut self) {
        self.link_ns = [[0; MEMBERS_MAX]; MEMBERS_MAX];
        self.lag_ns = [0; MEMBERS_MAX];
        self.targeted = [0; KINDS];
        self.corrupt_ppm = 0;
        self.down_until = [[0; MEMBERS_MAX]; MEMBERS_MAX];
        self.cuts.clear();
        self.unite();
    }

    fn unite(&mut self) {
        self.blocked = [0; MEMBERS_MAX];
        for (_, matrix) in &self.cuts {
            for (row, cut) in self.blocked.iter_mut().zip(matrix) {
                *row |= cut;
            }
        }
    }
}

/// The links that a pattern cuts among `members`; `aim` finds a target's seat.
pub(crate) fn matrix(
    pattern: Pattern,
    members: usize,
    aim: impl Fn(super::mishap::Target) -> usize,
) -> Matrix {
    let half = members / 2;
    let next_to = |one: usize, other: usize| one.abs_diff(other) == 1;
    let cuts = |from: usize, to: usize| match pattern {
        Pattern::Isolate(target) => aim(target) == from || aim(target) == to,
        Pattern::Split(set) => (set >> from & 1) != (set >> to & 1),
        Pattern::Bridge(middle) => from != middle && to != middle && (from < half) != (to < half),
        Pattern::Ring => !next_to(from, to) && from.abs_diff(to) != members - 1,
        Pattern::Chain => !next_to(from, to),
        Pattern::Link(one, other) => (from, to) == (one, other) || (from, to) == (other, one),
        Pattern::OneWay(one, other) => (from, to) == (one, other),
        Pattern::Mute(target) => aim(target) == from,
        Pattern::Deaf(target) => aim(target) == to,
    };
    let mut matrix = [0; MEMBERS_MAX];
    for (from, row) in matrix.iter_mut().enumerate() {
        *row = (0..members).filter(|to| cuts(from, *to)).fold(0, |row, to| row | 1 << to);
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::mishap::Target;

    fn rows(pattern: Pattern, members: usize) -> Vec<u8> {
        let aim = |target: Target| target.seat;
        matrix(pattern, members, aim)[..members].to_vec()
    }

    #[test]
    fn patterns_cut_what_their_names_say() {
        assert_eq!(rows(Pattern::Isolate(Target { seat: 0, leader: false }), 3), [0b111, 1, 1]);
        assert_eq!(rows(Pattern::Split(0b001), 3), [0b110, 1, 1]);
        assert_eq!(rows(Pattern::OneWay(0, 1), 3), [0b010, 0, 0]);
        let ring = rows(Pattern::Ring, 5);
        assert_eq!(ring[0] & 0b1_1110, 0b0_1100);
        let chain = rows(Pattern::Chain, 3);
        assert_eq!((chain[0] & 0b110, chain[2] & 0b011), (0b100, 0b001));
    }

    #[test]
    fn overlapping_cuts_heal_one_by_one() {
        let weather =
            Weather { loss_ppm: 0, duplicate_ppm: 0, delay_ns: 5, jitter_ns: 0, in_order: false };
        let mut network = Network::new(1, weather);
        let mut row = [0; MEMBERS_MAX];
        row[0] = 0b10;
        network.cut(1, row);
        network.cut(2, row);
        network.mend(1);
        assert_eq!(network.fate(0, 0, 1, 0), Fate::default());
        network.mend(2);
        assert_eq!(network.fate(0, 0, 1, 0), Fate { first: Some(5), ..Fate::default() });
    }

    #[test]
    fn loss_is_as_frequent_as_it_says() {
        let weather = Weather {
            loss_ppm: 250_000,
            duplicate_ppm: 0,
            delay_ns: 0,
            jitter_ns: 9,
            in_order: false,
        };
        let mut network = Network::new(1, weather);
        let arrived = (0..10_000).filter(|_| network.fate(0, 0, 1, 0).first.is_some()).count();
        assert!((7_300..7_700).contains(&arrived), "{arrived}");
    }
}
