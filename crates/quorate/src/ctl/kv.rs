//! `put`, `get`, `del`, `compaction`.

use std::{
    ffi::OsString,
    io::{self, Read},
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use quorate_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse,
    range_request::{SortOrder, SortTarget},
};
use serde::Serialize;

use super::{
    args::{bad_arguments, bytes, coded, lease_id, no_end, prefix_end},
    exit, json,
    print::{Answer, Format, Lines},
    session::{self, CallError, Session, within},
};
use crate::{Failure, output};

/// Time to think again before keys are deleted.
const DELETE_PAUSE: Duration = Duration::from_secs(2);

/// `put`
#[derive(Clone, Debug, Args)]
pub(super) struct PutArgs {
    /// Key and value; without a value it is read from standard input
    arguments: Vec<OsString>,
    /// Lease ID (in hexadecimal) to attach to the key
    #[arg(long, default_value = "0")]
    lease: String,
    /// Return the previous key-value pair before modification
    #[arg(long)]
    prev_kv: bool,
    /// Updates the key using its current value
    #[arg(long)]
    ignore_value: bool,
    /// Updates the key using its current lease
    #[arg(long)]
    ignore_lease: bool,
}

impl PutArgs {
    /// The request; `input` gives the value when it is not among the arguments.
    pub(super) fn request(
        self,
        input: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> Result<PutRequest, Failure> {
        let wrong =
            || bad_arguments("put command needs 1 argument and input from stdin or 2 arguments");
        let lease = lease_id(&self.lease, "lease ID")?;
        let mut arguments = self.arguments.into_iter().map(bytes);
        let key = arguments.next().ok_or_else(wrong)?;
        let value = match (self.ignore_value, arguments.next()) {
            (true, Some(_)) => {
                let text = "put command needs only 1 argument when 'ignore-value' is set";
                return Err(bad_arguments(text));
            }
            (true, None) => Bytes::new(),
            (false, Some(value)) => value,
            (false, None) => match input()? {
                input if input.is_empty() => return Err(wrong()),
                input => input.into(),
            },
        };
        let Self { prev_kv, ignore_value, ignore_lease, .. } = self;
        Ok(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
    }
}

/// `get`
#[derive(Clone, Debug, Args)]
pub(super) struct GetArgs {
    /// Key, and an end for a range
    arguments: Vec<OsString>,
    /// Linearizable(l) or Serializable(s)
    #[arg(long, default_value = "l")]
    consistency: String,
    /// Order of results; ASCEND or DESCEND
    #[arg(long, default_value = "")]
    order: String,
    /// Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION
    #[arg(long, default_value = "")]
    sort_by: String,
    /// Maximum number of results
    #[arg(long, default_value_t = 0)]
    limit: i64,
    /// Get keys with matching prefix
    #[arg(long)]
    prefix: bool,
    /// Get keys that are greater than or equal to the given key using byte compare
    #[arg(long)]
    from_key: bool,
    /// Specify the kv revision
    #[arg(long, default_value_t = 0)]
    rev: i64,
    /// Get only the keys
    #[arg(long)]
    keys_only: bool,
    /// Get only the count
    #[arg(long)]
    count_only: bool,
    /// Only write values when using the "simple" output format
    #[arg(long)]
    print_value_only: bool,
    /// Minimum modification revision
    #[arg(long, default_value_t = 0)]
    min_mod_rev: i64,
    /// Maximum modification revision
    #[arg(long, default_value_t = 0)]
    max_mod_rev: i64,
    /// Minimum create revision
    #[arg(long, default_value_t = 0)]
    min_create_rev: i64,
    /// Maximum create revision
    #[arg(long, default_value_t = 0)]
    max_create_rev: i64,
    /// Use the `RangeStream` RPC
    #[arg(long)]
    stream: bool,
}

impl GetArgs {
    /// The request.
    pub(super) fn request(self) -> Result<RangeRequest, Failure> {
        let serializable = is_serializable(&self.consistency)?;
        let (sort_order, sort_target) = sort(&self.order, &self.sort_by)?;
        let (key, range_end) = range("get", self.arguments, self.prefix, self.from_key)?;
        Ok(RangeRequest {
            key,
            range_end,
            limit: self.limit,
            revision: self.rev,
            sort_order: sort_order.into(),
            sort_target: sort_target.into(),
            serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_rev,
            max_mod_revision: self.max_mod_rev,
            min_create_revision: self.min_create_rev,
            max_create_revision: self.max_create_rev,
        })
    }

    fn check(&self, format: Format) -> Result<(), Failure> {
        let wrong = if self.keys_only && self.count_only {
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one"
        } else if self.count_only && format != Format::Fields {
            "--count-only is only for `--write-out=fields`"
        } else if self.print_value_only && format != Format::Simple {
            "print-value-only is only for `--write-out=simple`"
        } else {
            return Ok(());
        };
        Err(bad_arguments(wrong))
    }
}

/// Whether `text` asks for serializable reads.
pub(super) fn is_serializable(text: &str) -> Result<bool, Failure> {
    match text {
        "l" => Ok(false),
        "s" => Ok(true),
        _ => Err(coded(exit::FEATURE, format!("unknown consistency flag {text:?}"))),
    }
}

fn sort(order: &str, target: &str) -> Result<(SortOrder, SortTarget), Failure> {
    let sort_order = match order.to_uppercase().as_str() {
        "" | "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return Err(coded(exit::FEATURE, format!("bad sort order {order}"))),
    };
    let sort_target = match target.to_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(coded(exit::FEATURE, format!("bad sort target {target}"))),
    };
    // Keys come in ascending order by themselves.
    let plain = sort_order == SortOrder::Ascend && sort_target == SortTarget::Key;
    Ok((if plain { SortOrder::None } else { sort_order }, sort_target))
}

/// The keys that `verb` is about.
fn range(
    verb: &str,
    arguments: Vec<OsString>,
    prefix: bool,
    from_key: bool,
) -> Result<(Bytes, Bytes), Failure> {
    if prefix && from_key {
        return Err(bad_arguments(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ));
    }
    let mut arguments = arguments.into_iter().map(bytes);
    let Some(key) = arguments.next() else {
        return Err(bad_arguments(format!(
            "{verb} command needs one argument as key and an optional argument as range_end"
        )));
    };
    let end = arguments.next();
    if end.is_some() && (prefix || from_key) {
        return Err(bad_arguments(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ));
    }
    let first = if key.is_empty() && (prefix || from_key) { no_end() } else { key.clone() };
    let end = match end {
        None if prefix => prefix_end(&key),
        None if from_key => no_end(),
        end => end.unwrap_or_default(),
    };
    Ok((first, end))
}

/// `del`
#[derive(Clone, Debug, Args)]
pub(super) struct DelArgs {
    /// Key, and an end for a range
    arguments: Vec<OsString>,
    /// Delete keys with matching prefix
    #[arg(long)]
    prefix: bool,
    /// Return deleted key-value pairs
    #[arg(long)]
    prev_kv: bool,
    /// Delete keys that are greater than or equal to the given key using byte compare
    #[arg(long)]
    from_key: bool,
    /// Delete range of keys, without a pause to think again
    #[arg(long)]
    range: bool,
}

impl DelArgs {
    /// The request.
    pub(super) fn request(self) -> Result<DeleteRangeRequest, Failure> {
        let (key, range_end) = range("del", self.arguments, self.prefix, self.from_key)?;
        Ok(DeleteRangeRequest { key, range_end, prev_kv: self.prev_kv })
    }
}

/// `compaction`
#[derive(Clone, Debug, Args)]
pub(super) struct CompactionArgs {
    /// The revision
    arguments: Vec<String>,
    /// Wait for compaction to physically remove all old revisions
    #[arg(long)]
    physical: bool,
}

/// Puts a key.
pub(super) async fn put(session: &Session, args: PutArgs) -> Result<(), Failure> {
    let request = args.request(|| {
        let mut input = Vec::new();
        io::stdin().lock().read_to_end(&mut input).map(|_| input)
    })?;
    let mut client = session::kv(session.connect().await?);
    session.show(&session.call(client.put(request)).await?)
}

/// Gets keys.
pub(super) async fn get(session: &Session, args: GetArgs) -> Result<(), Failure> {
    args.check(session.format)?;
    let (stream, print_value_only) = (args.stream, args.print_value_only);
    let request = args.request()?;
    let answer = if stream {
        within(session.global.command_timeout, streamed(session, request)).await?
    } else {
        let mut client = session::kv(session.connect().await?);
        session.call(client.range(request)).await?
    };
    if print_value_only {
        let mut out = Lines::new(session.global.hex);
        answer.kvs.iter().for_each(|kv| out.bytes(&kv.value));
        return Ok(out.flush()?);
    }
    session.show(&answer)
}

/// The pieces of a streamed range as one answer.
async fn streamed(
    session: &Session,
    request: RangeRequest,
) -> Result<RangeResponse, tonic::Status> {
    let channel = session
        .connect()
        .await
        .map_err(|CallError { text, .. }| tonic::Status::unavailable(text))?;
    let mut pieces = session::kv(channel).range_stream(request).await?.into_inner();
    let mut whole = RangeResponse::default();
    while let Some(piece) = pieces.message().await? {
        let piece = piece.range_response.unwrap_or_default();
        whole.kvs.extend(piece.kvs);
        whole.header = piece.header.or(whole.header);
        whole.more |= piece.more;
        whole.count = whole.count.max(piece.count);
    }
    Ok(whole)
}

/// Deletes keys.
pub(super) async fn del(session: &Session, args: DelArgs) -> Result<(), Failure> {
    let asked = args.range || args.prefix || args.from_key;
    let request = args.request()?;
    if !asked && !request.range_end.is_empty() {
        output::complain(format_args!(
            "Warning: Keys between {:?} and {:?} will be deleted. Please interrupt the command within next {} seconds to cancel. You can provide `--range` flag to avoid the delay.",
            String::from_utf8_lossy(&request.key),
            String::from_utf8_lossy(&request.range_end),
            DELETE_PAUSE.as_secs(),
        ));
        tokio::time::sleep(DELETE_PAUSE).await;
    }
    let mut client = session::kv(session.connect().await?);
    session.show(&session.call(client.delete_range(request)).await?)
}

/// Compacts the history.
pub(super) async fn compaction(session: &Session, args: CompactionArgs) -> Result<(), Failure> {
    let [revision] = args.arguments.as_slice() else {
        return Err(bad_arguments("compaction command needs 1 argument"));
    };
    let revision = revision
        .parse()
        .map_err(|_| coded(1, format!("strconv.ParseInt: parsing {revision:?}: invalid syntax")))?;
    let mut client = session::kv(session.connect().await?);
    let request = CompactionRequest { revision, physical: args.physical };
    if args.physical {
        // Removing takes as long as it takes.
        client.compact(request).await.map_err(CallError::from)?;
    } else {
        session.call(client.compact(request)).await?;
    }
    Ok(output::line(format_args!("compacted revision {revision}"))?)
}

impl Answer for PutResponse {
    fn simple(&self, out: &mut Lines) {
        out.line("OK");
        self.prev_kv.iter().for_each(|kv| out.pair(kv));
    }

