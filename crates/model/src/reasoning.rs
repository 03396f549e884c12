//! What a model thinks before it answers: told from the answer by the markers that its chat template uses.

/// How a model marks what it thinks.
///
/// The marks stand at the beginning of an answer; a chat template may have written the first one into the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasoningFormat {
    /// What people call it.
    pub name: &'static str,
    /// What thinking begins with.
    pub open: &'static str,
    /// What it ends with.
    pub close: &'static str,
    /// What the answer behind it stands between, if anything.
    pub answer: Option<(&'static str, &'static str)>,
}

/// Formats by name; of those whose marks a template has, the first is meant.
const FORMATS: [ReasoningFormat; 13] = [
    between("seed", "<seed:think>", "</seed:think>"),
    between("minimax", "<mm:think>", "</mm:think>"),
    between("apriel", "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    between("mistral", "[THINK]", "[/THINK]"),
    between("gemma", "<|channel>thought", "<channel|>"),
    between("command", "<|START_THINKING|>", "<|END_THINKING|>"),
    between("apertus", "<|inner_prefix|>", "<|inner_suffix|>"),
    between("kimi", "◁think▷", "◁/think▷"),
    between("exaone", "<thought>", "</thought>"),
    between("granite", "Here is my thought process:", "Here is my response:"),
    ReasoningFormat {
        answer: Some(("<response>", "</response>")),
        ..between("granite3.3", "<think>", "</think>")
    },
    between("hy3", "<think:opensource>", "</think:opensource>"),
    // Qwen, DeepSeek, GLM, MiniMax, Nemotron, Kimi K2, SmolLM, Hunyuan and others.
    between("deepseek", "<think>", "</think>"),
];

const fn between(name: &'static str, open: &'static str, close: &'static str) -> ReasoningFormat {
    ReasoningFormat { name, open, close, answer: None }
}

impl ReasoningFormat {
    /// The format of a name: one of [`names`](Self::names), or what other servers call it.
    pub fn named(name: &str) -> Option<Self> {
        let name = match name {
            "seed_oss" => "seed",
            "gemma4" => "gemma",
            "minimax_m3" => "minimax",
            "deepseek-r1" | "deepseek_r1" | "deepseek_v3" | "ernie45" | "glm45" | "hunyuan" | "kimi_k2"
            | "minimax_m2" | "nemotron" | "qwen3" => "deepseek",
            name => name,
        };
        FORMATS.into_iter().find(|format| format.name == name)
    }

    /// The names of all formats.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().map(|format| format.name)
    }

    /// The format whose marks a chat template has.
    pub fn of_template(source: &str) -> Option<Self> {
        // Hunyuan's templates put the ends of their marks in.
        let spelled = source.contains(":opensource").then(|| source.replace("{}", ":opensource"));
        let has = |text: &str| spelled.as_deref().unwrap_or(source).contains(text);
        let answers =
            |format: &Self| format.answer.is_none_or(|(open, close)| has(&format!("{open}{close}")));
        FORMATS.into_iter().find(|format| (has(format.open) || has(format.close)) && answers(format))
    }

    /// The control tokens that its marks may be made of: the text of an answer must show them.
    pub fn control_tokens(&self) -> impl Iterator<Item = &'static str> {
        let name = self.open.rfind('>').map_or(self.open, |end| &self.open[..=end]);
        let answer = self.answer.into_iter().flat_map(|(open, close)| [open, close]);
        [self.open, name, self.close].into_iter().chain(answer)
    }

    /// Whether a text ends inside thinking: it has a mark that begins it behind the last one that ends it.
    pub fn is_open_in(&self, text: &str) -> bool {
        text.rfind(self.open).is_some_and(|open| !text[open..].contains(self.close))
    }
}

/// A piece of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parted {
    /// What belongs to what the model thinks.
    pub reasoning: String,
    /// What stands behind that.
    pub content: String,
}

