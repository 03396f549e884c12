//! Drafts made to break verification: random trees, and near misses of a known continuation.

use lookahead_model::{TokenId, TokenTree};

use super::draft::{Draft, DraftLimits};
use super::interface::Drafter;
use crate::sampling::random_bits;

/// Drafts hostile trees, a different kind each step; deterministic by its seed.
///
/// Without a reference the tokens are random, or taken from the context so that some are right by chance.
/// With one (the tokens of a plain run of the same request) the trees come close: right, then wrong; wrong,
/// then right; right tokens at wrong depths or under wrong parents; twins; the right path hidden among wrong
/// ones.
#[derive(Clone, Debug)]
pub struct AdversarialDrafter {
    vocabulary_size: usize,
    draft_length: usize,
    seed: u64,
    drawn: u64,
    reference: Vec<TokenId>,
}

/// A tree under construction.
struct Sapling {
    tokens: Vec<TokenId>,
    parents: Vec<u32>,
    nodes: usize,
}

impl Sapling {
    /// Adds a node and returns its index, or `parent` if the tree is full.
    fn add(&mut self, parent: u32, token: TokenId) -> u32 {
        if self.tokens.len() > self.nodes {
            return parent;
        }
        self.tokens.push(token);
        self.parents.push(parent);
        self.tokens.len() as u32 - 1
    }

    /// Adds a chain under `parent`.
    fn add_chain(&mut self, parent: u32, tokens: impl IntoIterator<Item = TokenId>) {
        tokens.into_iter().fold(parent, |parent, token| self.add(parent, token));
    }

    fn is_full(&self) -> bool {
        self.tokens.len() > self.nodes
    }
}

impl AdversarialDrafter {
    /// Trees of up to `draft_length` nodes besides the root, of tokens below `vocabulary_size` and now and
    /// then one beyond it.
    pub fn new(vocabulary_size: usize, draft_length: usize, seed: u64) -> Self {
        Self { vocabulary_size, draft_length, seed, drawn: 0, reference: Vec::new() }
    }

    /// Near misses of `reference`: the whole expected sequence, prompt and answer.
    #[must_use]
    pub fn with_reference(mut self, reference: Vec<TokenId>) -> Self {
        self.reference = reference;
        self
    }

    /// A number below `bound`; 0 if that is 0.
    fn below(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        (random_bits(self.seed, self.drawn) % bound.max(1) as u64) as usize
    }

    /// A token out of nowhere: any of the vocabulary, one of the context, rarely one that no model knows.
    fn any_token(&mut self, context: &[TokenId]) -> TokenId {
        match self.below(16) {
            0 => self.vocabulary_size as TokenId + self.below(3) as TokenId,
            1..=8 => context[self.below(context.len())],
            _ => self.below(self.vocabulary_size) as TokenId,
        }
    }

    /// A token of the vocabulary other than `token`, if there is one.
    fn other_than(&mut self, token: TokenId) -> TokenId {
        let step = 1 + self.below(self.vocabulary_size.saturating_sub(1));
        ((token as usize + step) % self.vocabulary_size.max(1)) as TokenId
    }

    /// Random tokens in a random shape: star, chain, or between.
    fn random_tree(&mut self, tree: &mut Sapling, context: &[TokenId]) {
        let shape = self.below(4);
        while !tree.is_full() {
            let last = tree.tokens.len() - 1;
            let parent = match shape {
                0 => 0,
                1 => last,
                2 => self.below(last + 1),
                _ => last - self.below(3).min(last), // deep, with short side branches
            };
            let token = self.any_token(context);
            tree.add(parent as u32, token);
        }
    }

    /// Right for some tokens, wrong for some, right again at the depths where it would have been right.
    fn right_wrong_right(&mut self, tree: &mut Sapling, ahead: &[TokenId]) {
        while !tree.is_full() {
            let right = self.below(ahead.len());
            let wrong = 1 + self.below(2);
            let mut branch = ahead.to_vec();
            for token in branch.iter_mut().skip(right).take(wrong) {
                *token = self.other_than(*token);
            }
            branch.truncate(1 + self.below(ahead.len()).max(right));
            tree.add_chain(0, branch);
        }
    }

    /// The right tokens one or two depths too early or too late.
    fn shifted(&mut self, tree: &mut Sapling, ahead: &[TokenId], context: &[TokenId]) {
        let shift = 1 + self.below(2);
        tree.add_chain(0, ahead.iter().copied().skip(shift).take(self.draft_length / 2));
        let late = [self.any_token(context), context[context.len() - 1]];
        tree.add_chain(0, late.into_iter().take(shift).chain(ahead.iter().copied()));
    }

