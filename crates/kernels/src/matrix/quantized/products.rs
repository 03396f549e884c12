//! Products of packed codes with those of tokens, in the order that suits an instruction set. The sums are exact integers, so that the
//! order is free.

use std::ops::Range;

use super::codes::{Codes, QUAD};
use super::splat_codes;
use crate::simd::{Simd, first};

/// Vectors of a block.
pub(super) const VECTORS: usize = 8;

/// Repeats a block for each `$i` below `$n`, 8 at most. A loop of such length the compiler may leave as it is, and what `$i` indexes in
/// memory instead of registers.
macro_rules! unrolled {
    ($i:ident < $n:expr, $body:block) => {
        unrolled!(@ $i, $n, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident, $n:expr, $body:block, $($value:literal)*) => {{
        $(if $value < $n {
            let $i = $value;
            $body
        })*
    }};
}

/// Whether codes are multiplied by [`biased_products`] with `tokens` tokens.
pub(super) const fn are_biased<S: Simd, C: Codes>(tokens: usize) -> bool {
    C::BIASED && !(S::PAIRS && tokens > 1)
}

/// What each code is too great by in the sums of products is 2 to this power, if anything.
pub(super) const fn offset_bits<S: Simd, C: Codes>() -> Option<u32> {
    match C::OFFSET_BITS {
        _ if C::BIASED => S::BIAS.checked_ilog2(),
        bits => bits,
    }
}

/// Adds to `sums` the products of the vectors `vectors` of biased codes with each of `T` tokens.
#[inline(always)]
pub(super) fn biased_products<S: Simd, C: Codes, const V: usize, const T: usize>(
    simd: S,
    packed: [&[u8]; V],
    parts: [usize; V],
    vectors: Range<usize>,
    x: [&[i8; 32]; T],
    mut sums: [[S::I32; T]; V],
) -> [[S::I32; T]; V] {
    for c in vectors {
        let mut weights = [simd.splat4([0; 4]); V];
        for v in 0..V {
            weights[v] = C::load(simd, packed[v], c, parts[v]);
        }
        for t in 0..T {
            let x = splat_codes(simd, x[t], QUAD * c);
            for v in 0..V {
                sums[v][t] = simd.dot_biased(sums[v][t], weights[v], x);
            }
        }
    }
    sums
}

/// How many of `vectors` vectors of codes [`products`] may take at once.
pub(super) const fn run<S: Simd, C: Codes>(vectors: usize) -> usize {
    if S::WIDE_DOT || C::SUMMANDS > vectors { vectors } else { C::SUMMANDS }
}

/// The products of the vectors `vectors` of codes, a [`run`] at most, with each of `T` tokens, whose codes of the same block are `x`. Codes
/// that are biased have products of pairs alone.
#[inline(always)]
pub(super) fn products<S: Simd, C: Codes, const V: usize, const T: usize>(
    simd: S,
    packed: [&[u8]; V],
    parts: [usize; V],
    vectors: Range<usize>,
    x: [&[i8; 32]; T],
) -> [[S::Dot; T]; V] {
    let mut products = [[simd.dot_zero(); T]; V];
    if S::PAIRS && T > 1 {
        // Pair of tokens by pair, of an even number: with pairs of vectors, eight columns.
        for c in vectors.step_by(2) {
            for v in 0..V {
                let weights =
                    [C::load(simd, packed[v], c, parts[v]), C::load(simd, packed[v], c + 1, parts[v])];
                for a in (0..T).step_by(2) {
                    let b = a + 1;
                    let x = [first(&x[a][QUAD * c..]), first(&x[b][QUAD * c..])];
                    let sums = [products[v][a], products[v][b]];
                    [products[v][a], products[v][b]] = simd.dot_pair(sums, weights, C::BIASED, x);
                }
            }
        }
        for v in 0..V {
            for a in (0..T).step_by(2) {
                let b = a + 1;
                [products[v][a], products[v][b]] = simd.pair_finish([products[v][a], products[v][b]]);
            }
        }
    } else if S::WIDE_DOT {
        // Vector by vector: the sums of all tokens grow side by side, as each waits long for the last product.
        for c in vectors {
            let mut weights = [simd.splat4([0; 4]); V];
            for v in 0..V {
                weights[v] = C::load(simd, packed[v], c, parts[v]);
            }
            for t in 0..T {
                let x = splat_codes(simd, x[t], QUAD * c);
                for v in 0..V {
                    products[v][t] = simd.dot(products[v][t], weights[v], x);
                }
            }
        }
    } else {
        // Token by token: registers hold all weights of the run, and the sum of one token.
        for v in 0..V {
            let mut weights = [simd.splat4([0; 4]); VECTORS];
            for c in vectors.clone() {
                weights[c] = C::load(simd, packed[v], c, parts[v]);
            }
            unrolled!(t < T, {
                let mut sum = simd.dot_zero();
                for c in vectors.clone() {
                    sum = simd.dot(sum, weights[c], splat_codes(simd, x[t], QUAD * c));
                }
                products[v][t] = sum;
            });
        }
    }
    products
}
