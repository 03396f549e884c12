//! Templates of each kind that takes messages in one form and not in another. Expected texts are what Jinja2 renders
//! for the form that the template wants.

use serde_json::{Map, json};

use super::super::{ChatTemplate, Message};

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, "<bos>".to_owned(), "<eos>".to_owned()).unwrap()
}

fn messages(json: serde_json::Value) -> Vec<Message> {
    serde_json::from_value(json).unwrap()
}

fn render(template: &ChatTemplate, messages: &[Message]) -> String {
    template.render(messages, &[], &Map::new(), true).unwrap()
}

/// A source that begins each message with its role.
fn each(body: &str) -> String {
    format!("{{% for m in messages %}}[{{{{ m.role }}}}]{body}{{% endfor %}}")
}

const CALLS: &str =
    "{% for c in m.tool_calls %}{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}";

/// An assistant that only calls, in all the forms that a client may write.
fn tool_loops() -> Vec<Vec<Message>> {
    let object = json!({"a": "ü", "b": [1, true]});
    let mut loops = Vec::new();
    for arguments in [object.clone(), json!("{\"a\": \"ü\", \"b\": [1, true]}")] {
        for content in [Some(json!("")), Some(json!(null)), Some(json!([])), None] {
            let call = json!({"id": "abcdefghi", "type": "function",
                "function": {"name": "add", "arguments": arguments}});
            let mut assistant = json!({"role": "assistant", "tool_calls": [call]});
            if let Some(content) = content {
                assistant["content"] = content;
            }
            loops.push(messages(json!([
                {"role": "user", "content": "Hi"},
                assistant,
                {"role": "tool", "name": "add", "tool_call_id": "abcdefghi", "content": "3"},
            ])));
        }
    }
    loops
}

#[test]
fn calls_are_told_in_the_form_that_the_template_wants() {
    const OBJECT: &str = "[user]Hi[assistant]add({\"a\": \"ü\", \"b\": [1, true]})[tool]3";
    let text = "{{ m.content }}{% for c in m.tool_calls %}";
    let (name, end) = ("{{ c.function.name }}(", "){% endfor %}");
    for (kind, source, expected) in [
        (
            "searches the content",
            each(&format!(
                "{{% if '</think>' in m.content %}}{{{{ m.content.split('</think>')[1] }}}}{{% else %}}\
                 {{{{ m.content.strip() }}}}{{% endif %}}{CALLS}"
            )),
            OBJECT,
        ),
        ("joins the content to a text", each(&format!("{{{{ '' + m.content }}}}{CALLS}")), OBJECT),
        (
            "measures the content",
            each(&format!("{{% if m.content | length > 0 %}}{{{{ m.content }}}}{{% endif %}}{CALLS}")),
            OBJECT,
        ),
        ("prints the content, and would print None", each(&format!("{{{{ m.content }}}}{CALLS}")), OBJECT),
        (
            "shows calls only if the content is none",
            format!(
                "{{% for m in messages %}}{{% if m.content is none %}}[calls]{CALLS}{{% else %}}[{{{{ m.role }}}}]\
                 {{{{ m.content }}}}{{% endif %}}{{% endfor %}}"
            ),
            "[user]Hi[calls]add({\"a\": \"ü\", \"b\": [1, true]})[tool]3",
        ),
        (
            "refuses content beside calls",
            each(&format!(
                "{{% if m.tool_calls and m.content is defined %}}{{{{ raise_exception('no') }}}}{{% endif %}}\
                 {{{{ m.content }}}}{CALLS}"
            )),
            OBJECT,
        ),
        (
            "joins the arguments to a text",
            each(&format!(
                "{text}{{{{ c.function.name + '(' + c.function.arguments + ')' }}}}{{% endfor %}}"
            )),
            OBJECT,
        ),
        (
            "prints the arguments, and would print Python's",
            each(&format!(
                "{text}{{{{ c.function.name ~ '(' ~ c.function.arguments ~ ')' }}}}{{% endfor %}}"
            )),
            OBJECT,
        ),
        (
            "walks through the arguments",
            each(&format!(
                "{text}{name}{{% for k, v in c.function.arguments | items %}}{{{{ k }}}}={{{{ v | tojson }}}};{{% endfor %}}{end}"
            )),
            "[user]Hi[assistant]add(a=\"ü\";b=[1, true];)[tool]3",
        ),
        (
            "refuses arguments that are no text",
            each(&format!(
                "{text}{{% if c.function.arguments is not string %}}{{{{ raise_exception('no') }}}}{{% endif %}}\
                 {name}{{{{ c.function.arguments }}}}{end}"
            )),
            OBJECT,
        ),
    ] {
        let template = template(&source);
        for messages in tool_loops() {
            assert_eq!(render(&template, &messages), expected, "a template that {kind}: {messages:?}");
        }
    }
}

