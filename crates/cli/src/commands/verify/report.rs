//! What was compared and what was found, for people and for programs.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::AddAssign;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::HumanCount;
use lookahead_engine::{FinishReason, SamplingParams};
use lookahead_model::TokenId;
use lookahead_model::tokenizer::{DecodeOptions, Tokenizer};
use serde_json::{Value, json};

use super::case::Case;
use super::comparison::{Comparison, Outcome};
use super::plan::{Candidate, Setting};
use crate::interrupt;

/// What is verified.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) model: PathBuf,
    pub(super) sampling: SamplingParams,
    /// Threads, chunks and instruction sets.
    pub(super) settings: String,
    /// Names of the prompts that were left out.
    pub(super) too_long: Vec<String>,
}

/// The state and result of a verification.
#[derive(Debug)]
pub(super) struct Report {
    subject: Subject,
    prompts: u64,
    prompt_tokens: u64,
    /// By candidate, in the order in which they came.
    tallies: Vec<(String, Tally)>,
    first: Option<Difference>,
    elapsed: Duration,
    interrupted: bool,
}

/// Sums over answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    answers: u64,
    tokens: u64,
    differing_tokens: u64,
    differing_logits_rows: u64,
    differing_finish_reasons: u64,
    decode_tokens: u64,
    steps: u64,
    draft_tokens: u64,
    accepted_tokens: u64,
    elapsed: Duration,
}

/// The first difference, told in detail.
#[derive(Clone, Debug)]
struct Difference {
    prompt: String,
    candidate: String,
    setting: Setting,
    comparison: Comparison,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.answers += other.answers;
        self.tokens += other.tokens;
        self.differing_tokens += other.differing_tokens;
        self.differing_logits_rows += other.differing_logits_rows;
        self.differing_finish_reasons += other.differing_finish_reasons;
        self.decode_tokens += other.decode_tokens;
        self.steps += other.steps;
        self.draft_tokens += other.draft_tokens;
        self.accepted_tokens += other.accepted_tokens;
        self.elapsed += other.elapsed;
    }
}

impl Tally {
    fn of(outcome: &Outcome, comparison: &Comparison) -> Self {
        Self {
            answers: 1,
            tokens: comparison.tokens as u64,
            differing_tokens: comparison.differing_tokens as u64,
            differing_logits_rows: comparison.differing_logits_rows as u64,
            differing_finish_reasons: u64::from(comparison.finish_reasons.is_some()),
            decode_tokens: outcome.stats.decode_tokens as u64,
            steps: outcome.stats.steps(),
            draft_tokens: outcome.stats.draft_tokens(),
            accepted_tokens: outcome.stats.accepted_tokens(),
            elapsed: Duration::ZERO,
        }
    }

    fn differs(&self) -> bool {
        self.differing_tokens + self.differing_logits_rows + self.differing_finish_reasons > 0
    }

    /// Effective decoding length; 0 without steps.
    fn edl(&self) -> f64 {
        if self.steps == 0 { 0.0 } else { self.decode_tokens as f64 / self.steps as f64 }
    }
}

impl Report {
    pub(super) fn new(subject: Subject) -> Self {
        Self {
            subject,
            prompts: 0,
            prompt_tokens: 0,
            tallies: Vec::new(),
            first: None,
            elapsed: Duration::ZERO,
            interrupted: false,
        }
    }

    /// Counts a prompt, decoded plainly.
    pub(super) fn count_reference(&mut self, plain: &Outcome) {
        self.prompts += 1;
        self.prompt_tokens += plain.stats.prompt_tokens as u64;
    }

    /// Counts the answers of a candidate's batch, which took `elapsed`, and compares them with the plain one.
    pub(super) fn count(
        &mut self,
        case: &Case,
        candidate: &Candidate,
        setting: &Setting,
        plain: &Outcome,
        outcomes: &[Outcome],
        elapsed: Duration,
    ) {
        let mut tally = Tally { elapsed, ..Tally::default() };
        for outcome in outcomes {
            let comparison = Comparison::of(plain, outcome);
            tally += Tally::of(outcome, &comparison);
            if !comparison.is_equal() && self.first.is_none() {
                self.first = Some(Difference {
                    prompt: case.id.clone(),
                    candidate: candidate.name.clone(),
                    setting: *setting,
                    comparison,
                });
            }
        }
        match self.tallies.iter_mut().find(|(name, _)| *name == candidate.name) {
            Some((_, sum)) => *sum += tally,
            None => self.tallies.push((candidate.name.clone(), tally)),
        }
    }

