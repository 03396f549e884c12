//! Plays a recorded request: what the engine would have done with the drafts of a draft engine.

use std::ops::Range;
use std::time::{Duration, Instant};

use lookahead_engine::{CostCurve, Histogram, verify};
use lookahead_model::{TokenId, TokenTree};
use lookahead_trie::DraftTree;

use crate::depth_reliability::ReliabilityByDepth;
use crate::drafter::ReplayDrafter;
use crate::stream::Stream;

/// What the model says behind the end of a recorded answer. No drafter has seen it.
const NO_TOKEN: TokenId = TokenId::MAX;

/// What playing some requests came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests.
    pub requests: usize,
    /// Tokens produced by decode steps: all but the first of each answer, which comes with the prompt.
    pub decode_tokens: usize,
    /// Decode steps by the nodes that were run, the root included.
    pub nodes: Histogram,
    /// Decode steps by the drafted tokens that were accepted.
    pub accepted: Histogram,
    /// The time of each draft.
    pub retrievals: Vec<Duration>,
    /// The time that each step's tokens took to insert.
    pub insertions: Vec<Duration>,
    /// The most memory that the drafter took.
    pub bytes: usize,
    /// How true the drafter's estimates were, by depth.
    pub reliability: ReliabilityByDepth,
}

impl Tally {
    /// Plays `stream` with trees of up to `budget` nodes, the root included, drafted by `drafter`.
    pub fn play(&mut self, stream: &Stream, drafter: &mut dyn ReplayDrafter, budget: usize) {
        let Stream { prompt_ids, output_ids, .. } = stream;
        let budget = budget.max(1);
        drafter.begin(prompt_ids);
        // The last pass over the prompt yields the first token.
        let first = output_ids.len().min(1);
        learn(drafter, stream, 0..first);
        let mut history = [&prompt_ids[..], &output_ids[..first]].concat();
        let mut draft = DraftTree::default();
        while let at = history.len() - prompt_ids.len()
            && at < output_ids.len()
        {
            let began = Instant::now();
            drafter.draft(budget, &mut draft);
            self.retrievals.push(began.elapsed());
            draft.truncate(budget);

            let tree = token_tree(&draft, history[history.len() - 1]);
            let choose = |_, history: &[TokenId]| {
                Some(output_ids.get(history.len() - prompt_ids.len()).copied().unwrap_or(NO_TOKEN))
            };
            let verified = verify(&tree, 0, choose, &mut history);
            let produced = verified.tokens.len().min(output_ids.len() - at);
            if tree.len() == draft.len() {
                self.reliability.add(&tree, draft.probabilities(), &verified.path);
            }

            let began = Instant::now();
            learn(drafter, stream, at..at + produced);
            self.insertions.push(began.elapsed());
            history.extend_from_slice(&output_ids[at..at + produced]);
            self.decode_tokens += produced;
            self.nodes.add(tree.len());
            self.accepted.add(produced.min(verified.path.len() - 1));
        }
        self.bytes = self.bytes.max(drafter.bytes());
        self.requests += 1;
        drafter.finish();
    }

    /// Decode steps.
    pub fn steps(&self) -> u64 {
        self.nodes.total()
    }

    /// Effective decoding length: tokens per decode step; 0 without steps.
    pub fn edl(&self) -> f64 {
        self.decode_tokens as f64 / self.steps().max(1) as f64
    }

    /// The share of steps with at least one accepted draft token; 0 without steps.
    pub fn hit_rate(&self) -> f64 {
        let misses = self.accepted.counts().first().copied().unwrap_or(0);
        (self.steps() - misses) as f64 / self.steps().max(1) as f64
    }

    /// How many times faster than plain decoding the steps are where a pass over N nodes takes the time of `curve`;
    /// 1 without steps.
    pub fn speed_up(&self, curve: &CostCurve) -> f64 {
        if self.steps() == 0 {
            return 1.0;
        }
        let passes = self.nodes.counts().iter().zip(0..);
        let cost: f64 = passes.map(|(&steps, nodes)| steps as f64 * curve.relative(nodes)).sum();
        self.decode_tokens as f64 / cost
    }
}

