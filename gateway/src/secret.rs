//! Values that are in no log.

use std::{convert::Infallible, fmt, str::FromStr};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself; the name is long enough to be seen in review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self(s.to_owned()))
    }
}

/// The secret that signs tokens: any bytes, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

/// Standard and URL-safe alphabet are tried in turn, padded or not.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

impl SigningSecret {
    /// A secret as it is written in a setting: the text's own bytes, or what
    /// `base64:…` stands for.
    ///
    /// # Errors
    ///
    /// What follows `base64:` is not base64.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let Some(encoded) = text.strip_prefix("base64:") else {
            return Ok(Self(text.as_bytes().to_vec()));
        };
        let decode = |alphabet| GeneralPurpose::new(alphabet, LENIENT).decode(encoded.trim());
        decode(&alphabet::STANDARD)
            .or_else(|_| decode(&alphabet::URL_SAFE))
            .map(Self)
            .map_err(|_| SecretError)
    }

    /// A secret as a file holds it. Text is read as in [`SigningSecret::parse`],
    /// less the line ends that editors and `echo` put after it; anything that
    /// is not UTF-8 is taken byte for byte, for there a last byte of 10 is key.
    ///
    /// # Errors
    ///
    /// As [`SigningSecret::parse`].
    pub fn from_file(content: &[u8]) -> Result<Self, SecretError> {
        let Ok(text) = std::str::from_utf8(content) else { return Ok(Self(content.to_vec())) };
        Self::parse(text.trim_end_matches(['\r', '\n']))
    }

    /// The secret itself; the name is long enough to be seen in review.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Why anyone with one token could find the secret out, if they could.
    pub fn weakness(&self) -> Option<Weakness> {
        // RFC 7518, section 3.2: a key of HS256 has at least 256 bits.
        const MIN_BYTES: usize = 32;
        // "aaaa…" and "0123456789…" have 32 bytes and no secret in them; random
        // bytes, and their hexadecimal digits, practically never have so few.
        const MIN_DISTINCT: usize = 8;
        let mut distinct = self.0.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let is_sequence = self.0.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) <= 1);
        let is_published = PUBLISHED.iter().any(|known| known.as_bytes() == self.0);
        if is_published {
            Some(Weakness::Published)
        } else if self.0.len() < MIN_BYTES {
            Some(Weakness::Short)
        } else if distinct.len() < MIN_DISTINCT || is_sequence {
            Some(Weakness::Uniform)
        } else {
            None
        }
    }
}

/// Secrets of tutorials and defaults: the first ones that are tried.
const PUBLISHED: [&str; 8] = [
    // FastAPI's tutorial on JWT.
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    // Supabase's local development, old and new.
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "your-super-secret-jwt-token-with-at-least-32-characters-long",
    // jwt.io's examples.
    "a-string-secret-at-least-256-bits-long",
    "your-256-bit-secret",
    "secret",
    "changeme",
    "SECRET",
];

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// What follows `base64:` cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what follows base64: is not base64; `openssl rand -base64 32` makes a good secret")]
pub struct SecretError;

/// What is wrong with a secret that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Fewer than 32 bytes.
    #[error("it is shorter than 32 bytes, the least that RFC 7518 allows for HS256")]
    Short,
    /// The same few bytes over and over, or one after the other.
    #[error("it repeats a few characters or counts them up")]
    Uniform,
    /// Everybody has it.
    #[error("it is the published example of a tutorial or a default")]
    Published,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<u8> {
        SigningSecret::parse(text).unwrap().0
    }

    #[test]
    fn a_secret_is_text_or_base64_in_either_alphabet_padded_or_not() {
        assert_eq!(parse("a secret "), b"a secret ");
        for text in ["base64:+/8B", "base64:-_8B", "base64: -_8B"] {
            assert_eq!(parse(text), [0xfb, 0xff, 0x01], "{text}");
        }
        for text in ["base64:AQ==", "base64:AQ"] {
            assert_eq!(parse(text), [1], "{text}");
        }
        assert_eq!(SigningSecret::parse("base64:!"), Err(SecretError));
    }

    #[test]
    fn a_file_loses_the_line_ends_at_its_end_if_it_is_text_and_nothing_if_it_is_not() {
        for (content, secret) in [
            (&b"text\n"[..], &b"text"[..]),
            (b"text\r\n", b"text"),
            (b"text\n\n", b"text"),
            (b"text", b"text"),
            (b"base64:AQI=\n", &[1, 2]),
            (&[0xff, 1, b'\n'], &[0xff, 1, b'\n']),
            (b"\n", b""),
        ] {
            assert_eq!(SigningSecret::from_file(content).unwrap().0, secret, "{content:?}");
        }
    }

    #[test]
    fn a_weak_secret_is_known_as_such_and_a_random_one_is_not() {
        for (text, weakness) in [
            ("secret", Some(Weakness::Published)),
            ("s3cr3t", Some(Weakness::Short)),
            (&"x".repeat(64), Some(Weakness::Uniform)),
            ("abababababababababababababababababab", Some(Weakness::Uniform)),
            ("abcdefghijklmnopqrstuvwxyzabcdefghij", None),
            ("0123456789:;<=>?@ABCDEFGHIJKLMNOPQR", Some(Weakness::Uniform)),
            (PUBLISHED[0], Some(Weakness::Published)),
            ("5c1d8f2be0a94763a1f0c2d97e6b48315c1d8f2be0a94763a1f0c2d97e6b4831", None),
            ("base64:3q2+796tvu/erb7v3q2+796tvu/erb7v3q2+796tvu8=", Some(Weakness::Uniform)),
        ] {
            assert_eq!(SigningSecret::parse(text).unwrap().weakness(), weakness, "{text}");
        }
    }

    #[test]
    fn neither_kind_is_printed() {
        let printed = format!("{:?} {:?}", Secret::new("hunter2".into()), parse("x").len());
        let printed = printed + &format!("{:?}", SigningSecret::parse("hunter2").unwrap());
        assert!(!printed.contains("hunter2"));
    }
}
