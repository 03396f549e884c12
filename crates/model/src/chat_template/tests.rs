//! Chat templates. Expected prompts are what `transformers` renders with Python's Jinja2.

use serde_json::{Map, json};

use super::*;
use crate::gguf::{Strings, Writer};

/// As SmolLM2 and Qwen2 have it.
const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
    {{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}\
    {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// In the manner of Llama 3: trimmed contents, `set` in a loop, `bos_token`.
const LLAMA3: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}\
    {% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' \
    + message['content'] | trim + '<|eot_id|>' %}\
    {% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

/// In the manner of Gemma: the assistant is called `model`, a system message is refused, turns must
/// alternate.
const GEMMA: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
    {{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}\
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
    {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
    {% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}\
    {% set role = message['role'] %}{% endif %}\
    {{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}";

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, "<bos>".to_owned(), "<eos>".to_owned()).unwrap()
}

fn messages(messages: &[(&str, &str)]) -> Vec<Message> {
    messages.iter().map(|&(role, content)| Message::new(role, content)).collect()
}

#[test]
fn families_render_as_transformers_renders_them() {
    let talk = messages(&[("user", " Hi\n"), ("assistant", "Hello!"), ("user", "{{ 1 + 1 }} & <b>")]);
    for (source, expected) in [
        (
            CHATML,
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n\
             <|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\n{{ 1 + 1 }} & <b><|im_end|>\n\
             <|im_start|>assistant\n",
        ),
        (
            LLAMA3,
            "<bos><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant\
             <|end_header_id|>\n\nHello!<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\
             {{ 1 + 1 }} & <b><|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            GEMMA,
            "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n\
             <start_of_turn>user\n{{ 1 + 1 }} & <b><end_of_turn>\n<start_of_turn>model\n",
        ),
    ] {
        let template = template(source);
        assert_eq!(template.render(&talk, &[], &Map::new(), true).unwrap(), expected);
        let without = template.render(&talk, &[], &Map::new(), false).unwrap();
        assert!(expected.starts_with(&without) && without.len() < expected.len());
    }
}

#[test]
fn what_a_template_raises_is_the_error() {
    let gemma = template(GEMMA);
    for (refused, reason) in [
        (messages(&[("system", "s")]), "System role not supported"),
        (
            messages(&[("user", "a"), ("user", "b")]),
            "Conversation roles must alternate user/assistant/user/assistant/...",
        ),
    ] {
        let error = gemma.render(&refused, &[], &Map::new(), true).unwrap_err();
        assert!(matches!(&error, ChatTemplateError::Refused(message) if message == reason), "{error:?}");
        assert_eq!(error.to_string(), format!("the model's chat template refuses these messages: {reason}"));
    }
}

#[test]
fn blocks_are_trimmed_and_python_methods_work() {
    let one = messages(&[("user", "  Say </think>hi ")]);
    for (source, expected) in [
        (
            "{% for m in messages %}\n  {% if true %}\n[{{ m.role }}]\n  {% endif %}\n{% endfor %}\n",
            "[user]\n",
        ),
        ("{{ messages[0].content.strip().split('</think>')[-1].upper() }}", "HI"),
        ("{{ messages[0].content.startswith('  Say') and messages[0]['content'].endswith(' ') }}", "True"),
        (
            "{% set ns = namespace(n=0) %}{% for i in range(9) %}{% set ns.n = i %}\
             {% if i == 4 %}{% break %}{% endif %}\
          {% endfor %}{{ ns.n }}",
            "4",
        ),
        (
            "{{ messages[::-1][0].get('name', 'none') }} {{ {'a': [1, none]} | tojson }}",
            "none {\"a\": [1, null]}",
        ),
        (
            "{{ tools is none }} {{ tools is iterable }} {{ nothing is defined }} {{ eos_token }}",
            "True False False <eos>",
        ),
        ("a {%- generation -%} b {% endgeneration %} c", "ab  c"),
        ("{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice('ab') }}", "abab"),
    ] {
        assert_eq!(template(source).render(&one, &[], &Map::new(), false).unwrap(), expected, "{source}");
    }
}

#[test]
fn the_date_of_today_is_written_as_asked() {
    let date = template("{{ strftime_now('%d %b %Y') }}").render(&[], &[], &Map::new(), false).unwrap();
    let [day, month, year] = date.split(' ').collect::<Vec<_>>()[..] else { panic!("{date}") };
    assert!(day.len() == 2 && (1..=31).contains(&day.parse::<u32>().unwrap()), "{date}");
    assert!("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".contains(month), "{date}");
    assert!(year.parse::<u32>().unwrap() >= 2025, "{date}");
}

#[test]
fn a_hostile_template_is_stopped() {
    let nested = format!("{{% set a = [] %}}{}{{{{ a == a ~ 'x' }}}}", "{% with a = [a, a] %}".repeat(60));
    let nested = nested + &"{% endwith %}".repeat(60);
    let straight = format!("{{% set a = [] %}}{}{{{{ a == a ~ 'x' }}}}", "{% set a = [a, a] %}".repeat(64));
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 'x' * 100000000000 }}",
        "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{{ [1] * 100000000000 }}",
        "{{ '%999999999999d' | format(1) }}",
        "{{ 1 | tojson(indent=99999999999999999999) }}",
        "{% set ns = namespace(s=[]) %}{% for i in range(64) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson }}",
        "{{ 1 / 0 }}",
        "{% set ns = namespace(s=[]) %}{% for i in range(64) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=[]) %}{% for i in range(64) %}{% set ns.s = {'a': ns.s, 'b': ns.s} %}{% endfor %}{{ ns.s ~ 'x' }}",
        "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% endfor %}",
        "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{%- set ns.s = [ns.s] -%}{% endfor %}{{ ns.s == [ns.s] }}",
        "{% macro m(x, n) %}{% if n %}{{ m([x, x], n - 1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ m([], 60) }}",
        "{% macro m(x, n) %}{% if n %}{{ m([x, x], n - 1) }}{% else %}{{ x | tojson }}{% endif %}{% endmacro %}{{ m([], 60) }}",
        "{% macro m(x, n) %}{% if n %}{{ m([x, x], n - 1) }}{% else %}{{ x ~ 'x' }}{% endif %}{% endmacro %}{{ m([], 60) }}",
        "{% for x in [[]] recursive %}{% if loop.depth < 60 %}{{ loop([[x, x]]) }}{% else %}{{ x == [x ~ 'x'] }}{% endif %}{% endfor %}",
        &nested,
        &straight,
    ] {
        let error = template(source).render(&[], &[], &Map::new(), true).unwrap_err();
        assert!(matches!(error, ChatTemplateError::Render(_)), "{source}: {error}");
    }
}

