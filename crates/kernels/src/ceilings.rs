//! What the machine can do at most, measured: the ceilings that a forward pass is judged by.
//!
//! A pass over N tokens reads every weight once and makes N times the multiply-adds of one token, so it takes at least
//! `max(bytes / read bandwidth, N * multiply-adds / rate)`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{Activations, Kernels, Matrix, WeightType, multiply};

/// Bytes of the buffer that is read: more than caches hold.
const BUFFER_BYTES: usize = 128 << 20;
/// Bytes of a reading task.
const TASK_BYTES: usize = 1 << 20;
/// Rows and columns of the matrices that are multiplied: small enough for a core's own cache.
const SIZE: usize = 256;
/// Tokens of a product: a full tile.
const TOKENS: usize = 6;

/// Rates that no operator on these kernels exceeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Bytes read from memory per second, by all threads together.
    pub read_bytes_per_second: f64,
    /// Multiply-adds of bytes per second, by all threads together.
    pub int8_macs_per_second: f64,
    /// Multiply-adds of singles per second, by all threads together.
    pub f32_macs_per_second: f64,
}

impl Ceilings {
    /// Measures each rate for a third of `duration`, and takes the best of its runs.
    pub fn measure(kernels: &Kernels, duration: Duration) -> Self {
        let buffer = vec![1u64; BUFFER_BYTES / size_of::<u64>()];
        let sum = AtomicU64::new(0);
        let read = || {
            let tasks = BUFFER_BYTES / TASK_BYTES;
            kernels.run(tasks, TASK_BYTES, |_, task| {
                let words = TASK_BYTES / size_of::<u64>();
                let part: u64 = buffer[task * words..][..words].iter().sum();
                sum.fetch_add(part, Ordering::Relaxed);
            });
        };
        let read_bytes_per_second = BUFFER_BYTES as f64 / best_seconds(duration / 3, read);
        let [int8_macs_per_second, f32_macs_per_second] = [WeightType::Q8_0, WeightType::F32]
            .map(|weight_type| product_rate(kernels, weight_type, duration / 3));
        std::hint::black_box(sum.into_inner());
        Self { read_bytes_per_second, int8_macs_per_second, f32_macs_per_second }
    }
}

/// Multiply-adds per second of products with a matrix that stays in the cache.
fn product_rate(kernels: &Kernels, weight_type: WeightType, duration: Duration) -> f64 {
    let rows = SIZE * kernels.threads();
    let bytes = vec![0; weight_type.row_bytes(SIZE).unwrap_or(0) * rows];
    let Ok(matrix) = Matrix::pack(kernels, weight_type, rows, SIZE, &bytes) else { return f64::NAN };
    let mut x = Activations::new();
    x.reset(TOKENS, SIZE).fill(1.0);
    x.quantize(kernels, weight_type);
    let mut out = vec![0.0; rows * TOKENS];
    let seconds = best_seconds(duration, || multiply(kernels, &x, [(&matrix, &mut out)]));
    (rows * SIZE * TOKENS) as f64 / seconds
}

/// The time of the fastest of the runs that fit into `duration`, at least one.
fn best_seconds(duration: Duration, mut run: impl FnMut()) -> f64 {
    run();
    let began = Instant::now();
    let mut best = f64::INFINITY;
    while best.is_infinite() || began.elapsed() < duration {
        let began = Instant::now();
        run();
        best = best.min(began.elapsed().as_secs_f64());
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_is_positive() {
        let ceilings = Ceilings::measure(&Kernels::new(2), Duration::from_millis(3));
        for rate in
            [ceilings.read_bytes_per_second, ceilings.int8_macs_per_second, ceilings.f32_macs_per_second]
        {
            assert!(rate > 0.0 && rate.is_finite(), "{ceilings:?}");
        }
    }
}
