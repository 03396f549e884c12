//! What is said about an answer: a line for people, an object for programs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use lookahead_engine::{FinishReason, Generation, GenerationStats, SamplingParams};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::arguments::Decoding;

/// How an answer was made.
pub(crate) struct Setup<'a> {
    /// The model's file.
    pub(crate) model: &'a Path,
    /// How long it took to load, without the download.
    pub(crate) load_time: Duration,
    /// Threads that computed.
    pub(crate) threads: usize,
    /// How tokens were decoded.
    pub(crate) decoding: Decoding,
    /// How tokens were chosen.
    pub(crate) sampling: &'a SamplingParams,
}

/// Speed and acceptance in half a line.
pub(crate) fn speed(stats: &GenerationStats) -> String {
    let tokens = stats.completion_tokens;
    let mut line = format!("{tokens} {}", if tokens == 1 { "token" } else { "tokens" });
    if stats.decode_tokens > 0 {
        // Writing to a string cannot fail.
        let _ = write!(line, ", {:.1} tokens/s, EDL {:.2}", stats.decode_tokens_per_s(), stats.edl());
    }
    if stats.draft_tokens() > 0 {
        let _ = write!(line, ", accepted {} of {} drafted", stats.accepted_tokens(), stats.draft_tokens());
    }
    line
}

/// Why an answer ended, to go behind its [`speed`]; nothing where the model itself ended it.
pub(crate) fn ending(finish_reason: FinishReason) -> &'static str {
    match finish_reason {
        FinishReason::Stop => "",
        FinishReason::Length => "; cut off at the most tokens allowed",
        FinishReason::Cancelled => "; interrupted",
    }
}

/// One line about an answer: its speed, the prompt's, and why it ended where that is no matter of course.
pub(crate) fn summary(generation: &Generation, sampling: &SamplingParams) -> String {
    let stats = &generation.stats;
    let mut line = speed(stats);
    let _ = write!(line, "; prompt {} tokens", stats.prompt_tokens);
    if stats.completion_tokens > 0 {
        let _ = write!(line, ", {:.1} tokens/s", stats.prefill_tokens_per_s());
    }
    line.push_str(ending(generation.finish_reason));
    if sampling.temperature > 0.0 {
        let _ = write!(line, "; seed {}", sampling.seed);
    }
    line
}

/// The object of `--json`. Times are in seconds; the histograms count decode steps by length.
pub(crate) fn to_json(answer: &Answer, setup: &Setup<'_>) -> Value {
    let Answer { reasoning, text, generation } = answer;
    let stats = &generation.stats;
    let mut object = json!({
        "model": setup.model.to_string_lossy(),
        "threads": setup.threads,
        "decoding": match setup.decoding {
            Decoding::Lookahead => "lookahead",
            Decoding::Plain => "plain",
        },
        "seed": (setup.sampling.temperature > 0.0).then_some(setup.sampling.seed),
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.completion_tokens,
        "token_ids": generation.token_ids,
        "reasoning": Some(reasoning).filter(|thoughts| !thoughts.is_empty()),
        "text": text,
        "finish_reason": generation.finish_reason.as_str(),
        "timings": {
            "load_s": setup.load_time.as_secs_f64(),
            "prefill_s": stats.prefill.as_secs_f64(),
            "decode_s": stats.decode.as_secs_f64(),
            "prefill_tokens_per_s": stats.prefill_tokens_per_s(),
            "decode_tokens_per_s": stats.decode_tokens_per_s(),
        },
        "lookahead": {
            "steps": stats.steps(),
            "edl": stats.edl(),
            "draft_tokens": stats.draft_tokens(),
            "accepted_tokens": stats.accepted_tokens(),
            "retrieve_s": stats.retrieval.as_secs_f64(),
            "forward_s": stats.forward.as_secs_f64(),
            "verify_s": stats.verify.as_secs_f64(),
            "insert_s": stats.insert.as_secs_f64(),
            "draft_lengths": stats.draft_lengths.counts(),
            "accepted_lengths": stats.accepted_lengths.counts(),
        },
    });
    if let Some(trace) = &generation.logits_trace {
        object["logits_hash"] = trace.hash().into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_only_what_there_is_to_say() {
        let mut stats = GenerationStats {
            prompt_tokens: 5,
            prefill: Duration::from_secs(1),
            ..GenerationStats::default()
        };
        let line = |stats: &GenerationStats, finish_reason, temperature| {
            let generation = Generation {
                token_ids: Vec::new(),
                finish_reason,
                stats: stats.clone(),
                logits_trace: None,
                runners_up: Vec::new(),
            };
            summary(&generation, &SamplingParams { temperature, seed: 7, ..SamplingParams::greedy() })
        };
        assert_eq!(line(&stats, FinishReason::Cancelled, 0.0), "0 tokens; prompt 5 tokens; interrupted");
        stats.completion_tokens = 1;
        assert_eq!(line(&stats, FinishReason::Stop, 0.0), "1 token; prompt 5 tokens, 5.0 tokens/s");
        stats.completion_tokens = 7;
        stats.decode_tokens = 6;
        stats.decode = Duration::from_secs(2);
        for (drafted, accepted) in [(8, 2), (8, 1)] {
            stats.draft_lengths.add(drafted);
            stats.accepted_lengths.add(accepted);
        }
        assert_eq!(
            line(&stats, FinishReason::Length, 0.5),
            "7 tokens, 3.0 tokens/s, EDL 3.00, accepted 3 of 16 drafted; prompt 5 tokens, 5.0 tokens/s; \
             cut off at the most tokens allowed; seed 7"
        );
    }
}
