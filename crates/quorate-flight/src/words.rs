//! Words as bytes (little-endian base 128, as in protobuf), and many words as one.

use quorate_raft::Sink;

/// Writes words behind each other.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Sink for Writer<'_> {
    #[inline]
    fn put(&mut self, word: u64) {
        let mut rest = word;
        while rest >= 0x80 {
            self.0.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.0.push(rest.to_le_bytes()[0]);
    }
}

/// Reads them again; ends where no whole word is left.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl<'a> Words<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, length: bytes.len() }
    }

    /// How many bytes were read.
    pub(crate) fn at(&self) -> usize {
        self.length - self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next two bytes as they are.
    pub(crate) fn pair(&mut self) -> Option<u16> {
        let (pair, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u16::from_le_bytes(*pair))
    }
}

impl Iterator for Words<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let mut word = 0_u64;
        let mut rest = self.bytes;
        for shift in (0..64).step_by(7) {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return None;
            }
            word |= bits << shift;
            if byte & 0x80 == 0 {
                self.bytes = rest;
                return Some(word);
            }
        }
        None
    }
}

/// Differences of any sign as small words.
pub(crate) fn fold(difference: u64) -> u64 {
    (difference << 1) ^ (difference >> 63).wrapping_neg()
}

/// The difference again.
pub(crate) fn unfold(word: u64) -> u64 {
    (word >> 1) ^ (word & 1).wrapping_neg()
}

/// Many words as one. Every word counts for all that follow, so two runs that once differ are told apart at that step or very
/// soon after, however few bits of it are kept. Not against forgers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(1)
    }
}

impl Digest {
    /// The bits that a record keeps.
    pub(crate) fn low(self) -> u16 {
        let [.., one, other] = self.0.to_le_bytes();
        u16::from_le_bytes([one, other])
    }
}

impl Sink for Digest {
    #[inline]
    fn put(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_come_back(words in prop::collection::vec((any::<u64>(), 0_u32..64), 0..40)) {
            let words: Vec<u64> = words.into_iter().map(|(word, shift)| word >> shift).collect();
            let mut bytes = Vec::new();
            for word in &words {
                Writer(&mut bytes).put(*word);
            }
            prop_assert_eq!(Words::new(&bytes).collect::<Vec<u64>>(), words);
        }

        #[test]
        fn differences_come_back(difference: u64) {
            prop_assert_eq!(unfold(fold(difference)), difference);
        }

        #[test]
        fn any_bytes_are_words_or_an_end(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut words = Words::new(&bytes);
            let count = words.by_ref().count();
            prop_assert!(count <= bytes.len() && words.at() <= bytes.len());
        }
    }

    #[test]
    fn a_word_beyond_64_bits_is_none() {
        assert_eq!(Words::new(&[0xff; 11]).next(), None);
        assert_eq!(
            Words::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).next(),
            None
        );
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Words::new(&most).next(), Some(u64::MAX));
    }

    #[test]
    fn one_more_step_into_the_past_is_a_small_word() {
        assert_eq!((fold(1), fold(u64::MAX), fold(0)), (2, 1, 0));
    }

    /// One bit of any word, however far back, changes the bits that are kept of nearly every later one.
    #[test]
    fn a_difference_shows_in_the_bits_that_are_kept() {
        let mut missed = 0;
        for bit in 0..64 {
            for behind in 1..40_u64 {
                let (mut one, mut other) = (Digest::default(), Digest::default());
                one.put(5);
                other.put(5 ^ (1 << bit));
                for word in 0..behind {
                    one.put(word);
                    other.put(word);
                }
                missed += u64::from(one.low() == other.low());
            }
        }
        assert!(missed <= 2, "{missed} of 2496 go unseen");
    }
}
