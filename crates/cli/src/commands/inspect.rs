//! `lookahead inspect`: what a model file holds.

mod describe;
mod metadata;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::{DecimalBytes, HumanCount};
use lookahead_kernels::KvType;
use lookahead_model::LoadError;
use lookahead_model::architecture::Architecture;
use lookahead_model::gguf::{GgufFile, TensorInfo};
use serde_json::{Value, json};

use crate::output;
use crate::store::resolve_model;

const HELP: &str = "\
Examples:
  lookahead inspect smollm2-135m
      Metadata, tensors, and the memory that the model will need
  lookahead inspect ./model.gguf --json
      The same for programs";

/// A conversation of ordinary length, for the estimate of memory.
const USUAL_CONTEXT: usize = 2048;

/// Show a model's metadata, tensors and estimated memory
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct InspectArgs {
    /// The model: path, name, or hf:OWNER/REPO[/FILE.gguf]
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &InspectArgs) -> anyhow::Result<ExitCode> {
    let path = resolve_model(&arguments.model)?;
    let file_bytes = path.metadata()?.len();
    let file = GgufFile::open(&path)?;
    let architecture = Architecture::of(&file);
    let inspection = Inspection::new(path, file_bytes, &file, architecture);
    let mut stdout = output::stdout();
    if arguments.json {
        writeln!(stdout, "{:#}", inspection.to_json())?;
    } else {
        inspection.write(&mut stdout)?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What was found.
struct Inspection<'a> {
    path: PathBuf,
    file_bytes: u64,
    file: &'a GgufFile,
    /// An error where this version cannot run the model.
    architecture: Result<Architecture, LoadError>,
    types: BTreeMap<&'static str, TypeTotal>,
}

/// The tensors of one weight type.
#[derive(Clone, Copy, Default)]
struct TypeTotal {
    tensors: u64,
    weights: u64,
    bytes: u64,
}

/// What the KV cache takes.
struct CacheMemory {
    bytes_per_token: u64,
    /// Lengths of contexts with their bytes.
    contexts: Vec<(usize, u64)>,
}

impl<'a> Inspection<'a> {
    fn new(
        path: PathBuf,
        file_bytes: u64,
        file: &'a GgufFile,
        architecture: Result<Architecture, LoadError>,
    ) -> Self {
        let mut types: BTreeMap<_, TypeTotal> = BTreeMap::new();
        for tensor in file.tensors() {
            let total = types.entry(tensor.weight_type.name()).or_default();
            total.tensors += 1;
            total.weights += weights(tensor);
            total.bytes += tensor.size_bytes() as u64;
        }
        Self { path, file_bytes, file, architecture, types }
    }

    fn parameters(&self) -> u64 {
        self.types.values().map(|total| total.weights).sum()
    }

    /// The weights are repacked in memory, in about as many bytes as in the file.
    fn weight_bytes(&self) -> u64 {
        self.types.values().map(|total| total.bytes).sum()
    }

    fn cache_memory(&self) -> Option<CacheMemory> {
        let architecture = self.architecture.as_ref().ok()?;
        let bytes_per_token = architecture.kv_bytes_per_token(KvType::default()) as u64;
        let full = architecture.context_length;
        let mut contexts = vec![USUAL_CONTEXT.min(full), full];
        contexts.dedup();
        let contexts = contexts.into_iter().map(|tokens| (tokens, bytes_per_token * tokens as u64)).collect();
        Some(CacheMemory { bytes_per_token, contexts })
    }

    /// The size of the vocabulary, by the embedding.
    fn vocabulary_size(&self) -> Option<usize> {
        self.file.tensor("token_embd.weight").map(|tensor| tensor.rows())
    }

    fn tied_embeddings(&self) -> bool {
        self.file.tensor("output.weight").is_none()
    }

    fn summary(&self) -> Vec<String> {
        match &self.architecture {
            Ok(architecture) => {
                describe::sentences(architecture, self.vocabulary_size(), self.tied_embeddings())
            }
            Err(error) => vec![format!("cannot be run: {error}")],
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "File           {} ({})", self.path.display(), DecimalBytes(self.file_bytes))?;
        for (index, sentence) in self.summary().iter().enumerate() {
            writeln!(out, "{:14} {sentence}", if index == 0 { "Architecture" } else { "" })?;
        }
        writeln!(out, "Parameters     {}", HumanCount(self.parameters()))?;
        writeln!(out, "Memory         weights about {}", DecimalBytes(self.weight_bytes()))?;
        if let Some(cache) = self.cache_memory() {
            let per_token = DecimalBytes(cache.bytes_per_token);
            let contexts: Vec<String> = cache
                .contexts
                .iter()
                .map(|&(tokens, bytes)| {
                    format!("{} for {} tokens", DecimalBytes(bytes), HumanCount(tokens as u64))
                })
                .collect();
            writeln!(out, "               KV cache {per_token} a token: {}", contexts.join(", "))?;
        }
        writeln!(out, "\nMetadata")?;
        let width = self.file.metadata().iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
        for (key, value) in self.file.metadata().iter() {
            writeln!(out, "  {key:width$}  {}", metadata::short(value))?;
        }
        self.write_tensors(out)?;
        writeln!(out, "\nWeight types")?;
        for (name, TypeTotal { tensors, weights, bytes }) in &self.types {
            let (weights, bytes) = (HumanCount(*weights).to_string(), DecimalBytes(*bytes).to_string());
            writeln!(out, "  {name:6} {tensors:>5} tensors {weights:>16} weights {bytes:>12}")?;
        }
        Ok(())
    }

    fn write_tensors(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\nTensors (shape: length of a row first)")?;
        let width = self.file.tensors().iter().map(|tensor| tensor.name.chars().count()).max().unwrap_or(0);
        for tensor in self.file.tensors() {
            let shape = tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ");
            let bytes = HumanCount(tensor.size_bytes() as u64).to_string();
            writeln!(
                out,
                "  {:width$}  {:6} {shape:>16} {bytes:>14} bytes",
                tensor.name,
                tensor.weight_type.name()
            )?;
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let metadata: serde_json::Map<String, Value> = self
            .file
            .metadata()
            .iter()
            .map(|(key, value)| (key.to_owned(), metadata::to_json(value)))
            .collect();
        let tensors: Vec<Value> = self
            .file
            .tensors()
            .iter()
            .map(|tensor| {
                json!({
                    "name": tensor.name,
                    "type": tensor.weight_type.name(),
                    "shape": tensor.shape,
                    "bytes": tensor.size_bytes(),
                })
            })
            .collect();
        let types: serde_json::Map<String, Value> = self
            .types
            .iter()
            .map(|(name, total)| {
                let TypeTotal { tensors, weights, bytes } = total;
                ((*name).to_owned(), json!({ "tensors": tensors, "weights": weights, "bytes": bytes }))
            })
            .collect();
        let cache = self.cache_memory().map(|cache| {
            let contexts: Vec<Value> = cache
                .contexts
                .iter()
                .map(|(tokens, bytes)| json!({ "tokens": tokens, "bytes": bytes }))
                .collect();
            json!({ "bytes_per_token": cache.bytes_per_token, "contexts": contexts })
        });
        let architecture = self.architecture.as_ref();
        json!({
            "path": self.path.to_string_lossy(),
            "file_bytes": self.file_bytes,
            "architecture": architecture.map(|architecture| architecture.family).ok(),
            "problem": architecture.err().map(ToString::to_string),
            "summary": self.summary(),
            "parameters": self.parameters(),
            "vocabulary_size": self.vocabulary_size(),
            "context_length": architecture.map(|architecture| architecture.context_length).ok(),
            "weight_bytes": self.weight_bytes(),
            "kv_cache": cache,
            "metadata": metadata,
            "types": types,
            "tensors": tensors,
        })
    }
}

/// Weights in a tensor.
fn weights(tensor: &TensorInfo) -> u64 {
    tensor.shape.iter().product()
}
