//! The text of `notify_gateway.cursor()`: a cursor that an application reads beside
//! its list. schema.sql writes it, and says what each field is.

use std::sync::Arc;

use super::{Cursor, CursorError, RowKey, Snapshot, snapshot::decimal};

/// Reads one; the caller has bounded its length.
pub(super) fn parse(text: &str) -> Result<Cursor, CursorError> {
    let body = text.strip_suffix('.').ok_or(CursorError::CutShort)?;
    let fields: Vec<&str> = body.split(':').collect();
    let Ok([epoch, xmax, holes, seq, singly, own, own_seq]) = <[&str; 7]>::try_from(fields) else {
        return Err(CursorError::NotCanonical);
    };
    let epoch = u32::try_from(number(epoch)?).map_err(|_| CursorError::NotCanonical)?;
    let (xmax, holes) = (number(xmax)?, numbers(holes)?);
    if xmax == 0 || holes.last().is_some_and(|last| *last >= xmax) {
        return Err(CursorError::NotCanonical);
    }
    let snapshot = Snapshot::new(xmax, holes);
    let seq = place(seq)?;
    let mut parts: Vec<RowKey> =
        numbers(singly)?.into_iter().map(|xact| RowKey { xact, seq }).collect();
    if !own.is_empty() {
        parts.push(RowKey { xact: number(own)?, seq: place(own_seq)? });
    } else if !own_seq.is_empty() {
        return Err(CursorError::NotCanonical);
    }
    parts.sort_unstable();
    let is_twice = parts.windows(2).any(|pair| pair[0].xact == pair[1].xact);
    if is_twice || parts.iter().any(|part| snapshot.sees(part.xact)) {
        return Err(CursorError::NotCanonical);
    }
    Ok(Cursor { parts, ..Cursor::new(epoch, Arc::new(snapshot)) })
}

/// Ascending numbers: the first as it is, the others by their distances.
fn numbers(list: &str) -> Result<Vec<u64>, CursorError> {
    let mut numbers = Vec::new();
    let mut last = 0_u64;
    // Splitting an empty text would give one empty number.
    for distance in list.split(',').take_while(|_| !list.is_empty()) {
        last = match number(distance)? {
            0 => None,
            distance => last.checked_add(distance),
        }
        .ok_or(CursorError::NotCanonical)?;
        numbers.push(last);
    }
    Ok(numbers)
}

fn place(digits: &str) -> Result<i64, CursorError> {
    number(digits)?.try_into().map_err(|_| CursorError::NotCanonical)
}

fn number(digits: &str) -> Result<u64, CursorError> {
    decimal(digits).ok_or(CursorError::NotCanonical)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::MAX_LEN, *};

    #[test]
    fn what_the_function_writes_is_read() {
        let cursor = Cursor::parse("77:1001:990,5,1:64:1003,2,900:1004:50.").unwrap();
        assert_eq!(cursor.epoch(), 77);
        assert_eq!(cursor.snapshot().to_string(), "990:1001:990,995,996");
        let part = |xact, seq| RowKey { xact, seq };
        let parts = [part(1003, 64), part(1004, 50), part(1005, 64), part(1905, 64)];
        assert_eq!(cursor.parts(), parts);
        assert!(cursor.recents().is_empty());
        let cursor = Cursor::parse("1:7::3:::.").unwrap();
        assert_eq!((cursor.snapshot().to_string(), cursor.parts()), ("7:7:".into(), &[][..]));
    }

    #[test]
    fn what_it_does_not_write_is_refused() {
        for text in [
            ".",
            ":",
            "1:7::3:::",
            "1:7::3::.",
            "1:7::3::::.",
            "x:7::3:::.",
            "1:0::3:::.",
            "1:7:9:3:::.",
            "1:7:3,0:3:::.",
            "1:7::3:5::.",
            "1:7::3:9:9:1.",
            "1:7::3:9:::.",
            "1:7::3::9:.",
            "1:7::3:::9.",
            "+1:7::3:::.",
            "1:7:,:3:::.",
            "4294967296:7::3:::.",
            "1:7::-3:::.",
            "1:7::9223372036854775808:::.",
            "1:7::3:9,18446744073709551615::.",
        ] {
            assert!(Cursor::parse(text).is_err(), "{text}");
        }
        let long = format!("1:7::3:9{}::.", ",1".repeat(MAX_LEN / 2));
        assert_eq!(Cursor::parse(long), Err(CursorError::TooLong));
    }

    proptest! {
        #[test]
        fn a_text_cut_short_is_refused(
            xmax in 1..1000_u64, holes in 0..5_usize, parts in 0..5_usize, seq in any::<u32>(),
        ) {
            let list = |first: u64, count: usize| -> String {
                let distances = vec!["1"; count.saturating_sub(1)].join(",");
                match count {
                    0 => String::new(),
                    1 => first.to_string(),
                    _ => format!("{first},{distances}"),
                }
            };
            let (holes, parts) = (list(1, holes), list(xmax + 9, parts));
            let text = format!("5:{}:{holes}:{seq}:{parts}:{}:7.", xmax + 8, xmax + 8);
            prop_assert!(Cursor::parse(&text).is_ok(), "{}", text);
            for end in 0..text.len() {
                prop_assert!(Cursor::parse(&text[..end]).is_err());
            }
        }
    }
}
