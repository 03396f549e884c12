//! What a model has on a GPU.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use lookahead_gpu::{Epilogue, Gpu, GpuError, GpuMatrix, Memory, NormOf, Pass, SeenRows};
use lookahead_kernels::{Matrix, alibi_slope};

use super::rows::GpuInput;
use super::streams::StreamsOnGpu;
use crate::architecture::{Norm, NormKind};
use crate::weights::{Linear, NormWeights};

/// Floats of logits that there is room for at once.
const LOGIT_FLOATS: usize = 16 << 20;

/// What a model has on a GPU: copies of its weights, and the memory of a pass.
///
/// Weights are found by the address of those on the CPU, which stay where they are as long as the model is loaded.
#[derive(Debug)]
pub(crate) struct OnGpu {
    pub(super) gpu: Arc<Gpu>,
    pub(super) memory: Memory,
    pub(super) pass: Pass,
    /// The number of the pass: rows of an earlier one have lost their places.
    pub(super) number: u64,
    /// Nodes of the pass. Rows have room for one each, though experts take few at first: those of the next may be more.
    pub(super) nodes: usize,
    pub(super) matrices: HashMap<usize, GpuMatrix>,
    /// Norms, biases and sinks, and where they lie.
    pub(super) constants: HashMap<usize, usize>,
    /// The slopes of ALiBi, for each number of heads.
    pub(super) slopes: HashMap<usize, usize>,
    /// What the nodes of this pass see, and where that lies.
    pub(super) seen: SeenRows,
    pub(super) seen_at: usize,
    /// Room for what chunks of attention come to, in this pass.
    pub(super) chunks: Range<usize>,
    /// Where the row of each node is to be stored.
    pub(super) places: usize,
    /// Where the angles of each rotary embedding lie that was used in this pass.
    pub(super) angles: HashMap<usize, usize>,
    /// The input of products of single heads.
    pub(super) head_input: GpuInput,
    pub(super) streams: StreamsOnGpu,
    /// Floats of logits that there is room for at once.
    pub(super) logit_floats: usize,
    /// Of the first operator that failed.
    pub(super) error: Option<GpuError>,
}

impl OnGpu {
    /// Nothing yet: weights are uploaded when they are first used.
    pub(crate) fn new(gpu: Arc<Gpu>) -> Result<Self, GpuError> {
        let memory = Memory::new(&gpu)?;
        Ok(Self {
            gpu,
            memory,
            pass: Pass::default(),
            number: 0,
            nodes: 0,
            matrices: HashMap::new(),
            constants: HashMap::new(),
            slopes: HashMap::new(),
            seen: SeenRows::default(),
            seen_at: 0,
            chunks: 0..0,
            places: 0,
            angles: HashMap::new(),
            head_input: GpuInput::default(),
            streams: StreamsOnGpu::default(),
            logit_floats: LOGIT_FLOATS,
            error: None,
        })
    }

    /// Uploads a linear map that no pass may have used yet.
    pub(crate) fn upload(&mut self, linear: &Linear) -> Result<(), GpuError> {
        self.epilogue(linear);
        uploaded(&self.gpu, &mut self.matrices, &linear.matrix).map(drop)
    }

    /// Runs what was recorded and not run yet, and says whether all went well.
    pub(crate) fn finish(&mut self) -> Result<(), GpuError> {
        if !self.pass.is_empty() {
            self.run();
        }
        self.error.take().map_or(Ok(()), Err)
    }

    /// Runs what was recorded and returns what is read of it; nothing if an operator has failed.
    pub(super) fn run(&mut self) -> Vec<f32> {
        if self.error.is_some() {
            self.pass.clear();
        }
        let read = self.memory.run(&self.gpu, &self.pass);
        self.pass.go_on();
        read.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            Vec::new()
        })
    }

    /// Gives room for so many floats of logits at once.
    pub(crate) fn set_logit_floats(&mut self, floats: usize) {
        self.logit_floats = floats;
    }

    /// Floats that the values of the last pass took.
    pub(crate) fn pass_floats(&self) -> usize {
        self.pass.len()
    }

    /// Matrices that it has.
    #[cfg(test)]
    pub(crate) fn matrices(&self) -> usize {
        self.matrices.len()
    }

    /// Where the factors and biases of a linear map lie.
    pub(super) fn epilogue(&mut self, linear: &Linear) -> Epilogue {
        let mut constant = |values: &Option<Vec<f32>>| values.as_ref().map(|values| self.constant(values));
        Epilogue { factors: constant(&linear.factors), bias: constant(&linear.bias) }
    }

    /// Where values lie among the constants.
    pub(super) fn constant(&mut self, values: &[f32]) -> usize {
        let key = values.as_ptr().addr();
        *self.constants.entry(key).or_insert_with(|| self.memory.add_constants(values))
    }

    /// Where the slopes of ALiBi for so many heads lie.
    pub(super) fn slopes(&mut self, heads: usize) -> usize {
        let slopes = || (0..heads).map(|head| alibi_slope(head, heads)).collect::<Vec<_>>();
        *self.slopes.entry(heads).or_insert_with(|| self.memory.add_constants(&slopes()))
    }

    pub(super) fn norm(&mut self, norm: Norm, weights: &NormWeights) -> NormOf {
        NormOf {
            is_layer: norm.kind == NormKind::Layer,
            epsilon: norm.epsilon,
            weight: self.constant(&weights.weight),
            weight_stride: 0,
            bias: (!weights.bias.is_empty()).then(|| self.constant(&weights.bias)),
        }
    }
}

/// The copy of a matrix, which is made when it is first asked for.
pub(super) fn uploaded<'a>(
    gpu: &Gpu,
    matrices: &'a mut HashMap<usize, GpuMatrix>,
    matrix: &Matrix,
) -> Result<&'a GpuMatrix, GpuError> {
    Ok(match matrices.entry(ptr::from_ref(matrix).addr()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(GpuMatrix::upload(gpu, matrix)?),
    })
}
