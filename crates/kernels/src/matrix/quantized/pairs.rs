//! Products of pairs of tokens, where an instruction multiplies these: with pairs of vectors of codes, eight columns.

use std::ops::Range;

use super::codes::{Codes, QUAD};
use crate::simd::{Simd, first};

/// The products of the vectors `vectors` of codes with each of `T` tokens, an even number. `x` are the tokens' codes of the same block.
#[inline(always)]
pub(super) fn products<S: Simd, C: Codes, const V: usize, const T: usize>(
    simd: S,
    packed: [&[u8]; V],
    parts: [usize; V],
    vectors: Range<usize>,
    x: [&[i8]; T],
) -> [[S::Dot; T]; V] {
    let mut products = [[simd.dot_zero(); T]; V];
    for c in vectors.step_by(2) {
        for v in 0..V {
            let weights = [C::load(simd, packed[v], c, parts[v]), C::load(simd, packed[v], c + 1, parts[v])];
            for pair in 0..T / 2 {
                let [a, b] = [2 * pair, 2 * pair + 1];
                let x = [first(&x[a][QUAD * c..]), first(&x[b][QUAD * c..])];
                let sums = [products[v][a], products[v][b]];
                [products[v][a], products[v][b]] = simd.dot_pair(sums, weights, C::BIASED, x);
            }
        }
    }
    for v in 0..V {
        for pair in 0..T / 2 {
            let [a, b] = [2 * pair, 2 * pair + 1];
            [products[v][a], products[v][b]] = simd.pair_finish([products[v][a], products[v][b]]);
        }
    }
    products
}
