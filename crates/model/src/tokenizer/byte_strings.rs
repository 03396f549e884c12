//! Many short byte strings in one allocation: a vocabulary has up to some 260,000 of them.

/// Byte strings by index, together at most 4 GiB.
#[derive(Debug)]
pub(super) struct ByteStrings {
    bytes: Vec<u8>,
    /// Where each string ends; it begins where the one before it ends.
    ends: Vec<u32>,
}

impl ByteStrings {
    /// No strings yet, with room for `count` of `bytes` bytes together.
    pub(super) fn with_capacity(count: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(count) }
    }

    pub(super) fn push(&mut self, string: impl IntoIterator<Item = u8>) {
        self.bytes.extend(string);
        self.ends.push(self.bytes.len() as u32);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start as usize..end as usize])
    }

    /// Gives back memory that no string uses.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}
