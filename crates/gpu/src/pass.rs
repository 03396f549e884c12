//! A pass: operators recorded one behind the other, given to the GPU at once, and what is read of it afterwards.
//!
//! All operators read and write two buffers, of floats and of words, in which each row of values has its place. How large they must be is
//! known when all is recorded: so nothing is bound before, and a longer pass than any before makes them anew.

use std::ops::Range;
use std::sync::Arc;

use wgpu::{
    BindGroup, Buffer, BufferDescriptor, BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor,
    ComputePipeline, MapMode, PollType,
};

use crate::adapters::PARAMETER_BYTES;
use crate::error::GpuError;
use crate::gpu::{Access, Gpu};

/// An operator with its parameters.
struct Dispatch {
    pipeline: Arc<ComputePipeline>,
    /// The buffer of its own, if it has one.
    operand: Option<BindGroup>,
    parameters: [u32; PARAMETER_BYTES as usize / 4],
    groups: [u32; 3],
}

/// Workgroups that a device runs side by side, by the specification of Vulkan: more tokens than so many are too many for one pass.
const MOST_GROUPS: usize = 65_535;

/// Operators to run, and where their values lie.
#[derive(Default)]
pub struct Pass {
    floats: usize,
    words: usize,
    float_uploads: Vec<(usize, Vec<f32>)>,
    word_uploads: Vec<(usize, Vec<u32>)>,
    dispatches: Vec<Dispatch>,
    reads: Vec<Range<usize>>,
    /// The most workgroups that an operator has side by side.
    widest: usize,
}

impl Pass {
    /// Begins another pass: forgets all that was recorded.
    pub fn clear(&mut self) {
        (self.floats, self.words) = (0, 0);
        self.go_on();
    }

    /// Goes on where the pass that was run has ended: its values stay where they are.
    pub fn go_on(&mut self) {
        self.widest = 0;
        self.float_uploads.clear();
        self.word_uploads.clear();
        self.dispatches.clear();
        self.reads.clear();
    }

    /// Floats that there is room for.
    pub fn len(&self) -> usize {
        self.floats
    }

    /// Whether nothing is to be run.
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty()
    }

    /// Room for `len` floats, with anything in it.
    pub fn floats(&mut self, len: usize) -> usize {
        let at = self.floats;
        self.floats = (at + len).next_multiple_of(4);
        at
    }

    /// Room for `len` words.
    pub fn words(&mut self, len: usize) -> usize {
        let at = self.words;
        self.words = (at + len).next_multiple_of(4);
        at
    }

    /// Floats that are there when the pass begins.
    pub fn put_floats(&mut self, values: Vec<f32>) -> usize {
        let at = self.floats(values.len());
        put(&mut self.float_uploads, at, values);
        at
    }

    /// Writes floats over those that lie at `at`, before all operators that were not run yet.
    pub fn write_floats(&mut self, at: usize, values: Vec<f32>) {
        self.float_uploads.push((at, values));
    }

    /// Words that are there when the pass begins.
    pub fn put_words(&mut self, values: Vec<u32>) -> usize {
        let at = self.words(values.len());
        put(&mut self.word_uploads, at, values);
        at
    }

    /// Reads these floats when all is computed.
    pub fn read(&mut self, floats: Range<usize>) {
        self.reads.push(floats);
    }

    /// Runs an operator behind those before it, in `groups` workgroups.
    pub(crate) fn run(
        &mut self,
        pipeline: Arc<ComputePipeline>,
        operand: Option<&BindGroup>,
        parameters: &[u32],
        groups: [usize; 3],
    ) {
        if groups.contains(&0) {
            return;
        }
        let mut all = [0; PARAMETER_BYTES as usize / 4];
        all[..parameters.len()].copy_from_slice(parameters);
        self.widest = groups.into_iter().fold(self.widest, usize::max);
        let groups = groups.map(|count| count as u32);
        self.dispatches.push(Dispatch { pipeline, operand: operand.cloned(), parameters: all, groups });
    }
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pass({} operators, {} floats, {} words)", self.dispatches.len(), self.floats, self.words)
    }
}

/// The buffers that operators share.
pub struct Memory {
    floats: Buffer,
    words: Buffer,
    constants: Buffer,
    /// What is in it, and how much of that the device knows.
    constant_values: Vec<f32>,
    known_constants: usize,
    bound: BindGroup,
    /// Bound where an operator has no buffer of its own.
    none: BindGroup,
    staging: Buffer,
}

