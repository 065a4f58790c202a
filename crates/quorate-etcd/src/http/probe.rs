//! `/livez` and `/readyz`: named checks, alone under a path of their own or together.

use std::fmt::Write;

use http::{Response, StatusCode};
use quorate_proto::etcdserverpb::AlarmType;

use super::{TEXT, answer, health, query::Query};
use crate::{backend::Backend, errors::status_of, front::Front, grpc::body::ReplyBody};

/// One thing to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// No member has found its data corrupt.
    DataCorruption,
    /// This member can read.
    SerializableRead,
    /// The cluster can read: it has a majority.
    LinearizableRead,
    /// This member has a vote.
    NonLearner,
}

/// What keeps a member from being restarted.
const LIVEZ: &[Check] = &[Check::SerializableRead];
/// What lets a member have clients.
const READYZ: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn look<B: Backend>(self, front: &Front<B>) -> Result<(), String> {
        let told = |error| status_of(&error).message().to_owned();
        match self {
            Self::DataCorruption => {
                let corrupt = health::alarms(front).map_err(told)?.contains(&AlarmType::Corrupt);
                if corrupt { Err("alarm activated: CORRUPT".to_owned()) } else { Ok(()) }
            }
            Self::SerializableRead => health::read(front, true).await.map_err(told),
            Self::LinearizableRead => health::read(front, false).await.map_err(told),
            Self::NonLearner => {
                let learner = front.backend.status().is_learner;
                if learner { Err("not supported for learner".to_owned()) } else { Ok(()) }
            }
        }
    }
}

/// The checks behind a path.
pub(super) fn find(path: &str) -> Option<&'static [Check]> {
    let (checks, rest) = match path.strip_prefix("/livez") {
        Some(rest) => (LIVEZ, rest),
        None => (READYZ, path.strip_prefix("/readyz")?),
    };
    if rest.is_empty() {
        return Some(checks);
    }
    let name = rest.strip_prefix('/')?;
    checks.iter().find(|check| check.name() == name).map(std::slice::from_ref)
}

/// Runs the checks that the query does not exclude. A failure tells all of them, success only if asked.
pub(super) async fn run<B: Backend>(
    front: &Front<B>,
    checks: &[Check],
    query: &Query<'_>,
) -> Response<ReplyBody> {
    let mut report = String::new();
    let mut failed = false;
    for check in checks.iter().filter(|check| !query.says("exclude", check.name())) {
        let name = check.name();
        // Writing to a string does not fail.
        let _ = match check.look(front).await {
            Ok(()) => writeln!(report, "[+]{name} ok"),
            Err(reason) => {
                failed = true;
                writeln!(report, "[-]{name} failed: {reason}")
            }
        };
    }
    if failed {
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, report + "\n");
    }
    let detail = if query.has("verbose") { report } else { String::new() };
    answer(StatusCode::OK, TEXT, detail + "ok\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_have_paths_of_their_own() {
        assert_eq!(find("/livez"), Some(LIVEZ));
        assert_eq!(find("/readyz"), Some(READYZ));
        assert_eq!(find("/readyz/non_learner"), Some(&[Check::NonLearner][..]));
        assert_eq!(find("/livez/non_learner"), None);
        assert_eq!(find("/readyzz"), None);
        assert_eq!(find("/health"), None);
    }
}
