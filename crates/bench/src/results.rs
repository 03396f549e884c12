//! What a benchmark came to: the content of `results.json`, from which both reports are written.

use lookahead_engine::CostPoint;
use serde::{Deserialize, Serialize};

use crate::setting::Warmth;

/// The version of the format of `results.json`.
pub const VERSION: u32 = 1;

/// All numbers of a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The version of the format: [`VERSION`].
    pub version: u32,
    /// What was measured, and on what.
    pub subject: Subject,
    /// Milliseconds of a forward pass by its number of tokens, measured in the same process.
    pub curve: Vec<CostPoint>,
    /// Whether any token differed from plain decoding.
    pub lossless: Lossless,
    /// A task each, in the order of the suite.
    pub tasks: Vec<TaskResults>,
    /// Several prompts at once; a number of them each.
    pub batches: Vec<BatchResults>,
}

/// Several prompts at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchResults {
    /// Prompts that are decoded together.
    pub size: usize,
    /// Batches that were measured.
    pub batches: usize,
    /// Plain decoding: tokens of all prompts per second.
    pub plain: Measure,
    /// Lookahead, which knows nothing before, by each policy. The curve is that of one prompt, so what drafts are worth by it
    /// is not said here: [`LookaheadResults::speed_up_by_curve`] does not apply.
    pub lookahead: Vec<LookaheadResults>,
}

/// What was measured, and on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// The version of this program.
    pub program: String,
    /// The model's file, without its folder.
    pub model: String,
    /// The size of the model's file.
    pub model_bytes: u64,
    /// The name of the CPU.
    pub cpu: String,
    /// The GPU that computes, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// The instruction set that the kernels use.
    pub instruction_set: String,
    /// Threads that compute.
    pub threads: usize,
    /// What the KV cache holds.
    pub kv_type: String,
    /// The most new tokens of an answer.
    pub max_tokens: usize,
    /// How often each prompt was measured in each setting.
    pub repeats: usize,
    /// What it was measured against, such as `llama.cpp build 9000`; `None` if nothing.
    pub peer: Option<String>,
}

/// Whether any token differed from plain decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lossless {
    /// Answers that were compared with those of plain decoding.
    pub answers: usize,
    /// Tokens in them.
    pub tokens: usize,
    /// Answers that differed.
    pub differing: usize,
}

/// The numbers of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResults {
    /// Its name.
    pub task: String,
    /// Prompts that were measured.
    pub prompts: usize,
    /// Prompts whose answers taught.
    pub warm_up_prompts: usize,
    /// Plain decoding.
    pub plain: Measure,
    /// Lookahead, in each setting.
    pub lookahead: Vec<LookaheadResults>,
    /// Another program, in each of its modes; empty if there was none.
    pub peers: Vec<PeerResults>,
    /// Lookahead in each setting on those prompts that the other program decoded too.
    pub counterparts: Vec<Counterpart>,
}

/// Lookahead on the prompts of another program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counterpart {
    /// The name of the draft policy.
    pub policy: String,
    /// What it had learned before.
    pub warmth: Warmth,
    /// Speed and time.
    pub measure: Measure,
}

/// Lookahead in one setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookaheadResults {
    /// The name of the draft policy.
    pub policy: String,
    /// What it had learned before.
    pub warmth: Warmth,
    /// Speed and time.
    pub measure: Measure,
    /// How many times as fast as plain decoding of the same prompts it is: a ratio per repeat.
    pub speed_up: Spread,
    /// The median of the speed-ups of single prompts in single repeats.
    pub paired_speed_up: f64,
    /// What the drafts are worth if each pass takes what the cost curve says.
    pub speed_up_by_curve: f64,
    /// Tokens per decode step.
    pub edl: f64,
    /// Share of the decode time spent on drafting.
    pub retrieval_share: f64,
    /// Decode steps by drafted nodes: entry `n` counts steps with `n`.
    pub draft_lengths: Vec<u64>,
    /// Decode steps by accepted draft tokens.
    pub accepted_lengths: Vec<u64>,
    /// The prompts in the order in which they were served, with [`Warmth::Online`]; empty otherwise.
    pub online: Vec<OnlinePoint>,
}

/// Another program in one of its modes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerResults {
    /// The mode, such as `plain` or `ngram-simple`.
    pub mode: String,
    /// Prompts that it decoded.
    pub prompts: usize,
    /// Speed and time.
    pub measure: Measure,
    /// Answers with other tokens than those of its own plain mode.
    pub differing: usize,
}

/// Speed and time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// New tokens per second of decoding, the first of each answer not counted.
    pub tokens_per_s: Spread,
    /// Milliseconds to the first token, the median of all prompts.
    pub ttft_ms: f64,
}

/// The middle and the ends of the values of some repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the values are no greater.
    pub median: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
}

impl Spread {
    /// The spread of `values`; zeros if there are none.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        Self { median: median_of_sorted(&values), min, max }
    }
}

/// The middle of ascending `values`, or the mean of the two middle ones; 0 if there are none.
pub(crate) fn median_of_sorted(values: &[f64]) -> f64 {
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

/// A request as one of many served one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnlinePoint {
    /// Requests of the task that had been served before.
    pub served: usize,
    /// Its tokens per decode step, the median of the repeats.
    pub edl: f64,
    /// How many times as fast as plain decoding it was, the median of the repeats.
    pub speed_up: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_both_ends() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
