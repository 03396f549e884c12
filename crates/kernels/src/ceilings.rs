//! What the machine can do: the ceilings that kernels are measured against.

use std::fmt;
use std::time::{Duration, Instant};

#[cfg(target_arch = "x86_64")]
use crate::activations::SuperBlockCodes;
use crate::arena::WeightArena;
use crate::disjoint::Disjoint;
use crate::kernels::Kernels;
use crate::matrix::PREFETCH_BYTES;
use crate::matrix_error::MatrixError;
use crate::simd::{GROUP, Isa, MAX_PARTS, simd_fn};
#[cfg(target_arch = "x86_64")]
use crate::simd::{IsaKind, Sums, TILE_COLUMNS, TILE_TOKENS, WeightLine};

/// Bytes that are read: more than the caches hold.
const MEMORY_BYTES: usize = 256 << 20;

/// Bytes to a task.
const TASK_BYTES: usize = 256 << 10;

/// Vectors of weights that a round of arithmetic runs over: they stay in the first-level cache.
const VECTORS: usize = 64;

/// Rounds to a task: some tens of microseconds.
const ROUNDS: usize = 100;

/// The best rates that were seen on all threads of some kernels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Bytes read in order from memory, per second.
    pub read_bytes_per_second: f64,
    /// Multiply-adds of bytes in vectors, per second.
    pub int8_macs_per_second: f64,
    /// The same in tiles, where the instruction set has them.
    pub tile_macs_per_second: Option<f64>,
    /// Multiply-adds of single floats, per second.
    pub f32_macs_per_second: f64,
}

impl Ceilings {
    /// Measures for about `time`.
    ///
    /// # Errors
    /// If there is no memory for the buffer that is read.
    pub fn measure(kernels: &Kernels, time: Duration) -> Result<Self, MatrixError> {
        let mut memory = WeightArena::new().allocate(MEMORY_BYTES)?;
        // Pages that were never written are all the same page of zeros.
        let tasks = MEMORY_BYTES / TASK_BYTES;
        let parts = Disjoint::new(memory.as_mut());
        kernels.run(tasks, usize::MAX, |_, task| {
            // SAFETY: each task has its own part.
            unsafe { parts.part(task * TASK_BYTES, TASK_BYTES) }.fill(1);
        });
        let rate = |time: Duration, amount: usize, job: &(dyn Fn(usize) + Sync)| {
            let (mut best, began) = (Duration::MAX, Instant::now());
            while best == Duration::MAX || began.elapsed() < time {
                let round = Instant::now();
                kernels.run(tasks, usize::MAX, |_, task| job(task));
                best = best.min(round.elapsed());
            }
            amount as f64 / best.as_secs_f64()
        };
        let macs = |per_lane: usize| tasks * ROUNDS * VECTORS * GROUP * TOKENS * per_lane;
        let isa = kernels.isa();
        Ok(Self {
            read_bytes_per_second: rate(time / 2, MEMORY_BYTES, &|task| {
                std::hint::black_box(read(isa, &memory[task * TASK_BYTES..][..TASK_BYTES]));
            }),
            int8_macs_per_second: rate(time / 6, macs(4), &|_| {
                std::hint::black_box(multiply_bytes(isa, std::hint::black_box(&[[1; 4 * GROUP]; VECTORS])));
            }),
            tile_macs_per_second: multiply_tiles(isa).map(|_| {
                rate(time / 6, tasks * TILE_ROUNDS * TILE_MACS, &|_| {
                    std::hint::black_box(multiply_tiles(isa));
                })
            }),
            f32_macs_per_second: rate(time / 6, macs(1), &|_| {
                std::hint::black_box(multiply_floats(isa, std::hint::black_box(&[[1.0; GROUP]; VECTORS])));
            }),
        })
    }
}

impl fmt::Display for Ceilings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [read, bytes, singles] =
            [self.read_bytes_per_second, self.int8_macs_per_second, self.f32_macs_per_second]
                .map(|rate| rate / 1e9);
        write!(f, "{read:.1} GB/s read, {bytes:.0} G multiply-adds/s of bytes")?;
        if let Some(rate) = self.tile_macs_per_second {
            write!(f, " ({:.0} G in tiles)", rate / 1e9)?;
        }
        write!(f, ", {singles:.0} G of singles")
    }
}

/// Independent sums: enough to hide the latency of an addition, and as many as fit the registers.
const TOKENS: usize = 6;

simd_fn! {
    fn read(simd, bytes: &[u8]) -> [f32; GROUP] {
        let mut all = [simd.splat4([0; 4]); 4];
        for lines in bytes.as_chunks::<{ 16 * GROUP }>().0 {
            for (i, line) in lines.as_chunks::<{ 4 * GROUP }>().0.iter().enumerate() {
                simd.prefetch(line, PREFETCH_BYTES);
                for part in 0..S::PARTS {
                    all[i] = simd.or(all[i], simd.load_bytes(line, part));
                }
            }
        }
        let mut lanes = [0.0; GROUP];
        let any = simd.or(simd.or(all[0], all[1]), simd.or(all[2], all[3]));
        let sum = simd.dot_finish(simd.i32_splat(0), simd.dot(simd.dot_zero(), any, simd.splat4([1; 4])));
        simd.store(simd.i32_to_f32(sum), &mut lanes, 0);
        lanes
    }
}

