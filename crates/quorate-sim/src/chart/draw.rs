//! Lines, bars, arrows and words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::axis::Axis;
use super::{EVENTS_MAX, Event, Fate, Kind, Role, Trace, Window};

/// Left of the first lane: the time.
const MARGIN: f64 = 230.0;
/// From lane to lane.
const PITCH: f64 = 300.0;
/// Above the first moment.
const TOP: f64 = 12.0;
/// For what is wrong with the network.
const NETWORK: f64 = 340.0;
/// How many faults of the network stand beside each other.
const COLUMNS: usize = 5;
/// A text beside a lane has at most so many letters; all of it is shown under the pointer.
const LETTERS_MAX: usize = 44;

/// What became of a drawing.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    /// The picture's elements.
    pub(super) body: String,
    pub(super) width: f64,
    pub(super) height: f64,
    /// How many events of the window are not shown.
    pub(super) omitted: usize,
}

/// The side of a lane that a text stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Left,
    Right,
}

/// Texts by where they stand, so that those at one place are written one behind the other.
type Labels = BTreeMap<(usize, Side, u64), Vec<(String, &'static str)>>;

struct Pen<'a> {
    axis: Axis,
    window: Window,
    lanes: usize,
    out: String,
    labels: Labels,
    /// How many messages were lost on their way from a lane, to its left or right, at a moment.
    lost: BTreeMap<(usize, bool, u64), u32>,
    /// Until when each column of the network's faults is taken.
    columns: [u64; COLUMNS],
    trace: &'a Trace,
}

/// The horizontal place of a lane.
#[allow(clippy::cast_precision_loss, reason = "a place on a page")]
pub(super) fn lane(number: usize) -> f64 {
    MARGIN + PITCH * number as f64 + PITCH / 2.0 - 60.0
}

/// Text without what has a meaning in XML.
pub(super) fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn short(text: &str) -> String {
    if text.chars().count() <= LETTERS_MAX {
        return text.to_owned();
    }
    text.chars().take(LETTERS_MAX - 1).chain(['…']).collect()
}

/// Draws what a window shows.
pub(super) fn draw(trace: &Trace, window: Window) -> Drawing {
    let mut shown: Vec<&Event> = trace.events.iter().filter(|event| window.shows(event)).collect();
    shown.sort_by_key(|event| event.at);
    let is_state = |event: &&Event| matches!(event.kind, Kind::State(..));
    let count = shown.len();
    shown.truncate(EVENTS_MAX);
    let last = if count > EVENTS_MAX { shown.last().map(|event| event.at) } else { None };
    let window = Window { to: last.unwrap_or(window.to.min(trace.end())), ..window };
    let mut pen = Pen {
        axis: axis(trace, &shown, window),
        window,
        lanes: trace.lanes.len(),
        out: String::new(),
        labels: Labels::new(),
        lost: BTreeMap::new(),
        columns: [0; COLUMNS],
        trace,
    };
    pen.ticks();
    pen.states();
    for event in shown.iter().filter(|event| !is_state(event)) {
        pen.event(event);
    }
    pen.words();
    Drawing {
        width: lane(pen.lanes) + NETWORK,
        height: pen.axis.length() + 2.0 * TOP + 20.0,
        body: pen.out,
        omitted: count - shown.len(),
    }
}

fn axis(trace: &Trace, shown: &[&Event], window: Window) -> Axis {
    let within = |moment: u64| moment.clamp(window.from, window.to);
    let mut moments = vec![(window.from, false), (window.to, false)];
    for event in shown {
        let is_message = matches!(event.kind, Kind::Message(fate) if fate != Fate::Lost);
        let told = !event.text.is_empty() || matches!(event.kind, Kind::State(..));
        moments.push((within(event.at), told && !is_message));
        moments.push((within(event.until), told && is_message));
    }
    Axis::of(trace.unit, moments)
}

