//! Time and memory of insertion and of drafts. `cargo bench -p lookahead-trie`.
//!
//! `HISTORY_TOKENS=N` adds a history of N tokens to the one of 100,000; `TEXT_JSONL=FILE` takes text from what
//! `lookahead generate --record` wrote, again and again in permuted segments. Without it the text is made up: words of a
//! Zipf-like vocabulary with phrases that come again, as in answers of one domain.

#![allow(clippy::print_stdout)] // its output is the result

use std::error::Error;
use std::time::Instant;

use lookahead_trie::{DraftParams, Namespace, Sharing, TokenId};

const TEXT_TOKENS: usize = 500;
const PROMPT_TOKENS: usize = 500;
const STEPS: usize = 10_000;
const STEPS_PER_REQUEST: usize = 50;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn token(&mut self) -> TokenId {
        // The product of two uniform numbers: few tokens are frequent, many are rare.
        (self.below(224) * self.below(224)) as TokenId
    }
}

/// Half fresh tokens, half phrases of 4 to 20 tokens out of the text so far.
fn made_up(random: &mut Random, tokens: usize) -> Vec<TokenId> {
    let mut text: Vec<TokenId> = (0..32).map(|_| random.token()).collect();
    while text.len() < tokens {
        let length = 4 + random.below(17);
        if random.below(2) == 0 {
            text.extend((0..length).map(|_| random.token()));
        } else {
            let start = random.below(text.len() - 20);
            text.extend_from_within(start..start + length);
        }
    }
    text
}

/// The tokens of a recording.
fn recorded(path: &str) -> Result<Vec<TokenId>, Box<dyn Error>> {
    let mut text = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let stream: serde_json::Value = serde_json::from_str(line)?;
        for field in ["prompt_ids", "output_ids"] {
            let tokens: Vec<TokenId> = serde_json::from_value(stream[field].clone())?;
            text.extend(tokens);
        }
    }
    Ok(text)
}

/// Calls `learn` with texts of segments of `source`, 64 to 512 tokens long, `tokens` in all.
fn permuted(random: &mut Random, source: &[TokenId], tokens: usize, mut learn: impl FnMut(&[TokenId])) {
    let mut text = Vec::with_capacity(2 * TEXT_TOKENS);
    let mut learned = 0;
    while learned < tokens {
        text.clear();
        while text.len() < TEXT_TOKENS {
            let length = (64 + random.below(449)).min(source.len() - 1);
            let start = random.below(source.len() - length);
            text.extend_from_slice(&source[start..start + length]);
        }
        let length = text.len().min(tokens - learned);
        learn(&text[..length]);
        learned += length;
    }
}

fn percentiles(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:.1} µs, p99 {:.1} µs, at most {:.0} µs", at(0.5), at(0.99), at(1.0))
}

fn measure(source: &[TokenId], tokens: usize) -> Result<(), Box<dyn Error>> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let namespace = Namespace::new(usize::MAX / 2)?;
    let empty = namespace.stats().bytes;
    // The texts are made outside of the time that is measured, a few at a time.
    let (mut seconds, mut batch) = (0.0, Vec::new());
    let mut learn = |batch: &mut Vec<Vec<TokenId>>| {
        let began = Instant::now();
        let learned = batch.drain(..).try_for_each(|text| namespace.warm_up(&text));
        seconds += began.elapsed().as_secs_f64();
        learned
    };
    permuted(&mut random, source, tokens, |text| {
        batch.push(text.to_vec());
        if batch.len() == 1000 {
            learn(&mut batch).expect("a namespace in memory has no file to fail");
        }
    });
    learn(&mut batch)?;
    println!(
        "{tokens} tokens: insertion {:.2} M tokens/s, {:.1} bytes a token",
        tokens as f64 / seconds / 1e6,
        (namespace.stats().bytes - empty) as f64 / tokens as f64,
    );

    // Requests whose prompts and answers the history knows in pieces.
    let (mut begins, mut drafts, mut accepts, mut nodes) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let params = DraftParams { nodes: 15, depth: 15, min_probability: 0.0, ..DraftParams::default() };
    for _ in 0..STEPS / STEPS_PER_REQUEST {
        let mut text = Vec::new();
        permuted(&mut random, source, PROMPT_TOKENS + 2 * STEPS_PER_REQUEST, |piece| {
            text.extend_from_slice(piece);
        });
        let (prompt, output) = text.split_at(PROMPT_TOKENS);
        let began = Instant::now();
        let mut request = namespace.begin(prompt, &[], Sharing::Read);
        begins.push(began.elapsed().as_secs_f64() * 1e6);
        for tokens in output.chunks(2) {
            let began = Instant::now();
            nodes += namespace.draft(&mut request, &params).len() - 1;
            drafts.push(began.elapsed().as_secs_f64() * 1e6);
            let began = Instant::now();
            namespace.accept(&mut request, tokens);
            accepts.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    println!("  drafts of {:.1} nodes: {}", nodes as f64 / STEPS as f64, percentiles(drafts));
    println!("  accepting two tokens: {}", percentiles(accepts));
    println!("  beginning with {PROMPT_TOKENS} tokens: {}", percentiles(begins));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let source = match std::env::var("TEXT_JSONL") {
        Ok(path) => recorded(&path)?,
        Err(_) => made_up(&mut Random(7), 1_000_000),
    };
    println!("text of {} tokens, in permuted segments", source.len());
    let more = std::env::var("HISTORY_TOKENS").ok().map(|tokens| tokens.parse()).transpose()?;
    for tokens in [100_000].into_iter().chain(more) {
        measure(&source, tokens)?;
    }
    Ok(())
}