/// Parts an answer that arrives in pieces, in time linear in the answer: where the pieces are cut makes no difference.
///
/// White space beside the marks belongs to them, as chat templates write it again when the conversation goes on. An answer
/// that does not begin with thinking is content; one that begins with the end of it says that it has none.
#[derive(Clone, Debug)]
pub struct ReasoningParser {
    format: ReasoningFormat,
    place: Place,
    /// White space of which it is not decided what it belongs to.
    blank: String,
    /// Behind that, what may be the beginning of a mark.
    mark: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the beginning of the answer, where thinking may begin.
    Beginning,
    /// Inside thinking, of which something has been told or not.
    Thinking {
        has_begun: bool,
    },
    /// Behind thinking, before content.
    Behind,
    /// Between the marks of an answer, of which something has been told or not.
    Answer {
        has_begun: bool,
    },
    Content,
}

impl ReasoningParser {
    /// A parser for an answer; `is_open` says that the prompt has ended inside thinking.
    pub fn new(format: ReasoningFormat, is_open: bool) -> Self {
        let place = if is_open { Place::Thinking { has_begun: false } } else { Place::Beginning };
        Self { format, place, blank: String::new(), mark: String::new() }
    }

    /// Whether the text so far ends inside thinking.
    pub fn is_thinking(&self) -> bool {
        matches!(self.place, Place::Thinking { .. })
    }

    /// Takes the next piece of the answer.
    pub fn push(&mut self, text: &str) -> Parted {
        let mut parted = Parted::default();
        for (at, character) in text.char_indices() {
            let place = self.place;
            match place {
                Place::Beginning => self.begin(character, &mut parted),
                Place::Thinking { .. } => self.think(character, &mut parted),
                Place::Behind if self.mark.is_empty() && character.is_whitespace() => {}
                Place::Behind if self.begins_answer(character) => {}
                Place::Answer { .. } => self.answer(character, &mut parted),
                Place::Behind | Place::Content => {
                    self.place = Place::Content;
                    parted.content.push_str(&std::mem::take(&mut self.mark));
                    parted.content.push_str(&text[at..]);
                    break;
                }
            }
        }
        parted
    }

    /// What was still held back, once no more will come. Of an answer that was cut off inside thinking it is thinking.
    pub fn finish(&mut self) -> Parted {
        let mut parted = Parted::default();
        match self.place {
            Place::Thinking { .. } => {
                for character in std::mem::take(&mut self.mark).chars() {
                    self.tell_thought(character, &mut parted);
                }
            }
            Place::Answer { .. } if self.ends_answer() => {
                self.blank.clear();
                self.mark.clear();
            }
            Place::Beginning | Place::Behind | Place::Answer { .. } => {
                parted.content = std::mem::take(&mut self.blank) + &std::mem::take(&mut self.mark);
            }
            Place::Content => {}
        }
        parted
    }

    fn begin(&mut self, character: char, parted: &mut Parted) {
        if self.mark.is_empty() && character.is_whitespace() {
            self.blank.push(character);
            return;
        }
        self.mark.push(character);
        if self.mark == self.format.open {
            self.blank.clear();
            self.mark.clear();
            self.place = Place::Thinking { has_begun: false };
        } else if self.mark == self.format.close {
            self.blank.clear();
            self.mark.clear();
            self.place = Place::Behind;
        } else if ![self.format.open, self.format.close].iter().any(|known| known.starts_with(&self.mark)) {
            parted.content = std::mem::take(&mut self.blank) + &std::mem::take(&mut self.mark);
            self.place = Place::Content;
        }
    }

    fn think(&mut self, character: char, parted: &mut Parted) {
        self.mark.push(character);
        while !self.format.close.starts_with(&self.mark) {
            let first = self.mark.remove(0);
            self.tell_thought(first, parted);
        }
        if self.mark == self.format.close {
            self.blank.clear();
            self.mark.clear();
            self.place = Place::Behind;
        }
    }

    /// Whether the mark before an answer may go on with a character behind thinking; if so, takes it.
    fn begins_answer(&mut self, character: char) -> bool {
        let Some((open, _)) = self.format.answer else { return false };
        self.mark.push(character);
        if self.mark == open {
            self.mark.clear();
            self.place = Place::Answer { has_begun: false };
        } else if !open.starts_with(&self.mark) {
            self.mark.pop();
            return false;
        }
        true
    }

