//! A wall clock that jumps and a disk that stands still: loaded into a process by `LD_PRELOAD`, it stands before the system's
//! `clock_gettime`, `fsync` and `fdatasync`.
//!
//! As long as the file that `QUAKE_FREEZE` names exists, no sync of the process returns.
//!
//! Ten times a second the wall clock of the process is `QUAKE_CLOCK_JUMP_SECONDS` ahead, and ten times as much behind. The monotonic
//! clocks are left alone: deadlines that a process hands to the kernel are of the kernel's clock, so one cannot be moved without
//! the other from here. Clocks that drift are the simulator's part.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// How long the clock is on one side, in nanoseconds.
const SIDE: libc::c_long = 50_000_000;

/// The jump in seconds; -1 as long as nobody has looked.
static JUMP: AtomicI64 = AtomicI64::new(-1);

/// The time of a clock; that of the wall jumps.
///
/// # Safety
/// As the system's: `time` points to where the answer may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    // SAFETY: the arguments are the caller's, who promises what the system asks for.
    let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if answer != 0 {
        return -1;
    }
    if clock == libc::CLOCK_REALTIME {
        // SAFETY: the system has just written there.
        let time = unsafe { &mut *time };
        let ahead = (time.tv_nsec / SIDE) % 2 == 0;
        time.tv_sec += if ahead { jump() } else { -jump() };
    }
    0
}

/// Reads the variable once, without anything that could ask for the time.
fn jump() -> i64 {
    let known = JUMP.load(Relaxed);
    if known >= 0 {
        return known;
    }
    // SAFETY: the name ends with 0; what `getenv` answers is a string that ends with 0, or null.
    let value = unsafe {
        let text = libc::getenv(c"QUAKE_CLOCK_JUMP_SECONDS".as_ptr());
        if text.is_null() { 0 } else { libc::atol(text) }
    };
    JUMP.store(value.max(0), Relaxed);
    value.max(0)
}

/// How often a sync looks whether it may go on, in nanoseconds.
const LOOK_EVERY: libc::c_long = 5_000_000;

/// What was written becomes durable, once the disk moves.
///
/// # Safety
/// As the system's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(file: libc::c_int) -> libc::c_int {
    wait_for_the_disk();
    // SAFETY: it only takes a number.
    answer(unsafe { libc::syscall(libc::SYS_fsync, file) })
}

/// The same without what only tells of the file.
///
/// # Safety
/// As the system's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(file: libc::c_int) -> libc::c_int {
    wait_for_the_disk();
    // SAFETY: it only takes a number.
    answer(unsafe { libc::syscall(libc::SYS_fdatasync, file) })
}

fn answer(answer: libc::c_long) -> libc::c_int {
    if answer == 0 { 0 } else { -1 }
}

fn wait_for_the_disk() {
    let pause = libc::timespec { tv_sec: 0, tv_nsec: LOOK_EVERY };
    // SAFETY: the names end with 0; what `getenv` answers is a string that ends with 0, or null; the pause lives until after the call.
    unsafe {
        let file = libc::getenv(c"QUAKE_FREEZE".as_ptr());
        while !file.is_null() && libc::access(file, libc::F_OK) == 0 {
            libc::nanosleep(&raw const pause, std::ptr::null_mut());
        }
    }
}
