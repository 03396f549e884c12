//! Drafts of a fixed run, one JSON line each, so that bindings in other languages can show that theirs are the same.
//!
//! `cargo run -p lookahead-trie --example trace`

#![allow(clippy::print_stdout)]

use lookahead_trie::{DraftParams, DraftShape, DraftTree, Namespace, Sharing, TokenId, TrieError};
use serde_json::json;

/// The generator of the run: `state = state * 1664525 + 1013904223` in 32 bits, of which the upper half counts.
struct Chance(u32);

impl Chance {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % end
    }

    /// A text that repeats itself now and then.
    fn text(&mut self, length: usize) -> Vec<TokenId> {
        let mut text: Vec<TokenId> = Vec::new();
        while text.len() < length {
            if text.len() > 8 && self.below(3) == 0 {
                let from = self.below(text.len() as u32 - 6) as usize;
                text.extend_from_within(from..from + 6);
            } else {
                text.push(self.below(60));
            }
        }
        text
    }
}

fn print(draft: &DraftTree) {
    let bits: Vec<u32> = draft.probabilities().iter().map(|probability| probability.to_bits()).collect();
    println!("{}", json!({"tokens": draft.tokens(), "parents": draft.parents(), "probability_bits": bits}));
}

fn main() -> Result<(), TrieError> {
    let mut chance = Chance(1);
    let namespace = Namespace::new(8 << 20)?;
    namespace.warm_up(&chance.text(400))?;
    for number in 0..40 {
        let sharing = [Sharing::ReadWrite, Sharing::ReadWrite, Sharing::Read, Sharing::Off][number % 4];
        let (reference, prompt) = (chance.text(30), chance.text(20 + number));
        let answer = chance.text(90);
        let references: &[&[TokenId]] = if number % 3 == 0 { &[&reference] } else { &[] };
        let mut request = namespace.begin(&prompt, references, sharing);
        let shape = [DraftShape::Hierarchical, DraftShape::Parallel, DraftShape::Single][number % 3];
        let params = DraftParams { nodes: 12, depth: 12, shape, ..DraftParams::default() };
        for piece in answer.chunks(3) {
            print(namespace.draft(&mut request, &params));
            namespace.accept(&mut request, piece);
        }
        namespace.finish(request)?;
    }
    Ok(())
}
