//! Text to tokens and back, from the `tokenizer.ggml.*` metadata of a GGUF file or from the files of a checkpoint.
//!
//! In GGUF files, three kinds of vocabulary: BPE by a list of merges (`gpt2`, of bytes; `gemma4`, of characters), SentencePiece's
//! BPE (`llama`; merged by score, with byte fallback) and its Unigram (`t5`). The ids are those of `llama.cpp` for the same
//! file and text.
//!
//! In checkpoints, the first of `tokenizer.json`, `tokenizer.model` (SentencePiece), `tekken.json` (Mistral), `tiktoken.model`
//! (Kimi) and `*.tiktoken` (Qwen 1).
//!
//! Control tokens, such as the end of a turn, are never made from plain text: only
//! [`EncodeOptions::parse_special`], for text that the caller vouches for (a rendered chat template), turns
//! their names into tokens.

mod added_tokens;
mod algorithm;
mod byte_level;
mod byte_pair;
mod byte_strings;
mod charsmap;
pub(crate) mod checkpoint_files;
mod error;
mod from_checkpoint;
#[cfg(test)]
mod golden_tests;
mod merging;
mod model_file;
mod pair_queues;
mod pre_tokenizer;
mod published;
mod ranked;
mod ranked_file;
mod reach;
mod sentence_piece;
mod special_tokens;
mod stream;
mod tekken;
#[cfg(test)]
mod tests;
mod text_index;
mod unigram;
mod vocabulary;
mod word_splits;

use std::sync::Arc;

pub use error::{EncodeError, TokenizerError};
use lookahead_trie::vocabulary_fingerprint;
pub use stream::{DecodeOptions, TokenStream};

use self::{
    algorithm::Algorithm,
    byte_pair::BytePair,
    published::Published,
    ranked::Ranked,
    reach::Reach,
    sentence_piece::SentencePiece,
    special_tokens::{Fragment, SpecialTokens},
    unigram::Unigram,
    vocabulary::{Pieces, Spelling, TokenKind, Vocabulary, field},
};
use crate::{TokenId, gguf::GgufFile};

/// How text is turned into tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Whether the text is the beginning of a prompt: the beginning-of-sequence token is put before it where
    /// the model asks for one, unless the text already begins with it (many chat templates write it).
    pub add_bos: bool,
    /// Whether the names of control tokens in the text become those tokens. For rendered chat templates;
    /// never for text that a user typed.
    pub parse_special: bool,
}

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    pieces: Arc<Pieces>,
    encoder: Encoder,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    /// Ascending.
    end_of_generation: Vec<TokenId>,
    add_bos: bool,
    /// How much of a text one token stands for, where that is known.
    reach: Option<Reach>,
    fingerprint: u64,
}

/// How text becomes tokens.
#[derive(Debug)]
enum Encoder {
    /// Special tokens are found, and the text between them is cut into tokens.
    Ours(Box<SpecialTokens>, Segmenter),
    /// As a checkpoint's own tokenizer does it.
    Published(Box<Published>),
}

/// How the text between special tokens becomes tokens.
#[derive(Debug)]
enum Segmenter {
    BytePair(Box<BytePair>),
    Ranked(Box<Ranked>),
    SentencePiece(SentencePiece),
    Unigram(Box<Unigram>),
}

impl Segmenter {
    /// Appends the ids of `text`. `begins` says that nothing, or a special token, stands before it.
    fn encode(&self, text: &str, begins: bool, ids: &mut Vec<TokenId>) {
        match self {
            Self::BytePair(model) => model.encode(text, ids),
            Self::Ranked(model) => model.encode(text, ids),
            Self::SentencePiece(model) => model.encode(text, begins, ids),
            Self::Unigram(model) => model.encode(text, begins, ids),
        }
    }

