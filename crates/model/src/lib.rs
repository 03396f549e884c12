//! Models: GGUF files and checkpoints, tokenizers, chat templates, prompts and calls of tools, architectures, the KV cache and the tree forward pass.

mod answer_parser;
pub mod architecture;
mod batch;
mod cache_budget;
pub mod chat_template;
mod checkpoint;
mod cpu_model;
mod device_model;
pub mod gguf;
#[cfg(feature = "gpu")]
mod gpu;
mod kv_cache;
mod kv_pages;
mod kv_pool;
mod language_model;
mod load_error;
mod logits;
mod mapped_file;
mod model_files;
mod pass_cache;
mod prompt_encoder;
mod reasoning;
mod recurrent_states;
mod stored_tensor;
mod token_tree;
pub mod tokenizer;
pub mod tool_calls;
mod transformer;
mod weights;

pub use answer_parser::AnswerParser;
pub use checkpoint::{Checkpoint, CheckpointError};
pub use cpu_model::CpuModel;
pub use device_model::{DeviceCache, DeviceError, DeviceModel};
#[cfg(feature = "gpu")]
pub use gpu::{GpuCache, GpuFit, GpuModel, GpuModelError, gpu_fit};
pub use kv_cache::KvCache;
pub use kv_pages::KvPages;
pub use language_model::{
    Accepted, Cache, CacheMemory, ForwardError, LanguageModel, LogitsOf, OutOfCacheMemory, SequenceStep,
};
pub use load_error::LoadError;
pub use logits::Logits;
pub use lookahead_kernels::{Candidate, Keep};
pub use lookahead_trie::TokenId;
pub use model_files::{ModelFiles, OpenModel};
pub use prompt_encoder::{Chat, FillInMiddle, PromptEncoder};
pub use reasoning::{Parted, ReasoningFormat, ReasoningParser};
pub use stored_tensor::TensorListing;
pub use token_tree::{TokenTree, TokenTreeError};
pub use tool_calls::{ToolCallParser, ToolDelta, ToolFormat, ToolSignatures};
