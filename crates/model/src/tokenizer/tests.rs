//! Tokenizers over small vocabularies. Expected ids follow from the vocabularies by hand.

use proptest::prelude::*;

use super::{byte_level::ALPHABET, *};
use crate::gguf::{Strings, Writer};

const PLAIN: EncodeOptions = EncodeOptions { add_bos: false, parse_special: false };
const PROMPT: EncodeOptions = EncodeOptions { add_bos: true, parse_special: true };
const SHOWN: DecodeOptions = DecodeOptions { show_special: true, continuation: false };
const CONTINUATION: DecodeOptions = DecodeOptions { show_special: false, continuation: true };

/// The 256 bytes as tokens 0 to 255, then merged and special ones.
mod byte_pair_ids {
    pub(super) const HE: u32 = 256;
    pub(super) const LL: u32 = 257;
    pub(super) const HELL: u32 = 258;
    pub(super) const SPACE_HELL: u32 = 260;
    pub(super) const IM_END: u32 = 261;
    pub(super) const NEW_LINES: u32 = 262;
    pub(super) const BOS: u32 = 263;
}

const MERGED: [&str; 8] = ["he", "ll", "hell", "Ġello", "Ġhell", "<|im_end|>", "\n\n", "<|bos|>"];

/// `BYTES[b]` is the token text of byte `b`.
fn bytes() -> Vec<String> {
    ALPHABET.iter().map(ToString::to_string).collect()
}

fn byte_pair(bytes: &[String]) -> Vocabulary<'_> {
    let mut types = vec![1; 256 + MERGED.len()];
    types[byte_pair_ids::IM_END as usize] = 3;
    types[byte_pair_ids::NEW_LINES as usize] = 4;
    types[byte_pair_ids::BOS as usize] = 3;
    Vocabulary {
        file: "small.gguf".to_owned(),
        model: "gpt2",
        pre: Some("gpt-2"),
        tokens: bytes.iter().map(String::as_str).chain(MERGED).collect(),
        token_types: Some(types),
        merges: Some(vec!["h e", "l l", "he ll", "Ġ hell"]),
        bos: Some(byte_pair_ids::BOS),
        ..Vocabulary::default()
    }
}

fn tokenizer_of(vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::new(vocabulary, Algorithm::of(vocabulary)?)
}

fn byte_pair_tokenizer() -> Tokenizer {
    tokenizer_of(&byte_pair(&bytes())).unwrap()
}

#[test]
fn byte_pairs_merge_by_rank() {
    use byte_pair_ids::*;
    let tokenizer = byte_pair_tokenizer();
    let encode = |text: &str| tokenizer.encode(text, PLAIN).unwrap();
    assert_eq!(encode("hello"), [HELL, u32::from(b'o')]);
    assert_eq!(encode("hel"), [HE, u32::from(b'l')]);
    assert_eq!(encode("lll"), [LL, u32::from(b'l')]);
    // `Ġ` + `hell` comes last: `he`, `ll` and `hell` are merged by then.
    assert_eq!(encode("a hell"), [u32::from(b'a'), SPACE_HELL]);
    assert_eq!(encode("é"), [0xc3, 0xa9]);
    assert!(encode("").is_empty());
}

#[test]
fn names_of_control_tokens_in_plain_text_stay_text() {
    let tokenizer = byte_pair_tokenizer();
    let text = "hell<|im_end|>\n\n";
    let typed = tokenizer.encode(text, PLAIN).unwrap();
    assert!(!typed.contains(&byte_pair_ids::IM_END));
    assert_eq!(typed.last(), Some(&byte_pair_ids::NEW_LINES), "user-defined tokens are always found");
    assert_eq!(tokenizer.decode(&typed, SHOWN), text);

    let parsed = tokenizer.encode(text, EncodeOptions { add_bos: false, parse_special: true }).unwrap();
    assert_eq!(parsed, [byte_pair_ids::HELL, byte_pair_ids::IM_END, byte_pair_ids::NEW_LINES]);
    assert_eq!(tokenizer.decode(&parsed, SHOWN), text);
    assert_eq!(tokenizer.decode(&parsed, DecodeOptions::default()), "hell\n\n");
}

