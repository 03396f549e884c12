//! BPE by rank: words cut by the pre-tokenizer, byte by byte or character by character, merged by the file's list of
//! merges.

use std::{cmp::Reverse, hash::BuildHasher as _};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{
    byte_level::{self, ALPHABET},
    error::TokenizerError,
    merging::Merger,
    pre_tokenizer::{PreTokenizer, Split, cut},
    text_index::TextIndex,
    vocabulary::{SENTENCE_PIECE_SPACE, TokenKind, Vocabulary, excerpt, field},
};
use crate::TokenId;

#[derive(Debug)]
pub(super) struct BytePair {
    splits: Vec<Split>,
    symbols: Symbols,
    merges: Merges,
    /// The tokens that are taken whole where they are a word, in families that do so.
    whole_words: Option<TextIndex>,
}

/// What a word consists of before its parts are merged.
#[derive(Debug)]
enum Symbols {
    /// The token of each byte; a byte without one gives nothing.
    Bytes(Box<[Option<TokenId>; 256]>),
    /// Characters, with a sign for spaces; of one that is no token its bytes.
    Characters { ids: TextIndex, bytes: Box<[TokenId; 256]> },
}

impl BytePair {
    pub(super) fn new(
        vocabulary: &Vocabulary<'_>,
        kinds: &[TokenKind],
        mut ids: TextIndex,
        words: &PreTokenizer,
    ) -> Result<Self, TokenizerError> {
        let merges = Merges::new(vocabulary, kinds, &ids)?;
        let splits = words.compile().map_err(|error| vocabulary.invalid(field::PRE, error.to_string()))?;
        ids.retain(|id| kinds[id as usize].is_text());
        if words.spells_characters {
            let symbols = Symbols::Characters { ids, bytes: vocabulary.byte_tokens(kinds)? };
            return Ok(Self { splits, symbols, merges, whole_words: None });
        }
        let bytes = Box::new(ALPHABET.map(|character| ids.get(character.encode_utf8(&mut [0; 4]))));
        let whole_words = words.whole_words_first.then_some(ids);
        Ok(Self { splits, symbols: Symbols::Bytes(bytes), merges, whole_words })
    }

    /// The bytes that no token has.
    pub(super) fn lost(&self) -> Vec<u8> {
        match &self.symbols {
            Symbols::Bytes(tokens) => {
                (0..=u8::MAX).filter(|&byte| tokens[usize::from(byte)].is_none()).collect()
            }
            Symbols::Characters { .. } => Vec::new(),
        }
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<TokenId>) {
        match &self.symbols {
            Symbols::Bytes(bytes) => self.encode_bytes(text, bytes, ids),
            Symbols::Characters { ids: index, bytes } => self.encode_characters(text, index, bytes, ids),
        }
    }

    fn encode_bytes(&self, text: &str, bytes: &[Option<TokenId>; 256], ids: &mut Vec<TokenId>) {
        let mut spelt = String::new();
        let mut merger = Merger::new();
        for (start, end) in cut(&self.splits, text) {
            let word = &text[start..end];
            if let Some(index) = &self.whole_words {
                spelt.clear();
                byte_level::spell(word, &mut spelt);
                if let Some(id) = index.get(&spelt) {
                    ids.push(id);
                    continue;
                }
            }
            let symbols = word.bytes().filter_map(|byte| bytes[usize::from(byte)]);
            ids.extend(merger.merge(symbols, |left, right| self.merges.find(left, right)));
        }
    }

    fn encode_characters(
        &self,
        text: &str,
        index: &TextIndex,
        bytes: &[TokenId; 256],
        ids: &mut Vec<TokenId>,
    ) {
        let spelt = text.replace(' ', SENTENCE_PIECE_SPACE);
        let mut merger = Merger::new();
        for (start, end) in cut(&self.splits, &spelt) {
            let word = &spelt[start..end];
            // Not every list of merges leads to the tokens of several line ends.
            if let Some(id) = index.get(word).filter(|_| word.starts_with('\n')) {
                ids.push(id);
                continue;
            }
            let mut symbols = Vec::with_capacity(word.len());
            let mut buffer = [0; 4];
            for character in word.chars() {
                let character: &str = character.encode_utf8(&mut buffer);
                match index.get(character) {
                    Some(id) => symbols.push(id),
                    None => symbols.extend(character.bytes().map(|byte| bytes[usize::from(byte)])),
                }
            }
            ids.extend(merger.merge(symbols.into_iter(), |left, right| self.merges.find(left, right)));
        }
    }
}

