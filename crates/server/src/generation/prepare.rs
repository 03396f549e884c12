//! From what is asked to jobs of the engine: what takes time before the first token, away from the engine's thread.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use lookahead_engine::{
    AnswerText, Constraint, DraftPolicy, Drafter, GenerationRequest, NoDraft, RequestText, SamplingParams,
    Sharing, Submission,
};
use lookahead_grammar::{CallCheck, Follower, GrammarError, ThinkFirst};
use lookahead_model::chat_template::ChatTemplateError;
use lookahead_model::tokenizer::EncodeOptions;
use lookahead_model::{ReasoningFormat, TokenId, ToolCallParser, ToolSignatures};
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

use super::answers::{Answers, Asked};
use super::dictated::Dictated;
use super::min_tokens::MinTokens;
use super::request::{AnswerRequest, Drafting, FieldNames, Input, Prompt, Rule, Structure, Tools};
use super::shared_constraint::SharedConstraint;
use crate::admission::{Resource, Ticket};
use crate::drafts::UsedNamespace;
use crate::error::{ApiError, grammar_error, of_template};
use crate::options::ServerOptions;
use crate::served::{Served, Thinking};
use crate::state::Awaited;
use crate::worker::{Job, JobTicket, Received};

/// A prompt that is ready to be answered. Its answers share it while they wait.
struct ReadyPrompt {
    tokens: Arc<[TokenId]>,
    /// The prompt and the prediction, indexed, where there are drafts.
    text: Option<Arc<RequestText>>,
    ticket: Arc<Ticket>,
}

impl AnswerRequest {
    /// How drafts are made. A prompt that is dictated as an answer comes as drafts, and is not shared as answers are.
    fn drafting_of_prompts(&self) -> Drafting {
        let policy = self.drafting.policy.clone();
        let policy = if self.prompt_logprobs {
            Some(DraftPolicy { sharing: Sharing::Off, ..policy.unwrap_or_default() })
        } else {
            policy
        };
        Drafting { policy, namespace: self.drafting.namespace.clone() }
    }
}

