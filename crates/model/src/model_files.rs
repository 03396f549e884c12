//! Where a model comes from: a GGUF file, or a checkpoint folder.

use std::path::Path;

use crate::architecture::tensor_names::{Layout, TensorName};
use crate::chat_template::{ChatTemplate, ChatTemplateError};
use crate::checkpoint::Checkpoint;
use crate::gguf::{GgufFile, TensorInfo};
use crate::load_error::LoadError;
use crate::stored_tensor::{StoredBytes, StoredTensor, TensorListing};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// The files of a model: its hyperparameters and tensors.
#[derive(Clone, Copy, Debug)]
pub enum ModelFiles<'a> {
    /// A GGUF file.
    Gguf(&'a GgufFile),
    /// A folder with `config.json` and safetensors.
    Checkpoint(&'a Checkpoint),
}

impl<'a> From<&'a GgufFile> for ModelFiles<'a> {
    fn from(file: &'a GgufFile) -> Self {
        Self::Gguf(file)
    }
}

impl<'a> From<&'a Checkpoint> for ModelFiles<'a> {
    fn from(checkpoint: &'a Checkpoint) -> Self {
        Self::Checkpoint(checkpoint)
    }
}

/// A model's files, open.
#[derive(Debug)]
pub enum OpenModel {
    /// A GGUF file.
    Gguf(GgufFile),
    /// A checkpoint folder.
    Checkpoint(Checkpoint),
}

impl OpenModel {
    /// Opens the model at `path`: a checkpoint if it is a folder, else a GGUF file.
    ///
    /// # Errors
    /// As [`GgufFile::open`] and [`Checkpoint::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref();
        if path.is_dir() {
            Ok(Self::Checkpoint(Checkpoint::open(path)?))
        } else {
            Ok(Self::Gguf(GgufFile::open(path)?))
        }
    }

    /// All tensors, in the order of the files.
    pub fn tensors(&self) -> Vec<TensorListing> {
        match self {
            Self::Gguf(file) => file.tensors().iter().map(TensorListing::from).collect(),
            Self::Checkpoint(checkpoint) => checkpoint.tensors().collect(),
        }
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        match self {
            Self::Gguf(file) => Tokenizer::from_gguf(file),
            Self::Checkpoint(checkpoint) => Tokenizer::from_checkpoint(checkpoint),
        }
    }

    /// The model's chat template; base models have none.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn chat_template(&self, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, ChatTemplateError> {
        match self {
            Self::Gguf(file) => ChatTemplate::from_gguf(file, tokenizer),
            Self::Checkpoint(checkpoint) => ChatTemplate::from_checkpoint(checkpoint),
        }
    }
}

impl<'a> From<&'a OpenModel> for ModelFiles<'a> {
    fn from(model: &'a OpenModel) -> Self {
        match model {
            OpenModel::Gguf(file) => Self::Gguf(file),
            OpenModel::Checkpoint(checkpoint) => Self::Checkpoint(checkpoint),
        }
    }
}

impl From<&TensorInfo> for TensorListing {
    fn from(tensor: &TensorInfo) -> Self {
        Self {
            name: tensor.name.clone(),
            type_name: tensor.weight_type.name().to_owned(),
            shape: tensor.shape.clone(),
            bytes: tensor.size_bytes() as u64,
        }
    }
}

impl<'a> ModelFiles<'a> {
    /// What errors call them.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Gguf(file) => file.name().to_owned(),
            Self::Checkpoint(checkpoint) => checkpoint.name(),
        }
    }

    /// The family that they name.
    pub(crate) fn architecture_name(self) -> Result<&'a str, LoadError> {
        Ok(match self {
            Self::Gguf(file) => file.metadata().require_str("general.architecture")?,
            Self::Checkpoint(checkpoint) => checkpoint.model_type()?,
        })
    }

    /// The tensor, if it is there.
    pub(crate) fn find(
        self,
        layout: &Layout,
        name: &TensorName<'_>,
    ) -> Result<Option<StoredTensor<'a>>, LoadError> {
        for name in layout.aliases(name) {
            let found = match self {
                Self::Gguf(file) => {
                    let name = name.in_gguf();
                    file.tensor(&name).map(|tensor| StoredTensor {
                        weight_type: tensor.info.weight_type,
                        rows: tensor.rows(),
                        columns: tensor.columns(),
                        bytes: StoredBytes::Mapped(tensor.bytes),
                        name,
                    })
                }
                Self::Checkpoint(checkpoint) => match layout.in_checkpoint(&name) {
                    Some(names) => checkpoint.find(&names)?,
                    None => None,
                },
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// What these files would call the tensor: for errors.
    pub(crate) fn name_of(self, layout: &Layout, name: &TensorName<'_>) -> String {
        let in_checkpoint = match self {
            Self::Gguf(_) => None,
            Self::Checkpoint(_) => layout.in_checkpoint(name).map(|[full, ..]| full),
        };
        in_checkpoint.unwrap_or_else(|| name.in_gguf())
    }

    /// The names of all tensors that there are.
    pub(crate) fn tensor_names(self) -> Vec<&'a str> {
        match self {
            Self::Gguf(file) => file.tensors().iter().map(|tensor| tensor.name.as_str()).collect(),
            Self::Checkpoint(checkpoint) => checkpoint.tensor_names().collect(),
        }
    }

    /// See [`GgufFile::release_pages`].
    pub(crate) fn release_pages(self) {
        match self {
            Self::Gguf(file) => file.release_pages(),
            Self::Checkpoint(checkpoint) => checkpoint.release_pages(),
        }
    }
}
