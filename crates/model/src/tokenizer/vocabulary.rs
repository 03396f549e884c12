//! The tokenizer's metadata as it stands in a GGUF file, and what is checked before anything is built from
//! it.

use std::sync::Arc;

use super::{byte_level, byte_strings::ByteStrings, error::TokenizerError, text_index::TextIndex};
use crate::{
    TokenId,
    gguf::{GgufError, GgufFile},
};

/// Keys of the metadata, as they are named in errors.
pub(super) mod field {
    pub(in super::super) const MODEL: &str = "tokenizer.ggml.model";
    pub(in super::super) const PRE: &str = "tokenizer.ggml.pre";
    pub(in super::super) const TOKENS: &str = "tokenizer.ggml.tokens";
    pub(in super::super) const SCORES: &str = "tokenizer.ggml.scores";
    pub(in super::super) const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
    pub(in super::super) const MERGES: &str = "tokenizer.ggml.merges";
    pub(in super::super) const BOS: &str = "tokenizer.ggml.bos_token_id";
    pub(in super::super) const EOS: &str = "tokenizer.ggml.eos_token_id";
    pub(in super::super) const EOT: &str = "tokenizer.ggml.eot_token_id";
    pub(in super::super) const EOM: &str = "tokenizer.ggml.eom_token_id";
    pub(in super::super) const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
    pub(in super::super) const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
    pub(in super::super) const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
    pub(in super::super) const REMOVE_EXTRA_SPACES: &str = "tokenizer.ggml.remove_extra_whitespaces";
    pub(in super::super) const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
}

/// The metadata that a tokenizer is built from: read, not yet trusted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vocabulary<'a> {
    /// The file's name, for errors.
    pub(crate) file: String,
    /// `gpt2` and `gemma4` (BPE by a list of merges), `llama` (SentencePiece's BPE) or `t5` (its Unigram).
    pub(crate) model: &'a str,
    /// How a vocabulary with a list of merges cuts words.
    pub(crate) pre: Option<&'a str>,
    /// Text of each token.
    pub(crate) tokens: Vec<&'a str>,
    /// Type of each token; all normal where missing.
    pub(crate) token_types: Option<Vec<i32>>,
    /// Score of each token (SentencePiece).
    pub(crate) scores: Option<Vec<f32>>,
    /// Pairs `left right`, by rank (byte-level BPE).
    pub(crate) merges: Option<Vec<&'a str>>,
    /// Beginning of sequence.
    pub(crate) bos: Option<TokenId>,
    /// End of sequence.
    pub(crate) eos: Option<TokenId>,
    /// End of turn.
    pub(crate) eot: Option<TokenId>,
    /// End of message.
    pub(crate) eom: Option<TokenId>,
    /// Others that end an answer.
    pub(crate) also_end: Vec<TokenId>,
    /// Stands for text that no other token spells (SentencePiece).
    pub(crate) unknown: Option<TokenId>,
    /// Whether prompts begin with `bos`.
    pub(crate) add_bos: Option<bool>,
    /// Whether text is encoded as if a space stood before it (SentencePiece).
    pub(crate) add_space_prefix: Option<bool>,
    /// Whether of several spaces one is kept, and none at the ends (Unigram).
    pub(crate) remove_extra_spaces: Option<bool>,
    /// What is written for what, as SentencePiece compiles it (Unigram).
    pub(crate) charsmap: Option<Vec<u8>>,
}

/// What a token is for. The numbers are those of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A piece of text.
    Normal = 1,
    /// Stands for text that no token spells.
    Unknown = 2,
    /// Structure, such as the end of a turn: never made from plain text.
    Control = 3,
    /// A piece of text that is always one token.
    UserDefined = 4,
    /// A placeholder.
    Unused = 5,
    /// One byte, spelt `<0x0A>`.
    Byte = 6,
}

impl TokenKind {
    /// Whether the token carries structure and not text.
    pub(super) fn is_special(self) -> bool {
        matches!(self, Self::Unknown | Self::Control)
    }

