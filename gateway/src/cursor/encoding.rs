//! A cursor as text: version, numbers, checksum, in base64url.
//!
//! Version 1:
//!
//! ```text
//! version   1 byte
//! epoch     number
//! xmax      number
//! holes     how many, then newest first the distance down from the one before, less 1
//! parts     how many, then rows
//! recents   how many, then rows
//! checksum  3 bytes
//! ```
//!
//! A number is a LEB128 varint in its shortest form. A row is the distance of its transaction from
//! the row before it and the distance of its seq, less 1 where the transaction is the same (so
//! that a list out of order can't be written). The first transaction of a list counts from xmax,
//! the first seq of the parts from 0, that of the recents from the last part. A distance that can
//! be negative wraps around and is zigzagged.
//!
//! Why a checksum: in a form this dense nearly every damaged text is some other cursor, and one
//! that claims more than the client has loses events without a sign. With it, each of these is
//! found for certain, not only with a probability:
//!
//! - a changed character, or several that lie within four neighbours (24 bits): a CRC of 24 bits
//!   finds every burst up to its own length;
//! - an end cut off: every list is preceded by its length, so no body is the beginning of another,
//!   and a text cut short ends within its body, whatever its last three bytes are.
//!
//! Other damage passes with a probability of 2^-24 at most, and then must also be canonical.
//! It is no authenticator. A cursor names no user: who forges one sees again or misses rows of its
//! own stream, and has the gateway hold no more than `MAX_BYTES` numbers. How many rows a replay
//! reads is not bounded here but by the replay limit.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use thiserror::Error;

use super::{Cursor, MAX_LEN, RowKey, Snapshot, listed, snapshot::MAX_NUMBER_BYTES};

const VERSION: u8 = 1;

/// What `MAX_LEN` characters of base64 hold: 2,048 × 6 / 8 bytes.
const MAX_BYTES: usize = MAX_LEN / 4 * 3;

impl Cursor {
    /// Reads what a client sent back: any bytes at all.
    ///
    /// Time and memory are bounded by `MAX_LEN`, whatever the numbers inside say. A text of
    /// base64url that this accepts is the only one for its cursor: [`encode`](Self::encode) gives
    /// it back. What `notify_gateway.cursor()` writes is accepted as well.
    ///
    /// # Errors
    ///
    /// When the text isn't one that [`encode`](Self::encode) or `cursor()` writes, with the
    /// reason. The client then needs a `resync`.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, CursorError> {
        let text = text.as_ref();
        if text.len() > MAX_LEN {
            return Err(CursorError::TooLong);
        }
        // No character of base64url.
        if text.contains(&b':') {
            let text = std::str::from_utf8(text).map_err(|_| CursorError::NotCanonical)?;
            return listed::parse(text);
        }
        // This engine refuses padding and stray bits in the last character.
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::NotBase64Url)?;
        let version = *bytes.first().ok_or(CursorError::CutShort)?;
        if version != VERSION {
            return Err(CursorError::UnknownVersion(version));
        }
        let (body, sum) = bytes.split_last_chunk().ok_or(CursorError::CutShort)?;
        if *sum != checksum(body) {
            return Err(CursorError::Damaged);
        }
        let mut reader = Reader(body.get(1..).ok_or(CursorError::CutShort)?);
        let cursor = reader.cursor()?;
        if !reader.0.is_empty() {
            return Err(CursorError::NotCanonical);
        }
        Ok(cursor)
    }

    /// Appends the cursor to `out` and says so; or leaves `out` alone and says `false` when the
    /// rows beyond the snapshot are too many for `MAX_LEN` characters.
    ///
    /// The event then goes out without an id, and a sweep should follow: its
    /// [`rebase`](Self::rebase) forgets the rows. A cursor without parts and recents always fits:
    /// of a snapshot with more holes than a KiB holds, the oldest part is written, so
    /// that even beside thousands of writers a client has something to come back with.
    ///
    /// The characters are those of base64url: safe in an SSE `id`, a header and a query.
    #[must_use = "without an id the event must go out differently"]
    pub fn encode(&self, out: &mut Vec<u8>) -> bool {
        // Nearly all are short, and each event has one.
        let numbers = self.snapshot.xip().len() + self.parts.len() + self.recents.len();
        if numbers <= FEW_NUMBERS {
            Writer::<FEW_BYTES>::default().encode(self, out)
        } else {
            Writer::<MAX_BYTES>::default().encode(self, out)
        }
    }
}

