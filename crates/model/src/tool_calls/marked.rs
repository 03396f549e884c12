//! Finds calls that are written as a [`Syntax`] says.

use std::collections::VecDeque;

use super::delta::Deltas;
use super::finder::Finder;
use super::json_scanner::{JsonScanner, Progress};
use super::literal::{Literal, escape_into};
use super::nested::Nested;
use super::object::{ObjectCall, Reading};
use super::signatures::{ToolSignatures, Writing};
use super::syntax::{ArgumentSyntax, CallSyntax, Messages, NameSyntax, Syntax, TagSyntax};
use super::tagged::TaggedValue;

/// Longest name of a tool in bytes, with what it is written in. Text that is read as a name is read again if it is none.
const LONGEST_NAME: usize = 512;

/// What models may write before calls that are the whole answer.
const LEADS: &[&str] = &["<|python_tag|>", "<|python_start|>"];

/// Finds calls in an answer that arrives in pieces.
///
/// Each character is looked at by itself, so that it makes no difference where the text is cut. What may be a call is
/// read again as content if it turns out to be none. That happens to a character a bounded number of times: names are
/// bounded, between them stands white space, and of two calls in JSON that both may go on, one is in a string where the
/// other is not, so that there is no third.
#[derive(Clone, Debug)]
pub(super) struct Marked {
    syntax: &'static Syntax,
    tools: ToolSignatures,
    state: State,
    /// White space that is content if no call follows.
    space: String,
    /// What calls begin with, and the marks of messages.
    opening: Finder,
    /// The opening that was read.
    opened: &'static str,
    /// What was read behind it, as long as no call is certain.
    attempt: String,
    is_certain: bool,
    has_called: bool,
    /// Whether what is read and is no call belongs to what the model thinks.
    is_thought: bool,
    /// The name of the call that is read.
    name: String,
    /// Arguments in tags that were read.
    arguments: usize,
    /// What is to be read again.
    again: VecDeque<char>,
}

#[derive(Clone, Debug)]
enum State {
    /// In content; directly behind a call, white space is markup.
    Content { is_behind_call: bool },
    /// At the beginning of an answer that may be a call as a whole, behind what may stand before it.
    Beginning { lead: String },
    /// In markup, where one of several literals stands; `read` is what came of it.
    Markup { options: Vec<(&'static str, Next)>, read: String },
    /// In a call that is an object.
    Object(Box<ObjectCall>),
    /// In the name of a tool.
    Name(String),
    /// In arguments in JSON.
    Json(JsonScanner),
    /// In the name of a parameter.
    Key(String),
    /// In the value of a parameter.
    Value(Box<TaggedValue>),
    /// In arguments in another syntax.
    Literal(Box<Literal>),
    /// In arguments in tags that nest.
    Nested(Box<Nested>),
}

/// What comes behind a literal.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// So many literals of the beginning were read.
    Begun(usize),
    /// The next call of a run.
    Call,
    /// An object, whose brace this is.
    Object,
    Name,
    Key,
    /// A value of a parameter that is written so.
    Value(Writing),
    CallEnd,
    /// So many literals of the end were read.
    Ended(usize),
}

impl Marked {
    pub(super) fn new(syntax: &'static Syntax, tools: ToolSignatures) -> Self {
        let opening = if syntax.is_anywhere { &syntax.begin[..1] } else { &[] };
        let marks = syntax.messages.iter().flat_map(Messages::marks);
        Self {
            syntax,
            tools,
            state: if syntax.is_anywhere {
                State::Content { is_behind_call: false }
            } else {
                State::Beginning { lead: String::new() }
            },
            space: String::new(),
            opening: Finder::new(opening.iter().map(|literal| literal.trim()).chain(marks)),
            opened: "",
            attempt: String::new(),
            is_certain: false,
            has_called: false,
            is_thought: false,
            name: String::new(),
            arguments: 0,
            again: VecDeque::new(),
        }
    }

    /// Goes on where a prompt ends, which may have begun a message.
    pub(super) fn begin_behind(&mut self, prompt: &str) {
        let ends_with = |mark: &str| prompt.trim_end().ends_with(mark.trim());
        let thought = self.syntax.messages.as_ref().and_then(|messages| messages.thought);
        self.is_thought = thought.is_some_and(|(open, _)| ends_with(open));
        let begins_recipient = self.syntax.text_name().is_some() && ends_with(self.syntax.begin[0]);
        if begins_recipient {
            self.begin(1);
        }
    }

