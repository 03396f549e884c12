//! Records greedy answers to many prompts, the model loaded once. What the output file has is not recorded again.
//!
//! `cargo run --release -p lookahead-replay --example record -- MODEL.gguf OUT.jsonl MAX_TOKENS PROMPTS_PER_FILE
//! PROMPTS.jsonl…`
//!
//! A prompt file's name is the task of its streams. Prompts are lines with `prompt` or `messages`, as for `lookahead
//! verify`. The files take turns, so that a recording that was cut short has all tasks.

use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use lookahead_engine::{DraftPolicy, Engine, EngineOptions, GenerationRequest, Namespace, NamespaceDrafter};
use lookahead_kernels::Kernels;
use lookahead_model::chat_template::{ChatTemplate, Message};
use lookahead_model::gguf::GgufFile;
use lookahead_model::tokenizer::{EncodeOptions, Tokenizer};
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
    let mut seen: HashSet<(String, Vec<TokenId>)> =
        recorded.into_iter().map(|stream| (stream.task, stream.prompt_ids)).collect();

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
            let prompt = encode(line, &tokenizer, template.as_ref())
                .with_context(|| format!("{task}, line {}", index + 1))?;
            let is_too_long = prompt.len() + max_tokens > engine.model().context_length();
            if is_too_long || !seen.insert((task.clone(), prompt.clone())) {
                continue;
            }
            let request = GenerationRequest {
                prompt: prompt.as_slice().into(),
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
                prompt_ids: prompt,
                output_ids: generation.token_ids,
                runners_up: generation.runners_up,
            })?;
        }
        eprintln!("{} of {prompts_per_file} prompts of each file", index + 1);
    }
    Ok(())
}

/// The tokens of a line of a prompt file: of several user turns the first.
fn encode(
    line: &str,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
) -> anyhow::Result<Vec<TokenId>> {
    let PromptLine { prompt, messages, mode } = serde_json::from_str(line)?;
    let mut messages = match (prompt, messages) {
        (Some(content), None) => vec![Message::new("user", content)],
        (None, Some(messages)) => messages,
        _ => bail!("one of `prompt` and `messages` is needed"),
    };
    let first_user = messages.iter().position(|message| message.role == "user");
    messages.truncate(first_user.map_or(0, |at| at + 1));
    let text = match template {
        Some(template) if mode.as_deref() != Some("completion") => {
            template.render(&messages, &[], &serde_json::Map::new(), true)?
        }
        _ => messages.into_iter().map(|message| message.content).collect::<Vec<_>>().join("\n\n"),
    };
    Ok(tokenizer.encode(&text, EncodeOptions { add_bos: true, parse_special: true })?)
}