/// Why a client's cursor can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CursorError {
    /// Longer than any that is written.
    #[error("cursor is longer than {MAX_LEN} characters")]
    TooLong,
    /// Not in the alphabet of base64url.
    #[error("cursor is not base64url")]
    NotBase64Url,
    /// Of another version of the encoding.
    #[error("cursor is of the unknown version {0}")]
    UnknownVersion(u8),
    /// Something is missing at its end.
    #[error("cursor is cut short")]
    CutShort,
    /// Its checksum is another.
    #[error("cursor does not match its checksum")]
    Damaged,
    /// Whole, but not as it would be written.
    #[error("cursor is not in the form the gateway writes")]
    NotCanonical,
}

/// A cursor's bytes as they are written. Its methods give `None` when there is no more room.
struct Writer<const ROOM: usize> {
    bytes: [u8; ROOM],
    len: usize,
}

/// A cursor of so few holes, parts and recents fits into so many bytes: two
/// numbers each, five more, version and checksum.
const FEW_NUMBERS: usize = 4;
const FEW_BYTES: usize = (2 * FEW_NUMBERS + 5) * MAX_NUMBER_BYTES + 4;

impl<const ROOM: usize> Default for Writer<ROOM> {
    fn default() -> Self {
        Self { bytes: [0; ROOM], len: 0 }
    }
}

impl<const ROOM: usize> Writer<ROOM> {
    fn encode(&mut self, cursor: &Cursor, out: &mut Vec<u8>) -> bool {
        if self.cursor(cursor).is_none() {
            return false;
        }
        let start = out.len();
        // Four characters for three bytes: room enough.
        out.resize(start + self.len.div_ceil(3) * 4, 0);
        let written = URL_SAFE_NO_PAD.encode_slice(&self.bytes[..self.len], &mut out[start..]);
        out.truncate(start + written.unwrap_or_default());
        true
    }

    fn cursor(&mut self, cursor: &Cursor) -> Option<()> {
        self.byte(VERSION)?;
        self.number(cursor.epoch.into())?;
        let (xmax, xip) = cursor.snapshot.fitting();
        self.number(xmax)?;
        self.count(xip.len())?;
        let mut above = xmax;
        for hole in xip.iter().rev() {
            self.number(above - hole - 1)?;
            above = *hole;
        }
        let seq = self.rows(&cursor.parts, RowKey { xact: xmax, seq: 0 })?;
        self.rows(&cursor.recents, RowKey { xact: xmax, seq })?;
        for byte in checksum(&self.bytes[..self.len]) {
            self.byte(byte)?;
        }
        Some(())
    }

    /// Gives the last row's seq.
    fn rows(&mut self, rows: &[RowKey], mut before: RowKey) -> Option<i64> {
        self.count(rows.len())?;
        for (place, row) in rows.iter().enumerate() {
            let ahead = row.xact.wrapping_sub(before.xact);
            let seq_ahead = row.seq.wrapping_sub(before.seq);
            if place == 0 {
                self.number(zigzag(ahead.cast_signed()))?;
            } else {
                self.number(ahead)?;
            }
            if place > 0 && ahead == 0 {
                self.number(seq_ahead.cast_unsigned() - 1)?;
            } else {
                self.number(zigzag(seq_ahead))?;
            }
            before = *row;
        }
        Some(before.seq)
    }

    fn count(&mut self, count: usize) -> Option<()> {
        self.number(u64::try_from(count).ok()?)
    }