/// Tells `drafter` of the tokens of the answer in `range`.
fn learn(drafter: &mut dyn ReplayDrafter, stream: &Stream, range: Range<usize>) {
    let Stream { prompt_ids, output_ids, runners_up, .. } = stream;
    for index in range.clone().take_while(|&index| index < runners_up.len()) {
        let before = if index == 0 { prompt_ids[prompt_ids.len() - 1] } else { output_ids[index - 1] };
        drafter.observe(before, &runners_up[index]);
    }
    drafter.accept(&output_ids[range]);
}

/// What the engine runs of a draft: with another root, nothing but the right one.
fn token_tree(draft: &DraftTree, root: TokenId) -> TokenTree {
    TokenTree::new(draft.tokens().to_vec(), draft.parents().to_vec())
        .ok()
        .filter(|tree| tree.tokens()[0] == root)
        .unwrap_or_else(|| TokenTree::chain(&[root]).expect("one token is a chain"))
}

#[cfg(test)]
pub(crate) mod tests {
    use lookahead_engine::CostPoint;

    use super::*;
    use crate::drafter::Draft;
    use crate::drafters::{DRAFTERS, Target};

    /// A machine on which drafts cost nothing.
    pub(crate) fn flat_target() -> Target {
        let curve = CostCurve::new(vec![CostPoint { tokens: 1, ms: 1.0 }]).unwrap();
        Target { curve, spellings: None }
    }

    fn stream(prompt_ids: &[TokenId], output_ids: &[TokenId]) -> Stream {
        Stream { prompt_ids: prompt_ids.to_vec(), output_ids: output_ids.to_vec(), ..Stream::default() }
    }

    fn play(name: &str, warm_up: &[Stream], stream: &Stream, budget: usize) -> Tally {
        let new = DRAFTERS.iter().find(|(other, _)| *other == name).unwrap().1;
        let (mut drafter, mut tally) = (new(&flat_target()), Tally::default());
        for stream in warm_up {
            drafter.warm_up(stream);
        }
        tally.play(stream, &mut *drafter, budget);
        tally
    }

    #[test]
    fn an_answer_out_of_the_prompt_takes_as_many_steps_as_the_budget_allows() {
        let text: Vec<TokenId> = (0..41).collect();
        for (name, _) in DRAFTERS {
            // 40 tokens after the first. A budget of 4 yields 4 a step; suffix trees trust a single match with 4 drafts.
            let tally = play(name, &[], &stream(&text, &text), 4);
            assert_eq!((tally.decode_tokens, tally.steps()), (40, 10), "{name}");
            assert_eq!((tally.edl(), tally.hit_rate()), (4.0, 1.0), "{name}");
            assert_eq!(tally.nodes.sum(), 40, "{name}");
            assert_eq!(tally.accepted.sum(), 30, "{name}");
        }
    }

    #[test]
    fn without_anything_to_draw_from_every_token_takes_a_step() {
        for (name, _) in DRAFTERS {
            let tally = play(name, &[], &stream(&[50], &(0..11).collect::<Vec<_>>()), 8);
            assert_eq!((tally.edl(), tally.hit_rate(), tally.nodes.sum()), (1.0, 0.0, 10), "{name}");
        }
    }

    #[test]
    fn a_tree_survives_where_a_chain_guesses_wrong() {
        // After 1, usually 2; the answer is 1 3.
        let earlier = [stream(&[9], &[1, 2]), stream(&[9], &[1, 2]), stream(&[9], &[1, 3])];
        for (name, edl) in [
            ("suffix:chain", 1.0),
            ("suffix:tree", 2.0),
            ("paper:single", 1.0),
            ("paper:parallel", 2.0),
            ("paper:hierarchical", 2.0),
            ("lookahead", 2.0),
        ] {
            assert_eq!(play(name, &earlier, &stream(&[7], &[1, 3, 8]), 3).edl(), edl, "{name}");
        }
    }

