//! The cost curve c(N) of a model: the time of a forward pass over N tokens behind a context, by instruction set.
//!
//! `cargo bench -p lookahead-model --bench cost_curve -- MODEL.gguf [THREADS] [CONTEXT]`, with `ISA=id` for one instruction
//! set alone.

#![allow(clippy::print_stdout)] // its output is the result

use std::time::Instant;

use lookahead_kernels::{Isa, Kernels};
use lookahead_model::gguf::GgufFile;
use lookahead_model::{
    Accepted, CpuModel, Keep, KvCache, LanguageModel, Logits, LogitsOf, SequenceStep, TokenTree,
};

const REPEATS: usize = 15;
const TOKENS: [usize; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 64];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(path) = arguments.next() else {
        println!(
            "usage: cargo bench -p lookahead-model --bench cost_curve -- MODEL.gguf [THREADS] [CONTEXT]"
        );
        return;
    };
    let mut number = |default| arguments.next().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (threads, context) = (number(2), number(256));
    let file = GgufFile::open(&path).expect("a model file");
    let mut model = CpuModel::load(&file, Kernels::new(threads)).expect("a model");
    println!("{path}, {threads} threads, context {context}; median (min) of {REPEATS} passes");
    let wanted = std::env::var("ISA").ok();
    for isa in Isa::available().into_iter().skip(1) {
        if wanted.as_ref().is_some_and(|wanted| wanted != isa.id()) {
            continue;
        }
        model = model.with_kernels(Kernels::with_isa(isa, threads));
        measure(&mut model, isa, context);
    }
}

fn measure(model: &mut CpuModel, isa: Isa, context: usize) {
    let tokens: Vec<u32> = (0..context.max(64) as u32).map(|i| 100 + i % 300).collect();
    let mut cache = model.new_cache(context + 64);
    let prompt = TokenTree::chain(&tokens[..context]).expect("a context");
    let mut logits = Logits::default();
    let prefill = pass(model, &mut cache, &prompt, LogitsOf::Last, &mut logits);
    model.commit(&mut [Accepted { cache: &mut cache, path: &prompt.path_to(context - 1) }]);
    println!("{}: prefill {:.0} tokens/s", isa.name(), context as f64 / prefill * 1e3);
    let mut one = f64::NAN;
    for n in TOKENS {
        let tree = TokenTree::chain(&tokens[..n]).expect("tokens");
        let mut times: Vec<f64> =
            (0..REPEATS).map(|_| pass(model, &mut cache, &tree, LogitsOf::Every, &mut logits)).collect();
        times.sort_by(f64::total_cmp);
        let median = times[REPEATS / 2];
        if n == 1 {
            one = median;
        }
        println!("  N = {n:2}: {median:7.2} ms ({:.2})  c = {:.2}", times[0], median / one);
    }
}

/// Milliseconds of one pass.
fn pass(
    model: &mut CpuModel,
    cache: &mut KvCache,
    tree: &TokenTree,
    logits_of: LogitsOf,
    logits: &mut Logits,
) -> f64 {
    let began = Instant::now();
    // As greedy decoding does.
    model
        .forward(&mut [SequenceStep { tree, cache, logits_of, keep: Keep::Best(1) }], logits)
        .expect("room in the cache");
    began.elapsed().as_secs_f64() * 1e3
}
