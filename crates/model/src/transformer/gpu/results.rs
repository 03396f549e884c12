//! What is read of logits.

use lookahead_gpu::{Best, MOST_RANKS, Rows};
use lookahead_kernels::{Candidate, Keep, Kept};

use super::{GpuBackend, OnGpu};

impl GpuBackend<'_> {
    /// Runs the pass and reads of each row of logits what is to be kept.
    pub(super) fn read(&mut self, logits: Rows, kept: Kept<'_>) {
        let Kept { keep, mut rows, mut best } = kept;
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        // Few best are found there; of more, the rows are read and looked through here.
        let mut found = Vec::new();
        let mut first = 0;
        for keep in keep.chunk_by(|a, b| a == b) {
            let rows = first..first + keep.len();
            first = rows.end;
            found.push(match keep[0] {
                Keep::Best(ranks) if ranks <= MOST_RANKS => {
                    Some(Best::find(gpu, pass, logits, rows.map(|row| row as u32).collect(), ranks))
                }
                Keep::Best(_) | Keep::Row => {
                    pass.read(logits.at + rows.start * logits.width..logits.at + rows.end * logits.width);
                    None
                }
            });
        }
        let read = self.on_gpu.run();
        if self.on_gpu.error.is_some() {
            return;
        }
        let mut read = &read[..];
        for (keep, found) in keep.chunk_by(|a, b| a == b).zip(&found) {
            let len = found.as_ref().map_or(logits.width * keep.len(), Best::len);
            let values = read.split_off(..len).expect("all was read");
            match keep[0] {
                Keep::Row => rows.split_off_mut(..len).expect("room for each row").copy_from_slice(values),
                Keep::Best(ranks) => {
                    let out = best.split_off_mut(..ranks * keep.len()).expect("room for each rank");
                    if let Some(found) = found {
                        found.write(values, out);
                    } else {
                        let rows = values.chunks_exact(logits.width);
                        rows.zip(out.chunks_exact_mut(ranks)).for_each(|(row, out)| best_of(row, out));
                    }
                }
            }
        }
    }
}

/// The best of a row, by rank.
fn best_of(row: &[f32], out: &mut [Candidate]) {
    let candidates = (0..).zip(row).filter(|(_, logit)| !logit.is_nan());
    let mut candidates: Vec<_> = candidates.map(|(token, &logit)| Candidate { token, logit }).collect();
    candidates.sort_unstable_by(Candidate::by_rank);
    candidates.resize(out.len(), Candidate::NONE);
    out.copy_from_slice(&candidates);
}