#[test]
fn no_merge_makes_a_control_token() {
    let bytes = bytes();
    let mut vocabulary = byte_pair(&bytes);
    vocabulary.merges = Some(vec!["h e", "l l", "he ll"]);
    vocabulary.token_types.as_mut().unwrap()[byte_pair_ids::HELL as usize] = 3;
    let tokenizer = tokenizer_of(&vocabulary).unwrap();
    assert_eq!(tokenizer.encode("hell", PLAIN).unwrap(), [byte_pair_ids::HE, byte_pair_ids::LL]);
    assert_eq!(tokenizer.encode("hell", PROMPT).unwrap(), [byte_pair_ids::HELL]);
}

#[test]
fn a_whole_word_is_taken_unmerged_where_the_family_does_so() {
    let bytes = bytes();
    let mut vocabulary = byte_pair(&bytes);
    vocabulary.merges = Some(vec!["h e"]);
    let ids = |vocabulary: &Vocabulary<'_>| tokenizer_of(vocabulary).unwrap().encode("hell", PLAIN).unwrap();
    assert_eq!(ids(&vocabulary), [byte_pair_ids::HE, u32::from(b'l'), u32::from(b'l')]);
    vocabulary.pre = Some("llama-bpe");
    assert_eq!(ids(&vocabulary), [byte_pair_ids::HELL]);
}

#[test]
fn a_prompt_begins_with_one_bos_where_the_model_asks_for_it() {
    use byte_pair_ids::{BOS, HE};
    let bytes = bytes();
    let mut vocabulary = byte_pair(&bytes);
    vocabulary.merges = Some(vec!["h e"]);
    let ids = |vocabulary: &Vocabulary<'_>, text: &str| {
        tokenizer_of(vocabulary).unwrap().encode(text, PROMPT).unwrap()
    };
    assert_eq!(ids(&vocabulary, "he"), [HE]);
    vocabulary.add_bos = Some(true);
    assert_eq!(ids(&vocabulary, "he"), [BOS, HE]);
    assert_eq!(ids(&vocabulary, "<|bos|>he"), [BOS, HE]);
    assert_eq!(ids(&vocabulary, ""), [BOS]);
    vocabulary.add_bos = None;
    vocabulary.pre = Some("llama-bpe");
    assert_eq!(ids(&vocabulary, "he"), [BOS, HE], "the default of this family");
}

/// Tokens 0 to 2 are `<unk>`, `<s>`, `</s>`; 3 to 258 the bytes; then pieces with their scores.
mod sentence_piece_ids {
    pub(super) const BOS: u32 = 1;
    pub(super) const EOS: u32 = 2;
    pub(super) const BYTE_0: u32 = 3;
    pub(super) const SPACE: u32 = 259;
    pub(super) const A: u32 = 260;
    pub(super) const B: u32 = 261;
    pub(super) const AB: u32 = 262;
    pub(super) const SPACE_A: u32 = 263;
    pub(super) const AA: u32 = 264;
    pub(super) const BC: u32 = 265;
    pub(super) const TURN: u32 = 266;
}

const PIECES: [(&str, f32, i32); 8] = [
    ("▁", -10.0, 1),
    ("a", -11.0, 1),
    ("b", -12.0, 1),
    ("ab", -1.0, 1),
    ("▁a", -2.0, 1),
    ("aa", -3.0, 1),
    ("bc", -4.0, 1),
    ("<end_of_turn>", 0.0, 4),
];

