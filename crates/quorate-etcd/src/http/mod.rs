//! The HTTP endpoints beside gRPC on the client port: health, probes, version, metrics.
//!
//! They answer on HTTP/1.1 and HTTP/2 alike, with the very bodies of etcd: load balancers, kubelets and scripts match them.
//!
//! Left out: the JSON gateway under `/v3/` and `/debug/`. The gateway's paths say so with gRPC's code for it.
//!
//! Source: etcd `server/etcdserver/api/etcdhttp/`.

mod health;
mod probe;
mod query;

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
    request::Parts,
};

use self::query::Query;
use crate::{backend::Backend, front::Front, grpc::body::ReplyBody, metrics};

/// The content type of everything that is words.
const TEXT: &str = "text/plain; charset=utf-8";
/// The content type of JSON.
const JSON: &str = "application/json";
/// The content type of Prometheus' plain format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Answers a request that is not gRPC. Its body, if any, is not read.
pub(crate) async fn serve<B: Backend>(front: Arc<Front<B>>, request: Parts) -> Response<ReplyBody> {
    let path = request.uri.path();
    if path.starts_with("/v3/") {
        let body = r#"{"code":12,"message":"Quorate has no JSON gateway yet","details":[]}"#;
        return answer(StatusCode::NOT_IMPLEMENTED, JSON, body);
    }
    let probe = probe::find(path);
    if !matches!(path, "/health" | "/version" | "/metrics") && probe.is_none() {
        return answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n");
    }
    if request.method != Method::GET {
        let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refusal;
    }
    let query = Query::parse(request.uri.query().unwrap_or_default());
    match (path, probe) {
        (_, Some(probe)) => probe::run(&front, probe, &query).await,
        ("/health", _) => health::health(&front, &query).await,
        ("/version", _) => answer(StatusCode::OK, JSON, version(&front)),
        _ => answer(StatusCode::OK, METRICS, metrics::render(&front)),
    }
}

/// The versions, digits and dots only: clients take them apart.
fn version<B: Backend>(front: &Front<B>) -> String {
    let minor = front.settings.minor_version();
    let server = &front.settings.version;
    format!(r#"{{"etcdserver":"{server}","etcdcluster":"{minor}","storage":"{minor}"}}"#)
}

/// A complete response.
fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Plain(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if content_type == TEXT {
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    }
    response
}