impl Served {
    /// Prepares a request and hands its answers to the engine. What `ticket` counts follows what is known of the request.
    ///
    /// # Errors
    /// If something of the request is wrong, or it needs more than there is room for.
    pub(crate) fn begin(
        &self,
        options: &ServerOptions,
        request: &AnswerRequest,
        mut ticket: Ticket,
        received: &Received,
        awaited: &Awaited,
    ) -> Result<Answers, ApiError> {
        let AnswerRequest { input, choices, structure, .. } = request;
        ticket.hold(Resource::Answers, input.prompts() * choices)?;
        let (constraint, check) = self.constraint(structure.as_ref(), input)?;
        awaited.check()?;
        let constraint = constraint.map(|follower| Arc::new(Mutex::new(follower)));
        let (parser, markers) = self.tool_parser(input);
        let prediction =
            request.prediction.as_ref().map(|text| self.prediction(options, text)).transpose()?;
        let most = options.max_prompt_tokens.min(self.context_length - 1);
        // Of a prompt that is cut, the whole is encoded: only its end is left.
        let mut tokens =
            self.encode(request, if request.truncate_prompt.is_some() { usize::MAX } else { most }, awaited)?;
        if let Some(left) = request.truncate_prompt {
            let most = most.min(left);
            for prompt in &mut tokens {
                prompt.drain(..prompt.len().saturating_sub(most));
            }
        }
        awaited.check()?;
        let max_tokens = self.max_tokens(options, &tokens, request)?;
        let parser = match (parser, tokens.as_slice()) {
            // An answer of another form has no messages.
            (Some(parser), [prompt]) if structure.is_none() || input.tools().is_some() => {
                Some(parser.behind(&self.prompts.end_of(prompt)))
            }
            (parser, _) => parser,
        };
        let reasoning = self.reasoning(input, &tokens, constraint.is_some());
        let drafting = &request.drafting_of_prompts();
        let ready = ready_prompts(tokens, prediction.as_deref(), request, &mut ticket)?;
        ticket.hold(Resource::BodyBytes, request.kept_bytes)?;
        let namespace = self.drafts.namespace(&drafting.namespace)?;

        let (sender, events) = unbounded_channel();
        let cancel = Arc::new(AtomicBool::new(false));
        let usual_ends = if request.ignore_eos { &[] } else { self.tokenizer().end_of_generation() };
        let ends = [usual_ends, &request.stop_tokens].concat();
        let mut markers = markers.to_vec();
        markers.extend(reasoning.iter().flat_map(|(format, _)| format.control_tokens()));
        let text = AnswerText::showing(self.tokenizer(), request.stop.iter().cloned(), &markers);
        let mut jobs = Vec::with_capacity(ready.len() * choices);
        for prompt in &ready {
            for choice in 0..*choices {
                // Each answer to a prompt has random numbers of its own.
                let seed = request.sampling.seed.wrapping_add(choice as u64);
                let constraint = constraint.as_ref().map(SharedConstraint::new);
                let constraint = constraint.map(|shared| Box::new(shared) as Box<dyn Constraint>);
                let constraint = self.think_first(request, reasoning, constraint)?;
                let constraint = self.constrained(constraint, request, &ends, &prompt.tokens);
                // What a prompt says before its end ends no answer, so the end is looked for where the answer is.
                let (given, dictated, end_tokens, own_ends) = if request.prompt_logprobs {
                    (Arc::from(&prompt.tokens[..1]), prompt.tokens.len() - 1, Vec::new(), ends.clone())
                } else {
                    (Arc::clone(&prompt.tokens), 0, ends.clone(), Vec::new())
                };
                let generation = GenerationRequest {
                    prompt: given,
                    max_tokens: max_tokens.saturating_add(dictated),
                    sampling: SamplingParams { seed, ..request.sampling.clone() },
                    end_tokens,
                    logprobs: request.logprobs,
                    cancel: Some(Arc::clone(&cancel)),
                    ..GenerationRequest::default()
                };
                jobs.push(Job {
                    submission: Submission {
                        request: generation,
                        drafter: drafter(drafting, &namespace, prompt.text.as_ref()),
                        constraint,
                        tenant: ticket.tenant().to_owned(),
                        scope: drafting.namespace.to_string(),
                    },
                    text: text.clone(),
                    dictated,
                    ends: own_ends,
                    choice: jobs.len(),
                    events: sender.clone(),
                    received: received.clone(),
                    ticket: JobTicket::new(ticket.split(Resource::Answers, 1), &prompt.ticket),
                });
            }
        }
        let prompts = ready.into_iter().map(|prompt| prompt.tokens).collect();
        drop(constraint); // the last answer that begins need not copy what nobody else holds
        let phase = self.worker.phase();
        awaited.check()?;
        self.worker.submit(jobs)?;
        let asked = Asked {
            prompts,
            choices: *choices,
            prediction_tokens: prediction.map_or(0, |tokens| tokens.len()),
            prompt_logprobs: request.prompt_logprobs,
            parser,
            reasoning,
            check,
            metrics: Arc::clone(&self.metrics),
        };
        Ok(Answers::new(events, phase, cancel, asked, received.at, options.request_timeout, ticket))
    }

    /// A constraint with what else limits an answer to `prompt` that `ends` may end.
    fn constrained(
        &self,
        mut constraint: Option<Box<dyn Constraint>>,
        request: &AnswerRequest,
        ends: &[TokenId],
        prompt: &Arc<[TokenId]>,
    ) -> Option<Box<dyn Constraint>> {
        let size = self.vocabulary_size;
        if request.min_tokens > 0 {
            constraint = Some(Box::new(MinTokens::new(constraint, request.min_tokens, ends, size)));
        }
        if request.prompt_logprobs {
            constraint = Some(Box::new(Dictated::new(Arc::clone(prompt), constraint, size)));
        }
        constraint
    }