    fn fields(&self, out: &mut Lines) {
        out.header(self.header.as_ref());
        self.prev_kv.iter().for_each(|kv| out.key_value("Prev", kv));
    }

    fn json(&self) -> impl Serialize {
        PutJson::from(self)
    }
}

/// For JSON.
#[derive(Serialize)]
pub(super) struct PutJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<json::Header>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<json::Pair>,
}

impl From<&PutResponse> for PutJson {
    fn from(answer: &PutResponse) -> Self {
        Self {
            header: json::header(answer.header.as_ref()),
            prev_kv: answer.prev_kv.as_ref().map(json::pair),
        }
    }
}

impl Answer for RangeResponse {
    fn simple(&self, out: &mut Lines) {
        self.kvs.iter().for_each(|kv| out.pair(kv));
    }

    fn fields(&self, out: &mut Lines) {
        out.header(self.header.as_ref());
        self.kvs.iter().for_each(|kv| out.key_value("", kv));
        out.field("More", self.more);
        out.field("Count", self.count);
    }

    fn json(&self) -> impl Serialize {
        RangeJson::from(self)
    }
}

/// For JSON.
#[derive(Serialize)]
pub(super) struct RangeJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<json::Header>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kvs: Vec<json::Pair>,
    #[serde(skip_serializing_if = "json::is_zero")]
    more: bool,
    #[serde(skip_serializing_if = "json::is_zero")]
    count: i64,
}

