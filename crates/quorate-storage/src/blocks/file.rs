//! A file of checksummed blocks, as redb's storage backend.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::StorageBackend;

use super::{
    fault::Report,
    header::{Header, PAYLOAD_BYTES},
    layout::{
        BLOCK, BLOCK_BYTES, HEADER_BLOCKS, LENGTH_BYTES_MAX, data_offset, file_bytes, place,
        run_blocks, sum_offset,
    },
    sums::{Group, NEVER_WRITTEN, block_sum},
};
use crate::vfs::VfsFile;

/// Groups kept in memory: 4 KiB each, for 4 MiB of the file. Sums of a file up to 16 GiB stay there whole.
const GROUPS_CACHED_MAX: usize = 4096;

/// Generations between two openings of a file: the upper half counts openings, the lower half syncs. Even, so that the
/// first sync after an opening writes the header slot that the header found there is not in.
const OPENING: u64 = 1 << 32;

/// Whether a file is made or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The file is empty and gets a header with this salt.
    New(u64),
    /// The file has one.
    Existing,
}

/// A file of checksummed blocks. Any number of threads may read it while one writes.
#[derive(Debug)]
pub(crate) struct BlockFile {
    file: Box<dyn VfsFile>,
    report: Arc<Report>,
    /// Held for the whole of a sync or a change of length. Taken before the two below, which are taken in their order.
    resizing: Mutex<Sizes>,
    sums: RwLock<Sums>,
    header: Mutex<Head>,
    /// The generation that was found at the opening.
    found: u64,
    salt: u64,
    /// A sync failed: nothing that is on disk can be relied on any more, and nothing is written.
    dead: AtomicBool,
}

/// Physical sizes in bytes.
#[derive(Debug)]
struct Sizes {
    /// The file's.
    file: u64,
    /// Whether the file may be longer than the logical length needs, so that it is cut after the next sync.
    shrunk: bool,
}

#[derive(Debug)]
struct Head {
    header: Header,
    /// Whether it, or any block, changed since the last sync.
    dirty: bool,
}

#[derive(Debug)]
struct Sums {
    groups: BTreeMap<u32, Group>,
    /// Where the search for a group to give up goes on.
    hand: u32,
}

impl BlockFile {
    /// Opens `file`. The header is written anew, with a generation that no crash can have left behind anywhere.
    ///
    /// # Errors
    /// Those of the file; `InvalidData` when it has no whole header or is shorter than that says.
    pub(crate) fn open(
        file: Box<dyn VfsFile>,
        start: Start,
        report: Arc<Report>,
    ) -> io::Result<Self> {
        let header = match start {
            Start::New(salt) => Header::new(salt),
            Start::Existing => read_header(&*file, &report)?,
        };
        let size = file.size_bytes().map_err(|error| report.io("size".into(), &error))?;
        report.set_file_bytes(size);
        let blocks = Self {
            file,
            report,
            resizing: Mutex::new(Sizes { file: size, shrunk: true }),
            sums: RwLock::new(Sums { groups: BTreeMap::new(), hand: 0 }),
            found: header.generation,
            salt: header.salt,
            header: Mutex::new(Head { header, dirty: true }),
            dead: AtomicBool::new(false),
        };
        blocks.start(start)?;
        Ok(blocks)
    }

    /// Leaves the generation behind that a crashed sync may have used for sums, makes the header durable, and cuts the
    /// file to its length.
    fn start(&self, start: Start) -> io::Result<()> {
        match start {
            Start::New(_) => self.resize_physical(&mut self.sizes(), file_bytes(0))?,
            // What was read may be written but not synced yet: the process died, the machine did not.
            Start::Existing => self.sync_file()?,
        }
        self.head().header.generation += OPENING;
        self.sync_data()
    }

    fn head(&self) -> MutexGuard<'_, Head> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sums(&self) -> RwLockWriteGuard<'_, Sums> {
        self.sums.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn sizes(&self) -> MutexGuard<'_, Sizes> {
        self.resizing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether sums of `generation` can be on disk: from before the opening, the sync that a crash interrupted included, or
    /// from after it. If not, the header that was found is older than the last one that was synced.
    fn is_possible(&self, generation: u64) -> bool {
        let newest = self.head().header.generation + 1;
        generation <= self.found + 1 || (self.found + OPENING..=newest).contains(&generation)
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.dead.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync failed"));
        }
        Ok(())
    }

