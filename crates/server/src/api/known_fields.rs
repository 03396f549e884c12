//! Fields of other servers' requests that this server has not, and what becomes of each: the one table of them.
//!
//! What asks for nothing passes. What would change an answer is refused. What other servers ignore, and their clients send by
//! habit, is passed over, and the answer's header names it.

use serde_json::Value;

/// What becomes of a field that no part of a request knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It asks for nothing that would change an answer.
    Passes,
    /// It is left out, and the client is told.
    PassedOver,
    /// The request is refused, for this reason.
    Refused(&'static str),
}

/// Why a field is refused that is none of those below.
const UNKNOWN: &str = "is no argument of this request, or none that this server supports";

/// Fields that ask for nothing that changes an answer. So do the settings of samplers that [`is_at_rest`] lets pass only while
/// they are off.
const HARMLESS: [&str; 20] = [
    "user",
    "store",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "verbosity",
    "cache_prompt",
    "id_slot",
    "timings_per_token",
    "request_id",
    "dry_allowed_length",
    "dry_base",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "dynatemp_exponent",
    "mirostat_eta",
    "mirostat_tau",
    "xtc_threshold",
];

/// Fields that other servers ignore, or that set up what this server does by itself.
const PASSED_OVER: [&str; 47] = [
    // llama.cpp's server
    "chat_format",
    "n_ctx",
    "n_discard",
    "n_keep",
    "parse_tool_calls",
    "penalize_nl",
    "sampler_order",
    "samplers",
    "slot_id",
    "t_max_prompt_ms",
    // vLLM and SGLang
    "cache_salt",
    "guided_decoding_backend",
    "guided_whitespace_pattern",
    "kv_transfer_params",
    "mm_processor_kwargs",
    "priority",
    "rid",
    "vllm_xargs",
    // OpenAI's other routes
    "background",
    "client_metadata",
    "text",
    "truncation",
    // Ollama
    "keep_alive",
    // text-generation-webui and its clients
    "auto_max_new_tokens",
    "bot_name",
    "character",
    "early_stopping",
    "instruction_template",
    "instruction_template_str",
    "max_tokens_second",
    "mode",
    "preset",
    "prompt_lookup_num_tokens",
    "sampler_priority",
    "stopping_strings",
    "temperature_last",
    "trim_stop",
    "truncation_length",
    "user_name",
    // Routers and proxies
    "caching",
    "drop_params",
    "num_retries",
    "plugins",
    "provider",
    "timeout",
    "transforms",
    "trusted",
];

/// Fields that would change an answer, with the reason and the way out.
const REFUSED: [(&str, &str); 8] = [
    ("audio", "is not supported; this model answers with text only"),
    (
        "chat_template",
        "is not supported: the model's own template is used; chat_template_kwargs sets its variables",
    ),
    ("documents", "is not supported; write them into a message"),
    ("web_search_options", "is not supported: this server reaches no network"),
    ("moderation", "is not supported: this server has no model for it"),
    ("negative_prompt", "is not supported: there is no guidance"),
    ("use_beam_search", "is not supported; answers are sampled"),
    ("length_penalty", "is not supported: it weighs beams, and answers are sampled"),
];

/// What becomes of a field `name` that no part of a request knows.
pub(super) fn treatment(name: &str, value: &Value) -> Treatment {
    if value.is_null() || HARMLESS.contains(&name) || is_at_rest(name, value) {
        return Treatment::Passes;
    }
    if PASSED_OVER.contains(&name) {
        return Treatment::PassedOver;
    }
    let reason = REFUSED.iter().find(|(known, _)| *known == name).map_or(UNKNOWN, |(_, reason)| reason);
    Treatment::Refused(reason)
}

/// Whether a field that this server has not asks for nothing as it is. Clients of other servers send all that those know,
/// most of it switched off.
fn is_at_rest(name: &str, value: &Value) -> bool {
    let is = |number: f64| value.as_f64() == Some(number);
    match name {
        "dry_multiplier"
        | "dynatemp_range"
        | "epsilon_cutoff"
        | "eta_cutoff"
        | "min_keep"
        | "mirostat"
        | "mirostat_mode"
        | "n_indent"
        | "n_probs"
        | "no_repeat_ngram_size"
        | "penalty_alpha"
        | "prompt_logprobs"
        | "smoothing_factor"
        | "top_a"
        | "xtc_probability" => is(0.0),
        "encoder_repetition_penalty"
        | "guidance_scale"
        | "length_penalty"
        | "num_beams"
        | "tfs"
        | "tfs_z"
        | "typical_p" => is(1.0),
        "t_max_predict_ms" | "top_n_sigma" => value.as_f64().is_some_and(|number| number <= 0.0),
        "ban_eos_token"
        | "dynamic_temperature"
        | "echo"
        | "grammar_lazy"
        | "include_stop_str_in_output"
        | "post_sampling_probs"
        | "return_progress"
        | "return_token_ids"
        | "return_tokens"
        | "return_tokens_as_token_ids"
        | "use_beam_search" => value == false,
        "add_bos_token" | "do_sample" | "skip_special_tokens" | "spaces_between_special_tokens" => {
            value == true
        }
        "bad_words" | "functions" | "grammar_triggers" | "lora" | "preserved_tokens" => {
            value.as_array().is_some_and(Vec::is_empty)
        }
        "custom_token_bans" | "grammar_string" | "negative_prompt" => value == "",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_of_another_server_passes_is_passed_over_or_is_refused() {
        for (name, value, expected) in [
            ("user", json!("me"), Treatment::Passes),
            ("anything", json!(null), Treatment::Passes),
            ("typical_p", json!(1.0), Treatment::Passes),
            ("typical_p", json!(0.9), Treatment::Refused(UNKNOWN)),
            ("mirostat", json!(0), Treatment::Passes),
            ("mirostat", json!(2), Treatment::Refused(UNKNOWN)),
            ("lora", json!([]), Treatment::Passes),
            ("lora", json!([{}]), Treatment::Refused(UNKNOWN)),
            ("skip_special_tokens", json!(false), Treatment::Refused(UNKNOWN)),
            ("n_ctx", json!(4096), Treatment::PassedOver),
            ("best_friend", json!(1), Treatment::Refused(UNKNOWN)),
        ] {
            assert_eq!(treatment(name, &value), expected, "{name}: {value}");
        }
    }

    #[test]
    fn the_document_lists_what_is_passed_over() {
        let document = include_str!("../../../../docs/api.md");
        for name in PASSED_OVER {
            assert!(document.contains(&format!("`{name}`")), "docs/api.md: {name} is missing");
        }
    }

    #[test]
    fn no_field_is_in_two_places_of_the_table() {
        let mut names: Vec<&str> = HARMLESS.into_iter().chain(PASSED_OVER).collect();
        names.extend(REFUSED.map(|(name, _)| name));
        names.sort_unstable();
        for pair in names.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
    }
}
