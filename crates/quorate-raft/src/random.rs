//! The core's own random numbers: `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
//!
//! All a member needs is to choose differently from its peers, and the same again from the same seed. Not for secrets.

/// A stream of numbers that one seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Writes out where the stream is.
    #[cfg(feature = "record")]
    pub(crate) fn image(&self, out: &mut impl crate::record::Sink) {
        out.put(self.state);
    }

    /// The stream, from there on.
    #[cfg(feature = "record")]
    pub(crate) fn from_image(
        reader: &mut crate::record::Reader<'_>,
    ) -> Result<Self, crate::record::RecordError> {
        reader.word().map(|state| Self { state })
    }

    /// A wait in `[least_ns, 2 * least_ns)` (Raft paper 5.2: randomised, so that split votes are rare).
    pub(crate) fn timeout(&mut self, least_ns: u64) -> u64 {
        least_ns.saturating_add(self.next() % least_ns.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of seed 0, as every `SplitMix64` gives them.
    #[test]
    fn known_sequence() {
        let mut random = Random::new(0);
        assert_eq!(random.next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn timeouts_lie_in_one_to_two_and_reach_both_ends() {
        let mut random = Random::new(7);
        let waits: Vec<u64> = (0..10_000).map(|_| random.timeout(1000)).collect();
        assert!(waits.iter().all(|wait| (1000..2000).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 1010) && waits.iter().any(|wait| *wait > 1990));
    }
}
