//! Time of insertion and retrieval at 100,000 tokens of history. `cargo bench -p lookahead-trie`.
//!
//! The text is made up: words of a Zipf-like vocabulary with phrases that come again, as in answers of one domain.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use lookahead_trie::{DraftTree, DraftTrie, OutputSharing, RetrievalParams, TokenId, TrieConfig};

const HISTORY_TOKENS: usize = 100_000;
const PROMPT_TOKENS: usize = 2_000;
const STEPS: usize = 10_000;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn token(&mut self) -> TokenId {
        // The product of two uniform numbers: few tokens are frequent, many are rare.
        let (a, b) = (self.below(224), self.below(224));
        (a * b) as TokenId
    }
}

/// Half fresh tokens, half phrases of 4 to 20 tokens out of the text so far.
fn text(random: &mut Random, tokens: usize) -> Vec<TokenId> {
    let mut text: Vec<TokenId> = (0..32).map(|_| random.token()).collect();
    while text.len() < tokens {
        let length = 4 + random.below(17) as usize;
        if random.below(2) == 0 {
            text.extend((0..length).map(|_| random.token()));
        } else {
            let start = random.below((text.len() - 20) as u64) as usize;
            text.extend_from_within(start..start + length);
        }
    }
    text.truncate(tokens);
    text
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn main() -> Result<(), lookahead_trie::TrieError> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let history = text(&mut random, HISTORY_TOKENS + PROMPT_TOKENS + 2 * STEPS);
    let (warm, rest) = history.split_at(HISTORY_TOKENS);
    let (prompt, output) = rest.split_at(PROMPT_TOKENS);

    for branch_length in [8, 12, 24] {
        let mut trie = DraftTrie::new(TrieConfig { branch_length, ..TrieConfig::default() })?;
        let start = Instant::now();
        trie.warm_up(warm);
        let insert_s = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let mut request = trie.begin_request(prompt, OutputSharing::Shared);
        let begin_us = start.elapsed().as_secs_f64() * 1e6;

        let mut tree = DraftTree::default();
        let params = RetrievalParams { min_probability: 0.0, ..RetrievalParams::default() };
        let (mut retrieve_us, mut append_us, mut nodes) = (Vec::new(), Vec::new(), 0);
        for tokens in output.chunks(2).take(STEPS) {
            let start = Instant::now();
            trie.retrieve(&mut request, &params, &mut tree);
            retrieve_us.push(start.elapsed().as_secs_f64() * 1e6);
            nodes += tree.len() - 1;
            let start = Instant::now();
            trie.append(&mut request, tokens);
            append_us.push(start.elapsed().as_secs_f64() * 1e6);
        }
        retrieve_us.sort_by(f64::total_cmp);
        append_us.sort_by(f64::total_cmp);
        let stats = trie.stats();
        println!(
            "branch length {branch_length:2}: insert {:.2} M tokens/s, begin a request of {PROMPT_TOKENS} tokens {begin_us:.0} µs, \
             retrieve p50 {:.1} µs p99 {:.1} µs ({:.1} nodes), append 2 tokens p50 {:.1} µs p99 {:.1} µs, \
             {} nodes, {:.1} MiB",
            HISTORY_TOKENS as f64 / insert_s / 1e6,
            percentile(&retrieve_us, 0.5),
            percentile(&retrieve_us, 0.99),
            nodes as f64 / STEPS as f64,
            percentile(&append_us, 0.5),
            percentile(&append_us, 0.99),
            stats.nodes,
            stats.bytes as f64 / f64::from(1 << 20),
        );
        trie.finish(request);
    }
    Ok(())
}
