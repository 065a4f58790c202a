//! The drawing as a file: a bare SVG, or a page whose head stays in sight.

use std::fmt::Write as _;

use super::draw::{Drawing, draw, lane, plain};
use super::{Trace, Window};

const STYLE: &str = "
svg{font:11px/1.2 system-ui,sans-serif;background:#fff}
text{fill:#222;paint-order:stroke;stroke:#fff;stroke-width:2.5px}
.tick{stroke:#eee}.time{fill:#777;text-anchor:end}
.follower{fill:#b9c9de}.rehearsal{fill:#f4dc9c}.candidate{fill:#eea93b}.leader{fill:#3c9d5c}
.down{fill:#fff;stroke:#b00020;stroke-dasharray:3 3}
.sent line{stroke:#345}.again line{stroke:#7b3fa0;stroke-dasharray:6 3}
.lost line{stroke:#b00020;stroke-dasharray:2 3}.lost path{stroke:#b00020;stroke-width:2}.lost text{fill:#b00020}
.sent.minor line,.again.minor line,.lost.minor line,.lost.minor path{opacity:.35}text.minor,.lost.minor text{fill:#999}
path.commit{fill:#1b7f3b}text.commit{fill:#1b7f3b}path.call{fill:#0b62c4}text.call{fill:#0b62c4}
path.disk{fill:#777}text.disk{fill:#777}text.state{font-weight:600}
.fault{fill:#e4572e}text.wrong{fill:#b3361a}
.broken{stroke:#b00020;stroke-width:2}.verdict{fill:#b00020;font-weight:700;font-size:13px}
";

const MARKER: &str = r##"<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#345"/></marker></defs>"##;

const LEGEND: &str = r#"<p class="legend"><span style="background:#b9c9de">follower</span> <span style="background:#f4dc9c">rehearsal</span> <span style="background:#eea93b">candidate</span> <span style="background:#3c9d5c;color:#fff">leader</span> <span style="border:1px dashed #b00020">down</span> &#8594; delivered; dashed violet: a further copy; dotted red with a cross: lost; green sign: commit; blue: a request; grey: disk; red bar: a fault, as long as it lasts; red line: a broken property. Time is not to scale.</p>"#;

/// What stands above the lanes.
fn names(trace: &Trace) -> String {
    let mut out = String::new();
    for (number, name) in trace.lanes.iter().map(String::as_str).chain(["network"]).enumerate() {
        let x = lane(number);
        let _ = write!(
            out,
            r#"<text x="{x:.0}" y="16" text-anchor="middle" font-weight="700">{}</text>"#,
            plain(name)
        );
    }
    out
}

/// What a chart leaves out.
fn note(drawing: &Drawing, window: Window, trace: &Trace) -> String {
    let (from, to) = (window.from, window.to.min(trace.end()));
    let range = match trace.unit {
        super::Unit::Steps => format!("Steps {from} to {to}"),
        super::Unit::Nanoseconds => format!("{} ms to {} ms", from / 1_000_000, to / 1_000_000),
    };
    let omitted = if drawing.omitted == 0 {
        String::new()
    } else {
        format!("; the last {} events of it are left out", drawing.omitted)
    };
    format!("{range} of {} events in all{omitted}.", trace.events.len())
}

/// The chart as one SVG document.
pub fn svg(trace: &Trace, window: Window) -> String {
    let drawing = draw(trace, window);
    let (width, height) = (drawing.width, drawing.height + 44.0);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}"><style>{STYLE}</style>{MARKER}<text x="8" y="14" font-weight="700">{}</text><text x="8" y="28">{}</text><g transform="translate(0 26)">{}</g><g transform="translate(0 44)">
{}</g></svg>
"#,
        plain(&trace.title),
        plain(&note(&drawing, window, trace)),
        names(trace),
        drawing.body
    )
}

/// The chart as one page, which needs nothing else.
pub fn html(trace: &Trace, window: Window) -> String {
    let drawing = draw(trace, window);
    let Drawing { width, height, .. } = drawing;
    format!(
        r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}
body{{margin:0;font:13px/1.4 system-ui,sans-serif;color:#222;background:#fff}}header{{padding:8px 12px}}h1{{font-size:16px;margin:0}}p{{margin:4px 0}}
.legend span{{padding:0 6px;border-radius:3px}}.names{{position:sticky;top:0;border-bottom:1px solid #ccc;width:{width:.0}px;background:#fff}}
#quiet:checked~div .minor{{display:none}}#quiet,#quiet+label{{margin-left:12px}}
</style></head><body><header><h1>{title}</h1><p>{note}</p>{LEGEND}</header>
<input type="checkbox" id="quiet"><label for="quiet"> hide signs of life</label>
<div class="names"><svg width="{width:.0}" height="24">{names}</svg></div>
<div><svg width="{width:.0}" height="{height:.0}">{MARKER}
{body}</svg></div></body></html>
"#,
        title = plain(&trace.title),
        note = plain(&note(&drawing, window, trace)),
        names = names(trace),
        body = drawing.body
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::{EVENTS_MAX, Event, Fate, Kind, Role};

    fn story() -> Trace {
        let mut trace = Trace::new("a & b", ["node 1", "node 2"]);
        trace.push(Event::at(0, Kind::State(Role::Leader, 7)).of(0));
        trace.push(Event::at(0, Kind::State(Role::Down, 0)).of(1));
        for (at, fate) in [(1, Fate::Delivered), (2, Fate::Again), (3, Fate::Lost)] {
            let sent = Event::at(at, Kind::Message(fate)).of(0).to(1).until(at + 9);
            trace.push(sent.says(format!("Vote <{at}>")));
        }
        trace.push(Event::at(4, Kind::Fault).says("a cut").until(u64::MAX));
        trace.push(Event::at(14, Kind::Broken).says("ElectionSafety"));
        trace
    }

    #[test]
    fn everything_that_happens_is_drawn_and_told_apart() {
        let page = html(&story(), Window::of(&story()));
        for part in [
            "a &amp; b",
            r#"class="leader""#,
            "leader, term 7",
            r#"class="down""#,
            r#"class="sent""#,
            r#"class="again""#,
            r#"class="lost""#,
            "Vote &lt;3&gt;",
            r#"class="fault""#,
            "ElectionSafety",
        ] {
            assert!(page.contains(part), "{part} is missing in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("Vote <"));
    }

    #[test]
    fn a_window_shows_what_lies_in_it() {
        let picture = svg(&story(), Window { from: 0, to: 2 });
        assert!(picture.contains(r#"class="sent""#) && !picture.contains("ElectionSafety"));
        let late = svg(&story(), Window { from: 14, to: 20 });
        assert!(late.contains("leader, term 7") && !late.contains(r#"class="lost""#));
    }

    #[test]
    fn a_long_run_is_cut_off_and_says_so() {
        let mut trace = story();
        trace.events.extend((20..40_000).map(|at| Event::at(at, Kind::Commit).of(0)));
        let all = svg(&trace, Window { from: 0, to: u64::MAX });
        assert!(all.contains("events of it are left out"), "{}", all.len());
        assert!(all.matches("<path").count() < EVENTS_MAX + 10);
        let last = Window::of(&trace);
        assert!(last.to - last.from < EVENTS_MAX as u64, "{last:?}");
    }
}
