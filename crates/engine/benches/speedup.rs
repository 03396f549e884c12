//! Lookahead against plain decoding on real prompts: alternating in one process, every answer checked to be equal.
//!
//! `cargo bench -p lookahead-engine --bench speedup -- --model MODEL.gguf [--threads N] [--limit N] [--max-tokens N]
//! [--policy fixed|adaptive|all] [--draft-length N,…] [--min-probability P,…] [--adaptive-length N,…]
//! [--runners-up on|off|both] [--curve FILE.json] FILE.jsonl…`
//!
//! Of each file (JSON lines with `prompt` or `messages`, as for `lookahead verify`), half of the prompts warm a
//! namespace up and the others are measured: plain, and by each policy with an empty namespace (cold) and with the one warmed
//! by the answers to the first half. Policies are fixed ones (`N @ P`, each length with each probability) and adaptive ones of
//! up to so many nodes, by a cost curve that is measured first, or read from what `lookahead calibrate --json` printed. Measured answers are
//! not shared, so no prompt serves another.
//!
//! "By the curve" is the speed-up that the drafts would have if each pass took what the curve says: no noise of the
//! machine is in it, so it tells policies apart that the clock cannot.

#![allow(clippy::print_stdout)] // its output is the result

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lookahead_engine::{
    CostCurve, CostPoint, DraftPolicy, Drafter, Engine, EngineOptions, Generation, GenerationRequest,
    Namespace, NamespaceDrafter, NoDraft, Sharing,
};
use lookahead_kernels::Kernels;
use lookahead_model::chat_template::{ChatTemplate, Message};
use lookahead_model::gguf::GgufFile;
use lookahead_model::tokenizer::{EncodeOptions, Tokenizer};
use lookahead_model::{CpuModel, TokenId};

type Error = Box<dyn std::error::Error>;

/// What a namespace may take.
const NAMESPACE_BYTES: usize = 256 << 20;

/// Tokens of the passes that the cost curve is measured at, the context in front of them, and the time it takes.
const CURVE_TOKENS: [usize; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 17];
const CURVE_CONTEXT: usize = 256;
const CURVE_BUDGET: Duration = Duration::from_secs(2);

struct Options {
    model: String,
    threads: usize,
    limit: usize,
    max_tokens: usize,
    fixed: bool,
    adaptive: bool,
    draft_lengths: Vec<usize>,
    min_probabilities: Vec<f32>,
    adaptive_lengths: Vec<usize>,
    runners_up: Vec<bool>,
    curve: Option<String>,
    files: Vec<String>,
}

/// A draft policy and what the table calls it.
struct Policy {
    name: String,
    policy: DraftPolicy,
}

