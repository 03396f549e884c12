//! `lookahead generate`, as a user runs it, on tiny models.

use crate::tiny;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;

use crate::tiny::{Tiny, exists, text};
use lookahead_fixtures::{Golden, Thoughts, TinyModel};
use serde_json::Value;

const PROMPT: &[&str] = &["--prompt", "The model writes one token after the other."];

/// Drafts of a fixed length: else the machine decides whether there are any.
const FIXED: &[&str] = &["--draft-length", "5"];

fn with<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [PROMPT, arguments].concat()
}

#[test]
fn lookahead_and_plain_decoding_agree_in_every_token_and_bit() {
    let greedy: &[&str] = &["--logits-hash"];
    let sampled: &[&str] =
        &["--logits-hash", "--temperature", "0.8", "--seed", "3", "--repetition-penalty", "1.1"];
    for architecture in ["llama", "qwen2", "gemma3"] {
        let tiny = Tiny::new(architecture);
        for sampling in [greedy, sampled] {
            let plain =
                tiny.generate(&with(&[sampling, &["--decoding", "plain", "--threads", "1"]].concat()));
            assert_eq!(plain["lookahead"]["draft_tokens"], 0);
            for drafting in [
                &["--threads", "1"][..],
                &["--threads", "2", "--draft-shape", "parallel"],
                &["--threads", "1", "--min-probability", "0.1"],
                &["--threads", "2", "--draft-length", "30", "--branch-length", "3"],
                &["--threads", "2", "--draft-length", "8", "--draft-shape", "parallel"],
                &["--threads", "1", "--draft-length", "8", "--draft-shape", "single"],
            ] {
                let lookahead = tiny.generate(&with(&[sampling, drafting].concat()));
                for field in ["token_ids", "text", "finish_reason", "logits_hash", "completion_tokens"] {
                    assert_eq!(lookahead[field], plain[field], "{architecture} {sampling:?} {drafting:?}");
                }
                // What pays is a matter of the machine, but a fixed policy drafts.
                let is_fixed =
                    drafting.contains(&"--draft-length") || drafting.contains(&"--min-probability");
                assert!(!is_fixed || lookahead["lookahead"]["draft_tokens"].as_u64().unwrap() > 0);
            }
        }
    }
}

#[test]
fn the_object_has_every_field() {
    let tiny = Tiny::new("llama");
    let object = tiny.generate(&with(&["--max-tokens", "9", "--logits-hash", "--threads", "1"]));
    assert_eq!(object["prompt_tokens"].as_u64().unwrap(), {
        let steps = object["lookahead"]["steps"].as_u64().unwrap();
        assert!((1..=8).contains(&steps), "one token comes with the prefill");
        let lengths = object["lookahead"]["accepted_lengths"].as_array().unwrap();
        assert_eq!(lengths.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), steps);
        tiny.generate(&with(&["--max-tokens", "1"]))["prompt_tokens"].as_u64().unwrap()
    });
    assert_eq!(object["completion_tokens"], 9);
    assert_eq!(object["token_ids"].as_array().unwrap().len(), 9);
    assert_eq!(object["finish_reason"], "length");
    assert_eq!(object["logits_hash"].as_str().unwrap().len(), 64);
    assert_eq!((&object["threads"], &object["decoding"]), (&1.into(), &"lookahead".into()));
    assert_eq!(object["seed"], Value::Null, "greedy decoding has none");
    for field in ["load_s", "prefill_s", "decode_s", "prefill_tokens_per_s", "decode_tokens_per_s"] {
        assert!(object["timings"][field].as_f64().unwrap() > 0.0, "{field}");
    }
    for field in ["edl", "draft_tokens", "accepted_tokens", "retrieve_s", "forward_s", "verify_s", "insert_s"]
    {
        assert!(object["lookahead"][field].is_number(), "{field}");
    }
    assert!(tiny.generate(&with(&[])).get("logits_hash").is_none());
}

#[test]
fn the_text_goes_to_stdout_and_one_line_to_stderr() {
    let tiny = Tiny::new("llama");
    let object = tiny.generate(&with(FIXED));
    let output = tiny.run("generate", &with(FIXED));
    let said = object["text"].as_str().unwrap();
    assert_eq!(
        text(&output.stdout),
        if said.ends_with('\n') { said.to_owned() } else { format!("{said}\n") }
    );
    let summary = text(&output.stderr);
    assert_eq!(summary.lines().count(), 1, "{summary}");
    for part in [&format!("{} tokens, ", object["completion_tokens"]), "tokens/s, EDL ", " drafted; prompt "]
    {
        assert!(summary.contains(part), "{summary}");
    }
}