    fn sync_file(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|error| {
            self.dead.store(true, Ordering::Release);
            self.report.io("sync".into(), &error)
        })
    }

    fn write_physical(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_alive()?;
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| self.report.io(format!("write at {offset}"), &error))
    }

    fn read_physical(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.report.corrupt(offset, "the file ends before this block does")
            } else {
                self.report.io(format!("read at {offset}"), &error)
            }
        })
    }

    /// The part of an access that lies in block 0, and the rest, which starts and ends with a block.
    fn check_access(&self, offset: u64, len: usize) -> io::Result<Access> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= LENGTH_BYTES_MAX);
        let refuse = |what: &str| {
            let text = format!("{what}: offset {offset}, {len} bytes");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        };
        let Some(end) = end else {
            return refuse("access beyond the largest file");
        };
        if end > self.head().header.length {
            return refuse("access beyond the end");
        }
        if offset < BLOCK && end <= PAYLOAD_BYTES as u64 {
            return Ok(Access::Head(usize::try_from(offset).unwrap_or(PAYLOAD_BYTES)));
        }
        if offset < BLOCK || !offset.is_multiple_of(BLOCK) || !end.is_multiple_of(BLOCK) {
            return refuse("access that is neither in the header nor of whole blocks");
        }
        Ok(Access::Blocks(offset / BLOCK))
    }

    /// Reads whole blocks of one group that lie next to each other, and checks them.
    fn read_run(&self, first: u64, out: &mut [u8]) -> io::Result<()> {
        let count = out.len() / BLOCK_BYTES;
        let sums = self.expected(first, count)?;
        self.read_physical(out, data_offset(first))?;
        if self.first_bad(first, out, &sums).is_none() {
            return Ok(());
        }
        // Once more with every writer shut out: bytes and sum may have been read on two sides of a write.
        let mut held = self.sums();
        let (number, index) = place(first);
        let group = self.group(&mut held, number)?;
        self.read_physical(out, data_offset(first))?;
        match self.first_bad(first, out, &group.copy(index, count)) {
            Some((block, what)) => Err(self.bad_block(block, what, number, group.damaged)),
            None => Ok(()),
        }
    }

    /// The first block of `bytes` that does not match its sum, and how.
    fn first_bad(&self, first: u64, bytes: &[u8], sums: &[u32]) -> Option<(u64, &'static str)> {
        let blocks = (first..).zip(bytes.chunks(BLOCK_BYTES).zip(sums));
        blocks.into_iter().find_map(|(number, (bytes, sum))| match *sum {
            NEVER_WRITTEN => Some((number, "has no checksum")),
            sum if sum != block_sum(self.salt, number, bytes) => {
                Some((number, "fails its checksum"))
            }
            _ => None,
        })
    }

    /// The error for a block that fails its check. When the newer sums of its group may be lost, those are to blame.
    fn bad_block(&self, block: u64, what: &str, group: u32, damaged: Option<u8>) -> io::Error {
        let at = data_offset(block);
        match damaged.map(|slot| sum_offset(group, slot)) {
            None => self.report.corrupt(at, format!("block {block} {what}")),
            Some(offset) => self.report.corrupt(
                offset,
                format!("this checksum block is not whole, and block {block} at {at} {what} in the one before"),
            ),
        }
    }

    /// The sums of `count` blocks from `first` on, all in one group.
    fn expected(&self, first: u64, count: usize) -> io::Result<Vec<u32>> {
        let (number, index) = place(first);
        let held = self.sums.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = held.groups.get(&number) {
            return Ok(group.copy(index, count));
        }
        drop(held);
        Ok(self.group(&mut self.sums(), number)?.copy(index, count))
    }

    /// The group `number`, read if it is not in memory.
    fn group<'a>(&self, sums: &'a mut Sums, number: u32) -> io::Result<&'a mut Group> {
        if !sums.groups.contains_key(&number) {
            let group = self.load(number)?;
            sums.make_room();
            sums.groups.insert(number, group);
        }
        sums.groups.get_mut(&number).ok_or_else(|| io::Error::other("a group just loaded is gone"))
    }

    fn load(&self, number: u32) -> io::Result<Group> {
        let mut slots = vec![0; 2 * BLOCK_BYTES];
        self.read_physical(&mut slots, sum_offset(number, 0))?;
        let mut newest = Group::newest(self.salt, &slots, number);
        if !matches!(newest, Ok(Group { damaged: None, .. })) {
            // The read may have gone astray, and older sums than there are would be kept for good.
            self.read_physical(&mut slots, sum_offset(number, 0))?;
            newest = Group::newest(self.salt, &slots, number);
        }
        let group = newest.map_err(|slot| {
            let what = format!("no whole checksum block for group {number}");
            self.report.corrupt(sum_offset(number, slot), what)
        })?;
        if !self.is_possible(group.generation) {
            let what = format!(
                "checksums of generation {}, but the header was of {}: a newer one was lost",
                group.generation, self.found
            );
            return Err(self.report.corrupt(sum_offset(number, group.slot), what));
        }
        Ok(group)
    }

    fn write_blocks(&self, mut block: u64, mut data: &[u8]) -> io::Result<()> {
        let mut sums = self.sums();
        self.head().dirty = true;
        while !data.is_empty() {
            let most = usize::try_from(run_blocks(block)).unwrap_or(1) * BLOCK_BYTES;
            let (run, rest) = data.split_at(data.len().min(most));
            let (number, index) = place(block);
            let group = self.group(&mut sums, number)?;
            self.write_physical(run, data_offset(block))?;
            for (at, bytes) in run.chunks(BLOCK_BYTES).enumerate() {
                group.set(index + at, block_sum(self.salt, block + at as u64, bytes));
            }
            block += (run.len() / BLOCK_BYTES) as u64;
            data = rest;
        }
        Ok(())
    }

    fn read_blocks(&self, mut block: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            let most = usize::try_from(run_blocks(block)).unwrap_or(1) * BLOCK_BYTES;
            let (run, rest) = out.split_at_mut(out.len().min(most));
            self.read_run(block, run)?;
            block += (run.len() / BLOCK_BYTES) as u64;
            out = rest;
        }
        Ok(())
    }

    /// Makes everything durable; any error is final.
    fn sync_with(&self, sizes: &mut Sizes) -> io::Result<()> {
        self.check_alive()?;
        let synced = self.write_and_sync(sizes);
        if synced.is_err() {
            self.dead.store(true, Ordering::Release);
        }
        synced
    }

    /// Writes what changed to the older slots, then syncs, then cuts the file if it is too long.
    fn write_and_sync(&self, sizes: &mut Sizes) -> io::Result<()> {
        let (header, length) = {
            let mut sums = self.sums();
            let mut head = self.head();
            if !head.dirty {
                return Ok(());
            }
            head.dirty = false;
            head.header.generation += 1;
            let header = head.header.clone();
            drop(head);
            self.write_sums(&mut sums, header.generation)?;
            (header.clone(), header.length)
        };
        for number in Header::copies(Header::slot(header.generation)) {
            self.write_physical(&header.encode(number), u64::from(number) * BLOCK)?;
        }
        self.sync_file()?;
        if std::mem::take(&mut sizes.shrunk) && sizes.file > file_bytes(length) {
            self.resize_physical(sizes, file_bytes(length))?;
        }
        Ok(())
    }

    fn write_sums(&self, sums: &mut Sums, generation: u64) -> io::Result<()> {
        for (number, group) in sums.groups.iter_mut().filter(|(_, group)| group.dirty) {
            let slot = 1 - group.slot;
            let block = group.encode(self.salt, *number, generation);
            self.write_physical(&block, sum_offset(*number, slot))?;
            (group.slot, group.generation, group.dirty) = (slot, generation, false);
            group.damaged = None;
        }
        Ok(())
    }

    fn resize_physical(&self, sizes: &mut Sizes, bytes: u64) -> io::Result<()> {
        self.file
            .set_len(bytes)
            .map_err(|error| self.report.io(format!("resize to {bytes} bytes"), &error))?;
        sizes.file = bytes;
        self.report.set_file_bytes(bytes);
        Ok(())
    }

    /// Takes blocks behind `length` out of the sums, so that they count as never written when the file grows again.
    fn forget_blocks(&self, length: u64) -> io::Result<()> {
        let (number, index) = place(length.div_ceil(BLOCK).max(1));
        let mut sums = self.sums();
        let gone = if index == 0 { number } else { number.saturating_add(1) };
        drop(sums.groups.split_off(&gone));
        if index > 0 {
            self.group(&mut sums, number)?.forget_from(index);
        }
        Ok(())
    }

    fn grow(&self, sizes: &mut Sizes, length: u64) -> io::Result<()> {
        if sizes.shrunk {
            self.sync_with(sizes)?;
        }
        if file_bytes(length) > sizes.file {
            self.resize_physical(sizes, file_bytes(length))?;
            self.sync_file()?;
        }
        Ok(())
    }
}

