//! How a client's messages are compressed.
//!
//! etcd has gzip installed and nothing else. Answers go out as they are: a client that can compress takes them too.
//!
//! Source: grpc `doc/compression.md`; the texts are those of Go's server.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use tonic::{Code, Status};

/// The encoding of a call's compressed messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// None is compressed.
    Identity,
    Gzip,
}

impl Encoding {
    /// What a call says of itself.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` for every other encoding, whether a message uses it or not.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Status> {
        match headers.get("grpc-encoding").map(http::HeaderValue::as_bytes) {
            None | Some(b"" | b"identity") => Ok(Self::Identity),
            Some(b"gzip") => Ok(Self::Gzip),
            Some(other) => {
                let name = String::from_utf8_lossy(other);
                let text =
                    format!("grpc: Decompressor is not installed for grpc-encoding {name:?}");
                Err(Status::new(Code::Unimplemented, text))
            }
        }
    }

    /// A message that says it is compressed, as it was before. It may have `message_bytes_max` bytes then, and no more are
    /// made.
    ///
    /// # Errors
    /// `INTERNAL` for what is not compressed so, `RESOURCE_EXHAUSTED` for what is too large.
    pub(super) fn decompress(
        self,
        message: &[u8],
        message_bytes_max: usize,
    ) -> Result<Bytes, Status> {
        if self == Self::Identity {
            let text = "grpc: compressed flag set with identity or empty encoding";
            return Err(Status::new(Code::Internal, text));
        }
        let most = u64::try_from(message_bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        let mut plain = Vec::new();
        MultiGzDecoder::new(message).take(most).read_to_end(&mut plain).map_err(|error| {
            let text = format!("grpc: failed to decompress the received message: {error}");
            Status::new(Code::Internal, text)
        })?;
        if plain.len() > message_bytes_max {
            let text = format!(
                "grpc: received message after decompression larger than max {message_bytes_max}"
            );
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(plain.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use http::HeaderValue;

    use super::*;

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::default());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn the_header_names_the_encoding() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-encoding", HeaderValue::from_static(value));
            Encoding::of(&headers).map_err(|status| (status.code(), status.message().to_owned()))
        };
        assert_eq!(of("gzip"), Ok(Encoding::Gzip));
        assert_eq!(of("identity"), Ok(Encoding::Identity));
        assert_eq!(Encoding::of(&HeaderMap::new()).unwrap(), Encoding::Identity);
        let text = "grpc: Decompressor is not installed for grpc-encoding \"snappy\"";
        assert_eq!(of("snappy"), Err((Code::Unimplemented, text.into())));
    }

    #[test]
    fn what_was_compressed_comes_back_within_the_limit() {
        let plain = vec![7; 1000];
        let small = compressed(&plain);
        assert_eq!(Encoding::Gzip.decompress(&small, 1000).unwrap(), plain);
        let refused =
            |encoding: Encoding, bytes: &[u8]| encoding.decompress(bytes, 999).unwrap_err().code();
        assert_eq!(refused(Encoding::Gzip, &small), Code::ResourceExhausted);
        assert_eq!(
            refused(Encoding::Gzip, &compressed(&vec![0; 1 << 24])),
            Code::ResourceExhausted
        );
        assert_eq!(refused(Encoding::Gzip, &small[..small.len() - 9]), Code::Internal);
        assert_eq!(refused(Encoding::Gzip, b"no gzip"), Code::Internal);
        assert_eq!(refused(Encoding::Identity, &small), Code::Internal);
    }
}
