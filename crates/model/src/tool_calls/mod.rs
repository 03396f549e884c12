//! Calls of tools in the text that a model writes.

mod call;
mod hermes;
mod json_scanner;
mod llama;

pub use self::call::ToolDelta;
pub(crate) use self::call::{CALL_BEGIN, CALL_END};
use self::hermes::Hermes;
use self::llama::Llama;

/// How a model writes calls of tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolFormat {
    /// As Hermes and Qwen do, anywhere in the answer, several calls on lines of their own:
    ///
    /// ```text
    /// <tool_call>
    /// {"name": "f", "arguments": {…}}
    /// </tool_call>
    /// ```
    ///
    /// The tags may be control tokens, other tokens, or plain text.
    #[default]
    Hermes,
    /// `{"name": …, "parameters": {…}}` as the whole answer, as Llama 3 does; several with `;` between them.
    Llama3Json,
}

impl ToolFormat {
    /// The format that a chat template asks for.
    pub(crate) fn of_template(source: &str) -> Self {
        let names_llama =
            ["\"parameters\"", "ipython", "python_tag"].iter().any(|name| source.contains(name));
        if names_llama && !source.contains(CALL_BEGIN) { Self::Llama3Json } else { Self::Hermes }
    }
}

/// Finds calls of tools in an answer that arrives in pieces, in time linear in the answer.
///
/// Where the pieces are cut makes no difference. Text that may belong to a call is held back until that is decided;
/// what turns out to be no call is content. White space around calls is part of their markup, as chat templates write
/// it again when the conversation goes on.
#[derive(Clone, Debug)]
pub struct ToolCallParser(Parser);

#[derive(Clone, Debug)]
enum Parser {
    Hermes(Hermes),
    Llama(Llama),
}

impl ToolCallParser {
    /// A parser for an answer in `format`.
    pub fn new(format: ToolFormat) -> Self {
        Self(match format {
            ToolFormat::Hermes => Parser::Hermes(Hermes::default()),
            ToolFormat::Llama3Json => Parser::Llama(Llama::default()),
        })
    }

    /// Takes the next piece of the answer.
    pub fn push(&mut self, text: &str) -> Vec<ToolDelta> {
        let mut deltas = Vec::new();
        match &mut self.0 {
            Parser::Hermes(parser) => parser.push(text, &mut deltas),
            Parser::Llama(parser) => parser.push(text, &mut deltas),
        }
        deltas
    }

