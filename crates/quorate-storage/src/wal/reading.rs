//! Reading entries back: which bytes of which file, in few reads, and every check before anything is believed.

use bytes::Bytes;
use quorate_node::{Entry, LogError};
use quorate_raft::GroupId;

use super::{
    error,
    format::{self, Flaw},
    index::{GroupState, Place, Span},
    record::{self, Decoded, Entries},
    segments::Segments,
};

/// One read of the disk asks for no more than this, or for one record.
pub(super) const RUN_BYTES_MAX: u64 = 1024 * 1024;
/// Records with no more than this between them are read together.
const RUN_GAP_BYTES_MAX: u64 = 512;

/// Records that are read together: all in one segment, in order.
#[derive(Debug)]
pub(super) struct Run {
    spans: Vec<(u64, Span)>,
    start: u64,
    end: u64,
    segment: u64,
}

impl Run {
    /// The records that hold `first..=last`, as far as one read goes. Content above `bytes_max` is not read on.
    pub(super) fn plan(state: &GroupState, first: u64, last: u64, bytes_max: u64) -> Option<Self> {
        let (key, span) = state.span_at(first)?;
        let Place { segment, offset, .. } = span.place;
        let mut run =
            Self { spans: vec![(key, span)], start: offset, end: span.place.end(), segment };
        let most = bytes_max.min(RUN_BYTES_MAX);
        for (key, span) in state.spans.range(key + 1..).take_while(|(key, _)| **key <= last) {
            let place = &span.place;
            let near = place.offset >= run.end && place.offset - run.end <= RUN_GAP_BYTES_MAX;
            if place.segment != segment || !near || place.end() - run.start > most {
                break;
            }
            run.end = place.end();
            run.spans.push((*key, *span));
        }
        Some(run)
    }

    /// Reads the run and hands every entry from `first` on to `take`, until it answers false.
    pub(super) fn read(
        &self,
        segments: &Segments,
        group: GroupId,
        first: u64,
        mut take: impl FnMut(u64, Entry) -> bool,
    ) -> Result<(), LogError> {
        let image = self.load(segments)?;
        for (key, span) in &self.spans {
            let offset = span.place.offset;
            let entries = self.entries(&image, group, span).map_err(|flaw| {
                let lost = format!("{flaw}: entries {key} to {} of group {group}", span.last);
                error::corrupt(&segments.path(self.segment), offset, lost)
            })?;
            for (index, (meta, payload)) in (span.record_first..=span.last).zip(entries.iter()) {
                let payload = || image.slice_ref(payload);
                if index >= first.max(*key) && !take(index, Entry { meta, payload: payload() }) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn load(&self, segments: &Segments) -> Result<Bytes, LogError> {
        let path = || segments.path(self.segment);
        let gone = || error::corrupt(&path(), self.start, "the segment is not open");
        let segment = segments.get(self.segment).ok_or_else(gone)?;
        let length = usize::try_from(self.end - self.start).unwrap_or(usize::MAX);
        let mut image = vec![0; length];
        match segment.file.read_exact_at(&mut image, self.start) {
            Ok(()) => Ok(image.into()),
            Err(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(error::corrupt(&segment.path, self.start, "the file ends before its records"))
            }
            Err(source) => Err(error::io(&segment.path, "read", source)),
        }
    }

    fn entries<'a>(
        &self,
        image: &'a [u8],
        group: GroupId,
        span: &Span,
    ) -> Result<Entries<'a>, Flaw> {
        let offset = usize::try_from(span.place.offset - self.start).unwrap_or(usize::MAX);
        let (raw, _) = format::record_at(image, offset, span.place.seed)?;
        match record::decode(&raw)? {
            Decoded::Save { entries, .. } | Decoded::Rewritten { entries }
                if raw.group == group.0 && entries.first.0 == span.record_first =>
            {
                Ok(entries)
            }
            Decoded::Save { .. }
            | Decoded::Rewritten { .. }
            | Decoded::Install { .. }
            | Decoded::Compacted { .. }
            | Decoded::State { .. } => Err("another record than the one expected"),
        }
    }
}
