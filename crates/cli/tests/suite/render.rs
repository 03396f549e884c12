//! `lookahead render`, as a user runs it.

use crate::program::{Directory, Run};
use lookahead_fixtures::TinyModel;
use serde_json::json;

const TEMPLATE: &str = "{{ bos_token }}{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}\
    {% if m.role == 'system' and not loop.first %}{{ raise_exception('system comes first') }}{% endif %}\
    [{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}{{ mood }}";

fn directory() -> Directory {
    let directory = Directory::with_model(&TinyModel { layers: 1, ..TinyModel::default() });
    let messages = json!([
        {"role": "user", "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "<|im_end|>"}]},
    ]);
    directory.write("messages.json", messages.to_string());
    directory.write("tools.json", json!([{"type": "function", "function": {"name": "add"}}]).to_string());
    directory.write("template.jinja", TEMPLATE);
    directory
}

/// The program fails with exit code 2 if its arguments make no sense.
fn usage(run: &Run) -> &str {
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    &run.stderr
}

#[test]
fn the_prompt_of_a_model_is_shown_as_text_or_as_tokens() {
    let directory = directory();
    let text = directory.run("render model.gguf --messages messages.json").success();
    assert_eq!(text, "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n");
    let ids = directory.run("render model.gguf --messages messages.json --tokens").success();
    let controls = ids.split_whitespace().filter(|&id| id == "2").count();
    assert_eq!(controls, 1, "the user's name of a control token is text: {ids}");
    let tools = directory.run("render model.gguf --messages messages.json --tools tools.json").success();
    assert!(tools.starts_with("<|im_start|>system\n") && tools.contains("\"add\""), "{tools}");
    let ends = directory.run("render model.gguf --messages messages.json --no-generation-prompt").success();
    assert_eq!(text.strip_prefix(&ends), Some("<|im_start|>assistant\n"));
}

#[test]
fn a_template_of_its_own_is_used_as_it_stands() {
    let directory = directory();
    let run = |flags: &str| directory.run(&format!("render --template template.jinja {flags}"));
    assert_eq!(
        run("--bos <s> --messages messages.json --tools tools.json --variables {\"mood\":\"!\"}").success(),
        "<s>[{\"type\": \"function\", \"function\": {\"name\": \"add\"}}][user]\
         [{'type': 'text', 'text': 'Hi '}, {'type': 'text', 'text': '<|im_end|>'}][assistant]!"
    );
    let user = json!({"role": "user", "content": "x"});
    let cases = json!([
        {"messages": [user]},
        {"messages": [user], "variables": {"mood": "?"}, "add_generation_prompt": false},
        {"messages": [user, {"role": "system", "content": "s"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {},
    ]);
    directory.write("cases.json", cases.to_string());
    let answers = run("--cases cases.json").json();
    let prompts: Vec<_> =
        answers.as_array().unwrap().iter().map(|answer| answer["prompt"].as_str()).collect();
    assert_eq!(prompts, [Some("[user]x[assistant]"), Some("[user]x?"), None, None, None]);
    for (index, problem) in [(2, "system comes first"), (3, "image_url"), (4, "messages")] {
        let error = answers[index]["error"].as_str().unwrap();
        assert!(error.contains(problem), "{error}");
    }
    // A model is told by its own rules, case by case.
    let answers = directory.run("render model.gguf --cases cases.json").json();
    assert_eq!(answers[0], json!({"prompt": "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"}));
    assert_eq!(answers.as_array().map(Vec::len), Some(5));
}

#[test]
fn what_cannot_be_rendered_is_refused_by_name() {
    let directory = directory();
    directory.write("wrong.jinja", "{% if %}");
    directory.write("wrong.json", "{\"role\": \"user\"}");
    for (flags, problem) in [
        ("model.gguf --messages none.json", "cannot read none.json"),
        ("model.gguf --messages wrong.json", "wrong.json is not a JSON array of messages"),
        ("model.gguf --cases wrong.json", "wrong.json is not a JSON array of cases"),
        ("model.gguf --messages messages.json --tools wrong.json", "wrong.json is not a JSON array of tools"),
        ("model.gguf --messages messages.json --variables [1]", "--variables is no JSON object"),
        ("model.gguf --messages messages.json --variables {\"tools\":[]}", "`tools` is set by the request"),
        ("--template none.jinja --messages messages.json", "cannot read the chat template none.jinja"),
        ("--template wrong.jinja --messages messages.json", "wrong.jinja"),
    ] {
        let error = directory.run(&format!("render {flags}")).failure();
        assert!(error.contains(problem), "{flags}: {error}");
    }
    for flags in [
        "",
        "model.gguf",
        "--messages messages.json",
        "model.gguf --template template.jinja --messages messages.json",
        "model.gguf --messages messages.json --cases cases.json",
        "model.gguf --messages messages.json --bos x",
        "--template template.jinja --messages messages.json --tokens",
    ] {
        assert!(usage(&directory.run(&format!("render {flags}"))).contains("Usage:"), "{flags}");
    }
    let help = directory.run("render --help").success();
    assert!(help.contains("--cases <FILE.json>") && help.contains("Examples:"), "{help}");
}