    #[test]
    fn short_answers_take_no_steps() {
        for output in [&[][..], &[1]] {
            let tally = play("pld", &[], &stream(&[1, 1], output), 8);
            assert_eq!((tally.requests, tally.steps(), tally.edl()), (1, 0, 0.0));
            assert_eq!(tally.speed_up(&CostCurve::new(vec![CostPoint { tokens: 1, ms: 1.0 }]).unwrap()), 1.0);
        }
    }

    #[test]
    fn the_speed_up_is_tokens_by_the_cost_of_the_nodes_run() {
        let text: Vec<TokenId> = (0..41).collect();
        let curve =
            CostCurve::new(vec![CostPoint { tokens: 1, ms: 3.0 }, CostPoint { tokens: 4, ms: 6.0 }]).unwrap();
        assert_eq!(play("pld", &[], &stream(&text, &text), 4).speed_up(&curve), 2.0);
        assert_eq!(play("pld", &[], &stream(&text, &text), 1).speed_up(&curve), 1.0);
    }

    /// Drafts a given tree, and remembers what it is told.
    struct Scripted {
        draft: Draft,
        told: Vec<(TokenId, Vec<TokenId>)>,
        accepted: Vec<Vec<TokenId>>,
    }

    impl ReplayDrafter for Scripted {
        fn begin(&mut self, _prompt: &[TokenId]) {}
        fn draft(&mut self, _budget: usize, tree: &mut DraftTree) {
            *tree = self.draft.clone().into_tree();
        }
        fn accept(&mut self, tokens: &[TokenId]) {
            self.accepted.push(tokens.to_vec());
        }
        fn observe(&mut self, token: TokenId, runners_up: &[TokenId]) {
            self.told.push((token, runners_up.to_vec()));
        }
        fn finish(&mut self) {}
        fn warm_up(&mut self, _stream: &Stream) {}
        fn bytes(&self) -> usize {
            7
        }
    }

    #[test]
    fn a_drafter_is_told_each_token_with_what_else_was_likely() {
        let mut draft = Draft::new(1);
        let child = draft.add(0, 2, 1.0);
        draft.add(child, 3, 1.0);
        draft.add(child, 4, 1.0);
        let mut drafter = Scripted { draft, told: Vec::new(), accepted: Vec::new() };
        let stream = Stream {
            runners_up: vec![vec![1, 9], vec![2, 8], vec![4, 7], vec![5, 6], vec![6]],
            ..stream(&[0], &[1, 2, 4, 5, 6])
        };
        let mut tally = Tally::default();
        tally.play(&stream, &mut drafter, 4);
        assert_eq!(drafter.accepted, [vec![1], vec![2, 4, 5], vec![6]]);
        let told: Vec<_> = drafter.told.iter().map(|(token, best)| (*token, best[0])).collect();
        assert_eq!(told, [(0, 1), (1, 2), (2, 4), (4, 5), (5, 6)]);
        // The second draft has the wrong root: nothing of it is run.
        assert_eq!((tally.nodes.sum(), tally.accepted.sum(), tally.bytes), (4 + 1, 2, 7));

        drafter.accepted.clear();
        Tally::default().play(&stream, &mut drafter, 2);
        assert_eq!(drafter.accepted[1], [2, 4], "a budget of two nodes cuts the rest off");
    }

    #[test]
    fn drafts_beyond_the_end_of_an_answer_count_as_run_but_not_as_accepted() {
        let text: Vec<TokenId> = (0..10).collect();
        let tally = play("pld", &[], &stream(&text, &text[..3]), 8);
        assert_eq!((tally.decode_tokens, tally.steps(), tally.nodes.sum()), (2, 1, 8));
        assert_eq!(tally.accepted.sum(), 2);
    }
}