    /// Whether the mark behind an answer was read, and nothing but white space since.
    fn ends_answer(&self) -> bool {
        self.format.answer.is_some_and(|(_, close)| self.mark.starts_with(close))
    }

    /// Takes a character between the marks of an answer. The last one is only known at the end.
    fn answer(&mut self, character: char, parted: &mut Parted) {
        let Some((_, close)) = self.format.answer else { return };
        if self.ends_answer() {
            if character.is_whitespace() {
                self.mark.push(character);
                return;
            }
            for held in std::mem::take(&mut self.mark).chars() {
                self.tell_answer(held, parted);
            }
        }
        self.mark.push(character);
        while !close.starts_with(&self.mark) {
            let first = self.mark.remove(0);
            self.tell_answer(first, parted);
        }
    }

    /// Tells a character of an answer, with the white space before it.
    fn tell_answer(&mut self, character: char, parted: &mut Parted) {
        if character.is_whitespace() {
            self.blank.push(character);
            return;
        }
        if self.place == (Place::Answer { has_begun: true }) {
            parted.content.push_str(&self.blank);
        }
        self.blank.clear();
        parted.content.push(character);
        self.place = Place::Answer { has_begun: true };
    }

    /// Tells a character of what the model thinks, with the white space before it.
    fn tell_thought(&mut self, character: char, parted: &mut Parted) {
        if character.is_whitespace() {
            self.blank.push(character);
            return;
        }
        if self.place == (Place::Thinking { has_begun: true }) {
            parted.reasoning.push_str(&self.blank);
        }
        self.blank.clear();
        parted.reasoning.push(character);
        self.place = Place::Thinking { has_begun: true };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse<'t>(format: &str, is_open: bool, pieces: impl IntoIterator<Item = &'t str>) -> (String, String) {
        let mut parser = ReasoningParser::new(ReasoningFormat::named(format).unwrap(), is_open);
        let mut parts: Vec<Parted> = pieces.into_iter().map(|piece| parser.push(piece)).collect();
        parts.push(parser.finish());
        assert_eq!(parser.finish(), Parted::default(), "there is only one end");
        parts.into_iter().fold(Default::default(), |(reasoning, content), part| {
            (reasoning + &part.reasoning, content + &part.content)
        })
    }

