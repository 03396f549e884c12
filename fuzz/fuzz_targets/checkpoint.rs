//! Any files of a checkpoint: they are refused with an error that names them, or the model runs a token. It never panics.
//!
//! Input: what the other file is (one byte, see [`TOKENIZERS`]; above these, `model.safetensors`), the length of `config.json` (two
//! bytes), that file, then the other.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use lookahead_kernels::Kernels;
use lookahead_model::tokenizer::{EncodeOptions, Tokenizer};
use lookahead_model::{Checkpoint, CpuModel, Keep, LanguageModel, Logits, LogitsOf, SequenceStep, TokenTree};

/// Files that tokenizers are in.
const TOKENIZERS: [&str; 4] = ["tokenizer.model", "tekken.json", "tiktoken.model", "qwen.tiktoken"];

/// A good file of weights without tensors, where the input is for the tokenizer.
const NO_TENSORS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

fuzz_target!(|bytes: &[u8]| {
    let Some((&[kind, low, high], rest)) = bytes.split_first_chunk() else { return };
    let split = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (config, other) = rest.split_at(split);
    let tokenizer_file = TOKENIZERS.get(usize::from(kind));

    let directory = temporary_directory();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    write("config.json", config);
    write("model.safetensors", if tokenizer_file.is_some() { NO_TENSORS } else { other });
    let Ok(checkpoint) = Checkpoint::open(directory.path()) else { return };
    if let Some(name) = tokenizer_file {
        write(name, other);
        match Tokenizer::from_checkpoint(&checkpoint) {
            Ok(tokenizer) => {
                let ids = tokenizer.encode("The answer's 42: día 日本", EncodeOptions::default()).unwrap();
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocabulary_size()));
            }
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
        }
        return;
    }
    let Ok(mut model) = CpuModel::load(&checkpoint, Kernels::new(1)) else { return };
    let mut cache = model.new_cache(1);
    let tree = TokenTree::chain(&[0]).unwrap();
    let step = SequenceStep { tree: &tree, cache: &mut cache, logits_of: LogitsOf::Last, keep: Keep::Row };
    let _ = model.forward(&mut [step], &mut Logits::default());
});

/// In memory where there is such a place: a run takes a hundredth of the time.
fn temporary_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
