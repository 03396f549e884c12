//! Lookahead against plain decoding on real prompts: alternating in one process, every answer checked to be equal.
//!
//! `cargo bench -p lookahead-engine --bench speedup -- --model MODEL.gguf [--threads N] [--limit N] [--max-tokens N]
//! [--draft-length N,…] [--min-probability P,…] FILE.jsonl…`
//!
//! Of each file (JSON lines with `prompt` or `messages`, as for `lookahead verify`), half of the prompts warm the trie
//! up and the others are measured: plain, with an empty trie (cold), and with the trie warmed by the answers to the
//! first half. Measured answers are not shared, so no prompt serves another.

#![allow(clippy::print_stdout)] // its output is the result

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, RwLock};

use lookahead_engine::{
    DraftPolicy, DraftTrie, Drafter, Engine, EngineOptions, Generation, GenerationRequest, NoDraft,
    OutputSharing, SharedTrie, TrieConfig, TrieDrafter,
};
use lookahead_kernels::Kernels;
use lookahead_model::chat_template::{ChatTemplate, Message};
use lookahead_model::gguf::GgufFile;
use lookahead_model::tokenizer::{EncodeOptions, Tokenizer};
use lookahead_model::{CpuModel, TokenId};

type Error = Box<dyn std::error::Error>;

struct Options {
    model: String,
    threads: usize,
    limit: usize,
    max_tokens: usize,
    draft_lengths: Vec<usize>,
    min_probabilities: Vec<f32>,
    files: Vec<String>,
}

fn main() -> Result<(), Error> {
    let Some(options) = parse(std::env::args().skip(1).filter(|argument| argument != "--bench"))? else {
        println!("usage: cargo bench -p lookahead-engine --bench speedup -- --model MODEL.gguf FILE.jsonl…");
        return Ok(());
    };
    let file = GgufFile::open(&options.model)?;
    let tokenizer = Tokenizer::from_gguf(&file)?;
    let template = ChatTemplate::from_gguf(&file, &tokenizer)?;
    let model = CpuModel::load(&file, Kernels::new(options.threads))?;
    let mut bench =
        Bench { engine: Engine::new(model, EngineOptions::default()), max_tokens: options.max_tokens };
    println!("{}, {} threads, {} new tokens, greedy", options.model, options.threads, options.max_tokens);
    println!("task | policy | plain tokens/s | cold | EDL | warm | EDL | drafted a step | retrieval share");
    for path in &options.files {
        let prompts = read_prompts(path, &tokenizer, template.as_ref(), 2 * options.limit)?;
        for &draft_length in &options.draft_lengths {
            for &min_probability in &options.min_probabilities {
                let policy = DraftPolicy { draft_length, min_probability, ..DraftPolicy::default() };
                bench.measure(path, &prompts, policy)?;
            }
        }
    }
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, Error> {
    let defaults = DraftPolicy::default();
    let mut options = Options {
        model: String::new(),
        threads: 2,
        limit: 10,
        max_tokens: 128,
        draft_lengths: vec![defaults.draft_length],
        min_probabilities: vec![defaults.min_probability],
        files: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--model" => options.model = value()?,
            "--threads" => options.threads = value()?.parse()?,
            "--limit" => options.limit = value()?.parse()?,
            "--max-tokens" => options.max_tokens = value()?.parse()?,
            "--draft-length" => options.draft_lengths = list(&value()?)?,
            "--min-probability" => options.min_probabilities = list(&value()?)?,
            _ => options.files.push(argument),
        }
    }
    Ok((!options.model.is_empty() && !options.files.is_empty()).then_some(options))
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, T::Err> {
    text.split(',').map(str::parse).collect()
}

/// Token ids of the first `limit` prompts of a file.
fn read_prompts(
    path: &str,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    limit: usize,
) -> Result<Vec<Vec<TokenId>>, Error> {
    let text = std::fs::read_to_string(path)?;
    text.lines()
        .take(limit)
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line)?;
            let first = record["prompt"].as_str().or(record["messages"][0]["content"].as_str());
            let prompt = first.ok_or("a line without prompt")?;
            let chat = template.filter(|_| record["mode"] != "completion");
            let message = Message { role: "user".into(), content: prompt.into() };
            let text = chat.map_or(Ok(prompt.to_owned()), |chat| chat.render(&[message], true))?;
            Ok(tokenizer.encode(&text, EncodeOptions { add_bos: true, parse_special: chat.is_some() })?)
        })
        .collect()
}

