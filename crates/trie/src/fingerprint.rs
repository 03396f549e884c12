//! Which vocabulary token ids belong to.

/// A hash over the texts of a vocabulary's tokens in the order of their ids, the same in every process: files of drafts carry it,
/// so that those of one tokenizer are refused by another. FNV-1a, 64 bits, over each text's length (8 bytes, little-endian) and
/// bytes.
pub fn vocabulary_fingerprint<T: AsRef<str>>(tokens: impl IntoIterator<Item = T>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for token in tokens {
        let text = token.as_ref();
        for byte in (text.len() as u64).to_le_bytes().iter().chain(text.as_bytes()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_vocabulary_hashes_to_the_offset_basis_and_texts_count_with_their_lengths() {
        assert_eq!(vocabulary_fingerprint::<&str>([]), 0xcbf2_9ce4_8422_2325);
        assert_ne!(vocabulary_fingerprint(["ab", "c"]), vocabulary_fingerprint(["a", "bc"]));
        assert_ne!(vocabulary_fingerprint(["a", "b"]), vocabulary_fingerprint(["b", "a"]));
    }

    #[test]
    fn it_is_the_one_that_files_carry() {
        assert_eq!(vocabulary_fingerprint(["a", "ü"]), 0xbb60_e40e_0817_0172);
    }
}
