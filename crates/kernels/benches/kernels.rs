//! Rates of the kernels, beside the machine's ceilings measured in the same run: GB/s of weights or cache, and
//! multiply-adds per second (items).
//!
//! `cargo bench -p lookahead-kernels`, with `THREADS=n` (2 by default) and `ISA=name` (the best by default); a word
//! after `--` filters by name.

#![allow(clippy::print_stdout)] // its output is the result

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use lookahead_kernels::{
    Activations, Attended, AttentionScratch, AttentionShape, Ceilings, InputCodes, Isa, Kernels, KvLayout,
    KvPage, KvShape, KvType, Matrix, PAGE_ROWS, VisibleRows, WeightArena, WeightType, attention, multiply,
};

/// A matrix that no cache holds: its weights come from memory, as those of a model do.
const COLUMNS: usize = 2048;
const ROWS: usize = 64 << 10;

static KERNELS: LazyLock<Kernels> = LazyLock::new(|| {
    let threads = std::env::var("THREADS").ok().and_then(|threads| threads.parse().ok()).unwrap_or(2);
    let wanted = std::env::var("ISA").unwrap_or_default();
    let isa = Isa::available().into_iter().find(|isa| isa.name() == wanted).unwrap_or_else(Isa::detect);
    Kernels::with_isa(isa, threads)
});

fn main() {
    let ceilings = Ceilings::measure(&KERNELS, Duration::from_secs(1)).expect("memory");
    println!("{}, {} threads: ceilings {ceilings}", KERNELS.isa().name(), KERNELS.threads());
    divan::main();
}

fn activations(tokens: usize, codes: InputCodes) -> Activations {
    let mut x = Activations::new();
    x.compute(&KERNELS, [tokens, COLUMNS], codes, [], 0, |token, [], row| {
        for (i, x) in row.iter_mut().enumerate() {
            *x = ((token * 31 + i * 17) % 61) as f32 / 30.0 - 1.0;
        }
    });
    x
}

/// Blocks of any codes, with scales that keep sums finite.
fn weights(weight_type: WeightType) -> Matrix {
    let row_bytes = weight_type.row_bytes(COLUMNS).expect("whole blocks");
    let mut row: Vec<u8> = (0..row_bytes).map(|i| (i * 37 % 251) as u8).collect();
    for block in row.chunks_exact_mut(weight_type.block_bytes()) {
        match weight_type {
            WeightType::F32 => block.copy_from_slice(&0.5f32.to_le_bytes()),
            WeightType::F16 | WeightType::Bf16 => block.copy_from_slice(&[0x00, 0x34]),
            WeightType::Q6K => block[208..].copy_from_slice(&[0x00, 0x10]),
            _ => block[..4].copy_from_slice(&[0x00, 0x10, 0x00, 0x10]),
        }
    }
    let (mut arena, bytes) = (WeightArena::new(), row.repeat(ROWS));
    Matrix::pack(&KERNELS, &mut arena, weight_type, [ROWS, COLUMNS], &bytes).expect("a matrix")
}

fn product(bencher: Bencher<'_, '_>, weight_type: WeightType, tokens: usize) {
    let matrix = weights(weight_type);
    let x = activations(tokens, weight_type.codes());
    let mut out = vec![0.0; tokens * ROWS];
    bencher
        .counter(BytesCount::new(matrix.bytes()))
        .counter(ItemsCount::new(ROWS * COLUMNS * tokens))
        .bench_local(|| multiply(&KERNELS, &x, [(&matrix, &mut out)]));
}

