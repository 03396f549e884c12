//! Writes the seed corpora `corpus/checkpoint`, `corpus/draft_file`, `corpus/gguf` and `corpus/tokenizer`: small good files for the fuzzer to start from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lookahead_fixtures::{Golden, TinyModel, tiny_model};
use lookahead_kernels::WeightType;
use lookahead_model::gguf::{Array, GgufFile, Strings, Value, Writer};
use lookahead_trie::{Namespace, Sharing, TrieError};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let (gguf, tokenizer) = (corpus.join("gguf"), corpus.join("tokenizer"));
    fs::create_dir_all(&gguf)?;
    fs::create_dir_all(&tokenizer)?;

    fs::write(gguf.join("every-value-type"), every_value_type())?;
    fs::write(gguf.join("every-weight-type"), every_weight_type())?;
    for architecture in ["llama", "gemma3"] {
        fs::write(gguf.join(architecture), metadata_of(architecture))?;
    }

    let text = "The answer's 42: día 日本 🙂\n\n  <|im_end|>";
    let files = [
        ("byte-level", metadata_of("llama")),
        ("sentence-piece", metadata_of("gemma3")),
        ("few-byte-level", few_tokens("gpt2")),
        ("few-sentence-piece", few_tokens("llama")),
        ("few-characters", few_tokens("gemma4")),
        ("few-unigram", few_tokens("t5")),
    ];
    for (name, file) in files {
        let mut seed = vec![text.len() as u8];
        seed.extend(text.as_bytes());
        seed.extend(file);
        fs::write(tokenizer.join(name), seed)?;
    }

    let checkpoints = corpus.join("checkpoint");
    fs::create_dir_all(&checkpoints)?;
    for name in Golden::NAMES {
        let folder = Golden::load(name).folder;
        let config = fs::read(folder.join("config.json"))?;
        let weights = fs::read(folder.join("model.safetensors"))?;
        let split = (config.len() as u16).to_le_bytes();
        fs::write(checkpoints.join(name), [&[255], &split[..], &config, &weights].concat())?;
    }
    // By the numbers that the target has for them.
    let tokenizers = [
        (0, "unigram-nmt/tokenizer.model"),
        (0, "unigram-plain/tokenizer.model"),
        (1, "tekken/tekken.json"),
        (2, "kimi/tiktoken.model"),
        (3, "qwen/qwen.tiktoken"),
    ];
    for (kind, path) in tokenizers {
        let (config, file) = (b"{}", fs::read(tokenizers_folder().join(path))?);
        let seed = [&[kind], &(config.len() as u16).to_le_bytes()[..], config, &file].concat();
        fs::write(checkpoints.join(path.replace('/', "-")), seed)?;
    }

    let drafts = corpus.join("draft_file");
    fs::create_dir_all(&drafts)?;
    let [file, journal] = draft_files().map_err(io::Error::other)?;
    let both = [&file[..], &journal].concat();
    for (name, flags, split) in [("files", 0, file.len()), ("journal", 0, 0), ("repaired", 2, file.len())] {
        let rest = if split == 0 { &journal } else { &both };
        fs::write(drafts.join(name), [&[flags], &(split as u16).to_le_bytes()[..], rest].concat())?;
    }
    let (texts, changes) = (b"abcabcabd\0abcd\0the same again, the same again", [24, 0, 1, 70, 0, 255]);
    for (name, flags) in [("changed", 1), ("changed-and-repaired", 3)] {
        let split = (texts.len() as u16).to_le_bytes();
        fs::write(drafts.join(name), [&[flags], &split[..], texts, &changes].concat())?;
    }
    Ok(())
}

/// A file of drafts, and a journal that continues it.
fn draft_files() -> Result<[Vec<u8>; 2], TrieError> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("seed");
    let namespace = Namespace::open(&path, 7, 1 << 20)?;
    for answer in [[1, 2, 3, 1, 2, 4], [1, 2, 3, 5, 6, 7]] {
        let mut request = namespace.begin(&[1, 2], &[], Sharing::ReadWrite);
        namespace.warm_up_runners_up(&[1, 2], [3, 4, 5, 6, 7, 8, 9, 10]);
        namespace.accept(&mut request, &answer);
        namespace.finish(request)?;
        // The first time there is no file yet: it is written.
        namespace.save()?;
    }
    let journal = directory.path().join("seed.journal");
    Ok([path, journal].map(|path| fs::read(path).expect("a file that was just written")))
}