    pub(super) fn push(&mut self, text: &str, out: &mut Deltas) {
        for character in text.chars() {
            self.read(character, out);
            self.read_again(out);
        }
    }

    pub(super) fn finish(&mut self, out: &mut Deltas) {
        while !self.is_certain && !matches!(self.state, State::Content { .. }) {
            if self.is_behind_call() && matches!(self.state, State::Markup { .. }) {
                // Behind a call, where the rest of its end is missing.
                self.attempt.clear();
            }
            self.give_up(out);
            self.read_again(out);
        }
        let mut json = String::new();
        match &mut self.state {
            State::Content { is_behind_call } => {
                let is_behind_call = *is_behind_call;
                let rest = self.opening.finish();
                if !rest.is_empty() || !is_behind_call {
                    self.tell_text(&rest, out);
                }
            }
            State::Value(value) => value.finish(&mut json),
            State::Nested(nested) => nested.finish(&mut json),
            _ => {}
        }
        out.arguments(&json);
        self.state = State::Content { is_behind_call: true };
        self.is_certain = false;
    }

    fn read_again(&mut self, out: &mut Deltas) {
        while let Some(character) = self.again.pop_front() {
            self.read(character, out);
        }
    }

    fn read(&mut self, character: char, out: &mut Deltas) {
        let is_attempt = !matches!(self.state, State::Content { .. }) && !self.is_certain;
        if is_attempt {
            self.attempt.push(character);
        }
        match std::mem::replace(&mut self.state, State::Content { is_behind_call: false }) {
            State::Content { is_behind_call } => self.read_content(character, is_behind_call, out),
            State::Beginning { lead } => self.read_beginning(character, lead, out),
            State::Markup { options, read } => self.read_markup(character, options, read, out),
            State::Object(call) => self.read_object(character, call, out),
            State::Name(name) => self.read_name(character, name, out),
            State::Json(scanner) => self.read_json(character, scanner, out),
            State::Key(key) => self.read_key(character, key, out),
            State::Value(mut value) => {
                let mut json = String::new();
                let is_complete = value.push(character, &mut json);
                out.arguments(&json);
                if is_complete { self.expect_argument() } else { self.state = State::Value(value) }
            }
            State::Literal(mut literal) => {
                let mut json = String::new();
                let progress = literal.push(character, &mut json);
                out.arguments(&json);
                match progress {
                    Progress::Open => self.state = State::Literal(literal),
                    Progress::Complete => self.expect_call_end(),
                    Progress::Broken => self.break_off(character),
                }
            }
            State::Nested(mut nested) => {
                let mut json = String::new();
                let progress = nested.push(character, &mut json);
                out.arguments(&json);
                match progress {
                    Progress::Open => self.state = State::Nested(nested),
                    Progress::Complete => self.call_ended(),
                    Progress::Broken => self.break_off(character),
                }
            }
        }
    }

    fn read_content(&mut self, character: char, is_behind_call: bool, out: &mut Deltas) {
        if self.opening.partial().is_empty() && character.is_whitespace() {
            if !is_behind_call {
                self.space.push(character);
            }
            self.state = State::Content { is_behind_call };
            return;
        }
        let mut text = String::new();
        let opened = self.opening.push(character, &mut text);
        for character in text.chars() {
            if character.is_whitespace() {
                self.space.push(character);
            } else {
                self.tell_text(character.encode_utf8(&mut [0; 4]), out);
            }
        }
        self.state = State::Content { is_behind_call: is_behind_call && text.is_empty() };
        match (opened, &self.syntax.messages) {
            (Some(mark), Some(messages)) if mark != self.syntax.begin[0].trim() => {
                self.is_thought = messages.begins_thought(mark);
                self.space.clear();
                self.state = State::Content { is_behind_call: true };
            }
            (Some(opened), _) => {
                self.opened = opened;
                self.attempt.clear();
                self.begin(1);
            }
            (None, _) => {}
        }
    }

