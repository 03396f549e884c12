//! `lookahead chat` through a pipe, on tiny models.

use crate::tiny;

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Output;

use crate::tiny::{Tiny, exists, text};
use lookahead_fixtures::{Golden, Thoughts, TinyModel};

/// Answers are cut off here, so that every one ends.
const SHORT: &[&str] = &["--max-tokens", "24"];

/// Drafts of a fixed length: else the machine decides whether there are any.
const FIXED: &[&str] = &["--draft-length", "5"];

fn chat(tiny: &Tiny, arguments: &[&str], typed: &str) -> Output {
    let output = tiny.run_with("chat", &[SHORT, arguments].concat(), typed);
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// What `generate` says to one question, on lines of its own.
fn answer(tiny: &Tiny, question: &str, arguments: &[&str]) -> String {
    let object = tiny.generate(&[SHORT, &["--prompt", question], arguments].concat());
    let said = object["text"].as_str().unwrap();
    if said.ends_with('\n') { said.to_owned() } else { format!("{said}\n") }
}

#[test]
fn each_line_of_a_pipe_is_a_question() {
    let tiny = Tiny::new("llama");
    let output = chat(&tiny, &[], "The first one\n\nThe second one\n");
    let said = text(&output.stdout);
    let first = answer(&tiny, "The first one", &[]);
    let second = said.strip_prefix(&first).expect("the first answer is that of `generate`");
    assert!(!second.is_empty());
    assert_ne!(second, answer(&tiny, "The second one", &[]), "the second question comes with the first turn");
    let remarks = text(&output.stderr);
    assert_eq!(remarks.lines().filter(|line| line.contains("24 tokens, ")).count(), 2, "{remarks}");
    assert!(!said.contains('\x1b') && !remarks.contains('\x1b'), "a pipe gets no colours");
}

#[test]
fn thoughts_go_to_stderr_and_come_with_the_next_question() {
    let tiny = Tiny::with(&TinyModel { thoughts: Thoughts::Tags, ..TinyModel::default() });
    let thoughts = |question: &str| {
        let object = tiny.generate(&[SHORT, &["--prompt", question]].concat());
        object["reasoning"].as_str().unwrap().to_owned()
    };
    let output = chat(&tiny, &[], "One\nTwo\n/stats\n");
    assert_eq!(text(&output.stdout).trim(), "", "both are cut off before they answer");
    let remarks = text(&output.stderr);
    let first = format!("Thinking:\n{}\n\n", thoughts("One"));
    let second = remarks.strip_prefix(&first).unwrap_or_else(|| panic!("{remarks} begins with {first}"));
    assert!(second.contains("\nThinking:\n"), "{second}");
    // The first turn is thoughts alone, so without them the second question would come with hardly more than itself.
    let context = |remarks: &str| -> usize {
        let line = remarks.lines().find_map(|line| line.strip_prefix("context: ")).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    let alone = text(&chat(&tiny, &[], "Two\n/stats\n").stderr);
    assert!(context(&remarks) >= context(&alone) + 24, "{remarks}");
}

#[test]
fn plain_decoding_gives_the_same_conversation() {
    let tiny = Tiny::new("qwen2");
    let sampled = [FIXED, &["--min-probability", "0", "--temperature", "0.9", "--seed", "5"]].concat();
    for sampling in [FIXED, &sampled] {
        let lookahead = chat(&tiny, sampling, "One\nTwo\nThree\n");
        let plain = chat(&tiny, &[sampling, &["--decoding", "plain"]].concat(), "One\nTwo\nThree\n");
        let switched = chat(&tiny, sampling, "One\n/plain\nTwo\n/lookahead\nThree\n");
        assert_eq!(text(&lookahead.stdout), text(&plain.stdout));
        assert_eq!(text(&lookahead.stdout), text(&switched.stdout));
        assert!(text(&lookahead.stderr).contains("drafted") && !text(&plain.stderr).contains("drafted"));
    }
}

#[test]
fn commands_do_what_they_say() {
    let tiny = Tiny::new("llama");
    let question = "The same question";
    let once = answer(&tiny, question, &[]);
    let said = |typed: &str| text(&chat(&tiny, &[], typed).stdout);
    assert_eq!(said(&format!("{question}\n/clear\n{question}\n")), format!("{once}{once}"));
    assert_ne!(said(&format!("{question}\n{question}\n")), format!("{once}{once}"));
    let system = answer(&tiny, question, &["--system", "Be brief."]);
    assert_ne!(system, once);
    assert_eq!(
        said(&format!("/system Be brief.\n{question}\n/clear\n/system\n{question}\n")),
        system + &once
    );
    assert_eq!(said(&format!("{question}\n/quit\n{question}\n")), once);
    assert_eq!(
        text(&chat(&tiny, &["--system", "Be brief."], question).stdout),
        answer(&tiny, question, &["--system", "Be brief."])
    );

    let remarks = text(&chat(&tiny, &[], "/help\n/clean\nOne\n/stats\n/drafts\n/drafts\n").stderr);
    for part in [
        "/system TEXT",
        "There is no command /clean",
        "answers: 1, 24 tokens",
        "of 512 tokens",
        "of them learned now",
        "Drafts are not shown",
        "Drafts are no longer shown",
    ] {
        assert!(remarks.contains(part), "{part} is not in {remarks}");
    }
}

#[test]
fn a_message_may_have_several_lines() {
    let tiny = Tiny::new("llama");
    let once = answer(&tiny, "one\ntwo", &[]);
    for typed in ["one\\\ntwo\n", "\"\"\"one\ntwo\"\"\"\n", "\"\"\"\none\ntwo\"\"\"\n"] {
        assert_eq!(text(&chat(&tiny, &[], typed).stdout), once, "{typed:?}");
    }
}

#[test]
fn a_conversation_that_outgrows_the_context_forgets_its_oldest_turns() {
    let tiny = Tiny::new("llama");
    let question = "A question that takes about a hundred tokens of the context. ".repeat(4);
    let output = chat(&tiny, &["--show-drafts"], &format!("{question}\n").repeat(9));
    let remarks = text(&output.stderr);
    assert!(
        remarks.contains("outgrown the model's context of 512 tokens; forgot the oldest turn"),
        "{remarks}"
    );
    assert_eq!(remarks.lines().filter(|line| line.contains("tokens/s")).count(), 9, "{remarks}");
}

#[test]
fn earlier_answers_draft_later_ones_and_the_next_chat() {
    let tiny = Tiny::new("llama");
    let trie = tiny.path("drafts.trie").to_str().unwrap().to_owned();
    let steps = |remarks: &[u8]| -> Vec<f64> {
        let edl = |line: &str| {
            line.split_once("EDL ").map(|(_, rest)| rest.split(',').next().unwrap().parse().unwrap())
        };
        text(remarks).lines().filter_map(edl).collect()
    };
    let arguments = [FIXED, &["--trie", &trie]].concat();
    let first = steps(&chat(&tiny, &arguments, "Again\n/clear\nAgain\n").stderr);
    assert!(first[1] > first[0], "EDL {first:?}");
    let next = steps(&chat(&tiny, &arguments, "Again\n").stderr);
    assert!(next[0] > first[0], "EDL {next:?} after {first:?}");
}

#[test]
fn a_question_that_is_too_long_is_a_clear_error() {
    let tiny = Tiny::new("llama");
    let output = tiny.run_with("chat", SHORT, "word ".repeat(600));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("context holds 512"), "{}", text(&output.stderr));
}

#[test]
fn a_model_without_a_chat_template_is_refused_with_a_hint() {
    let tiny = Tiny::of_file(&Golden::load("llama").gguf().unwrap());
    let error = tiny.fails("chat", &[]);
    assert!(error.contains("no chat template") && error.contains("lookahead generate --raw"), "{error}");
}

#[test]
fn a_chat_through_a_pipe_leaves_no_history() {
    let tiny = Tiny::new("llama");
    chat(&tiny, &[], "A secret\n");
    let kept = fs::read_dir(tiny.path("cache")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(kept.collect::<Vec<_>>(), ["calibration"], "what a forward pass costs, and nothing else");
}

#[test]
fn a_closed_stdout_ends_the_chat_quietly() {
    let tiny = Tiny::new("llama");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let questions = fs::File::open(tiny.file("questions.txt", "One\nTwo\n")).unwrap();
    let output = tiny.command("chat", SHORT).stdin(questions).stdout(writer).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
#[cfg(unix)]
fn control_c_in_a_pipe_ends_the_chat_and_saves_the_trie() {
    let tiny = Tiny::talkative();
    let trie = tiny.path("drafts.trie").to_str().unwrap().to_owned();
    // While it answers.
    let mut child = tiny.start("chat", &["--max-tokens", "90000", "--trie", &trie]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"The model writes one token after the other.\n").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 20]).unwrap();
    tiny::control_c(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stderr).contains("interrupted"), "{}", text(&output.stderr));
    assert!(exists(&trie));
    fs::remove_file(&trie).unwrap();
    // While it waits for the next question.
    let mut child = tiny.start("chat", &["--max-tokens", "10", "--trie", &trie]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"One\n").unwrap();
    let mut remarks = [0; 40];
    child.stderr.as_mut().unwrap().read_exact(&mut remarks).unwrap();
    tiny::control_c(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(exists(&trie), "{}", text(&output.stderr));
    assert_eq!(tiny.hidden_files(), [""; 0]);
    drop(stdin);
}