    /// Whether merging may produce the token from plain text.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Normal | Self::UserDefined | Self::Unused)
    }
}

/// How the tokens spell text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Bytes in the alphabet of [`byte_level`].
    ByteLevel,
    /// UTF-8 with `▁` for a space.
    SentencePiece,
}

/// What a space looks like in a SentencePiece vocabulary.
pub(super) const SENTENCE_PIECE_SPACE: &str = "▁";

/// Tokens that end an answer, whatever ids the file names: chat models often name only one of theirs.
pub(super) const END_OF_GENERATION: [&str; 23] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|end_of_msg|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    // Fill-in-the-middle models go on to another file instead of stopping.
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|fim_repo|>",
    "<|file_sep|>",
    "<reponame>",
];

impl<'a> Vocabulary<'a> {
    /// Reads the metadata of a file.
    pub(super) fn from_gguf(file: &'a GgufFile) -> Result<Self, GgufError> {
        let metadata = file.metadata();
        Ok(Self {
            file: file.name().to_owned(),
            model: metadata.require_str(field::MODEL)?,
            pre: metadata.str(field::PRE)?,
            tokens: metadata.require_strings(field::TOKENS)?.iter().collect(),
            token_types: metadata.i32s(field::TOKEN_TYPE)?,
            scores: metadata.f32s(field::SCORES)?.map(<[f32]>::to_vec),
            merges: metadata.strings(field::MERGES)?.map(|merges| merges.iter().collect()),
            bos: metadata.u32(field::BOS)?,
            eos: metadata.u32(field::EOS)?,
            eot: metadata.u32(field::EOT)?,
            eom: metadata.u32(field::EOM)?,
            also_end: Vec::new(),
            unknown: metadata.u32(field::UNKNOWN)?,
            add_bos: metadata.bool(field::ADD_BOS)?,
            add_space_prefix: metadata.bool(field::ADD_SPACE_PREFIX)?,
            remove_extra_spaces: metadata.bool(field::REMOVE_EXTRA_SPACES)?,
            charsmap: metadata.u8s(field::CHARSMAP)?.map(<[u8]>::to_vec),
        })
    }
}