    /// What was still held back, once no more will come. A call that only lacks its end counts.
    pub fn finish(&mut self) -> Vec<ToolDelta> {
        let mut deltas = Vec::new();
        match &mut self.0 {
            Parser::Hermes(parser) => parser.finish(&mut deltas),
            Parser::Llama(parser) => parser.finish(&mut deltas),
        }
        deltas
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::llama::PYTHON_TAG;
    use super::*;

    const ADD: &str = r#"{"name": "add", "arguments": {"a": 1, "b": [2]}}"#;

    fn content(text: &str) -> ToolDelta {
        ToolDelta::Content(text.to_owned())
    }

    fn call(name: &str, arguments: &str) -> ToolDelta {
        ToolDelta::Call { name: name.to_owned(), arguments: arguments.to_owned() }
    }

    fn add() -> ToolDelta {
        call("add", r#"{"a":1,"b":[2]}"#)
    }

    /// What comes of `pieces`, neighbouring content together.
    fn parse<'t>(format: ToolFormat, pieces: impl IntoIterator<Item = &'t str>) -> Vec<ToolDelta> {
        let mut parser = ToolCallParser::new(format);
        let mut all: Vec<ToolDelta> = pieces.into_iter().flat_map(|piece| parser.push(piece)).collect();
        all.extend(parser.finish());
        assert_eq!(parser.finish(), [], "there is only one end");
        all.into_iter().fold(Vec::new(), |mut merged, delta| {
            match (merged.last_mut(), delta) {
                (Some(ToolDelta::Content(before)), ToolDelta::Content(text)) => before.push_str(&text),
                (_, delta) => merged.push(delta),
            }
            merged
        })
    }

    #[test]
    fn hermes_calls_stand_between_markers() {
        for (text, expected) in [
            ("", vec![]),
            ("Hi <b>!\n", vec![content("Hi <b>!\n")]),
            (&format!("<tool_call>\n{ADD}\n</tool_call>"), vec![add()]),
            (
                &format!("First.\n\n<tool_call>{ADD}</tool_call>\n<tool_call>\n{ADD}\n</tool_call>\n Done "),
                vec![content("First."), add(), add(), content("Done ")],
            ),
            (&format!("<tool_call>{ADD}"), vec![add()]),
            (&format!("<tool_call>{ADD}\n</tool_"), vec![add()]),
            ("<tool_call>{\"name\": \"now\"}</tool_call>", vec![call("now", "{}")]),
            ("<tool_call>{\"name\": \"f\", \"parameters\": {}}</tool_call>", vec![call("f", "{}")]),
            (
                r#"<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>"#,
                vec![call("f", r#"{"a":1}"#)],
            ),
            (
                r#"<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}} </tool_call>"#,
                vec![call("f", r#"{"a":"</tool_call>"}"#)],
            ),
        ] {
            assert_eq!(parse(ToolFormat::Hermes, [text]), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_call_is_content_and_hides_none_behind_it() {
        for text in [
            "The marker <tool_call> begins a call",
            " <tool_call> \n",
            "<tool_call>{\"name\": \"f\"",
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}</tool_call>",
            "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
            "<tool_call>{\"name\": 1, \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}}</tool_call>",
            "<tool_call>{\"name\": \"</tool_call>",
            "</tool_call>",
            "<tool_cal",
        ] {
            assert_eq!(parse(ToolFormat::Hermes, [text]), [content(text)]);
            let followed = format!("{text}\n<tool_call>{ADD}</tool_call>");
            assert_eq!(parse(ToolFormat::Hermes, [followed.as_str()]), [content(text.trim_end()), add()]);
        }
    }

    #[test]
    fn only_what_may_be_a_call_is_held_back() {
        let mut parser = ToolCallParser::new(ToolFormat::Hermes);
        for (piece, deltas) in [
            ("if a <", vec![content("if a")]),
            (" b", vec![content(" < b")]),
            ("\n<tool_", vec![]),
            ("box>", vec![content("\n<tool_box>")]),
            ("<tool_call>", vec![]),
            ("is", vec![content("<tool_call>is")]),
        ] {
            assert_eq!(parser.push(piece), deltas, "{piece}");
        }
    }

    /// Reading an answer again from its beginning for each piece would take hours here.
    #[test]
    fn long_answers_of_undecided_text_take_linear_time() {
        let markers = CALL_END.repeat(20_000);
        let spaces = " ".repeat(200_000);
        let nested = "<tool_call>{} <tool_call>x".repeat(10_000);
        let open_string = format!("<tool_call>{{\"a\": \"{nested}");
        for (text, calls) in [
            (
                format!(
                    "<tool_call>{{\"name\": \"f\", \"arguments\": {{\"a\": \"{markers}\"}}}}</tool_call>"
                ),
                1,
            ),
            (format!("<tool_call>{{\"name\": \"f\", \"arguments\": {{\"a\": \"{markers}"), 0),
            (format!("a{spaces}"), 0),
            (format!("<tool_call>{spaces}"), 0),
            (format!("{open_string}<tool_call>{ADD}</tool_call>"), 1),
            (nested, 0),
        ] {
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let deltas = parse(ToolFormat::Hermes, letters.iter().map(String::as_str));
            let is_call = |delta: &&ToolDelta| matches!(delta, ToolDelta::Call { .. });
            assert_eq!(deltas.iter().filter(is_call).count(), calls);
            assert_eq!(deltas, parse(ToolFormat::Hermes, [text.as_str()]));
        }
        let text = format!("{spaces}{PYTHON_TAG}{spaces}{ADD}");
        let letters: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(parse(ToolFormat::Llama3Json, letters.iter().map(String::as_str)), [add()]);
    }

    #[test]
    fn a_llama_call_is_the_whole_answer() {
        let parameters = ADD.replace("arguments", "parameters");
        for (text, expected) in [
            (&*parameters, vec![add()]),
            (ADD, vec![add()]),
            (&format!(" \n{parameters}\n"), vec![add()]),
            (&format!("{PYTHON_TAG}{parameters}; {parameters}"), vec![add(), add()]),
            (&format!("So: {parameters}"), vec![content(&format!("So: {parameters}"))]),
            (&format!("{parameters} it is"), vec![content(&format!("{parameters} it is"))]),
            ("{\"name\": \"Ada\"}", vec![content("{\"name\": \"Ada\"}")]),
            ("{\"name\"", vec![content("{\"name\"")]),
            ("<|python_tag|>print(1)", vec![content("<|python_tag|>print(1)")]),
            (" ", vec![content(" ")]),
            ("", vec![]),
        ] {
            assert_eq!(parse(ToolFormat::Llama3Json, [text]), expected, "{text}");
        }
        let mut parser = ToolCallParser::new(ToolFormat::Llama3Json);
        for (piece, deltas) in [("\n", vec![]), ("No", vec![content("\nNo")]), (" {", vec![content(" {")])] {
            assert_eq!(parser.push(piece), deltas, "{piece}");
        }
    }

    fn answers() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            CALL_BEGIN,
            CALL_BEGIN,
            CALL_END,
            CALL_END,
            PYTHON_TAG,
            ADD,
            r#"{"name": "f", "arguments": {"a": "</tool_call>"}}"#,
            r#"{"name": "f", "arguments": {"a": ""#,
            "<tool_",
            "\n",
            " ",
            "<",
            "{",
            "\"",
            "}",
            ";",
            "é",
        ]);
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn the_deltas_do_not_depend_on_where_the_text_was_cut(
            text in answers(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let chars: Vec<char> = text.chars().collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
            cuts.extend([0, chars.len()]);
            cuts.sort_unstable();
            let pieces: Vec<String> = cuts.windows(2).map(|w| chars[w[0]..w[1]].iter().collect()).collect();
            let letters: Vec<String> = chars.iter().map(char::to_string).collect();
            for format in [ToolFormat::Hermes, ToolFormat::Llama3Json] {
                let whole = parse(format, [text.as_str()]);
                prop_assert_eq!(&parse(format, pieces.iter().map(String::as_str)), &whole);
                prop_assert_eq!(&parse(format, letters.iter().map(String::as_str)), &whole);
                if !whole.iter().any(|delta| matches!(delta, ToolDelta::Call { .. })) {
                    prop_assert_eq!(whole, Vec::from_iter((!text.is_empty()).then(|| content(&text))));
                }
            }
        }
    }
}
