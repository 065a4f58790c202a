//! Header blocks in HPACK: where a client says whom it believes to talk to.
//!
//! A server of etcd's API never looks at `:authority`, and Go clients put there what is no authority by the letter of RFC
//! 3986: a socket's path, `#initially=[HOST]`. The library resets such calls. So the value is replaced before the library
//! sees it, by one of the *same decoded length*: what either side counts of the dynamic table stays the same, and a later
//! block that names the entry by its index gets the replacement.
//!
//! A block is walked, not decoded: no table is kept, nothing is allocated unless there is a value to replace. What can't be
//! walked is left to the library, which knows what to say.
//!
//! Source: RFC 7541, 5 (representations), 6 (fields), appendix B (the code, which is canonical: lengths are enough to
//! count symbols).

/// `:authority` in the static table.
const AUTHORITY_INDEX: usize = 1;
/// The same where a name is spelled out.
const AUTHORITY: &[u8] = b":authority";
/// Stands for a letter of an authority.
const STAND_IN: u8 = b'a';

/// How many symbols have a code of 5, 6, ... 30 bits. The last one of 30 is missing: it ends no string.
const CODES: [u32; 26] =
    [10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 3];
/// The shortest code.
const CODE_BITS_MIN: u32 = 5;

/// The block with a harmless `:authority`; `None` if it spells none out.
pub(super) fn without_authority(block: &[u8]) -> Option<Vec<u8>> {
    let mut rest = block;
    let mut replaced: Option<Vec<u8>> = None;
    while let Some(first) = rest.first().copied() {
        let field = rest;
        let walked = walk_field(first, &mut rest)?;
        let consumed = field.get(..field.len().saturating_sub(rest.len()))?;
        let done = block.len().saturating_sub(field.len());
        let stand_in = match walked {
            Field::Authority(value) => stand_in(consumed, &value),
            Field::Other => None,
        };
        match (stand_in, &mut replaced) {
            (Some(field), Some(out)) => out.extend(field),
            (Some(field), none) => {
                let mut out = block.get(..done)?.to_vec();
                out.extend(field);
                *none = Some(out);
            }
            (None, Some(out)) => out.extend_from_slice(consumed),
            (None, None) => {}
        }
    }
    replaced
}

/// A field of a block.
enum Field<'a> {
    /// An `:authority` whose value is spelled out.
    Authority(Value<'a>),
    Other,
}

/// The value of an `:authority`, as it lies in the block.
struct Value<'a> {
    /// Length and letters.
    encoded_bytes: usize,
    huffman: bool,
    letters: &'a [u8],
}

/// Steps over one field. `None` says that the block is bad.
fn walk_field<'a>(first: u8, rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let index_bits = match first {
        0x80.. => 7,
        0x40.. => 6,
        0x20.. => 5,
        _ => 4,
    };
    let index = integer(index_bits, rest)?;
    if index_bits == 7 || index_bits == 5 {
        return Some(Field::Other);
    }
    let mut is_authority = index == AUTHORITY_INDEX;
    if index == 0 {
        let (huffman, name) = string(rest)?;
        is_authority = !huffman && name == AUTHORITY;
    }
    let before = rest.len();
    let (huffman, letters) = string(rest)?;
    let encoded_bytes = before.saturating_sub(rest.len());
    Some(if is_authority {
        Field::Authority(Value { encoded_bytes, huffman, letters })
    } else {
        Field::Other
    })
}

/// The field with its value replaced; `None` if that is not possible, or the value is empty.
fn stand_in(field: &[u8], value: &Value<'_>) -> Option<Vec<u8>> {
    let len = if value.huffman { decoded_len(value.letters)? } else { value.letters.len() };
    if len == 0 {
        return None;
    }
    let mut out = field.get(..field.len().checked_sub(value.encoded_bytes)?)?.to_vec();
    put_len(len, &mut out);
    out.resize(out.len() + len, STAND_IN);
    Some(out)
}

