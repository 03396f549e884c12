//! A conversation with a model: question, answer, and what was drafted.

mod conversation;
mod input;
mod slash;

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lookahead_engine::{Engine, EngineOptions, GenerationRequest, GenerationStats};
use lookahead_kernels::Kernels;
use lookahead_model::{DeviceModel, LanguageModel as _, TokenId};
use lookahead_server::ReasoningMode;

use self::conversation::Conversation;
use self::input::{Input, Source, read_message};
use self::slash::Slash;
use crate::answer::{Marks, answer, check_prompt_fits};
use crate::arguments::{Decoding, SamplingArgs};
use crate::drafts::Drafts;
use crate::interrupt::{self, After};
use crate::loaded_model::LoadedModel;
use crate::paint::Paint;
use crate::prompts::PromptContent;
use crate::{output, progress, report};

/// How a chat is to be.
pub(crate) struct Settings {
    /// What the model is told first.
    pub(crate) system: Option<String>,
    /// How tokens are chosen.
    pub(crate) sampling: SamplingArgs,
    /// How tokens are decoded at first.
    pub(crate) decoding: Decoding,
    /// What marks tell thoughts from answers.
    pub(crate) reasoning: ReasoningMode,
    /// Whether accepted drafts are coloured at first.
    pub(crate) show_drafts: bool,
    /// The most tokens of an answer.
    pub(crate) max_tokens: usize,
    /// Where the history of questions is kept.
    pub(crate) history: Option<PathBuf>,
}

/// A chat in progress.
pub(crate) struct Chat {
    loaded: LoadedModel,
    engine: Engine<DeviceModel>,
    end_tokens: Vec<TokenId>,
    drafts: Arc<Drafts>,
    settings: Settings,
    conversation: Conversation,
    paint: Paint,
    totals: Totals,
    /// Tokens in the context after the last answer.
    context_tokens: usize,
}

impl Chat {
    pub(crate) fn new(loaded: LoadedModel, drafts: Drafts, mut settings: Settings) -> Self {
        // The engine takes the model; prompts are still made with the rest. The weights are shared.
        let kernels = loaded.model.kernels();
        let model = loaded.model.with_kernels(Kernels::with_isa(kernels.isa(), kernels.threads()));
        Self {
            engine: Engine::new(model, EngineOptions::default()),
            end_tokens: loaded.tokenizer().end_of_generation().to_vec(),
            loaded,
            drafts: Arc::new(drafts),
            conversation: Conversation::new(settings.system.take()),
            settings,
            paint: Paint::detect(),
            totals: Totals::default(),
            context_tokens: 0,
        }
    }

    /// Talks until the user has had enough, then saves what was learned.
    pub(crate) fn run(mut self) -> anyhow::Result<ExitCode> {
        let drafts = Arc::clone(&self.drafts);
        let _interrupt = interrupt::on_interrupt(move || {
            if let Err(error) = drafts.save() {
                progress::note(&output::describe(&error));
            }
            After::End
        });
        let talked = self.talk();
        let saved = self.drafts.save();
        let code = talked?;
        saved?;
        Ok(code)
    }

    fn talk(&mut self) -> anyhow::Result<ExitCode> {
        let mut source = Source::open(self.settings.history.take())?;
        let person = source.is_keyboard();
        if person {
            let context_length = self.engine.model().context_length();
            self.paint.note(&format!(
                "{}, context {context_length} tokens. /help lists the commands, Ctrl-D ends the chat",
                self.loaded.file_name(),
            ));
        }
        if self.settings.show_drafts {
            self.paint.legend();
        }
        let mut interrupted = false;
        loop {
            let message = match read_message(&mut source)? {
                Input::Text(message) => message,
                Input::Interrupted if !interrupted => {
                    interrupted = true;
                    self.paint.note("Ctrl-C again ends the chat, and so do Ctrl-D and /quit");
                    continue;
                }
                Input::Interrupted | Input::End => return Ok(ExitCode::SUCCESS),
            };
            interrupted = false;
            if message.trim().is_empty() {
                continue;
            }
            source.remember(&message);
            // Blank lines set questions, answers and remarks apart.
            let space = || {
                if person {
                    progress::note("");
                }
            };
            space();
            let next = self.respond(message, person)?;
            space();
            if let ControlFlow::Break(code) = next {
                return Ok(code);
            }
        }
    }

    /// Obeys a command or answers a question; to break ends the chat.
    fn respond(&mut self, message: String, person: bool) -> anyhow::Result<ControlFlow<ExitCode>> {
        if let Some(command) = Slash::parse(&message) {
            return Ok(self.obey(command));
        }
        match self.ask(message) {
            // A person asks on; a script was told to stop.
            Ok(After::End) if !person => Ok(ControlFlow::Break(ExitCode::from(interrupt::EXIT_CODE))),
            Err(error) if person && !output::is_closed(&error) => {
                progress::note(output::describe(&error).trim_end());
                Ok(ControlFlow::Continue(()))
            }
            answered => answered.map(|_| ControlFlow::Continue(())),
        }
    }

