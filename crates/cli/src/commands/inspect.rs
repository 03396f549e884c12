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
use lookahead_model::architecture::Architecture;
use lookahead_model::{LoadError, OpenModel, TensorListing};
use serde_json::{Value, json};

use crate::loaded_model::weight_file_bytes;
use crate::output;
use crate::store::pull::resolve_model;

const HELP: &str = "\
Examples:
  lookahead inspect smollm2-135m
      Metadata, tensors, and the memory that the model will need
  lookahead inspect ./model.gguf --json
      The same for programs";

/// What families' files call the embedding and an output head of its own.
const EMBEDDINGS: [&str; 7] = [
    "token_embd.weight",
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "embed_in.weight",
    "tok_embeddings.weight",
    ".embeddings.weight",
];
const HEADS: [&str; 3] = ["lm_head.weight", "embed_out.weight", "output_layer.weight"];

/// A conversation of ordinary length, for the estimate of memory.
const USUAL_CONTEXT: usize = 2048;

/// Show a model's metadata, tensors and estimated memory
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct InspectArgs {
    /// The model: path of a file or a checkpoint folder, name, or hf:OWNER/REPO[/FILE.gguf]
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &InspectArgs) -> anyhow::Result<ExitCode> {
    let path = resolve_model(&arguments.model)?;
    let model = OpenModel::open(&path)?;
    let file_bytes = weight_file_bytes(&path)?;
    let inspection = Inspection::new(path, file_bytes, &model);
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
struct Inspection {
    path: PathBuf,
    file_bytes: u64,
    /// Of each hyperparameter, what people and what programs are shown.
    metadata: Vec<(String, String, Value)>,
    tensors: Vec<TensorListing>,
    /// An error where this version cannot run the model.
    architecture: Result<Architecture, LoadError>,
    types: BTreeMap<String, TypeTotal>,
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
    /// Of a sequence, whatever its length.
    state_bytes: u64,
    /// Of a node of a draft, besides.
    fed_bytes_per_node: u64,
}

impl Inspection {
    fn new(path: PathBuf, file_bytes: u64, model: &OpenModel) -> Self {
        let tensors = model.tensors();
        let mut types: BTreeMap<_, TypeTotal> = BTreeMap::new();
        for tensor in &tensors {
            let total = types.entry(tensor.type_name.clone()).or_default();
            total.tensors += 1;
            total.weights += weights(tensor);
            total.bytes += tensor.bytes;
        }
        let metadata = match model {
            OpenModel::Gguf(file) => file
                .metadata()
                .iter()
                .map(|(key, value)| (key.to_owned(), metadata::short(value), metadata::to_json(value)))
                .collect(),
            OpenModel::Checkpoint(checkpoint) => checkpoint
                .config()
                .iter()
                .map(|(key, value)| (key.clone(), value.to_string(), value.clone()))
                .collect(),
        };
        Self { path, file_bytes, metadata, tensors, architecture: Architecture::of(model), types }
    }

    fn parameters(&self) -> u64 {
        self.types.values().map(|total| total.weights).sum()
    }

    /// The weights are repacked in memory, in about as many bytes as in the file; FP8 in twice as many.
    fn weight_bytes(&self) -> u64 {
        let in_memory = |(name, total): (&String, &TypeTotal)| {
            if name.starts_with("F8") { 2 * total.bytes } else { total.bytes }
        };
        self.types.iter().map(in_memory).sum()
    }

    fn cache_memory(&self) -> Option<CacheMemory> {
        let architecture = self.architecture.as_ref().ok()?;
        let bytes_per_token = architecture.kv_bytes_per_token(KvType::default()) as u64;
        let full = architecture.context_length;
        let mut contexts = vec![USUAL_CONTEXT.min(full), full];
        contexts.dedup();
        let contexts = contexts.into_iter().map(|tokens| (tokens, bytes_per_token * tokens as u64)).collect();
        let state_bytes = architecture.state_bytes() as u64;
        let fed_bytes_per_node = architecture.fed_bytes_per_node() as u64;
        Some(CacheMemory { bytes_per_token, contexts, state_bytes, fed_bytes_per_node })
    }

    /// The size of the vocabulary, by the embedding.
    fn vocabulary_size(&self) -> Option<usize> {
        let embedding = |tensor: &&TensorListing| EMBEDDINGS.iter().any(|name| tensor.name.ends_with(name));
        Some(*self.tensors.iter().find(embedding)?.shape.get(1)? as usize)
    }

    fn tied_embeddings(&self) -> bool {
        let is_head = |name: &str| name == "output.weight" || HEADS.iter().any(|head| name.ends_with(head));
        !self.tensors.iter().any(|tensor| is_head(&tensor.name))
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
            if cache.bytes_per_token > 0 {
                writeln!(out, "               KV cache {per_token} a token: {}", contexts.join(", "))?;
            }
            if cache.state_bytes > 0 {
                let [bytes, fed] = [cache.state_bytes, cache.fed_bytes_per_node].map(DecimalBytes);
                writeln!(out, "               states of recurrent layers {bytes} a sequence, of any length")?;
                writeln!(out, "               and {fed} for each node of its draft")?;
            }
        }
        writeln!(out, "\nMetadata")?;
        let width = self.metadata.iter().map(|(key, ..)| key.chars().count()).max().unwrap_or(0);
        for (key, value, _) in &self.metadata {
            writeln!(out, "  {key:width$}  {value}")?;
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
        let width = self.tensors.iter().map(|tensor| tensor.name.chars().count()).max().unwrap_or(0);
        for tensor in &self.tensors {
            let shape = tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ");
            let bytes = HumanCount(tensor.bytes).to_string();
            writeln!(out, "  {:width$}  {:6} {shape:>16} {bytes:>14} bytes", tensor.name, tensor.type_name)?;
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let metadata: serde_json::Map<String, Value> =
            self.metadata.iter().map(|(key, _, value)| (key.clone(), value.clone())).collect();
        let tensors: Vec<Value> = self
            .tensors
            .iter()
            .map(|tensor| {
                json!({
                    "name": tensor.name,
                    "type": tensor.type_name,
                    "shape": tensor.shape,
                    "bytes": tensor.bytes,
                })
            })
            .collect();
        let types: serde_json::Map<String, Value> = self
            .types
            .iter()
            .map(|(name, total)| {
                let TypeTotal { tensors, weights, bytes } = total;
                (name.clone(), json!({ "tensors": tensors, "weights": weights, "bytes": bytes }))
            })
            .collect();
        let cache = self.cache_memory().map(|cache| {
            let contexts: Vec<Value> = cache
                .contexts
                .iter()
                .map(|(tokens, bytes)| json!({ "tokens": tokens, "bytes": bytes }))
                .collect();
            json!({
                "bytes_per_token": cache.bytes_per_token,
                "contexts": contexts,
                "state_bytes": cache.state_bytes,
                "fed_bytes_per_node": cache.fed_bytes_per_node,
            })
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
fn weights(tensor: &TensorListing) -> u64 {
    tensor.shape.iter().product()
}