    /// The tokens of each prompt. A prompt that is seen to have more than `most` is refused before it is encoded.
    fn encode(
        &self,
        request: &AnswerRequest,
        most: usize,
        awaited: &Awaited,
    ) -> Result<Vec<Vec<TokenId>>, ApiError> {
        let FieldNames { input: param, suffix, .. } = request.names;
        let vocabulary_size = self.tokenizer().vocabulary_size();
        let check_length = |texts: &[&str]| match self.tokenizer().fewest_tokens(texts.iter().copied()) {
            tokens if tokens > most => Err(self.too_long(param, tokens, most)),
            _ => Ok(()),
        };
        let encode = |prompt: &Prompt| match prompt {
            Prompt::Text(text) => {
                check_length(&[text])?;
                let tokens = self.prompts.encode_text(text);
                tokens.map_err(|error| ApiError::invalid(param, error.to_string()))
            }
            Prompt::Around { files, before, after } => {
                let files_texts = files.iter().flat_map(|(name, text)| [name.as_str(), text]);
                check_length(&files_texts.chain([before.as_str(), after]).collect::<Vec<_>>())?;
                let tokens = self.prompts.encode_gap(files, before, after);
                let tokens = tokens.map_err(|error| ApiError::invalid(param, error.to_string()))?;
                tokens.ok_or_else(|| {
                    let message = format!(
                        "{suffix} is not supported by this model: it was not trained to fill in the middle, so its \
                         vocabulary has no tokens for that"
                    );
                    ApiError::unsupported(suffix, message)
                })
            }
            Prompt::Tokens(tokens) => match tokens.iter().find(|&&token| token as usize >= vocabulary_size) {
                None => Ok(tokens.clone()),
                Some(unknown) => {
                    let last = vocabulary_size - 1;
                    let message = format!("{param}: {unknown} is no token id; there are 0 to {last}");
                    Err(ApiError::invalid(param, message))
                }
            },
        };
        match &request.input {
            Input::Conversation(chat, _) => match self.prompts.encode_chat_within(chat, most) {
                Err(ChatTemplateError::TooLong { tokens, most }) => Err(self.too_long(param, tokens, most)),
                encoded => encoded.map(|tokens| vec![tokens]).map_err(|error| of_template(&error, param)),
            },
            Input::Texts(prompts) => prompts
                .iter()
                .map(|prompt| {
                    awaited.check()?;
                    encode(prompt)
                })
                .collect(),
        }
    }

    /// How what the model thinks is told from its answer to a conversation, and whether the prompt has ended inside that.
    fn reasoning(
        &self,
        input: &Input,
        prompts: &[Vec<TokenId>],
        has_form: bool,
    ) -> Option<(ReasoningFormat, bool)> {
        let (Input::Conversation(chat, _), [prompt], Some(thinking)) = (input, prompts, &self.thinking)
        else {
            return None;
        };
        if has_form && thinking.tokens.is_none() {
            return None; // its form begins with its first token
        }
        let format = thinking.format;
        let is_open = match chat.messages.last() {
            Some(last) if chat.continue_final_message => format.is_open_in(&last.content),
            _ => self.prompts.opens_thinking(prompt, format),
        };
        Some((format, is_open))
    }

    /// `constraint`, so that it begins behind what the model thinks, and that ends with its budget.
    fn think_first(
        &self,
        request: &AnswerRequest,
        reasoning: Option<(ReasoningFormat, bool)>,
        constraint: Option<Box<dyn Constraint>>,
    ) -> Result<Option<Box<dyn Constraint>>, ApiError> {
        let budget = request.thinking_budget;
        if let (Some(Thinking { tokens: Some(tokens), .. }), Some((_, is_open))) = (&self.thinking, reasoning)
            && (budget.is_some() || constraint.is_some())
        {
            return Ok(Some(Box::new(ThinkFirst::new(tokens, is_open, budget, constraint))));
        }
        // What calls functions follows a grammar that knows of channels.
        let is_said =
            matches!(&request.input, Input::Conversation(chat, None) if !chat.continue_final_message);
        match (constraint, &request.structure) {
            (Some(constraint), Some(structure)) if is_said && self.prompts.tool_format().has_channels() => {
                let behind = self.grammars.in_final_channel(constraint);
                behind.map(Some).map_err(grammar_error(structure.param))
            }
            (constraint, _) => Ok(constraint),
        }
    }

