//! What SentencePiece writes for what before it looks for pieces: rules compiled to a trie.
//!
//! The format is that of <https://github.com/google/sentencepiece> (`src/builder.cc`): the size of the trie in bytes, the trie as
//! a double array of 32-bit units (<https://github.com/s-yata/darts-clone>), then the replacements, each ended by a zero
//! byte. Nothing in it is trusted: what leads outside the file matches nothing.

use std::str;

/// Compiled rules.
#[derive(Debug)]
pub(super) struct Charsmap {
    units: Vec<Unit>,
    replacements: Vec<u8>,
}

/// One unit of a double array.
#[derive(Clone, Copy, Debug)]
struct Unit(u32);

impl Unit {
    /// Whether the byte string that leads here is a rule's.
    fn has_value(self) -> bool {
        self.0 >> 8 & 1 == 1
    }

    /// What the rule of a unit of values is.
    fn value(self) -> usize {
        (self.0 & 0x7fff_ffff) as usize
    }

    /// The byte that leads here; a unit of values has a bit more than any.
    fn label(self) -> u32 {
        self.0 & 0x8000_00ff
    }

    /// How far the units behind this one are from it.
    fn offset(self) -> usize {
        ((self.0 >> 10) << ((self.0 & 0x200) >> 6)) as usize
    }
}

impl Charsmap {
    /// Reads the rules; no bytes are none.
    ///
    /// # Errors
    /// If they are no such rules.
    pub(super) fn new(bytes: &[u8]) -> Result<Option<Self>, String> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let cut_short = || "the rules are cut short".to_owned();
        let (size, rest) = bytes.split_first_chunk().ok_or_else(cut_short)?;
        let size = u32::from_le_bytes(*size) as usize;
        let (units, replacements) = rest.split_at_checked(size).ok_or_else(cut_short)?;
        let (units, odd) = units.as_chunks();
        if units.is_empty() || !odd.is_empty() {
            return Err(format!("the rules say that their trie has {size} bytes"));
        }
        let units = units.iter().map(|unit| Unit(u32::from_le_bytes(*unit))).collect();
        Ok(Some(Self { units, replacements: replacements.to_owned() }))
    }

    /// The longest beginning of `text` that a rule is for, in bytes, and what is written for it.
    pub(super) fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let mut at = self.units.first()?.offset();
        let mut found = None;
        for (byte, length) in text.bytes().zip(1..) {
            at ^= usize::from(byte);
            let Some(unit) = self.units.get(at).filter(|unit| unit.label() == u32::from(byte)) else { break };
            at ^= unit.offset();
            if unit.has_value()
                && let Some(value) = self.units.get(at)
            {
                found = Some((length, value.value()));
            }
        }
        let (length, start) = found.filter(|(length, _)| text.is_char_boundary(*length))?;
        let replacement = self.replacements.get(start..)?.split(|byte| *byte == 0).next()?;
        Some((length, str::from_utf8(replacement).ok()?))
    }
}
