//! What happens to files: a disk that is full, and bits that turn.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::dice::Dice;

/// The size of a small disk: room for a log and a state of some minutes.
const DISK_BYTES: u64 = 640 << 20;

/// A file system of its own in memory.
#[derive(Debug)]
pub struct SmallDisk {
    root: PathBuf,
}

impl SmallDisk {
    /// Mounts one at `root`; `None`, and a word, where that is not allowed.
    pub fn mount(root: &Path) -> Option<Self> {
        match Self::try_mount(root) {
            Ok(disk) => Some(disk),
            Err(error) => {
                println!("no small disk, so none gets full: {error}");
                None
            }
        }
    }

    fn try_mount(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let target = CString::new(root.as_os_str().as_bytes())?;
        let options = CString::new(format!("size={DISK_BYTES}"))?;
        // SAFETY: every pointer is to a string that ends with 0 and lives until after the call.
        let answer = unsafe {
            libc::mount(
                c"quake".as_ptr(),
                target.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                options.as_ptr().cast(),
            )
        };
        if answer == 0 {
            Ok(Self { root: root.to_owned() })
        } else {
            Err(io::Error::last_os_error())
        }
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// Takes all the room that is left.
    ///
    /// # Errors
    /// Those of the system, but for the one that is wanted.
    pub fn fill(&self) -> Result<()> {
        let ballast = File::create(self.ballast())?;
        let mut size = 0;
        let mut step: i64 = 64 << 20;
        while step >= 4096 {
            // SAFETY: `posix_fallocate` only takes numbers, of which one is an open file.
            if unsafe { libc::posix_fallocate(ballast.as_raw_fd(), size, step) } == 0 {
                size += step;
            } else {
                ballast.set_len(u64::try_from(size)?)?;
                step /= 2;
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub fn free(&self) {
        let _ = fs::remove_file(self.ballast());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Ok(target) = CString::new(self.root.as_os_str().as_bytes()) {
            // SAFETY: the pointer is to a string that ends with 0 and lives until after the call.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// A bit that was turned.
#[derive(Clone, Debug)]
pub struct Flip {
    /// In which file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
}

/// Turns one bit of what the files below `dir` hold: half of the time each file is as likely as the other, half of the time each byte
/// that was written.
///
/// # Errors
/// There is no file with anything in it; those of the system.
pub fn flip(dir: &Path, dice: &mut Dice) -> Result<Flip> {
    let mut files = Vec::new();
    gather(dir, &mut files)?;
    let chosen = if dice.once_in(2) {
        (!files.is_empty()).then(|| files.swap_remove(dice.place(files.len())))
    } else {
        by_weight(files, dice)
    };
    let file = chosen.with_context(|| format!("nothing to damage in {}", dir.display()))?;
    let mut content = Vec::new();
    File::open(&file)?.read_to_end(&mut content)?;
    let used = content.iter().rposition(|byte| *byte != 0).map_or(content.len(), |last| last + 1);
    let place = dice.place(used);
    let bit = 1 << dice.below(8);
    let turned = content.get(place).copied().unwrap_or(0) ^ bit;
    let offset = u64::try_from(place)?;
    OpenOptions::new().write(true).open(&file)?.write_all_at(&[turned], offset)?;
    Ok(Flip { file, offset })
}

/// One of the files, the more likely the more it really holds.
fn by_weight(files: Vec<PathBuf>, dice: &mut Dice) -> Option<PathBuf> {
    let weight =
        |path: &PathBuf| path.metadata().map_or(0, |data| data.size().min(data.blocks() * 512));
    let all: u64 = files.iter().map(weight).sum();
    let mut drawn = dice.below(all);
    files.into_iter().find(|path| {
        let weight = weight(path);
        let here = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        here
    })
}

fn gather(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            gather(&path, files)?;
        } else if path.metadata()?.len() > 0 {
            files.push(path);
        }
    }
    Ok(())
}

/// Copies a directory with all that is in it, holes included.
///
/// # Errors
/// Those of the system.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = std::process::Command::new("cp")
        .args(["-a", "--sparse=always", "--"])
        .args([from, to])
        .status()
        .context("run cp")?;
    anyhow::ensure!(status.success(), "copying {} failed", from.display());
    Ok(())
}
