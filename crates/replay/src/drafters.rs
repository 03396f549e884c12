//! The draft engines by name.

use std::sync::Arc;

use lookahead_engine::{CostCurve, Spellings};
use lookahead_trie::DraftShape;

use crate::drafter::ReplayDrafter;
use crate::ours::NamespaceDrafter;
use crate::paper::PaperDrafter;
use crate::pld::PromptLookupDrafter;
use crate::suffix::{Selection, SuffixDrafter};

/// The draft engines: their names, and how to make one.
pub const DRAFTERS: [(&str, NewDrafter); 10] = [
    ("lookahead", |target| Box::new(NamespaceDrafter::new(target, None))),
    ("lookahead:adaptive", |target| Box::new(NamespaceDrafter::new(target, Some(&target.curve)))),
    ("paper", |_| Box::new(PaperDrafter::new(DraftShape::Hierarchical))),
    ("paper:hierarchical", |_| Box::new(PaperDrafter::new(DraftShape::Hierarchical))),
    ("paper:parallel", |_| Box::new(PaperDrafter::new(DraftShape::Parallel))),
    ("paper:single", |_| Box::new(PaperDrafter::new(DraftShape::Single))),
    ("pld", |_| Box::<PromptLookupDrafter>::default()),
    ("suffix", |_| Box::new(SuffixDrafter::new(Selection::Tree))),
    ("suffix:chain", |_| Box::new(SuffixDrafter::new(Selection::Chain))),
    ("suffix:tree", |_| Box::new(SuffixDrafter::new(Selection::Tree))),
];

/// The machine and the model that drafts are for.
#[derive(Clone, Debug)]
pub struct Target {
    /// What a pass costs.
    pub curve: CostCurve,
    /// Which tokens are one word, if the tokenizer is known.
    pub spellings: Option<Arc<Spellings>>,
}

/// Makes a draft engine that has seen nothing.
pub type NewDrafter = fn(&Target) -> Box<dyn ReplayDrafter>;

/// There is no draft engine of a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no draft engine `{0}`; there are {known}", known = names().join(", "))]
pub struct UnknownDrafter(pub String);

fn names() -> Vec<&'static str> {
    DRAFTERS.iter().map(|(name, _)| *name).collect()
}

/// The draft engines of these names.
pub(crate) fn find_drafters(names: &[String]) -> Result<Vec<(&'static str, NewDrafter)>, UnknownDrafter> {
    let find = |name: &String| {
        let found = DRAFTERS.iter().find(|(known, _)| known == name);
        found.copied().ok_or_else(|| UnknownDrafter(name.clone()))
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use lookahead_model::TokenId;
    use lookahead_trie::DraftTree;
    use proptest::prelude::*;

    use super::*;
    use crate::player::tests::flat_target;
    use crate::stream::Stream;

    /// The first draft after `prompt`, as the tokens of each node's path.
    fn drafted(drafter: &mut dyn ReplayDrafter, prompt: &[TokenId], budget: usize) -> Vec<Vec<TokenId>> {
        let mut tree = DraftTree::default();
        drafter.begin(prompt);
        drafter.draft(budget, &mut tree);
        drafter.finish();
        let mut paths: Vec<Vec<TokenId>> = vec![Vec::new()];
        for node in 1..tree.len() {
            let above = &paths[tree.parents()[node] as usize];
            paths.push([above, &tree.tokens()[node..=node]].concat());
        }
        paths.split_off(1)
    }

    #[test]
    fn every_engine_continues_a_prompt_that_repeats_itself() {
        for (name, new) in DRAFTERS {
            let paths = drafted(&mut *new(&flat_target()), &[1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3], 4);
            assert_eq!(paths, [vec![4], vec![4, 5], vec![4, 5, 6]], "{name}");
        }
    }

    #[test]
    fn every_engine_but_prompt_lookup_learns_from_warm_up() {
        for (name, new) in DRAFTERS {
            let mut drafter = new(&flat_target());
            let stream = Stream { prompt_ids: vec![9], output_ids: vec![1, 2, 3, 4, 5], ..Stream::default() };
            for _ in 0..3 {
                drafter.warm_up(&stream);
            }
            let expected = if name == "pld" { vec![] } else { vec![vec![3], vec![3, 4]] };
            assert_eq!(drafted(&mut *drafter, &[8, 1, 2], 3), expected, "{name}");
        }
    }

    proptest! {
        /// Requests leave nothing behind, and drafts keep to the budget.
        #[test]
        fn a_request_changes_no_later_draft(
            warm in prop::collection::vec(0u32..4, 0..40),
            first in prop::collection::vec(0u32..4, 2..40),
            second in prop::collection::vec(0u32..4, 1..40),
            budget in 1usize..20,
        ) {
            for (name, new) in DRAFTERS {
                let warmed = || {
                    let mut drafter = new(&flat_target());
                    drafter.warm_up(&Stream { output_ids: warm.clone(), ..Stream::default() });
                    drafter
                };
                let mut used = warmed();
                let (prompt, answer) = first.split_at(first.len() / 2);
                used.begin(prompt);
                for token in answer {
                    used.draft(budget, &mut DraftTree::default());
                    used.observe(*token, &[1, 2]);
                    used.accept(&[*token]);
                }
                used.finish();
                let paths = drafted(&mut *used, &second, budget);
                prop_assert!(paths.len() < budget, "{}", name);
                prop_assert_eq!(paths, drafted(&mut *warmed(), &second, budget), "{}", name);
            }
        }
    }
}
