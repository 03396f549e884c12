//! `tokenizer.model`: what SentencePiece writes, for checkpoints that have no `tokenizer.json`.
//!
//! The file is a protocol buffer; the messages and their numbers are those of `sentencepiece_model.proto`
//! (<https://github.com/google/sentencepiece>).

use prost::Message;

use super::Tokenizer;
use super::checkpoint_files::{TOKENIZER_CONFIG, TOKENIZER_MODEL, token_name};
use super::error::TokenizerError;
use super::vocabulary::Vocabulary;
use crate::{Checkpoint, TokenId};

/// Tokens that the checkpoint adds, in older ones.
const ADDED_TOKENS: &str = "added_tokens.json";

/// The only kind of model that merges pairs by score.
const BPE: i32 = 2;

/// What the code that comes with ChatGLM's checkpoints adds behind the file's tokens.
const CHATGLM_TOKENS: [&str; 9] = [
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "sop",
    "eop",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
];

/// The numbers of `SentencePiece.Type` that are used here.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(int32, optional, tag = "40")]
    unknown: Option<i32>,
    #[prost(int32, optional, tag = "41")]
    bos: Option<i32>,
    #[prost(int32, optional, tag = "42")]
    eos: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
}

impl Tokenizer {
    /// The tokenizer in `tokenizer.model`; `ends` are tokens that end an answer.
    pub(super) fn from_model_file(
        checkpoint: &Checkpoint,
        bytes: &[u8],
        ends: Vec<TokenId>,
    ) -> Result<Self, TokenizerError> {
        let file = checkpoint.folder().join(TOKENIZER_MODEL).display().to_string();
        let unusable = |problem: String| TokenizerError::Unusable { file: file.clone(), problem };
        let model = ModelProto::decode(bytes)
            .map_err(|error| unusable(format!("no SentencePiece model: {error}")))?;
        let trainer = model.trainer.unwrap_or_default();
        if trainer.model_type != Some(BPE) {
            return Err(unusable(
                "a SentencePiece model of another kind than BPE; save the tokenizer as tokenizer.json with transformers"
                    .to_owned(),
            ));
        }
        let normalizer = model.normalizer.unwrap_or_default();
        let changes_text =
            normalizer.name.as_deref().is_some_and(|name| !name.is_empty() && name != "identity");
        if changes_text || normalizer.remove_extra_whitespaces == Some(true) {
            tracing::warn!(file, "the file asks for texts to be normalised, which is not done");
        }
        let mut tokens: Vec<String> = Vec::with_capacity(model.pieces.len());
        let (mut scores, mut kinds) = (Vec::new(), Vec::new());
        for piece in model.pieces {
            tokens.push(piece.text.unwrap_or_default());
            scores.push(piece.score.unwrap_or(0.0));
            kinds.push(piece.kind.unwrap_or(NORMAL));
        }
        let config = checkpoint.json(TOKENIZER_CONFIG)?.unwrap_or_default();
        for (id, text, kind) in added_tokens(checkpoint, tokens.len())? {
            // An id far beyond the others is a mistake.
            if id > tokens.len() + 100_000 {
                return Err(unusable(format!(
                    "an added token has the id {id}, and there are {} tokens",
                    tokens.len()
                )));
            }
            while tokens.len() <= id {
                tokens.push(format!("<unused id {}>", tokens.len()));
                scores.push(0.0);
                kinds.push(UNUSED);
            }
            (tokens[id], kinds[id]) = (text, kind);
        }
        let id = |number: Option<i32>, usual: i32| {
            TokenId::try_from(number.unwrap_or(usual)).ok().filter(|&id| (id as usize) < tokens.len())
        };
        let named = |name: &str| {
            let text = token_name(config.get(name)?)?;
            tokens.iter().position(|token| token == text).map(|id| id as TokenId)
        };
        let vocabulary = Vocabulary {
            file: file.clone(),
            model: "llama",
            bos: named("bos_token").or(id(trainer.bos, 1)),
            eos: named("eos_token").or(id(trainer.eos, 2)),
            unknown: id(trainer.unknown, 0),
            add_bos: Some(config["add_bos_token"].as_bool().unwrap_or(true)),
            add_space_prefix: Some(normalizer.add_dummy_prefix.unwrap_or(true)),
            also_end: ends.into_iter().filter(|&id| (id as usize) < tokens.len()).collect(),
            tokens: tokens.iter().map(String::as_str).collect(),
            token_types: Some(kinds),
            scores: Some(scores),
            ..Vocabulary::default()
        };
        Self::new(&vocabulary)
    }
}