fn main() -> Result<(), Error> {
    let Some(options) = parse(std::env::args().skip(1).filter(|argument| argument != "--bench"))? else {
        println!("usage: cargo bench -p lookahead-engine --bench speedup -- --model MODEL.gguf FILE.jsonl…");
        return Ok(());
    };
    let file = GgufFile::open(&options.model)?;
    let tokenizer = Tokenizer::from_gguf(&file)?;
    let template = ChatTemplate::from_gguf(&file, &tokenizer)?;
    let mut model = CpuModel::load(&file, Kernels::new(options.threads))?;
    println!("{}, {} threads, {} new tokens, greedy", options.model, options.threads, options.max_tokens);
    let curve = Arc::new(cost_curve(&options, &mut model)?);
    let policies = policies(&options, &curve);
    let engine = Engine::new(model, EngineOptions::default());
    let mut bench = Bench { engine, max_tokens: options.max_tokens, curve };
    println!(
        "task | policy | plain tokens/s | cold | by the curve | EDL | warm | by the curve | EDL | drafted a step | retrieval share"
    );
    for path in &options.files {
        let prompts = read_prompts(path, &tokenizer, template.as_ref(), 2 * options.limit)?;
        bench.measure(path, &prompts, &policies)?;
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
        fixed: true,
        adaptive: true,
        draft_lengths: vec![defaults.draft_length],
        min_probabilities: vec![defaults.min_probability],
        adaptive_lengths: Vec::new(),
        runners_up: vec![defaults.runners_up],
        curve: None,
        files: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--model" => options.model = value()?,
            "--threads" => options.threads = value()?.parse()?,
            "--limit" => options.limit = value()?.parse()?,
            "--max-tokens" => options.max_tokens = value()?.parse()?,
            "--policy" => {
                (options.fixed, options.adaptive) = match value()?.as_str() {
                    "fixed" => (true, false),
                    "adaptive" => (false, true),
                    "all" => (true, true),
                    other => return Err(format!("--policy {other}: fixed, adaptive or all").into()),
                };
            }
            "--draft-length" => options.draft_lengths = list(&value()?)?,
            "--adaptive-length" => options.adaptive_lengths = list(&value()?)?,
            "--runners-up" => {
                options.runners_up = match value()?.as_str() {
                    "on" => vec![true],
                    "off" => vec![false],
                    "both" => vec![true, false],
                    other => return Err(format!("--runners-up {other}: on, off or both").into()),
                };
            }
            "--curve" => options.curve = Some(value()?),
            "--min-probability" => options.min_probabilities = list(&value()?)?,
            _ => options.files.push(argument),
        }
    }
    Ok((!options.model.is_empty() && !options.files.is_empty()).then_some(options))
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, T::Err> {
    text.split(',').map(str::parse).collect()
}

/// The cost curve, printed.
fn cost_curve(options: &Options, model: &mut CpuModel) -> Result<CostCurve, Error> {
    let curve = match &options.curve {
        Some(path) => {
            let mut calibration: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
            serde_json::from_value(calibration["points"].take())?
        }
        None => CostCurve::measure(model, CURVE_CONTEXT, &CURVE_TOKENS, CURVE_BUDGET, |_| ())?,
    };
    let c = |point: &CostPoint| format!("{} {:.2}", point.tokens, curve.relative(point.tokens));
    let points: Vec<_> = curve.points().iter().map(c).collect();
    println!("c(N): {}; a pass over one token takes {:.2} ms", points.join(", "), curve.ms(1));
    Ok(curve)
}

/// The policies to compare.
fn policies(options: &Options, curve: &Arc<CostCurve>) -> Vec<Policy> {
    let mut policies = Vec::new();
    if options.fixed {
        for &draft_length in &options.draft_lengths {
            for &min_probability in &options.min_probabilities {
                let policy = DraftPolicy { draft_length, min_probability, ..DraftPolicy::default() };
                policies.push(Policy { name: format!("{draft_length} @ {min_probability}"), policy });
            }
        }
    }
    if options.adaptive {
        let default = DraftPolicy::adaptive(Arc::clone(curve));
        let lengths = match options.adaptive_lengths.as_slice() {
            [] => &[default.draft_length],
            lengths => lengths,
        };
        for &draft_length in lengths {
            let policy = DraftPolicy { draft_length, ..default.clone() };
            policies.push(Policy { name: format!("adaptive, {draft_length}"), policy });
        }
    }
    let with_or_without = |Policy { name, policy }: Policy| {
        options.runners_up.iter().map(move |&runners_up| Policy {
            name: format!("{name}{}", if runners_up { "" } else { ", no runners-up" }),
            policy: DraftPolicy { runners_up, ..policy.clone() },
        })
    };
    policies.into_iter().flat_map(with_or_without).collect()
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
            Ok(tokenizer.encode(&text, EncodeOptions { add_bos: true, parse_special: chat.is_some() }))
        })
        .collect()
}

struct Bench {
    engine: Engine<CpuModel>,
    max_tokens: usize,
    curve: Arc<CostCurve>,
}

