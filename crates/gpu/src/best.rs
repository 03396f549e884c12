//! The best of a model's output: of each row the greatest values, so that few bytes are read back.

use lookahead_kernels::Candidate;

use crate::gpu::{Access, Gpu};
use crate::pass::Pass;
use crate::rows::Rows;

/// Values that a workgroup looks through.
const SLICE: usize = 2048;
/// More ranks than so many take longer than to read the row.
pub const MOST_RANKS: usize = 64;

/// Where the best of some rows lie when a pass is done.
#[derive(Clone, Copy, Debug)]
pub struct Best {
    results: Rows,
    ranks: usize,
}

impl Best {
    /// Finds the `ranks` best of the rows of `from` that are named, at most [`MOST_RANKS`], and reads them at the end of the pass.
    pub fn find(gpu: &Gpu, pass: &mut Pass, from: Rows, rows: Vec<u32>, ranks: usize) -> Self {
        let (count, slices) = (rows.len(), from.width.div_ceil(SLICE));
        let results = Rows::new(pass, count, slices * ranks * 2);
        let rows = pass.put_words(rows);
        let pipeline = gpu.pipeline("best", Access::Read, || include_str!("shaders/best.wgsl").to_owned());
        let parameters = [from.at, from.width, ranks, results.at, rows].map(|value| value as u32);
        pass.run(pipeline, None, &parameters, [slices, count, 1]);
        pass.read(results.at..results.at + results.len());
        Self { results, ranks }
    }

    /// Floats that are read.
    pub fn len(&self) -> usize {
        self.results.len()
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the best of each row, one behind the other, from what was read.
    ///
    /// # Panics
    /// If `out` has not `ranks` places a row.
    pub fn write(&self, read: &[f32], out: &mut [Candidate]) {
        assert_eq!(out.len(), self.results.count * self.ranks, "a place for each rank");
        if self.ranks == 0 {
            return;
        }
        for (read, out) in read.chunks_exact(self.results.width).zip(out.chunks_exact_mut(self.ranks)) {
            let found = read.as_chunks::<2>().0.iter().filter(|[_, token]| *token >= 0.0);
            let mut found: Vec<_> =
                found.map(|&[logit, token]| Candidate { token: token as u32, logit }).collect();
            found.sort_unstable_by(Candidate::by_rank);
            found.resize(self.ranks, Candidate::NONE);
            out.copy_from_slice(&found);
        }
    }
}
