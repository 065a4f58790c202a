//! How single values are written.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{IntErrorKind, ParseIntError},
    str::FromStr,
    time::Duration,
};

use quorate_etcd::serve::ListenAddress;

/// Why a value is not one.
pub(crate) type Problem = String;

/// Reads a whole number.
pub(super) fn number<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: ParseIntError| {
        let problem = match error.kind() {
            IntErrorKind::Empty => "there is no number",
            IntErrorKind::PosOverflow => "the number is too large",
            IntErrorKind::NegOverflow => "the number is too small",
            // `IntErrorKind` may grow.
            IntErrorKind::InvalidDigit | IntErrorKind::Zero | _ => "not a whole number",
        };
        problem.to_owned()
    })
}

/// Reads a truth value as Go does.
pub(super) fn boolean(text: &str) -> Result<bool, Problem> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// Reads a duration as Go writes it: `1h2m3.5s`, `300ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, Problem> {
    let problem = || "not a duration such as 300ms, 1.5s or 2h45m".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut sum = 0.0;
    if rest.is_empty() {
        return Err(problem());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or_else(problem)?;
        let (amount, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let amount: f64 = amount.parse().map_err(|_| problem())?;
        sum += amount * unit_seconds(unit).ok_or_else(problem)?;
        rest = behind;
    }
    Duration::try_from_secs_f64(sum).map_err(|_| problem())
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

/// Reads a list of `http://host:port`, separated by commas.
pub(super) fn urls(text: &str) -> Result<Vec<String>, Problem> {
    let urls = text.split(',').map(str::trim).map(url).collect::<Result<Vec<_>, _>>()?;
    if urls.is_empty() { Err("no URL".to_owned()) } else { Ok(urls) }
}

/// The same for clients, who are served at sockets in the file system, too: `unix://path`.
pub(super) fn client_urls(text: &str) -> Result<Vec<String>, Problem> {
    let client_url = |text: &str| match text.strip_prefix("unix://") {
        Some("") => Err(format!("URL names no socket: {text}")),
        Some(_) => Ok(text.to_owned()),
        None => url(text),
    };
    let urls = text.split(',').map(str::trim).map(client_url).collect::<Result<Vec<_>, _>>()?;
    if urls.is_empty() { Err("no URL".to_owned()) } else { Ok(urls) }
}

fn url(text: &str) -> Result<String, Problem> {
    let (scheme, rest) =
        text.split_once("://").ok_or_else(|| format!("URL scheme must be http: {text}"))?;
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => return Err(format!("TLS is not available in this version: {text}")),
        "unix" | "unixs" => return Err(format!("a unix socket is not available here: {text}")),
        _ => return Err(format!("URL scheme must be http: {text}")),
    }
    if rest.contains(['/', '?', '#', '@']) {
        return Err(format!("URL must not contain a path: {text}"));
    }
    if rest.contains(char::is_whitespace) {
        return Err(format!("URL must not contain a blank: {text:?}"));
    }
    let (host, port) = host_port(rest)
        .ok_or_else(|| format!("URL address does not have the form \"host:port\": {text}"))?;
    if host.is_empty() && !rest.starts_with(':') {
        return Err(format!("URL names no host: {text}"));
    }
    Ok(format!(
        "http://{}:{port}",
        if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
    ))
}

/// Splits `host:port`; an IPv6 host stands in brackets.
fn host_port(place: &str) -> Option<(&str, u16)> {
    let (host, port) = place.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port.parse().ok()?))
}

/// Where to listen for a URL that [`urls`] gave: an address of this machine, not a name, as etcd demands.
pub(super) fn listen_address(url: &str) -> Result<SocketAddr, Problem> {
    let place = url.strip_prefix("http://").unwrap_or(url);
    let (host, port) = host_port(place).ok_or_else(|| format!("no address: {url}"))?;
    let ip = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => host.parse().map_err(|_| format!("expected IP in URL for binding ({url})"))?,
    };
    Ok(SocketAddr::new(ip, port))
}

/// Where to listen for a URL that [`client_urls`] gave.
pub(super) fn client_address(url: &str) -> Result<ListenAddress, Problem> {
    match url.strip_prefix("unix://") {
        Some(path) => Ok(ListenAddress::Unix(path.into())),
        None => listen_address(url).map(ListenAddress::Tcp),
    }
}

/// Reads `name=url,name=url`; a member with several URLs stands there several times.
pub(super) fn cluster(text: &str) -> Result<BTreeMap<String, Vec<String>>, Problem> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (name, address) =
            part.split_once('=').ok_or_else(|| format!("{part:?} is not name=URL"))?;
        // A blank belongs to a name, as in etcd.
        members.entry(name.to_owned()).or_default().push(url(address.trim())?);
    }
    if members.is_empty() { Err("no member".to_owned()) } else { Ok(members) }
}