fn sentence_piece_bytes() -> Vec<String> {
    (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect()
}

fn sentence_piece(bytes: &[String]) -> Vocabulary<'_> {
    let special = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)];
    let bytes = bytes.iter().map(|text| (text.as_str(), 0.0, 6));
    let all: Vec<_> = special.into_iter().chain(bytes).chain(PIECES).collect();
    Vocabulary {
        file: "small.gguf".to_owned(),
        model: "llama",
        tokens: all.iter().map(|(text, _, _)| *text).collect(),
        scores: Some(all.iter().map(|(_, score, _)| *score).collect()),
        token_types: Some(all.iter().map(|(_, _, kind)| *kind).collect()),
        bos: Some(1),
        eos: Some(2),
        unknown: Some(0),
        ..Vocabulary::default()
    }
}

fn sentence_piece_tokenizer() -> Tokenizer {
    tokenizer_of(&sentence_piece(&sentence_piece_bytes())).unwrap()
}

#[test]
fn sentence_pieces_merge_by_score_and_leftmost_first() {
    use sentence_piece_ids::*;
    let tokenizer = sentence_piece_tokenizer();
    let encode = |text: &str| tokenizer.encode(text, PLAIN).unwrap();
    // A space is put before the text. `ab` has the better score, so `▁a` cannot form.
    assert_eq!(encode("ab"), [SPACE, AB]);
    assert_eq!(encode("a"), [SPACE_A]);
    assert_eq!(encode("baaa"), [SPACE, B, AA, A]);
    // `c` is no token, `bc` is.
    assert_eq!(encode("bc"), [SPACE, BC]);
    assert_eq!(encode("c"), [SPACE, BYTE_0 + u32::from(b'c')]);
    assert_eq!(encode("é"), [SPACE, BYTE_0 + 0xc3, BYTE_0 + 0xa9]);
    assert!(encode("").is_empty());
    // A literal `▁` is a space.
    assert_eq!(encode("b▁a"), encode("b a"));
}

#[test]
fn the_space_before_a_text_is_optional_and_follows_special_tokens() {
    use sentence_piece_ids::*;
    let bytes = sentence_piece_bytes();
    let mut vocabulary = sentence_piece(&bytes);
    let prompt = |vocabulary: &Vocabulary<'_>| {
        tokenizer_of(vocabulary).unwrap().encode("a<end_of_turn>a</s>", PROMPT).unwrap()
    };
    assert_eq!(prompt(&vocabulary), [BOS, SPACE_A, TURN, SPACE_A, EOS]);
    vocabulary.add_space_prefix = Some(false);
    vocabulary.add_bos = Some(false);
    assert_eq!(prompt(&vocabulary), [A, TURN, A, EOS]);
}

#[test]
fn the_space_before_a_text_goes_again_unless_the_text_is_a_continuation() {
    use sentence_piece_ids::*;
    let tokenizer = sentence_piece_tokenizer();
    assert_eq!(tokenizer.decode(&[SPACE_A, SPACE_A], DecodeOptions::default()), "a a");
    assert_eq!(tokenizer.decode(&[BOS, SPACE, SPACE_A, EOS], DecodeOptions::default()), " a");
    assert_eq!(tokenizer.decode(&[BOS, SPACE_A], SHOWN), "<s> a");
    assert_eq!(tokenizer.decode(&[SPACE_A, SPACE_A], CONTINUATION), " a a");
}

#[test]
fn tokens_that_end_an_answer_are_known_by_id_and_by_name() {
    let tokenizer = sentence_piece_tokenizer();
    let ends = tokenizer.end_of_generation();
    assert_eq!(ends, [sentence_piece_ids::EOS, sentence_piece_ids::TURN]);
    // Though the file calls it user-defined, a user who types it does not end the turn.
    let typed = tokenizer.encode("<end_of_turn>", PLAIN).unwrap();
    assert!(!typed.contains(&sentence_piece_ids::TURN));
}