#[test]
fn parts_are_told_as_a_list_to_templates_that_read_lists() {
    let talk = messages(json!([
        {"role": "user", "content": "one"},
        {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "it's"}]},
    ]));
    let printed = "[user]one[user][{'type': 'text', 'text': 'two'}, {'type': 'text', 'text': \"it's\"}]";
    let walk = "{% for part in m.content if part.type == 'text' %}{{ part.text }};{% endfor %}";
    let either = format!("{{% if m.content is string %}}{{{{ m.content }}}}{{% else %}}{walk}{{% endif %}}");
    for (source, expected, as_written) in [
        (each("{{ m.content }}"), "[user]one[user]twoit's", printed),
        (
            each("{% if m.content is string %}{{ m.content }}{% endif %}"),
            "[user]one[user]twoit's",
            "[user]one[user]",
        ),
        (each(&either), "[user]one[user]two;it's;", "[user]one[user]two;it's;"),
        (each(walk), "[user]one;[user]two;it's;", "[user][user]two;it's;"),
    ] {
        let template = template(&source);
        assert_eq!(render(&template, &talk), expected, "{source}");
        let template = template.taking_content_as_written();
        assert_eq!(render(&template, &talk), as_written, "as transformers does it: {source}");
    }
}

#[test]
fn thoughts_are_told_in_the_field_that_the_template_reads() {
    for field in ["reasoning_content", "reasoning", "thinking"] {
        let source =
            each(&format!("{{% if m.{field} %}}<{{{{ m.{field} }}}}>{{% endif %}}{{{{ m.content }}}}"));
        let template = template(&source);
        for written in [
            json!([{"role": "assistant", "content": "x", "reasoning_content": "hm"}]),
            json!([{"role": "assistant", "content": "x", "reasoning": "hm"}]),
            json!([{"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "x"}]}]),
        ] {
            assert_eq!(render(&template, &messages(written)), "[assistant]<hm>x", "{field}");
        }
    }
}

#[test]
fn a_template_that_cannot_be_probed_renders_what_it_can() {
    for source in [
        "{{ raise_exception('no') if messages | length < 9 }}ok",
        "{% if messages[0].content != 'my own' %}{{ 1 / 0 }}{% endif %}ok",
        "{% if messages[0].content != 'my own' %}{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}\
         {% endfor %}{% endif %}ok",
    ] {
        let talk = vec![Message::new("user", "my own"); 9];
        assert_eq!(render(&template(source), &talk), "ok", "{source}");
    }
}

#[test]
fn a_template_says_which_variables_it_reads() {
    let source = "{% if enable_thinking is defined and not enable_thinking %}x{% endif %}{% set level = level or 1 %}\
        {% for own in messages %}{{ own.thing }}{% endfor %}";
    let template = template(source);
    assert_eq!(template.source(), source);
    for (name, reads) in [("enable_thinking", true), ("level", true), ("own", false), ("thing", false)] {
        assert_eq!(template.reads(name), reads, "{name}");
    }
}
