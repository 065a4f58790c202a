//! What several targets share.

pub mod by_hand;
