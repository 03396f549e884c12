//! The CPU beside a GPU: it computes the blocks that there are no operators for. Their input is read back, their result uploaded.

use lookahead_gpu::Rows;
use lookahead_kernels::Activations;

use super::{GpuBackend, GpuInput, GpuRows};
use crate::gpu::cpu_steps;
use crate::transformer::backend::{Backend as _, OtherBlock, Step};
use crate::transformer::placements::Placements;

/// What the CPU is given, and what it makes of it. Reused between blocks.
#[derive(Debug, Default)]
pub(crate) struct HostBuffers {
    input: Activations,
    out: Vec<f32>,
}

impl GpuBackend<'_> {
    /// `out = block(input)`, computed by the CPU. After an operator has failed, nothing is computed any more.
    pub(super) fn run_on_host(
        &mut self,
        block: &OtherBlock<'_>,
        batch: &mut [Step<'_, Self>],
        placements: &Placements,
        input: &GpuInput,
        out: &mut GpuRows,
    ) {
        let Rows { at, width, count } = input.input.values;
        self.on_gpu.pass.read(at..at + count * width);
        let values = self.on_gpu.run();
        // As wide as the input: both are added to the same stream.
        let to = self.make(out, count, width);
        if self.on_gpu.error.is_some() {
            return;
        }
        let (cpu, HostBuffers { input, out: result }) = (&mut *self.cpu, &mut *self.host);
        let codes = block.weights.input_codes();
        input.compute(cpu.kernels(), [count, width], codes, [], width, |index, [], row| {
            row.copy_from_slice(&values[index * width..][..width]);
        });
        cpu.run_other(block, &mut cpu_steps(batch), placements, input, result);
        self.on_gpu.pass.write_floats(to.at, std::mem::take(result));
    }
}
