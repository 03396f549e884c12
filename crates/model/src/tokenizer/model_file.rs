//! `tokenizer.model`: what SentencePiece writes, for checkpoints that have no `tokenizer.json`.
//!
//! The file is a protocol buffer; the messages and their numbers are those of `sentencepiece_model.proto`
//! (<https://github.com/google/sentencepiece>).

use prost::Message;

use super::Tokenizer;
use super::added_tokens::{ListedTokens, added_tokens};
use super::algorithm::Algorithm;
use super::checkpoint_files::{TOKENIZER_CONFIG, TOKENIZER_MODEL};
use super::error::TokenizerError;
use super::vocabulary::{TokenKind, Vocabulary};
use crate::{Checkpoint, TokenId};

/// The numbers of `TrainerSpec.ModelType` that are known here; a file that says nothing means the first.
const UNIGRAM: i32 = 1;
const BPE: i32 = 2;

/// The number of `SentencePiece.Type` where a file says nothing.
const NORMAL: i32 = 1;

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
    #[prost(bytes, optional, tag = "2")]
    charsmap: Option<Vec<u8>>,
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
        let (name, algorithm) = match trainer.model_type.unwrap_or(UNIGRAM) {
            UNIGRAM => ("t5", Algorithm::Unigram),
            BPE => ("llama", Algorithm::SentencePiece),
            _ => {
                return Err(unusable(
                    "a SentencePiece model of another kind than BPE and Unigram; save the tokenizer as tokenizer.json with \
                     transformers"
                        .to_owned(),
                ));
            }
        };
        let normalizer = model.normalizer.unwrap_or_default();
        let changes_text =
            normalizer.name.as_deref().is_some_and(|name| !name.is_empty() && name != "identity");
        let removes_spaces = normalizer.remove_extra_whitespaces.unwrap_or(true);
        if matches!(algorithm, Algorithm::SentencePiece) && (changes_text || removes_spaces) {
            tracing::warn!(file, "the file asks for texts to be normalised, which is not done");
        }
        let mut tokens = ListedTokens::default();
        let mut scores = Vec::with_capacity(model.pieces.len());
        for (id, piece) in model.pieces.into_iter().enumerate() {
            scores.push(piece.score.unwrap_or(0.0));
            tokens.put(id, piece.text.unwrap_or_default(), TokenKind::Normal).map_err(unusable)?;
            tokens.kinds[id] = piece.kind.unwrap_or(NORMAL);
        }
        let config = checkpoint.json(TOKENIZER_CONFIG)?.unwrap_or_default();
        for (id, text, kind) in added_tokens(checkpoint, tokens.texts.len())? {
            tokens.put(id, text, kind).map_err(unusable)?;
        }
        scores.resize(tokens.texts.len(), 0.0);
        let count = tokens.texts.len();
        let id = |number: Option<i32>, usual: i32| {
            TokenId::try_from(number.unwrap_or(usual)).ok().filter(|&id| (id as usize) < count)
        };
        let vocabulary = Vocabulary {
            file: file.clone(),
            model: name,
            bos: tokens.named(&config, "bos_token").or(id(trainer.bos, 1)),
            eos: tokens.named(&config, "eos_token").or(id(trainer.eos, 2)),
            unknown: id(trainer.unknown, 0),
            add_bos: Some(config["add_bos_token"].as_bool().unwrap_or(true)),
            add_space_prefix: Some(normalizer.add_dummy_prefix.unwrap_or(true)),
            remove_extra_spaces: Some(removes_spaces),
            charsmap: normalizer.charsmap,
            also_end: ends.into_iter().filter(|&id| (id as usize) < count).collect(),
            tokens: tokens.texts.iter().map(String::as_str).collect(),
            token_types: Some(tokens.kinds),
            scores: Some(scores),
            ..Vocabulary::default()
        };
        Self::new(&vocabulary, algorithm)
    }
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
        let words =
            both(|model| model.trainer = Some(TrainerSpec { model_type: Some(3), ..TrainerSpec::default() }));
        assert!(words.1.unwrap_err().to_string().contains("another kind than BPE"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TOKENIZER_MODEL), b"\xff\xff").unwrap();
        let error =
            Tokenizer::from_checkpoint(&Checkpoint::without_weights(folder.path())).unwrap_err().to_string();
        assert!(error.contains(TOKENIZER_MODEL), "{error}");
    }
}