#[test]
fn a_token_that_stands_between_the_messages_of_an_answer_does_not_end_it() {
    let bytes = bytes();
    for (also, ends_with_message) in [
        (["<|return|>", "<|call|>"], false),
        (["<|flush|>", "<|calls|>"], false),
        (["<|flush|>", "<|call|>"], true),
    ] {
        let mut vocabulary = byte_pair(&bytes);
        let end = vocabulary.tokens.len() as u32;
        vocabulary.tokens.extend(["<|end|>"].into_iter().chain(also));
        vocabulary.token_types.as_mut().unwrap().extend([3, 3, 3]);
        let tokenizer = tokenizer_of(&vocabulary).unwrap();
        let ends = tokenizer.end_of_generation();
        assert_eq!(ends.contains(&end), ends_with_message, "{also:?}");
        assert!(ends.contains(&(end + 1)) && ends.contains(&(end + 2)), "{also:?}");
    }
}

#[test]
fn bytes_of_tokens_are_those_of_the_text() {
    let tokenizer = sentence_piece_tokenizer();
    assert_eq!(tokenizer.token_bytes(sentence_piece_ids::SPACE_A), b" a");
    assert_eq!(tokenizer.token_bytes(sentence_piece_ids::BYTE_0 + 0xff), [0xff]);
    assert_eq!(tokenizer.token_bytes(sentence_piece_ids::EOS), b"</s>");
    assert_eq!(tokenizer.token_bytes(100_000), b"");
    assert_eq!(byte_pair_tokenizer().token_bytes(byte_pair_ids::SPACE_HELL), b" hell");
}

#[test]
fn fingerprints_differ_when_a_token_does() {
    let bytes = sentence_piece_bytes();
    let mut vocabulary = sentence_piece(&bytes);
    let before = tokenizer_of(&vocabulary).unwrap().fingerprint();
    assert_eq!(before, sentence_piece_tokenizer().fingerprint());
    vocabulary.tokens[260] = "q";
    assert_ne!(before, tokenizer_of(&vocabulary).unwrap().fingerprint());
}

/// What is done to a good vocabulary.
type Damage<'a> = Box<dyn Fn(&mut Vocabulary<'a>) + 'a>;

#[test]
fn hostile_metadata_is_refused_by_file_and_field() {
    let (byte_texts, piece_texts) = (bytes(), sentence_piece_bytes());
    let long = "x".repeat(1 << 20);
    let cases: Vec<(Vocabulary<'_>, Damage<'_>, &str)> = vec![
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.model = "bert"),
            "tokenizer.ggml.model: \"bert\" is not supported",
        ),
        (byte_pair(&byte_texts), Box::new(|v| v.tokens.clear()), "tokenizer.ggml.tokens: the list is empty"),
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.tokens[7] = "he"),
            "tokenizer.ggml.tokens: tokens 7 and 256 are both",
        ),
        (byte_pair(&byte_texts), Box::new(|v| v.merges = None), "tokenizer.ggml.merges: missing"),
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.merges.as_mut().unwrap()[0] = "a b c"),
            "merges: merge 0 is \"a b c\"; expected",
        ),
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.merges.as_mut().unwrap()[0] = "ab"),
            "merges: merge 0 is \"ab\"; expected",
        ),
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.merges.as_mut().unwrap()[0] = " b"),
            "merges: merge 0 is \" b\"; expected",
        ),
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.merges.as_mut().unwrap()[0] = ""),
            "merges: merge 0 is \"\"; expected",
        ),
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.merges.as_mut().unwrap()[1] = "x y"),
            "merges: merge 1 uses \"xy\", which is no token",
        ),
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.merges.as_mut().unwrap()[3] = "h ell"),
            "merge 3 uses \"ell\", which is no token",
        ),
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.merges.as_mut().unwrap()[2] = &long),
            "xxx\"… (1048576 bytes); expected",
        ),
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.bos = Some(264)),
            "bos_token_id: id 264 is outside the vocabulary of 264",
        ),
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.eot = Some(u32::MAX)),
            "tokenizer.ggml.eot_token_id: id 4294967295",
        ),
        (
            byte_pair(&byte_texts),
            Box::new(|v| v.token_types = Some(vec![1; 3])),
            "tokenizer.ggml.token_type: 3 types for 264 tokens",
        ),
        (byte_pair(&byte_texts), Box::new(|v| v.token_types = Some(vec![7; 264])), "token 0 has type 7"),
        (byte_pair(&byte_texts), Box::new(|v| v.token_types = Some(vec![6; 264])), "not of the form <0x0A>"),
        (sentence_piece(&piece_texts), Box::new(|v| v.scores = None), "tokenizer.ggml.scores: missing"),
        (
            sentence_piece(&piece_texts),
            Box::new(|v| v.scores = Some(vec![0.5])),
            "scores: 1 scores for 267 tokens",
        ),
        (
            sentence_piece(&piece_texts),
            Box::new(|v| v.scores = Some(vec![f32::NAN; 267])),
            "the score of token 0 is not a number",
        ),
        (
            sentence_piece(&piece_texts),
            Box::new(|v| (v.tokens[3], v.token_types, v.unknown) = ("zero", None, None)),
            "neither byte token <0x00> nor an unknown token",
        ),
    ];
    for (mut vocabulary, damage, expected) in cases {
        damage(&mut vocabulary);
        let error = tokenizer_of(&vocabulary).unwrap_err().to_string();
        assert!(
            error.starts_with("small.gguf: tokenizer.ggml.") && error.contains(expected),
            "{error}\n{expected}"
        );
        assert!(error.len() < 300, "{error}");
    }
}