    /// The tokens of a predicted output.
    fn prediction(&self, options: &ServerOptions, text: &str) -> Result<Vec<TokenId>, ApiError> {
        let (bytes, most_bytes) = (text.len(), options.max_prediction_bytes);
        if bytes > most_bytes {
            let message = format!(
                "prediction: {bytes} bytes; this server takes up to {most_bytes} (--max-prediction): predict the part \
                 of the answer that comes first"
            );
            return Err(ApiError::invalid("prediction", message));
        }
        let tokens = self.tokenizer().encode(text, EncodeOptions::default());
        let tokens = tokens.map_err(|error| ApiError::invalid("prediction", error.to_string()))?;
        let most = options.max_prediction_tokens.min(self.context_length);
        if tokens.len() > most {
            let message = format!(
                "prediction: {} tokens; this server takes up to {most} (--max-prediction-tokens, and what the context \
                 holds): predict the part of the answer that comes first",
                tokens.len()
            );
            return Err(ApiError::invalid("prediction", message));
        }
        Ok(tokens)
    }

    /// How many tokens an answer may have. Refuses prompts that do not fit.
    fn max_tokens(
        &self,
        options: &ServerOptions,
        prompts: &[Vec<TokenId>],
        request: &AnswerRequest,
    ) -> Result<usize, ApiError> {
        let FieldNames { input: param, max_tokens, .. } = request.names;
        let most = options.max_prompt_tokens.min(self.context_length - 1);
        for prompt in prompts {
            if prompt.is_empty() {
                return Err(ApiError::invalid(param, format!("{param}: the prompt has no tokens")));
            }
            if prompt.len() > most {
                return Err(self.too_long(param, prompt.len(), most));
            }
        }
        if request.max_tokens == Some(0) && !request.prompt_logprobs {
            return Err(ApiError::invalid(max_tokens, format!("{max_tokens} is 0; it must be at least 1")));
        }
        Ok(request.max_tokens.unwrap_or(usize::MAX).min(options.max_completion_tokens))
    }

    /// Why a prompt of so many tokens, or more, is refused.
    fn too_long(&self, param: &str, tokens: usize, most: usize) -> ApiError {
        // Anthropic's clients know these words, and shorten the conversation.
        let message = format!(
            "prompt is too long: {tokens} tokens > {most} maximum of this server; its context of {} tokens must hold the \
             answer, too",
            self.context_length
        );
        ApiError::context_length(param, message)
    }