/// The pairs of tokens that may be merged.
#[derive(Debug)]
struct Merges {
    /// By rank: left, right, and what they are together.
    list: Vec<[TokenId; 3]>,
    /// Ranks, by left and right.
    ranks: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Merges {
    fn new(
        vocabulary: &Vocabulary<'_>,
        kinds: &[TokenKind],
        ids: &TextIndex,
    ) -> Result<Self, TokenizerError> {
        let invalid = |problem: String| vocabulary.invalid(field::MERGES, problem);
        let Some(listed) = &vocabulary.merges else {
            return Err(invalid("missing; a vocabulary of merged pairs needs its merges".to_owned()));
        };
        if u32::try_from(listed.len()).is_err() {
            return Err(invalid("there are more merges than ranks".to_owned()));
        }
        let mut merges = Self {
            list: Vec::with_capacity(listed.len()),
            ranks: HashTable::with_capacity(listed.len()),
            hasher: DefaultHashBuilder::default(),
        };
        let mut both = String::new();
        for (rank, merge) in listed.iter().enumerate() {
            let (left, right) = merge
                .split_once(' ')
                .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
                .ok_or_else(|| {
                    invalid(format!(
                        "merge {rank} is {}; expected two tokens with a space between",
                        excerpt(merge)
                    ))
                })?;
            both.clear();
            both.extend([left, right]);
            let id_of = |text: &str| {
                ids.get(text)
                    .ok_or_else(|| invalid(format!("merge {rank} uses {}, which is no token", excerpt(text))))
            };
            let used = [id_of(left)?, id_of(right)?, id_of(&both)?];
            // Plain text must not become a control token, not even by merging.
            if used.iter().all(|id| kinds[*id as usize].is_text()) {
                merges.push(used);
            }
        }
        Ok(merges)
    }

    /// Adds a merge behind the others. One that stands there already keeps its rank.
    fn push(&mut self, [left, right, both]: [TokenId; 3]) {
        if self.find(left, right).is_none() {
            let hash = |[left, right, _]: [TokenId; 3]| self.hasher.hash_one((left, right));
            let rank = self.list.len() as u32;
            self.list.push([left, right, both]);
            self.ranks.insert_unique(hash([left, right, both]), rank, |rank| hash(self.list[*rank as usize]));
        }
    }

    /// What two neighbours become, the lowest rank first.
    fn find(&self, left: TokenId, right: TokenId) -> Option<(Reverse<u32>, TokenId)> {
        let rank = *self.ranks.find(self.hasher.hash_one((left, right)), |rank| {
            let [l, r, _] = self.list[*rank as usize];
            (l, r) == (left, right)
        })?;
        let [.., both] = self.list[rank as usize];
        Some((Reverse(rank), both))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use lookahead_fixtures::{TinyModel, tiny_model};
    use proptest::prelude::*;
    use tokenizers::{
        Model as _,
        models::bpe::{BPE, Vocab},
    };

    use super::{super::vocabulary::Spelling, *};
    use crate::gguf::GgufFile;

    /// Another implementation of the same merging, over spelt words.
    fn reference(vocabulary: &Vocabulary<'_>, kinds: &[TokenKind], whole_words_first: bool) -> BPE {
        let texts = (0..).zip(&vocabulary.tokens).filter(|(id, _)| kinds[*id as usize].is_text());
        let merges = vocabulary.merges.iter().flatten().filter_map(|merge| merge.split_once(' '));
        BPE::builder()
            .vocab_and_merges(
                texts.map(|(id, text)| ((*text).to_owned(), id)).collect::<Vocab>(),
                merges.map(|(left, right)| (left.to_owned(), right.to_owned())).collect(),
            )
            .ignore_merges(whole_words_first)
            .cache_capacity(0)
            .build()
            .unwrap()
    }

    /// The small real vocabulary of the tests' models.
    static FILE: LazyLock<GgufFile> = LazyLock::new(|| {
        let model = TinyModel { architecture: "llama", layers: 1, ..TinyModel::default() };
        GgufFile::from_bytes("tiny.gguf", tiny_model(&model)).unwrap()
    });

    fn ids_of_both(vocabulary: &Vocabulary<'_>, words: &PreTokenizer, text: &str) -> [Vec<TokenId>; 2] {
        let ids = vocabulary.ids_by_text().unwrap();
        let ends = vocabulary.end_of_generation(&ids);
        let kinds = vocabulary.kinds(Spelling::ByteLevel, &ends).unwrap();
        let ours = BytePair::new(vocabulary, &kinds, ids, words).unwrap();
        let theirs = reference(vocabulary, &kinds, words.whole_words_first);
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        ours.encode(text, &mut found);
        for (start, end) in cut(&ours.splits, text) {
            let mut spelt = String::new();
            byte_level::spell(&text[start..end], &mut spelt);
            expected.extend(theirs.tokenize(&spelt).unwrap().into_iter().map(|token| token.id));
        }
        [found, expected]
    }

    proptest! {
        #[test]
        fn ids_are_those_of_another_implementation_on_a_real_vocabulary(
            parts in prop::collection::vec(prop_oneof![
                any::<String>(),
                "[ a-z]{0,40}",
                "(for|return|the|ing|tion|self|    |[0-9]{1,3}|[(){};=.,]){0,12}",
            ], 0..6),
            name in prop::sample::select(vec!["smollm", "llama-bpe"]),
        ) {
            let vocabulary = Vocabulary::from_gguf(&FILE).unwrap();
            let words = PreTokenizer::for_name(Some(name));
            let [found, expected] = ids_of_both(&vocabulary, words, &parts.concat());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn ids_are_those_of_another_implementation_on_random_vocabularies(
            // Each merge joins two of the tokens before it; bytes beyond `a` to `d` are no tokens.
            joins in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..30),
            order in any::<prop::sample::Index>(),
            text in "[a-e]{0,60}",
            name in prop::sample::select(vec!["smollm", "llama-bpe"]),
        ) {
            let mut tokens: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
            let mut merges: Vec<String> = Vec::new();
            for (left, right) in joins {
                let (left, right) = (left.get(&tokens), right.get(&tokens));
                let (both, merge) = (format!("{left}{right}"), format!("{left} {right}"));
                if !merges.contains(&merge) && both.len() < 20 {
                    merges.push(merge);
                    if !tokens.contains(&both) {
                        tokens.push(both);
                    }
                }
            }
            // Not only orders in which parts come before what they make.
            let turn = order.index(merges.len().max(1));
            merges.rotate_left(turn);
            let vocabulary = Vocabulary {
                tokens: tokens.iter().map(String::as_str).collect(),
                merges: Some(merges.iter().map(String::as_str).collect()),
                ..Vocabulary::default()
            };
            let [found, expected] = ids_of_both(&vocabulary, PreTokenizer::for_name(Some(name)), &text);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_merge_that_is_listed_twice_has_its_first_rank() {
        let vocabulary = Vocabulary {
            tokens: vec!["a", "b", "c", "ab", "bc"],
            merges: Some(vec!["a b", "b c", "a b"]),
            ..Vocabulary::default()
        };
        let words = PreTokenizer::for_name(Some("smollm"));
        let ids = vocabulary.ids_by_text().unwrap();
        let mut found = Vec::new();
        BytePair::new(&vocabulary, &[TokenKind::Normal; 5], ids, words).unwrap().encode("abc", &mut found);
        assert_eq!(found, [3, 2]);
    }
}
