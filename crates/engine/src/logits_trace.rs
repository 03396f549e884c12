//! A fingerprint of the logits that chose each token, to compare two runs bit for bit.

use std::fmt;

/// Hashes of the rows of logits that chose each token, in order: of the model's own rows, before any penalty.
///
/// Two runs have equal traces if and only if (but for hash collisions) every row was equal in every bit.
#[derive(Clone)]
pub struct LogitsTrace {
    hasher: blake3::Hasher,
    rows: Vec<u64>,
    bytes: Vec<u8>,
}

impl LogitsTrace {
    pub(crate) fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), rows: Vec::new(), bytes: Vec::new() }
    }

    /// Adds the row that chose the next token.
    pub(crate) fn push(&mut self, logits: &[f32]) {
        self.bytes.clear();
        self.bytes.extend(logits.iter().flat_map(|logit| logit.to_le_bytes()));
        self.hasher.update(&self.bytes);
        let row = blake3::hash(&self.bytes);
        let mut first = [0; 8];
        first.copy_from_slice(&row.as_bytes()[..8]);
        self.rows.push(u64::from_le_bytes(first));
    }

    /// The BLAKE3 hash, in hexadecimal, of the little-endian bits of all rows.
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// For each token the first eight bytes, little-endian, of its row's BLAKE3 hash.
    pub fn rows(&self) -> &[u64] {
        &self.rows
    }

    /// How many positions differ from `other`; positions that only one of the two has count as different.
    pub fn differing_rows(&self, other: &Self) -> usize {
        let both = self.rows.len().min(other.rows.len());
        let unequal = self.rows.iter().zip(&other.rows).filter(|(a, b)| a != b).count();
        unequal + self.rows.len().max(other.rows.len()) - both
    }
}

impl fmt::Debug for LogitsTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogitsTrace").field("hash", &self.hash()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(rows: &[&[f32]]) -> LogitsTrace {
        let mut trace = LogitsTrace::new();
        for row in rows {
            trace.push(row);
        }
        trace
    }

    #[test]
    fn traces_tell_apart_what_equality_of_numbers_does_not() {
        let a = trace(&[&[1.0, 0.0], &[2.0, 3.0]]);
        let b = trace(&[&[1.0, -0.0], &[2.0, 3.0]]);
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.differing_rows(&b), 1);
        assert_eq!(a.differing_rows(&a), 0);
        assert_eq!(trace(&[&[1.0, 0.0]]).differing_rows(&a), 1, "a missing row differs");
    }

    #[test]
    fn the_hash_is_over_the_little_endian_bits_of_all_rows() {
        let bytes = [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]; // 1.0, -2.0
        assert_eq!(trace(&[&[1.0], &[-2.0]]).hash(), blake3::hash(&bytes).to_hex().to_string());
    }
}