    /// Ends the counting.
    pub(super) fn finish(&mut self, elapsed: Duration, interrupted: bool) {
        self.elapsed = elapsed;
        self.interrupted = interrupted;
    }

    fn total(&self) -> Tally {
        self.tallies.iter().fold(Tally::default(), |mut total, (_, tally)| {
            total += *tally;
            total
        })
    }

    /// The exit code. Nothing compared is no proof.
    pub(super) fn verdict(&self) -> ExitCode {
        match (self.is_failure(), self.interrupted) {
            (true, _) => ExitCode::FAILURE,
            (false, true) => ExitCode::from(interrupt::EXIT_CODE),
            (false, false) => ExitCode::SUCCESS,
        }
    }

    fn is_failure(&self) -> bool {
        let total = self.total();
        total.differs() || (total.tokens == 0 && !self.interrupted)
    }

    pub(super) fn to_json(&self, tokenizer: Option<&Tokenizer>) -> Value {
        let total = self.total();
        let sampling = &self.subject.sampling;
        let policies: Vec<Value> = self
            .tallies
            .iter()
            .map(|(name, tally)| {
                json!({
                    "name": name,
                    "runs": tally.answers,
                    "tokens_compared": tally.tokens,
                    "differing_tokens": tally.differing_tokens,
                    "differing_logits_rows": tally.differing_logits_rows,
                    "differing_finish_reasons": tally.differing_finish_reasons,
                    "edl": tally.edl(),
                    "steps": tally.steps,
                    "draft_tokens": tally.draft_tokens,
                    "accepted_tokens": tally.accepted_tokens,
                    "elapsed_s": tally.elapsed.as_secs_f64(),
                })
            })
            .collect();
        let first_difference = self.first.as_ref().map(|difference| {
            let token = |id: Option<TokenId>| id.map(|id| json!({ "id": id, "text": text(tokenizer, id) }));
            let Comparison { first, finish_reasons, .. } = &difference.comparison;
            json!({
                "prompt": difference.prompt,
                "policy": difference.candidate,
                "threads": difference.setting.threads,
                "prefill_chunk": difference.setting.prefill_chunk,
                "isa": difference.setting.isa.name(),
                "position": first.map(|position| position.index),
                "plain_token": first.and_then(|position| token(position.plain)),
                "token": first.and_then(|position| token(position.found)),
                "logits_differ": first.map(|position| position.logits_differ),
                "finish_reasons": finish_reasons.map(|reasons| reasons.map(FinishReason::as_str)),
            })
        });
        json!({
            "model": self.subject.model.to_string_lossy(),
            "temperature": sampling.temperature,
            "seed": sampling.seed,
            "settings": self.subject.settings,
            "prompts": self.prompts,
            "prompt_tokens": self.prompt_tokens,
            "prompts_too_long": self.subject.too_long,
            "runs": total.answers,
            "tokens_compared": total.tokens,
            "differing_tokens": total.differing_tokens,
            "differing_logits_rows": total.differing_logits_rows,
            "differing_finish_reasons": total.differing_finish_reasons,
            "first_difference": first_difference,
            "policies": policies,
            "elapsed_s": self.elapsed.as_secs_f64(),
            "interrupted": self.interrupted,
            "identical": !self.is_failure(),
        })
    }