#[test]
fn what_the_model_thinks_is_told_from_its_answer() {
    let tiny = Tiny::with(&TinyModel { thoughts: Thoughts::Tags, ..TinyModel::default() });
    let cut = tiny.generate(&with(&["--max-tokens", "9"]));
    assert!(
        cut["reasoning"].as_str().is_some_and(|thoughts| !thoughts.is_empty()),
        "the prompt opens it: {cut}"
    );
    assert_eq!(cut["text"], "");

    // That it ends is a matter of chance.
    let seeds: Vec<String> = (0..100).map(|seed: u32| seed.to_string()).collect();
    let sampled = |seed| with(&["--temperature", "4", "--max-tokens", "100", "--seed", seed]);
    let mut tried = seeds.iter().map(|seed| sampled(seed));
    let ends = |object: &Value| {
        object["text"].as_str().is_some_and(|said| !said.is_empty() && !said.contains("</think>"))
    };
    let sampled = tried.find(|sampled| ends(&tiny.generate(sampled))).expect("one of them ends it once");
    let object = tiny.generate(&sampled);
    let (thoughts, said) = (object["reasoning"].as_str().unwrap(), object["text"].as_str().unwrap());
    assert!(!thoughts.is_empty() && !format!("{thoughts}{said}").contains("</think>"), "{object}");
    let plain = tiny.generate(&[&sampled[..], &["--decoding", "plain"]].concat());
    for field in ["token_ids", "text", "reasoning"] {
        assert_eq!(plain[field], object[field], "{field}");
    }
    let output = tiny.run("generate", &sampled);
    assert_eq!(text(&output.stdout).trim_end_matches('\n'), said.trim_end_matches('\n'));
    let shown = text(&output.stderr);
    assert!(shown.starts_with(&format!("Thinking:\n{thoughts}\n\n")), "{shown}");

    for whole in [&["--reasoning", "off"][..], &["--reasoning", "mistral"]] {
        let whole = tiny.generate(&[&sampled, whole].concat());
        assert_eq!(whole["token_ids"], object["token_ids"]);
        let all = whole["text"].as_str().unwrap();
        assert!(whole["reasoning"].is_null() && all.contains(thoughts) && all.ends_with(said), "{whole}");
    }
    let raw = tiny.generate(&["--raw", "--prompt", "<|im_start|>assistant\n<think>\n", "--max-tokens", "9"]);
    assert!(raw["reasoning"].is_null() && raw["text"] != "", "{raw}");
}

#[test]
fn a_seed_that_was_drawn_is_told_and_repeats_the_answer() {
    let tiny = Tiny::new("llama");
    let first = tiny.generate(&with(&["--temperature", "1"]));
    let seed = first["seed"].as_u64().unwrap().to_string();
    let again = tiny.generate(&with(&["--temperature", "1", "--seed", &seed, "--decoding", "plain"]));
    assert_eq!(again["token_ids"], first["token_ids"]);
}

#[test]
fn a_stop_string_ends_the_answer_in_front_of_it() {
    let tiny = Tiny::new("llama");
    let whole = tiny.generate(PROMPT);
    let said = whole["text"].as_str().unwrap();
    let characters: Vec<(usize, char)> = said.char_indices().collect();
    let middle = characters[characters.len() / 2].0;
    let stop: String = said[middle..].chars().take(5).collect();
    let before = &said[..said.find(&stop).unwrap()];
    for decoding in ["lookahead", "plain"] {
        let stopped =
            tiny.generate(&with(&["--decoding", decoding, "--stop", "never said §", "--stop", &stop]));
        assert_eq!(stopped["text"], before);
        assert_eq!(stopped["finish_reason"], "stop");
        let ids = stopped["token_ids"].as_array().unwrap();
        assert!(ids.len() < whole["token_ids"].as_array().unwrap().len());
        assert!(
            whole["token_ids"].as_array().unwrap().starts_with(ids),
            "nothing behind the stop string counts"
        );
    }
}

#[test]
fn an_end_token_counts_but_gives_no_text() {
    let tiny = Tiny::new("llama");
    let ends = |seed: u32| {
        let seed = seed.to_string();
        let object = tiny.generate(&with(&["--temperature", "2", "--seed", &seed, "--max-tokens", "400"]));
        (object["finish_reason"] == "stop").then_some(object)
    };
    let object = (0..40).find_map(ends).expect("a random model ends some of its answers");
    let last = object["token_ids"].as_array().unwrap().last().unwrap().as_u64().unwrap();
    assert!([0, 2].contains(&last), "<|endoftext|> or <|im_end|>, not {last}");
    assert!(!object["text"].as_str().unwrap().contains("<|"));
}

