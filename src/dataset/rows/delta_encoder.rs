//! Writing integers as differences: Parquet's DELTA_BINARY_PACKED.
//!
//! Layout: block size, miniblocks in a block, values, first value; then for each block the smallest difference, the width
//! of each miniblock in bits, and the miniblocks: each difference above the smallest, in that many bits, lowest first.
//! Sizes are ULEB128, values and differences zigzag on top of it. All arithmetic wraps, here and in every reader.

const BLOCK: usize = 128;
/// Short, so that a jump from one user's times to the next one's widens few of its neighbours.
const MINIBLOCK: usize = 32;

/// Appends `values`, of which there are `len`.
pub(super) fn put(out: &mut Vec<u8>, len: usize, mut values: impl Iterator<Item = i64>) {
    let mut before = values.next().unwrap_or_default();
    put_unsigned(out, BLOCK as u64);
    put_unsigned(out, (BLOCK / MINIBLOCK) as u64);
    put_unsigned(out, len as u64);
    put_signed(out, before);
    let mut block = [0; BLOCK];
    loop {
        let mut filled = 0;
        for (place, value) in block.iter_mut().zip(&mut values) {
            *place = value.wrapping_sub(before);
            before = value;
            filled += 1;
        }
        if filled == 0 {
            return;
        }
        put_block(out, &block[..filled]);
    }
}

fn put_block(out: &mut Vec<u8>, differences: &[i64]) {
    let smallest = differences.iter().copied().min().unwrap_or_default();
    put_signed(out, smallest);
    let above = |difference: &i64| difference.wrapping_sub(smallest).cast_unsigned();
    let width = |values: &[i64]| u64::BITS - values.iter().map(above).fold(0, |all, value| all | value).leading_zeros();
    let widths_at = out.len();
    out.extend_from_slice(&[0; BLOCK / MINIBLOCK]);
    for (place, values) in differences.chunks(MINIBLOCK).enumerate() {
        let width = width(values);
        out[widths_at + place] = width as u8;
        // The last one is filled up with whatever: readers know how many values there are.
        pack(out, values.iter().map(above).chain(std::iter::repeat(0)).take(MINIBLOCK), width);
    }
}

/// A miniblock's bits come out as whole bytes, because 32 values of any width do.
fn pack(out: &mut Vec<u8>, values: impl Iterator<Item = u64>, width: u32) {
    let (mut bits, mut held) = (0_u128, 0);
    for value in values {
        bits |= u128::from(value) << held;
        held += width;
        while held >= 32 {
            out.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= 32;
            held -= 32;
        }
    }
}

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, (value << 1 ^ value >> 63).cast_unsigned());
}
