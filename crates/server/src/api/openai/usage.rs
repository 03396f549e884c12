//! `usage`: the tokens that a request took.

use lookahead_engine::DraftOrigin;
use serde_json::{Map, Value, json};

use crate::generation::Usage;
use crate::metrics::source_name;

/// The object; `lookahead` in it is an extension.
pub(super) fn object(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            "rejected_prediction_tokens": usage.rejected_prediction_tokens,
        },
        "lookahead": lookahead(usage),
    })
}

/// What lookahead did for the answers.
pub(in crate::api) fn lookahead(usage: &Usage) -> Value {
    let accepted = DraftOrigin::ALL.into_iter().map(|origin| (origin, usage.accepted_by_origin.of(origin)));
    let by_source: Map<String, Value> = accepted
        .filter(|(_, accepted)| *accepted > 0)
        .map(|(origin, accepted)| (source_name(origin).to_owned(), accepted.into()))
        .collect();
    json!({
        "steps": usage.steps,
        "edl": usage.decode_tokens as f64 / usage.steps.max(1) as f64,
        "drafted": usage.drafted,
        "accepted": usage.accepted,
        "accepted_by_source": by_source,
    })
}
