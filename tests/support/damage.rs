//! Damage to a file: what disks and people do to it.

use std::fmt;
use std::path::Path;

use super::Dice;

/// One kind of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    Emptied,
    /// Bytes that are left.
    Cut(usize),
    /// Byte and bit.
    Flipped(usize, u8),
}

impl Damage {
    /// Any to a file of so many bytes.
    pub fn roll(dice: &mut Dice, len: usize) -> Self {
        match dice.roll(8) {
            0 => Self::Emptied,
            1 | 2 => Self::Cut(dice.roll(len.saturating_sub(1).max(1))),
            _ => Self::Flipped(dice.roll(len), dice.roll(8) as u8),
        }
    }

    /// The bytes with this damage.
    pub fn of(self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        match self {
            Self::Emptied => bytes.clear(),
            Self::Cut(left) => bytes.truncate(left),
            Self::Flipped(byte, bit) => bytes[byte] ^= 1 << bit,
        }
        bytes
    }

    /// Does it to the file; answers what it held and what it holds.
    pub fn strike(self, path: &Path) -> (Vec<u8>, Vec<u8>) {
        let whole = std::fs::read(path).unwrap();
        let damaged = self.of(&whole);
        std::fs::write(path, &damaged).unwrap();
        (whole, damaged)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emptied => f.write_str("emptied"),
            Self::Cut(left) => write!(f, "cut to {left} bytes"),
            Self::Flipped(byte, bit) => write!(f, "bit {bit} of byte {byte} flipped"),
        }
    }
}