#[test]
fn a_tokenizer_is_read_from_the_metadata_of_a_file() {
    let bytes = bytes();
    let vocabulary = byte_pair(&bytes);
    let mut writer = Writer::new("small.gguf");
    writer
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "gpt-2")
        .metadata("tokenizer.ggml.tokens", vocabulary.tokens.iter().collect::<Strings>())
        .metadata("tokenizer.ggml.token_type", vocabulary.token_types.clone().unwrap())
        .metadata("tokenizer.ggml.merges", ["h e", "l l", "he ll"].iter().collect::<Strings>())
        .metadata("tokenizer.ggml.bos_token_id", byte_pair_ids::BOS)
        .metadata("tokenizer.ggml.eos_token_id", byte_pair_ids::IM_END)
        .metadata("tokenizer.ggml.add_bos_token", true);
    let file = GgufFile::from_bytes("small.gguf", writer.to_bytes()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    assert_eq!(tokenizer.encode("hell", PROMPT).unwrap(), [byte_pair_ids::BOS, byte_pair_ids::HELL]);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(byte_pair_ids::BOS), Some(byte_pair_ids::IM_END)));
    assert_eq!(tokenizer.vocabulary_size(), 264);
    assert_eq!(tokenizer.fingerprint(), byte_pair_tokenizer().fingerprint());

    let empty = GgufFile::from_bytes("empty.gguf", Writer::new("empty.gguf").to_bytes()).unwrap();
    let error = Tokenizer::from_gguf(&empty).unwrap_err().to_string();
    assert!(error.starts_with("empty.gguf: metadata tokenizer.ggml.model: missing"), "{error}");
}

#[test]
fn characters_split_over_tokens_come_out_whole_with_their_last_byte() {
    let tokenizer = byte_pair_tokenizer();
    let mut stream = tokenizer.stream(DecodeOptions::default());
    let parts: Vec<String> = "a日😀".bytes().map(|byte| stream.push(u32::from(byte)).to_owned()).collect();
    assert_eq!(parts, ["a", "", "", "日", "", "", "", "😀"]);
    assert_eq!(stream.finish(), "");
}

#[test]
fn bytes_that_are_no_character_come_out_as_replacement_characters() {
    let tokenizer = byte_pair_tokenizer();
    let mut stream = tokenizer.stream(DecodeOptions::default());
    let mut parts = Vec::new();
    for byte in [0xff, 0xe6, 0x97, u32::from(b'x'), 0xf0, 0x9f] {
        parts.push(stream.push(byte).to_owned());
    }
    assert_eq!(parts, ["\u{fffd}", "", "", "\u{fffd}x", "", ""]);
    assert_eq!(stream.finish(), "\u{fffd}");
    assert_eq!(stream.finish(), "");
}

