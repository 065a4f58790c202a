//! From moments to places on the page: moments at which something is told are at least a line apart, and idle times are short.

use super::Unit;

/// Between two moments at least, in pixels.
const LEAST: f64 = 4.0;
/// In front of a moment with a text at least.
const LINE: f64 = 14.0;
/// Between two moments at most.
const MOST: f64 = 56.0;
/// What a pixel stands for in between, in nanoseconds.
const NS_PER_PIXEL: f64 = 500_000.0;

/// Where each moment stands.
#[derive(Debug, Default)]
pub(super) struct Axis {
    unit: Unit,
    places: Vec<(u64, f64)>,
}

impl Axis {
    /// An axis of these moments, each with whether there is a text beside it; in any order, and repeated as may be.
    pub(super) fn of(unit: Unit, mut moments: Vec<(u64, bool)>) -> Self {
        // A moment with a text comes first among its like.
        moments.sort_unstable_by_key(|(moment, told)| (*moment, !told));
        moments.dedup_by_key(|(moment, _)| *moment);
        let mut places: Vec<(u64, f64)> = Vec::with_capacity(moments.len());
        for (moment, told) in moments {
            let before = places.last().copied();
            let place = before.map_or(0.0, |(last, place)| place + gap(unit, moment - last, told));
            places.push((moment, place));
        }
        Self { unit, places }
    }

    /// Where a moment stands; one before the first at the top, one behind the last at the end.
    pub(super) fn place(&self, moment: u64) -> f64 {
        let at = self.places.partition_point(|(known, _)| *known <= moment);
        at.checked_sub(1).and_then(|at| self.places.get(at)).map_or(0.0, |(_, place)| *place)
    }

    /// How long it is.
    pub(super) fn length(&self) -> f64 {
        self.places.last().map_or(0.0, |(_, place)| *place)
    }

    /// Moments to name at the axis, at least two lines apart.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for (moment, place) in &self.places {
            if ticks.last().is_none_or(|(last, _)| place - last >= 2.0 * LINE) {
                ticks.push((*place, self.name(*moment)));
            }
        }
        ticks
    }

    /// A moment in words.
    pub(super) fn name(&self, moment: u64) -> String {
        match self.unit {
            Unit::Steps => format!("{moment}"),
            Unit::Nanoseconds => {
                format!("{}.{:03} ms", moment / 1_000_000, moment / 1_000 % 1_000)
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a place on a page")]
fn gap(unit: Unit, ns: u64, told: bool) -> f64 {
    let least = if told { LINE } else { LEAST };
    match unit {
        Unit::Steps => 2.0 * LINE,
        Unit::Nanoseconds => (ns as f64 / NS_PER_PIXEL).clamp(least, MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_keep_their_order_and_texts_their_distance() {
        let axis = Axis::of(
            Unit::Nanoseconds,
            vec![(10, true), (5, false), (5, true), (1_000_000_000, false), (11, false)],
        );
        let places: Vec<f64> =
            [5, 10, 11, 1_000_000_000].iter().map(|moment| axis.place(*moment)).collect();
        assert_eq!(places, [0.0, LINE, LINE + LEAST, LINE + LEAST + MOST]);
        assert_eq!((axis.place(0), axis.place(u64::MAX)), (0.0, axis.length()));
    }
}
