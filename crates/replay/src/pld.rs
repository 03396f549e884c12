//! Prompt lookup decoding: what followed the last few tokens when they occurred before.

use lookahead_model::TokenId;
use lookahead_trie::DraftTree;

use crate::drafter::{Draft, ReplayDrafter};
use crate::stream::Stream;

/// The longest run of tokens that is looked up.
const LONGEST_MATCH: usize = 3;

/// Looks the last tokens, up to three, up in the prompt and the answer so far, and drafts a chain.
#[derive(Debug, Default)]
pub(crate) struct PromptLookupDrafter {
    context: Vec<TokenId>,
}

impl PromptLookupDrafter {
    /// What followed the longest match, the latest one.
    fn continuation(&self) -> &[TokenId] {
        let len = self.context.len();
        (1..=LONGEST_MATCH.min(len.saturating_sub(1)))
            .rev()
            .find_map(|length| {
                let (earlier, last) = (&self.context[..len - 1], &self.context[len - length..]);
                let at = earlier.windows(length).rposition(|window| window == last)?;
                Some(&self.context[at + length..])
            })
            .unwrap_or_default()
    }
}

impl ReplayDrafter for PromptLookupDrafter {
    fn begin(&mut self, prompt: &[TokenId]) {
        self.context.extend_from_slice(prompt);
    }

    fn draft(&mut self, budget: usize, tree: &mut DraftTree) {
        let Some(&root) = self.context.last() else { return };
        let mut draft = Draft::new(root);
        for (&token, parent) in self.continuation().iter().take(budget - 1).zip(0..) {
            draft.add(parent, token, 1.0);
        }
        *tree = draft.into_tree();
    }

    fn accept(&mut self, tokens: &[TokenId]) {
        self.context.extend_from_slice(tokens);
    }

    fn finish(&mut self) {
        self.context.clear();
    }

    fn warm_up(&mut self, _stream: &Stream) {}

    fn bytes(&self) -> usize {
        self.context.capacity() * size_of::<TokenId>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_match_goes_before_a_later_one() {
        let continuation =
            |context: &[TokenId]| PromptLookupDrafter { context: context.to_vec() }.continuation().to_vec();
        assert_eq!(continuation(&[1, 2, 3, 7, 3, 8, 2, 3]), [7, 3, 8, 2, 3]);
        assert_eq!(continuation(&[5, 3, 7, 3, 8, 2, 3]), [8, 2, 3], "the latest");
        assert_eq!(continuation(&[4, 4]), [4]);
        assert!(continuation(&[1, 2, 3]).is_empty() && continuation(&[1]).is_empty());
    }
}