/// What an access touches.
enum Access {
    /// The header, from this byte of logical block 0 on.
    Head(usize),
    /// Whole blocks, from this one on.
    Blocks(u64),
}

impl Sums {
    /// Gives up a group that is on disk as it is in memory, when there are too many.
    fn make_room(&mut self) {
        if self.groups.len() < GROUPS_CACHED_MAX {
            return;
        }
        let clean = |(number, group): (&u32, &Group)| (!group.dirty).then_some(*number);
        let behind = self.groups.range(self.hand..).find_map(clean);
        if let Some(number) = behind.or_else(|| self.groups.iter().find_map(clean)) {
            self.groups.remove(&number);
            self.hand = number;
        }
    }
}

fn read_header(file: &dyn VfsFile, report: &Report) -> io::Result<Header> {
    let size = file.size_bytes().map_err(|error| report.io("size".into(), &error))?;
    let blocks = usize::try_from(HEADER_BLOCKS).unwrap_or(0);
    if size < HEADER_BLOCKS * BLOCK {
        return Err(report.corrupt(size, "the file ends inside its header"));
    }
    let mut bytes = vec![0; blocks * BLOCK_BYTES];
    file.read_exact_at(&mut bytes, 0)
        .map_err(|error| report.io("read the header".into(), &error))?;
    let header = Header::newest(&bytes)
        .ok_or_else(|| report.corrupt(0, "none of the four header blocks is whole"))?;
    let needed = file_bytes(header.length);
    if size < needed {
        let what = format!("the file ends here, but its header says {needed} bytes");
        return Err(report.corrupt(size, what));
    }
    Ok(header)
}

