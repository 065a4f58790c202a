//! Prometheus' plain text format, version 0.0.4.

use std::fmt::{Display, Write};

use super::Histogram;

/// A page of metrics being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// A counter without labels.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, "counter").sample(name, "", value);
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, help, "gauge").sample(name, "", value);
    }

    /// The head of a family; its samples follow.
    pub(super) fn family(&mut self, name: &str, help: &str, kind: &str) -> &mut Self {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        self
    }

    /// One sample; `labels` are written already, without braces.
    pub(super) fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        if labels.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{labels}}} {value}"));
        }
    }

    /// The samples of a histogram.
    pub(super) fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let comma = if labels.is_empty() { "" } else { "," };
        let (buckets, count) = histogram.cumulative();
        for (bound, up_to) in buckets {
            self.line(format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {up_to}"));
        }
        self.line(format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}"));
        self.sample(&format!("{name}_sum"), labels, histogram.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), labels, count);
    }

    /// The finished page.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut page = Page::default();
        page.counter("a_total", "As.", 3);
        let histogram = Histogram::doubling(0.5, 1);
        histogram.observe(Duration::from_millis(250));
        page.family("b_seconds", "Bs.", "histogram").histogram("b_seconds", "To=\"1\"", &histogram);
        let expected = "# HELP a_total As.\n# TYPE a_total counter\na_total 3\n\
            # HELP b_seconds Bs.\n# TYPE b_seconds histogram\n\
            b_seconds_bucket{To=\"1\",le=\"0.5\"} 1\nb_seconds_bucket{To=\"1\",le=\"+Inf\"} 1\n\
            b_seconds_sum{To=\"1\"} 0.25\nb_seconds_count{To=\"1\"} 1\n";
        assert_eq!(page.into_text(), expected);
    }
}
