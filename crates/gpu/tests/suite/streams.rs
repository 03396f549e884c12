//! Several residual streams.

use lookahead_gpu::{Rows, Shares, add_shares, match_magnitude, scale_columns};
use lookahead_kernels::{Isa, add_scaled, match_magnitude as match_magnitude_of, scale_each};
use proptest::prelude::*;

use crate::gpu::{bench, bits};
use crate::noise::Noise;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn magnitudes_have_the_bits_of_the_cpu(
        width in 1usize..300,
        count in 1usize..5,
        is_small in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let [mut expected, like] = [0, 1].map(|_| noise.floats(width * count));
        if is_small {
            for value in &mut expected {
                *value *= 1e-4;
            }
        }
        let pass = &mut bench.pass;
        let [rows, of] = [&expected, &like].map(|rows| Rows { at: pass.put_floats(rows.clone()), width, count });
        match_magnitude(&bench.gpu, pass, rows, of);
        pass.read(rows.at..rows.at + rows.len());
        for (row, like) in expected.chunks_exact_mut(width).zip(like.chunks_exact(width)) {
            match_magnitude_of(Isa::SCALAR, row, like);
        }
        prop_assert!(bits(&bench.memory.run(&bench.gpu, pass).unwrap()) == bits(&expected));
    }

    #[test]
    fn shares_have_the_bits_of_the_cpu(
        width in 1usize..150,
        [nodes, stream_count, source_count, modality_count] in prop::array::uniform4(1usize..5),
        least in prop::sample::select(&[0.0f32, 1.0][..]),
        in_place in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let mut expected = noise.floats(stream_count * nodes * width);
        let sources = noise.floats(source_count * nodes * width);
        let modalities = noise.floats(nodes * modality_count);
        let coefficients = noise.floats(stream_count * source_count * modality_count);
        let pass = &mut bench.pass;
        let mut put = |values: &[f32], width: usize| {
            Rows { at: pass.put_floats(values.to_vec()), width, count: values.len() / width }
        };
        let streams = put(&expected, width);
        let other = put(&expected, width);
        let results = if in_place { streams } else { other };
        let shares = Shares {
            streams,
            results,
            sources: put(&sources, width),
            modalities: put(&modalities, modality_count),
            coefficients: bench.memory.add_constants(&coefficients),
            least,
        };
        add_shares(&bench.gpu, pass, shares);
        pass.read(results.at..results.at + results.len());
        for (index, row) in expected.chunks_exact_mut(width).enumerate() {
            let (stream, node) = (index / nodes, index % nodes);
            let modalities = &modalities[node * modality_count..][..modality_count];
            for source in 0..source_count {
                let of_source = &coefficients[(stream * source_count + source) * modality_count..];
                let share = of_source.iter().zip(modalities).fold(0.0, |sum, (a, b)| sum + a * b);
                add_scaled(Isa::SCALAR, row, &sources[(source * nodes + node) * width..][..width], least + share);
            }
        }
        prop_assert!(bits(&bench.memory.run(&bench.gpu, pass).unwrap()) == bits(&expected));
    }
}

#[test]
fn each_column_has_its_factor() {
    let Some(mut bench) = bench() else { return };
    let (width, count) = (77, 3);
    let mut noise = Noise::new(7);
    let [mut expected, factors] = [width * count, width].map(|len| noise.floats(len));
    let rows = Rows { at: bench.pass.put_floats(expected.clone()), width, count };
    let factors_at = bench.memory.add_constants(&factors);
    scale_columns(&bench.gpu, &mut bench.pass, rows, factors_at);
    bench.pass.read(rows.at..rows.at + rows.len());
    expected.chunks_exact_mut(width).for_each(|row| scale_each(Isa::SCALAR, row, &factors));
    assert_eq!(bits(&bench.memory.run(&bench.gpu, &bench.pass).unwrap()), bits(&expected));
}