impl StorageBackend for BlockFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.head().header.length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.check_access(offset, out.len())? {
            Access::Head(start) => {
                let head = self.head();
                let bytes = head.header.payload.get(start..start + out.len());
                out.copy_from_slice(bytes.unwrap_or_default());
                Ok(())
            }
            Access::Blocks(block) => self.read_blocks(block, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > LENGTH_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{len} bytes is beyond the largest file"),
            ));
        }
        let mut sizes = self.sizes();
        let old = self.head().header.length;
        if len > old {
            self.grow(&mut sizes, len)?;
        } else if len < old {
            self.forget_blocks(len)?;
            sizes.shrunk = true;
        }
        let mut head = self.head();
        head.header.length = len;
        head.dirty = true;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_with(&mut self.sizes())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.check_access(offset, data.len())? {
            Access::Head(start) => {
                let mut head = self.head();
                head.dirty = true;
                let place = head.header.payload.get_mut(start..start + data.len());
                place.unwrap_or_default().copy_from_slice(data);
                Ok(())
            }
            Access::Blocks(block) => self.write_blocks(block, data),
        }
    }

    /// One more sync, so that both header slots say the same: a file that was closed has four copies of its header.
    fn close(&self) -> io::Result<()> {
        if self.dead.load(Ordering::Acquire) {
            return Ok(());
        }
        self.head().dirty = true;
        self.sync_data()
    }
}