    fn number(&mut self, mut number: u64) -> Option<()> {
        while number > 0x7f {
            self.byte(number.to_le_bytes()[0] | 0x80)?;
            number >>= 7;
        }
        self.byte(number.to_le_bytes()[0])
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.len)? = byte;
        self.len += 1;
        Some(())
    }
}

/// What is left of a cursor's bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn cursor(&mut self) -> Result<Cursor, CursorError> {
        let epoch = u32::try_from(self.number()?).map_err(|_| CursorError::NotCanonical)?;
        let snapshot = self.snapshot()?;
        let xmax = snapshot.xmax();
        let parts = self.rows(RowKey { xact: xmax, seq: 0 })?;
        let seq = parts.last().map_or(0, |part| part.seq);
        let recents = self.rows(RowKey { xact: xmax, seq })?;

        let one_part_each = parts.windows(2).all(|pair| pair[0].xact < pair[1].xact);
        let whole = Cursor { parts, ..Cursor::new(epoch, Arc::new(snapshot)) };
        let redundant = whole.parts.iter().any(|p| whole.snapshot.sees(p.xact))
            || recents.iter().any(|recent| whole.covers(*recent));
        if redundant || !one_part_each {
            return Err(CursorError::NotCanonical);
        }
        Ok(Cursor { recents, ..whole })
    }

    fn snapshot(&mut self) -> Result<Snapshot, CursorError> {
        let xmax = self.number()?;
        let count = self.count()?;
        let mut xip = Vec::with_capacity(count);
        let mut above = xmax;
        for _ in 0..count {
            let down = self.number()?;
            above = above
                .checked_sub(down)
                .and_then(|above| above.checked_sub(1))
                .filter(|hole| *hole > 0)
                .ok_or(CursorError::NotCanonical)?;
            xip.push(above);
        }
        xip.reverse();
        let snapshot = Snapshot::new(xmax, xip);
        let as_written = xmax > 0 && snapshot.xmax() == xmax && snapshot.fitting().0 == xmax;
        as_written.then_some(snapshot).ok_or(CursorError::NotCanonical)
    }

    fn rows(&mut self, mut before: RowKey) -> Result<Vec<RowKey>, CursorError> {
        let count = self.count()?;
        let mut rows = Vec::with_capacity(count);
        for place in 0..count {
            let ahead = self.number()?;
            let seq_ahead = self.number()?;
            let xact = if place == 0 {
                Some(before.xact.wrapping_add_signed(unzigzag(ahead)))
            } else {
                before.xact.checked_add(ahead)
            };
            let seq = if place > 0 && ahead == 0 {
                before.seq.checked_add_unsigned(seq_ahead).and_then(|seq| seq.checked_add(1))
            } else {
                Some(before.seq.wrapping_add(unzigzag(seq_ahead)))
            };
            let (xact, seq) = xact.zip(seq).ok_or(CursorError::NotCanonical)?;
            before = RowKey { xact, seq };
            rows.push(before);
        }
        Ok(rows)
    }

    /// The length of a list, whose items are at least a byte each. Memory is taken for as many,
    /// so a count that can't be true is refused here.
    fn count(&mut self) -> Result<usize, CursorError> {
        let count = usize::try_from(self.number()?).map_err(|_| CursorError::CutShort)?;
        if count > self.0.len() {
            return Err(CursorError::CutShort);
        }
        Ok(count)
    }

    fn number(&mut self) -> Result<u64, CursorError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(CursorError::CutShort)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(CursorError::NotCanonical);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                // A last byte of 0 says nothing: the same number has a shorter form.
                let shortest = byte != 0 || shift == 0;
                return shortest.then_some(number).ok_or(CursorError::NotCanonical);
            }
        }
        Err(CursorError::NotCanonical)
    }
}