    pub(super) fn write(&self, out: &mut impl Write, tokenizer: Option<&Tokenizer>) -> io::Result<()> {
        let total = self.total();
        let sampling = &self.subject.sampling;
        writeln!(out, "model      {}", self.subject.model.display())?;
        match sampling.temperature {
            0.0 => writeln!(out, "sampling   greedy")?,
            temperature => writeln!(out, "sampling   temperature {temperature}, seed {}", sampling.seed)?,
        }
        writeln!(out, "settings   {}", self.subject.settings)?;
        writeln!(out, "prompts    {} ({} tokens)", self.prompts, HumanCount(self.prompt_tokens))?;
        if !self.subject.too_long.is_empty() {
            writeln!(out, "left out   too long for the model: {}", self.subject.too_long.join(", "))?;
        }
        writeln!(out, "runs       {} in {:.1} s", HumanCount(total.answers), self.elapsed.as_secs_f64())?;
        writeln!(out)?;
        self.write_policies(out)?;
        writeln!(out)?;
        writeln!(out, "compared   {} tokens and their logits", HumanCount(total.tokens))?;
        writeln!(
            out,
            "differing  tokens {}, logits rows {}, finish reasons {}",
            total.differing_tokens, total.differing_logits_rows, total.differing_finish_reasons
        )?;
        if let Some(difference) = &self.first {
            writeln!(out, "\n{}", difference.describe(tokenizer))?;
        }
        let verdict = match (total.differs(), total.tokens, self.interrupted) {
            (true, ..) => "NOT identical to plain decoding",
            (false, 0, _) => "Nothing was compared",
            (false, _, true) => {
                "Interrupted; so far every token and every bit of the logits is that of plain decoding"
            }
            (false, _, false) => "Every token and every bit of the logits is that of plain decoding",
        };
        writeln!(out, "\n{verdict}")
    }

    fn write_policies(&self, out: &mut impl Write) -> io::Result<()> {
        let width = self.tallies.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let [runs, differ, edl, drafted, accepted, seconds] =
            ["RUNS", "DIFFER", "EDL", "DRAFTED", "ACCEPTED", "SECONDS"];
        writeln!(
            out,
            "{:width$} {runs:>6} {differ:>6} {edl:>6} {drafted:>9} {accepted:>9} {seconds:>8}",
            "DRAFTS"
        )?;
        for (name, tally) in &self.tallies {
            let differing = tally.differing_tokens.max(tally.differing_logits_rows);
            writeln!(
                out,
                "{name:width$} {:>6} {:>6} {:>6.2} {:>9} {:>9} {:>8.1}",
                tally.answers,
                differing.max(tally.differing_finish_reasons),
                tally.edl(),
                tally.draft_tokens,
                tally.accepted_tokens,
                tally.elapsed.as_secs_f64()
            )?;
        }
        Ok(())
    }
}

impl Difference {
    fn describe(&self, tokenizer: Option<&Tokenizer>) -> String {
        let mut description =
            format!("First difference: prompt {}, {} ({})", self.prompt, self.candidate, self.setting);
        // Writing to a string cannot fail.
        if let Some(position) = self.comparison.first {
            let token = |id: Option<TokenId>| match id {
                Some(id) => {
                    text(tokenizer, id).map_or_else(|| id.to_string(), |text| format!("{id} {text:?}"))
                }
                None => "none".to_owned(),
            };
            let _ = write!(
                description,
                "\n  token {} of the answer: plain {}, found {}; logits {}",
                position.index,
                token(position.plain),
                token(position.found),
                if position.logits_differ { "differ" } else { "are the same" }
            );
        }
        if let Some([plain, found]) = self.comparison.finish_reasons {
            let _ = write!(description, "\n  the plain answer ended by {plain}, this one by {found}");
        }
        description
    }
}

fn text(tokenizer: Option<&Tokenizer>, id: TokenId) -> Option<String> {
    Some(tokenizer?.decode(&[id], DecodeOptions { show_special: true, continuation: true }))
}

#[cfg(test)]
mod tests {
    use lookahead_fixtures::{TinyModel, tiny_model};
    use lookahead_model::gguf::GgufFile;

    use super::super::comparison::tests::outcome;
    use super::super::plan::{self, Settings};
    use super::*;

    fn tokenizer() -> Tokenizer {
        let file = GgufFile::from_bytes("tiny.gguf", tiny_model(&TinyModel::default())).unwrap();
        Tokenizer::from_gguf(&file).unwrap()
    }