simd_fn! {
    fn multiply_bytes(simd, weights: &[[u8; 4 * GROUP]; VECTORS]) -> [f32; GROUP] {
        let mut sums = [[simd.dot_zero(); TOKENS]; MAX_PARTS];
        let mut x = [simd.splat4([1; 4]); TOKENS];
        for (t, x) in x.iter_mut().enumerate() {
            *x = simd.splat4([t as i8; 4]);
        }
        for _ in 0..ROUNDS {
            // Two groups of sums, whatever the width of a vector.
            for pair in weights.as_chunks::<2>().0 {
                for i in 0..2 {
                    for part in 0..S::PARTS {
                        let weights = simd.load_bytes(&pair[i], part);
                        let sums = &mut sums[(i + part) % MAX_PARTS];
                        for t in 0..TOKENS {
                            sums[t] = simd.dot(sums[t], weights, x[t]);
                        }
                    }
                }
            }
        }
        let mut total = simd.i32_splat(0);
        for t in 0..TOKENS {
            total = simd.dot_finish(simd.dot_finish(total, sums[0][t]), sums[1][t]);
        }
        let mut lanes = [0.0; GROUP];
        simd.store(simd.i32_to_f32(total), &mut lanes, 0);
        lanes
    }
}

simd_fn! {
    fn multiply_floats(simd, weights: &[[f32; GROUP]; VECTORS]) -> [f32; GROUP] {
        let mut sums = [[simd.splat(0.0); TOKENS]; MAX_PARTS];
        let mut x = [simd.splat(1.0); TOKENS];
        for (t, x) in x.iter_mut().enumerate() {
            *x = simd.splat(t as f32);
        }
        for _ in 0..ROUNDS {
            for pair in weights.as_chunks::<2>().0 {
                for i in 0..2 {
                    for part in 0..S::PARTS {
                        let weights = simd.load(&pair[i], part);
                        let sums = &mut sums[(i + part) % MAX_PARTS];
                        for t in 0..TOKENS {
                            sums[t] = simd.fma(weights, x[t], sums[t]);
                        }
                    }
                }
            }
        }
        let mut total = simd.splat(0.0);
        for t in 0..TOKENS {
            total = simd.add(simd.add(total, sums[0][t]), sums[1][t]);
        }
        let mut lanes = [0.0; GROUP];
        simd.store(total, &mut lanes, 0);
        lanes
    }
}

/// Rounds of products in tiles to a task.
const TILE_ROUNDS: usize = 4 * ROUNDS;

/// Multiply-adds of such a round: two planes of two groups of rows, by 256 columns, by sixteen tokens.
const TILE_MACS: usize = 2 * 2 * GROUP * 256 * 16;

/// Rounds of products of ones in tiles; the sum of what the last has summed. None where the instruction set has no tiles.
fn multiply_tiles(isa: Isa) -> Option<i32> {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        IsaKind::Amx(amx) => {
            let x = std::hint::black_box(&[SuperBlockCodes([1; 256]); TILE_TOKENS]);
            let weights = std::hint::black_box(&[[WeightLine([1; 4 * GROUP]); 2 * TILE_COLUMNS]; 2]);
            let tiles = amx.tiles(TILE_TOKENS, TILE_COLUMNS);
            for _ in 0..TILE_ROUNDS {
                let codes = x.as_ptr().cast();
                // SAFETY: each of the tokens has the codes of four tiles of columns.
                unsafe {
                    tiles.multiply_planes::<true>(
                        codes,
                        size_of::<SuperBlockCodes>(),
                        [&weights[0], &weights[1]],
                    );
                }
            }
            let mut sums = [Sums::ZERO; 4];
            tiles.store_sums(&mut sums);
            Some(sums.iter().flat_map(|sums| sums.0).flatten().sum())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    #[test]
    fn every_instruction_set_does_the_arithmetic_that_is_counted() {
        // The sum over t of t, 64 * 100 times; each byte lane is four products.
        let rounds = (ROUNDS * VECTORS * (TOKENS * (TOKENS - 1) / 2)) as f32;
        for isa in Isa::available() {
            let floats = multiply_floats(isa, &[[1.0; GROUP]; VECTORS]);
            assert_eq!(floats[..8].iter().sum::<f32>(), 8.0 * rounds * lanes_share(isa), "{isa:?}");
            let in_tiles = (isa.id() == "amx").then_some(TILE_MACS as i32);
            assert_eq!(multiply_tiles(isa), in_tiles, "{isa:?}");
        }
    }

    /// A narrow vector's lanes take the products of both parts of a group.
    fn lanes_share(isa: Isa) -> f32 {
        if isa.name().starts_with("AVX2") || isa.name().starts_with("NEON") { 2.0 } else { 1.0 }
    }
}
