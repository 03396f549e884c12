//! `lookahead inspect`, as a user runs it.

use crate::program::Directory;
use lookahead_fixtures::TinyModel;
use lookahead_kernels::WeightType;
use lookahead_model::gguf::Writer;

#[test]
fn a_model_is_described_in_words_and_numbers() {
    let directory = Directory::with_model(&TinyModel {
        architecture: "gemma3",
        weight_type: WeightType::Q8_0,
        ..TinyModel::default()
    });
    let text = directory.run("inspect model.gguf").success();
    for part in [
        "gemma3: 2 layers of width 256",
        "vocabulary of 512 tokens, embedding and output share weights; context of 512 tokens",
        "4 heads of 64 over 2 key-value heads, window of 16 tokens, queries and keys normalised (1 of 2 layers)",
        "feed-forward: width 512, gated by GELU, results normalised",
        "base 1000000",
        // 2 layers x keys and values x 2 heads x 64 values x 2 bytes.
        "KV cache 1.02 kB a token: 524.29 kB for 512 tokens",
        "general.architecture",
        "\"gemma3\"",
        "… 512 string]",
        "blk.1.attn_q.weight",
        "256 x 512",
        "Q8_0",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() < 500), "long values are shortened");
}

#[test]
fn json_holds_the_same() {
    let directory = Directory::with_model(&TinyModel {
        weight_type: WeightType::Q4_1,
        layers: 1,
        ..TinyModel::default()
    });
    let json = directory.run("inspect model.gguf --json").json();
    // Embedding; q, k, v, output; gate, up, down; three norms.
    let matrices = 512 * 256 + (256 + 128 + 128 + 256) * 256 + 3 * 256 * 512;
    assert_eq!(json["parameters"], matrices + 3 * 256);
    assert_eq!(json["types"]["Q4_1"]["bytes"], matrices / 32 * 20);
    assert_eq!(json["types"]["F32"]["tensors"], 3);
    assert_eq!(json["architecture"], "llama");
    assert_eq!(json["context_length"], 512);
    assert_eq!(json["kv_cache"]["bytes_per_token"], 512);
    assert_eq!(json["metadata"]["tokenizer.ggml.tokens"]["length"], 512);
    assert_eq!(json["tensors"][0]["shape"], serde_json::json!([256, 512]));
    assert!(json["problem"].is_null());
}

#[test]
fn a_file_that_cannot_be_run_can_be_looked_at() {
    let directory = Directory::new();
    let mut writer = Writer::new("x.gguf");
    writer.metadata("general.architecture", "perceptron");
    writer.tensor("weight", WeightType::F32, &[4], vec![0; 16]).unwrap();
    directory.write("x.gguf", writer.to_bytes());
    let text = directory.run("inspect x.gguf").success();
    assert!(text.contains("architecture \"perceptron\" is not supported"), "{text}");
    let json = directory.run("inspect x.gguf --json").json();
    assert!(json["architecture"].is_null() && json["problem"].as_str().unwrap().contains("perceptron"));
}

#[test]
fn what_is_no_model_is_refused() {
    let directory = Directory::new();
    directory.write("x.gguf", "not a model");
    assert!(directory.run("inspect x.gguf").failure().contains("x.gguf"));
    assert!(directory.run("inspect y.gguf").failure().contains("there is no file y.gguf"));
}
