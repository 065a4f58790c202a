//! What each call of a tape does to a world.

use quorate_raft::{Fault, Message, Mono, Verdict};

use super::tape::Act;
use crate::world::{Body, Conviction, Disk, Input, Parcel, World, fault_of, id_of};

/// What a frame with a flipped bit says to whoever does not look at its checksum.
pub(super) fn garbled(parcel: &Parcel) -> Parcel {
    let mut parcel = parcel.clone();
    match &mut parcel.body {
        Body::Snapshot { snapshot, .. } => snapshot.state ^= 1,
        Body::Message(Message::AppendEntries { entries, commit, .. }) => match entries.last_mut() {
            Some(entry) => entry.payload ^= 1,
            None => commit.0 ^= 1,
        },
        Body::Message(_) => {}
    }
    parcel
}

/// A number for each kind of call.
pub(super) fn code_of(act: &Act) -> u64 {
    match act {
        Act::Start { .. } => 16,
        Act::Crash { .. } => 17,
        Act::Doom { .. } => 18,
        Act::Wake => 19,
        Act::Sync { .. } => 20,
        Act::Deliver { .. } => 21,
        Act::Propose { .. } => 22,
        Act::Read { .. } => 23,
        Act::Compact { .. } => 24,
        Act::SyncFailed => 25,
        Act::DiskFault { .. } => 26,
        Act::Repaired => 27,
        Act::Unreachable { .. } => 28,
        Act::SnapshotSent { .. } => 29,
        Act::Transfer { .. } => 30,
        Act::Kill => 31,
        Act::Lie => 32,
        Act::OwnUp => 33,
        Act::Damage { .. } => 34,
        Act::Wipe => 35,
        Act::Full => 36,
        Act::Room => 37,
    }
}

/// Makes a call to a world. Deliveries need a message at hand, and are made by whoever has it.
pub(super) fn perform(
    world: &mut World,
    seat: usize,
    now: Mono,
    act: &Act,
) -> Result<Option<Verdict>, Conviction> {
    match *act {
        Act::Start { random } => world.start(seat, now, random).map(|()| None),
        Act::Crash { kept } => world.crash(seat, kept).map(|()| None),
        Act::Doom { units } => {
            if let Some(member) = world.members.get_mut(seat).filter(|member| member.core.is_some())
            {
                member.doom = Some(units);
            }
            Ok(None)
        }
        Act::Wake => world.step(seat, now, Input::Wake),
        Act::Sync { count } => world.sync(seat, count, now),
        Act::Deliver { .. } => Ok(None),
        Act::Propose { count } => world.propose(seat, count, now),
        Act::Read { context } => world.read(seat, context, now),
        Act::Compact { kept } => world.compact(seat, kept, now),
        Act::SyncFailed => world.step(seat, now, Input::Fault(Fault::SyncFailed)),
        Act::DiskFault { which } => world.step(seat, now, Input::Fault(fault_of(which))),
        Act::Repaired => world.step(seat, now, Input::Repaired),
        Act::Unreachable { peer } => world.step(seat, now, Input::Unreachable(id_of(peer))),
        Act::SnapshotSent { to, last } => {
            world.step(seat, now, Input::SnapshotSent { to: id_of(to), last })
        }
        Act::Transfer { to } => world.step(seat, now, Input::Transfer(id_of(to))),
        Act::Kill => world.kill(seat).map(|()| None),
        Act::Wipe => world.wipe(seat).map(|()| None),
        Act::Lie => {
            world.lie(seat);
            Ok(None)
        }
        Act::Damage { part } => {
            world.damage(seat, part);
            Ok(None)
        }
        Act::OwnUp => {
            on_disk(world, seat, Disk::own_up);
            Ok(None)
        }
        Act::Full => {
            on_disk(world, seat, |disk| disk.is_full = true);
            Ok(None)
        }
        Act::Room => {
            on_disk(world, seat, |disk| disk.is_full = false);
            Ok(None)
        }
    }
}

fn on_disk(world: &mut World, seat: usize, change: impl FnOnce(&mut Disk)) {
    if let Some(member) = world.members.get_mut(seat) {
        change(&mut member.disk);
    }
}
