//! Hugging Face checkpoints: a folder with `config.json` and one or several safetensors files.
//!
//! The tensors are mapped, not read; [`Checkpoint::open`] checks where each lies. Format of the files:
//! <https://github.com/huggingface/safetensors#format>.

mod error;
mod files;
mod float8;
mod shard;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

pub use self::error::CheckpointError;
use self::files::{CONFIG, INDEX, SINGLE, display};
pub(crate) use self::float8::Float8;
use self::float8::SCALES;
use self::shard::Shard;

use crate::stored_tensor::{StoredTensor, TensorListing};

/// A checkpoint folder, its tensors mapped.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    config: Map<String, Value>,
    shards: Vec<Shard>,
    /// Where each tensor is: the shard.
    tensors: BTreeMap<String, usize>,
}

/// The field of `config.json` that says how weights were quantized.
const QUANTIZATION: &str = "quantization_config";

/// `model.safetensors.index.json`
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Maps the checkpoint in `folder` and checks it. The files must not be changed while it is open.
    ///
    /// # Errors
    /// If a file is missing, damaged, or no safetensors file.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let folder = folder.as_ref().to_owned();
        let config = match read_json::<Value>(&folder.join(CONFIG))? {
            Some(Value::Object(config)) => text_config(config),
            Some(_) => return Err(CheckpointError::NoObject { file: display(&folder.join(CONFIG)) }),
            None => return Err(CheckpointError::no_config(&folder)),
        };
        let mut wanted = BTreeMap::new();
        let files: BTreeSet<String> = if folder.join(SINGLE).is_file() {
            BTreeSet::from([SINGLE.to_owned()])
        } else if let Some(index) = read_json::<Index>(&folder.join(INDEX))? {
            wanted = index.weight_map;
            wanted.values().cloned().collect()
        } else {
            return Err(CheckpointError::no_weights(&folder));
        };
        let mut shards = Vec::with_capacity(files.len());
        let mut tensors = BTreeMap::new();
        for file in files {
            if file.contains(['/', '\\']) || file.starts_with('.') {
                return Err(CheckpointError::FileName { file: display(&folder.join(INDEX)), name: file });
            }
            let shard = Shard::open(&folder.join(&file))?;
            for tensor in shard.tensor_names() {
                if tensors.insert(tensor.to_owned(), shards.len()).is_some() {
                    return Err(CheckpointError::Twice {
                        file: display(&folder.join(&file)),
                        tensor: tensor.to_owned(),
                    });
                }
            }
            shards.push(shard);
        }
        if let Some((tensor, file)) = wanted.into_iter().find(|(tensor, _)| !tensors.contains_key(tensor)) {
            return Err(CheckpointError::MissingTensor { file: display(&folder.join(file)), tensor });
        }
        Ok(Self { folder, config, shards, tensors })
    }

    /// A folder that has no tensors.
    #[cfg(test)]
    pub(crate) fn without_weights(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), config: Map::new(), shards: Vec::new(), tensors: BTreeMap::new() }
    }

    /// The folder, for errors.
    pub fn name(&self) -> String {
        display(&self.folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The fields of `config.json`; of a model for images and texts, those of its part for texts.
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// What a JSON file of the folder holds, if there is one.
    pub(crate) fn json(&self, file: &str) -> Result<Option<Value>, CheckpointError> {
        read_json(&self.folder.join(file))
    }

    /// What a text file of the folder holds, if there is one.
    pub(crate) fn text(&self, file: &str) -> Result<Option<String>, CheckpointError> {
        let path = self.folder.join(file);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CheckpointError::Io { file: display(&path), source }),
        }
    }

    /// A field of `config.json`; `null` is none.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.config.get(name).filter(|value| !value.is_null())
    }

    /// An error about a field of `config.json`, saying what would be right.
    pub(crate) fn invalid_field(&self, field: &str, expected: &'static str) -> CheckpointError {
        CheckpointError::Field {
            file: display(&self.folder.join(CONFIG)),
            field: field.to_owned(),
            expected,
            found: self.field(field).map_or_else(|| "nothing".to_owned(), Value::to_string),
        }
    }

    /// The family, as `config.json` names it.
    pub(crate) fn model_type(&self) -> Result<&str, CheckpointError> {
        let name = self.field("model_type").and_then(Value::as_str);
        name.ok_or_else(|| self.invalid_field("model_type", "the name of a model family"))
    }

    /// The first of the tensors called `names` that is there.
    pub(crate) fn find(&self, names: &[String]) -> Result<Option<StoredTensor<'_>>, CheckpointError> {
        let name = names.iter().find(|name| self.tensors.contains_key(*name));
        name.map(|name| self.tensor(name, || self.scales(name))).transpose()
    }

    fn tensor<'a>(
        &'a self,
        name: &str,
        scales: impl FnOnce() -> Result<(StoredTensor<'a>, [usize; 2]), CheckpointError>,
    ) -> Result<StoredTensor<'a>, CheckpointError> {
        match self.tensors.get(name) {
            Some(&shard) => self.shards[shard].tensor(name, scales),
            None => Err(CheckpointError::MissingTensor { file: self.name(), tensor: name.to_owned() }),
        }
    }

    /// The scales of the weights `name`, and how many rows and columns each is for.
    fn scales(&self, name: &str) -> Result<(StoredTensor<'_>, [usize; 2]), CheckpointError> {
        /// Where `config.json` does not say: that of DeepSeek V3.
        const BLOCK: [usize; 2] = [128, 128];
        let [usual, other] = SCALES.map(|suffix| format!("{name}{suffix}"));
        let scales = if self.tensors.contains_key(&other) { other } else { usual };
        let missing = || Err(CheckpointError::MissingTensor { file: self.name(), tensor: scales.clone() });
        let scales = self.tensor(&scales, missing)?;
        let block = self.quantization().and_then(|fields| fields.get("weight_block_size")?.as_array());
        let length =
            |value: &Value| value.as_u64().filter(|&length| length > 0).map(|length| length as usize);
        let block = match block.map(|lengths| lengths.iter().map(length).collect::<Option<Vec<_>>>()) {
            None => BLOCK,
            Some(lengths) => lengths
                .and_then(|lengths| lengths.try_into().ok())
                .ok_or_else(|| self.invalid_field(QUANTIZATION, "rows and columns of a block"))?,
        };
        Ok((scales, block))
    }

    /// How the weights were quantized, if they were.
    fn quantization(&self) -> Option<&Map<String, Value>> {
        self.field(QUANTIZATION)?.as_object()
    }

    /// Weights that some tool packed in a form of its own.
    ///
    /// # Errors
    /// If there are such.
    pub(crate) fn check_quantization(&self) -> Result<(), CheckpointError> {
        let Some(fields) = self.quantization() else { return Ok(()) };
        let text = |field: &str| fields.get(field).and_then(Value::as_str);
        match (text("quant_method"), text("format")) {
            (Some("fp8"), _) | (Some("compressed-tensors"), Some("float-quantized")) => Ok(()),
            _ => Err(self.invalid_field(
                QUANTIZATION,
                "weights in F32, F16, BF16 or FP8 (take the model as a GGUF file, or its checkpoint as it was before)",
            )),
        }
    }

    pub(crate) fn tensors(&self) -> impl Iterator<Item = TensorListing> {
        self.shards.iter().flat_map(Shard::tensors)
    }

    pub(crate) fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// See [`GgufFile::release_pages`](crate::gguf::GgufFile::release_pages).
    pub(crate) fn release_pages(&self) {
        self.shards.iter().for_each(Shard::release_pages);
    }
}

