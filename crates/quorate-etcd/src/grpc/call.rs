//! One gRPC call: find its method, read its message, let the handler answer, count.

use std::{fmt::Display, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use prost::Message;
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::{
    body::ReplyBody,
    deframe::{Counted, Messages},
    encoding::Encoding,
    leader::{self, LeaderGuard},
    method::{self, Method},
    reply::{self, Streamed},
    segments::Segments,
};
use crate::{
    backend::Backend,
    errors::EtcdError,
    fair::Permit,
    front::Front,
    handle::{
        cluster, health, inspect, kv,
        lease::{self, KeepAlives},
        maintenance, range_stream, snapshot,
        watch::WatchSession,
    },
    long_work::{Paced, Roomy},
};

/// Answers a gRPC call.
pub(crate) async fn serve<B, T>(front: Arc<Front<B>>, request: Request<T>) -> Response<ReplyBody>
where
    B: Backend,
    T: Body<Data = Bytes> + Send + Unpin + 'static,
    T::Error: Display,
{
    let Some(method) = Method::from_path(request.uri().path()) else {
        let text = method::unknown(request.uri().path());
        return reply::refusal(&Status::new(Code::Unimplemented, text));
    };
    if let Some(metrics) = front.metrics.grpc.method(method) {
        metrics.started.increment();
    }
    let metrics = Arc::clone(&front.metrics);
    match answer(front, method, request).await {
        Ok(body) => reply::response(body),
        Err(status) => {
            metrics.grpc.handled(method, status.code());
            reply::refusal(&status)
        }
    }
}

/// Reads a call's metadata and runs it.
async fn answer<B, T>(
    front: Arc<Front<B>>,
    method: Method,
    request: Request<T>,
) -> Result<ReplyBody, Status>
where
    B: Backend,
    T: Body<Data = Bytes> + Send + Unpin + 'static,
    T::Error: Display,
{
    let encoding = Encoding::of(request.headers())?;
    let needs_leader = leader::is_required(request.headers());
    Call { front, method, needs_leader, encoding, body: request.into_body() }.run().await
}

/// A call whose message is not read yet.
struct Call<B, T> {
    front: Arc<Front<B>>,
    method: Method,
    needs_leader: bool,
    encoding: Encoding,
    body: T,
}

impl<B, T> Call<B, T>
where
    B: Backend,
    T: Body<Data = Bytes> + Send + Unpin + 'static,
    T::Error: Display,
{
    /// The hot methods first; the others share one boxed future, so that they do not make every call's larger.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the next function has the other methods")]
    async fn run(self) -> Result<ReplyBody, Status> {
        if self.method != Method::InspectRaft {
            self.front.ready().await?;
        }
        if self.needs_leader && self.front.backend.leaderless_for().is_some() {
            return Err(EtcdError::NoLeader.into());
        }
        let front = Arc::clone(&self.front);
        let method = self.method;
        match method {
            Method::Range => {
                let request = self.message().await?;
                let Roomy { answer: (end, pairs), room } = kv::range_into(&front, request).await?;
                front.metrics.grpc.handled(method, Code::Ok);
                Ok(roomy(&front, Segments::into_range(pairs, &end), room))
            }
            Method::Put => {
                let request = self.message().await?;
                Ok(done(&front, method, &kv::put(&front, request).await?))
            }
            Method::Txn => {
                let request = self.message().await?;
                let Roomy { answer, room } = kv::txn_with_room(&front, request).await?;
                front.metrics.grpc.handled(method, Code::Ok);
                let mut message = Segments::default();
                message.push_framed(&answer);
                Ok(roomy(&front, message, room))
            }
            Method::Watch => {
                let guard = self.guard();
                let session = WatchSession::new(&front, self.messages());
                Ok(stream(&front, method, session, guard))
            }
            Method::LeaseKeepAlive => {
                let guard = self.guard();
                let answers = KeepAlives::new(&front, self.messages());
                Ok(stream(&front, method, answers, guard))
            }
            _ => Box::pin(self.run_rare()).await,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the next function has the other methods")]
    async fn run_rare(self) -> Result<ReplyBody, Status> {
        let front = Arc::clone(&self.front);
        let front = &front;
        let method = self.method;
        Ok(match method {
            Method::DeleteRange => {
                done(front, method, &kv::delete_range(front, self.message().await?).await?)
            }
            Method::Compact => {
                done(front, method, &kv::compact(front, self.message().await?).await?)
            }
            Method::LeaseGrant => {
                done(front, method, &lease::grant(front, self.message().await?).await?)
            }
            Method::LeaseRevoke => {
                done(front, method, &lease::revoke(front, self.message().await?).await?)
            }
            Method::LeaseTimeToLive => {
                done(front, method, &lease::time_to_live(front, self.message().await?).await?)
            }
            Method::LeaseLeases => {
                done(front, method, &lease::leases(front, self.message().await?).await?)
            }
            Method::Status => {
                done(front, method, &maintenance::status(front, self.message().await?)?)
            }
            Method::Alarm => {
                done(front, method, &maintenance::alarm(front, self.message().await?).await?)
            }
            Method::Defragment => {
                done(front, method, &maintenance::defragment(self.message().await?))
            }
            Method::MoveLeader => {
                done(front, method, &maintenance::move_leader(front, self.message().await?).await?)
            }
            Method::Hash => {
                done(front, method, &maintenance::hash(front, self.message().await?).await?)
            }
            Method::HashKv => {
                done(front, method, &maintenance::hash_kv(front, self.message().await?).await?)
            }
            Method::MemberList => {
                done(front, method, &cluster::member_list(front, self.message().await?).await?)
            }
            _ => return self.run_rarest().await,
        })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever has no arm is not built")]
    async fn run_rarest(self) -> Result<ReplyBody, Status> {
        let front = Arc::clone(&self.front);
        let front = &front;
        let method = self.method;
        let guard = self.guard();
        Ok(match method {
            Method::RangeStream => {
                let chunks = range_stream::range_stream(front, self.message().await?).await?;
                stream(front, method, chunks, guard)
            }
            Method::Snapshot => {
                let pieces = snapshot::snapshot(front, self.message().await?).await?;
                stream(front, method, pieces, guard)
            }
            Method::HealthCheck => {
                let known = health::check(&self.message().await?);
                let unknown = || Status::new(Code::NotFound, "unknown service");
                done(front, method, &known.ok_or_else(unknown)?)
            }
            Method::HealthList => done(front, method, &health::list(&self.message().await?)),
            Method::HealthWatch => {
                let changes = health::watch(&self.message().await?);
                stream(front, method, changes, guard)
            }
            Method::InspectRaft => {
                done(front, method, &inspect::raft(front, self.message().await?).await?)
            }
            // Clients that were given a password ask first; told this, they go on without a token.
            Method::Authenticate => return Err(EtcdError::AuthNotEnabled.into()),
            unbuilt => return Err(Status::new(Code::Unimplemented, unbuilt.not_built())),
        })
    }

    /// The call's only message.
    async fn message<M: Message + Default>(self) -> Result<M, Status> {
        let max = self.front.settings.message_bytes_max();
        let message = Messages::new(self.body, max, self.encoding).single().await;
        if message.is_err()
            && let Some(metrics) = self.front.metrics.grpc.method(self.method)
        {
            metrics.unread.increment();
        }
        message
    }

    /// The call's messages, as they come.
    fn messages<M: Message + Default>(
        self,
    ) -> impl Stream<Item = Result<M, Status>> + Send + Unpin {
        let max = self.front.settings.message_bytes_max();
        Counted::new(Messages::new(self.body, max, self.encoding), self.front, self.method)
    }

    /// A guard over the leader, if the call asked for one.
    fn guard(&self) -> Option<LeaderGuard<B>> {
        self.needs_leader.then(|| LeaderGuard::new(&self.front))
    }
}

/// Counts and encodes the answer to a unary call.
fn done<B: Backend, M: Message + 'static>(
    front: &Front<B>,
    method: Method,
    answer: &M,
) -> ReplyBody {
    front.metrics.grpc.handled(method, Code::Ok);
    reply::message(answer)
}

/// The answer to a unary call, which may be large.
fn roomy<B: Backend>(front: &Front<B>, message: Segments, room: Option<Permit>) -> ReplyBody {
    match room {
        Some(room) => reply::large(message, room, front.settings.limits.stall_max),
        None => ReplyBody::Message(message),
    }
}

/// Streams the answer to a call.
fn stream<B, S, M, E>(
    front: &Arc<Front<B>>,
    method: Method,
    messages: S,
    guard: Option<LeaderGuard<B>>,
) -> ReplyBody
where
    B: Backend,
    S: Stream<Item = Result<M, E>> + Paced + Send + Unpin + 'static,
    M: Message + 'static,
    E: Into<Status> + 'static,
{
    ReplyBody::Stream(Box::pin(Streamed::new(front, method, messages, guard)))
}