    /// Whether text is encoded as if a space stood before it.
    fn adds_space_prefix(&self) -> bool {
        match self {
            Self::BytePair(_) | Self::Ranked(_) => false,
            Self::SentencePiece(model) => model.adds_space_prefix(),
            Self::Unigram(model) => model.adds_space_prefix(),
        }
    }
}

impl Tokenizer {
    /// Builds the tokenizer of a model file.
    ///
    /// # Errors
    /// If a field of the metadata is missing, has the wrong type or makes no sense.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::from_gguf(file)?;
        let algorithm = Algorithm::of(&vocabulary)?;
        Self::new(&vocabulary, algorithm)
    }

    fn new(vocabulary: &Vocabulary<'_>, algorithm: Algorithm) -> Result<Self, TokenizerError> {
        let spelling = algorithm.spelling();
        let ids = match algorithm {
            // Names of control tokens may be texts of others as well.
            Algorithm::Ranked { .. } => vocabulary.ids_of(|id| vocabulary.is_listed_as_control(id))?,
            _ => vocabulary.ids_by_text()?,
        };
        vocabulary.check_special_ids()?;
        let end_of_generation = vocabulary.end_of_generation(&ids);
        let kinds = vocabulary.kinds(spelling, &end_of_generation)?;
        let special = |kinds: &[TokenKind]| {
            SpecialTokens::new(&vocabulary.tokens, kinds)
                .map_err(|error| vocabulary.invalid(field::TOKENS, error.to_string()))
        };
        let (special, segmenter, adds_bos) = match algorithm {
            Algorithm::BytePair(words) => {
                let model = BytePair::new(vocabulary, &kinds, ids, words)?;
                (special(&kinds)?, Segmenter::BytePair(Box::new(model)), words.adds_bos)
            }
            Algorithm::Ranked { words, composes } => {
                let model = Ranked::new(vocabulary, &kinds, words, composes)?;
                (special(&kinds)?, Segmenter::Ranked(Box::new(model)), words.adds_bos)
            }
            Algorithm::SentencePiece => {
                let model = SentencePiece::new(vocabulary, &kinds, ids)?;
                (special(&kinds)?, Segmenter::SentencePiece(model), true)
            }
            Algorithm::Unigram => {
                let model = Unigram::new(vocabulary, &kinds)?;
                // The others are part of the text: what stands around them is normalised with them.
                let control =
                    kinds.iter().map(|kind| if kind.is_special() { *kind } else { TokenKind::Normal });
                (special(&control.collect::<Vec<_>>())?, Segmenter::Unigram(Box::new(model)), false)
            }
        };
        let encoder = Encoder::Ours(Box::new(special), segmenter);
        Ok(Self::assemble(vocabulary, spelling, kinds, end_of_generation, encoder, adds_bos))
    }

    fn assemble(
        vocabulary: &Vocabulary<'_>,
        spelling: Spelling,
        kinds: Vec<TokenKind>,
        end_of_generation: Vec<TokenId>,
        encoder: Encoder,
        adds_bos: bool,
    ) -> Self {
        let pieces = Pieces::new(&vocabulary.tokens, kinds, spelling);
        let reach = match &encoder {
            Encoder::Published(published) => published.reach.clone(),
            Encoder::Ours(_, segmenter) => match segmenter {
                // A space may be written as the three bytes of its sign.
                Segmenter::SentencePiece(_) => Some(Reach::new(vocabulary.longest(), Vec::new())),
                Segmenter::BytePair(model) if spelling == Spelling::SentencePiece => {
                    Some(Reach::new(vocabulary.longest(), model.lost()))
                }
                Segmenter::BytePair(model) => Some(Reach::new(pieces.longest(), model.lost())),
                Segmenter::Ranked(model) if model.composes => Some(Reach::composing(pieces.longest())),
                Segmenter::Ranked(_) => Some(Reach::new(pieces.longest(), Vec::new())),
                // Rules may leave out anything.
                Segmenter::Unigram(_) => None,
            },
        };
        Self {
            pieces,
            reach,
            encoder,
            bos: vocabulary.bos,
            eos: vocabulary.eos,
            end_of_generation,
            add_bos: vocabulary.add_bos.unwrap_or(adds_bos),
            fingerprint: vocabulary_fingerprint(&vocabulary.tokens),
        }
    }

    /// A number of tokens that these texts together do not have fewer than, however they are written: known before they are encoded.
    /// It is 0 where nothing is known.
    pub fn fewest_tokens<'t>(&self, texts: impl IntoIterator<Item = &'t str>) -> usize {
        self.reach.as_ref().map_or(0, |reach| reach.fewest_tokens(texts))
    }

    /// The ids of `text`. An end-of-sequence token is never added, as a prompt is there to be continued.
    ///
    /// # Errors
    /// If a published tokenizer gives up on the text; those of model files take any.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<TokenId>, EncodeError> {
        self.encode_parts([text], options)
    }

    /// The ids of a text in parts, with no token across two of them: a name that is cut stays text.
    pub(crate) fn encode_parts<'t>(
        &self,
        parts: impl IntoIterator<Item = &'t str>,
        options: EncodeOptions,
    ) -> Result<Vec<TokenId>, EncodeError> {
        let mut ids = Vec::new();
        match &self.encoder {
            Encoder::Published(tokenizer) => {
                for part in parts {
                    tokenizer.encode(part, options.parse_special, &mut ids)?;
                }
            }
            Encoder::Ours(special, segmenter) => {
                let mut begins = true;
                for fragment in parts.into_iter().flat_map(|part| special.split(part, options.parse_special))
                {
                    match fragment {
                        Fragment::Token(id) => ids.push(id),
                        Fragment::Text(text) => segmenter.encode(text, begins, &mut ids),
                    }
                    begins = matches!(fragment, Fragment::Token(_));
                }
            }
        }
        if let Some(bos) = self.bos
            && options.add_bos
            && self.add_bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The text of `ids`. Bytes that are no UTF-8 come out as U+FFFD.
    pub fn decode(&self, ids: &[TokenId], options: DecodeOptions) -> String {
        let mut stream = self.stream(options);
        let mut text = String::with_capacity(ids.len() * 4);
        for &id in ids {
            text.push_str(stream.push(id));
        }
        text.push_str(stream.finish());
        text
    }

    /// A stream that turns tokens into text as they come.
    pub fn stream(&self, options: DecodeOptions) -> TokenStream {
        let prefixed = match &self.encoder {
            Encoder::Ours(_, segmenter) => segmenter.adds_space_prefix(),
            Encoder::Published(tokenizer) => tokenizer.adds_space_prefix,
        };
        TokenStream::new(Arc::clone(&self.pieces), options.show_special, prefixed && !options.continuation)
    }

    /// The bytes that a token stands for, a part of a character perhaps. For a control token its name;
    /// nothing for an id outside the vocabulary.
    pub fn token_bytes(&self, id: TokenId) -> &[u8] {
        self.pieces.bytes(id)
    }

    /// Whether the token has a name and no text of its own: decoding shows nothing of it unless it is asked to.
    pub fn is_control(&self, id: TokenId) -> bool {
        self.pieces.is_special(id)
    }

    /// The token that a prompt begins with, where the model asks for one.
    pub fn beginning(&self) -> Option<TokenId> {
        self.bos.filter(|_| self.add_bos)
    }

    /// The tokens that end an answer, ascending: end of sequence, turn or message, and others known by their names.
    pub fn end_of_generation(&self) -> &[TokenId] {
        &self.end_of_generation
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<TokenId> {
        self.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<TokenId> {
        self.eos
    }

    /// Number of tokens. A model's logits may be wider: embedding matrices are often padded.
    pub fn vocabulary_size(&self) -> usize {
        self.pieces.len()
    }

    /// A hash over the token list, the same in every process: tokenizers with equal fingerprints give ids the
    /// same meaning.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}