/// The part for texts of a model that reads images as well.
fn text_config(mut config: Map<String, Value>) -> Map<String, Value> {
    match config.remove("text_config") {
        Some(Value::Object(mut text)) => {
            if let Some(quantization) = config.remove(QUANTIZATION) {
                text.insert(QUANTIZATION.to_owned(), quantization);
            }
            text
        }
        _ => config,
    }
}

/// What the file holds; `None` if there is none.
fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, CheckpointError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CheckpointError::Io { file: display(path), source }),
    };
    match serde_json::from_slice(&without_infinities(bytes)) {
        Ok(value) => Ok(Some(value)),
        Err(source) => Err(CheckpointError::Json { file: display(path), source }),
    }
}

/// The text with `null` in place of the words that Python writes for numbers which JSON does not have, as it does for bounds that are
/// none.
fn without_infinities(text: Vec<u8>) -> Vec<u8> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let has = |word: &&[u8]| text.windows(word.len()).any(|bytes| bytes == *word);
    if !WORDS.iter().any(has) {
        return text;
    }
    let (mut cleaned, mut rest) = (Vec::with_capacity(text.len()), &text[..]);
    let (mut in_string, mut is_escaped) = (false, false);
    while let Some((&byte, behind)) = rest.split_first() {
        if !in_string && let Some(word) = WORDS.iter().find(|word| rest.starts_with(word)) {
            cleaned.extend_from_slice(b"null");
            rest = &rest[word.len()..];
            continue;
        }
        in_string ^= byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        cleaned.push(byte);
        rest = behind;
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{Dtype, TensorView, serialize};
    use serde_json::json;

    use super::*;

    fn shard(names: &[&str], dtype: Dtype) -> Vec<u8> {
        let data = [0u8; 64];
        let bytes = if dtype == Dtype::F32 { 32 } else { 64 };
        let views =
            names.iter().map(|name| (*name, TensorView::new(dtype, vec![2, 4], &data[..bytes]).unwrap()));
        serialize(views, None).unwrap()
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    #[test]
    fn infinities_become_null_but_in_strings() {
        let cleaned = |text: &str| String::from_utf8(without_infinities(text.into())).unwrap();
        assert_eq!(cleaned(r#"{"a": [0.0, Infinity], "b": -Infinity}"#), r#"{"a": [0.0, null], "b": null}"#);
        assert_eq!(cleaned(r#"["NaN \" Infinity", NaN]"#), r#"["NaN \" Infinity", null]"#);
        assert_eq!(cleaned(r#"["\\", NaN]"#), r#"["\\", null]"#);
    }

    #[test]
    fn tensors_of_several_files_are_found() {
        let index =
            json!({ "weight_map": { "a.weight": "1.safetensors", "b.weight": "2.safetensors" } }).to_string();
        let folder = folder(&[
            (CONFIG, br#"{"model_type": "llama", "x": null, "text_config": {"model_type": "gemma3_text"}}"#),
            (INDEX, index.as_bytes()),
            ("1.safetensors", &shard(&["a.weight"], Dtype::F32)),
            ("2.safetensors", &shard(&["b.weight", "c.weight"], Dtype::F64)),
        ]);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(checkpoint.model_type().unwrap(), "gemma3_text");
        let found = checkpoint.find(&["x".to_owned(), "a.weight".to_owned()]).unwrap().unwrap();
        assert_eq!(
            (found.name.as_str(), found.rows, found.columns, found.bytes.read().len()),
            ("a.weight", 2, 4, 32)
        );
        let error = checkpoint.find(&["b.weight".to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("2.safetensors") && error.contains("b.weight") && error.contains("F64"),
            "{error}"
        );
        assert!(checkpoint.find(&["d.weight".to_owned()]).unwrap().is_none());
    }

    #[test]
    fn weights_of_eight_bits_that_are_several_matrices_are_refused() {
        let view = |dtype, shape, data| TensorView::new(dtype, shape, data).unwrap();
        let codes = view(Dtype::F8_E4M3, vec![2, 2, 2], &[0; 8]);
        let scales = view(Dtype::F32, vec![2, 1, 1], &[0; 8]);
        let file = serialize([("a", codes), ("a_scale_inv", scales)], None).unwrap();
        let folder = folder(&[(CONFIG, br#"{"model_type": "llama"}"#), (SINGLE, &file)]);
        let error = Checkpoint::open(folder.path()).unwrap().find(&["a".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("3 dimensions") && error.contains("tensor a"), "{error}");
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let config: (&str, &[u8]) = (CONFIG, br#"{"model_type": "llama"}"#);
        let index = |file: &str| json!({ "weight_map": { "a.weight": file } }).to_string().into_bytes();
        let one = shard(&["a.weight"], Dtype::F32);
        for (files, problem) in [
            (vec![], "config.json"),
            (vec![(CONFIG, &b"{"[..])], "config.json"),
            (vec![(CONFIG, &b"[]"[..])], "object"),
            (vec![config], "model.safetensors"),
            (vec![config, ("pytorch_model.bin", b"")], "safe_serialization"),
            (vec![config, (SINGLE, b"\x10\0\0\0\0\0\0\0{}")], "model.safetensors"),
            (vec![config, (SINGLE, &one[..one.len() - 1])], "model.safetensors"),
            (vec![config, (INDEX, &index("1.safetensors"))], "1.safetensors"),
            (vec![config, (INDEX, &index("../1.safetensors"))], "../1.safetensors"),
            (vec![config, (INDEX, &index("2")), ("2", &shard(&["b.weight"], Dtype::F32))], "a.weight"),
        ] {
            let folder = folder(&files);
            let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(problem), "{problem}: {error}");
            assert!(error.contains(&folder.path().display().to_string()), "{error}");
        }
    }
}