impl From<&RangeResponse> for RangeJson {
    fn from(answer: &RangeResponse) -> Self {
        Self {
            header: json::header(answer.header.as_ref()),
            kvs: json::pairs(&answer.kvs),
            more: answer.more,
            count: answer.count,
        }
    }
}

impl Answer for DeleteRangeResponse {
    fn simple(&self, out: &mut Lines) {
        out.line(self.deleted);
        self.prev_kvs.iter().for_each(|kv| out.pair(kv));
    }

    fn fields(&self, out: &mut Lines) {
        out.header(self.header.as_ref());
        out.field("Deleted", self.deleted);
        self.prev_kvs.iter().for_each(|kv| out.key_value("Prev", kv));
    }

    fn json(&self) -> impl Serialize {
        DeleteJson::from(self)
    }
}

/// For JSON.
#[derive(Serialize)]
pub(super) struct DeleteJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<json::Header>,
    #[serde(skip_serializing_if = "json::is_zero")]
    deleted: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prev_kvs: Vec<json::Pair>,
}

impl From<&DeleteRangeResponse> for DeleteJson {
    fn from(answer: &DeleteRangeResponse) -> Self {
        Self {
            header: json::header(answer.header.as_ref()),
            deleted: answer.deleted,
            prev_kvs: json::pairs(&answer.prev_kvs),
        }
    }
}