/// Sums over the prompts of a task.
#[derive(Default)]
struct Totals {
    tokens: f64,
    seconds: f64,
    steps: f64,
    /// Time of the steps by the cost curve, in passes over one token.
    cost: f64,
    drafted: f64,
    retrieval: f64,
    /// Speed-up of each prompt.
    ratios: Vec<f64>,
}

impl Totals {
    fn add(&mut self, run: &Generation, plain: &Generation, curve: &CostCurve) {
        let stats = &run.stats;
        self.tokens += stats.decode_tokens as f64;
        self.seconds += stats.decode.as_secs_f64();
        self.steps += stats.steps() as f64;
        let steps = stats.draft_lengths.counts().iter().enumerate();
        self.cost += steps.map(|(drafted, &count)| count as f64 * curve.relative(drafted + 1)).sum::<f64>();
        self.drafted += stats.draft_tokens() as f64;
        self.retrieval += stats.retrieval.as_secs_f64();
        self.ratios.push(stats.decode_tokens_per_s() / plain.stats.decode_tokens_per_s());
    }

    /// Tokens per second.
    fn speed(&self) -> f64 {
        self.tokens / self.seconds
    }

    fn median_ratio(&mut self) -> f64 {
        self.ratios.sort_by(f64::total_cmp);
        self.ratios.get(self.ratios.len() / 2).copied().unwrap_or(f64::NAN)
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

    fn measure(&mut self, path: &str, prompts: &[Vec<TokenId>], policies: &[Policy]) -> Result<(), Error> {
        let namespace =
            || -> Result<Arc<Namespace>, Error> { Ok(Arc::new(Namespace::new(NAMESPACE_BYTES)?)) };
        let (warm_up, measured) = prompts.split_at(prompts.len() / 2);
        // The answers that it learns are the same by any policy.
        let warm = namespace()?;
        for prompt in warm_up {
            let drafter =
                NamespaceDrafter::new(Arc::clone(&warm), DraftPolicy::adaptive(Arc::clone(&self.curve)));
            self.generate(prompt, Box::new(drafter))?;
        }
        let curve = Arc::clone(&self.curve);
        let mut plain_totals = Totals::default();
        let mut totals: Vec<[Totals; 2]> = policies.iter().map(|_| Default::default()).collect();
        for prompt in measured {
            let plain = self.generate(prompt, Box::new(NoDraft))?;
            // An answer of one token has no decode step to measure.
            if plain.stats.decode_tokens == 0 {
                continue;
            }
            plain_totals.add(&plain, &plain, &curve);
            for (Policy { policy, .. }, totals) in policies.iter().zip(&mut totals) {
                let policy = DraftPolicy { sharing: Sharing::Read, ..policy.clone() };
                for (namespace, totals) in [namespace()?, Arc::clone(&warm)].into_iter().zip(totals) {
                    let drafter = NamespaceDrafter::new(namespace, policy.clone());
                    let run = self.generate(prompt, Box::new(drafter))?;
                    assert!(run.token_ids == plain.token_ids, "answers differ");
                    totals.add(&run, &plain, &curve);
                }
            }
        }
        let task = Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
        let plain_speed = plain_totals.speed();
        for (Policy { name, .. }, [cold, warm]) in policies.iter().zip(&mut totals) {
            println!(
                "{task} | {name} | {plain_speed:.0} | {:.2}x (median {:.2}x) | {:.3}x | {:.2} | {:.2}x (median {:.2}x) | {:.3}x | {:.2} | {:.1} | {:.2}%",
                cold.speed() / plain_speed,
                cold.median_ratio(),
                cold.tokens / cold.cost,
                cold.tokens / cold.steps,
                warm.speed() / plain_speed,
                warm.median_ratio(),
                warm.tokens / warm.cost,
                warm.tokens / warm.steps,
                warm.drafted / warm.steps,
                100.0 * warm.retrieval / warm.seconds,
            );
        }
        Ok(())
    }
}
