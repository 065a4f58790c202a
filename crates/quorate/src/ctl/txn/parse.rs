//! The lines of a transaction: comparisons, and words as a shell would cut them.

use bytes::Bytes;
use quorate_proto::etcdserverpb::{
    Compare,
    compare::{CompareResult, CompareTarget, TargetUnion},
};

/// Reads a comparison such as `mod("key") > "0"`.
///
/// # Errors
/// A text that shows the line.
pub(super) fn compare(line: &str) -> Result<Compare, String> {
    let malformed = || format!("malformed comparison: {line}");
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, rest) = string(rest.trim_start()).ok_or_else(malformed)?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(malformed)?.trim_start();
    let (operator, rest) = rest.split_once(char::is_whitespace).ok_or_else(malformed)?;
    let (value, rest) = string(rest.trim_start()).ok_or_else(malformed)?;
    if !rest.trim().is_empty() {
        return Err(malformed());
    }
    let result = match operator {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        "<" => CompareResult::Less,
        ">" => CompareResult::Greater,
        _ => return Err(format!("{} (unknown operator {operator})", malformed())),
    };
    let invalid = || format!("invalid txn compare request: {line}");
    let number = || text(&value).and_then(|text| text.parse::<i64>().ok()).ok_or_else(invalid);
    let (target, union) = match target.trim() {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        "lease" => {
            let lease = text(&value).and_then(|text| i64::from_str_radix(text, 16).ok());
            (CompareTarget::Lease, TargetUnion::Lease(lease.ok_or_else(invalid)?))
        }
        target => return Err(format!("{} (unknown target {target})", malformed())),
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: Bytes::from(key),
        range_end: Bytes::new(),
        target_union: Some(union),
    })
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Cuts a line into words; quoted ones may hold spaces. `None` when a quote is not closed.
pub(in crate::ctl) fn words(line: &str) -> Option<Vec<std::ffi::OsString>> {
    use std::os::unix::ffi::OsStringExt;
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('\'') {
            Some(quoted) => {
                let (word, behind) = quoted.split_once('\'')?;
                (word.as_bytes().to_vec(), behind)
            }
            None if rest.starts_with('"') => string(rest)?,
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                (word.as_bytes().to_vec(), behind)
            }
        };
        words.push(std::ffi::OsString::from_vec(word));
        rest = behind.trim_start();
    }
    Some(words)
}

/// A string in Go's double quotes or backquotes at the beginning of `input`, and what follows it.
fn string(input: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(raw) = input.strip_prefix('`') {
        let (string, rest) = raw.split_once('`')?;
        return Some((string.as_bytes().to_vec(), rest));
    }
    let mut rest = input.strip_prefix('"')?;
    let mut bytes = Vec::new();
    loop {
        let end = rest.find(['"', '\\'])?;
        let (plain, behind) = rest.split_at(end);
        bytes.extend_from_slice(plain.as_bytes());
        match behind.strip_prefix('"') {
            Some(behind) => return Some((bytes, behind)),
            None => rest = escape(behind.strip_prefix('\\')?, &mut bytes)?,
        }
    }
}

/// Reads what follows a backslash; gives the rest.
fn escape<'a>(input: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let mut rest = input.chars();
    let byte = match rest.next()? {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        '\'' => b'\'',
        'x' => {
            let (digits, rest) = rest.as_str().split_at_checked(2)?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            return Some(rest);
        }
        'u' => return unicode(rest.as_str(), 4, bytes),
        'U' => return unicode(rest.as_str(), 8, bytes),
        _ => {
            let (digits, rest) = input.split_at_checked(3)?;
            bytes.push(u8::from_str_radix(digits, 8).ok()?);
            return Some(rest);
        }
    };
    bytes.push(byte);
    Some(rest.as_str())
}

fn unicode<'a>(input: &'a str, length: usize, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let (digits, rest) = input.split_at_checked(length)?;
    let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_read() {
        for (line, target, union) in [
            (r#"value("a") = "x y""#, CompareTarget::Value, TargetUnion::Value("x y".into())),
            (r#"val("a") = "\x00\n\"""#, CompareTarget::Value, TargetUnion::Value("\0\n\"".into())),
            (r#"ver("a") = "3""#, CompareTarget::Version, TargetUnion::Version(3)),
            (r#"create("a") = "0""#, CompareTarget::Create, TargetUnion::CreateRevision(0)),
            ("mod(`a`) = `7`", CompareTarget::Mod, TargetUnion::ModRevision(7)),
            (r#"lease("a") = "ff""#, CompareTarget::Lease, TargetUnion::Lease(255)),
        ] {
            let read = compare(line).unwrap();
            assert_eq!(read.key, "a", "{line}");
            assert_eq!((read.target(), read.target_union), (target, Some(union)), "{line}");
        }
    }

    #[test]
    fn other_lines_are_no_comparisons() {
        for line in [
            "",
            "put a b",
            "val(a) = \"1\"",
            "val(\"a\" = \"1\"",
            "val(\"a\") \"1\"",
            "val(\"a\") ? \"1\"",
            "val(\"a\") = 1",
            "val(\"a\") = \"1",
            "val(\"a\") = \"\\q\"",
            "val(\"a\") = \"1\" more",
            "size(\"a\") = \"1\"",
            "mod(\"a\") = \"x\"",
            "lease(\"a\") = \"xyz\"",
        ] {
            assert!(compare(line).is_err_and(|text| text.contains(line)), "{line}");
        }
    }

    #[test]
    fn words_are_cut_as_a_shell_would() {
        let cut = |line| words(line).map(|words| words.join("|".as_ref()).into_string().unwrap());
        assert_eq!(cut("put a  b").as_deref(), Some("put|a|b"));
        assert_eq!(cut(r#"put 'a b' "c\td""#).as_deref(), Some("put|a b|c\td"));
        assert_eq!(cut("get ''").as_deref(), Some("get|"));
        assert_eq!(cut("put 'a"), None);
        assert_eq!(cut("put \"a"), None);
    }
}
