//! Records greedy answers to many prompts, the model loaded once. What the output file has is not recorded again.
//!
//! `cargo run --release -p lookahead-replay --example record -- MODEL.gguf OUT.jsonl MAX_TOKENS PROMPTS_PER_FILE
//! PROMPTS.jsonl…`
//!
//! A prompt file's name is the task of its streams. Prompts are lines with `prompt` or `messages`, as for `lookahead
//! bench`: where messages of the user follow each other, each is asked with the model's own answers before it. The files take
//! turns, so that a recording that was cut short has all tasks.

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use lookahead_engine::{DraftPolicy, Engine, EngineOptions, GenerationRequest, Namespace, NamespaceDrafter};
use lookahead_kernels::Kernels;
use lookahead_model::chat_template::{ChatTemplate, Message};
use lookahead_model::gguf::GgufFile;
use lookahead_model::tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};
use lookahead_model::{CpuModel, LanguageModel as _, TokenId};
use lookahead_replay::{RUNNERS_UP, Recorder, Stream};
use serde::Deserialize;

/// What the drafts of an answer may take.
const MAX_BYTES: usize = 64 << 20;

#[derive(Deserialize)]
struct PromptLine {
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    mode: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, out, max_tokens, prompts_per_file, files @ ..] = &arguments[..] else {
        bail!("usage: record MODEL.gguf OUT.jsonl MAX_TOKENS PROMPTS_PER_FILE PROMPTS.jsonl…");
    };
    let (max_tokens, prompts_per_file): (usize, usize) = (max_tokens.parse()?, prompts_per_file.parse()?);
    let out = Path::new(out);
    let mut recorder = Recorder::open(out)?;
    let recorded = if out.metadata()?.len() > 0 { Stream::read_file(out)? } else { Vec::new() };
    let mut answers: HashMap<(String, Vec<TokenId>), Vec<TokenId>> =
        recorded.into_iter().map(|stream| ((stream.task, stream.prompt_ids), stream.output_ids)).collect();

    let threads = std::thread::available_parallelism()?.get();
    let file = GgufFile::open(model)?;
    let tokenizer = Tokenizer::from_gguf(&file)?;
    let template = ChatTemplate::from_gguf(&file, &tokenizer)?;
    let mut engine = Engine::new(CpuModel::load(&file, Kernels::new(threads))?, EngineOptions::default());
    let mut tasks = Vec::new();
    for file in files.iter().map(PathBuf::from) {
        let task = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let lines: Vec<String> = text.lines().take(prompts_per_file).map(str::to_owned).collect();
        tasks.push((task, lines));
    }

    for index in 0..prompts_per_file {
        for (task, lines) in &tasks {
            let Some(line) = lines.get(index) else { continue };
            let place = || format!("{task}, line {}", index + 1);
            let (turns, is_raw) = turns(line).with_context(place)?;
            let template = template.as_ref().filter(|_| !is_raw);
            let mut messages = Vec::new();
            for turn in turns {
                messages.extend(turn);
                let prompt = encode(&messages, &tokenizer, template).with_context(place)?;
                if prompt.len() + max_tokens > engine.model().context_length() {
                    break;
                }
                let key = (task.clone(), prompt);
                if !answers.contains_key(&key) {
                    let request = GenerationRequest {
                        prompt: key.1.as_slice().into(),
                        max_tokens,
                        end_tokens: tokenizer.end_of_generation().to_vec(),
                        runners_up: RUNNERS_UP,
                        ..GenerationRequest::default()
                    };
                    // Drafts make the answer come sooner, and no other.
                    let namespace = Arc::new(Namespace::new(MAX_BYTES)?);
                    let drafter = Box::new(NamespaceDrafter::new(namespace, DraftPolicy::default()));
                    let generation = engine.generate(request, drafter, |_| ControlFlow::Continue(()))?;
                    recorder.add(&Stream {
                        task: task.clone(),
                        prompt_ids: key.1.clone(),
                        output_ids: generation.token_ids.clone(),
                        runners_up: generation.runners_up,
                    })?;
                    answers.insert(key.clone(), generation.token_ids);
                }
                let options = DecodeOptions { show_special: false, continuation: true };
                messages.push(Message::new("assistant", tokenizer.decode(&answers[&key], options)));
            }
        }
        eprintln!("{} of {prompts_per_file} prompts of each file", index + 1);
    }
    Ok(())
}

/// What is said in each turn of a line of a prompt file, and whether it is text for the model as it stands.
fn turns(line: &str) -> anyhow::Result<(Vec<Vec<Message>>, bool)> {
    let PromptLine { prompt, messages, mode } = serde_json::from_str(line)?;
    let messages = match (prompt, messages) {
        (Some(content), None) => vec![Message::new("user", content)],
        (None, Some(messages)) => messages,
        _ => bail!("one of `prompt` and `messages` is needed"),
    };
    let is_unanswered = |a: &Message, b: &Message| a.role == "user" && b.role == "user";
    let turns = messages.chunk_by(|a, b| !is_unanswered(a, b)).map(<[_]>::to_vec).collect();
    Ok((turns, mode.as_deref() == Some("completion")))
}

/// The tokens of a conversation, up to where the assistant's answer begins.
fn encode(
    messages: &[Message],
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
) -> anyhow::Result<Vec<TokenId>> {
    let text = match template {
        Some(template) => template.render(messages, &[], &serde_json::Map::new(), true)?,
        None => messages.iter().map(|message| &*message.content).collect::<Vec<_>>().join("\n\n"),
    };
    Ok(tokenizer.encode(&text, EncodeOptions { add_bos: true, parse_special: true })?)
}
