//! The fingerprint of a run: two runs with the same one did the same.

/// A rolling hash of 128 bits. Not for secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rolling {
    one: u64,
    other: u64,
}

impl Rolling {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            one: seed ^ 0x243f_6a88_85a3_08d3,
            other: seed.rotate_left(32) ^ 0x1319_8a2e_0370_7344,
        }
    }

    pub(crate) fn add(&mut self, value: u64) {
        self.one = (self.one ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        self.other = (self.other.rotate_left(23) ^ value).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    }

    pub(crate) fn value(self) -> u128 {
        u128::from(self.one) << 64 | u128::from(self.other)
    }
}
