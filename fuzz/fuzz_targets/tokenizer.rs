//! Any file that opens: its tokenizer is refused with an error or works on any text and any ids. It never panics.
//!
//! Input: the text's length (one byte), the text, then the bytes of a GGUF file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lookahead_model::gguf::GgufFile;
use lookahead_model::tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};

fuzz_target!(|bytes: &[u8]| {
    let Some((&len, rest)) = bytes.split_first() else { return };
    let Some((text, file)) = rest.split_at_checked(len.into()) else { return };
    let text = String::from_utf8_lossy(text);
    let Ok(file) = GgufFile::from_bytes("fuzz.gguf", file.to_vec()) else { return };
    let tokenizer = match Tokenizer::from_gguf(&file) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            assert!(error.to_string().contains("fuzz.gguf: "), "{error}");
            return;
        }
    };
    let size = tokenizer.vocabulary_size() as u32;
    for (add_bos, parse_special) in [(false, false), (true, true)] {
        let ids = tokenizer.encode(&text, EncodeOptions { add_bos, parse_special }).unwrap();
        assert!(ids.iter().all(|&id| id < size), "{ids:?} of {size}");
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id)).copied().collect();
        let all = DecodeOptions { show_special: true, continuation: true };
        assert_eq!(tokenizer.decode(&ids, all), String::from_utf8_lossy(&bytes));
    }
    // Ids that no encoding gives, some of them outside the vocabulary.
    let ids: Vec<u32> = text.bytes().map(|byte| u32::from(byte) * size / 200).collect();
    for show_special in [false, true] {
        let _ = tokenizer.decode(&ids, DecodeOptions { show_special, ..DecodeOptions::default() });
    }
    for &id in &ids {
        let _ = (tokenizer.token_bytes(id), tokenizer.is_control(id));
    }
});
