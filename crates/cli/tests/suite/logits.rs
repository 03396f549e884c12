//! `lookahead logits`, as a user runs it.

use crate::program::Directory;
use lookahead_fixtures::{Golden, TinyModel};

/// Sums are ordered differently from the reference's, nothing else.
const TOLERANCE: f32 = 1e-4;

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (floats, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    floats.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn logits_are_those_of_transformers() {
    for name in ["llama", "gemma3"] {
        let golden = Golden::load(name);
        let directory = Directory::new();
        directory.write("model.gguf", golden.gguf().unwrap());
        directory.write("ids.json", format!("{:?}", golden.input_ids));
        let run = directory.run("logits model.gguf --ids ids.json --out logits.f32 --kv-type f32");
        assert!(run.stderr.contains(&format!("Wrote {} rows", golden.input_ids.len())), "{}", run.stderr);
        run.success();
        let found = floats(&directory.read("logits.f32"));
        assert_eq!(found.len(), golden.logits.len(), "{name}");
        let error = found.iter().zip(&golden.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error <= TOLERANCE, "{name}: off by {error}");
    }
}

#[test]
fn a_file_longer_than_a_chunk_is_whole_and_the_same_on_any_threads() {
    let directory = Directory::with_model(&TinyModel { layers: 1, ..TinyModel::default() });
    let ids: Vec<u32> = (0..500).map(|i| i * 7 % 512).collect();
    directory.write("ids.json", format!("{ids:?}"));
    directory.write("short.json", format!("{:?}", &ids[..300]));
    for (file, out, threads) in [("ids", "a", 1), ("ids", "b", 2), ("short", "c", 2)] {
        directory
            .run(&format!("logits model.gguf --ids {file}.json --out {out} --threads {threads}"))
            .success();
    }
    let [a, b, c] = ["a", "b", "c"].map(|name| directory.read(name));
    assert_eq!(a.len(), 500 * 512 * 4);
    assert_eq!(a, b);
    assert_eq!(a[..c.len()], c, "logits depend on the tokens before, not on the chunk");
}

#[test]
fn wrong_ids_are_refused_and_nothing_is_written() {
    let directory =
        Directory::with_model(&TinyModel { layers: 1, context_length: 16, ..TinyModel::default() });
    let files = directory.files();
    for (content, problem) in [
        ("[1, 2, 512]", "element 2 is 512, outside the vocabulary of 512 tokens"),
        ("[1, -2]", "element 1 is -2, not a token id"),
        ("[1, 2.5]", "element 1 is 2.5, not a token id"),
        ("[\"x\"]", "element 0 is \"x\", not a token id"),
        ("[4294967296]", "element 0 is 4294967296, not a token id"),
        ("[]", "empty"),
        ("{\"ids\": [1]}", "expected a JSON array of token ids"),
        ("[1, 2", "ids.json is not JSON"),
        (&format!("{:?}", [1; 17]), "there are 17 token ids, but the model's context holds 16"),
    ] {
        directory.write("ids.json", content);
        let error =
            directory.run("logits model.gguf --ids ids.json --out logits.f32 --kv-type f32").failure();
        assert!(error.contains(problem) && error.contains("ids.json"), "{content}: {error}");
    }
    let error = directory.run("logits model.gguf --ids missing.json --out logits.f32").failure();
    assert!(error.contains("missing.json"), "{error}");
    directory.write("ids.json", "[1]");
    let error = directory.run("logits model.gguf --ids ids.json --out no/such/logits.f32").failure();
    assert!(error.contains("no/such"), "{error}");
    let error = directory.run("logits model.gguf --ids ids.json --out .").failure();
    assert!(error.contains("is not a file"), "{error}");
    assert_eq!(directory.files().len(), files.len() + 1, "only ids.json is new: {:?}", directory.files());
}
