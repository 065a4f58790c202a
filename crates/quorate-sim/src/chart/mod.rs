//! Sequence charts: a run as a picture, for people, who look before they read.
//!
//! Whoever runs something writes down a [`Trace`]: a plain list of [`Event`]s, each with its time, its [`Kind`], its member,
//! its peer and a short text. [`html`] and [`svg`] draw it: a column for each member on one axis of time that runs down the
//! page, roles and terms as coloured bars, messages as arrows, and at the right what is wrong with the network. Nothing here
//! knows a world or a core, so any world, the explorer or a recording can be drawn.
//!
//! ```
//! use quorate_sim::chart::{Event, Fate, Kind, Role, Trace, Window, html};
//!
//! let mut trace = Trace::new("two members", ["node 1", "node 2"]);
//! trace.push(Event::at(0, Kind::State(Role::Leader, 1)).of(0));
//! trace.push(Event::at(5, Kind::Message(Fate::Delivered)).of(0).to(1).until(9).says("AppendEntries"));
//! trace.push(Event::at(9, Kind::Broken).of(1).says("LogMatching"));
//! assert!(html(&trace, Window::of(&trace)).contains("LogMatching"));
//! ```
//!
//! Events may be written down in any order. Time is not drawn to scale: moments at which something is told stand at
//! least a line apart, and a long time in which nothing happens takes little room; the axis says what time it is. A chart draws at
//! most [`EVENTS_MAX`] events of its window and says how many it left out.
//!
//! The page is one file without scripts; what can be hidden is hidden by style sheets. Left out: zooming, and more than
//! one group in one chart.

mod axis;
mod draw;
mod page;
mod trace;

pub use page::{html, svg};
pub use trace::{Event, Fate, Kind, Role, Trace, Unit, Window};

/// The most events that one chart draws.
pub const EVENTS_MAX: usize = 3_000;
