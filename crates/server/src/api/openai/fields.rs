//! Fields that chat and text completions share.

use std::collections::BTreeMap;
use std::fmt::Display;

use lookahead_engine::{DraftPolicy, SamplingError, SamplingParams, Sharing};
use lookahead_model::TokenId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::number::{count, integer, limit, seed};
use crate::drafts::NamespaceName;
use crate::error::ApiError;
use crate::generation::{AnswerRequest, Drafting, Input};
use crate::served::Served;

/// Stop strings of a request, at most, and their bytes: each answer has a copy.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 4 << 10;

/// Tokens of a request that end an answer, at most.
const MAX_STOP_TOKENS: usize = 64;

/// Tokens with a bias in a request, at most: each answer has a copy.
const MAX_BIASES: usize = 1 << 10;

/// Answers to one prompt, at most.
const MAX_CHOICES: usize = 64;

/// Nodes of a pinned draft, at most.
const MAX_DRAFT_LENGTH: usize = 64;

/// How tokens are chosen and how many answers there are.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::api) struct SamplingFields {
    /// Where these fields stand in a request of another wire: a path with a dot behind it.
    #[serde(skip)]
    pub(in crate::api) place: &'static str,
    /// Randomness: 0 always takes the likeliest token; the default, 1, samples from the model's own distribution.
    pub(in crate::api) temperature: Option<f32>,
    /// Only the likeliest tokens that together reach this probability.
    pub(in crate::api) top_p: Option<f32>,
    /// Only so many of the likeliest tokens; 0 (or -1) for all.
    #[serde(default, deserialize_with = "integer")]
    pub(in crate::api) top_k: Option<i64>,
    /// Only tokens at least this many times as likely as the likeliest one.
    pub(in crate::api) min_p: Option<f32>,
    /// Divides the logits of tokens that have occurred; 1 is none.
    pub(in crate::api) repetition_penalty: Option<f32>,
    /// llama.cpp's and Ollama's name of `repetition_penalty`.
    pub(in crate::api) repeat_penalty: Option<f32>,
    /// How many tokens back the penalties look; -1 for all, 64 if it is not given.
    #[serde(default, deserialize_with = "integer")]
    pub(in crate::api) repeat_last_n: Option<i64>,
    /// Taken off the logits of tokens that have occurred, -2 to 2.
    pub(in crate::api) presence_penalty: Option<f32>,
    /// Taken off the logits of tokens for each time they have occurred, -2 to 2.
    pub(in crate::api) frequency_penalty: Option<f32>,
    /// Added to the logits of tokens, by id: -100 to 100. An object, or as llama.cpp's clients give it, a list of pairs.
    pub(in crate::api) logit_bias: Option<Biases>,
    /// The same seed gives the same answer, with and without lookahead and whatever else is being served.
    #[serde(default, deserialize_with = "seed")]
    #[schema(value_type = Option<i64>)]
    pub(in crate::api) seed: Option<u64>,
    /// Where an answer ends: a text or several.
    pub(in crate::api) stop: Option<OneOrMany>,
    /// Tokens that end an answer besides the model's own, by id; vLLM's.
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::api) stop_token_ids: Vec<TokenId>,
    /// The fewest tokens of an answer, as vLLM's: before them no token ends it.
    #[serde(default, deserialize_with = "count")]
    pub(in crate::api) min_tokens: Option<usize>,
    /// The most tokens of a prompt, of which the last are left; as many as the context holds if it is -1. vLLM's.
    #[serde(default, deserialize_with = "limit")]
    pub(in crate::api) truncate_prompt_tokens: Option<usize>,
    /// Whether an answer goes on behind the tokens that end one, to its most tokens: for measuring, as vLLM's.
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::api) ignore_eos: bool,
    /// Answers to each prompt.
    #[serde(default, deserialize_with = "count")]
    pub(in crate::api) n: Option<usize>,
    /// Whether the answer comes in pieces, as server-sent events.
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::api) stream: bool,
    /// What a stream has besides.
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::api) stream_options: StreamOptions,
    /// The model; `/v1/models` lists it.
    pub(in crate::api) model: Option<String>,
    /// How lookahead is used; never changes the answer.
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::api) lookahead: LookaheadFields,
}

/// What a stream has besides.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::api) struct StreamOptions {
    /// Whether a last piece tells how many tokens were used.
    #[serde(default, deserialize_with = "or_default")]
    include_usage: bool,
    /// Ignored: pieces are not padded.
    #[allow(dead_code)]
    include_obfuscation: Option<bool>,
}

/// How lookahead is used for a request. Nothing of it changes the answer.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct LookaheadFields {
    /// Whether drafts are made: false decodes plainly, one token a pass.
    enabled: Option<bool>,
    /// A namespace within the caller's own: what is learned there is used there.
    namespace: Option<String>,
    /// How this request and its namespace use each other.
    #[serde(default, deserialize_with = "or_default")]
    share: Share,
    /// Pins the most nodes of a draft, instead of drafting what pays.
    #[serde(default, deserialize_with = "count")]
    draft_length: Option<usize>,
    /// Whether a stream tells where each token came from.
    #[serde(default, deserialize_with = "or_default")]
    trace: bool,
}

