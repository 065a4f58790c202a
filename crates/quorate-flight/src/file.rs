//! The file: `docs/formats/flight.md`, byte for byte. All numbers are little-endian.
//!
//! What is damaged ends the recording there; the segments before it are whole, for each has a checksum of its own.

use quorate_raft::{GroupId, Mono, RecordError};

use crate::recorder::Segment;

/// The version that this code writes, and the only one that it reads.
pub const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"QRTFLT\0\0";
const SEGMENT_MAGIC: [u8; 4] = *b"QSEG";
const HEADER_BYTES: usize = 32;
const SEGMENT_HEADER_BYTES: usize = 40;
const UNFINISHED: u32 = 1;

/// Bytes that are no recording, or only the beginning of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlightError {
    /// It is something else.
    #[error("this is no flight recording: its first bytes are others")]
    NotARecording,
    /// It is of another version.
    #[error("the recording is of version {found}; this program reads version {VERSION}")]
    Version {
        /// Which one.
        found: u32,
    },
    /// It ends too early.
    #[error("the recording ends at byte {offset}, in the middle of {what}")]
    Truncated {
        /// Where the file ends.
        offset: usize,
        /// What is not whole.
        what: &'static str,
    },
    /// Its bytes are not those that were written.
    #[error("the recording is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where the damaged part begins.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Its checksums hold, and yet it says nothing that makes sense.
    #[error("the recording makes no sense at byte {offset}: {source}")]
    Senseless {
        /// Where.
        offset: usize,
        /// Why.
        source: RecordError,
    },
}

/// A recording, being read.
#[derive(Clone, Debug)]
pub struct Recording<'a> {
    /// Whose core it is.
    pub group: GroupId,
    /// What is whole, oldest first.
    pub segments: Vec<SegmentView<'a>>,
    /// Why there is no more, if there should be.
    pub damage: Option<FlightError>,
}

/// An image, and the events behind it.
#[derive(Clone, Copy, Debug)]
pub struct SegmentView<'a> {
    /// How many steps the core had taken at the image.
    pub first_step: u64,
    /// How many steps follow it.
    pub steps: u64,
    /// When it begins.
    pub begun: Mono,
    /// It ends with an event whose step did not end: the process went down in it.
    pub unfinished: bool,
    /// Where in the file its body begins.
    pub(crate) offset: usize,
    pub(crate) body: &'a [u8],
}

pub(crate) fn write<'a>(
    group: GroupId,
    segments: impl ExactSizeIterator<Item = &'a Segment> + Clone,
) -> Vec<u8> {
    let bodies: usize = segments.clone().map(|one| one.body.len() + SEGMENT_HEADER_BYTES).sum();
    let mut out = Vec::with_capacity(HEADER_BYTES + bodies);
    let count = u32::try_from(segments.len()).unwrap_or(u32::MAX);
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&group.0.to_le_bytes());
    header.extend_from_slice(&count.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    out.append(&mut header);
    for segment in segments {
        write_segment(segment, &mut out);
    }
    out
}

fn write_segment(segment: &Segment, out: &mut Vec<u8>) {
    let length = u32::try_from(segment.body.len()).unwrap_or(u32::MAX);
    let flags = if segment.unfinished { UNFINISHED } else { 0 };
    let mut header = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    header.extend_from_slice(&length.to_le_bytes());
    header.extend_from_slice(&flags.to_le_bytes());
    for number in [segment.first_step, segment.steps, segment.begun.0] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header), &segment.body);
    out.extend_from_slice(&SEGMENT_MAGIC);
    out.extend_from_slice(&crc.to_le_bytes());
    out.append(&mut header);
    out.extend_from_slice(&segment.body);
}

/// The part of the file that is not read yet.
struct Rest<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Rest<'a> {
    fn take<const COUNT: usize>(&mut self, what: &'static str) -> Result<[u8; COUNT], FlightError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk() else {
            return Err(self.truncated(what));
        };
        (self.bytes, self.offset) = (rest, self.offset + COUNT);
        Ok(*taken)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, FlightError> {
        self.take(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, FlightError> {
        self.take(what).map(u64::from_le_bytes)
    }

    fn body(&mut self, length: u32) -> Result<&'a [u8], FlightError> {
        let split = usize::try_from(length).ok().and_then(|at| self.bytes.split_at_checked(at));
        let Some((body, rest)) = split else { return Err(self.truncated("a segment")) };
        (self.bytes, self.offset) = (rest, self.offset + body.len());
        Ok(body)
    }

    /// The checksum of the next `count` bytes, as far as there are so many.
    fn crc(&self, count: usize) -> u32 {
        crc32c::crc32c(self.bytes.get(..count).unwrap_or(self.bytes))
    }

    fn truncated(&self, what: &'static str) -> FlightError {
        FlightError::Truncated { offset: self.offset + self.bytes.len(), what }
    }
}

impl<'a> Recording<'a> {
    /// Reads a recording, as far as it is whole.
    ///
    /// # Errors
    /// [`FlightError`] if not even its beginning is. Damage behind that is in [`Recording::damage`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, FlightError> {
        let mut rest = Rest { bytes, offset: 0 };
        if rest.take::<8>("its beginning")? != MAGIC {
            return Err(FlightError::NotARecording);
        }
        let (count, group) = read_header(&mut rest)?;
        let mut recording = Self { group, segments: Vec::new(), damage: None };
        for _ in 0..count {
            match read_segment(&mut rest) {
                Ok(segment) => recording.segments.push(segment),
                Err(damage) => {
                    recording.damage = Some(damage);
                    return Ok(recording);
                }
            }
        }
        if !rest.bytes.is_empty() {
            let what = "something follows the last segment";
            recording.damage = Some(FlightError::Damaged { offset: rest.offset, what });
        }
        Ok(recording)
    }
}

fn read_header(rest: &mut Rest<'_>) -> Result<(u32, GroupId), FlightError> {
    let offset = rest.offset;
    let crc = rest.u32("its beginning")?;
    let computed = rest.crc(HEADER_BYTES - rest.offset);
    let found = rest.u32("its beginning")?;
    let group = GroupId(rest.u64("its beginning")?);
    let count = rest.u32("its beginning")?;
    rest.take::<4>("its beginning")?;
    if computed != crc {
        return Err(FlightError::Damaged { offset, what: "the checksum of the beginning" });
    }
    if found != VERSION {
        return Err(FlightError::Version { found });
    }
    Ok((count, group))
}

fn read_segment<'a>(rest: &mut Rest<'a>) -> Result<SegmentView<'a>, FlightError> {
    let what = "a segment";
    let start = rest.offset;
    if rest.take(what)? != SEGMENT_MAGIC {
        return Err(FlightError::Damaged { offset: start, what: "no segment begins here" });
    }
    let crc = rest.u32(what)?;
    let header = rest.crc(SEGMENT_HEADER_BYTES - 8);
    let (length, flags) = (rest.u32(what)?, rest.u32(what)?);
    let (first_step, steps, begun) = (rest.u64(what)?, rest.u64(what)?, Mono(rest.u64(what)?));
    let offset = rest.offset;
    let body = rest.body(length)?;
    if crc32c::crc32c_append(header, body) != crc {
        return Err(FlightError::Damaged { offset: start, what: "the checksum of a segment" });
    }
    let unfinished = flags & UNFINISHED != 0;
    Ok(SegmentView { first_step, steps, begun, unfinished, offset, body })
}
