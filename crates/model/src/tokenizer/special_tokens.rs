//! Tokens that are found in the text as a whole, before anything is merged: control and user-defined tokens.

use aho_corasick::{AhoCorasick, BuildError, MatchKind};

use super::vocabulary::TokenKind;
use crate::TokenId;

/// A stretch of the text to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment<'t> {
    /// Text between special tokens, never empty.
    Text(&'t str),
    /// A token that was found whole.
    Token(TokenId),
}

/// Finds the tokens that are matched whole.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    /// User-defined tokens: matched in any text.
    always: Matcher,
    /// These and the control tokens: matched where the caller vouches for the text.
    parsed: Matcher,
}

impl SpecialTokens {
    pub(super) fn new(tokens: &[&str], kinds: &[TokenKind]) -> Result<Self, BuildError> {
        Ok(Self {
            always: Matcher::new(tokens, kinds, |kind| kind == TokenKind::UserDefined)?,
            parsed: Matcher::new(tokens, kinds, |kind| kind == TokenKind::UserDefined || kind.is_special())?,
        })
    }

    /// Cuts `text` at its special tokens: the leftmost first, of several that begin there the longest.
    pub(super) fn split<'t>(&self, text: &'t str, parse_special: bool) -> Vec<Fragment<'t>> {
        if parse_special { self.parsed.split(text) } else { self.always.split(text) }
    }
}

#[derive(Debug)]
struct Matcher {
    automaton: AhoCorasick,
    ids: Vec<TokenId>,
}

impl Matcher {
    fn new(
        tokens: &[&str],
        kinds: &[TokenKind],
        wanted: impl Fn(TokenKind) -> bool,
    ) -> Result<Self, BuildError> {
        let (ids, texts): (Vec<TokenId>, Vec<&str>) = (0..)
            .zip(tokens.iter().zip(kinds))
            .filter(|(_, (text, kind))| !text.is_empty() && wanted(**kind))
            .map(|(id, (text, _))| (id, *text))
            .unzip();
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts)?;
        Ok(Self { automaton, ids })
    }

    fn split<'t>(&self, text: &'t str) -> Vec<Fragment<'t>> {
        let mut fragments = Vec::new();
        let mut covered = 0;
        for found in self.automaton.find_iter(text) {
            if covered < found.start() {
                fragments.push(Fragment::Text(&text[covered..found.start()]));
            }
            fragments.push(Fragment::Token(self.ids[found.pattern().as_usize()]));
            covered = found.end();
        }
        if covered < text.len() {
            fragments.push(Fragment::Text(&text[covered..]));
        }
        fragments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_tokens_are_found_only_where_the_text_is_vouched_for() {
        let kinds = [TokenKind::Normal, TokenKind::Control, TokenKind::UserDefined, TokenKind::UserDefined];
        let special = SpecialTokens::new(&["a", "<|end|>", "\n", "\n\n"], &kinds).unwrap();
        let text = "a\n\n\n<|end|>";
        assert_eq!(
            special.split(text, false),
            [Fragment::Text("a"), Fragment::Token(3), Fragment::Token(2), Fragment::Text("<|end|>")]
        );
        assert_eq!(
            special.split(text, true),
            [Fragment::Text("a"), Fragment::Token(3), Fragment::Token(2), Fragment::Token(1)]
        );
    }

    #[test]
    fn without_special_tokens_the_text_is_one_fragment() {
        let special = SpecialTokens::new(&["a", ""], &[TokenKind::Normal, TokenKind::Control]).unwrap();
        assert_eq!(special.split("aé", true), [Fragment::Text("aé")]);
        assert_eq!(special.split("", true), []);
    }
}
