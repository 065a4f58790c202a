//! How much of a long read is done in one go.
//!
//! A thread that answers many clients must not be held by one of them. So whatever may walk over many keys is done in
//! slices: each gets a [`Budget`], stops when it is spent, and goes on later where it stopped, over the same view. Who
//! calls decides what happens in between.

/// Bytes of a value that cost as much as one step of a scan.
const BYTES_PER_STEP: usize = 512;
/// What finding one pair by its key costs, in steps of a scan.
const LOOKUP_STEPS: usize = 8;

/// What a slice of a long read may still spend, in steps: a step is one version of a key passed by a scan, some 100 to
/// 200 ns. A pair that is read costs a few, and one more for each 512 bytes.
///
/// Whatever takes a budget does at least one step of work before it looks whether the budget is spent, so that every slice
/// brings it nearer to its end.
#[derive(Debug)]
pub struct Budget {
    left: usize,
}

impl Budget {
    /// A budget of this many steps.
    pub const fn new(steps: usize) -> Self {
        Self { left: steps }
    }

    /// One that is never spent in practice.
    pub const fn unlimited() -> Self {
        Self { left: usize::MAX }
    }

    /// Whether nothing is left.
    pub const fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Takes what one version costs that a scan passed.
    pub(crate) const fn spend_step(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Takes what a lookup costs that gave this many bytes.
    pub(crate) const fn spend_lookup(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(LOOKUP_STEPS + bytes / BYTES_PER_STEP);
    }

    /// Takes what reading this many bytes costs that a scan came by.
    pub(crate) const fn spend_bytes(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes / BYTES_PER_STEP);
    }
}
