//! `--device`, `--gpu-layers` and `lookahead devices`, on a tiny model. Without a GPU, not even one in software, little of it is tried.

use crate::program::Directory;
use lookahead_fixtures::TinyModel;

const GENERATE: &str =
    "generate --model model.gguf --json --max-tokens 12 --prompt again_and_again_and_again --logits-hash";

fn directory() -> Directory {
    Directory::with_model(&TinyModel { layers: 3, ..TinyModel::default() })
}

#[test]
fn layers_for_a_gpu_are_refused_without_one() {
    let error = directory().run(&format!("{GENERATE} --gpu-layers 2")).failure();
    assert!(error.contains("--device gpu"), "{error}");
    let refused = directory().run(&format!("{GENERATE} --gpu-layers 0"));
    assert!(refused.code == 2 && refused.stderr.contains("--gpu-layers"), "{}", refused.stderr);
}

#[cfg(not(feature = "gpu"))]
#[test]
fn a_program_without_gpus_says_so() {
    let refused = directory().run(&format!("{GENERATE} --device gpu"));
    assert!(refused.code == 2 && refused.stderr.contains("--features gpu"), "{}", refused.stderr);
}

#[cfg(feature = "gpu")]
#[test]
fn some_layers_on_a_gpu_answer_as_all_on_the_cpu_do() {
    let directory = directory();
    let devices = directory.run("devices --model model.gguf --json").json();
    let Some(device) = devices.as_array().unwrap().first() else {
        assert!(directory.run("devices").success().contains("no GPU"));
        return;
    };
    assert_eq!((&device["model"]["layers"], &device["model"]["fitting_layers"]), (&3.into(), &3.into()));
    assert!(device["model"]["weight_bytes"].as_u64() > Some(0), "{device}");
    let told = directory.run("devices --model model.gguf").success();
    assert!(told.contains("all of its 3 layers fit"), "{told}");

    let expected = directory.run(GENERATE).json();
    for layers in ["", " --gpu-layers 1", " --gpu-layers 99"] {
        let found = directory.run(&format!("{GENERATE} --device gpu{layers}")).json();
        for field in ["token_ids", "logits_hash"] {
            assert_eq!(found[field], expected[field], "{field} with{layers}");
        }
    }
}
