//! How much memory a tokenizer takes: vocabularies of 260,000 tokens stand beside models of 270 M weights.

use lookahead_model::{
    gguf::{GgufFile, Strings, Writer},
    tokenizer::Tokenizer,
};

/// Six letters, others for each number.
fn text(number: usize) -> String {
    (0..6u32).map(|place| char::from(b'a' + (number / 26usize.pow(place) % 26) as u8)).collect()
}

/// Half of the tokens are single texts; the others are two of them, merged.
fn byte_pair(tokens: usize) -> Vec<u8> {
    let halves: Vec<String> = (0..tokens / 2).map(text).collect();
    let wholes = halves.iter().map(|half| [half.as_str(), half].concat());
    let merges: Strings = halves.iter().map(|half| format!("{half} {half}")).collect();
    let mut writer = Writer::new("large.gguf");
    writer
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "llama-bpe") // keeps the texts, for words that are taken whole
        .metadata("tokenizer.ggml.tokens", halves.iter().cloned().chain(wholes).collect::<Strings>())
        .metadata("tokenizer.ggml.merges", merges);
    writer.to_bytes()
}

fn sentence_piece(tokens: usize) -> Vec<u8> {
    let mut writer = Writer::new("large.gguf");
    writer
        .metadata("tokenizer.ggml.model", "llama")
        .metadata("tokenizer.ggml.tokens", (0..tokens).map(text).collect::<Strings>())
        .metadata("tokenizer.ggml.scores", vec![0.0f32; tokens])
        .metadata("tokenizer.ggml.unknown_token_id", 0u32);
    writer.to_bytes()
}

/// Bytes that a tokenizer keeps, and the most that are in use while it is built.
fn allocated(file: Vec<u8>) -> [u64; 2] {
    let file = GgufFile::from_bytes("large.gguf", file).unwrap();
    let mut tokenizer = None;
    let counted = allocation_counter::measure(|| tokenizer = Some(Tokenizer::from_gguf(&file).unwrap()));
    assert!(tokenizer.is_some(), "alive while its bytes are counted");
    [counted.bytes_current.cast_unsigned(), counted.bytes_max]
}

#[test]
fn a_token_takes_few_bytes_besides_its_texts() {
    // Both numbers fill a table of ids to 61 %: twice as many tokens take twice the memory.
    let (few, many) = (40_000, 80_000);
    for (name, file, texts, limits) in [
        // Each text is kept twice, as it is spelt and as it decodes.
        ("byte pair", byte_pair as fn(usize) -> Vec<u8>, 2 * 9, [30, 60]),
        ("sentence piece", sentence_piece, 2 * 6, [24, 48]),
    ] {
        let (small, large) = (allocated(file(few)), allocated(file(many)));
        for (what, at) in [("kept", 0), ("at most", 1)] {
            let bytes = (large[at] - small[at]) / (many - few) as u64;
            assert!(bytes <= texts + limits[at], "{name}, {what}: {bytes} bytes a token");
        }
    }
}
