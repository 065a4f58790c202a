//! Every flag that is accepted: one row each.
//!
//! A flag that etcd knows and that has no effect here is still accepted, with a line in the log, so that a command line
//! written for etcd works; one whose silent loss would be dangerous (TLS, a forced new cluster) is refused instead.

mod ignored;
mod used;

use super::{settings::Draft, values::Problem};

/// One flag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    /// Without dashes.
    pub(super) name: &'static str,
    /// Its default, as etcd's help shows it.
    pub(super) default: &'static str,
    pub(super) kind: Kind,
    pub(super) effect: Effect,
}

/// How its value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text, with its own rules.
    Text,
    /// True or false; the bare flag is true.
    Bool,
    /// A duration, which config files write as nanoseconds.
    Duration,
}

/// What it does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// It sets something; with a line of help.
    Set(fn(&mut Draft, &str) -> Result<(), Problem>, &'static str),
    /// Nothing, for this reason.
    Ignored(&'static str),
    /// Any value but these is an error, for this reason.
    Refused(&'static [&'static str], &'static str),
}

/// All rows.
pub(super) fn flags() -> impl Iterator<Item = &'static Flag> {
    used::FLAGS.iter().chain(ignored::FLAGS)
}

/// The row of a flag.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    flags().find(|flag| flag.name == name)
}
