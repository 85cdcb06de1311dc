//! The encoding DELTA_BINARY_PACKED, which the Parquet library reads only as a part of whole columns.
//!
//! Format: values of a block, miniblocks of a block, values in all, all three as varints; the first value, zigzag; then
//! blocks: the least difference, zigzag, a byte for the bits of each miniblock, and the miniblocks: differences above the
//! least, packed in that many bits. Miniblocks beyond the last value are left out.

const CUT: &str = "its differences are cut";

/// Takes `expected` values from the front of `bytes`.
pub(super) fn take(bytes: &mut &[u8], expected: usize) -> Result<Vec<i64>, String> {
    let (block, miniblocks, total) = (varint(bytes)?, varint(bytes)?, varint(bytes)?);
    let first = zigzag(bytes)?;
    if total != expected as u64 {
        return Err(format!("it has {total} differences for {expected} values"));
    }
    let in_miniblock = block.checked_div(miniblocks).filter(|values| *values > 0 && values % 8 == 0);
    let in_miniblock = in_miniblock.ok_or_else(|| format!("its blocks are {block} values in {miniblocks} parts"))?;
    let in_miniblock = usize::try_from(in_miniblock).map_err(|error| error.to_string())?;
    let mut values = Vec::with_capacity(expected);
    let mut last = first;
    if expected > 0 {
        values.push(first);
    }
    while values.len() < expected {
        let least = zigzag(bytes)?;
        let widths = split(bytes, usize::try_from(miniblocks).map_err(|error| error.to_string())?)?;
        for width in widths {
            let wanted = in_miniblock.min(expected - values.len());
            if wanted == 0 {
                break;
            }
            let width = usize::from(*width);
            let packed = split(bytes, in_miniblock / 8 * width)?;
            unpack(packed, width, wanted, |difference| {
                last = last.wrapping_add(least).wrapping_add(difference as i64);
                values.push(last);
            })?;
        }
    }
    Ok(values)
}

/// Hands over the first `wanted` numbers of `width` bits each.
fn unpack(packed: &[u8], width: usize, wanted: usize, mut take: impl FnMut(u64)) -> Result<(), String> {
    if width > 64 {
        return Err(format!("its differences have {width} bits"));
    }
    let mask = ((1_u128 << width) - 1) as u64;
    let (mut bits, mut held) = (0_u128, 0);
    let mut packed = packed.iter();
    for _ in 0..wanted {
        while held < width {
            bits |= u128::from(*packed.next().ok_or(CUT)?) << held;
            held += 8;
        }
        take(bits as u64 & mask);
        bits >>= width;
        held -= width;
    }
    Ok(())
}

fn split<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], String> {
    let (front, rest) = bytes.split_at_checked(len).ok_or(CUT)?;
    *bytes = rest;
    Ok(front)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = split(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number in it has no end".into())
}

fn zigzag(bytes: &mut &[u8]) -> Result<i64, String> {
    varint(bytes).map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_format_are_read() {
        let mut constant: &[u8] = &[128, 2, 1, 5, 2, 2, 0];
        assert_eq!(take(&mut constant, 5).unwrap(), [1, 2, 3, 4, 5]);
        let mut bytes = vec![128_u8, 2, 4, 6, 2, 7, 3, 0, 0, 0, 0b0110_1101, 0b0000_1011];
        bytes.extend([0; 22]);
        bytes.push(9);
        let mut rest = bytes.as_slice();
        assert_eq!(take(&mut rest, 6).unwrap(), [1, 2, 3, 4, 5, 1]);
        assert_eq!(rest, [9], "what stands behind is left");
    }

    #[test]
    fn what_is_cut_or_makes_no_sense_is_an_error() {
        let whole = [128, 2, 1, 5, 2, 2, 0];
        for len in 0..whole.len() {
            assert!(take(&mut &whole[..len], 5).is_err(), "{len} bytes");
        }
        for nonsense in [&[0, 1, 5, 2, 2, 0][..], &[8, 0, 5, 2, 2, 0], &[8, 1, 5, 2, 2, 65], &[0x80; 12]] {
            assert!(take(&mut &nonsense[..], 5).is_err(), "{nonsense:?}");
        }
        assert!(take(&mut &whole[..], 6).is_err());
    }
}
