//! Tokenizers as checkpoints publish them: `tokenizer.json`, run by the library that it belongs to.
//!
//! <https://huggingface.co/docs/tokenizers>. What is read here besides is what the other parts of this project need to know
//! of it: how tokens spell text, which are control tokens, where prompts begin and answers end.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::checkpoint_files::{
    TEKKEN, TIKTOKEN_EXTENSION, TIKTOKEN_MODEL, TOKENIZER_CONFIG, TOKENIZER_MODEL, token_name,
};
use super::error::TokenizerError;
use super::published::{Library, Published};
use super::ranked_file::Reader;
use super::reach::Reach;
use super::vocabulary::{END_OF_GENERATION, Spelling, TokenKind, Vocabulary, byte_token};
use super::{Encoder, Tokenizer};
use crate::{Checkpoint, TokenId};

const TOKENIZER: &str = "tokenizer.json";
/// Which tokens end an answer.
const GENERATION_CONFIG: &str = "generation_config.json";

/// More tokens than any vocabulary has: beyond it, a file is damaged.
const MAX_TOKENS: usize = 1 << 24;

impl Tokenizer {
    /// The tokenizer of a checkpoint: the first of `tokenizer.json`, `tokenizer.model`, `tekken.json`, `tiktoken.model` and
    /// `*.tiktoken`.
    ///
    /// # Errors
    /// If all are missing, or the one is damaged or cannot encode any text.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self, TokenizerError> {
        let path = checkpoint.folder().join(TOKENIZER);
        let file = path.display().to_string();
        let unusable = |problem: String| TokenizerError::Unusable { file: file.clone(), problem };
        let config = checkpoint.json(TOKENIZER_CONFIG)?.unwrap_or_default();
        let generation = checkpoint.json(GENERATION_CONFIG)?.unwrap_or_default();
        let ids = |name: &str| {
            let sources = [generation.get(name), checkpoint.config().get(name)];
            sources.into_iter().flatten().find_map(numbers).unwrap_or_default()
        };
        let mut ends = ids("eos_token_id");
        let Some(mut json) = checkpoint.json(TOKENIZER)? else {
            return Self::from_other_files(checkpoint, ends)?.ok_or_else(|| {
                unusable(format!(
                    "there is no such file, and no {TOKENIZER_MODEL}, {TEKKEN} or {TIKTOKEN_MODEL} in its place"
                ))
            });
        };
        protect_ends(&mut json, &ends);
        let bytes = serde_json::to_vec(&json).map_err(|error| unusable(error.to_string()))?;
        let parsed: Library = serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
        drop(bytes);
        parsed
            .encode("\u{10fffd}", false)
            .map_err(|error| unusable(format!("not every text has tokens: {error}")))?;

        let spelling = spelling(&json);
        let (tokens, kinds) = tokens(&parsed, spelling).map_err(unusable)?;
        ends.retain(|&id| (id as usize) < tokens.len());
        let named = |name: &str| parsed.token_to_id(token_name(config.get(name)?)?);
        let (bos, eos) = (named("bos_token"), named("eos_token"));
        let vocabulary = Vocabulary {
            file: file.clone(),
            tokens: tokens.iter().map(String::as_str).collect(),
            token_types: Some(kinds.iter().map(|kind| *kind as i32).collect()),
            bos: bos.or_else(|| ids("bos_token_id").first().copied()),
            eos: eos.or_else(|| ends.first().copied()),
            also_end: ends,
            ..Vocabulary::default()
        };
        let adds_bos = vocabulary.bos.is_some_and(|bos| begins_with(&parsed, bos));
        let first =
            parsed.encode_fast("a", false).ok().and_then(|encoding| encoding.get_ids().first().copied());
        let first = first.and_then(|id| tokens.get(id as usize));
        let adds_space_prefix =
            spelling == Spelling::SentencePiece && first.is_some_and(|text| text.starts_with('▁'));
        vocabulary.check_special_ids()?;
        let end_of_generation = vocabulary.end_of_generation(&vocabulary.ids_by_text()?);
        let kinds = vocabulary.kinds(spelling, &end_of_generation)?;
        let reach = Reach::of_published(&json, &tokens);
        let encoder = Encoder::Published(Box::new(Published::new(parsed, adds_space_prefix, reach)));
        Ok(Self::assemble(&vocabulary, spelling, kinds, end_of_generation, encoder, adds_bos))
    }
}

