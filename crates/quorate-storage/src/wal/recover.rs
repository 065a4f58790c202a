//! Finding out after a start what the log holds, and what of its tail was never acknowledged.
//!
//! All segments are read in order and every byte of every batch is checked. Where a segment has a successor, the successor's
//! header says where it ends: anything wrong before that is corruption. In the last segment the first thing that is not a good
//! batch is either the end, a torn batch, or corruption; it is corruption exactly when a witness says that a batch with this number or a
//! later one was acknowledged: the newest mark, or a later batch of the same segment whose header says so. Without a witness
//! nothing from there on was ever acknowledged, and it is cut off. What lies behind the log's end may be anything, also values that
//! were made to look like batches: a witness has to know the salt of the segment's use, which no client was ever told.
//!
//! What cannot be told apart: a power cut that loses the newest marks *and* damage to the very last batch.

use std::{collections::VecDeque, path::Path};

use quorate_node::LogError;
use quorate_raft::GroupId;

use super::{
    error,
    format::{
        self, ALIGN, BATCH_MAGIC, Batch, BatchHeader, DATA_START, Expected, Flaw, Raw,
        SegmentHeader,
    },
    index::{Change, LogIndex, Misfit, Place},
    marks::{FILE_NAME, Mark},
    record::{self, Decoded},
    segments::Segments,
};

/// A page that nothing was ever written to.
const UNUSED: [u8; 4096] = [0; 4096];

/// What the log is after a replay.
#[derive(Debug)]
pub(super) struct Replayed {
    pub index: LogIndex,
    /// What the next batch has to be.
    pub expected: Expected,
    /// Where it goes in its segment.
    pub end: u64,
    /// Whether the last segment holds no batch yet.
    pub segment_is_empty: bool,
    /// The end of what a witness says is durable, and the bytes from there to `end`.
    pub unwitnessed: (u64, Vec<u8>),
    /// Segments that are not connected to the log: what a retirement left.
    pub strays: Vec<u64>,
}

/// Replays segments `numbers`, which are sorted. `None` for a log that was never begun.
pub(super) fn replay(
    segments: &mut Segments,
    numbers: &[u64],
    mark: Option<Mark>,
) -> Result<Option<Replayed>, LogError> {
    let mut numbers = numbers.to_vec();
    let mut image = Vec::new();
    discard_unborn(segments, &mut numbers, mark, &mut image)?;
    check_newest(segments, numbers.last().copied(), mark)?;
    let Some(newest) = numbers.last().copied() else { return Ok(None) };
    let strays = split_strays(&mut numbers);
    let mut replay = Replay::new(mark);
    for number in &numbers {
        segments.load(*number, &mut image)?;
        replay.segment(segments, *number, &image, *number == newest)?;
    }
    if let Some((group, index)) = replay.index.gap() {
        let what = format!("entry {index} of group {group} is missing, and the segment it was in");
        let oldest = numbers.first().copied().unwrap_or(1);
        return Err(error::corrupt(&segments.path(oldest.saturating_sub(1)), 0, what));
    }
    replay.finish(&image, strays).map(Some)
}

/// The creation of the newest segment may have been cut short before its header was durable, and so before any batch was
/// written to it. Then it is none yet.
fn discard_unborn(
    segments: &mut Segments,
    numbers: &mut Vec<u64>,
    mark: Option<Mark>,
    image: &mut Vec<u8>,
) -> Result<(), LogError> {
    let Some(newest) = numbers.last().copied() else { return Ok(()) };
    let flaw = match SegmentHeader::decode(&segments.peek(newest)?) {
        Ok(header) if header.number == newest => return Ok(()),
        Ok(_) => "header of another segment",
        Err(flaw) => flaw,
    };
    segments.load(newest, image)?;
    let only = newest != 1 && !numbers.contains(&(newest - 1));
    let marked = mark.is_some_and(|mark| mark.segment >= newest);
    // Only where the first batch of every use of the file stands: further on there may be a client's bytes, and without a header
    // there is no salt to tell them by.
    let start = usize::try_from(DATA_START).unwrap_or(usize::MAX);
    let first = BatchHeader::decode(image.get(start..).unwrap_or_default());
    let is_begun = first.is_ok_and(|(header, _)| header.segment == newest);
    if only || marked || is_begun {
        return Err(error::corrupt(&segments.path(newest), 0, flaw));
    }
    numbers.pop();
    segments.discard(newest)
}

