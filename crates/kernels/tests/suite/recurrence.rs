//! Recurrences along trees, against one token after the other in plain arithmetic.

use lookahead_kernels::{Isa, Kernels, RecurrenceShape, ScanPlan, StateRule, causal_convolution, exp, recur};
use proptest::prelude::*;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A shape whose operands lie one behind the other.
fn shape(
    [heads, key_heads, key_dim, value_dim]: [usize; 4],
    interleaved: bool,
    decays: usize,
    rule: StateRule<'_>,
) -> RecurrenceShape<'_> {
    let rate_count = if let StateRule::Scan { .. } = rule { value_dim } else { heads };
    let keys = key_heads * key_dim;
    let decay = 2 * keys + heads * value_dim;
    let rates = decay + heads * decays;
    RecurrenceShape {
        heads,
        key_heads,
        interleaved,
        key_dim,
        value_dim,
        rule,
        decays,
        queries: 0,
        keys,
        values: 2 * keys,
        decay,
        rates,
        width: rates + rate_count,
    }
}

/// The states of all heads, `[head][key_dim][value_dim]`, after a token; and what it reads. `fades` are those of a scan, in the same
/// order.
fn step(shape: &RecurrenceShape<'_>, fades: &[f32], operands: &[f32], states: &mut [f32]) -> Vec<f32> {
    let mut out = Vec::new();
    for head in 0..shape.heads {
        let share = shape.heads / shape.key_heads;
        let key_head = if shape.interleaved { head % shape.key_heads } else { head / share };
        let at = |start: usize, k: usize| operands[start + key_head * shape.key_dim + k];
        let state = &mut states[head * shape.key_dim * shape.value_dim..];
        for v in 0..shape.value_dim {
            let value = operands[shape.values + head * shape.value_dim + v];
            let (rate, skip) = match shape.rule {
                StateRule::Delta => (operands[shape.rates + head], None),
                StateRule::Step { skips } => (operands[shape.rates + head], Some(skips[head])),
                StateRule::Scan { skips, .. } => (operands[shape.rates + v], Some(skips[v])),
            };
            let decay = |k: usize| match shape.rule {
                StateRule::Scan { .. } => exp(fades[k * shape.value_dim + v] * rate),
                _ => operands[shape.decay + head * shape.decays + k.min(shape.decays - 1)],
            };
            let mut given = 0.0f32;
            for k in 0..shape.key_dim {
                let faded = state[k * shape.value_dim + v] * decay(k);
                given = faded.mul_add(at(shape.keys, k), given);
            }
            let correction = if skip.is_some() { value * rate } else { (value - given) * rate };
            let mut read = skip.map_or(0.0, |skip| value * skip);
            for k in 0..shape.key_dim {
                let entry = &mut state[k * shape.value_dim + v];
                *entry = at(shape.keys, k).mul_add(correction, *entry * decay(k));
                read = entry.mul_add(at(shape.queries, k), read);
            }
            out.push(read);
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// A chain whose first rows are silent, a tree behind it, and then another pass that goes on from what was kept.
    #[test]
    fn trees_read_what_one_token_after_the_other_reads(
        key_heads in 1usize..3,
        share in 1usize..3,
        dims in (1usize..20, prop::sample::select(vec![1usize, 5, 16, 40, 64, 70, 130])),
        flags in any::<[bool; 2]>(),
        rule in 0usize..3,
        lengths in (0usize..4, 0usize..3),
        seeds in prop::collection::vec(any::<u32>(), 1..14),
        threads in 1usize..4,
        random in any::<u64>(),
    ) {
        let (key_heads, heads) = if rule == 2 { (1, 1) } else { (key_heads, key_heads * share) };
        let skips: Vec<f32> = (0..heads.max(dims.1)).map(|at| at as f32 * 0.3 - 0.2).collect();
        let fades: Vec<f32> = (0..dims.0 * dims.1).map(|at| -0.1 - (at % 7) as f32).collect();
        let sizes = [heads, key_heads, dims.0, dims.1];
        let [interleaved, has_decay_of_keys] = flags;
        let decays = if has_decay_of_keys { dims.0 } else { 1 };
        let packed = shape(sizes, interleaved, 0, StateRule::Delta).pack(&fades);
        let shape = match rule {
            0 => shape(sizes, interleaved, decays, StateRule::Delta),
            1 => shape(sizes, interleaved, decays, StateRule::Step { skips: &skips[..heads] }),
            _ => shape(sizes, interleaved, 0, StateRule::Scan { fades: &packed, skips: &skips[..dims.1] }),
        };
        let mut state = random;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let parents: Vec<u32> =
            seeds.iter().enumerate().map(|(node, seed)| seed % node.max(1) as u32).collect();
        let (silent, more) = lengths;
        let kept = silent + more;
        let rows = kept + parents.len();
        let operands: Vec<f32> = (0..2 * rows * shape.width).map(|_| next()).collect();
        let mut plan = ScanPlan::default();
        plan.plan(kept, &parents);

        // Plainly: the states after each row, of the row's parent.
        let empty = vec![0.0; heads * dims.0 * dims.1];
        let mut expected = Vec::new();
        let mut begin = empty.clone();
        for pass in operands.chunks(rows * shape.width) {
            let mut after: Vec<Vec<f32>> = Vec::new();
            for (row, operands) in pass.chunks(shape.width).enumerate() {
                let mut states = plan.parent(row).map_or_else(|| begin.clone(), |parent| after[parent].clone());
                let read = step(&shape, &fades, operands, &mut states);
                after.push(states);
                if row >= silent {
                    expected.extend(bits(&read));
                }
            }
            begin = kept.checked_sub(1).map_or_else(|| begin.clone(), |last| after[last].clone());
        }

        for isa in Isa::available() {
            let kernels = Kernels::with_isa(isa, threads);
            let mut found = Vec::new();
            let (mut state, mut scratch) = (vec![0.0; shape.state_len()], Vec::new());
            for pass in operands.chunks(rows * shape.width) {
                let mut out = vec![0.0; (rows - silent) * heads * dims.1];
                recur(&kernels, &shape, &plan, pass, &mut state, &mut scratch, &mut out);
                found.extend(bits(&out));
            }
            prop_assert_eq!(&found, &expected, "{:?}", isa);
        }
    }

    #[test]
    fn a_convolution_adds_from_the_oldest_token_on(
        taps in 1usize..8,
        channels in 1usize..40,
        has_bias in any::<bool>(),
        activated in any::<bool>(),
    ) {
        let value = |at: usize| (at as f32 * 0.37).sin();
        let rows: Vec<Vec<f32>> = (0..taps).map(|t| (0..channels).map(|c| value(t * 41 + c)).collect()).collect();
        let weights: Vec<f32> = (0..taps * channels).map(|at| value(at + 7)).collect();
        let bias: Vec<f32> = if has_bias { (0..channels).map(|c| value(c + 3)).collect() } else { Vec::new() };
        let plain: Vec<f32> = (0..channels)
            .map(|c| {
                let begin = bias.get(c).copied().unwrap_or(0.0);
                (0..taps).fold(begin, |sum, t| rows[t][c].mul_add(weights[t * channels + c], sum))
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let run = |isa| {
            let mut out = vec![9.0; channels];
            causal_convolution(isa, &rows, &weights, &bias, activated, &mut out);
            out
        };
        let expected = run(Isa::SCALAR);
        for (found, plain) in expected.iter().zip(plain) {
            let silu = plain / (1.0 + (-plain).exp());
            let agrees = if activated { (found - silu).abs() < 1e-6 } else { *found == plain };
            prop_assert!(agrees, "{} {}", found, plain);
        }
        for isa in Isa::available() {
            prop_assert_eq!(bits(&run(isa)), bits(&expected), "{:?}", isa);
        }
    }
}