    /// Twins: the same token twice under one parent and again under others; only some have the right
    /// children.
    fn twins(&mut self, tree: &mut Sapling, ahead: &[TokenId]) {
        let mut parents = vec![0];
        for (depth, &token) in ahead.iter().enumerate() {
            let wrong = self.other_than(token);
            let right_one = parents[self.below(parents.len())];
            let children =
                [tree.add(right_one, token), tree.add(right_one, wrong), tree.add(right_one, token)];
            if depth % 2 == 0 {
                let stray = parents[self.below(parents.len())];
                tree.add(stray, token);
            }
            parents = children.to_vec();
            if tree.is_full() {
                break;
            }
        }
    }

    /// The whole right path, each of its nodes after a few wrong siblings that have children of their own.
    fn hidden_path(&mut self, tree: &mut Sapling, ahead: &[TokenId]) {
        let mut parent = 0;
        for (depth, &token) in ahead.iter().enumerate() {
            for _ in 0..self.below(3) {
                let wrong = self.other_than(token);
                let decoy = tree.add(parent, wrong);
                tree.add_chain(decoy, ahead.iter().copied().skip(depth + 1).take(2));
            }
            parent = tree.add(parent, token);
            if tree.is_full() {
                break;
            }
        }
    }
}

impl Drafter for AdversarialDrafter {
    fn draft(&mut self, context: &[TokenId], limits: DraftLimits) -> Draft {
        let most = self.draft_length.min(limits.nodes);
        // Mostly full trees; sometimes a small one or none.
        let nodes = if self.below(4) == 0 { self.below(most + 1) } else { most };
        let mut tree = Sapling { tokens: vec![context[context.len() - 1]], parents: vec![0], nodes };
        let ahead: Vec<TokenId> =
            self.reference.iter().copied().skip(context.len()).take(self.draft_length).collect();
        if ahead.is_empty() {
            self.random_tree(&mut tree, context);
        } else {
            match self.below(6) {
                0 => self.random_tree(&mut tree, context),
                1 => self.right_wrong_right(&mut tree, &ahead),
                2 => self.shifted(&mut tree, &ahead, context),
                3 => self.twins(&mut tree, &ahead),
                4 => self.hidden_path(&mut tree, &ahead),
                _ => tree.add_chain(0, ahead),
            }
        }
        TokenTree::new(tree.tokens, tree.parents).expect("nodes are added after their parents").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DraftLimits = DraftLimits { nodes: 100, depth: 100 };

    #[test]
    fn drafts_are_determined_by_the_seed_and_keep_to_the_draft_length() {
        let drafts = |seed| -> Vec<TokenTree> {
            let mut drafter =
                AdversarialDrafter::new(9, 12, seed).with_reference((0..40).map(|t| t % 9).collect());
            (1..60).map(|len| drafter.draft(&vec![3; len], LIMITS).tree().clone()).collect()
        };
        assert_eq!(drafts(1), drafts(1));
        assert_ne!(drafts(1), drafts(2));
        assert!(drafts(1).iter().all(|tree| tree.len() <= 13 && tree.tokens()[0] == 3));
    }

    #[test]
    fn near_misses_are_right_at_every_depth_and_wrong_at_every_depth() {
        let reference: Vec<TokenId> = (0..200).map(|t| t * 7 % 31).collect();
        let mut drafter = AdversarialDrafter::new(31, 16, 5).with_reference(reference.clone());
        let mut right_prefixes = [0; 17];
        for len in 1..150 {
            let draft = drafter.draft(&reference[..len], LIMITS);
            let tree = draft.tree();
            let is_right = |node: usize| {
                let path = tree.path_to(node);
                path.iter().enumerate().all(|(d, &n)| tree.tokens()[n as usize] == reference[len - 1 + d])
            };
            let deepest =
                (0..tree.len()).filter(|&node| is_right(node)).map(|node| tree.depths()[node]).max();
            right_prefixes[deepest.unwrap() as usize] += 1;
        }
        assert!(right_prefixes[..8].iter().all(|&count| count > 0), "{right_prefixes:?}");
        assert!(right_prefixes[16] > 0, "the whole right path is drafted at times: {right_prefixes:?}");
    }
}