    /// What finds calls in the answers, where there may be any, and the tokens that it must see.
    fn tool_parser(&self, input: &Input) -> (Option<ToolCallParser>, &'static [&'static str]) {
        let format = self.prompts.tool_format();
        let specs = match input {
            Input::Conversation(_, Some(tools)) => tools.specs.as_slice(),
            Input::Conversation(_, None) if format.has_channels() => &[],
            _ => return (None, &[]),
        };
        let tools = specs.iter().map(|spec| (spec.name.as_str(), spec.parameters.as_ref()));
        (Some(ToolCallParser::new(format, ToolSignatures::new(tools))), format.shown_tokens())
    }

    /// What limits the answers, if anything, and what checks calls in them where that does not hold all of their schemas.
    fn constraint(
        &self,
        structure: Option<&Structure>,
        input: &Input,
    ) -> Result<(Option<Follower>, CallCheck), ApiError> {
        let grammars = &self.grammars;
        match (structure, input.tools()) {
            (Some(Structure { param, rule, .. }), None) => {
                let follower = match rule {
                    Rule::AnyJsonObject => grammars.json_object(),
                    Rule::JsonSchema(schema) => grammars.json_schema(schema),
                    Rule::Regex(pattern) => grammars.regex(pattern),
                    Rule::Choice(texts) => grammars.choice(texts),
                    Rule::Gbnf(grammar) => grammars.gbnf(grammar),
                    Rule::Grammar(grammar) if is_gbnf(grammar) => grammars.gbnf(grammar),
                    Rule::Grammar(grammar) => grammars.lark(grammar),
                };
                Ok((Some(follower.map_err(grammar_error(param))?), CallCheck::default()))
            }
            (structure, Some(Tools { specs, choice })) => {
                let format = self.prompts.tool_format();
                // Where a call is asked for there is nothing else that could have a form.
                let structure = structure.filter(|_| choice.is_free());
                let answer = structure.map(json_beside_calls).transpose()?;
                let constraint = grammars.tools_or_json(specs, format, *choice, answer.as_ref());
                let constraint = constraint.map_err(|error| {
                    let is_of_answer = matches!(error, GrammarError::Schema(_));
                    let param =
                        structure.filter(|_| is_of_answer).map_or("tools", |structure| structure.param);
                    grammar_error(param)(error)
                })?;
                // What they say is the client's text, which is not for the log.
                let unenforced = constraint.warnings.len();
                if unenforced > 0 {
                    tracing::info!(
                        unenforced,
                        "parts of the schemas of tools cannot be enforced; calls are checked when they are complete"
                    );
                }
                Ok((Some(constraint.follower), constraint.check))
            }
            (None, None) => Ok((None, CallCheck::default())),
        }
    }
}

/// The schema of answers that may call functions instead.
fn json_beside_calls(Structure { field, rule, .. }: &Structure) -> Result<Value, ApiError> {
    match rule {
        Rule::AnyJsonObject => Ok(json!({ "type": "object" })),
        Rule::JsonSchema(schema) => Ok(schema.clone()),
        Rule::Regex(_) | Rule::Choice(_) | Rule::Gbnf(_) | Rule::Grammar(_) => {
            let message = format!(
                "{field}: beside tools that may be called, an answer can only be JSON; set tool_choice to \"none\", or leave \
                 one of them out"
            );
            Err(ApiError::unsupported(field, message))
        }
    }
}

/// Whether a grammar is in GBNF and not in Lark: a line defines a rule with `::=`.
fn is_gbnf(grammar: &str) -> bool {
    let defines = |line: &str| {
        let name = line.trim_start().split_once("::=").map(|(name, _)| name.trim_end());
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        name.is_some_and(|name| !name.is_empty() && name.chars().all(is_part))
    };
    grammar.lines().any(defines)
}

/// A drafter for an answer to an indexed prompt.
fn drafter(
    drafting: &Drafting,
    namespace: &UsedNamespace,
    text: Option<&Arc<RequestText>>,
) -> Box<dyn Drafter> {
    match (&drafting.policy, text) {
        (Some(policy), Some(text)) => namespace.drafter(policy.clone(), Arc::clone(text)),
        _ => Box::new(NoDraft),
    }
}

/// Indexes prompts and the prediction if there are drafts, once there is room for them.
fn ready_prompts(
    prompts: Vec<Vec<TokenId>>,
    prediction: Option<&[TokenId]>,
    request: &AnswerRequest,
    ticket: &mut Ticket,
) -> Result<Vec<ReadyPrompt>, ApiError> {
    let tokens_of = |prompt: &[TokenId]| prompt.len() + prediction.map_or(0, <[_]>::len);
    ticket.hold(Resource::QueuedTokens, prompts.iter().map(|prompt| tokens_of(prompt)).sum())?;
    let references = prediction.as_slice();
    let has_drafts = request.drafting.policy.is_some() || request.prompt_logprobs;
    let ready = prompts.into_iter().map(|prompt| ReadyPrompt {
        ticket: Arc::new(ticket.split(Resource::QueuedTokens, tokens_of(&prompt))),
        text: has_drafts.then(|| {
            let given = if request.prompt_logprobs { &prompt[..1] } else { &prompt };
            Arc::new(RequestText::new(given, references))
        }),
        tokens: prompt.into(),
    });
    Ok(ready.collect())
}
