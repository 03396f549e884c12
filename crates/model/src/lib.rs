//! Models: GGUF files, tokenizers, chat templates, architectures, the KV cache and the tree forward pass.

pub mod architecture;
pub mod chat_template;
pub mod gguf;
mod kv_cache;
mod language_model;
mod load_error;
mod token_tree;
pub mod tokenizer;
mod transformer;
mod weights;

pub use kv_cache::KvCache;
pub use language_model::{
    Cache, CacheMemory, ForwardError, Keep, LanguageModel, Logits, LogitsOf, OutOfCacheMemory, SequenceStep,
};
pub use load_error::LoadError;
pub use lookahead_kernels::Candidate;
pub use token_tree::{TokenTree, TokenTreeError};
pub use transformer::CpuModel;

/// The number of a token in a model's vocabulary.
pub type TokenId = u32;
