//! A failing window as a picture: one row for each client, one bar for each operation, time from left to right.
//!
//! The page is one file without scripts, fonts or links, so that it can be kept beside a seed and opened anywhere. A bar's tooltip
//! holds the whole request and outcome.
//!
//! Left out: more than `SHOWN_MAX` operations; nobody reads them.

use std::{collections::BTreeSet, fmt::Debug, fmt::Write as _};

use crate::{
    history::{Operation, Outcome},
    verdict::Verdict,
};

/// How many operations a picture shows at most.
pub(crate) const SHOWN_MAX: usize = 400;

const WIDTH: f64 = 1100.0;
const LEFT: f64 = 90.0;
const ROW: f64 = 26.0;
const TOP: f64 = 30.0;

/// How many characters of a label stand in a bar; the rest is in its tooltip.
const LABEL_CHARS: usize = 24;

/// What a picture needs to know of an operation.
pub trait Shown {
    /// Who asked.
    fn client(&self) -> u64;
    /// From when to when; `None` if it was never answered.
    fn span(&self) -> (u64, Option<u64>);
    /// The request and what came of it.
    fn label(&self) -> String;
    /// The colour class: `ok`, `failed` or `unknown`.
    fn class(&self) -> &'static str;
}

impl<Q: Debug, R: Debug> Shown for Operation<Q, R> {
    fn client(&self) -> u64 {
        self.client
    }

    fn span(&self) -> (u64, Option<u64>) {
        (self.invoke, self.deadline())
    }

    fn label(&self) -> String {
        match &self.outcome {
            Outcome::Ok(reply) => format!("{:?} -> {reply:?}", self.request),
            Outcome::Failed => format!("{:?} failed", self.request),
            Outcome::Unknown => format!("{:?} unknown", self.request),
        }
    }

    fn class(&self) -> &'static str {
        match self.outcome {
            Outcome::Ok(_) => "ok",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
        }
    }
}

/// Draws the operations that `verdict` names, or the first ones of a history in which nothing is wrong.
pub fn timeline_html<T: Shown>(history: &[T], verdict: &Verdict) -> String {
    let named: BTreeSet<usize> =
        verdict.findings().iter().flat_map(|finding| finding.operations.iter().copied()).collect();
    let all: Vec<usize> =
        if named.is_empty() { (0..history.len()).collect() } else { named.into_iter().collect() };
    let shown: Vec<(usize, &T)> =
        all.iter().take(SHOWN_MAX).filter_map(|id| Some((*id, history.get(*id)?))).collect();
    page(verdict, &picture(&shown), all.len().saturating_sub(shown.len()))
}

fn page(verdict: &Verdict, picture: &str, left_out: usize) -> String {
    let style = "body{font:13px sans-serif;margin:24px}pre{white-space:pre-wrap}.ok{fill:#b7e1cd}.failed{fill:#ddd}\
                 .unknown{fill:#fce8b2}.ends{stroke:#c00;stroke-width:2}text{font:11px monospace}";
    let text = escape(&verdict.to_string());
    let more = if left_out > 0 {
        format!("<p>{left_out} more operations are not shown.</p>")
    } else {
        String::new()
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>History</title>\
         <style>{style}</style></head>\n<body><h1>History</h1>\n<pre>{text}</pre>\n{picture}{more}\
         <p>Green: answered. Grey: failed. Yellow: unknown, may take effect at any later time. Red: the operation that returned last.</p>\
         </body></html>\n"
    )
}

/// Where times lie on the paper.
struct Scale {
    from: u64,
    to: u64,
}

impl Scale {
    fn of<T: Shown>(shown: &[(usize, &T)]) -> Self {
        let spans = || shown.iter().map(|(_, one)| one.span());
        let from = spans().map(|(from, _)| from).min().unwrap_or(0);
        let to = spans().map(|(from, to)| to.unwrap_or(from)).max().unwrap_or(from);
        Self { from, to: to.max(from + 1) }
    }

    #[expect(clippy::cast_precision_loss, reason = "a pixel is coarser than what is lost")]
    fn x(&self, at: u64) -> f64 {
        let part = at.saturating_sub(self.from) as f64 / (self.to - self.from) as f64;
        LEFT + part.min(1.0) * (WIDTH - LEFT)
    }
}

fn picture<T: Shown>(shown: &[(usize, &T)]) -> String {
    let clients: BTreeSet<u64> = shown.iter().map(|(_, one)| one.client()).collect();
    let scale = Scale::of(shown);
    let last =
        shown.iter().filter_map(|(id, one)| Some((one.span().1?, *id))).max().map(|(_, id)| id);
    let mut rows = String::new();
    let mut y = TOP;
    for client in clients {
        let _ = write!(rows, "<text x=\"0\" y=\"{:.0}\">client {client}</text>", y + 15.0);
        for (id, one) in shown.iter().filter(|(_, one)| one.client() == client) {
            rows.push_str(&bar(*id, *one, &scale, y, last == Some(*id)));
        }
        y += ROW;
    }
    let (from, to) = (scale.from, scale.to);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{:.0}\">\
         <text x=\"{LEFT}\" y=\"14\">{from} ns</text>\
         <text x=\"{WIDTH}\" y=\"14\" text-anchor=\"end\">{to} ns</text>{rows}</svg>",
        WIDTH + 20.0,
        y + ROW
    )
}

fn bar<T: Shown>(id: usize, one: &T, scale: &Scale, y: f64, last: bool) -> String {
    let (from, to) = one.span();
    let (left, right) = (scale.x(from), scale.x(to.unwrap_or(scale.to)));
    let label = escape(&one.label());
    let short = escape(&one.label().chars().take(LABEL_CHARS).collect::<String>());
    let class = if last { format!("{} ends", one.class()) } else { one.class().to_owned() };
    format!(
        "<g><title>{id}: {label}</title><rect class=\"{class}\" x=\"{left:.1}\" y=\"{y:.0}\" width=\"{:.1}\" \
         height=\"20\" rx=\"3\"/><text x=\"{:.1}\" y=\"{:.0}\">{short}</text></g>\n",
        (right - left).max(3.0),
        left + 3.0,
        y + 14.0
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
