//! The HTTP endpoints beside gRPC on the client port: health, probes, version, metrics.
//!
//! They answer on HTTP/1.1 and HTTP/2 alike, with the very bodies of etcd: load balancers, kubelets and scripts match them.
//!
//! Left out: the JSON gateway under `/v3/`, whose paths say so with gRPC's code for it, `/debug/vars`, and compressed pages
//! of metrics.
//!
//! Source: etcd `server/etcdserver/api/etcdhttp/`.

mod health;
mod path;
mod probe;
mod query;

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
    request::Parts,
};

use self::query::Query;
use crate::{backend::Backend, front::Front, grpc::body::ReplyBody, metrics};

/// The content type of everything that is words.
const TEXT: &str = "text/plain; charset=utf-8";
/// The content type of a page.
const HTML: &str = "text/html; charset=utf-8";
/// Says that a content type is meant.
const NOSNIFF: &str = "x-content-type-options";
/// The content type of JSON.
const JSON: &str = "application/json";
/// The content type of Prometheus' plain format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Answers a request that is not gRPC. Its body, if any, is not read.
pub(crate) async fn serve<B: Backend>(front: Arc<Front<B>>, request: Parts) -> Response<ReplyBody> {
    let mut response = if request.method == Method::OPTIONS {
        Response::new(ReplyBody::Empty)
    } else {
        route(&front, &request).await
    };
    allow_origins(response.headers_mut());
    if request.method == Method::HEAD
        && let ReplyBody::Plain(bytes) = response.body()
    {
        let len = HeaderValue::from(bytes.len());
        response.headers_mut().insert(CONTENT_LENGTH, len);
        *response.body_mut() = ReplyBody::Empty;
    }
    response
}

/// Browsers of any page may ask, as with etcd's default `--cors`.
fn allow_origins(headers: &mut HeaderMap) {
    for (name, value) in [
        ("access-control-allow-headers", "accept, content-type, authorization"),
        ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE"),
        ("access-control-allow-origin", "*"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

async fn route<B: Backend>(front: &Front<B>, request: &Parts) -> Response<ReplyBody> {
    let path = request.uri.path();
    if path == "*" {
        return answer(StatusCode::BAD_REQUEST, TEXT, "");
    }
    if request.method != Method::CONNECT
        && let Some(clean) = path::cleaned(path)
    {
        return redirect(&clean, request.uri.query());
    }
    if path.starts_with("/v3/") {
        let body = r#"{"code":12,"message":"Quorate has no JSON gateway yet","details":[]}"#;
        return answer(StatusCode::NOT_IMPLEMENTED, JSON, body);
    }
    // Prometheus' handler answers whatever the method.
    if path == "/metrics" {
        return answer(StatusCode::OK, METRICS, metrics::render(front));
    }
    let probe = probe::find(path);
    if !matches!(path, "/health" | "/version") && probe.is_none() {
        return answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n");
    }
    if request.method != Method::GET {
        let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refusal;
    }
    let query = Query::parse(request.uri.query().unwrap_or_default());
    match (path, probe) {
        (_, Some(probe)) => probe::run(front, probe, &query).await,
        ("/health", _) => health::health(front, &query).await,
        _ => answer(StatusCode::OK, JSON, version(front)),
    }
}

/// Sends a client to the path that it meant.
fn redirect(path: &str, query: Option<&str>) -> Response<ReplyBody> {
    let place = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let shown = place.replace('&', "&amp;").replace('"', "&#34;").replace('<', "&lt;");
    let body = format!("<a href=\"{shown}\">Temporary Redirect</a>.\n\n");
    let mut response = answer(StatusCode::TEMPORARY_REDIRECT, HTML, body);
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(LOCATION, place);
    }
    response
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
        headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    }
    response
}