impl Tokenizer {
    /// The tokenizer of the files that older checkpoints have, and those whose own code reads them; `ends` are tokens that end
    /// an answer.
    fn from_other_files(checkpoint: &Checkpoint, ends: Vec<TokenId>) -> Result<Option<Self>, TokenizerError> {
        let path = |name: &str| checkpoint.folder().join(name);
        if let Some(bytes) = read(&path(TOKENIZER_MODEL))? {
            return Self::from_model_file(checkpoint, &bytes, ends).map(Some);
        }
        if let Some(bytes) = read(&path(TEKKEN))? {
            return Self::from_tekken(checkpoint, &bytes, ends).map(Some);
        }
        let kimi = path(TIKTOKEN_MODEL);
        if let Some(bytes) = read(&kimi)? {
            return Self::from_ranks(checkpoint, &kimi, &bytes, Reader::Kimi, ends).map(Some);
        }
        let entries = fs::read_dir(checkpoint.folder()).into_iter().flatten().flatten();
        let mut paths = entries.map(|entry| entry.path());
        let Some(qwen) = paths.find(|path| path.extension().is_some_and(|end| end == TIKTOKEN_EXTENSION))
        else {
            return Ok(None);
        };
        let Some(bytes) = read(&qwen)? else { return Ok(None) };
        Self::from_ranks(checkpoint, &qwen, &bytes, Reader::Qwen, ends).map(Some)
    }
}

/// What the file at `path` holds, if there is one.
fn read(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let file = path.display().to_string();
            Err(TokenizerError::Unusable { file, problem: format!("it cannot be read: {error}") })
        }
    }
}

/// Makes special tokens of those that end an answer, whatever the file calls them: text that a user types must not end a
/// turn.
fn protect_ends(json: &mut Value, ends: &[TokenId]) {
    for token in json["added_tokens"].as_array_mut().into_iter().flatten() {
        let is_end = token["id"].as_u64().is_some_and(|id| ends.iter().any(|end| u64::from(*end) == id))
            || token["content"].as_str().is_some_and(|text| END_OF_GENERATION.contains(&text));
        if is_end {
            token["special"] = true.into();
        }
    }
}

/// How the tokens spell text: by what the tokenizer does to it before and after.
fn spelling(json: &Value) -> Spelling {
    fn mentions(value: &Value, name: &str) -> bool {
        match value {
            Value::Object(fields) => {
                fields.get("type").is_some_and(|kind| kind == name)
                    || fields.values().any(|value| mentions(value, name))
            }
            Value::Array(values) => values.iter().any(|value| mentions(value, name)),
            _ => false,
        }
    }
    let is_byte_level = ["pre_tokenizer", "decoder"].iter().any(|part| mentions(&json[part], "ByteLevel"));
    if is_byte_level { Spelling::ByteLevel } else { Spelling::SentencePiece }
}

/// The text and the kind of every token, by id. What lies between is unused.
fn tokens(tokenizer: &Library, spelling: Spelling) -> Result<(Vec<String>, Vec<TokenKind>), String> {
    let by_id: BTreeMap<TokenId, String> =
        tokenizer.get_vocab(true).into_iter().map(|(text, id)| (id, text)).collect();
    let count = by_id.last_key_value().map_or(0, |(id, _)| *id as usize + 1);
    if count == 0 || count > MAX_TOKENS {
        return Err(format!("a vocabulary of {count} tokens"));
    }
    let added = tokenizer.get_added_tokens_decoder();
    let mut tokens: Vec<String> = (0..count).map(|id| format!("<unused id {id}>")).collect();
    let mut kinds = vec![TokenKind::Unused; count];
    for (id, text) in by_id {
        kinds[id as usize] = match added.get(&id) {
            Some(token) if token.special => TokenKind::Control,
            Some(_) => TokenKind::UserDefined,
            None if spelling == Spelling::SentencePiece && byte_token(&text).is_some() => TokenKind::Byte,
            None => TokenKind::Normal,
        };
        tokens[id as usize] = text;
    }
    Ok((tokens, kinds))
}

/// Whether the tokenizer puts `bos` before a text.
fn begins_with(tokenizer: &Library, bos: TokenId) -> bool {
    let first =
        |special| tokenizer.encode_fast("a", special).ok().and_then(|found| found.get_ids().first().copied());
    first(true) == Some(bos) && first(false) != Some(bos)
}

/// A number or a list of them.
fn numbers(value: &Value) -> Option<Vec<TokenId>> {
    let id = |value: &Value| value.as_u64().and_then(|id| TokenId::try_from(id).ok());
    match value {
        Value::Array(values) => values.iter().map(id).collect(),
        value => id(value).map(|id| vec![id]),
    }
}