/// The small vocabularies of the tests.
fn tokenizers_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/fixtures/tokenizers")
}

/// A tiny model's metadata without its tensors.
fn metadata_of(architecture: &'static str) -> Vec<u8> {
    let model = tiny_model(&TinyModel { architecture, ..TinyModel::default() });
    let model = GgufFile::from_bytes(architecture, model).unwrap();
    let mut writer = Writer::new(architecture);
    for (key, value) in model.metadata().iter() {
        writer.metadata(key, value.clone());
    }
    writer.to_bytes()
}

/// A vocabulary small enough for random changes to hit something that matters.
fn few_tokens(model: &'static str) -> Vec<u8> {
    let tokens: [&str; 12] = if model == "gpt2" {
        ["<s>", "</s>", "a", "b", "n", "s", "w", "e", "r", "Ġ", "an", "Ġan"]
    } else {
        ["<unk>", "<s>", "</s>", "<0x0A>", "<0xE6>", "▁", "a", "n", "s", "an", "▁an", "▁answer"]
    };
    let mut writer = Writer::new(model);
    writer
        .metadata("tokenizer.ggml.model", model)
        .metadata("tokenizer.ggml.pre", "smollm")
        .metadata("tokenizer.ggml.tokens", tokens.iter().collect::<Strings>())
        .metadata("tokenizer.ggml.scores", (0..12).map(|rank| -(rank as f32)).collect::<Vec<_>>())
        .metadata("tokenizer.ggml.token_type", vec![2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 1])
        .metadata("tokenizer.ggml.bos_token_id", 1u32)
        .metadata("tokenizer.ggml.eos_token_id", 2u32)
        .metadata("tokenizer.ggml.unknown_token_id", 0u32)
        .metadata("tokenizer.ggml.add_bos_token", true)
        .metadata("tokenizer.ggml.add_space_prefix", true);
    if model == "gemma4" {
        writer.metadata("tokenizer.ggml.merges", ["a n", "▁ an"].into_iter().collect::<Strings>());
    }
    if model == "t5" {
        // One rule, that for no text: its trie has a root alone.
        let rules = [4, 0, 0, 0, 0, 0, 0, 0, 0];
        writer.metadata("tokenizer.ggml.precompiled_charsmap", Array::U8(rules.to_vec()));
    }
    if model == "gpt2" {
        writer.metadata("tokenizer.ggml.token_type", vec![3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4]);
        writer.metadata("tokenizer.ggml.merges", ["a n", "Ġ an"].into_iter().collect::<Strings>());
    }
    writer.to_bytes()
}

fn every_value_type() -> Vec<u8> {
    let nested = Array::Arrays(vec![Array::U8(vec![1, 2]), Array::Bool(vec![true])]);
    let values: [Value; 20] = [
        Value::U8(1),
        Value::I8(-1),
        Value::U16(2),
        Value::I16(-2),
        Value::U32(3),
        Value::I32(-3),
        Value::U64(4),
        Value::I64(-4),
        Value::F32(0.5),
        Value::F64(0.25),
        Value::Bool(true),
        "text".into(),
        Array::U16(vec![1, 2, 3]).into(),
        Array::I16(vec![-1]).into(),
        Array::I32(vec![1, -2]).into(),
        Array::U64(vec![1]).into(),
        Array::I64(vec![]).into(),
        Array::F64(vec![1.5]).into(),
        ["a", "bc", ""].into_iter().collect::<Strings>().into(),
        nested.into(),
    ];
    let mut writer = Writer::new("values");
    for (index, value) in values.into_iter().enumerate() {
        writer.metadata(format!("k{index}"), value);
    }
    let mut bytes = writer.to_bytes();
    bytes[4] = 2; // version
    bytes
}

fn every_weight_type() -> Vec<u8> {
    let mut writer = Writer::new("weights");
    for weight_type in WeightType::ALL {
        let shape = [weight_type.block_weights() as u64, 1, 2];
        writer
            .tensor(weight_type.name(), weight_type, &shape, vec![0; 2 * weight_type.block_bytes()])
            .unwrap();
    }
    writer.to_bytes()
}