impl Vocabulary<'_> {
    /// An error about one field of this file.
    pub(super) fn invalid(&self, field: &'static str, problem: impl Into<String>) -> TokenizerError {
        TokenizerError::Invalid { file: self.file.clone(), field, problem: problem.into() }
    }

    /// Bytes of the longest token's text.
    pub(super) fn longest(&self) -> usize {
        self.tokens.iter().map(|text| text.len()).max().unwrap_or(0)
    }

    /// Whether the file itself calls the token a control token.
    pub(super) fn is_listed_as_control(&self, id: usize) -> bool {
        self.token_types.as_ref().and_then(|types| types.get(id)) == Some(&(TokenKind::Control as i32))
    }

    /// The score of each token.
    pub(super) fn scores(&self) -> Result<&[f32], TokenizerError> {
        let scores = self.scores.as_deref().ok_or_else(|| {
            self.invalid(field::SCORES, "missing; a SentencePiece vocabulary needs a score for each token")
        })?;
        if scores.len() != self.tokens.len() {
            let problem = format!("{} scores for {} tokens", scores.len(), self.tokens.len());
            return Err(self.invalid(field::SCORES, problem));
        }
        match scores.iter().position(|score| score.is_nan()) {
            Some(id) => Err(self.invalid(field::SCORES, format!("the score of token {id} is not a number"))),
            None => Ok(scores),
        }
    }

    /// The token of each byte, where there is one.
    pub(super) fn known_bytes(&self, kinds: &[TokenKind]) -> [Option<TokenId>; 256] {
        let mut bytes = [None; 256];
        for ((id, text), kind) in (0..).zip(&self.tokens).zip(kinds) {
            if *kind == TokenKind::Byte
                && let Some(byte) = byte_token(text)
            {
                bytes[usize::from(byte)] = Some(id);
            }
        }
        bytes
    }

    /// What each byte of a character that is no token becomes: the byte's token, or else the unknown one.
    pub(super) fn byte_tokens(&self, kinds: &[TokenKind]) -> Result<Box<[TokenId; 256]>, TokenizerError> {
        let mut complete = Box::new([0; 256]);
        for (byte, (id, known)) in complete.iter_mut().zip(self.known_bytes(kinds)).enumerate() {
            *id = known.or(self.unknown).ok_or_else(|| {
                let problem = format!("neither byte token <0x{byte:02X}> nor an unknown token");
                self.invalid(field::TOKENS, problem)
            })?;
        }
        Ok(complete)
    }

    /// The id of each token's text.
    pub(super) fn ids_by_text(&self) -> Result<TextIndex, TokenizerError> {
        if self.tokens.is_empty() {
            return Err(self.invalid(field::TOKENS, "the list is empty"));
        }
        if TokenId::try_from(self.tokens.len()).is_err() {
            return Err(self.invalid(field::TOKENS, "there are more tokens than token ids"));
        }
        if u32::try_from(self.tokens.iter().map(|text| text.len()).sum::<usize>()).is_err() {
            return Err(self.invalid(field::TOKENS, "the tokens are longer than 4 GiB together"));
        }
        TextIndex::new(&self.tokens).map_err(|[earlier, id]| {
            let text = excerpt(self.tokens[id as usize]);
            self.invalid(field::TOKENS, format!("tokens {earlier} and {id} are both {text}"))
        })
    }

    /// The id of each token's text, of those tokens that are `wanted`.
    pub(super) fn ids_of(&self, wanted: impl Fn(usize) -> bool) -> Result<TextIndex, TokenizerError> {
        let texts = self.tokens.iter().enumerate();
        let tokens = texts.map(|(id, text)| if wanted(id) { *text } else { "" }).collect();
        Self { file: self.file.clone(), tokens, ..Vocabulary::default() }.ids_by_text()
    }

    /// The kind of each token. Those that end an answer are control tokens, even where a file calls them
    /// something else: text that a user types must not end a turn.
    pub(super) fn kinds(
        &self,
        spelling: Spelling,
        end_of_generation: &[TokenId],
    ) -> Result<Vec<TokenKind>, TokenizerError> {
        let mut kinds = match &self.token_types {
            Some(types) if types.len() != self.tokens.len() => {
                let problem = format!("{} types for {} tokens", types.len(), self.tokens.len());
                return Err(self.invalid(field::TOKEN_TYPE, problem));
            }
            Some(types) => types
                .iter()
                .enumerate()
                .map(|(id, &number)| {
                    Ok(match number {
                        0 | 1 => TokenKind::Normal,
                        2 => TokenKind::Unknown,
                        3 => TokenKind::Control,
                        4 => TokenKind::UserDefined,
                        5 => TokenKind::Unused,
                        6 if byte_token(self.tokens[id]).is_none() => {
                            let text = excerpt(self.tokens[id]);
                            let problem =
                                format!("token {id} is a byte, but {text} is not of the form <0x0A>");
                            return Err(self.invalid(field::TOKEN_TYPE, problem));
                        }
                        6 => TokenKind::Byte,
                        _ => {
                            let problem = format!("token {id} has type {number}; known are 0 to 6");
                            return Err(self.invalid(field::TOKEN_TYPE, problem));
                        }
                    })
                })
                .collect::<Result<Vec<_>, _>>()?,
            None => self
                .tokens
                .iter()
                .map(|text| match spelling {
                    Spelling::SentencePiece if byte_token(text).is_some() => TokenKind::Byte,
                    _ => TokenKind::Normal,
                })
                .collect(),
        };
        for &id in end_of_generation {
            kinds[id as usize] = TokenKind::Control;
        }
        Ok(kinds)
    }

    /// The tokens that end an answer, ascending.
    pub(super) fn end_of_generation(&self, ids: &TextIndex) -> Vec<TokenId> {
        let by_text = END_OF_GENERATION.iter().filter_map(|text| ids.get(text));
        let mut end: Vec<TokenId> = by_text
            .chain([self.eos, self.eot, self.eom].into_iter().flatten())
            .chain(self.also_end.clone())
            .collect();
        // Models that end with <|return|> or <|call|>, or <|flush|> or <|calls|>, write <|end|> between the messages of one
        // answer.
        let knows = |texts: [&str; 2]| texts.into_iter().all(|text| ids.get(text).is_some());
        if knows(["<|return|>", "<|call|>"]) || knows(["<|flush|>", "<|calls|>"]) {
            end.retain(|id| self.tokens.get(*id as usize) != Some(&"<|end|>"));
        }
        end.sort_unstable();
        end.dedup();
        end
    }

    /// Checks that the ids that the file names exist.
    pub(super) fn check_special_ids(&self) -> Result<(), TokenizerError> {
        let named = [
            (field::BOS, self.bos),
            (field::EOS, self.eos),
            (field::EOT, self.eot),
            (field::EOM, self.eom),
            (field::UNKNOWN, self.unknown),
        ];
        for (field, id) in named {
            if let Some(id) = id
                && id as usize >= self.tokens.len()
            {
                let problem = format!("id {id} is outside the vocabulary of {} tokens", self.tokens.len());
                return Err(self.invalid(field, problem));
            }
        }
        Ok(())
    }
}

