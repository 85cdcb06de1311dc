//! Dead letters as every backend keeps them: a heading in text, the reason, the frame. On Redis the scripts write them
//! (`write_letter` in `redis/lua/common.lua`), so the two must agree.
//!
//! `<id> <claim> <since ms> <rows> <bytes> <length of reason>\n` reason frame, where rows and bytes are what the ledger
//! counts for it.

use bytes::Bytes;

use super::{Condemned, DeadLetter, Error, Result};

/// Dead letters that one listing gives at most.
pub(super) const MAX_LISTED: u32 = 1_000;
/// Bytes at which a listing ends at the latest: with the letter that reaches them.
pub(super) const MAX_LISTED_BYTES: usize = 16 << 20;

/// Writes one that the ledger counts by its rows and so many bytes.
pub(crate) fn write(letter: &DeadLetter, bytes: u64) -> Vec<u8> {
    let DeadLetter { id, claim, since, rows, reason, .. } = letter;
    let mut text = format!("{id} {claim} {since} {rows} {bytes} {}\n{reason}", reason.len()).into_bytes();
    text.extend_from_slice(&letter.bytes);
    text
}

/// Reads one.
pub(crate) fn read(letter: &Bytes) -> Result<DeadLetter> {
    let wrong = || Error::Corrupt { detail: "a dead letter without its heading".into() };
    let end = letter.iter().take(200).position(|&byte| byte == b'\n').ok_or_else(wrong)?;
    let heading = std::str::from_utf8(&letter[..end]).map_err(|_| wrong())?;
    let fields: Vec<&str> = heading.split(' ').collect();
    let [id, claim, since, rows, _bytes, reason_len] = fields[..] else { return Err(wrong()) };
    let reason_len: usize = reason_len.parse().map_err(|_| wrong())?;
    let body = letter.slice(end + 1..);
    if reason_len > body.len() {
        return Err(wrong());
    }
    Ok(DeadLetter {
        id: id.parse().map_err(|_| wrong())?,
        claim: claim.parse().map_err(|_| wrong())?,
        since: since.parse().map_err(|_| wrong())?,
        rows: rows.parse().map_err(|_| wrong())?,
        reason: String::from_utf8_lossy(&body[..reason_len]).into_owned(),
        bytes: body.slice(reason_len..),
    })
}

/// Reads the condemned entries of a claim: place and letter by turns, a place being `<frame>:<row or all>`.
pub(crate) fn read_condemned(entries: &[Bytes]) -> Result<Vec<Condemned>> {
    let wrong = || Error::Corrupt { detail: "a condemned entry that cannot be read".into() };
    let mut condemned = entries
        .chunks(2)
        .map(|entry| {
            let [place, letter] = entry else { return Err(wrong()) };
            let place = std::str::from_utf8(place).map_err(|_| wrong())?;
            let (frame, row) = place.split_once(':').ok_or_else(wrong)?;
            let row = if row == ALL { None } else { Some(row.parse().map_err(|_| wrong())?) };
            let letter = read(letter)?;
            Ok(Condemned {
                id: letter.id,
                frame: frame.parse().map_err(|_| wrong())?,
                row,
                rows: letter.rows,
                reason: letter.reason,
                bytes: letter.bytes,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    // Redis keeps the fields in no order.
    condemned.sort_by_key(|entry| (entry.frame, entry.row));
    Ok(condemned)
}

/// Stands in the place of the row where the whole frame is condemned.
pub(super) const ALL: &str = "all";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::DeadLetterId;
    use crate::heartbeat::ClaimId;

    #[test]
    fn a_letter_is_read_whatever_its_frame_holds() {
        let (id, claim) = (DeadLetterId::new(), ClaimId::new());
        let mut text = format!("{id} {claim} 1700 3 9 6\nbroken").into_bytes();
        text.extend_from_slice(b"\n \0\xff 12 \n");
        let text = Bytes::from(text);
        let letter = read(&text).unwrap();
        assert_eq!((letter.id, letter.claim, letter.since, letter.rows), (id, claim, 1700, 3));
        assert_eq!((letter.reason.as_str(), &letter.bytes[..]), ("broken", &b"\n \0\xff 12 \n"[..]));
        assert_eq!(write(&letter, 9), text);
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        let heading = format!("{} {} 1 1 1", DeadLetterId::new(), ClaimId::new());
        for text in ["", "\n", "a b c d e f\n", &format!("{heading} 99\nshort"), &format!("{heading} -1\n"), &heading] {
            assert!(read(&Bytes::copy_from_slice(text.as_bytes())).is_err(), "{text:?}");
        }
    }
}