#[cfg(test)]
mod tests {
    use lookahead_fixtures::{TinyModel, tiny_model, write_tokenizer};
    use proptest::prelude::*;
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper,
    };

    use super::*;
    use crate::gguf::GgufFile;
    use crate::tokenizer::word_splits::WordSplits;
    use crate::tokenizer::{DecodeOptions, EncodeOptions};

    /// A checkpoint without weights, and the tokenizer of a GGUF file with the same vocabulary.
    fn both(architecture: &'static str) -> [Tokenizer; 2] {
        let folder = tempfile::tempdir().unwrap();
        write_tokenizer(folder.path(), architecture);
        let generation = r#"{"eos_token_id": [1, 999999]}"#;
        std::fs::write(folder.path().join(GENERATION_CONFIG), generation).unwrap();
        let checkpoint = Checkpoint::without_weights(folder.path());
        let bytes = tiny_model(&TinyModel { architecture, layers: 1, ..TinyModel::default() });
        let file = GgufFile::from_bytes("tiny", bytes).unwrap();
        [Tokenizer::from_checkpoint(&checkpoint).unwrap(), Tokenizer::from_gguf(&file).unwrap()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn ids_and_texts_are_those_of_our_own_tokenizer_for_the_same_vocabulary(
            parts in prop::collection::vec(prop_oneof![
                any::<String>(),
                "[ a-z]{0,40}",
                "(for|return|the|ing|tion|self|[0-9]{1,3}|[(){};=.,]){0,12}",
                prop::sample::select(vec!["<|im_end|>", "<|im_start|>user", "<end_of_turn>", "<bos>"]).prop_map(str::to_owned),
            ], 0..6),
            parse_special in any::<bool>(),
            add_bos in any::<bool>(),
        ) {
            let text = parts.concat();
            for architecture in ["llama", "gemma3"] {
                let [published, ours] = both(architecture);
                let options = EncodeOptions { add_bos, parse_special };
                let ids = ours.encode(&text, options).unwrap();
                prop_assert_eq!(&published.encode(&text, options).unwrap(), &ids, "{}", architecture);
                prop_assert!(published.fewest_tokens([text.as_str()]) <= ids.len(), "{}", architecture);
                prop_assert!(published.fewest_tokens(["x".repeat(1 << 20).as_str()]) > 1 << 14, "{}", architecture);
                for show_special in [false, true] {
                    let options = DecodeOptions { show_special, ..DecodeOptions::default() };
                    prop_assert_eq!(published.decode(&ids, options), ours.decode(&ids, options), "{}", architecture);
                }
            }
        }
    }

    /// The words of a text by the library's own pre-tokenizer and by ours.
    #[test]
    fn words_are_cut_as_the_library_cuts_them() {
        for json in [
            r#"{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}"#,
            r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}"#,
            r#"{"type": "Split", "pattern": {"String": ".+"}, "behavior": "Removed", "invert": false}"#,
            r#"{"type": "Split", "pattern": {"Regex": "\\w+"}, "behavior": "MergedWithNext", "invert": true}"#,
            r#"{"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": true}"#,
            r#"{"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "\\d{1,3}(?=(?:\\d{3})*\\b)"}, "behavior": "Isolated", "invert": false},
                {"type": "Digits", "individual_digits": true},
                {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}]}"#,
        ] {
            let theirs: PreTokenizerWrapper = serde_json::from_str(json).unwrap();
            let ours: WordSplits = serde_json::from_str(json).unwrap();
            for text in ["", " ", "It's 12345.+67  words,\n\n  ünï .+ code  ", "a.+b"] {
                let words = |cut: &dyn Fn(&mut PreTokenizedString) -> tokenizers::Result<()>| {
                    let mut text = PreTokenizedString::from(text);
                    cut(&mut text).unwrap();
                    let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
                    splits
                        .into_iter()
                        .map(|(word, offsets, _)| (word.to_owned(), offsets))
                        .collect::<Vec<_>>()
                };
                assert_eq!(
                    words(&|text| ours.pre_tokenize(text)),
                    words(&|text| theirs.pre_tokenize(text)),
                    "{json}, {text:?}"
                );
            }
        }
    }

    #[test]
    fn a_text_that_the_regular_expression_gives_up_on_is_an_error_not_another_prompt() {
        let json = r#"{"type": "Split", "pattern": {"Regex": "(a|a)*(?=b)|\\w"}, "behavior": "Isolated", "invert": false}"#;
        let splits: WordSplits = serde_json::from_str(json).unwrap();
        let cut = |text: &str| splits.pre_tokenize(&mut PreTokenizedString::from(text));
        cut("aaab").unwrap();
        assert!(cut(&"a".repeat(100)).is_err());
    }

    #[test]
    fn what_is_special_is_known() {
        for (architecture, ends) in [("llama", vec![0, 1, 2]), ("gemma3", vec![1, 5])] {
            let [published, ours] = both(architecture);
            assert_eq!((published.bos(), published.eos()), (ours.bos(), ours.eos()), "{architecture}");
            assert_eq!(published.end_of_generation(), ends, "{architecture}");
            assert_eq!(published.fingerprint(), ours.fingerprint(), "{architecture}");
            for id in 0..ours.vocabulary_size() as TokenId {
                assert_eq!(published.token_bytes(id), ours.token_bytes(id), "{architecture}, {id}");
            }
        }
    }

    #[test]
    fn a_tokenizer_that_cannot_be_used_is_named() {
        for (content, problem) in
            [(None, "no such file"), (Some("{}"), "tokenizer.json"), (Some("{"), "tokenizer.json")]
        {
            let folder = tempfile::tempdir().unwrap();
            if let Some(content) = content {
                std::fs::write(folder.path().join(TOKENIZER), content).unwrap();
            }
            let checkpoint = Checkpoint::without_weights(folder.path());
            let error = Tokenizer::from_checkpoint(&checkpoint).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains(TOKENIZER), "{error}");
        }
    }
}
