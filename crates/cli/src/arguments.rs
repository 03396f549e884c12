//! The flags that several commands share, each group under its own heading of the help.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, ValueEnum};
use lookahead_engine::{CostCurve, DraftPolicy, SamplingParams};
use lookahead_kernels::{Isa, Kernels, KvType, WeightType};
use lookahead_model::ReasoningFormat;
use lookahead_server::ReasoningMode;

use crate::catalogue::DEFAULT_MODEL;

/// Which model.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// The model: the path of a .gguf file or of a checkpoint folder, a name that `lookahead models` lists, or
    /// hf:OWNER/REPO[/FILE.gguf]; fetched on first use
    #[arg(short, long, value_name = "PATH|NAME", default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
}

/// How exact the model's numbers are.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct NumberArgs {
    /// Numbers that the KV cache holds: f16 takes half the memory of f32, q8_0 about a quarter; each has results of its
    /// own, exact and the same every time
    #[arg(long, value_name = "TYPE", default_value_t,
          value_parser = PossibleValuesParser::new(KvType::ALL.map(KvType::name)).try_map(|name| name.parse::<KvType>()))]
    pub(crate) kv_type: KvType,

    /// Round weights as they are loaded, where the files hold them in 16 bits or more: less memory, faster, less exact
    #[arg(long, value_name = "TYPE",
          value_parser = PossibleValuesParser::new(QUANTIZED.map(|(name, _)| name)).map(|name| weight_type(&name)))]
    pub(crate) quantize: Option<WeightType>,
}

/// How exact the model's numbers are, and what computes them.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct PrecisionArgs {
    #[command(flatten)]
    pub(crate) numbers: NumberArgs,

    /// What computes: cpu, gpu, or one of several GPUs by its number or a part of its name, as in gpu:1 or gpu:radeon; `devices` lists them
    #[arg(long, value_name = "DEVICE", default_value_t, value_parser = device)]
    pub(crate) device: DeviceChoice,

    /// Layers that the GPU computes, the last ones; the CPU computes those before. All of them, unless given, or if there are no more;
    /// `devices --model` says how many fit
    #[arg(long, value_name = "N", value_parser = gpu_layers)]
    pub(crate) gpu_layers: Option<NonZeroUsize>,
}

/// What computes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// The CPU.
    #[default]
    Cpu,
    /// A GPU: the first that can be used, or the one that is named.
    Gpu(Option<String>),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(None) => f.write_str("gpu"),
            Self::Gpu(Some(name)) => write!(f, "gpu:{name}"),
        }
    }
}

fn device(text: &str) -> Result<DeviceChoice, String> {
    let gpu = match text.split_once(':').unwrap_or((text, "")) {
        ("cpu", "") => return Ok(DeviceChoice::Cpu),
        ("gpu", "") if !text.ends_with(':') => None,
        ("gpu", name) if !name.is_empty() => Some(name.to_owned()),
        _ => return Err("there are cpu, gpu and gpu:NAME".to_owned()),
    };
    if cfg!(feature = "gpu") {
        Ok(DeviceChoice::Gpu(gpu))
    } else {
        Err("this program was built without GPUs: build it with --features gpu".to_owned())
    }
}

fn gpu_layers(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "it must be from 1 on; --device cpu computes all layers on the CPU".to_owned())
}

/// What weights can be rounded to.
const QUANTIZED: [(&str, WeightType); 5] = [
    ("bf16", WeightType::Bf16),
    ("f16", WeightType::F16),
    ("q8_0", WeightType::Q8_0),
    ("q4_k", WeightType::Q4K),
    ("q4_0", WeightType::Q4_0),
];

fn weight_type(name: &str) -> WeightType {
    let found = QUANTIZED.iter().find(|(known, _)| *known == name);
    found.map_or(WeightType::F32, |(_, weight_type)| *weight_type)
}

/// What it runs on.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ThreadArgs {
    /// Threads that compute; never changes the result
    #[arg(short, long, value_name = "N", default_value_t = available_threads(), value_parser = threads)]
    pub(crate) threads: NonZeroUsize,

    /// Instruction set that kernels use: the best that this CPU has, unless given; never changes the result. `calibrate`
    /// lists those that there are
    #[arg(long, value_name = "NAME", value_parser = isa)]
    pub(crate) isa: Option<Isa>,
}