    /// Answers a question. What was said stays in the conversation, even if Ctrl-C stopped the answer; that is the
    /// `End` that is returned.
    fn ask(&mut self, question: String) -> anyhow::Result<After> {
        let context_length = self.engine.model().context_length();
        // A long answer may be allowed, but the past is worth more than room that is hardly used.
        let reserved = self.settings.max_tokens.min(context_length / 4);
        let prompt = self.conversation.prompt(&question, context_length - reserved, |messages| {
            self.loaded.encode_prompt(&PromptContent::Messages(messages), None, false)
        })?;
        check_prompt_fits(prompt.tokens.len(), self.engine.model())?;
        if prompt.left_out > 0 {
            self.paint.note(&format!(
                "The conversation has outgrown the model's context of {context_length} tokens; forgot the oldest {}",
                if prompt.left_out == 1 { "turn".to_owned() } else { format!("{} turns", prompt.left_out) },
            ));
            self.conversation.forget_oldest(prompt.left_out);
        }

        let marks = Marks::of(&self.loaded.prompts, self.settings.reasoning, &prompt.tokens);
        let (cancel, interrupt) = interrupt::raise_on_interrupt();
        let request = GenerationRequest {
            prompt: prompt.tokens.into(),
            max_tokens: self.settings.max_tokens,
            sampling: self.settings.sampling.params(),
            end_tokens: self.end_tokens.clone(),
            trace_logits: false,
            runners_up: 0,
            logprobs: None,
            cancel: Some(Arc::clone(&cancel)),
        };
        let mut stdout = output::stdout();
        let mut brush = self.paint.brush(self.settings.show_drafts);
        let drafter = self.drafts.drafter(self.settings.decoding);
        let tokenizer = self.loaded.tokenizer();
        let answered = answer(&mut self.engine, tokenizer, request, drafter, &[], marks, |piece| {
            brush.write(&mut stdout, piece)
        });
        brush.finish(&mut stdout)?;
        let answer = answered?;
        if !answer.text.ends_with('\n') {
            writeln!(stdout)?;
        }
        stdout.flush()?;

        let stats = &answer.generation.stats;
        let ending = report::ending(answer.generation.finish_reason);
        self.paint.note(&format!("{}{ending}", report::speed(stats)));
        self.totals.add(stats);
        self.context_tokens = stats.prompt_tokens + stats.completion_tokens;
        if !answer.text.is_empty() || !answer.reasoning.is_empty() {
            self.conversation.add(question, answer.reasoning, answer.text);
        }
        // Ctrl-C may have come when there was nothing left to stop, and its handler may still be about to say so.
        drop(interrupt);
        interrupt::wait_for_handler();
        Ok(if cancel.load(Ordering::Relaxed) { After::End } else { After::GoOn })
    }

    fn obey(&mut self, command: Slash) -> ControlFlow<ExitCode> {
        let paint = self.paint;
        match command {
            Slash::Help => progress::note(slash::HELP),
            Slash::Clear => {
                self.conversation.clear();
                self.context_tokens = 0;
                paint.note("The conversation is forgotten");
            }
            Slash::System(text) => {
                paint.note(if text.is_some() {
                    "The system text is set"
                } else {
                    "The system text is removed"
                });
                self.conversation.set_system(text);
            }
            Slash::Decoding(decoding) => {
                self.settings.decoding = decoding;
                paint.note(match decoding {
                    Decoding::Lookahead => "Decoding with lookahead",
                    Decoding::Plain => "Decoding plainly, one token a pass: the same answers, only later",
                });
            }
            Slash::Drafts => {
                self.settings.show_drafts = !self.settings.show_drafts;
                if self.settings.show_drafts {
                    paint.legend();
                } else {
                    paint.note("Drafts are no longer shown");
                }
            }
            Slash::Stats => self.print_stats(),
            Slash::Quit => return ControlFlow::Break(ExitCode::SUCCESS),
            Slash::Unknown(line) => progress::note(&format!(
                "There is no command {line}; /help lists them. A space before the slash sends the line to the model"
            )),
        }
        ControlFlow::Continue(())
    }

    fn print_stats(&self) {
        let drafts = self.drafts.stats();
        progress::note(&format!(
            "{}\ncontext: {} of {} tokens\ndrafts: from {} tokens, {} of them learned now, {:.1} MB",
            self.totals.describe(),
            self.context_tokens,
            self.engine.model().context_length(),
            drafts.tokens,
            drafts.tokens_learned,
            drafts.bytes as f64 / 1e6,
        ));
    }
}

/// The numbers of all answers together.
#[derive(Debug, Default)]
struct Totals {
    answers: u64,
    tokens: usize,
    decode_tokens: usize,
    decode: Duration,
    steps: u64,
    draft_tokens: u64,
    accepted_tokens: u64,
}

impl Totals {
    fn add(&mut self, stats: &GenerationStats) {
        self.answers += 1;
        self.tokens += stats.completion_tokens;
        self.decode_tokens += stats.decode_tokens;
        self.decode += stats.decode;
        self.steps += stats.steps();
        self.draft_tokens += stats.draft_tokens();
        self.accepted_tokens += stats.accepted_tokens();
    }

    fn describe(&self) -> String {
        if self.steps == 0 {
            return format!("answers: {}", self.answers);
        }
        format!(
            "answers: {}, {} tokens, {:.1} tokens/s, EDL {:.2}, accepted {} of {} drafted",
            self.answers,
            self.tokens,
            self.decode_tokens as f64 / self.decode.as_secs_f64().max(f64::MIN_POSITIVE),
            self.decode_tokens as f64 / self.steps as f64,
            self.accepted_tokens,
            self.draft_tokens,
        )
    }
}
