//! Rows on their way to experts and back.

use lookahead_gpu::{Gathered, Rows, Scattered, add_rows, gather};
use lookahead_kernels::{Isa, add_scaled, scale, scale_each};
use proptest::prelude::*;

use crate::gpu::{bench, bits};
use crate::noise::Noise;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gathered_rows_have_the_bits_of_the_cpu(
        width in 1usize..150,
        [has_column_factors, has_row_factors] in any::<[bool; 2]>(),
        rows in prop::collection::vec(0u32..6, 1..9),
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let values = noise.floats(6 * width);
        let [column_factors, row_factors] = [width, rows.len()].map(|len| noise.floats(len));
        let mut expected = Vec::new();
        for (&row, &factor) in rows.iter().zip(&row_factors) {
            let mut row = values[row as usize * width..][..width].to_vec();
            if has_column_factors {
                scale_each(Isa::SCALAR, &mut row, &column_factors);
            }
            if has_row_factors {
                scale(Isa::SCALAR, &mut row, factor);
            }
            expected.extend(row);
        }
        let pass = &mut bench.pass;
        let from = Rows { at: pass.put_floats(values), width, count: 6 };
        let to = Rows::new(pass, rows.len(), width);
        let gathered = Gathered {
            rows: pass.put_words(rows),
            column_factors: has_column_factors.then(|| bench.memory.add_constants(&column_factors)),
            row_factors: has_row_factors.then(|| pass.put_floats(row_factors)),
        };
        gather(&bench.gpu, pass, gathered, from, to);
        pass.read(to.at..to.at + to.len());
        prop_assert_eq!(bits(&bench.memory.run(&bench.gpu, pass).unwrap()), bits(&expected));
    }

    #[test]
    fn rows_are_added_as_on_the_cpu_whatever_was_uploaded_before(
        width in 1usize..150,
        // Twice: what is added first is rounded first.
        rows in prop::array::uniform2(prop::sample::subsequence((0u32..6).collect::<Vec<_>>(), 1..=6)),
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let mut expected = noise.floats(6 * width);
        let pass = &mut bench.pass;
        let to = Rows { at: pass.put_floats(expected.clone()), width, count: 6 };
        for rows in rows {
            let (values, factors) = (noise.floats(rows.len() * width), noise.floats(rows.len()));
            for ((&row, y), &factor) in rows.iter().zip(values.chunks_exact(width)).zip(&factors) {
                add_scaled(Isa::SCALAR, &mut expected[row as usize * width..][..width], y, factor);
            }
            let from = Rows { at: pass.put_floats(values), width, count: rows.len() };
            let scattered = Scattered { rows: pass.put_words(rows), factors: pass.put_floats(factors) };
            add_rows(&bench.gpu, pass, scattered, from, to);
        }
        pass.read(to.at..to.at + to.len());
        prop_assert_eq!(bits(&bench.memory.run(&bench.gpu, pass).unwrap()), bits(&expected));
    }
}