impl Memory {
    /// Buffers of little size: they grow with the passes.
    ///
    /// # Errors
    /// If the device has no memory.
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        let [floats, words, constants, none] =
            ["values", "codes", "constants", "nothing"].map(|what| gpu.buffer(what, 16));
        let (floats, words, constants, none) = (floats?, words?, constants?, none?);
        let bound = gpu.bind_shared([&floats, &words, &constants]);
        let none = gpu.bind_operand(Access::Read, &none);
        let staging = staging(gpu, 16);
        let (constant_values, known_constants) = (Vec::new(), 0);
        Ok(Self { floats, words, constants, constant_values, known_constants, bound, none, staging })
    }

    /// Adds constants, and returns where they lie.
    pub fn add_constants(&mut self, values: &[f32]) -> usize {
        let at = self.constant_values.len();
        self.constant_values.extend(values);
        at
    }

    /// Bytes of the buffers.
    pub fn bytes(&self) -> u64 {
        [&self.floats, &self.words, &self.constants, &self.staging].iter().map(|buffer| buffer.size()).sum()
    }

    /// Runs a pass, waits for it, and returns the floats that are to be read, one range behind the other.
    ///
    /// # Errors
    /// If there is no memory for it, it is too large, or the GPU has stopped.
    pub fn run(&mut self, gpu: &Gpu, pass: &Pass) -> Result<Vec<f32>, GpuError> {
        let bytes = self.submit(gpu, pass)?;
        self.read(gpu, bytes)
    }

    /// Gives a pass to the GPU, behind all that it was given before, and returns the bytes that are to be read.
    ///
    /// # Errors
    /// If there is no memory for it, or it is too large.
    pub fn submit(&mut self, gpu: &Gpu, pass: &Pass) -> Result<u64, GpuError> {
        if pass.widest > MOST_GROUPS {
            let (what, size) = ("its tokens", pass.widest as u64);
            return Err(GpuError::PassTooLarge { what, size, limit: MOST_GROUPS as u64 });
        }
        self.grow(gpu, pass)?;
        let queue = &gpu.queue;
        for (at, values) in &pass.float_uploads {
            queue.write_buffer(&self.floats, 4 * *at as u64, &bytes_of(values, f32::to_le_bytes));
        }
        for (at, values) in &pass.word_uploads {
            queue.write_buffer(&self.words, 4 * *at as u64, &bytes_of(values, u32::to_le_bytes));
        }
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        let mut commands = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        for Dispatch { pipeline, operand, parameters, groups } in &pass.dispatches {
            commands.set_pipeline(pipeline);
            commands.set_bind_group(0, &self.bound, &[]);
            commands.set_bind_group(1, operand.as_ref().unwrap_or(&self.none), &[]);
            let mut bytes = [0; PARAMETER_BYTES as usize];
            for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(parameters) {
                *bytes = word.to_le_bytes();
            }
            commands.set_immediates(0, &bytes);
            let [x, y, z] = *groups;
            commands.dispatch_workgroups(x, y, z);
        }
        drop(commands);
        let mut bytes = 0;
        for range in &pass.reads {
            let (start, len) = (4 * range.start as u64, 4 * range.len() as u64);
            encoder.copy_buffer_to_buffer(&self.floats, start, &self.staging, bytes, len);
            bytes += len;
        }
        queue.submit([encoder.finish()]);
        Ok(bytes)
    }

    /// Waits for all that was given to the GPU, and reads the first bytes of what was copied.
    fn read(&self, gpu: &Gpu, bytes: u64) -> Result<Vec<f32>, GpuError> {
        let lost = |error: String| GpuError::Lost(error);
        let slice = self.staging.slice(..bytes.max(4));
        slice.map_async(MapMode::Read, |_| {});
        gpu.device.poll(PollType::wait_indefinitely()).map_err(|error| lost(error.to_string()))?;
        let view = slice.get_mapped_range().map_err(|error| lost(error.to_string()))?;
        let values =
            view[..bytes as usize].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        drop(view);
        self.staging.unmap();
        Ok(values)
    }

    /// Makes the buffers large enough for a pass.
    fn grow(&mut self, gpu: &Gpu, pass: &Pass) -> Result<(), GpuError> {
        let mut grown = Vec::new();
        let read = pass.reads.iter().map(ExactSizeIterator::len).sum::<usize>();
        let wanted = [
            ("bytes of its values", &mut self.floats, pass.floats),
            ("bytes of its codes", &mut self.words, pass.words),
            ("bytes of norms and biases", &mut self.constants, self.constant_values.len()),
        ];
        for (what, buffer, len) in wanted {
            let bytes = 4 * len as u64;
            if bytes > buffer.size() {
                // A context grows: with some room, that takes few new buffers.
                let bytes = (bytes + bytes / 4).min(gpu.largest_binding()).max(bytes);
                if bytes > gpu.largest_binding() {
                    return Err(GpuError::PassTooLarge { what, size: bytes, limit: gpu.largest_binding() });
                }
                grown.push((buffer, gpu.buffer(what, bytes)?));
            }
        }
        if !grown.is_empty() {
            // A pass may go on from what is in them.
            let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
            for (buffer, larger) in grown {
                encoder.copy_buffer_to_buffer(buffer, 0, &larger, 0, buffer.size());
                *buffer = larger;
            }
            gpu.queue.submit([encoder.finish()]);
            self.bound = gpu.bind_shared([&self.floats, &self.words, &self.constants]);
        }
        if self.known_constants < self.constant_values.len() {
            let (known, added) = self.constant_values.split_at(self.known_constants);
            let at = 4 * known.len() as u64;
            gpu.queue.write_buffer(&self.constants, at, &bytes_of(added, f32::to_le_bytes));
            self.known_constants = self.constant_values.len();
        }
        if 4 * read as u64 > self.staging.size() {
            self.staging = staging(gpu, 4 * read as u64);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} bytes)", self.bytes())
    }
}

/// Adds values to those that are uploaded. What lies behind the last of them goes with them: a pass with many experts has many short ones.
fn put<T: Copy + Default>(uploads: &mut Vec<(usize, Vec<T>)>, at: usize, values: Vec<T>) {
    match uploads.last_mut() {
        Some((start, before)) if at == (*start + before.len()).next_multiple_of(4) => {
            before.resize(at - *start, T::default());
            before.extend(values);
        }
        _ => uploads.push((at, values)),
    }
}

/// Values as the device reads them.
fn bytes_of<T: Copy>(values: &[T], bytes: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    values.iter().flat_map(|value| bytes(*value)).collect()
}

fn staging(gpu: &Gpu, bytes: u64) -> Buffer {
    gpu.device.create_buffer(&BufferDescriptor {
        label: Some("results"),
        size: bytes.next_multiple_of(16),
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}
