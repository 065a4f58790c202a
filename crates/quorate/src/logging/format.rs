//! One event as one line.

use std::fmt::{self, Write as _};

use serde_json::{Map, Number, Value};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::{LogFormat, timestamp::Timestamp};

/// Lines in the order of zap, etcd's logger.
#[derive(Debug)]
pub(super) struct ZapFormat {
    pub(super) format: LogFormat,
}

/// Spans are not written, so their fields need no text.
#[derive(Debug)]
pub(super) struct NoFields;

impl<'writer> FormatFields<'writer> for NoFields {
    fn format_fields<R: RecordFields>(&self, _: Writer<'writer>, _: R) -> fmt::Result {
        Ok(())
    }
}

impl<S, N> FormatEvent<S, N> for ZapFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let now = Timestamp::now();
        let line = match self.format {
            LogFormat::Json => json(event.metadata(), &now.to_string(), parts),
            LogFormat::Console => console(event.metadata(), &now.to_string(), parts),
        };
        writeln!(writer, "{line}")
    }
}

/// What an event carries.
#[derive(Debug, Default)]
struct Parts {
    message: String,
    fields: Map<String, Value>,
}

impl Parts {
    fn add(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        } else {
            // etcd's names have hyphens, Rust's have underscores.
            self.fields.insert(field.name().replace('_', "-"), value);
        }
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::String(value.to_owned()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Number(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Number(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Number::from_f64(value).map_or(Value::Null, Value::Number));
    }
}

fn json(metadata: &Metadata<'_>, now: &str, parts: Parts) -> String {
    let mut line = String::from("{");
    let fixed = [
        ("level", level(*metadata.level())),
        ("ts", now),
        ("caller", &caller(metadata)),
        ("msg", &parts.message),
    ]
    .map(|(key, value)| (key.to_owned(), Value::String(value.to_owned())));
    for (key, value) in fixed.into_iter().chain(parts.fields) {
        if line.len() > 1 {
            line.push(',');
        }
        // Writing to a string does not fail.
        let _ = write!(line, "{}:{value}", Value::String(key));
    }
    line.push('}');
    line
}

fn console(metadata: &Metadata<'_>, now: &str, parts: Parts) -> String {
    let mut line =
        format!("{now}\t{}\t{}\t{}", level(*metadata.level()), caller(metadata), parts.message);
    if !parts.fields.is_empty() {
        let _ = write!(line, "\t{}", Value::Object(parts.fields));
    }
    line
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// The file with its module or crate, and the line.
fn caller(metadata: &Metadata<'_>) -> String {
    let file = metadata.file().unwrap_or_default();
    let mut parts = file.rsplit('/').filter(|part| *part != "src");
    let name = parts.next().unwrap_or_default();
    let folder = parts.next().unwrap_or_default();
    format!("{folder}/{name}:{}", metadata.line().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::Arc,
    };

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(ZapFormat { format })
            .fmt_fields(NoFields)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = lines.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn speak() {
        tracing::warn!(local_member_id = "8e9e", count = 3, ok = true, "it \"works\"");
    }

    #[test]
    fn json_lines_have_the_keys_of_etcd_in_its_order() {
        let line = logged(LogFormat::Json, speak);
        let object: Map<String, Value> = serde_json::from_str(&line).unwrap();
        assert_eq!(object["level"], "warn");
        assert_eq!(object["msg"], "it \"works\"");
        assert_eq!(object["local-member-id"], "8e9e");
        assert_eq!(object["count"], 3);
        assert_eq!(object["ok"], true);
        assert!(object["caller"].as_str().unwrap().starts_with("logging/format.rs:"));
        assert!(line.starts_with("{\"level\":\"warn\",\"ts\":\"2"), "{line}");
        let position = |key: &str| line.find(&format!("\"{key}\":")).unwrap();
        assert!(position("ts") < position("caller") && position("caller") < position("msg"));
    }

    #[test]
    fn console_lines_are_for_people() {
        let line = logged(LogFormat::Console, speak);
        assert!(line.contains("\twarn\tlogging/format.rs:"), "{line}");
        assert!(line.contains("\tit \"works\"\t{"), "{line}");
    }
}
