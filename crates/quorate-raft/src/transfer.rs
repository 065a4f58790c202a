//! Leadership transfer.
use crate::{Mono, NodeId};
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    pub(crate) due: Mono,
}
