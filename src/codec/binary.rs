//! Avro's binary encoding (Avro 1.12, "Binary Encoding"), as far as state records need it.
//!
//! Why by hand: a record of a member is written for every applied profile and read at every take-over. The schemas in
//! `schemas/state` say what is written; tests hold this against `apache-avro` in both directions.

use crate::model::Text;

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// The bytes end within a field.
    #[error("it ends within a field")]
    Short,
    /// A length or a number is out of its range.
    #[error("a number is out of range")]
    Range,
    /// A text is not UTF-8, or an id is none.
    #[error("a text is not what its field holds")]
    Text,
}

pub(super) fn write_long(out: &mut Vec<u8>, value: i64) {
    // Zig-zag, then seven bits a byte, the lowest first.
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let low = u8::try_from(rest & 0x7f).unwrap_or(0);
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

pub(super) fn write_count(out: &mut Vec<u8>, count: usize) {
    write_long(out, i64::try_from(count).unwrap_or(i64::MAX));
}

pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    write_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn write_flag(out: &mut Vec<u8>, flag: bool) {
    out.push(u8::from(flag));
}

/// A union of null and something.
pub(super) fn write_option<T>(out: &mut Vec<u8>, option: Option<&T>, write: impl FnOnce(&mut Vec<u8>, &T)) {
    write_long(out, i64::from(option.is_some()));
    if let Some(value) = option {
        write(out, value);
    }
}

/// An array in one block.
pub(super) fn write_array<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    if !items.is_empty() {
        write_count(out, items.len());
        for item in items {
            write(out, item);
        }
    }
    write_long(out, 0);
}

/// Bytes on their way to words. Fields behind those that are asked for are left unread.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A field that a version before did not write: its default where the bytes end before it.
    pub(super) fn appended<T: Default>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.rest.is_empty() { Ok(T::default()) } else { read(self) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Fault::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        Err(Fault::Range)
    }

    pub(super) fn number<T: TryFrom<i64>>(&mut self) -> Result<T, Fault> {
        T::try_from(self.long()?).map_err(|_| Fault::Range)
    }

    pub(super) fn text(&mut self) -> Result<Text, Fault> {
        let len = self.number::<usize>()?;
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map(Text::from).map_err(|_| Fault::Text)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Fault> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            2.. => Err(Fault::Range),
        }
    }

    pub(super) fn id(&mut self) -> Result<uuid::Uuid, Fault> {
        uuid::Uuid::parse_str(&self.text()?).map_err(|_| Fault::Text)
    }

    pub(super) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
        match self.long()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(Fault::Range),
        }
    }

    /// An array in any number of blocks; a negative count is followed by the block's length in bytes.
    pub(super) fn array<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        let mut items = Vec::new();
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(items);
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                // An item takes at least a byte, so that a hostile count ends with the bytes.
                items.push(read(self)?);
            }
        }
    }
}