/// How a request and its namespace use each other.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Share {
    /// Drafts from what is shared, and shares its answer when it is finished.
    #[default]
    ReadWrite,
    /// Drafts from what is shared, and shares nothing.
    Read,
    /// Drafts from its own text alone, and shares nothing.
    Off,
}

/// How an answer is sent.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Delivery {
    /// In pieces, as server-sent events.
    pub(in crate::api) is_stream: bool,
    /// Whether a last piece tells how many tokens were used.
    pub(super) include_usage: bool,
    /// Whether pieces tell where each token came from.
    pub(super) trace: bool,
}

/// What is added to the logits of tokens.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected an object of token ids and numbers, or a list of pairs [id, number]")]
pub(in crate::api) enum Biases {
    /// By token.
    #[schema(value_type = Object)]
    Object(BTreeMap<String, f32>),
    /// Tokens, each with its bias.
    #[schema(value_type = Vec<Vec<f32>>)]
    Pairs(Vec<(TokenId, f32)>),
}

/// A text or several.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(in crate::api) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// `null` is what a field is without it.
pub(in crate::api) fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The value of a setting that has two names, and the name that it was sent by: it may be sent under both, if they say the same.
pub(in crate::api) fn either<'n, T: Copy + PartialEq + Display>(
    (name, value): (&'n str, Option<T>),
    (other_name, other): (&'n str, Option<T>),
) -> Result<Option<(&'n str, T)>, ApiError> {
    match (value, other) {
        (Some(value), Some(other)) if value != other => Err(ApiError::invalid(
            other_name,
            format!(
                "{name} is {value} and {other_name} is {other}; they are two names of one setting: send one of them"
            ),
        )),
        _ => {
            let named = |name, value: Option<T>| value.map(|value| (name, value));
            Ok(named(name, value).or(named(other_name, other)))
        }
    }
}

/// Texts that end an answer, of which `param` is the place.
pub(in crate::api) fn read_stop(param: &str, stop: Vec<String>) -> Result<Vec<String>, ApiError> {
    if stop.len() > MAX_STOPS {
        return Err(ApiError::invalid(
            param,
            format!("{param}: up to {MAX_STOPS} texts, not {}", stop.len()),
        ));
    }
    let bytes: usize = stop.iter().map(String::len).sum();
    if bytes > MAX_STOP_BYTES {
        let message = format!("{param}: up to {MAX_STOP_BYTES} bytes in all, not {bytes}");
        return Err(ApiError::invalid(param, message));
    }
    Ok(stop)
}

impl SamplingFields {
    /// What is to be answered to `input`, as far as these fields say.
    pub(in crate::api) fn request(
        &self,
        model: &Served,
        tenant: &str,
        input: Input,
    ) -> Result<AnswerRequest, ApiError> {
        Ok(AnswerRequest {
            names: input.usual_names(),
            input,
            choices: self.choices()?,
            max_tokens: None,
            sampling: self.params(model.tokenizer().vocabulary_size())?,
            stop: self.stop()?,
            stop_tokens: self.stop_tokens(model.vocabulary_size)?,
            ignore_eos: self.ignore_eos,
            min_tokens: self.min_tokens.unwrap_or(0),
            truncate_prompt: self.truncate_prompt()?,
            logprobs: None,
            prompt_logprobs: false,
            structure: None,
            thinking_budget: None,
            prediction: None,
            drafting: Drafting {
                policy: self.lookahead.policy(model.policy.as_ref())?,
                namespace: NamespaceName::new(
                    "lookahead.namespace",
                    tenant,
                    self.lookahead.namespace.as_deref(),
                )?,
            },
            kept_bytes: 0,
        })
    }

    /// The engine's parameters. The seed is new if none is given.
    fn params(&self, vocabulary_size: usize) -> Result<SamplingParams, ApiError> {
        let off = SamplingParams::greedy();
        let repetition_penalty =
            either(("repetition_penalty", self.repetition_penalty), ("repeat_penalty", self.repeat_penalty))?;
        let params = SamplingParams {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: usize::try_from(self.top_k.unwrap_or(0)).unwrap_or(0),
            top_p: self.top_p.unwrap_or(off.top_p),
            min_p: self.min_p.unwrap_or(off.min_p),
            repetition_penalty: repetition_penalty.map_or(off.repetition_penalty, |(_, penalty)| penalty),
            presence_penalty: self.presence_penalty.unwrap_or(off.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(off.frequency_penalty),
            penalty_window: self.repeat_last_n.map_or(off.penalty_window, |last| {
                usize::try_from(last).unwrap_or(usize::MAX) // -1
            }),
            logit_bias: self.logit_bias(vocabulary_size)?,
            seed: self.seed.unwrap_or_else(SamplingParams::new_seed),
        };
        params.validate().map_err(|SamplingError { field, value, allowed }| {
            let written = repetition_penalty.filter(|_| field == "repetition_penalty");
            let field = format!("{}{}", self.place, written.map_or(field, |(name, _)| name));
            let message = format!("{field} is {value}; it must be {allowed}");
            ApiError::invalid(field, message)
        })?;
        Ok(params)
    }

    fn logit_bias(&self, vocabulary_size: usize) -> Result<Vec<(TokenId, f32)>, ApiError> {
        let biases: Vec<(String, f32)> = match &self.logit_bias {
            None => Vec::new(),
            Some(Biases::Object(biases)) => {
                biases.iter().map(|(token, bias)| (token.clone(), *bias)).collect()
            }
            Some(Biases::Pairs(biases)) => biases.iter().map(|(id, bias)| (id.to_string(), *bias)).collect(),
        };
        if biases.len() > MAX_BIASES {
            let message = format!("logit_bias: up to {MAX_BIASES} tokens, not {}", biases.len());
            return Err(ApiError::invalid("logit_bias", message));
        }
        let biases = biases.into_iter().map(|(token, bias)| {
            match token.parse::<TokenId>().ok().filter(|&id| (id as usize) < vocabulary_size) {
                Some(id) => Ok((id, bias)),
                None => Err(ApiError::invalid(
                    "logit_bias",
                    format!("logit_bias: {token:?} is no token id; there are 0 to {}", vocabulary_size - 1),
                )),
            }
        });
        biases.collect()
    }

    fn stop(&self) -> Result<Vec<String>, ApiError> {
        let stop = self.stop.clone().map_or_else(Vec::new, OneOrMany::into_vec);
        read_stop(&format!("{}stop", self.place), stop)
    }

    /// Refuses what a wire with one answer has no place for: several, and where each token came from.
    pub(in crate::api) fn refuse_choices_and_traces(&self) -> Result<(), ApiError> {
        if self.choices()? > 1 {
            return Err(ApiError::unsupported("n", "n: this route gives one answer"));
        }
        if self.lookahead.trace {
            let message = "lookahead.trace is told in chats and completions only";
            return Err(ApiError::unsupported("lookahead.trace", message));
        }
        Ok(())
    }

    fn stop_tokens(&self, vocabulary_size: usize) -> Result<Vec<TokenId>, ApiError> {
        let tokens = &self.stop_token_ids;
        if tokens.len() > MAX_STOP_TOKENS {
            let message = format!("stop_token_ids: up to {MAX_STOP_TOKENS}, not {}", tokens.len());
            return Err(ApiError::invalid("stop_token_ids", message));
        }
        if let Some(unknown) = tokens.iter().find(|&&token| token as usize >= vocabulary_size) {
            let last = vocabulary_size - 1;
            let message = format!("stop_token_ids: {unknown} is no token id; there are 0 to {last}");
            return Err(ApiError::invalid("stop_token_ids", message));
        }
        Ok(tokens.clone())
    }

    fn truncate_prompt(&self) -> Result<Option<usize>, ApiError> {
        if self.truncate_prompt_tokens == Some(0) {
            let message =
                "truncate_prompt_tokens is 0; it must be at least 1, or -1 for what the context holds";
            return Err(ApiError::invalid("truncate_prompt_tokens", message));
        }
        Ok(self.truncate_prompt_tokens)
    }

    /// Answers to each prompt.
    pub(in crate::api) fn choices(&self) -> Result<usize, ApiError> {
        match self.n.unwrap_or(1) {
            n @ 1..=MAX_CHOICES => Ok(n),
            n => Err(ApiError::invalid("n", format!("n is {n}; it must be 1 to {MAX_CHOICES}"))),
        }
    }

    /// How the answer is sent.
    pub(in crate::api) fn delivery(&self) -> Delivery {
        Delivery {
            is_stream: self.stream,
            include_usage: self.stream_options.include_usage,
            trace: self.lookahead.trace,
        }
    }
}

impl LookaheadFields {
    /// How to draft, if at all; `usual` is what the server does where a request does not say.
    fn policy(&self, usual: Option<&DraftPolicy>) -> Result<Option<DraftPolicy>, ApiError> {
        let sharing = match self.share {
            Share::ReadWrite => Sharing::ReadWrite,
            Share::Read => Sharing::Read,
            Share::Off => Sharing::Off,
        };
        let policy = match (self.enabled, usual) {
            (Some(false), _) | (None, None) => return Ok(None),
            (_, Some(usual)) => usual.clone(),
            (Some(true), None) => DraftPolicy::default(),
        };
        match self.draft_length {
            None => Ok(Some(DraftPolicy { sharing, ..policy })),
            Some(draft_length @ 0..=MAX_DRAFT_LENGTH) => {
                Ok(Some(DraftPolicy { sharing, draft_length, cost: None, ..policy }))
            }
            Some(length) => Err(ApiError::invalid(
                "lookahead.draft_length",
                format!("lookahead.draft_length is {length}; it must be 0 to {MAX_DRAFT_LENGTH}"),
            )),
        }
    }
}
