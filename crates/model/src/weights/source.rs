//! Where rows of weights come from: the tensors of a model's files, found by the engine's names and checked.

use std::borrow::Cow;
use std::collections::HashSet;

use lookahead_kernels::{MatrixError, WeightType};

use super::rows::{Role, Rows, transpose};
use crate::architecture::tensor_names::{Layout, TensorName};
use crate::load_error::LoadError;
use crate::model_files::ModelFiles;
use crate::stored_tensor::StoredTensor;

/// Unused tensors that are told by name.
const MOST_TOLD: usize = 8;

/// A part of a model, whose tensors are its weight and perhaps its bias.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    layer: Option<usize>,
    name: &'a str,
    index: Option<usize>,
    /// How many matrices are in its tensor, one behind the other.
    matrices: usize,
}

impl<'a> Part<'a> {
    /// A part outside the layers.
    pub(super) fn outer(name: &'a str) -> Self {
        Self { layer: None, name, index: None, matrices: 1 }
    }

    /// A part of a layer.
    pub(super) fn of_layer(layer: usize, name: &'a str) -> Self {
        Self { layer: Some(layer), name, index: None, matrices: 1 }
    }

    /// That of an expert or a head, where each has a tensor of its own.
    pub(super) fn indexed(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    /// That whose tensor holds so many matrices, if they have none of their own.
    pub(super) fn of(self, matrices: usize) -> Self {
        Self { matrices, ..self }
    }

    /// Whether it is the part of this name in a layer.
    pub(super) fn is_in_layers(self, name: &str) -> bool {
        self.layer.is_some() && self.name == name
    }

    fn tensor(self, kind: &'static str) -> TensorName<'a> {
        TensorName { layer: self.layer, part: self.name, index: self.index, kind }
    }

    fn role(self) -> Role {
        match self.name {
            "token_embd" | "per_layer_token_embd" | "output" => Role::Vocabulary,
            "position_embd" | "ffn_gate_inp" | "ffn_gate_inp_shexp" | "altup_router" => Role::Exact,
            _ => Role::Linear,
        }
    }
}

/// The tensors of a model's files.
pub(super) struct Source<'a> {
    files: ModelFiles<'a>,
    layout: &'a Layout,
    used: HashSet<String>,
}

impl<'a> Source<'a> {
    pub(super) fn new(files: ModelFiles<'a>, layout: &'a Layout) -> Self {
        Self { files, layout, used: HashSet::new() }
    }

    /// How the files store tensors.
    pub(super) fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// Whether the files have the part.
    pub(super) fn has(&self, part: Part<'_>) -> Result<bool, LoadError> {
        Ok(self.row_count(part)?.is_some())
    }

    /// How many rows the weights of the part have, if the files have it.
    pub(super) fn row_count(&self, part: Part<'_>) -> Result<Option<usize>, LoadError> {
        Ok(self.files.find(self.layout, &part.tensor("weight"))?.map(|stored| stored.rows))
    }

    /// The weights of a part, a row for each output; `None` takes as many as there are.
    pub(super) fn rows(
        &mut self,
        part: Part<'_>,
        rows: Option<usize>,
        columns: usize,
    ) -> Result<Rows<'a>, LoadError> {
        let stored = self.require(part.tensor("weight"))?;
        let is_transposed = self.layout.transposed && part.layer.is_some();
        let expected = match (rows, is_transposed) {
            (Some(rows), true) => [columns, rows],
            (Some(rows), false) => [rows, columns],
            (None, _) => [stored.rows, columns],
        };
        self.check_shape(&stored, expected)?;
        let StoredTensor { name, weight_type, bytes, .. } = stored;
        let bytes = bytes.read();
        let bytes = if is_transposed {
            Cow::Owned(transpose(&bytes, expected, weight_type.block_bytes()))
        } else {
            bytes
        };
        let scales = self.scales(part, weight_type)?;
        Ok(Rows { name, role: part.role(), weight_type, columns, bytes, scales })
    }

    /// The scale of an NVFP4 part, or one for each of its matrices, if there are any: their blocks' scales have a small range.
    fn scales(&mut self, part: Part<'_>, weight_type: WeightType) -> Result<Vec<f32>, LoadError> {
        let name = part.tensor("scale");
        let Some(stored) = self.files.find(self.layout, &name)? else { return Ok(Vec::new()) };
        let is_each = part.matrices > 1 && stored.rows * stored.columns != 1;
        if is_each {
            self.check_shape(&stored, [1, part.matrices])?;
        }
        match weight_type {
            WeightType::Nvfp4 => self.floats(name, if is_each { part.matrices } else { 1 }),
            _ => Ok(Vec::new()),
        }
    }