#[test]
fn long_conversations_stay_within_the_bounds() {
    let talk: Vec<Message> = (0..1000)
        .map(|turn| Message::new(if turn % 2 == 0 { "user" } else { "assistant" }, "word ".repeat(1000)))
        .collect();
    for source in [CHATML, LLAMA3, GEMMA] {
        assert!(template(source).render(&talk, &[], &Map::new(), true).unwrap().len() > 4_999_000);
    }
}

fn file(chat_template: Option<&str>) -> (GgufFile, Tokenizer) {
    let mut writer = Writer::new("chat.gguf");
    writer
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "gpt-2")
        .metadata("tokenizer.ggml.tokens", ["a", "<s>", "</s>"].into_iter().collect::<Strings>())
        .metadata("tokenizer.ggml.merges", Strings::default())
        .metadata("tokenizer.ggml.bos_token_id", 1u32)
        .metadata("tokenizer.ggml.eos_token_id", 2u32);
    if let Some(source) = chat_template {
        writer.metadata("tokenizer.chat_template", source);
    }
    let file = GgufFile::from_bytes("chat.gguf", writer.to_bytes()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    (file, tokenizer)
}

#[test]
fn a_template_comes_from_the_file_with_the_names_of_its_tokens() {
    let (with, tokenizer) = file(Some("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"));
    let template = ChatTemplate::from_gguf(&with, &tokenizer).unwrap().unwrap();
    assert_eq!(template.render(&messages(&[("user", "hi")]), &[], &Map::new(), true).unwrap(), "<s>hi</s>");

    let (without, tokenizer) = file(None);
    assert!(ChatTemplate::from_gguf(&without, &tokenizer).unwrap().is_none());
}