impl ThreadArgs {
    /// The kernels that are meant.
    pub(crate) fn kernels(&self) -> Kernels {
        Kernels::with_isa(self.isa.unwrap_or_else(Isa::detect), self.threads.get())
    }
}

/// The most threads: far more than help, far fewer than a system may refuse to start.
const MAX_THREADS: usize = 1024;

/// Parses a number of threads.
pub(crate) fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let threads = text.parse().ok().filter(|threads: &NonZeroUsize| threads.get() <= MAX_THREADS);
    threads.ok_or_else(|| format!("it must be from 1 to {MAX_THREADS}"))
}

fn isa(name: &str) -> Result<Isa, String> {
    Isa::with_id(name).ok_or_else(|| {
        let names: Vec<&str> = Isa::available().into_iter().map(Isa::id).collect();
        format!("this CPU has {}", names.join(", "))
    })
}

/// The threads that this machine runs at once.
pub(crate) fn available_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// What a model is loaded with.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) threads: ThreadArgs,
    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,
}

/// What a model's answers are taken for.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Conversations")]
pub(crate) struct ReasoningArgs {
    /// Tell what the model thinks from what it answers: `auto` by the marks of its chat template, `off` for all of it as the
    /// answer, or by the marks of a format: deepseek (`<think>`; also qwen3, glm45, kimi_k2, minimax_m2, nemotron, hunyuan),
    /// mistral, gemma, seed, minimax, apriel, granite, granite3.3, hy3, kimi, command, apertus, exaone
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = reasoning_mode)]
    pub(crate) reasoning: ReasoningMode,
}

fn reasoning_mode(name: &str) -> Result<ReasoningMode, String> {
    match name {
        "auto" => Ok(ReasoningMode::Auto),
        "off" | "none" => Ok(ReasoningMode::Off),
        name => ReasoningFormat::named(name).map(ReasoningMode::Format).ok_or_else(|| {
            let names: Vec<&str> = ReasoningFormat::names().collect();
            format!("there are auto, off, {}", names.join(", "))
        }),
    }
}

/// How the next token is chosen.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Randomness: 0 always takes the likeliest token (greedy), 1 samples from the model's own distribution
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|t| t >= 0.0, "a number of at least 0"))]
    pub(crate) temperature: f32,

    /// Sample among the K likeliest tokens only; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top_k: usize,

    /// Sample among the likeliest tokens that together reach probability P; 1 for all
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true,
          value_parser = number(|p| p > 0.0 && p <= 1.0, "a number above 0 and up to 1"))]
    pub(crate) top_p: f32,

    /// Drop tokens less likely than P times the likeliest one; 0 for none
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|p| (0.0..=1.0).contains(&p), "a number from 0 to 1"))]
    pub(crate) min_p: f32,

    /// Divide the logits of tokens that have occurred by R; 1 for no penalty
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true,
          value_parser = number(|r| r > 0.0, "a number above 0"))]
    pub(crate) repetition_penalty: f32,

    /// Subtract A from the logits of tokens that have been generated
    #[arg(long, value_name = "A", default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|a| (-2.0..=2.0).contains(&a), "a number from -2 to 2"))]
    pub(crate) presence_penalty: f32,

    /// Subtract A from the logits of a token for each time it has been generated
    #[arg(long, value_name = "A", default_value_t = 0.0, allow_negative_numbers = true,
          value_parser = number(|a| (-2.0..=2.0).contains(&a), "a number from -2 to 2"))]
    pub(crate) frequency_penalty: f32,

    /// Seed of the random numbers: the same seed gives the same text, with and without lookahead [default: a
    /// new one]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

impl SamplingArgs {
    /// The engine's parameters; each call draws a new seed where the user gave none.
    pub(crate) fn params(&self) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed.unwrap_or_else(SamplingParams::new_seed),
            ..SamplingParams::greedy()
        }
    }
}

/// How much is drafted.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Lookahead")]
pub(crate) struct PolicyArgs {
    /// Nodes of the draft tree, at most [default: in each step, what pays]
    ///
    /// Without this and the next two flags, each draft is cut to what promises the most tokens per time, by the cost
    /// curve of the model (see `lookahead calibrate`). Any of them fixes the policy instead: up to 5 nodes, up to 16
    /// deep, none less likely than 0.2, with what the flags change of it.
    #[arg(long, value_name = "N")]
    pub(crate) draft_length: Option<NonZeroUsize>,

