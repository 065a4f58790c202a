//! Counts of gRPC calls by method and outcome: `grpc_server_*`.

use tonic::Code;

use super::{Counter, text::Page};
use crate::grpc::method::Method;

/// gRPC's codes, by number, in the words of the Go metrics.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The counts of all methods.
#[derive(Debug)]
pub(crate) struct GrpcMetrics(Vec<MethodMetrics>);

/// The counts of one method.
///
/// A unary call costs two of them, begun and ended; its messages follow from these. Streams count their messages.
#[derive(Debug, Default)]
pub(crate) struct MethodMetrics {
    /// Calls begun.
    pub(crate) started: Counter,
    /// Calls ended, by code.
    handled: [Counter; CODES.len()],
    /// Unary calls whose message could not be read.
    pub(crate) unread: Counter,
    /// Messages received on a stream.
    pub(crate) received: Counter,
    /// Messages sent on a stream.
    pub(crate) sent: Counter,
}

impl MethodMetrics {
    fn received(&self, method: Method) -> u64 {
        if method.is_request_stream() {
            self.received.get()
        } else {
            self.started.get().saturating_sub(self.unread.get())
        }
    }

    fn sent(&self, method: Method) -> u64 {
        if method.is_response_stream() {
            self.sent.get()
        } else {
            self.handled.first().map_or(0, Counter::get)
        }
    }
}

/// Picks one of a method's counts.
type Read = fn(&MethodMetrics, Method) -> u64;

impl Default for GrpcMetrics {
    fn default() -> Self {
        Self(Method::ALL.iter().map(|_| MethodMetrics::default()).collect())
    }
}

impl GrpcMetrics {
    /// The counts of `method`.
    pub(crate) fn method(&self, method: Method) -> Option<&MethodMetrics> {
        self.0.get(method as usize)
    }

    /// Counts a call that ended.
    pub(crate) fn handled(&self, method: Method, code: Code) {
        let code = usize::try_from(code as i32).unwrap_or_default();
        if let Some(count) = self.method(method).and_then(|metrics| metrics.handled.get(code)) {
            count.increment();
        }
    }

    /// Calls begun of a method.
    pub(super) fn started(&self, method: Method) -> u64 {
        self.method(method).map_or(0, |metrics| metrics.started.get())
    }

    /// Writes all families. Methods that were never called are written with their zeros, calls ended only where any did.
    pub(super) fn write(&self, page: &mut Page) {
        let plain: [(&str, &str, Read); 3] = [
            ("started", "RPCs started on the server.", |metrics, _| metrics.started.get()),
            (
                "msg_received",
                "RPC stream messages received on the server.",
                MethodMetrics::received,
            ),
            ("msg_sent", "gRPC stream messages sent by the server.", MethodMetrics::sent),
        ];
        for (what, help, read) in plain {
            let name = format!("grpc_server_{what}_total");
            page.family(&name, &format!("Total number of {help}"), "counter");
            for (method, metrics) in Method::ALL.iter().zip(&self.0) {
                page.sample(&name, &method.labels(), read(metrics, *method));
            }
        }
        self.write_handled(page);
    }

    fn write_handled(&self, page: &mut Page) {
        let name = "grpc_server_handled_total";
        let help =
            "Total number of RPCs completed on the server, regardless of success or failure.";
        page.family(name, help, "counter");
        for (method, metrics) in Method::ALL.iter().zip(&self.0) {
            let ended = metrics.handled.iter().zip(CODES).filter(|(count, _)| count.get() > 0);
            for (count, code) in ended {
                page.sample(
                    name,
                    &format!("grpc_code=\"{code}\",{}", method.labels()),
                    count.get(),
                );
            }
        }
    }
}