/// What the checkpoint adds to the file's `count` tokens: ids, texts and kinds.
fn added_tokens(checkpoint: &Checkpoint, count: usize) -> Result<Vec<(usize, String, i32)>, TokenizerError> {
    let mut added = Vec::new();
    if checkpoint.model_type().is_ok_and(|family| family == "chatglm") {
        added.extend((count..).zip(CHATGLM_TOKENS).map(|(id, text)| (id, text.to_owned(), CONTROL)));
    }
    let config = checkpoint.json(TOKENIZER_CONFIG)?.unwrap_or_default();
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        if let (Ok(id), Some(text)) = (id.parse(), token_name(token)) {
            let kind = if token["special"] == true { CONTROL } else { USER_DEFINED };
            added.push((id, text.to_owned(), kind));
        }
    }
    let older = checkpoint.json(ADDED_TOKENS)?.unwrap_or_default();
    for (text, id) in older.as_object().into_iter().flatten() {
        if let Some(id) = id.as_u64() {
            added.push((id as usize, text.clone(), CONTROL));
        }
    }
    added.sort();
    added.dedup_by_key(|(id, ..)| *id);
    Ok(added)
}

#[cfg(test)]
mod tests {
    use lookahead_fixtures::{TinyModel, tiny_model};
    use proptest::prelude::*;

    use super::*;
    use crate::gguf::GgufFile;
    use crate::tokenizer::EncodeOptions;

    /// The SentencePiece vocabulary of the tiny models, and the same as a `tokenizer.model`.
    fn both(more: impl FnOnce(&mut ModelProto)) -> (Tokenizer, Result<Tokenizer, TokenizerError>) {
        let bytes = tiny_model(&TinyModel { architecture: "gemma3", layers: 1, ..TinyModel::default() });
        let file = GgufFile::from_bytes("tiny", bytes).unwrap();
        let vocabulary = Vocabulary::from_gguf(&file).unwrap();
        let columns = (vocabulary.scores.clone().unwrap(), vocabulary.token_types.clone().unwrap());
        let pieces = vocabulary.tokens.iter().zip(columns.0).zip(columns.1).map(|((text, score), kind)| {
            Piece { text: Some((*text).to_owned()), score: Some(score), kind: Some(kind) }
        });
        let mut model = ModelProto {
            pieces: pieces.collect(),
            trainer: Some(TrainerSpec {
                model_type: Some(BPE),
                unknown: Some(3),
                bos: Some(2),
                eos: Some(1),
            }),
            normalizer: Some(NormalizerSpec { add_dummy_prefix: Some(false), ..NormalizerSpec::default() }),
        };
        more(&mut model);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TOKENIZER_MODEL), model.encode_to_vec()).unwrap();
        let added = r#"{"added_tokens_decoder": {"513": {"content": "<|tool|>", "special": true}}}"#;
        std::fs::write(folder.path().join(TOKENIZER_CONFIG), added).unwrap();
        let checkpoint = Checkpoint::without_weights(folder.path());
        (Tokenizer::from_gguf(&file).unwrap(), Tokenizer::from_checkpoint(&checkpoint))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn ids_are_those_of_the_same_vocabulary_in_a_gguf_file(text in "([ a-zA-Z0-9é€]|<bos>|the ){0,30}", parse_special in any::<bool>()) {
            let (ours, read) = both(|_| ());
            let options = EncodeOptions { add_bos: true, parse_special };
            prop_assert_eq!(read.unwrap().encode(&text, options).unwrap(), ours.encode(&text, options).unwrap());
        }
    }

    #[test]
    fn added_tokens_come_behind_the_files_own() {
        let tokenizer = both(|_| ()).1.unwrap();
        let options = EncodeOptions { add_bos: false, parse_special: true };
        assert_eq!(tokenizer.encode("<|tool|>", options).unwrap(), [513]);
        assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.vocabulary_size()), (Some(2), Some(1), 514));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let unigram =
            both(|model| model.trainer = Some(TrainerSpec { model_type: Some(1), ..TrainerSpec::default() }));
        assert!(unigram.1.unwrap_err().to_string().contains("another kind than BPE"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TOKENIZER_MODEL), b"\xff\xff").unwrap();
        let error =
            Tokenizer::from_checkpoint(&Checkpoint::without_weights(folder.path())).unwrap_err().to_string();
        assert!(error.contains(TOKENIZER_MODEL), "{error}");
    }
}