/// An integer whose first byte has `bits` bits of it.
fn integer(bits: u32, rest: &mut &[u8]) -> Option<usize> {
    let max = (1_usize << bits) - 1;
    let mut value = usize::from(take(rest)?) & max;
    if value < max {
        return Some(value);
    }
    // Four more bytes hold every length that a frame can have.
    for shift in [0, 7, 14, 21] {
        let byte = take(rest)?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A string: whether its letters are in the Huffman code, and they.
fn string<'a>(rest: &mut &'a [u8]) -> Option<(bool, &'a [u8])> {
    let huffman = rest.first()? & 0x80 != 0;
    let len = integer(7, rest)?;
    let (letters, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some((huffman, letters))
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

/// The length of a plain string.
fn put_len(len: usize, out: &mut Vec<u8>) {
    let byte = |value: usize| u8::try_from(value & 0x7f).unwrap_or(0);
    if len < 0x7f {
        out.push(byte(len));
        return;
    }
    out.push(0x7f);
    let mut more = len - 0x7f;
    while more >= 0x80 {
        out.push(byte(more) | 0x80);
        more >>= 7;
    }
    out.push(byte(more));
}

/// How many symbols these bits are; `None` if they are no code, or end in more than a byte of padding.
fn decoded_len(letters: &[u8]) -> Option<usize> {
    let mut count = 0;
    let mut code = Code::default();
    for byte in letters {
        for bit in (0..8).rev() {
            if code.is_complete_with((byte >> bit) & 1)? {
                count += 1;
                code = Code::default();
            }
        }
    }
    (code.bits < 8).then_some(count)
}

/// The beginning of a symbol's code.
#[derive(Default)]
struct Code {
    bits: u32,
    value: u32,
    /// The first code of this length.
    first: u32,
}

impl Code {
    /// Takes one more bit. Whether that makes a symbol; `None` when it never will.
    fn is_complete_with(&mut self, bit: u8) -> Option<bool> {
        self.bits += 1;
        self.value = (self.value << 1) | u32::from(bit);
        self.first <<= 1;
        if self.bits < CODE_BITS_MIN {
            return Some(false);
        }
        let count = CODES.get((self.bits - CODE_BITS_MIN) as usize)?;
        if self.value.wrapping_sub(self.first) < *count {
            return Some(true);
        }
        self.first += count;
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `:method: POST`, then an authority as a literal that is to be remembered, then `te: trailers` without.
    fn block(authority: &[u8]) -> Vec<u8> {
        let mut block = vec![0x83, 0x41];
        block.extend(authority);
        block.extend(b"\x00\x02te\x08trailers");
        block
    }

    fn plain(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_len(text.len(), &mut out);
        out.extend(text);
        out
    }

    #[test]
    fn an_authority_gives_way_to_one_of_its_length() {
        for text in [&b"#initially=[db:2379]"[..], b"unix:/run/x", b"%2Frun", b"localhost"] {
            let expected = block(&plain(&vec![b'a'; text.len()]));
            assert_eq!(without_authority(&block(&plain(text))), Some(expected));
        }
        let long = vec![b'/'; 5000];
        assert_eq!(without_authority(&block(&plain(&long))), Some(block(&plain(&[b'a'; 5000]))));
    }

    /// RFC 7541, C.4.1: `www.example.com` in the code.
    #[test]
    fn letters_in_the_code_are_counted() {
        let coded = b"\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(without_authority(&block(coded)), Some(block(&plain(&[b'a'; 15]))));
        assert_eq!(decoded_len(b"\xff\xff\xff\xff"), None);
        assert_eq!(decoded_len(&[0xff]), None);
        assert_eq!(decoded_len(&[]), Some(0));
        assert_eq!(CODES.iter().sum::<u32>(), 256);
    }

    #[test]
    fn a_name_that_is_spelled_out_is_known_too() {
        let mut spelled = vec![0x00];
        spelled.extend(plain(AUTHORITY));
        let mut expected = spelled.clone();
        spelled.extend(plain(b"/x"));
        expected.extend(plain(b"aa"));
        assert_eq!(without_authority(&spelled), Some(expected));
    }

    #[test]
    fn other_blocks_are_left_alone() {
        let names: [&[u8]; 7] = [
            b"",
            b"\x83\x86\xbe\xbf",
            b"\x3f\xe1\x1f\x83",
            b"\x44\x03/ab\x01",
            b"\x41\x00\x83",
            b"\x41\x05ab",
            b"\xff\xff\xff\xff\xff\xff",
        ];
        for block in names {
            assert_eq!(without_authority(block), None, "{block:x?}");
        }
    }
}