    /// Tokens of one branch of the draft tree, at most; fixes the policy
    #[arg(long, value_name = "N")]
    pub(crate) branch_length: Option<NonZeroUsize>,

    /// Draft no branch that is estimated to be less likely than P; fixes the policy
    #[arg(long, value_name = "P", allow_negative_numbers = true,
          value_parser = number(|p| (0.0..=1.0).contains(&p), "a number from 0 to 1"))]
    pub(crate) min_probability: Option<f32>,

    /// Shape of the draft tree
    #[arg(long, value_name = "SHAPE", value_enum, default_value_t)]
    pub(crate) draft_shape: DraftShape,

    /// Draft tokens that the model held likely but did not choose, where the same tokens stand before (greedy only): a few
    /// more tokens a pass, for a little more time a pass
    #[arg(long)]
    pub(crate) runners_up: bool,
}

/// What drafts are made from.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Lookahead")]
pub(crate) struct DraftArgs {
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    /// Learn drafts from texts or earlier answers first: JSON lines; may be given several times
    ///
    /// Each line is an object. What a model is likely to say is learned: the fields `text`, `output`, `answer` and
    /// `reference` (a text or a list of texts each), in `messages` what the assistant says, and what was thought first
    /// (`reasoning`, `reasoning_content`). Other fields are ignored, prompts among them. What `generate --json` prints can be used as it is.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) warmup: Vec<PathBuf>,

    /// Keep what drafts are made from in this file: used from the start if it exists, written as answers end
    ///
    /// It holds answers and what --warmup taught, of prompts a hash alone, and fits models with the same tokenizer. Beside it lies
    /// FILE.journal with what came since FILE was written; both belong together.
    #[arg(long, value_name = "FILE")]
    pub(crate) trie: Option<PathBuf>,

    /// Draft from this file too, and leave it as it is: made by `lookahead trie build`; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) corpus: Vec<PathBuf>,
}

impl PolicyArgs {
    /// Whether flags fix how much is drafted, whatever a forward pass costs.
    pub(crate) fn is_fixed(&self) -> bool {
        self.draft_length.is_some() || self.branch_length.is_some() || self.min_probability.is_some()
    }

    /// The engine's policy: fixed if flags fix it or the `cost` of forward passes is not known, otherwise adaptive.
    pub(crate) fn draft_policy(&self, cost: Option<Arc<CostCurve>>) -> DraftPolicy {
        let default = match cost {
            Some(cost) if !self.is_fixed() => DraftPolicy::adaptive(cost),
            _ => DraftPolicy::default(),
        };
        DraftPolicy {
            draft_length: self.draft_length.map_or(default.draft_length, NonZeroUsize::get),
            branch_length: self.branch_length.map_or(default.branch_length, NonZeroUsize::get),
            min_probability: self.min_probability.unwrap_or(default.min_probability),
            shape: self.draft_shape.into(),
            runners_up: self.runners_up,
            ..default
        }
    }
}

/// Shape of the draft tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DraftShape {
    /// Branches that share a beginning are merged
    #[default]
    Hierarchical,
    /// Branches side by side
    Parallel,
    /// The best branch alone
    Single,
}

impl From<DraftShape> for lookahead_engine::DraftShape {
    fn from(shape: DraftShape) -> Self {
        match shape {
            DraftShape::Hierarchical => Self::Hierarchical,
            DraftShape::Parallel => Self::Parallel,
            DraftShape::Single => Self::Single,
        }
    }
}

/// How tokens are decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Decoding {
    /// Draft, and verify several tokens in one pass
    #[default]
    Lookahead,
    /// One token a pass
    Plain,
}

