//! The best of rows.

use lookahead_gpu::{Best, Rows};
use lookahead_kernels::Candidate;
use proptest::prelude::*;

use crate::gpu::bench;
use crate::noise::Noise;

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_best_are_those_of_a_sorted_row(
        width in prop_oneof![1usize..40, 2000usize..7000],
        count in 1usize..4,
        ranks in 1usize..20,
        levels in prop_oneof![Just(3u64), Just(1 << 20)],
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let mut value = || match noise.next() % 50 {
            0 => f32::NAN,
            1 => f32::NEG_INFINITY,
            2 => -0.0,
            _ => (noise.next() % levels) as f32 - 1.0,
        };
        let values: Vec<f32> = (0..width * count).map(|_| value()).collect();
        let order: Vec<u32> = (0..count as u32).rev().collect();
        let mut expected = Vec::new();
        for &row in &order {
            let row = &values[row as usize * width..][..width];
            let candidates = (0..).zip(row).map(|(token, &logit)| Candidate { token, logit });
            let mut candidates: Vec<_> = candidates.filter(|candidate| !candidate.logit.is_nan()).collect();
            candidates.sort_by(Candidate::by_rank);
            candidates.resize(ranks, Candidate::NONE);
            expected.extend(candidates);
        }
        let from = Rows { at: bench.pass.put_floats(values), width, count };
        let best = Best::find(&bench.gpu, &mut bench.pass, from, order, ranks);
        let read = bench.memory.run(&bench.gpu, &bench.pass).unwrap();
        let mut found = vec![Candidate::NONE; ranks * count];
        best.write(&read, &mut found);
        prop_assert_eq!(found, expected);
    }
}