    #[test]
    fn thinking_stands_between_marks_at_the_beginning() {
        for (format, is_open, text, reasoning, content) in [
            ("deepseek", false, "<think>\nhm\n</think>\n\nYes.", "hm", "Yes."),
            (
                "deepseek",
                false,
                "\n<think>a < b\n\nc</think>Yes. <think>no</think>",
                "a < b\n\nc",
                "Yes. <think>no</think>",
            ),
            ("deepseek", true, "\n hm</thin </think>\n", "hm</thin", ""),
            ("deepseek", true, "cut off <thi ", "cut off <thi", ""),
            ("deepseek", true, "cut </thi", "cut </thi", ""),
            ("deepseek", false, "<think></think>\n\nYes.\n", "", "Yes.\n"),
            ("deepseek", false, " Hello <think>", "", " Hello <think>"),
            ("deepseek", false, "<thi", "", "<thi"),
            ("deepseek", false, "", "", ""),
            ("mistral", false, "[THINK]hm[/THINK]Yes.", "hm", "Yes."),
            ("kimi", false, "◁think▷hm◁/think▷Yes.", "hm", "Yes."),
            ("gemma", false, "<|channel>thought\nhm\n<channel|>Yes.", "hm", "Yes."),
            ("granite", false, "Here is my thought process: hm Here is my response: Yes.", "hm", "Yes."),
            ("hy3", false, "<think:opensource>hm</think:opensource>Yes.", "hm", "Yes."),
            ("minimax", false, "</mm:think>\nYes.", "", "Yes."),
            ("minimax", false, "</mm:thin", "", "</mm:thin"),
            (
                "granite3.3",
                false,
                "<think>hm</think>\n<response>\nYes,  I\n do.\n</response>\n",
                "hm",
                "Yes,  I\n do.",
            ),
            ("granite3.3", true, "hm</think><response>a </response> b </response>", "hm", "a </response> b"),
            ("granite3.3", true, "hm</think><response>cut </resp", "hm", "cut </resp"),
            ("granite3.3", true, "hm</think><resp", "hm", "<resp"),
            ("granite3.3", true, "hm</think><res>x</response>", "hm", "<res>x</response>"),
        ] {
            assert_eq!(
                parse(format, is_open, [text]),
                (reasoning.to_owned(), content.to_owned()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn thinking_is_told_as_it_comes() {
        let mut parser = ReasoningParser::new(ReasoningFormat::named("deepseek").unwrap(), true);
        for (piece, reasoning, content, is_thinking) in [
            ("\n", "", "", true),
            ("a ", "a", "", true),
            ("<", "", "", true),
            ("b", " <b", "", true),
            ("</th", "", "", true),
            ("ink>\n", "", "", false),
            ("\n", "", "", false),
            ("Y", "", "Y", false),
        ] {
            let parted = parser.push(piece);
            assert_eq!(
                (parted.reasoning.as_str(), parted.content.as_str()),
                (reasoning, content),
                "{piece:?}"
            );
            assert_eq!(parser.is_thinking(), is_thinking, "{piece:?}");
        }
    }

    #[test]
    fn the_template_tells_the_marks() {
        for (source, name) in [
            ("{{ content.split('</think>')[-1] }}", Some("deepseek")),
            ("{{ '[THINK]' }}", Some("mistral")),
            ("{{ '<seed:think>' }} {# <think> #}", Some("seed")),
            ("between <think></think> and <response></response>", Some("granite3.3")),
            ("<think> {{ '<response>' + result + '</response>' }}", Some("deepseek")),
            ("{% set kind = ':opensource' %}{{ '<think{}>'.format(kind) }}", Some("hy3")),
            ("{{ messages }}", None),
        ] {
            assert_eq!(ReasoningFormat::of_template(source).map(|format| format.name), name, "{source}");
        }
        let format = ReasoningFormat::named("deepseek").unwrap();
        for (text, is_open) in [
            ("x<think>\n", true),
            ("<think>a</think>", false),
            ("<think></think><think>", true),
            ("x", false),
        ] {
            assert_eq!(format.is_open_in(text), is_open, "{text}");
        }
    }

    /// Reading what is held again for each piece would take hours here.
    #[test]
    fn hostile_texts_take_linear_time() {
        for text in [
            "</thin".repeat(200_000),
            " ".repeat(1_000_000),
            "<".repeat(1_000_000),
            "<think>".repeat(150_000),
            format!("<think></think><response>{}", "</response> ".repeat(80_000)),
            format!("<think></think><response>{}", "</resp\n".repeat(100_000)),
        ] {
            let letters: Vec<String> = text.chars().map(String::from).collect();
            for (format, is_open) in
                ["deepseek", "granite3.3"].into_iter().flat_map(|format| [(format, false), (format, true)])
            {
                let letters = letters.iter().map(String::as_str);
                assert_eq!(parse(format, is_open, letters), parse(format, is_open, [text.as_str()]));
            }
        }
    }

    proptest! {
        #[test]
        fn the_parts_do_not_depend_on_where_the_text_was_cut(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "<think>", "</think>", "<response>", "</response>", "<", "</", "think", ">", " ", "\n", "a", "é",
                ]),
                0..12,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            is_open: bool,
        ) {
            let text = parts.concat();
            let chars: Vec<char> = text.chars().collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
            cuts.extend([0, chars.len()]);
            cuts.sort_unstable();
            let pieces: Vec<String> = cuts.windows(2).map(|w| chars[w[0]..w[1]].iter().collect()).collect();
            for format in ["deepseek", "granite3.3"] {
                let pieces = pieces.iter().map(String::as_str);
                prop_assert_eq!(parse(format, is_open, pieces), parse(format, is_open, [text.as_str()]));
            }
        }
    }
}
