//! The chunked transfer coding: RFC 9112, section 7.1.

use super::WireError;

/// Where in the coding the next byte belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    Size { value: u64, digits: u8 },
    Extension { value: u64 },
    Data { left: u64 },
    AfterData,
    Trailer { line_is_empty: bool },
    Ended,
}

impl Default for Chunked {
    fn default() -> Self {
        Self::Size { value: 0, digits: 0 }
    }
}

impl Chunked {
    /// Hands the chunks' content in `bytes` to `deliver`, as far as it goes and
    /// without copying it.
    pub(super) fn decode(
        &mut self,
        mut bytes: &[u8],
        deliver: &mut impl FnMut(&[u8]),
    ) -> Result<(), WireError> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match *self {
                Self::Data { left } => {
                    let take = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    deliver(&bytes[..take]);
                    bytes = &bytes[take..];
                    let left = left - take as u64;
                    *self = if left == 0 { Self::AfterData } else { Self::Data { left } };
                    continue;
                }
                Self::Ended => return Ok(()),
                _ => *self = self.after(byte)?,
            }
            bytes = rest;
        }
        Ok(())
    }

    pub(super) fn has_ended(&self) -> bool {
        *self == Self::Ended
    }

    /// The state after one byte of the coding itself. A lone LF ends a line as
    /// well: RFC 9112, section 2.2.
    fn after(&self, byte: u8) -> Result<Self, WireError> {
        Ok(match (self, byte) {
            (&Self::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                // Sixteen hexadecimal digits fill the number.
                let digits = Some(digits + 1).filter(|&n| n <= 16).ok_or(WireError::Chunk)?;
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Self::Size { value: value << 4 | u64::from(digit), digits }
            }
            (Self::Size { digits: 0, .. }, _) => return Err(WireError::Chunk),
            (&(Self::Size { value, .. } | Self::Extension { value }), b'\n') => match value {
                0 => Self::Trailer { line_is_empty: true },
                left => Self::Data { left },
            },
            (&(Self::Size { value, .. } | Self::Extension { value }), _) => {
                Self::Extension { value }
            }
            (Self::AfterData, b'\r') => Self::AfterData,
            (Self::AfterData, b'\n') => Self::default(),
            (Self::AfterData, _) => return Err(WireError::Chunk),
            (Self::Trailer { line_is_empty: true }, b'\n') => Self::Ended,
            (Self::Trailer { .. }, b'\n') => Self::Trailer { line_is_empty: true },
            (&Self::Trailer { line_is_empty }, b'\r') => Self::Trailer { line_is_empty },
            (Self::Trailer { .. }, _) => Self::Trailer { line_is_empty: false },
            (Self::Data { .. } | Self::Ended, _) => return Err(WireError::Chunk),
        })
    }
}
