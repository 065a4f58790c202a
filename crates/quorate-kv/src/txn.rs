//! Transactions: all comparisons first, then all checks, then all operations.
//!
//! Comparisons of nested transactions see the state before the whole transaction, too. Nothing is written before
//! everything that could be refused has been checked (etcd point 25), so a transaction never stops half-way. Inside it,
//! an operation sees what earlier ones did; an explicit older revision is still the old data (points 24 and 28).
//!
//! Source: etcd `server/etcdserver/txn/txn.go`.

use quorate_proto::{
    etcdserverpb::{self as pb, request_op::Request, response_op::Response},
    mvccpb::KeyValue,
};

use crate::{
    Budget, Error, ReadError, RequestError,
    change::Change,
    check,
    compare::{self, CompareWork},
    picture::{self, Picture},
    range::RangeWork,
};

/// Which branch each transaction takes: first the outer one, then those nested in the branch taken, in order.
type Path = Vec<bool>;

/// Answers a transaction that only reads, at once.
pub(crate) fn read(
    picture: &Picture<'_>,
    request: &pb::TxnRequest,
) -> Result<pb::TxnResponse, ReadError> {
    let mut work = ReadWork::new(request)?;
    loop {
        if let Some(response) = work.advance(picture, &mut Budget::unlimited())? {
            return Ok(response);
        }
    }
}

/// A transaction that only reads, slice by slice. Every call must see the same picture.
#[derive(Debug)]
pub(crate) struct ReadWork {
    request: pb::TxnRequest,
    compares: CompareWork,
    succeeded: Option<bool>,
    /// The range that is being answered, and its pairs so far.
    range: Option<(RangeWork, Vec<KeyValue>)>,
    responses: Vec<pb::ResponseOp>,
    /// Bytes of those.
    bytes: usize,
}

impl ReadWork {
    /// Begins to answer.
    pub(crate) fn new(request: &pb::TxnRequest) -> Result<Self, RequestError> {
        if !check::is_read_only(request) {
            return Err(RequestError::NotReadOnly);
        }
        check::txn(request, usize::MAX)?;
        Ok(Self {
            request: request.clone(),
            compares: CompareWork::default(),
            succeeded: None,
            range: None,
            responses: Vec::new(),
            bytes: 0,
        })
    }

    /// Goes on within `budget`. Gives the answer when it is whole.
    pub(crate) fn advance(
        &mut self,
        picture: &Picture<'_>,
        budget: &mut Budget,
    ) -> Result<Option<pb::TxnResponse>, ReadError> {
        if self.succeeded.is_none() {
            self.succeeded = self.compares.advance(picture, &self.request.compare, budget)?;
        }
        let Some(succeeded) = self.succeeded else { return Ok(None) };
        while let Some(op) = branch(&self.request, succeeded).get(self.responses.len()) {
            if budget.is_spent() {
                return Ok(None);
            }
            let Some(Request::RequestRange(op)) = &op.request else {
                return Err(RequestError::NotReadOnly.into());
            };
            if self.range.is_none() {
                check_revision(picture, op.revision)?;
            }
            let (work, kvs) = if let Some(range) = &mut self.range {
                range
            } else {
                self.range.insert((RangeWork::new(picture, op)?, Vec::new()))
            };
            let Some(end) = work.advance(picture, budget, kvs)? else { return Ok(None) };
            self.bytes += work.bytes();
            let kvs = std::mem::take(kvs);
            self.range = None;
            self.responses.push(respond(Response::ResponseRange(pb::RangeResponse { kvs, ..end })));
        }
        let responses = std::mem::take(&mut self.responses);
        let header = Some(picture::header(picture.revision));
        Ok(Some(pb::TxnResponse { header, succeeded, responses }))
    }

    /// Bytes of the answer so far, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.range.as_ref().map_or(0, |(work, _)| work.bytes())
    }
}

/// Runs a transaction whose form has been checked.
pub(crate) fn write(
    change: &mut Change<'_>,
    request: pb::TxnRequest,
) -> Result<pb::TxnResponse, ReadError> {
    let mut path = Path::new();
    choose(&change.picture(), &request, &mut path)?;
    check_ops(change, &request, &mut path.iter().copied())?;
    let mut response = run(change, request, &mut path.into_iter())?;
    response.header = Some(picture::header(change.revision()));
    Ok(response)
}

fn choose(picture: &Picture<'_>, request: &pb::TxnRequest, path: &mut Path) -> Result<(), Error> {
    let succeeded = compare::all_hold(picture, &request.compare)?;
    path.push(succeeded);
    for op in branch(request, succeeded) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            choose(picture, nested, path)?;
        }
    }
    Ok(())
}

fn branch(request: &pb::TxnRequest, succeeded: bool) -> &[pb::RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

/// Checks the operations that will run, in order. Everything is held against the state before the transaction, also
/// the revisions of ranges, whatever it will write.
fn check_ops(
    change: &mut Change<'_>,
    request: &pb::TxnRequest,
    path: &mut dyn Iterator<Item = bool>,
) -> Result<(), ReadError> {
    for op in branch(request, path.next().unwrap_or_default()) {
        match &op.request {
            Some(Request::RequestTxn(nested)) => check_ops(change, nested, path)?,
            Some(Request::RequestPut(put)) => {
                change.check_put(put)?;
            }
            Some(Request::RequestRange(range)) => {
                check_revision(&change.picture(), range.revision)?;
            }
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// Inside a transaction a negative revision is taken at its word, and so is compacted, unless nothing ever was and it is
/// -1; a range on its own takes it for the current one. Seen on etcd 3.7.2.
fn check_revision(picture: &Picture<'_>, requested: i64) -> Result<(), RequestError> {
    match requested {
        0 => Ok(()),
        _ if requested > picture.revision => Err(RequestError::FutureRevision),
        _ if requested < picture.compact_revision => Err(RequestError::Compacted),
        _ => Ok(()),
    }
}

/// Runs the branch. The reply of a nested transaction has an empty header, as in etcd.
fn run(
    change: &mut Change<'_>,
    request: pb::TxnRequest,
    path: &mut dyn Iterator<Item = bool>,
) -> Result<pb::TxnResponse, ReadError> {
    let succeeded = path.next().unwrap_or_default();
    let ops = if succeeded { request.success } else { request.failure };
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        responses.push(run_op(change, op, path)?);
    }
    Ok(pb::TxnResponse { header: Some(picture::header(0)), succeeded, responses })
}

fn run_op(
    change: &mut Change<'_>,
    op: pb::RequestOp,
    path: &mut dyn Iterator<Item = bool>,
) -> Result<pb::ResponseOp, ReadError> {
    Ok(respond(match op.request {
        Some(Request::RequestRange(request)) => Response::ResponseRange(change.range(&request)?),
        Some(Request::RequestPut(request)) => Response::ResponsePut(change.put(request)?),
        Some(Request::RequestDeleteRange(request)) => {
            Response::ResponseDeleteRange(change.delete_range(&request)?)
        }
        Some(Request::RequestTxn(request)) => Response::ResponseTxn(run(change, request, path)?),
        None => return Err(RequestError::KeyNotFound.into()),
    }))
}

fn respond(response: Response) -> pb::ResponseOp {
    pb::ResponseOp { response: Some(response) }
}