#[test]
fn the_prompt_comes_from_the_flag_a_file_or_stdin() {
    let tiny = Tiny::new("llama");
    let file = tiny.file("prompt.txt", "Two lines,\nno more\r\n");
    let flag = tiny.generate(&["--prompt", "Two lines,\nno more"]);
    assert_eq!(tiny.generate(&["--prompt-file", &file])["token_ids"], flag["token_ids"]);
    let stdin = tiny.run_with("generate", &["--json", "-"], "Two lines,\nno more\n");
    let stdin: Value = serde_json::from_slice(&stdin.stdout).unwrap();
    assert_eq!(stdin["token_ids"], flag["token_ids"]);
    assert_ne!(tiny.generate(&["--prompt", "Two lines,\nno more\n"])["prompt_tokens"], flag["prompt_tokens"]);
    let raw = |arguments: &[&str]| tiny.generate(&[&["--raw"], arguments].concat())["prompt_tokens"].clone();
    assert_eq!(raw(&["--prompt-file", &file]), raw(&["--prompt", "Two lines,\nno more\r\n"]));
}

#[test]
fn a_prompt_that_cannot_be_used_is_a_clear_error() {
    let tiny = Tiny::new("llama");
    let latin = tiny.file("latin.txt", b"caf\xe9");
    for (arguments, parts) in [
        (&["--prompt", ""][..], &["the prompt is empty"][..]),
        (&["--prompt", " \n"], &["the prompt is empty"]),
        (&["-"], &["the prompt is empty (stdin)"]),
        (&["--prompt-file", "no/such.txt"], &["no/such.txt", "No such file"]),
        (&["--prompt-file", &latin], &[&latin, "not UTF-8", "byte 4"]),
        (&["--prompt", &"word ".repeat(600)], &["tokens", "context holds 512", "Shorten"]),
    ] {
        let error = tiny.fails("generate", arguments);
        for part in parts {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }
}

#[test]
fn a_missing_model_is_a_clear_error() {
    let tiny = Tiny::new("llama");
    fs::remove_file(tiny.path("tiny.gguf")).unwrap();
    let error = tiny.fails("generate", PROMPT);
    assert!(error.contains("there is no file") && error.contains("tiny.gguf"), "{error}");
}

#[test]
fn the_context_bounds_the_answer() {
    let tiny = Tiny::with(&TinyModel { context_length: 80, ..TinyModel::default() });
    let object = tiny.generate(&with(&["--max-tokens", "100000"]));
    assert_eq!(object["finish_reason"], "length");
    let count = |field: &str| object[field].as_u64().unwrap();
    assert_eq!(count("prompt_tokens") + count("completion_tokens"), 80);
}

#[test]
fn a_model_without_a_chat_template_continues_the_prompt_and_says_so() {
    let tiny = Tiny::of_file(&Golden::load("llama").gguf().unwrap());
    let output = tiny.run("generate", &["--prompt", "abc", "--max-tokens", "5", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("no chat template"));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let raw = tiny.generate(&["--raw", "--prompt", "abc", "--max-tokens", "5"]);
    assert_eq!(object["token_ids"], raw["token_ids"]);
    assert!(tiny.fails("generate", &["--prompt", "abc", "--system", "x"]).contains("no chat template"));
}

#[test]
fn a_trie_file_makes_the_second_run_faster_and_changes_nothing() {
    let tiny = Tiny::new("llama");
    let trie = tiny.path("drafts.trie");
    let trie = trie.to_str().unwrap();
    let arguments = with(&[FIXED, &["--trie", trie, "--logits-hash"]].concat());
    let first = tiny.generate(&arguments);
    let journal = || fs::metadata(format!("{trie}.journal")).unwrap().len();
    let saved = journal();
    let second = tiny.generate(&arguments);
    for field in ["token_ids", "text", "finish_reason", "logits_hash"] {
        assert_eq!(second[field], first[field], "{field}");
    }
    let steps = |object: &Value| object["lookahead"]["steps"].as_u64().unwrap();
    assert!(steps(&second) < steps(&first), "{} then {}", steps(&first), steps(&second));
    assert!(journal() > saved, "the second answer was learned as well");
    assert_eq!(tiny.hidden_files(), [""; 0]);
}

#[test]
fn a_trie_that_learned_nothing_is_not_written() {
    let tiny = Tiny::new("llama");
    let trie = tiny.path("drafts.trie");
    let arguments = ["--trie", trie.to_str().unwrap(), "--decoding", "plain"];
    tiny.generate(&with(&arguments));
    assert!(!trie.exists());
    tiny.generate(&with(&arguments[..2]));
    let written = fs::metadata(&trie).unwrap().modified().unwrap();
    tiny.generate(&with(&arguments));
    assert_eq!(fs::metadata(&trie).unwrap().modified().unwrap(), written);
}

#[test]
#[cfg(unix)]
fn a_trie_file_is_private_and_has_one_journal_by_whatever_name() {
    use std::os::unix::fs::PermissionsExt as _;
    let tiny = Tiny::new("llama");
    let (trie, link) = (tiny.path("drafts.trie"), tiny.path("link.trie"));
    tiny.generate(&with(&["--trie", trie.to_str().unwrap()]));
    let journal = tiny.path("drafts.trie.journal");
    for file in [&trie, &journal] {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "answers are private");
    }
    std::os::unix::fs::symlink(&trie, &link).unwrap();
    let before = fs::read(&journal).unwrap();
    tiny.generate(&with(&["--trie", link.to_str().unwrap()]));
    assert!(fs::read(&journal).unwrap().len() > before.len() && !tiny.path("link.trie.journal").exists());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_trie_file_that_cannot_be_used_is_refused_and_left_alone() {
    let (llama, gemma) = (Tiny::new("llama"), Tiny::new("gemma3"));
    let trie = llama.path("drafts.trie").to_str().unwrap().to_owned();
    llama.generate(&with(&["--trie", &trie]));
    let saved = fs::read(&trie).unwrap();
    let error = gemma.fails("generate", &with(&["--trie", &trie]));
    assert!(error.contains(&trie) && error.contains("another tokenizer"), "{error}");
    assert_eq!(fs::read(&trie).unwrap(), saved);

    let damaged = llama.file("damaged.trie", &saved[..saved.len() / 2]);
    assert!(llama.fails("generate", &with(&["--trie", &damaged])).contains("truncated"));
    let other = llama.file("other.trie", "{\"text\": \"no trie\"}");
    assert!(llama.fails("generate", &with(&["--trie", &other])).contains("not a file of drafts"));
    let error = llama.fails("generate", &with(&["--trie", "no/such/drafts.trie"]));
    assert!(error.contains("there is no directory no/such"), "{error}");
}

#[test]
fn warm_up_with_an_earlier_answer_makes_the_next_one_faster() {
    let tiny = Tiny::new("llama");
    let generate = |arguments: &[&str]| tiny.generate(&with(&[FIXED, arguments].concat()));
    let cold = generate(&["--logits-hash"]);
    let answers = tiny.file("answers.jsonl", format!("\n{cold}\n"));
    let warm = generate(&["--logits-hash", "--warmup", &answers]);
    assert_eq!(warm["logits_hash"], cold["logits_hash"]);
    let edl = |object: &Value| object["lookahead"]["edl"].as_f64().unwrap();
    assert!(edl(&warm) > edl(&cold), "EDL {} warm, {} cold", edl(&warm), edl(&cold));
    // What --warmup taught is kept, even if nothing else is.
    let trie = tiny.path("drafts.trie").to_str().unwrap().to_owned();
    generate(&["--decoding", "plain", "--warmup", &answers, "--trie", &trie]);
    assert_eq!(edl(&generate(&["--logits-hash", "--trie", &trie])), edl(&warm));
}

#[test]
fn a_warm_up_file_that_cannot_be_used_is_named_with_the_line() {
    let tiny = Tiny::new("llama");
    let broken = tiny.file("broken.jsonl", "{\"text\": \"a\"}\n\n{\"text\": 7}\n");
    let prompts = tiny.file("prompts.jsonl", "{\"prompt\": \"a\"}\n");
    for (file, part) in [
        (broken.as_str(), "broken.jsonl, line 3"),
        (&prompts, "nothing to learn in"),
        ("no/such.jsonl", "no/such.jsonl"),
    ] {
        let error = tiny.fails("generate", &with(&["--warmup", file]));
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_closed_stdout_ends_the_program_quietly_and_keeps_the_trie() {
    let tiny = Tiny::new("llama");
    let trie = tiny.path("drafts.trie").to_str().unwrap().to_owned();
    for json in [&[][..], &["--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let arguments = with(&[&["--trie", &trie], json].concat());
        let output = tiny.command("generate", &arguments).stdout(writer).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    }
    assert!(exists(&trie));
}

#[test]
#[cfg(unix)]
fn control_c_ends_the_answer_and_keeps_text_numbers_and_trie() {
    let tiny = Tiny::talkative();
    let trie = tiny.path("drafts.trie").to_str().unwrap().to_owned();
    let arguments = with(&["--max-tokens", "90000", "--trie", &trie]);
    let mut child = tiny.start("generate", &arguments);
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 20]).unwrap();
    tiny::control_c(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let summary = text(&output.stderr);
    assert!(summary.contains("interrupted") && summary.contains("tokens/s"), "{summary}");
    assert!(output.stdout.ends_with(b"\n"));
    assert!(exists(&trie));
    assert_eq!(tiny.hidden_files(), [""; 0]);

    let mut child = tiny.start("generate", &[&["--json", "-v"][..], &arguments].concat());
    // The first line of the log says that the model is loaded.
    let mut log = BufReader::new(child.stderr.take().unwrap());
    log.read_line(&mut String::new()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    tiny::control_c(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["finish_reason"], "cancelled");
}
