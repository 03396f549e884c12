//! The printable alphabet in which byte-level vocabularies (GPT-2 and its descendants) spell raw bytes.
//!
//! Bytes that print as one Latin-1 character stand for themselves. The other 68 (controls, space, delete,
//! no-break space, soft hyphen), in ascending order, are spelt U+0100, U+0101, …: a space is `Ġ`, a newline
//! `Ċ`.

/// First code point of the bytes that do not print.
const SHIFTED: u32 = 0x100;

const fn prints(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character that spells each byte.
pub(super) const ALPHABET: [char; 256] = {
    let mut alphabet = ['\0'; 256];
    let mut shifted = SHIFTED;
    let mut byte = 0;
    while byte < 256 {
        let code_point = if prints(byte as u8) {
            byte as u32
        } else {
            shifted += 1;
            shifted - 1
        };
        alphabet[byte] = match char::from_u32(code_point) {
            Some(character) => character,
            None => unreachable!(),
        };
        byte += 1;
    }
    alphabet
};

/// The bytes that do not print, in the order of their code points from U+0100 on.
const SHIFTED_BYTES: [u8; 68] = {
    let mut bytes = [0; 68];
    let mut filled = 0;
    let mut byte = 0;
    while byte < 256 {
        if !prints(byte as u8) {
            bytes[filled] = byte as u8;
            filled += 1;
        }
        byte += 1;
    }
    bytes
};

/// Spells `text` in the alphabet, appending to `spelt`.
pub(super) fn spell(text: &str, spelt: &mut String) {
    spelt.extend(text.bytes().map(|byte| ALPHABET[usize::from(byte)]));
}

/// `bytes`, spelt in the alphabet.
pub(super) fn spelt(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| ALPHABET[usize::from(*byte)]).collect()
}

/// The bytes that `spelt` stands for, or `None` where a character is not in the alphabet.
pub(super) fn read(spelt: &str) -> Option<Vec<u8>> {
    spelt
        .chars()
        .map(|character| match u8::try_from(u32::from(character)) {
            Ok(byte) => prints(byte).then_some(byte),
            Err(_) => SHIFTED_BYTES.get((u32::from(character) - SHIFTED) as usize).copied(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character_and_is_read_back() {
        for byte in 0..=255u8 {
            assert_eq!(read(&ALPHABET[usize::from(byte)].to_string()), Some(vec![byte]));
        }
    }

    #[test]
    fn spaces_and_newlines_are_spelt_as_in_published_vocabularies() {
        let mut spelt = String::new();
        spell("a b\n\u{e9}", &mut spelt);
        assert_eq!(spelt, "a\u{120}b\u{10a}\u{c3}\u{a9}");
    }

    #[test]
    fn characters_outside_the_alphabet_are_not_read() {
        for foreign in [" ", "\u{ad}", "\u{144}", "▁"] {
            assert_eq!(read(foreign), None, "{foreign:?}");
        }
    }
}
