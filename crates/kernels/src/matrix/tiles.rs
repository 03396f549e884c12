//! Tiles: some vectors of rows by some tokens, whose sums stay in registers; and the sizes that kernels are compiled for.

use std::marker::PhantomData;
use std::ops::Range;

use super::output::Output;
use super::packed::Matrix;
use crate::activations::Activations;
use crate::simd::Simd;

/// Tokens that a task multiplies all its rows with before it turns to the next: their activations stay in the cache
/// while the rows stream by.
const BLOCK_TOKENS: usize = 32;

/// The sizes of tiles of a kind of product. Each is code of its own, so that there are no more than are of use; numbers of tokens
/// ascend.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    /// Vectors of rows to a tile where memory is the limit…
    pub(super) light_vectors: usize,
    /// …and for which numbers of tokens it is.
    pub(super) light_tokens: &'static [usize],
    /// Vectors of rows to a tile where arithmetic is the limit…
    pub(super) vectors: usize,
    /// …and the numbers of tokens that there are tiles for.
    pub(super) tokens: &'static [usize],
}

impl Tiles {
    /// Whether there is a tile of `vectors` by `tokens`. A number of tokens that has none takes the next larger tile; what that
    /// computes beyond goes nowhere.
    const fn has(self, vectors: usize, tokens: usize) -> bool {
        vectors == self.light_vectors && contains(self.light_tokens, tokens)
            || vectors == self.vectors && contains(self.tokens, tokens)
    }

    /// Whether there are tiles of `vectors`.
    const fn have(self, vectors: usize) -> bool {
        vectors == self.light_vectors || vectors == self.vectors
    }

    /// The most tokens of a tile of `vectors`.
    const fn most_tokens(self, vectors: usize) -> usize {
        if vectors == self.vectors { last(self.tokens) } else { last(self.light_tokens) }
    }

    /// Vectors of rows that a product with `tokens` takes at once.
    #[inline(always)]
    fn vectors_for(self, tokens: usize) -> usize {
        if tokens <= last(self.light_tokens) { self.light_vectors } else { self.vectors }
    }
}

const fn contains(sizes: &[usize], size: usize) -> bool {
    let mut i = 0;
    while i < sizes.len() {
        if sizes[i] == size {
            return true;
        }
        i += 1;
    }
    false
}

const fn last(sizes: &[usize]) -> usize {
    sizes[sizes.len() - 1]
}

/// The tokens of a product, in the portions in which a task takes them.
fn token_blocks(tokens: usize) -> impl Iterator<Item = Range<usize>> {
    (0..tokens).step_by(BLOCK_TOKENS).map(move |first| first..(first + BLOCK_TOKENS).min(tokens))
}

/// Whether a tile is the first of its rows in a block of tokens: those after it find the rows in the cache.
#[inline(always)]
pub(super) fn is_first_tile(tokens: &Range<usize>) -> bool {
    tokens.start.is_multiple_of(BLOCK_TOKENS)
}

/// The size of tiles of at most `most` tokens that `tokens` are cut into: of equal size, not full ones and a remainder.
#[inline(always)]
fn tile_size(tokens: usize, most: usize) -> usize {
    tokens.div_ceil(tokens.div_ceil(most))
}

/// A product with weights that lie as `L` says.
pub(super) struct MatrixProduct<'a, S, L> {
    pub(super) simd: S,
    pub(super) matrix: &'a Matrix,
    pub(super) x: &'a Activations,
    pub(super) layout: PhantomData<L>,
}

impl<S: Copy, L> Clone for MatrixProduct<'_, S, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Copy, L> Copy for MatrixProduct<'_, S, L> {}

/// A product of a matrix with some tokens.
pub(super) trait Product<S: Simd>: Copy {
    /// The sizes of its tiles.
    const TILES: Tiles;

    /// The number of tokens.
    fn tokens(self) -> usize;

    /// Computes `V` vectors of rows, from vector `vector` on, for `tokens`, `T` at most; what it computes beyond goes nowhere.
    fn tile<const V: usize, const T: usize>(self, vector: usize, tokens: Range<usize>, out: &mut Output<'_>);
}

/// Computes the groups of `out`, tile by tile. Sizes that a product does not have are not compiled.
#[inline(always)]
pub(super) fn multiply_tiles<S: Simd, P: Product<S>>(product: P, out: &mut Output<'_>) {
    let rows = out.vectors::<S>();
    for tokens in token_blocks(product.tokens()) {
        let vectors = const { P::TILES }.vectors_for(tokens.len());
        let mut vector = rows.start;
        while vector < rows.end {
            let vectors = vectors.min(rows.end - vector);
            if const { P::TILES.have(2) } && vectors == 2 {
                multiply_rows::<S, P, 2>(product, vector, tokens.clone(), out);
            } else if const { P::TILES.have(1) } {
                multiply_rows::<S, P, 1>(product, vector, tokens.clone(), out);
            } else {
                unreachable!("a group is a pair of vectors");
            }
            vector += vectors;
        }
    }
}

/// Computes `V` vectors of rows for some tokens.
#[inline(always)]
fn multiply_rows<S: Simd, P: Product<S>, const V: usize>(
    product: P,
    vector: usize,
    tokens: Range<usize>,
    out: &mut Output<'_>,
) {
    let size = tile_size(tokens.len(), const { P::TILES.most_tokens(V) });
    for first in tokens.clone().step_by(size) {
        let tokens = first..tokens.end.min(first + size);
        let len = tokens.len();
        if const { P::TILES.has(V, 1) } && len == 1 {
            product.tile::<V, 1>(vector, tokens, out);
        } else if const { P::TILES.has(V, 2) } && len <= 2 {
            product.tile::<V, 2>(vector, tokens, out);
        } else if const { P::TILES.has(V, 3) } && len <= 3 {
            product.tile::<V, 3>(vector, tokens, out);
        } else if const { P::TILES.has(V, 4) } && len <= 4 {
            product.tile::<V, 4>(vector, tokens, out);
        } else if const { P::TILES.has(V, 6) } {
            product.tile::<V, 6>(vector, tokens, out);
        } else {
            unreachable!("no tile is larger");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_cut_into_tiles_of_equal_size() {
        assert_eq!([1, 4, 5, 6, 7, 16, 31].map(|tokens| tile_size(tokens, 6)), [1, 4, 5, 6, 4, 6, 6]);
    }

    #[test]
    fn a_tile_belongs_to_memory_or_to_arithmetic() {
        let tiles = Tiles { light_vectors: 1, light_tokens: &[1, 2], vectors: 2, tokens: &[3, 6] };
        let sizes = [[1, 1], [1, 2], [1, 3], [2, 2], [2, 3], [2, 6]];
        let found = sizes.map(|[vectors, tokens]| tiles.has(vectors, tokens));
        assert_eq!(found, [true, true, false, false, true, true]);
        assert_eq!([1, 2, 3].map(|tokens| tiles.vectors_for(tokens)), [1, 1, 2]);
        assert_eq!([1, 2].map(|vectors| tiles.most_tokens(vectors)), [2, 6]);
    }
}