/// The byte that a token of the form `<0x0A>` stands for.
pub(super) fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hexadecimal.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// `text`, quoted and cut to a length that fits an error message.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 48;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

/// The bytes and the kind of every token, shared by a tokenizer and its streams.
#[derive(Debug)]
pub(super) struct Pieces {
    bytes: ByteStrings,
    kinds: Vec<TokenKind>,
    /// The tokens that carry structure and not text, ascending.
    special: Vec<TokenId>,
}

impl Pieces {
    pub(super) fn new(tokens: &[&str], kinds: Vec<TokenKind>, spelling: Spelling) -> Arc<Self> {
        // No piece is longer than the text of its token.
        let capacity = tokens.iter().map(|text| text.len()).sum();
        let mut bytes = ByteStrings::with_capacity(tokens.len(), capacity);
        for (text, kind) in tokens.iter().zip(&kinds) {
            match (kind, spelling) {
                (TokenKind::Byte, _) => bytes.push(byte_token(text)),
                (TokenKind::Normal | TokenKind::Unused, Spelling::SentencePiece) => {
                    bytes.push(text.replace(SENTENCE_PIECE_SPACE, " ").bytes());
                }
                (TokenKind::Normal | TokenKind::Unused, Spelling::ByteLevel) => {
                    match byte_level::read(text) {
                        Some(read) => bytes.push(read),
                        None => bytes.push(text.bytes()),
                    }
                }
                (TokenKind::Unknown | TokenKind::Control | TokenKind::UserDefined, _) => {
                    bytes.push(text.bytes());
                }
            }
        }
        bytes.shrink();
        let special = (0..).zip(&kinds).filter(|(_, kind)| kind.is_special()).map(|(id, _)| id).collect();
        Arc::new(Self { bytes, kinds, special })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The token's bytes; none for an id outside the vocabulary.
    pub(super) fn bytes(&self, id: TokenId) -> &[u8] {
        self.bytes.get(id as usize).unwrap_or_default()
    }

    /// Bytes of the longest token.
    pub(super) fn longest(&self) -> usize {
        (0..self.len()).filter_map(|id| self.bytes.get(id)).map(<[u8]>::len).max().unwrap_or(0)
    }

    /// Whether the token carries structure and not text.
    pub(super) fn is_special(&self, id: TokenId) -> bool {
        self.kinds.get(id as usize).is_some_and(|kind| kind.is_special())
    }

    /// The tokens that carry structure and not text, ascending.
    pub(super) fn special(&self) -> &[TokenId] {
        &self.special
    }
}
