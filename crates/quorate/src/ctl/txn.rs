//! `txn`: one transaction, read from standard input as etcdctl reads it.
//!
//! Three lists, each ended by an empty line: what to compare, what to do if all of it holds, what to do otherwise.
//!
//! ```text
//! mod("key1") > "0"
//!
//! put key1 "overwrote key1"
//!
//! get key2
//!
//! ```

mod parse;

use std::io::{self, BufRead};

use clap::{Args, Parser};
use quorate_proto::etcdserverpb::{
    Compare, RequestOp, ResponseOp, TxnRequest, TxnResponse, request_op::Request,
    response_op::Response,
};
use serde::Serialize;

use super::{
    args::coded,
    exit, json,
    kv::{DelArgs, DeleteJson, GetArgs, PutArgs, PutJson, RangeJson},
    print::{Answer, Lines},
    session::{self, Session},
};
use crate::{Failure, output};
pub(super) use parse::words;

/// `txn`
#[derive(Clone, Debug, Args)]
pub(super) struct TxnArgs {
    /// Input transaction in interactive mode
    #[arg(short, long)]
    interactive: bool,
}

/// One request in a transaction.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_subcommand = true)]
enum Step {
    Put(PutArgs),
    Get(GetArgs),
    Del(DelArgs),
}

/// Runs a transaction.
pub(super) async fn run(session: &Session, args: &TxnArgs) -> Result<(), Failure> {
    let request = read(&mut io::stdin().lock(), args.interactive)?;
    let mut client = session::kv(session.connect().await?);
    session.show(&session.call(client.txn(request)).await?)
}

fn read(input: &mut impl BufRead, interactive: bool) -> Result<TxnRequest, Failure> {
    Ok(TxnRequest {
        compare: section(input, interactive, "compares:", compare)?,
        success: section(input, interactive, "success requests (get, put, del):", step)?,
        failure: section(input, interactive, "failure requests (get, put, del):", step)?,
    })
}

/// Reads lines up to an empty one.
fn section<T>(
    input: &mut impl BufRead,
    interactive: bool,
    prompt: &str,
    parse: fn(&str) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    if interactive {
        output::line(prompt)?;
    }
    let mut items = Vec::new();
    loop {
        let mut line = String::new();
        let count = input.read_line(&mut line)?;
        if count == 0 {
            return Err(coded(exit::INPUT, "EOF"));
        }
        match line.trim() {
            "" => return Ok(items),
            line => items.push(parse(line)?),
        }
    }
}

fn compare(line: &str) -> Result<Compare, Failure> {
    parse::compare(line).map_err(|text| coded(exit::INPUT, text))
}

fn step(line: &str) -> Result<RequestOp, Failure> {
    let wrong = || coded(exit::INPUT, format!("invalid txn request: {line}"));
    let words = words(line).ok_or_else(wrong)?;
    let request = match Step::try_parse_from(words).map_err(|_| wrong())? {
        // Standard input is the transaction's, so a value can't come from there.
        Step::Put(args) => Request::RequestPut(args.request(|| Ok(Vec::new()))?),
        Step::Get(args) => Request::RequestRange(args.request()?),
        Step::Del(args) => Request::RequestDeleteRange(args.request()?),
    };
    Ok(RequestOp { request: Some(request) })
}

impl Answer for TxnResponse {
    fn simple(&self, out: &mut Lines) {
        out.line(if self.succeeded { "SUCCESS" } else { "FAILURE" });
        for response in self.responses.iter().filter_map(|op| op.response.as_ref()) {
            out.line("");
            match response {
                Response::ResponseRange(answer) => answer.simple(out),
                Response::ResponsePut(answer) => answer.simple(out),
                Response::ResponseDeleteRange(answer) => answer.simple(out),
                Response::ResponseTxn(answer) => answer.simple(out),
            }
        }
    }

    fn fields(&self, out: &mut Lines) {
        out.header(self.header.as_ref());
        out.field("Succeeded", self.succeeded);
        for response in self.responses.iter().filter_map(|op| op.response.as_ref()) {
            match response {
                Response::ResponseRange(answer) => answer.fields(out),
                Response::ResponsePut(answer) => answer.fields(out),
                Response::ResponseDeleteRange(answer) => answer.fields(out),
                Response::ResponseTxn(answer) => answer.fields(out),
            }
        }
    }

    fn json(&self) -> impl Serialize {
        TxnJson::from(self)
    }
}

#[derive(Serialize)]
struct TxnJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<json::Header>,
    #[serde(skip_serializing_if = "json::is_zero")]
    succeeded: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    responses: Vec<Wrapped>,
}

impl From<&TxnResponse> for TxnJson {
    fn from(answer: &TxnResponse) -> Self {
        Self {
            header: json::header(answer.header.as_ref()),
            succeeded: answer.succeeded,
            responses: answer.responses.iter().map(Wrapped::from).collect(),
        }
    }
}

/// Go wraps each answer twice: by the field that holds it, and by its kind.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wrapped {
    response: Option<ByKind>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "the names are what JSON shows")]
enum ByKind {
    ResponseRange(RangeJson),
    ResponsePut(PutJson),
    ResponseDeleteRange(DeleteJson),
    ResponseTxn(TxnJson),
}

impl From<&ResponseOp> for Wrapped {
    fn from(op: &ResponseOp) -> Self {
        let by_kind = |response: &Response| match response {
            Response::ResponseRange(answer) => ByKind::ResponseRange(answer.into()),
            Response::ResponsePut(answer) => ByKind::ResponsePut(answer.into()),
            Response::ResponseDeleteRange(answer) => ByKind::ResponseDeleteRange(answer.into()),
            Response::ResponseTxn(answer) => ByKind::ResponseTxn(answer.into()),
        };
        Self { response: op.response.as_ref().map(by_kind) }
    }
}