struct Bench {
    engine: Engine<CpuModel>,
    max_tokens: usize,
}

/// Sums over the prompts of a task.
#[derive(Default)]
struct Totals {
    tokens: f64,
    seconds: f64,
    steps: f64,
    drafted: f64,
    retrieval: f64,
    /// Speed-up of each prompt.
    ratios: Vec<f64>,
}

impl Totals {
    fn add(&mut self, run: &Generation, plain: &Generation) {
        let stats = &run.stats;
        self.tokens += stats.decode_tokens as f64;
        self.seconds += stats.decode.as_secs_f64();
        self.steps += stats.steps() as f64;
        self.drafted += stats.draft_tokens() as f64;
        self.retrieval += stats.retrieval.as_secs_f64();
        self.ratios.push(stats.decode_tokens_per_s() / plain.stats.decode_tokens_per_s());
    }

    fn median_ratio(&mut self) -> f64 {
        self.ratios.sort_by(f64::total_cmp);
        self.ratios[self.ratios.len() / 2]
    }
}

impl Bench {
    fn generate(&mut self, prompt: &[TokenId], drafter: Box<dyn Drafter>) -> Result<Generation, Error> {
        let request = GenerationRequest {
            prompt: prompt.to_vec(),
            max_tokens: self.max_tokens,
            ..GenerationRequest::default()
        };
        Ok(self.engine.generate(request, drafter, |_| ControlFlow::Continue(()))?)
    }

    fn measure(&mut self, path: &str, prompts: &[Vec<TokenId>], policy: DraftPolicy) -> Result<(), Error> {
        let trie = || -> Result<SharedTrie, Error> {
            Ok(Arc::new(RwLock::new(DraftTrie::new(TrieConfig::default())?)))
        };
        let (warm_up, measured) = prompts.split_at(prompts.len() / 2);
        let warm_trie = trie()?;
        for prompt in warm_up {
            self.generate(prompt, Box::new(TrieDrafter::new(warm_trie.clone(), policy)))?;
        }
        let policy = DraftPolicy { sharing: OutputSharing::Private, ..policy };
        let [mut plain_totals, mut cold_totals, mut warm_totals] = [(); 3].map(|()| Totals::default());
        for prompt in measured {
            let plain = self.generate(prompt, Box::new(NoDraft))?;
            let cold = self.generate(prompt, Box::new(TrieDrafter::new(trie()?, policy)))?;
            let warm = self.generate(prompt, Box::new(TrieDrafter::new(warm_trie.clone(), policy)))?;
            assert!(cold.token_ids == plain.token_ids && warm.token_ids == plain.token_ids, "answers differ");
            // An answer of one token has no decode step to measure.
            if plain.stats.decode_tokens > 0 {
                plain_totals.add(&plain, &plain);
                cold_totals.add(&cold, &plain);
                warm_totals.add(&warm, &plain);
            }
        }
        let speed = |totals: &Totals| totals.tokens / totals.seconds;
        let plain_speed = speed(&plain_totals);
        println!(
            "{} | {} @ {} | {plain_speed:.0} | {:.2}x (median {:.2}x) | {:.2} | {:.2}x (median {:.2}x) | {:.2} | {:.1} | {:.2}%",
            Path::new(path).file_stem().unwrap_or_default().to_string_lossy(),
            policy.draft_length,
            policy.min_probability,
            speed(&cold_totals) / plain_speed,
            cold_totals.median_ratio(),
            cold_totals.tokens / cold_totals.steps,
            speed(&warm_totals) / plain_speed,
            warm_totals.median_ratio(),
            warm_totals.tokens / warm_totals.steps,
            warm_totals.drafted / warm_totals.steps,
            100.0 * warm_totals.retrieval / warm_totals.seconds,
        );
        Ok(())
    }
}