fn check_newest(
    segments: &Segments,
    newest: Option<u64>,
    mark: Option<Mark>,
) -> Result<(), LogError> {
    match mark {
        Some(mark) if newest.is_none_or(|newest| newest < mark.segment) => {
            let what = format!("the file is missing, but was acknowledged up to {}", mark.end);
            Err(error::corrupt(&segments.path(mark.segment), mark.end, what))
        }
        Some(_) | None => Ok(()),
    }
}

/// Keeps the unbroken run of numbers that ends with the newest one, and answers the others.
fn split_strays(numbers: &mut Vec<u64>) -> Vec<u64> {
    let broken =
        numbers.windows(2).rposition(|pair| pair.first().map(|n| n + 1) != pair.last().copied());
    let connected = numbers.split_off(broken.map_or(0, |at| at + 1));
    std::mem::replace(numbers, connected)
}

/// Whether the header of any batch in `image`, wherever it stands, is readable and as wanted.
fn has_batch(image: &[u8], wanted: impl Fn(&BatchHeader) -> bool) -> bool {
    let readable = |at: usize| {
        let bytes = image.get(at..).unwrap_or_default();
        bytes.starts_with(&BATCH_MAGIC)
            && BatchHeader::decode(bytes).is_ok_and(|(header, _)| wanted(&header))
    };
    // Room that was never used is passed over in large steps.
    let pages = image.chunks(UNUSED.len()).zip((0..).step_by(UNUSED.len()));
    let mut used = pages.filter(|(page, _)| !UNUSED.starts_with(page));
    used.any(|(page, start)| (start..start + page.len()).step_by(ALIGN).any(readable))
}

/// A replay on its way.
struct Replay {
    index: LogIndex,
    mark: Option<Mark>,
    expected: Option<Expected>,
    end: u64,
    segment_is_empty: bool,
    /// Number and end of the batches of this segment that have no witness yet.
    unwitnessed: VecDeque<(u64, u64)>,
    witnessed_end: u64,
    /// Why no batch stands at `end`.
    loss: String,
}

impl Replay {
    fn new(mark: Option<Mark>) -> Self {
        Self {
            index: LogIndex::default(),
            mark,
            expected: None,
            end: DATA_START,
            segment_is_empty: true,
            unwitnessed: VecDeque::new(),
            witnessed_end: DATA_START,
            loss: String::new(),
        }
    }

    /// Takes everything of segment `number`. `self.end` says where the one before ended.
    fn segment(
        &mut self,
        segments: &mut Segments,
        number: u64,
        image: &[u8],
        is_newest: bool,
    ) -> Result<(), LogError> {
        let path = segments.path(number);
        let flawed = |offset: u64, flaw: &str| error::corrupt(&path, offset, flaw);
        let header = SegmentHeader::decode(image).map_err(|flaw| flawed(0, flaw))?;
        if header.number != number {
            return Err(flawed(0, "header of another segment"));
        }
        let mut expected = self.begin(segments, &header)?;
        let mut records = Vec::new();
        let flaw = loop {
            let offset = usize::try_from(self.end).unwrap_or(usize::MAX);
            match format::batch_at(image, offset, &expected, &mut records) {
                Ok(batch) => self.batch(&path, &batch, &records, &mut expected)?,
                Err(flaw) => break flaw,
            }
        };
        self.expected = Some(expected);
        if let Some(segment) = segments.get_mut(number) {
            segment.end = self.end;
        }
        self.loss = self.loss(flaw, image);
        if is_newest && self.has_witness(number, image, &expected) {
            return Err(flawed(self.end, &self.loss));
        }
        Ok(())
    }

    /// Checks that the segment follows what was read before, and answers its first batch.
    fn begin(&mut self, segments: &Segments, header: &SegmentHeader) -> Result<Expected, LogError> {
        let SegmentHeader { number, first_batch, opening, previous_end, chain, salt, .. } = *header;
        if let Some(before) = &self.expected {
            let path = segments.path(number - 1);
            if self.end < previous_end {
                return Err(error::corrupt(&path, self.end, self.loss.as_str()));
            }
            if (self.end, before.batch, before.chain) != (previous_end, first_batch, chain) {
                return Err(error::corrupt(
                    &path,
                    previous_end,
                    "the next segment does not follow",
                ));
            }
        }
        self.end = DATA_START;
        self.witnessed_end = DATA_START;
        self.unwitnessed.clear();
        self.segment_is_empty = true;
        Ok(Expected { salt, segment: number, batch: first_batch, opening, chain })
    }