    /// Tells a text, with the white space before it.
    fn tell_text(&mut self, text: &str, out: &mut Deltas) {
        let space = std::mem::take(&mut self.space);
        for text in [&space, text] {
            if self.is_thought { out.reasoning(text) } else { out.content(text) }
        }
    }

    /// Reads white space and what may stand before calls that are the whole answer.
    fn read_beginning(&mut self, character: char, mut lead: String, out: &mut Deltas) {
        let is_whole = LEADS.contains(&lead.as_str());
        if character.is_whitespace() && (is_whole || lead.is_empty()) {
            self.state = State::Beginning { lead };
            return;
        }
        if !is_whole {
            let is_begun = !lead.is_empty();
            lead.push(character);
            if LEADS.iter().any(|known| known.starts_with(&lead)) {
                self.state = State::Beginning { lead };
                return;
            }
            if is_begun {
                return self.give_up(out);
            }
        }
        self.begin(0);
        self.attempt.pop();
        self.read(character, out);
    }

    /// Goes on behind so many literals of the beginning.
    fn begin(&mut self, literals: usize) {
        match self.syntax.begin.get(literals) {
            Some(literal) => self.expect(vec![(literal, Next::Begun(literals + 1))]),
            None => self.begin_call(),
        }
    }

    fn expect(&mut self, options: Vec<(&'static str, Next)>) {
        self.state = State::Markup { options, read: String::new() };
    }

    fn begin_call(&mut self) {
        match &self.syntax.call {
            CallSyntax::Object { .. } => self.state = State::Object(Box::default()),
            CallSyntax::Named { open: "", .. } => self.state = State::Name(String::new()),
            CallSyntax::Named { open, .. } => self.expect(vec![(open, Next::Name)]),
        }
    }

    fn read_markup(
        &mut self,
        character: char,
        options: Vec<(&'static str, Next)>,
        mut read: String,
        out: &mut Deltas,
    ) {
        if read.is_empty() && character.is_whitespace() {
            self.state = State::Markup { options, read };
            return;
        }
        read.push(character);
        let mut fitting = options.iter().filter(|(literal, _)| literal.trim().starts_with(&read));
        match fitting.next() {
            Some((literal, next)) if literal.trim().len() == read.len() => {
                let next = *next;
                self.go_on(next, character, out);
            }
            Some(_) => self.state = State::Markup { options, read },
            None if self.is_certain => {
                self.end_arguments(out);
                self.call_ended();
                self.state = State::Content { is_behind_call: true };
                for character in read.chars().rev() {
                    self.again.push_front(character);
                }
            }
            None => self.give_up(out),
        }
    }

    fn go_on(&mut self, next: Next, character: char, out: &mut Deltas) {
        match next {
            Next::Begun(literals) => self.begin(literals),
            Next::Call => self.begin_call(),
            Next::Object => {
                self.begin_call();
                self.attempt.pop();
                self.again.push_front(character);
            }
            Next::Name => self.state = State::Name(String::new()),
            Next::Key => {
                self.tell_call(out);
                self.state = State::Key(String::new());
            }
            Next::Value(writing) => self.begin_value(writing, out),
            Next::CallEnd => {
                self.tell_call(out);
                self.end_arguments(out);
                self.call_ended();
            }
            Next::Ended(literals) => {
                self.end_arguments(out);
                self.call_ended();
                if let Some(literal) = self.syntax.end.get(literals) {
                    self.expect(vec![(literal, Next::Ended(literals + 1))]);
                } else {
                    self.state = State::Content { is_behind_call: true };
                }
            }
        }
    }

    fn read_object(&mut self, character: char, mut call: Box<ObjectCall>, out: &mut Deltas) {
        let is_bare = !self.syntax.is_anywhere;
        let may_be = |name: &str| !is_bare || self.tools.is_empty() || self.tools.knows(name);
        let reading = call.push(character, may_be, is_bare, out);
        if call.is_certain() {
            self.make_certain();
        }
        match reading {
            Reading::Open => self.state = State::Object(call),
            Reading::Complete => self.call_ended(),
            Reading::Broken if self.is_certain => self.break_off(character),
            Reading::Broken => self.give_up(out),
        }
    }

    fn read_name(&mut self, character: char, mut name: String, out: &mut Deltas) {
        let CallSyntax::Named { close, name: written, .. } = &self.syntax.call else { return };
        name.push(character);
        let text_name = self.syntax.text_name();
        // Where a text may have a name, too, or nothing marks a call, names are those of tools.
        let is_bare = !self.syntax.is_anywhere || text_name.is_some();
        let close = if text_name.is_some() { close } else { close.trim() };
        let whole = if close.is_empty() { name.strip_suffix('<') } else { name.strip_suffix(close) };
        if let Some(whole) = whole {
            let whole = clean_name(whole, *written);
            if text_name == Some(whole) {
                self.attempt.clear();
                self.opened = "";
                self.state = State::Content { is_behind_call: true };
                return;
            }
            let is_known = self.tools.knows(whole);
            let may_be_known = is_known || !is_bare || self.tools.is_empty();
            let is_name = !whole.is_empty() && !whole.contains(|c: char| c.is_whitespace() || c == '<');
            if is_known || (is_name && may_be_known) {
                self.name = whole.to_owned();
                if close.is_empty() {
                    self.attempt.pop();
                    self.again.push_front(character);
                }
                self.begin_arguments(out);
                return;
            }
        } else if name.len() <= LONGEST_NAME
            && (!is_bare
                || self.tools.is_empty()
                || self.tools.knows_beginning(name.trim())
                || text_name.is_some_and(|known| known.starts_with(name.trim())))
        {
            self.state = State::Name(name);
            return;
        }
        self.give_up(out);
    }

    fn begin_arguments(&mut self, out: &mut Deltas) {
        let CallSyntax::Named { arguments, close, .. } = &self.syntax.call else { return };
        let mut json = String::new();
        self.arguments = 0;
        match arguments {
            ArgumentSyntax::Json => {
                self.state = State::Json(JsonScanner::default());
                return;
            }
            ArgumentSyntax::Tagged(_) => {
                // Where only the next tag ends a name, that tag tells whether it is one.
                if !close.trim().is_empty() {
                    self.tell_call(out);
                }
                self.expect_argument();
                return;
            }
            ArgumentSyntax::Python => {
                self.state = State::Literal(Box::new(Literal::python_arguments(&mut json)));
            }
            ArgumentSyntax::Unquoted => {
                self.state = State::Literal(Box::new(Literal::unquoted_object(&mut json)));
            }
            ArgumentSyntax::Nested(syntax) => {
                let place = self.tools.arguments(&self.name);
                self.state = State::Nested(Box::new(Nested::new(syntax, place, &mut json)));
            }
        }
        self.tell_call(out);
        out.arguments(&json);
    }

    fn read_json(&mut self, character: char, mut scanner: JsonScanner, out: &mut Deltas) {
        let progress = scanner.push(character);
        if progress == Progress::Broken {
            return if self.is_certain { self.break_off(character) } else { self.give_up(out) };
        }
        if scanner.depth() == 1 {
            self.tell_call(out);
        }
        if self.is_certain {
            out.arguments_char(character);
        }
        if progress == Progress::Complete {
            self.expect_call_end();
        } else {
            self.state = State::Json(scanner);
        }
    }

    fn read_key(&mut self, character: char, mut key: String, out: &mut Deltas) {
        let Some(tags) = self.tags() else { return };
        key.push(character);
        let Some(whole) = key.strip_suffix(tags.key_close.trim()) else {
            self.state = State::Key(key);
            return;
        };
        let mut json = String::new();
        json.push_str(if self.arguments == 0 { "{\"" } else { ", \"" });
        whole.chars().for_each(|character| escape_into(character, &mut json));
        json.push_str("\": ");
        out.arguments(&json);
        self.arguments += 1;
        let writing = self.tools.writing(&self.name, whole);
        if tags.value_open.is_empty() {
            self.begin_value(writing, out);
        } else {
            let said = |is_text: Option<bool>| match is_text {
                None => writing,
                Some(true) => Writing::Text,
                Some(false) => Writing::Json,
            };
            let options =
                tags.value_open.iter().map(|(literal, is_text)| (*literal, Next::Value(said(*is_text))));
            self.expect(options.collect());
        }
    }

    fn begin_value(&mut self, writing: Writing, out: &mut Deltas) {
        let Some(tags) = self.tags() else { return };
        let mut json = String::new();
        self.state = State::Value(Box::new(TaggedValue::new(tags, writing, &mut json)));
        out.arguments(&json);
    }

    fn tags(&self) -> Option<&'static TagSyntax> {
        match &self.syntax.call {
            CallSyntax::Named { arguments: ArgumentSyntax::Tagged(tags), .. } => Some(tags),
            _ => None,
        }
    }

    /// Waits for an argument in tags, or the end of the call.
    fn expect_argument(&mut self) {
        let (Some(tags), CallSyntax::Named { end, .. }) = (self.tags(), &self.syntax.call) else { return };
        let mut options = vec![(tags.key_open, Next::Key), (*end, Next::CallEnd)];
        options.extend(self.syntax.end.first().map(|literal| (*literal, Next::Ended(1))));
        self.expect(options);
    }

    fn expect_call_end(&mut self) {
        match &self.syntax.call {
            CallSyntax::Named { end, .. } if !end.is_empty() => self.expect(vec![(end, Next::CallEnd)]),
            _ => self.call_ended(),
        }
    }

    /// Tells the name of the call, once.
    fn tell_call(&mut self, out: &mut Deltas) {
        if !self.is_certain {
            out.call(self.name.clone());
            self.make_certain();
        }
    }

    fn make_certain(&mut self) {
        self.is_certain = true;
        self.has_called = true;
        self.space.clear();
        self.attempt.clear();
    }

    /// Closes arguments in tags.
    fn end_arguments(&mut self, out: &mut Deltas) {
        if self.is_certain && self.tags().is_some() {
            out.arguments(if self.arguments == 0 { "{}" } else { "}" });
        }
    }

    /// Waits for what stands behind a call.
    fn call_ended(&mut self) {
        self.is_certain = false;
        self.attempt.clear();
        self.opened = "";
        let mut options = Vec::new();
        if let Some(between) = self.syntax.between {
            match &self.syntax.call {
                CallSyntax::Object { .. } => options.push(("{", Next::Object)),
                CallSyntax::Named { open: "", .. } => {}
                CallSyntax::Named { open, .. } => options.push((*open, Next::Name)),
            }
            if !between.trim().is_empty() {
                options.push((between, Next::Call));
            }
        }
        options.extend(self.syntax.end.first().map(|literal| (*literal, Next::Ended(1))));
        if options.is_empty() {
            self.state = State::Content { is_behind_call: true };
        } else {
            self.expect(options);
        }
    }

    /// Ends a call that cannot go on with `character`.
    fn break_off(&mut self, character: char) {
        self.call_ended();
        self.again.push_front(character);
    }

    /// Whether nothing but markup stands between the last call and what is read.
    fn is_behind_call(&self) -> bool {
        self.has_called && self.opened.is_empty()
    }

    /// What was read is no call, but a call may stand in it.
    fn give_up(&mut self, out: &mut Deltas) {
        let is_behind_call = self.is_behind_call();
        let attempt = std::mem::take(&mut self.attempt);
        // What calls begin with may begin anew within itself.
        let mut opened = std::mem::take(&mut self.opened).chars();
        let first = opened.next();
        for character in opened.chain(attempt.chars()).rev() {
            self.again.push_front(character);
        }
        if let Some(first) = first {
            self.tell_text(first.encode_utf8(&mut [0; 4]), out);
        }
        self.state = State::Content { is_behind_call };
    }
}

/// A name without what stands around it.
fn clean_name(text: &str, written: NameSyntax) -> &str {
    // The number of a call may stand behind its name.
    let name = text.split("[CALL_ID]").next().unwrap_or(text).trim();
    match written {
        NameSyntax::Plain | NameSyntax::OrText(_) => name,
        NameSyntax::BehindId(mark) => name.split_once(mark).map_or(name, |(_, name)| name.trim()),
        NameSyntax::Counted => name.split_once("\" index=\"").map_or(name, |(name, _)| name),
        NameSyntax::Indexed => {
            let name = name.strip_prefix("functions.").unwrap_or(name);
            let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            name.rsplit_once(':').filter(|(_, index)| is_number(index)).map_or(name, |(name, _)| name)
        }
    }
}