impl Pen<'_> {
    fn y(&self, moment: u64) -> f64 {
        TOP + self.axis.place(moment.clamp(self.window.from, self.window.to))
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        let _ = self.out.write_fmt(element);
        self.out.push('\n');
    }

    fn ticks(&mut self) {
        let right = lane(self.lanes) + NETWORK;
        for (place, name) in self.axis.ticks() {
            let y = TOP + place;
            self.put(format_args!(
                r#"<line class="tick" x1="110" y1="{y:.0}" x2="{right:.0}" y2="{y:.0}"/><text class="time" x="104" y="{:.0}">{name}</text>"#,
                y + 4.0
            ));
        }
    }

    /// Each lane's bar, from state to state.
    fn states(&mut self) {
        for number in 0..self.lanes {
            let mut own: Vec<(u64, Role, u64, &str)> = Vec::new();
            for event in self.trace.events.iter().filter(|event| event.member == Some(number)) {
                if let Kind::State(role, term) = event.kind {
                    own.push((event.at, role, term, &event.text));
                }
            }
            own.sort_by_key(|(at, ..)| *at);
            let ends = own.iter().skip(1).map(|(at, ..)| *at).chain([u64::MAX]).collect::<Vec<_>>();
            for ((at, role, term, text), end) in own.into_iter().zip(ends) {
                if end >= self.window.from && at <= self.window.to {
                    self.bar(number, (at, end), (role, term), text);
                }
            }
        }
    }

    fn bar(&mut self, number: usize, (at, end): (u64, u64), (role, term): (Role, u64), text: &str) {
        let (name, class, half) = match role {
            Role::Down => ("down", "down", 3.0),
            Role::Follower => ("follower", "follower", 4.0),
            Role::PreCandidate => ("asks for a rehearsal", "rehearsal", 5.0),
            Role::Candidate => ("candidate", "candidate", 6.0),
            Role::Leader => ("leader", "leader", 8.0),
        };
        let (x, top, bottom) = (lane(number), self.y(at), self.y(end));
        let what =
            if role == Role::Down { name.to_owned() } else { format!("{name}, term {term}") };
        self.put(format_args!(
            r#"<rect class="{class}" x="{:.0}" y="{top:.0}" width="{:.0}" height="{:.0}"><title>{}: {what}</title></rect>"#,
            x - half,
            2.0 * half,
            bottom - top,
            plain(self.trace.lanes.get(number).map_or("", String::as_str))
        ));
        let words = if text.is_empty() { what } else { format!("{what}: {text}") };
        self.label(number, Side::Right, at.max(self.window.from), words, "state");
    }

    fn label(&mut self, lane: usize, side: Side, at: u64, text: String, class: &'static str) {
        if !text.is_empty() {
            self.labels.entry((lane, side, at)).or_default().push((text, class));
        }
    }

    fn event(&mut self, event: &Event) {
        let number = event.member.unwrap_or(self.lanes);
        let text = event.text.clone();
        match event.kind {
            Kind::State(..) => {}
            Kind::Message(fate) => self.arrow(event, fate),
            Kind::Fault => self.span(event, number),
            Kind::Commit => self.mark(number, event, "commit", Side::Right),
            Kind::Call => self.mark(number, event, "call", Side::Left),
            Kind::Disk => self.mark(number, event, "disk", Side::Right),
            Kind::Broken => {
                let (y, right) = (self.y(event.at), lane(self.lanes) + NETWORK);
                self.put(format_args!(
                    r#"<line class="broken" x1="110" y1="{y:.0}" x2="{right:.0}" y2="{y:.0}"/><text class="verdict" x="114" y="{:.0}">{}</text>"#,
                    y + 16.0,
                    plain(&text)
                ));
            }
        }
    }

    /// A small sign on a lane, with its text.
    fn mark(&mut self, number: usize, event: &Event, class: &'static str, side: Side) {
        let (x, y) = (lane(number), self.y(event.at));
        self.put(format_args!(
            r#"<path class="{class}" d="M{:.0} {y:.0}l5 -5 5 5 -5 5z"><title>{}</title></path>"#,
            x - 5.0,
            plain(&event.text)
        ));
        self.label(number, side, event.at, event.text.clone(), class);
    }

    fn arrow(&mut self, event: &Event, fate: Fate) {
        let (Some(from), Some(to)) = (event.member, event.peer) else { return };
        let minor = if event.minor { " minor" } else { "" };
        let side = if from < to { Side::Left } else { Side::Right };
        let (x1, y1) = (lane(from), self.y(event.at));
        let full = lane(to) - x1;
        let title = self.title(event);
        if fate == Fate::Lost {
            let others = self.lost.entry((from, full > 0.0, event.at)).or_default();
            let (x2, y2) = (x1 + full.signum() * 70.0, y1 + 6.0 + 11.0 * f64::from(*others));
            *others += 1;
            self.put(format_args!(
                r#"<g class="lost{minor}"><line x1="{x1:.0}" y1="{y1:.0}" x2="{x2:.0}" y2="{y2:.0}"/><path d="M{:.0} {:.0}l8 8m0 -8l-8 8"/><text x="{:.0}" y="{:.0}" text-anchor="{}">{}</text><title>{title}</title></g>"#,
                x2 - 4.0, y2 - 4.0, x2 + full.signum() * 8.0, y2 + 12.0,
                if full < 0.0 { "end" } else { "start" }, plain(&short(&event.text))
            ));
            return;
        }
        let class = if fate == Fate::Again { "again" } else { "sent" };
        let (x2, y2) = (x1 + full - full.signum() * 8.0, self.y(event.until));
        let head = if event.until > self.window.to { "" } else { r#" marker-end="url(#head)""# };
        self.put(format_args!(
            r#"<g class="{class}{minor}"><line x1="{x1:.0}" y1="{y1:.0}" x2="{x2:.0}" y2="{y2:.0}"{head}/><title>{title}</title></g>"#
        ));
        if event.until <= self.window.to {
            let copy = if fate == Fate::Again { " (again)" } else { "" };
            let class = if event.minor { "minor" } else { "message" };
            self.label(to, side, event.until, format!("{}{copy}", event.text), class);
        }
    }

    fn title(&self, event: &Event) -> String {
        let name = |lane: Option<usize>| {
            lane.and_then(|lane| self.trace.lanes.get(lane)).map_or("", String::as_str)
        };
        plain(&format!(
            "{} to {}: {} ({} to {})",
            name(event.member),
            name(event.peer),
            event.text,
            self.axis.name(event.at),
            self.axis.name(event.until)
        ))
    }

    /// A place for a fault of the network beside those that last.
    fn column(&mut self, event: &Event) -> f64 {
        let mut x = lane(self.lanes);
        for until in &mut self.columns {
            if *until <= event.at {
                *until = event.until;
                return x;
            }
            x += 9.0;
        }
        x
    }

    /// Something that is wrong for a while: beside its lane, or in the network's.
    fn span(&mut self, event: &Event, number: usize) {
        let at_member = event.member.is_some();
        let x = if at_member { lane(number) - 18.0 } else { self.column(event) };
        let (top, bottom) = (self.y(event.at), self.y(event.until));
        self.put(format_args!(
            r#"<rect class="fault" x="{x:.0}" y="{top:.0}" width="7" height="{:.0}"><title>{}</title></rect>"#,
            (bottom - top).max(3.0),
            plain(&event.text)
        ));
        let side = if at_member { Side::Left } else { Side::Right };
        self.label(number, side, event.at.max(self.window.from), event.text.clone(), "wrong");
    }

    /// Writes all texts.
    fn words(&mut self) {
        for ((number, side, at), words) in std::mem::take(&mut self.labels) {
            let (x, anchor) = match side {
                Side::Left => (lane(number) - 24.0, "end"),
                Side::Right if number == self.lanes => (lane(number) + 56.0, "start"),
                Side::Right => (lane(number) + 14.0, "start"),
            };
            let y = self.y(at) + 4.0;
            let all = words.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("; ");
            let minor = words.iter().all(|(_, class)| *class == "minor");
            let class = if minor {
                "minor"
            } else {
                words.iter().map(|(_, class)| *class).find(|class| *class != "minor").unwrap_or("")
            };
            self.put(format_args!(
                r#"<text class="{class}" x="{x:.0}" y="{y:.0}" text-anchor="{anchor}">{}<title>{}</title></text>"#,
                plain(&short(&all)),
                plain(&all)
            ));
        }
    }
}