#[test]
fn a_template_with_a_mistake_is_refused_by_file_field_and_line() {
    let (with, tokenizer) = file(Some("line one\n{% if %}"));
    let error = ChatTemplate::from_gguf(&with, &tokenizer).unwrap_err().to_string();
    assert!(error.starts_with("chat.gguf: tokenizer.chat_template: syntax error"), "{error}");
    assert!(error.contains("tokenizer.chat_template:2"), "{error}");

    for source in [
        "{{ ".to_owned() + &"(".repeat(100_000),
        "{% if a %}".repeat(100_000),
        "{% include 'b' %}".to_owned(),
    ] {
        let (with, tokenizer) = file(Some(&source));
        let error = ChatTemplate::from_gguf(&with, &tokenizer).unwrap_err();
        assert!(matches!(error, ChatTemplateError::Syntax { .. }), "{error}");
    }
}

#[test]
fn a_template_knows_tools_if_it_reads_them() {
    const LLAMA: &str = "{% if custom_tools is defined %}{% set tools = custom_tools %}{% endif %}\
        {% if not tools is defined %}{% set tools = none %}{% endif %}\
        {% if tools is not none %}Environment: ipython\n{{ tools | tojson }}\
        Respond in the format {\"name\": function name, \"parameters\": {}}{% endif %}";
    for (source, knows_tools, format) in [
        (CHATML, false, ToolFormat::Hermes),
        ("The tools are sharp. {{ messages[0].tools }} ipython", false, ToolFormat::Hermes),
        ("{% for tools in messages %}{{ tools }}{% endfor %}", false, ToolFormat::Hermes),
        ("{%- if tools %}<tool_call>{\"parameters\"}{% endif %}", true, ToolFormat::Hermes),
        ("{% set tools = tools or [] %}{{ tools | tojson }}", true, ToolFormat::Hermes),
        ("{% macro list() %}{{ tools }}{% endmacro %}[TOOL_CALLS]", true, ToolFormat::Mistral),
        (LLAMA, true, ToolFormat::Llama3Json),
    ] {
        let template = template(source);
        assert_eq!((template.knows_tools(), template.tool_format()), (knows_tools, format), "{source}");
    }
    let rendered = template(LLAMA).render(&[], &[json!({"a": 1})], &Map::new(), false).unwrap();
    assert!(rendered.starts_with("Environment: ipython\n[{\"a\": 1}]Respond"), "{rendered}");
}

#[test]
fn a_template_sees_only_the_fields_that_a_message_has() {
    let fields = template("{% for message in messages %}{{ message | tojson }}\n{% endfor %}");
    let call = json!({"function": {"name": "f", "arguments": {}}});
    let talk = [
        Message::new("user", ""),
        Message { name: Some("N".to_owned()), ..Message::new("user", "x") },
        Message { tool_calls: vec![call], ..Message::new("assistant", "") },
        Message { tool_call_id: Some("1".to_owned()), ..Message::new("tool", "x") },
    ];
    assert_eq!(
        fields.render(&talk, &[], &Map::new(), false).unwrap(),
        "{\"role\": \"user\", \"content\": \"\"}\n\
         {\"role\": \"user\", \"content\": \"x\", \"name\": \"N\"}\n\
         {\"role\": \"assistant\", \"content\": \"\", \
         \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {}}}]}\n\
         {\"role\": \"tool\", \"content\": \"x\", \"tool_call_id\": \"1\"}\n"
    );
}

#[test]
fn a_template_has_variables_of_its_own_and_none_of_the_others_can_be_set() {
    let thinks = template(
        "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}{{ level }}",
    );
    for (variables, expected) in [
        (json!({}), ""),
        (json!({"enable_thinking": true}), ""),
        (json!({"enable_thinking": false, "level": {"a": [1]}}), "<think></think>{'a': [1]}"),
    ] {
        let rendered = thinks.render(&[], &[], variables.as_object().unwrap(), true).unwrap();
        assert_eq!(rendered.replace('"', "'"), expected);
    }
    for name in ["messages", "tools", "bos_token", "add_generation_prompt"] {
        let error =
            thinks.render(&[], &[], &Map::from_iter([(name.to_owned(), json!(1))]), true).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}
