//! A few whole members, driven by hand: what must hold between their sides.

mod leases;
mod start;
