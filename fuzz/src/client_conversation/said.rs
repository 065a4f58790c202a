//! What a stranger says: frames in any order, most of them such as a client would send.

use arbitrary::{Result, Unstructured};
use prost::Message;
use quorate_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest,
    RangeRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    watch_request::RequestUnion,
};

use crate::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RESET, SETTINGS, WINDOW_UPDATE, call,
    frame, message,
};

/// Calls, but for `Alarm`: after one every other client is refused, as it should be.
const PATHS: [&str; 25] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Hash",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Maintenance/Snapshot",
    "/etcdserverpb.Maintenance/Defragment",
    "/etcdserverpb.Maintenance/MoveLeader",
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Auth/Authenticate",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/quorate.Inspect/Raft",
    "/health",
    "/no.such/Method",
];

/// Repeated so often at most: as many frames as a client with many leases writes.
const REPEATED_MAX: usize = 20_000;
/// All that is said.
const SAID_BYTES_MAX: usize = 4 << 20;

/// Everything a stranger says on one connection.
pub(crate) fn conversation(input: &mut Unstructured<'_>) -> Vec<u8> {
    let mut said = Said { bytes: Vec::new(), next_stream: 1 };
    if !input.ratio(1, 16).unwrap_or(false) {
        said.bytes.extend(PREFACE);
        said.bytes.extend(frame(SETTINGS, 0, 0, &[]));
    }
    while !input.is_empty() && said.bytes.len() < SAID_BYTES_MAX {
        if said.step(input).is_err() {
            break;
        }
    }
    said.bytes
}

struct Said {
    bytes: Vec<u8>,
    next_stream: u32,
}

impl Said {
    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let said = match input.int_in_range(0..=11)? {
            0 => input.bytes(input.len().min(16))?.to_vec(),
            1 => frame(input.arbitrary()?, input.arbitrary()?, input.arbitrary()?, short(input)?),
            2..=4 => self.open(input)?,
            5..=7 => {
                let flags = if input.ratio(1, 3)? { END_STREAM } else { 0 };
                frame(DATA, flags, self.stream(input)?, &request(input)?)
            }
            8 => frame(RESET, 0, self.stream(input)?, &input.arbitrary::<[u8; 4]>()?),
            9 => {
                let stream = if input.arbitrary()? { 0 } else { self.stream(input)? };
                frame(WINDOW_UPDATE, 0, stream, &input.arbitrary::<[u8; 4]>()?)
            }
            10 => {
                let mut setting = vec![0, input.int_in_range(1..=6)?];
                setting.extend(input.arbitrary::<[u8; 4]>()?);
                frame(SETTINGS, 0, 0, &setting)
            }
            _ => self.repeated(input)?,
        };
        self.bytes.extend(said);
        Ok(())
    }

    /// A new call, most times with its first message.
    fn open(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let stream = self.next_stream;
        self.next_stream += 2;
        let path = *input.choose(&PATHS)?;
        let more: &[(&str, &str)] = match input.int_in_range(0..=7)? {
            0 => &[("grpc-encoding", "gzip")],
            1 => &[("hasleader", "true")],
            2 => &[("te", "trailers")],
            _ => &[],
        };
        let block = if input.ratio(1, 12)? { short(input)?.to_vec() } else { call(path, more) };
        let mut said = frame(HEADERS, END_HEADERS, stream, &block);
        if input.ratio(7, 8)? {
            let flags = if input.arbitrary()? { END_STREAM } else { 0 };
            said.extend(frame(DATA, flags, stream, &request(input)?));
        }
        Ok(said)
    }

    /// The same small frame very often.
    fn repeated(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let stream = self.stream(input)?;
        let one = match input.int_in_range(0..=4)? {
            0 => frame(PING, 0, 0, &[0; 8]),
            1 => frame(DATA, 0, stream, &[]),
            2 => frame(DATA, 0, stream, &request(input)?),
            3 => {
                let other = self.stream(input)?;
                [frame(DATA, 0, stream, &[0]), frame(DATA, 0, other, &[0])].concat()
            }
            _ => frame(SETTINGS, 0, 0, &[]),
        };
        let count = input.int_in_range(1..=REPEATED_MAX)?;
        Ok(one.repeat(count.min(SAID_BYTES_MAX / one.len())))
    }

    /// One of the calls that were opened, or the next.
    fn stream(&self, input: &mut Unstructured<'_>) -> Result<u32> {
        let back = input.int_in_range(0..=4)?;
        Ok(self.next_stream.saturating_sub(2 * back).max(1))
    }
}

fn short<'a>(input: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let len = usize::from(input.arbitrary::<u8>()?).min(input.len());
    input.bytes(len)
}

/// A message, or the beginning of one.
fn request(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let body = match input.int_in_range(0..=10)? {
        0 => short(input)?.to_vec(),
        1 => PutRequest {
            key: key(input)?,
            value: key(input)?,
            lease: small(input)?,
            ..Default::default()
        }
        .encode_to_vec(),
        2 => RangeRequest {
            key: key(input)?,
            range_end: key(input)?,
            limit: small(input)?,
            revision: small(input)?,
            ..Default::default()
        }
        .encode_to_vec(),
        3 => DeleteRangeRequest { key: key(input)?, range_end: key(input)?, ..Default::default() }
            .encode_to_vec(),
        4 => CompactionRequest { revision: small(input)?, physical: input.arbitrary()? }
            .encode_to_vec(),
        5 => LeaseGrantRequest { ttl: small(input)?, id: small(input)? }.encode_to_vec(),
        6 => LeaseKeepAliveRequest { id: small(input)? }.encode_to_vec(),
        7 | 8 => watch(RequestUnion::CreateRequest(WatchCreateRequest {
            key: key(input)?,
            range_end: key(input)?,
            start_revision: small(input)?,
            progress_notify: input.arbitrary()?,
            prev_kv: input.arbitrary()?,
            fragment: input.arbitrary()?,
            watch_id: small(input)?,
            ..Default::default()
        })),
        9 => {
            let cancel = WatchCancelRequest { watch_id: small(input)? };
            watch(RequestUnion::CancelRequest(cancel))
        }
        _ => watch(RequestUnion::ProgressRequest(WatchProgressRequest {})),
    };
    let mut said = message(u8::from(input.ratio(1, 16)?), &body);
    match input.int_in_range(0..=15)? {
        // A length that nothing follows.
        0 => said[1..5].copy_from_slice(&input.arbitrary::<[u8; 4]>()?),
        1 => said.truncate(input.int_in_range(0..=said.len())?),
        _ => {}
    }
    Ok(said)
}

fn watch(union: RequestUnion) -> Vec<u8> {
    WatchRequest { request_union: Some(union) }.encode_to_vec()
}

fn key<T: From<Vec<u8>>>(input: &mut Unstructured<'_>) -> Result<T> {
    let len = input.int_in_range(0..=3)?;
    Ok(input.bytes(usize::min(len, input.len()))?.to_vec().into())
}

fn small(input: &mut Unstructured<'_>) -> Result<i64> {
    Ok(input.int_in_range::<i64>(-1..=8)?)
}