/// Small numbers of either sign as small numbers: 0, -1, 1, -2, …
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// The CRC-24 of `OpenPGP`, RFC 9580 section 6.1.1.
fn checksum(bytes: &[u8]) -> [u8; 3] {
    let crc = bytes.iter().fold(0x00b7_04ce, |crc: u32, byte| {
        let [_, top, ..] = crc.to_be_bytes();
        (crc << 8) ^ CRC_OF_BYTE[usize::from(top ^ byte)]
    });
    let [_, sum @ ..] = crc.to_be_bytes();
    sum
}

const CRC_OF_BYTE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut crc = byte << 16;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc & 0x0080_0000 == 0 { 0 } else { 0x0186_4cfb };
            bit += 1;
        }
        table[byte as usize] = crc & 0x00ff_ffff;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::{super::strategies::*, *};

    fn with_checksum(mut body: Vec<u8>) -> String {
        body.extend(checksum(&body));
        URL_SAFE_NO_PAD.encode(body)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_cursor_survives_its_encoding(small in any_cursor(), wide in any_wide_cursor()) {
            for cursor in [small, wide] {
                let text = text(&cursor);
                prop_assert!(text.len() <= MAX_LEN);
                let safe = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
                prop_assert!(text.bytes().all(safe));
                let back = Cursor::parse(&text);
                prop_assert_eq!(back, Ok(cursor), "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_the_cursor_they_encode(
            bytes in vec(any::<u8>(), 0..64),
            body in vec(prop_oneof![4 => 0..4_u8, 1 => any::<u8>()], 0..20),
        ) {
            let body = with_checksum([&[VERSION], &*body].concat());
            for input in [bytes.clone(), URL_SAFE_NO_PAD.encode(bytes).into_bytes(), body.into()] {
                if let Ok(cursor) = Cursor::parse(&input) && !input.contains(&b':') {
                    prop_assert_eq!(text(&cursor).into_bytes(), input);
                }
            }
        }

        #[test]
        fn four_neighbouring_characters_changed_are_found(
            cursor in any_wide_cursor(), place in any::<Index>(), damage in vec(any::<u8>(), 1..=4),
        ) {
            let text = text(&cursor).into_bytes();
            let place = place.index(text.len() - damage.len() + 1);
            let mut damaged = text.clone();
            damaged[place..place + damage.len()].copy_from_slice(&damage);
            prop_assert!(damaged == text || Cursor::parse(&damaged).is_err());
            let mut swapped = text.clone();
            swapped[place..place + damage.len()].reverse();
            prop_assert!(swapped == text || Cursor::parse(&swapped).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_truncation_and_every_changed_character_is_found(
            small in any_cursor(), wide in any_wide_cursor(),
        ) {
            for cursor in [small, wide] {
                let text = text(&cursor).into_bytes();
                for place in 0..text.len() {
                    prop_assert!(Cursor::parse(&text[..place]).is_err());
                    let mut damaged = text.clone();
                    for other in (0x20..0x80).chain([0, 0x0a, 0xff]).filter(|c| *c != text[place]) {
                        damaged[place] = other;
                        prop_assert!(Cursor::parse(&damaged).is_err());
                    }
                }
            }
        }

        /// Even where a checksum happens to match: the body alone can't end early.
        #[test]
        fn a_body_cut_short_is_found_without_its_checksum(cursor in any_wide_cursor()) {
            let bytes = URL_SAFE_NO_PAD.decode(text(&cursor)).unwrap();
            let body = &bytes[..bytes.len() - 3];
            prop_assert_eq!(Cursor::parse(with_checksum(body.to_vec())), Ok(cursor));
            for end in 0..body.len() {
                prop_assert!(Cursor::parse(with_checksum(body[..end].to_vec())).is_err());
            }
            for more in 0..=255 {
                prop_assert!(Cursor::parse(with_checksum([body, &[more]].concat())).is_err());
            }
        }

        #[test]
        fn a_snapshot_of_too_many_holes_is_written_as_an_older_one(
            gaps in vec(prop_oneof![1..3_u64, 1..300_u64, 1..100_000_u64], 900..2_500),
            closed in vec(any::<bool>(), 2_500),
            more in 1..1_000_u64,
        ) {
            let xip: Vec<u64> = gaps
                .iter()
                .scan(0, |at, gap| { *at += gap; Some(*at) })
                .collect();
            let xmax = xip.last().unwrap() + 2;
            let later = xip.iter().zip(closed).filter(|(_, closed)| !closed).map(|(x, _)| *x);
            let later = Snapshot::new(xmax + more, later.chain([xmax]).filter(|x| x + 1 < xmax + more).collect());
            let snapshot = Snapshot::new(xmax, xip);
            prop_assert!(later.contains(&snapshot));

            let written = |snapshot: &Snapshot| {
                let cursor = Cursor::new(u32::MAX, Arc::new(snapshot.clone()));
                let written = Cursor::parse(text(&cursor)).unwrap();
                assert!(snapshot.contains(written.snapshot()));
                // Written once more it stays the same.
                assert_eq!(Cursor::parse(text(&written)), Ok(written.clone()));
                Snapshot::clone(written.snapshot())
            };
            prop_assert!(written(&later).contains(&written(&snapshot)));
        }
    }

    #[test]
    fn every_short_body_is_refused_or_the_cursor_it_encodes() {
        let digits = [0, 1, 2, 3, 0x80];
        let mut accepted = 0;
        for len in 0..=8 {
            for number in 0..5_usize.pow(len) {
                let digit = |place| digits[number / 5_usize.pow(place) % 5];
                let input =
                    with_checksum([VERSION].into_iter().chain((0..len).map(digit)).collect());
                if let Ok(cursor) = Cursor::parse(&input) {
                    accepted += 1;
                    assert_eq!(text(&cursor), input);
                }
            }
        }
        assert!(accepted > 500, "{accepted}");
    }

    #[test]
    fn what_is_no_cursor_is_refused_with_its_reason() {
        let max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        let body = |bytes: &[u8]| Cursor::parse(with_checksum([&[VERSION], bytes].concat()));
        assert!(body(&[1, 9, 0, 0, 0]).is_ok());
        assert!(body(&[&[1], &max[..], &[0, 0, 0]].concat()).is_ok());

        let overlong = [1, 0x89, 0, 0, 0, 0];
        let trailing = [1, 9, 0, 0, 0, 0];
        let xmax_of_0 = [1, 0, 0, 0, 0];
        let hole_of_0 = [1, 9, 1, 8, 0, 0];
        let hole_below_0 = [1, 9, 1, 9, 0, 0];
        let hole_next_to_xmax = [1, 9, 1, 0, 0, 0];
        let part_that_is_seen = [1, 9, 0, 1, 1, 2, 0];
        let two_parts_of_one = [1, 9, 0, 2, 0, 2, 0, 2, 0];
        let recent_in_a_part = [1, 9, 0, 1, 0, 2, 1, 0, 0];
        let larger_than_u64 = [&[1], &max[..9], &[2, 0, 0, 0]].concat();
        let longer_than_u64 = [&[1], &[0x80; 10][..], &[1, 0, 0, 0]].concat();
        let epoch_past_u32 = [0x80, 0x80, 0x80, 0x80, 0x10, 9, 0, 0, 0];
        let xact_past_u64 = [&[1, 9, 0, 0, 2, 0, 0], &max[..], &[0]].concat();
        let seq_past_i64 = [&[1, 9, 0, 0, 2, 0, 2, 0], &max[..]].concat();
        for bytes in [
            &overlong[..],
            &trailing,
            &xmax_of_0,
            &hole_of_0,
            &hole_below_0,
            &hole_next_to_xmax,
            &part_that_is_seen,
            &two_parts_of_one,
            &recent_in_a_part,
            &larger_than_u64,
            &longer_than_u64,
            &epoch_past_u32,
            &xact_past_u64,
            &seq_past_i64,
        ] {
            assert_eq!(body(bytes), Err(CursorError::NotCanonical), "{bytes:?}");
        }

        let endless_list = [&[1], &max[..], &max[..], &[0, 0]].concat();
        assert_eq!(body(&endless_list), Err(CursorError::CutShort));
        assert_eq!(body(&[1, 9, 0, 0]), Err(CursorError::CutShort));
        assert_eq!(Cursor::parse(""), Err(CursorError::CutShort));
        assert_eq!(Cursor::parse("AQ"), Err(CursorError::CutShort));
        assert_eq!(Cursor::parse("AR"), Err(CursorError::NotBase64Url));
        assert_eq!(Cursor::parse("A Q="), Err(CursorError::NotBase64Url));
        assert_eq!(Cursor::parse([0, 0xff]), Err(CursorError::NotBase64Url));
        assert_eq!(Cursor::parse("AgAAAA"), Err(CursorError::UnknownVersion(2)));
        assert_eq!(Cursor::parse("AQAAAA"), Err(CursorError::Damaged));
        let long = "A".repeat(MAX_LEN + 1);
        assert_eq!(Cursor::parse(&long), Err(CursorError::TooLong));
    }

    #[test]
    fn the_checksum_is_the_one_of_openpgp() {
        assert_eq!(checksum(b"123456789"), [0x21, 0xcf, 0x02]);
    }

    #[test]
    fn usual_cursors_are_short() {
        let xmax = 1_250_000_000;
        let idle = Cursor::new(3, Arc::new(Snapshot::new(xmax, vec![])));
        assert_eq!(text(&idle).len(), 18);

        let mut live = idle.clone();
        assert!(live.record(row(xmax + 4, 8_000_000_000)));
        assert!(live.record(row(xmax + 9, 8_000_000_003)));
        assert_eq!(text(&live).len(), 28);

        let writers: Vec<u64> = (1..=30).map(|place| xmax - 1 - 7 * place).collect();
        let busy = Snapshot::new(xmax, writers.into_iter().rev().collect());
        let mut busy = Cursor::new(3, Arc::new(busy));
        for place in 0..10 {
            assert!(busy.record(row(xmax + 9 * place, 8_000_000_000 + 40 * place.cast_signed())));
        }
        assert_eq!(text(&busy).len(), 90);
    }

    #[test]
    fn too_many_rows_give_no_text_until_a_sweep() {
        let mut cursor = Cursor::new(1, Arc::new(Snapshot::new(1_000, vec![])));
        let mut out = b"id: ".to_vec();
        let mut written = 0;
        for place in 0..5_000 {
            assert!(cursor.record(row(1_000 + place, 3)));
            out.truncate(4);
            if cursor.encode(&mut out) {
                written += 1;
                assert!(out.len() <= 4 + MAX_LEN);
            } else {
                assert_eq!(out, b"id: ");
            }
        }
        assert!(written > 700, "{written}");
        assert!(cursor.rebase(&Arc::new(Snapshot::new(9_000, vec![]))));
        assert_eq!(cursor, Cursor::new(1, Arc::new(Snapshot::new(9_000, vec![]))));
        assert_eq!(cursor.recents.capacity(), 0);
    }

    #[test]
    fn a_snapshot_of_any_holes_leaves_room_for_rows() {
        for gap in [1_u64, 2, 129, 100_000, 1 << 40, 1 << 52] {
            let xip: Vec<u64> = (1..=4_000).map(|place| place * gap).collect();
            let mut cursor = Cursor::new(u32::MAX, Arc::new(Snapshot::new(u64::MAX, xip)));
            for place in 0..20 {
                assert!(cursor.record(row(u64::MAX, i64::MIN + (place << 58))));
            }
            let back = Cursor::parse(text(&cursor)).unwrap();
            assert_eq!(back.recents(), cursor.recents());
            assert!(cursor.snapshot().contains(back.snapshot()));
        }
    }
}