    fn batch(
        &mut self,
        path: &Path,
        batch: &Batch,
        records: &[Raw<'_>],
        expected: &mut Expected,
    ) -> Result<(), LogError> {
        for raw in records {
            let offset = raw.offset as u64;
            apply(&mut self.index, expected.segment, raw)
                .map_err(|what| error::corrupt(path, offset, what))?;
        }
        let number = batch.header.batch;
        self.end = batch.end as u64;
        self.segment_is_empty = false;
        self.check_mark(path, batch)?;
        self.unwitnessed.push_back((number, self.end));
        let marked = self.mark.filter(|mark| mark.segment == expected.segment);
        let synced = batch.header.synced.max(marked.map_or(0, |mark| mark.batch));
        while let Some((_, end)) = self.unwitnessed.front().filter(|(batch, _)| *batch <= synced) {
            self.witnessed_end = *end;
            self.unwitnessed.pop_front();
        }
        *expected = Expected {
            batch: number + 1,
            opening: batch.header.opening,
            chain: batch.chain,
            ..*expected
        };
        Ok(())
    }

    /// The batch that the mark names has to be the one that was marked.
    fn check_mark(&self, path: &Path, batch: &Batch) -> Result<(), LogError> {
        let Some(mark) = self.mark else { return Ok(()) };
        let here = (batch.header.segment, batch.header.batch, batch.header.opening);
        if here == (mark.segment, mark.batch, mark.opening)
            && (batch.end as u64, batch.chain) != (mark.end, mark.chain)
        {
            return Err(error::corrupt(path, self.end, "another batch than the acknowledged one"));
        }
        Ok(())
    }

    /// Whether anything says that the batch that is not there was acknowledged.
    fn has_witness(&self, number: u64, image: &[u8], expected: &Expected) -> bool {
        let marked =
            self.mark.is_some_and(|mark| mark.segment == number && mark.batch >= expected.batch);
        let rest = usize::try_from(self.end).ok().and_then(|end| image.get(end..));
        marked
            || has_batch(rest.unwrap_or_default(), |header| {
                header.salt == expected.salt
                    && header.segment == number
                    && header.synced >= expected.batch
            })
    }

    /// What is lost with the batch at `self.end`, as far as its records can be read.
    fn loss(&self, flaw: Flaw, image: &[u8]) -> String {
        let start = usize::try_from(self.end).unwrap_or(usize::MAX);
        let Ok((_, mut seed)) = BatchHeader::decode(image.get(start..).unwrap_or_default()) else {
            return format!("{flaw}, in an acknowledged batch");
        };
        let mut at = start + format::BATCH_HEADER_BYTES;
        while let Ok((raw, next)) = format::record_at(image, at, seed) {
            (at, seed) = (at + raw.bytes, next);
        }
        let name = record::guess_name(image.get(at..).unwrap_or_default());
        format!("{flaw}, in an acknowledged batch, from {at} on, where {name} seems to stand")
    }

    fn finish(self, image: &[u8], strays: Vec<u64>) -> Result<Replayed, LogError> {
        let Some(expected) = self.expected else {
            return Err(error::corrupt(Path::new(FILE_NAME), 0, "no segment was read"));
        };
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        let tail = image.get(at(self.witnessed_end)..at(self.end)).unwrap_or_default();
        Ok(Replayed {
            index: self.index,
            expected,
            end: self.end,
            segment_is_empty: self.segment_is_empty,
            unwitnessed: (self.witnessed_end, tail.to_vec()),
            strays,
        })
    }
}

/// Does to `index` what `raw` says.
pub(super) fn apply(index: &mut LogIndex, segment: u64, raw: &Raw<'_>) -> Result<(), String> {
    let decoded = record::decode(raw)?;
    let bytes = u32::try_from(raw.bytes).map_err(|_| "record is too long")?;
    let place = Place { segment, offset: raw.offset as u64, bytes, seed: raw.seed };
    let change = match &decoded {
        Decoded::Save { hard_state, entries } => {
            Change::Save { hard_state: *hard_state, first: entries.first, count: entries.count }
        }
        Decoded::Install { hard_state, base } => Change::Install { hard_state: *hard_state, base },
        Decoded::Compacted { base } => Change::Compacted { base },
        Decoded::State { hard_state, base, next } => {
            Change::State { hard_state: *hard_state, base: base.as_ref(), next: *next }
        }
        Decoded::Rewritten { entries } => {
            Change::Rewritten { first: entries.first, count: entries.count }
        }
    };
    let misfit = |Misfit { index, what }| format!("{what}: entry {index} of group {}", raw.group);
    index.apply(GroupId(raw.group), &change, place).map_err(misfit)
}