macro_rules! products {
    ($($name:ident = $weight_type:ident),*) => {$(
        #[divan::bench(args = [1, 2, 3, 4, 6, 8, 16, 64], sample_count = 15, sample_size = 1)]
        fn $name(bencher: Bencher<'_, '_>, tokens: usize) {
            product(bencher, WeightType::$weight_type, tokens);
        }
    )*};
}
products!(
    f32 = F32,
    f16 = F16,
    bf16 = Bf16,
    q8_0 = Q8_0,
    q4_0 = Q4_0,
    q4_1 = Q4_1,
    q5_0 = Q5_0,
    q5_1 = Q5_1,
    iq4_nl = Iq4Nl,
    mxfp4 = Mxfp4,
    nvfp4 = Nvfp4,
    q1_0 = Q1_0,
    q2_0 = Q2_0,
    iq4_xs = Iq4Xs,
    iq3_s = Iq3S,
    iq2_s = Iq2S,
    tq2_0 = Tq2_0,
    q2_k = Q2K,
    q3_k = Q3K,
    q4_k = Q4K,
    q5_k = Q5K,
    q6_k = Q6K
);

/// Nine heads of 64 dimensions over three of keys and values, as in SmolLM2-135M, 32 layers of them: more than the
/// second-level cache holds.
fn attention_over(bencher: Bencher<'_, '_>, kv_type: KvType, context: usize, nodes: usize) {
    const LAYERS: usize = 32;
    let (heads, kv_heads, head_dim) = (9, 3, 64);
    let kv_shape = KvShape { heads: kv_heads, key_dim: head_dim, value_dim: head_dim };
    let layout = KvLayout::new(kv_type, [kv_shape; LAYERS]);
    let page = || Arc::new(KvPage::new(&layout).expect("memory"));
    let mut pages: Vec<_> = (0..(context + nodes).div_ceil(PAGE_ROWS)).map(|_| page()).collect();
    let row = vec![0.5; kv_heads * head_dim];
    for layer in 0..LAYERS {
        (0..context + nodes).for_each(|index| layout.write(&mut pages, layer, index, &row, &row));
    }
    let mut visible = VisibleRows::default();
    // A tree of one level: every node sees the context and itself.
    (0..nodes).for_each(|node| visible.push(context, std::iter::once((context + node) as u32)));
    let queries = vec![0.1; nodes * heads * head_dim];
    let (mut out, mut scratch) = (queries.clone(), AttentionScratch::default());
    let shape =
        AttentionShape { heads, scale: 0.125, window: None, soft_cap: None, alibi: false, sinks: &[] };
    let cache_bytes = 2 * LAYERS * kv_heads * context * kv_type.row_bytes(head_dim);
    bencher
        .counter(BytesCount::new(cache_bytes))
        .counter(ItemsCount::new(2 * LAYERS * nodes * heads * context * head_dim))
        .bench_local(|| {
            for layer in (0..LAYERS).map(|layer| layout.layer(layer, &pages)) {
                let sequence = |_| Attended { layer, visible: &visible };
                attention(&KERNELS, shape, &queries, 1, &sequence, &mut scratch, &mut out);
            }
        });
}

#[divan::bench(args = [(256, 1), (256, 8), (256, 16), (256, 64), (4096, 1), (4096, 16)], sample_count = 15)]
fn attention_f32(bencher: Bencher<'_, '_>, (context, nodes): (usize, usize)) {
    attention_over(bencher, KvType::F32, context, nodes);
}

#[divan::bench(args = [(256, 1), (256, 8), (256, 16), (256, 64), (4096, 1), (4096, 16)], sample_count = 15)]
fn attention_f16(bencher: Bencher<'_, '_>, (context, nodes): (usize, usize)) {
    attention_over(bencher, KvType::F16, context, nodes);
}

#[divan::bench(args = [(256, 1), (256, 8), (256, 16), (256, 64), (4096, 1), (4096, 16)], sample_count = 15)]
fn attention_q8_0(bencher: Bencher<'_, '_>, (context, nodes): (usize, usize)) {
    attention_over(bencher, KvType::Q8_0, context, nodes);
}

/// A hundred operators of nothing: what sharing out work costs.
#[divan::bench(sample_count = 15)]
fn barrier_x100(bencher: Bencher<'_, '_>) {
    let tasks = KERNELS.threads();
    bencher.bench_local(|| {
        for _ in 0..100 {
            KERNELS.run(tasks, usize::MAX, |_, task| {
                divan::black_box(task);
            });
        }
    });
}
