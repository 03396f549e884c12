//! Drafts inside another engine. The "model" here recites a text word by word; a real one takes the draft's
//! tokens and parents, and returns the token that it would choose after each node.
//!
//! `cargo run -p lookahead-trie --example embed`

#![allow(clippy::print_stdout)]

use lookahead_trie::{DraftParams, DraftTree, Namespace, Sharing, TokenId, TrieError};

/// A model that knows one text. Stands in for a forward pass over a tree of tokens.
struct Reciter {
    text: Vec<TokenId>,
}

impl Reciter {
    /// One forward pass: for each node of the draft, the token that the model chooses after it, given that the root is
    /// token `position` of the text.
    fn forward(&self, draft: &DraftTree, position: usize) -> Vec<TokenId> {
        let mut depths = vec![0; draft.len()];
        for node in 1..draft.len() {
            depths[node] = depths[draft.parents()[node] as usize] + 1;
        }
        depths.iter().map(|depth| self.text[(position + depth + 1) % self.text.len()]).collect()
    }
}

/// The longest path of the draft that the model itself would have produced, and its next token.
fn verify(draft: &DraftTree, chosen: &[TokenId]) -> Vec<TokenId> {
    let mut accepted = Vec::new();
    let mut node = 0;
    loop {
        accepted.push(chosen[node]);
        let next = (node + 1..draft.len())
            .find(|&child| draft.parents()[child] as usize == node && draft.tokens()[child] == chosen[node]);
        match next {
            Some(child) => node = child,
            None => return accepted,
        }
    }
}

fn main() -> Result<(), TrieError> {
    let words = "the cat sat on the mat and the dog sat on the log and ";
    let mut vocabulary: Vec<&str> = Vec::new();
    let text: Vec<TokenId> = words
        .split_whitespace()
        .map(|word| {
            let known = vocabulary.iter().position(|&other| other == word);
            known.unwrap_or_else(|| {
                vocabulary.push(word);
                vocabulary.len() - 1
            }) as TokenId
        })
        .collect();
    let model = Reciter { text };

    let namespace = Namespace::new(64 << 20)?;
    let params = DraftParams { nodes: 7, ..DraftParams::default() };
    for answer in ["first", "second"] {
        let mut request = namespace.begin(&model.text[..1], &[], Sharing::ReadWrite);
        let (mut produced, mut passes) = (0, 0);
        while produced < 100 {
            let draft = namespace.draft(&mut request, &params);
            let chosen = model.forward(draft, produced);
            let accepted = verify(draft, &chosen);
            produced += accepted.len();
            passes += 1;
            namespace.accept(&mut request, &accepted);
        }
        // An engine that verifies chains takes the branch that promises most.
        let draft = namespace.draft(&mut request, &params);
        let chain: Vec<&str> = draft
            .best_chain()
            .iter()
            .map(|&node| vocabulary[draft.tokens()[node as usize] as usize])
            .collect();
        println!("best chain: {}", chain.join(" "));
        namespace.finish(request)?;
        println!(
            "{answer} answer: {produced} tokens in {passes} forward passes: effective decoding length {:.2}",
            f64::from(u32::try_from(produced).unwrap_or(u32::MAX)) / f64::from(passes)
        );
    }
    Ok(())
}
