//! How many descriptors the process may have, and so how many clients.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything but clients: peers, files, pipes. Source: etcd `server/embed/serve.go`,
/// `reservedInternalFDNum`.
const RESERVED: u64 = 150;

/// Takes as many descriptors as the system allows this process, as Go's programs do, and tells how many clients they are
/// enough for: `wanted` at most. The others wait in the system's queue; a member must not lose its files to them.
pub(super) fn connections_max(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of descriptors could not be raised");
            limit.current
        }
    };
    enough_for(allowed, wanted)
}

/// `None` allowed is no limit.
fn enough_for(allowed: Option<u64>, wanted: usize) -> usize {
    let left = allowed.map_or(usize::MAX, |allowed| {
        usize::try_from(allowed.saturating_sub(RESERVED)).unwrap_or(usize::MAX)
    });
    // One client at least: a member that serves nobody is no use.
    left.clamp(1, wanted.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_is_left() {
        assert_eq!(enough_for(Some(1024), 100_000), 874);
        assert_eq!(enough_for(Some(1 << 20), 100_000), 100_000);
        assert_eq!(enough_for(None, 100_000), 100_000);
        assert_eq!(enough_for(Some(100), 100_000), 1);
    }
}