/// A parser of finite numbers that `accept` accepts; `rule` tells the user which those are.
fn number(
    accept: fn(f32) -> bool,
    rule: &'static str,
) -> impl Fn(&str) -> Result<f32, String> + Clone + Send + Sync + 'static {
    move |text| match f32::from_str(text) {
        Ok(value) if value.is_finite() && accept(value) => Ok(value),
        _ => Err(format!("must be {rule}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use lookahead_engine::CostPoint;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        sampling: SamplingArgs,
        #[command(flatten)]
        draft: DraftArgs,
        #[command(flatten)]
        threads: ThreadArgs,
    }

    #[test]
    fn values_out_of_range_are_refused_with_flag_value_and_range() {
        for (flag, value, range) in [
            ("--threads", "0", "from 1 to 1024"),
            ("--threads", "10000", "from 1 to 1024"),
            ("--temperature", "-0.1", "at least 0"),
            ("--temperature", "nan", "at least 0"),
            ("--temperature", "inf", "at least 0"),
            ("--top-p", "0", "above 0 and up to 1"),
            ("--top-p", "1.5", "above 0 and up to 1"),
            ("--min-p", "-0.5", "from 0 to 1"),
            ("--repetition-penalty", "0", "above 0"),
            ("--presence-penalty", "-3", "from -2 to 2"),
            ("--frequency-penalty", "many", "from -2 to 2"),
            ("--top-k", "-1", "unexpected"),
            ("--draft-length", "0", "zero"),
            ("--min-probability", "1.5", "from 0 to 1"),
            ("--draft-shape", "round", "hierarchical, parallel, single"),
        ] {
            let error = Line::try_parse_from(["x", flag, value]).unwrap_err().to_string();
            assert!(error.contains(flag) || flag == "--top-k", "{error}");
            assert!(
                error.contains(value.trim_end_matches(|c: char| c == '1' && flag == "--top-k")),
                "{error}"
            );
            assert!(error.contains(range), "{error}");
        }
    }

    #[test]
    fn the_ends_of_the_ranges_are_accepted() {
        let line = Line::try_parse_from([
            "x",
            "--temperature",
            "0",
            "--top-p",
            "1",
            "--min-p",
            "0",
            "--presence-penalty",
            "-2",
            "--frequency-penalty",
            "2",
            "--top-k",
            "0",
            "--warmup",
            "a.jsonl",
            "--warmup",
            "b.jsonl",
        ])
        .unwrap();
        assert_eq!(line.sampling.top_p, 1.0);
        assert_eq!(line.sampling.presence_penalty, -2.0);
        assert_eq!(line.draft.warmup.len(), 2);
        assert_eq!(line.draft.policy.draft_shape, DraftShape::Hierarchical);
        assert_eq!(line.sampling.params().validate(), Ok(()));
    }

    #[test]
    fn flags_that_are_not_given_leave_the_engine_its_defaults() {
        let line = Line::try_parse_from(["x"]).unwrap();
        assert_eq!(line.draft.policy.draft_policy(None), DraftPolicy::default());
        let SamplingParams { seed, .. } = line.sampling.params();
        assert_eq!(SamplingParams { seed: 0, ..line.sampling.params() }, SamplingParams::greedy());
        assert!((0..20).any(|_| line.sampling.params().seed != seed), "seeds are new each time");
        let line =
            Line::try_parse_from(["x", "--seed", "7", "--draft-length", "5", "--draft-shape", "single"])
                .unwrap();
        assert_eq!(line.sampling.params().seed, 7);
        assert_eq!(line.draft.policy.draft_policy(None).draft_length, 5);
        assert_eq!(line.draft.policy.draft_policy(None).shape, lookahead_engine::DraftShape::Single);
    }

    #[test]
    fn drafts_adapt_to_the_cost_curve_until_a_flag_fixes_them() {
        let cost = Arc::new(CostCurve::new(vec![CostPoint { tokens: 1, ms: 1.0 }]).unwrap());
        let policy = |flags: &[&str]| {
            let line = Line::try_parse_from([&["x"], flags].concat()).unwrap();
            line.draft.policy.draft_policy((!line.draft.policy.is_fixed()).then(|| Arc::clone(&cost)))
        };
        assert_eq!(policy(&[]), DraftPolicy::adaptive(Arc::clone(&cost)));
        let single = policy(&["--draft-shape", "single"]);
        assert_eq!((single.shape, single.cost.is_some()), (lookahead_engine::DraftShape::Single, true));
        let fixed = DraftPolicy::default();
        let expected = DraftPolicy { draft_length: 9, ..fixed.clone() };
        assert_eq!(policy(&["--draft-length", "9"]), expected);
        let expected = DraftPolicy { branch_length: 9, ..fixed.clone() };
        assert_eq!(policy(&["--branch-length", "9"]), expected);
        let expected = DraftPolicy { min_probability: 0.5, ..fixed };
        assert_eq!(policy(&["--min-probability", "0.5"]), expected);
    }
}