    /// The weights of a part that has one for each feature.
    pub(super) fn vector(&mut self, part: Part<'_>, len: usize) -> Result<Vec<f32>, LoadError> {
        self.floats(part.tensor("weight"), len)
    }

    /// The numbers of a tensor in whatever shape they are; `kind` follows its name, unless it is empty.
    pub(super) fn numbers(
        &mut self,
        part: Part<'_>,
        kind: &'static str,
        len: usize,
    ) -> Result<Vec<f32>, LoadError> {
        let name = part.tensor(kind);
        let shape = match self.files.find(self.layout, &name)? {
            Some(stored) if stored.rows * stored.columns == len => [stored.rows, stored.columns],
            _ => [1, len],
        };
        self.float_rows(name, shape)
    }

    /// The bias of a part, if there is one.
    pub(super) fn bias(&mut self, part: Part<'_>, len: usize) -> Result<Option<Vec<f32>>, LoadError> {
        self.biases(part, 1, len)
    }

    /// The biases of a part that has `count` of them, one after the other, if there are any.
    pub(super) fn biases(
        &mut self,
        part: Part<'_>,
        count: usize,
        len: usize,
    ) -> Result<Option<Vec<f32>>, LoadError> {
        let name = part.tensor("bias");
        match self.files.find(self.layout, &name)? {
            Some(_) => self.float_rows(name, [count, len]).map(Some),
            None => Ok(None),
        }
    }

    /// An error: the part has no bias.
    pub(super) fn missing_bias(&self, part: Part<'_>) -> LoadError {
        let tensor = self.files.name_of(self.layout, &part.tensor("bias"));
        LoadError::MissingTensor { file: self.files.name(), tensor }
    }

    /// Gives the memory of what was read of the files back to the system.
    pub(super) fn release_pages(&self) {
        self.files.release_pages();
    }

    /// An error about the tensor `name`.
    pub(super) fn no_matrix(&self, name: &str, source: MatrixError) -> LoadError {
        LoadError::Matrix { file: self.files.name(), tensor: name.to_owned(), source }
    }

    /// A tensor that the description does not know may mean that the model computes something else.
    pub(super) fn warn_of_unused_tensors(&self) {
        // Some checkpoints carry tables that their code computes anew, and the mask of attention.
        const COMPUTED: [&str; 4] =
            [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias"];
        // Numbers that the architecture has taken; scales that were read with their weights, and those of activations, which the engine
        // chooses itself.
        const TAKEN: [&str; 4] = [".act_fn.", ".weight_scale", ".activation_scale", ".input_scale"];
        let mut unused = self.files.tensor_names();
        unused.retain(|tensor| {
            !self.used.contains(*tensor)
                && !TAKEN.iter().any(|part| tensor.contains(part))
                && !COMPUTED.iter().any(|suffix| tensor.ends_with(suffix))
        });
        for tensor in unused.iter().take(MOST_TOLD) {
            tracing::warn!(file = self.files.name(), tensor, "tensor is not used by this architecture");
        }
        if let Some(more) = unused.len().checked_sub(MOST_TOLD).filter(|&more| more > 0) {
            tracing::warn!(
                file = self.files.name(),
                more,
                "further tensors are not used by this architecture"
            );
        }
    }

    /// A tensor of one row, as floats.
    fn floats(&mut self, name: TensorName<'_>, len: usize) -> Result<Vec<f32>, LoadError> {
        self.float_rows(name, [1, len])
    }

    /// A tensor of some rows, as floats.
    fn float_rows(&mut self, name: TensorName<'_>, shape: [usize; 2]) -> Result<Vec<f32>, LoadError> {
        let stored = self.require(name)?;
        self.check_shape(&stored, shape)?;
        Ok(stored.to_floats())
    }

    fn require(&mut self, name: TensorName<'_>) -> Result<StoredTensor<'a>, LoadError> {
        let Some(stored) = self.files.find(self.layout, &name)? else {
            let tensor = self.files.name_of(self.layout, &name);
            return Err(LoadError::MissingTensor { file: self.files.name(), tensor });
        };
        self.used.insert(stored.name.clone());
        Ok(stored)
    }

    fn check_shape(&self, stored: &StoredTensor<'_>, [rows, columns]: [usize; 2]) -> Result<(), LoadError> {
        if [stored.rows, stored.columns] == [rows, columns] {
            return Ok(());
        }
        Err(LoadError::Shape {
            file: self.files.name(),
            tensor: stored.name.clone(),
            expected: format!("{rows} x {columns}"),
            found: format!("{} x {}", stored.rows, stored.columns),
        })
    }
}