/// Text with what is hard about text: scripts, emoji sequences, runs of spaces, names of control tokens.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<String>(),
        "[ab hel\n]{0,12}",
        Just("日本語の文".to_owned()),
        Just("👨‍👩‍👧‍👦👍🏽🇩🇪".to_owned()),
        Just("<|im_end|></s><end_of_turn>".to_owned()),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_text_has_fewer_tokens_than_its_bytes_say(text in text(), name: bool, parse_special: bool) {
        for tokenizer in [byte_pair_tokenizer(), sentence_piece_tokenizer()] {
            let text = if name { format!("▁▁▁{text}<|im_end|>hell hell") } else { text.clone() };
            let ids = tokenizer.encode(&text, EncodeOptions { add_bos: false, parse_special }).unwrap();
            prop_assert!(tokenizer.fewest_tokens([text.as_str()]) <= ids.len());
            prop_assert!(tokenizer.fewest_tokens(["x".repeat(1 << 20).as_str()]) > 1 << 16);
        }
    }

    #[test]
    fn text_survives_encoding_and_decoding(text in text(), parse_special: bool) {
        let options = EncodeOptions { add_bos: false, parse_special };
        let tokenizer = byte_pair_tokenizer();
        let ids = tokenizer.encode(&text, options).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, SHOWN), &text[..]);
        // SentencePiece puts a space behind special tokens and cannot tell `▁` from a space.
        let tokenizer = sentence_piece_tokenizer();
        let ids = tokenizer.encode(&text, PLAIN).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, SHOWN), text.replace('▁', " "));
    }

    #[test]
    fn a_stream_gives_the_text_of_all_bytes_together(
        text in text(),
        noise in prop::collection::vec((0usize..200, 0u32..270), 0..8),
        show_special: bool,
    ) {
        for tokenizer in [byte_pair_tokenizer(), sentence_piece_tokenizer()] {
            let mut ids = tokenizer.encode(&text, PLAIN).unwrap();
            for &(at, id) in &noise {
                ids.insert(at.min(ids.len()), id);
            }
            let mut stream = tokenizer.stream(DecodeOptions { show_special, continuation: true });
            let mut streamed = String::new();
            for &id in &ids {
                streamed.push_str(stream.push(id));
            }
            streamed.push_str(stream.finish());
            let shown = ids.iter().filter(|id| show_special || !tokenizer.pieces.is_special(**id));
            let bytes: Vec<u8> = shown.flat_map(|id| tokenizer.token_bytes(*id)).copied().collect();
            prop_assert_eq!(streamed, String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn no_metadata_makes_the_tokenizer_panic(
        byte_level: bool,
        tokens in prop::collection::vec("(<0x[0-9A-F]{2}>|[abĠ▁]{0,3}|<\\|im_end\\|>)", 0..12),
        types in prop::option::of(prop::collection::vec(-1i32..8, 0..12)),
        scores in prop::option::of(prop::collection::vec(any::<f32>(), 0..12)),
        merges in prop::collection::vec("[ab Ġ]{0,5}", 0..6),
        ids in prop::collection::vec(prop::option::of(0u32..14), 5),
        text in "[ab é]{0,8}",
    ) {
        let vocabulary = Vocabulary {
            model: if byte_level { "gpt2" } else { "llama" },
            tokens: tokens.iter().map(String::as_str).collect(),
            token_types: types,
            scores,
            merges: Some(merges.iter().map(String::as_str).collect()),
            bos: ids[0],
            eos: ids[1],
            eot: ids[2],
            eom: ids[3],
            unknown: ids[4],
            ..Vocabulary::default()
        };
        if let Ok(tokenizer) = tokenizer_of(&vocabulary) {
            let ids = tokenizer.encode(&text, PROMPT).unwrap();
            prop_assert!(ids.iter().all(|id| (*id as usize) < tokens.len()));
            tokenizer.decode(&ids, SHOWN);
        }
    }
}
