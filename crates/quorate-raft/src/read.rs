//! Linearizable reads.
#[derive(Clone, Debug)]
pub(crate) struct Reads {}
impl Reads {
    pub(crate) fn new(_first: u64) -> Self {
        Self {}
    }
}