    /// The report on one prompt whose plain answer is 70 71 72, and one run with these tokens and logits.
    fn report(tokens: &[TokenId], logits: &[u64], finish: FinishReason, interrupted: bool) -> Report {
        let plain = outcome(&[70, 71, 72], &[1, 2, 3], FinishReason::Length);
        let mut report = Report::new(Subject {
            model: "m.gguf".into(),
            sampling: SamplingParams::greedy(),
            settings: String::new(),
            too_long: Vec::new(),
        });
        report.count_reference(&plain);
        let case = Case { id: "p/1".to_owned(), prompt: vec![1], max_tokens: 3, is_part: false };
        let found = outcome(tokens, logits, finish);
        let setting = Settings::new(vec![2]).reference();
        report.count(&case, &plan::plain().unwrap(), &setting, &plain, &[found], Duration::ZERO);
        report.finish(Duration::from_secs(1), interrupted);
        report
    }

    fn written(report: &Report) -> String {
        let mut text = Vec::new();
        report.write(&mut text, Some(&tokenizer())).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn equal_answers_pass() {
        let report = report(&[70, 71, 72], &[1, 2, 3], FinishReason::Length, false);
        assert_eq!(report.verdict(), ExitCode::SUCCESS);
        assert!(written(&report).contains("Every token and every bit"));
        let json = report.to_json(Some(&tokenizer()));
        assert_eq!((json["identical"].as_bool(), json["tokens_compared"].as_u64()), (Some(true), Some(3)));
        assert!(json["first_difference"].is_null());
    }

    #[test]
    fn a_differing_token_fails_and_is_told_in_detail() {
        let report = report(&[70, 75, 72], &[1, 2, 3], FinishReason::Length, false);
        assert_eq!(report.verdict(), ExitCode::FAILURE);
        let text = written(&report);
        for part in [
            "NOT identical",
            "tokens 1, logits rows 0",
            "prompt p/1",
            "threads 2, prefill chunk 256",
            "token 1 of the answer: plain 71 ",
            "found 75 ",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let json = report.to_json(Some(&tokenizer()));
        assert_eq!(json["first_difference"]["position"], 1);
        assert_eq!(json["first_difference"]["token"]["id"], 75);
        assert_eq!(json["identical"], false);
    }

    #[test]
    fn tokens_without_a_tokenizer_are_numbers() {
        let report = report(&[70, 75, 72], &[1, 2, 3], FinishReason::Length, false);
        let token = json!({ "id": 75, "text": null });
        assert_eq!(report.to_json(None)["first_difference"]["token"], token);
        let mut text = Vec::new();
        report.write(&mut text, None).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("plain 71, found 75; logits"), "{text}");
    }

    #[test]
    fn differing_bits_of_logits_or_another_finish_reason_fail_alone() {
        let logits = report(&[70, 71, 72], &[1, 9, 3], FinishReason::Length, false);
        assert_eq!(logits.verdict(), ExitCode::FAILURE);
        assert!(written(&logits).contains("logits differ"));
        let finish = report(&[70, 71, 72], &[1, 2, 3], FinishReason::Stop, false);
        assert_eq!(finish.verdict(), ExitCode::FAILURE);
        assert!(written(&finish).contains("ended by length, this one by stop"));
    }

    #[test]
    fn nothing_compared_is_no_proof() {
        let mut report = report(&[70, 71, 72], &[1, 2, 3], FinishReason::Length, false);
        report.tallies.clear();
        assert_eq!(report.verdict(), ExitCode::FAILURE);
        assert!(written(&report).contains("Nothing was compared"));
    }

    #[test]
    fn an_interrupted_verification_is_neither_success_nor_hides_a_failure() {
        let equal = report(&[70, 71, 72], &[1, 2, 3], FinishReason::Length, true);
        assert_eq!(equal.verdict(), ExitCode::from(130));
        let different = report(&[70, 71], &[1, 2], FinishReason::Length, true);
        assert_eq!(different.verdict(), ExitCode::FAILURE);
    }
}
