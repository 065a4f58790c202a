//! How much may be under way: to one peer, and uncommitted in all.

use std::collections::VecDeque;

use crate::{Core, Index, Reject};

/// The unanswered appends to one peer, bounded by count and by bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inflights {
    appends: VecDeque<(Index, u64)>,
    bytes: u64,
}

impl Inflights {
    /// Notes an append that ends at `last` and has `bytes` of content.
    pub(crate) fn add(&mut self, last: Index, bytes: u64) {
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Everything up to `index` was answered.
    pub(crate) fn free_to(&mut self, index: Index) {
        while let Some((_, bytes)) =
            self.appends.front().filter(|(last, _)| *last <= index).copied()
        {
            self.appends.pop_front();
            self.bytes -= bytes;
        }
    }

    /// Nothing is under way any more.
    pub(crate) fn clear(&mut self) {
        self.appends.clear();
        self.bytes = 0;
    }

    /// Whether another append has to wait.
    pub(crate) fn is_full(&self, appends_max: usize, bytes_max: u64) -> bool {
        self.appends.len() >= appends_max || self.bytes >= bytes_max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.appends.len()
    }

    /// Writes out what is under way.
    #[cfg(feature = "explore")]
    pub(crate) fn words(&self, out: &mut Vec<u64>) {
        out.push(self.appends.len() as u64);
        out.extend(self.appends.iter().flat_map(|(last, bytes)| [last.0, *bytes]));
    }

    /// Writes out what is under way.
    #[cfg(feature = "record")]
    pub(crate) fn image(&self, out: &mut impl crate::record::Sink) {
        out.put(self.appends.len() as u64);
        for (last, bytes) in &self.appends {
            out.put_all([last.0, *bytes]);
        }
    }

    /// What was written out as under way.
    #[cfg(feature = "record")]
    pub(crate) fn from_image(
        reader: &mut crate::record::Reader<'_>,
    ) -> Result<Self, crate::record::RecordError> {
        let count = reader.count("number of appends")?;
        let appends: VecDeque<(Index, u64)> = reader.list(count, |reader| {
            Ok((reader.index()?, reader.up_to("size of an append", 1 << 43)?))
        })?;
        let bytes = appends.iter().map(|(_, bytes)| *bytes).sum();
        Ok(Self { appends, bytes })
    }

    /// Whether the sum is right and positions rise.
    pub(crate) fn is_consistent(&self, appends_max: usize) -> bool {
        let sum: u64 = self.appends.iter().map(|(_, bytes)| *bytes).sum();
        let rises =
            self.appends.iter().zip(self.appends.iter().skip(1)).all(|(one, next)| one.0 < next.0);
        sum == self.bytes && rises && self.appends.len() <= appends_max
    }
}

impl Core {
    /// Whether a leader may append `sizes` now. One proposal is always taken when nothing is uncommitted, however large.
    pub(crate) fn check_window(
        &self,
        sizes: &[u32],
        uncommitted_bytes: u64,
    ) -> Result<u64, Reject> {
        let bytes: u64 = sizes.iter().map(|size| u64::from(*size)).sum();
        let uncommitted = self.log.last().index.0 - self.commit.0;
        let bytes_fit = uncommitted_bytes == 0
            || uncommitted_bytes + bytes <= self.config.uncommitted_bytes_max;
        let entries_fit = uncommitted == 0
            || uncommitted + sizes.len() as u64 <= self.config.uncommitted_entries_max;
        if bytes_fit && entries_fit { Ok(bytes) } else { Err(Reject::WindowFull) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_is_full_by_count_or_by_bytes() {
        let mut inflights = Inflights::default();
        inflights.add(Index(1), 10);
        assert!(!inflights.is_full(2, 100));
        inflights.add(Index(2), 10);
        assert!(inflights.is_full(2, 100));
        assert!(inflights.is_full(9, 20));
        inflights.free_to(Index(1));
        assert!(!inflights.is_full(2, 20));
        assert!(inflights.is_consistent(2));
    }

    #[test]
    fn one_answer_frees_all_that_it_covers() {
        let mut inflights = Inflights::default();
        for index in 1..=5 {
            inflights.add(Index(index), 1);
        }
        inflights.free_to(Index(4));
        assert_eq!(inflights.len(), 1);
        inflights.free_to(Index(9));
        assert!(inflights.is_empty());
        assert!(inflights.is_consistent(8));
    }
}
