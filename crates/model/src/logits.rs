//! Logits of a forward pass: of each node that was asked for the whole row, or its best.

use lookahead_kernels::{Candidate, Keep, Kept};

/// Logits of a forward pass: sequences in batch order, nodes in tree order. Of each node that was asked for there is a row of
/// one value per token of the vocabulary, or the best of it. Reused between passes, so that a decode step does not allocate.
#[derive(Clone, Debug, Default)]
pub struct Logits {
    keep: Vec<Keep>,
    /// Where what is kept of each row begins, in `values` or in `best`.
    starts: Vec<usize>,
    values: Vec<f32>,
    best: Vec<Candidate>,
    vocabulary_size: usize,
}

impl Logits {
    /// Makes room for what is to be kept of each row, and returns it to be filled. For implementers of
    /// [`LanguageModel`](crate::LanguageModel).
    pub fn reset(&mut self, vocabulary_size: usize, keep: impl Iterator<Item = Keep>) -> Kept<'_> {
        self.vocabulary_size = vocabulary_size;
        self.keep.clear();
        self.starts.clear();
        let [mut values, mut best] = [0; 2];
        for keep in keep {
            let (end, len) = match keep {
                Keep::Row => (&mut values, vocabulary_size),
                Keep::Best(ranks) => (&mut best, ranks),
            };
            self.keep.push(keep);
            self.starts.push(*end);
            *end += len;
        }
        self.values.resize(values, 0.0);
        self.best.resize(best, Candidate::NONE);
        Kept { keep: &self.keep, rows: &mut self.values, best: &mut self.best }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.keep.len()
    }

    /// The logits of row `row`, one value per token of the vocabulary.
    ///
    /// # Panics
    /// If there is no such row, or only its best are there.
    pub fn row(&self, row: usize) -> &[f32] {
        assert_eq!(self.keep[row], Keep::Row, "a whole row was asked for");
        &self.values[self.starts[row]..][..self.vocabulary_size]
    }

    /// The best of row `row`, sorted by rank and filled up with [`Candidate::NONE`]; `None` if the whole row is there.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn best(&self, row: usize) -> Option<&[Candidate]> {
        match self.keep[row] {
            Keep::Row => None,
            Keep::Best(ranks) => Some(&self.best[self.starts[row]..][..ranks]),
        }
    }
}
