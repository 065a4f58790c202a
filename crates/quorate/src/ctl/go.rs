//! Values as Go prints them, where etcdctl's output shows it.

use std::{fmt::Write as _, time::Duration};

/// Bytes as Go's `%q` writes them.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_quoted(&mut text, c));
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

fn push_quoted(text: &mut String, c: char) {
    let short = match c {
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        '\\' => "\\\\",
        '"' => "\\\"",
        _ => "",
    };
    let number = u32::from(c);
    let written = match c {
        _ if !short.is_empty() => text.write_str(short),
        _ if number < 0x20 || number == 0x7f => write!(text, "\\x{number:02x}"),
        c if c.is_control() => write!(text, "\\u{number:04x}"),
        c => text.write_char(c),
    };
    // Writing to a string does not fail.
    let _ = written;
}

/// A duration as Go writes it: `2.615683ms`, `1.5s`, `1m0s`.
pub(super) fn duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let (unit, divisor) = match nanoseconds {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    let minutes = duration.as_secs() / 60;
    let in_minute = nanoseconds - u128::from(minutes) * 60_000_000_000;
    let text = fraction(in_minute, divisor);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{text}{unit}"),
        (0, minutes) => format!("{minutes}m{text}{unit}"),
        (hours, minutes) => format!("{hours}h{minutes}m{text}{unit}"),
    }
}

/// `value / divisor` exactly, for a power of ten.
fn fraction(value: u128, divisor: u128) -> String {
    let digits = divisor.ilog10() as usize;
    let (whole, rest) = (value / divisor, value % divisor);
    if rest == 0 {
        return whole.to_string();
    }
    let rest = format!("{rest:0digits$}");
    format!("{whole}.{}", rest.trim_end_matches('0'))
}

/// A size for people, in powers of a thousand: `25 kB`, `2.1 GB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut unit_bytes: u64 = 1000;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if bytes / unit_bytes < 1000 {
            break;
        }
        unit_bytes *= 1000;
        unit = next;
    }
    // Tenths, rounded; below ten units they are shown.
    let tenths = (u128::from(bytes) * 10 + u128::from(unit_bytes) / 2) / u128::from(unit_bytes);
    if tenths < 100 {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", (tenths + 5) / 10)
    }
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) & 63;
            let letter = ALPHABET.get(digit as usize).copied().unwrap_or(b'=');
            text.push(if place > group.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted() {
        for (bytes, text) in [
            (&b"plain"[..], r#""plain""#),
            (b"x\ty\x01", r#""x\ty\x01""#),
            (b"\"\\\n\x7f", r#""\"\\\n\x7f""#),
            (b"\xff\xc3\xa9", "\"\\xff\u{e9}\""),
        ] {
            assert_eq!(quoted(bytes), text);
        }
    }

    #[test]
    fn durations_are_written() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (15, "15ns"),
            (1_500, "1.5µs"),
            (2_615_683, "2.615683ms"),
            (1_000_368_903, "1.000368903s"),
            (60_000_000_000, "1m0s"),
            (3_661_500_000_000, "1h1m1.5s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanoseconds)), text);
        }
    }

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (16_384, "16 kB"),
            (24_576, "25 kB"),
            (2_147_483_648, "2.1 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn base64_is_padded() {
        for (bytes, text) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff; 4]), "/////w==");
    }
}
