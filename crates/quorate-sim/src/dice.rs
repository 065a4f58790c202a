//! The only source of chance: xoshiro256++ (Blackman and Vigna: "Scrambled linear pseudorandom number generators", 2021),
//! seeded by `SplitMix64`.
//!
//! Whoever draws from a stream of its own (`fork`) does not disturb what others draw.

/// A stream of numbers that one seed decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dice {
    state: [u64; 4],
}

/// One step of `SplitMix64`: a bijection that looks like chance. Also the hash of small numbers in this crate.
pub fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Dice {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        let first = mix(seed);
        let second = mix(first);
        let third = mix(second);
        Self { state: [first, second, third, mix(third)] }
    }

    /// A stream of its own for the user called `label`.
    #[must_use]
    pub fn fork(seed: u64, label: u64) -> Self {
        Self::new(mix(seed) ^ mix(label.wrapping_mul(0x2545_f491_4f6c_dd1d)))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let drawn = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        drawn
    }

    /// A number in `[0, bound)`; 0 for an empty range.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.draw()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number in `[least, most]`.
    pub fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least).saturating_add(1))
    }

    /// True in `per_million` of a million cases.
    pub fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }

    /// A position in a list of this length; 0 if it is empty.
    pub fn position(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.position(of.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sequence() {
        let mut dice = Dice { state: [1, 2, 3, 4] };
        assert_eq!(dice.draw(), 41_943_041);
        assert_eq!(dice.draw(), 58_720_359);
        assert_eq!(dice.draw(), 3_588_806_011_781_223);
    }

    #[test]
    fn every_value_of_a_range_is_drawn_and_no_other() {
        let mut dice = Dice::new(7);
        let mut seen = [0_u32; 6];
        for _ in 0..6_000 {
            seen[dice.position(6)] += 1;
        }
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
    }

    #[test]
    fn streams_of_one_seed_differ() {
        assert_ne!(Dice::fork(1, 0).draw(), Dice::fork(1, 1).draw());
        assert_ne!(Dice::fork(1, 0).draw(), Dice::fork(2, 0).draw());
        assert_eq!(Dice::fork(1, 5), Dice::fork(1, 5));
    }
}
