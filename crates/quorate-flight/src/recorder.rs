//! The ring.
//!
//! It has up to [`SEGMENTS_MAX`] segments. Each begins with an image of the core; behind it stand the events since, each with the
//! time and a few bits of a digest of what its step gave out. When the newest is full, the next begins, and the oldest goes. So
//! memory is bounded, a recording always begins with an image, and no less than three quarters of the ring are history.
//!
//! Nothing is allocated for an event: segments are written in place, and their memory goes round. Each [`CHECK_EVERY`] steps the
//! core's invariants are checked too, those of one moment and those from one to the next.
//!
//! A core whose image does not fit a half segment, or an event larger than a segment, leaves a gap: the ring keeps what it has
//! and goes on with an image later. Step numbers tell.

use std::collections::VecDeque;

use quorate_raft::{Broken, Core, Effects, Event, GroupId, Mono, Past, Sink, Verdict};

use crate::file;
use crate::words::{Digest, Writer, fold};

/// How much memory a ring takes when nobody says otherwise, in bytes. Some 200 000 events: seconds under full load, hours of
/// an idle group.
pub const RING_BYTES_DEFAULT: usize = 4 << 20;
/// The least memory that a ring takes, in bytes.
pub const RING_BYTES_MIN: usize = 16 << 10;
/// How many segments a ring has.
pub const SEGMENTS_MAX: usize = 4;

/// How many steps go by from one check of the invariants to the next.
const CHECK_EVERY: u64 = 64;
/// How many steps go by, when an image was too large, before the next is tried.
const REST_STEPS: u64 = 4_096;

/// An image, and the events behind it.
#[derive(Debug)]
pub(crate) struct Segment {
    /// How many steps the core had taken at the image.
    pub(crate) first_step: u64,
    /// How many steps follow it.
    pub(crate) steps: u64,
    /// When it begins.
    pub(crate) begun: Mono,
    /// It ends with an event whose step has not ended.
    pub(crate) unfinished: bool,
    pub(crate) body: Vec<u8>,
    latest: Mono,
    digest: Digest,
}

/// Keeps what one core was told, from its start to its end. See the [crate].
#[derive(Debug)]
pub struct Recorder {
    segment_bytes_max: usize,
    segments: VecDeque<Segment>,
    /// Whether the newest segment takes more.
    open: bool,
    /// The memory of the segment that went last.
    spare: Vec<u8>,
    steps: u64,
    resting: u64,
    past: Option<Past>,
}

impl Recorder {
    /// A ring of at most this many bytes, but no less than [`RING_BYTES_MIN`].
    pub fn new(ring_bytes_max: usize) -> Self {
        Self {
            // The memory that goes round is one segment more.
            segment_bytes_max: ring_bytes_max.max(RING_BYTES_MIN) / (SEGMENTS_MAX + 1),
            segments: VecDeque::with_capacity(SEGMENTS_MAX + 1),
            open: false,
            spare: Vec::new(),
            steps: 0,
            resting: 0,
            past: None,
        }
    }

    /// The core is about to take this step.
    #[inline]
    pub fn before(&mut self, now: Mono, core: &Core, event: Event<'_>) {
        if self.open && self.note(now, event) {
            return;
        }
        self.open = self.begin(now, core) && self.note(now, event);
    }

    /// It has taken it. `effects` holds what this step gave out, and nothing else.
    ///
    /// # Errors
    /// [`Broken`]: an invariant does not hold, now or a few steps ago. That is a defect of the core. Nothing of what it gave out
    /// since then may be carried out any more; keep the recording, and stop.
    #[inline]
    pub fn after(
        &mut self,
        core: &Core,
        verdict: Verdict,
        effects: &Effects,
    ) -> Result<(), Broken> {
        if let Some(segment) = self.segments.back_mut().filter(|segment| segment.unfinished) {
            core.digest(verdict, effects, &mut segment.digest);
            segment.body.extend_from_slice(&segment.digest.low().to_le_bytes());
            segment.unfinished = false;
            segment.steps += 1;
        }
        self.steps += 1;
        if self.steps.is_multiple_of(CHECK_EVERY) { self.check(core) } else { Ok(()) }
    }

    /// Checks the invariants of this moment, and those from the last check to now.
    ///
    /// # Errors
    /// Which one does not hold.
    pub fn check(&mut self, core: &Core) -> Result<(), Broken> {
        core.check()?;
        if let Some(past) = &self.past {
            past.check(core)?;
        }
        self.past = Some(Past::of(core));
        Ok(())
    }

    /// All that the ring holds, as a file. May be called at any time, also from a panic in the middle of a step.
    pub fn recording(&self, group: GroupId) -> Vec<u8> {
        file::write(group, self.segments.iter())
    }

    /// How many steps the core has taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How much memory the ring takes, in bytes.
    pub fn bytes(&self) -> usize {
        let segments = self.segments.iter().map(|segment| segment.body.capacity());
        segments.sum::<usize>() + self.spare.capacity()
    }

    /// Writes the event behind the others. Says `false`, and leaves the segment as it was, if it does not fit.
    fn note(&mut self, now: Mono, event: Event<'_>) -> bool {
        let Some(segment) = self.segments.back_mut() else { return false };
        let before = segment.body.len();
        let mut writer = Writer(&mut segment.body);
        writer.put(fold(now.0.wrapping_sub(segment.latest.0)));
        let is_whole = event.record(&mut writer);
        let fits = segment.body.len() + size_of::<u16>() <= self.segment_bytes_max;
        if !is_whole || !fits {
            segment.body.truncate(before);
            segment.body.shrink_to(self.segment_bytes_max);
            return false;
        }
        segment.latest = now;
        segment.unfinished = true;
        true
    }

    /// Begins the next segment. Says `false` if there is none: the image is too large, now or not long ago.
    fn begin(&mut self, now: Mono, core: &Core) -> bool {
        if self.resting > 0 {
            self.resting -= 1;
            return false;
        }
        let mut body = std::mem::take(&mut self.spare);
        body.clear();
        body.reserve_exact(self.segment_bytes_max);
        if !core.image(&mut Writer(&mut body)) || body.len() > self.segment_bytes_max / 2 {
            self.resting = REST_STEPS;
            return false;
        }
        self.segments.push_back(Segment {
            first_step: self.steps,
            steps: 0,
            begun: now,
            unfinished: false,
            body,
            latest: now,
            digest: Digest::default(),
        });
        if self.segments.len() > SEGMENTS_MAX {
            self.spare = self.segments.pop_front().map(|oldest| oldest.body).unwrap_or_default();
        }
        true
    }
}
