//! llama.cpp's grammars (GBNF) in llguidance's dialect of Lark.
//!
//! ```text
//! root   ::= "[" item ("," item)* "]"   # rules by name; what is asked for is `root`
//! item   ::= [0-9]{1,3} | "\"" [^"\x0A]* "\"" | root
//! ```
//!
//! GBNF knows characters only, and llguidance's grammars have lexemes, which are matched as far as they go. So a rule that does not
//! lead back to itself becomes one pattern, exact whatever it says, and only the others become rules. There, a lexeme that could
//! swallow the beginning of what follows does: `root ::= "(" root ")" | [a-z]+ "z"` wants a `z` that `[a-z]` has eaten.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

/// Parentheses inside each other, at most.
const DEEPEST: usize = 64;

/// Repetitions that may be asked for, at most.
const MOST_REPETITIONS: usize = 2_000;

/// What a rule is made of.
enum Expression {
    Literal(String),
    /// One character that is, or is not, in one of these ranges.
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
    Any,
    /// A rule by its number.
    Rule(usize),
    Sequence(Vec<Expression>),
    Choice(Vec<Expression>),
    /// So often at least, and at most.
    Repeat(Box<Expression>, usize, Option<usize>),
}

/// A rule by its name.
struct Rule<'g> {
    name: &'g str,
    /// Where it is defined; before that is known, where it is mentioned first.
    line: usize,
    definition: Option<Expression>,
}

/// A grammar in Lark.
pub(crate) struct Lark<'g> {
    pub(crate) text: String,
    /// The names of the rules, and the lines that they begin in.
    rules: Vec<(&'g str, usize)>,
    /// The rules of its own lines, the first one left aside.
    written: Vec<usize>,
}

impl Lark<'_> {
    /// What llguidance says of it, in the words of the grammar that it was made of.
    pub(crate) fn explained(&self, problem: &str) -> String {
        let located = problem.strip_prefix("at ").unwrap_or(problem).split_once("): ");
        let located = located.and_then(|(place, said)| Some((place.split_once('(')?.0.parse().ok()?, said)));
        let (line, said): (usize, &str) = located.unwrap_or((0, problem));
        let said = said.split(['\n', '\r']).next().unwrap_or_default();
        let said = self.renamed(said.split(" (at ").next().unwrap_or_default());
        let rule = line.checked_sub(2).and_then(|index| self.written.get(index));
        match rule.and_then(|&rule| self.rules.get(rule)) {
            Some((name, line)) => format!("line {line}, rule `{name}`: {said}"),
            None => said,
        }
    }

    /// A text with the names that rules have here.
    fn renamed(&self, text: &str) -> String {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name_of = |word: &str| {
            let number: usize = word.strip_prefix(['r', 'R'])?.parse().ok()?;
            Some(self.rules.get(number)?.0)
        };
        let words = text.split_inclusive(|c| !is_part(c)).map(|word| {
            let (name, rest) = word.split_at(word.find(|c| !is_part(c)).unwrap_or(word.len()));
            name_of(name).unwrap_or(name).to_owned() + rest
        });
        words.collect()
    }
}

/// The grammar in Lark, of which `start` is GBNF's `root`.
///
/// # Errors
/// What is wrong with it, and in which line.
pub(crate) fn to_lark(grammar: &str) -> Result<Lark<'_>, String> {
    let mut parser = Parser { rest: grammar, line: 1, depth: 0, rules: Vec::new(), numbers: HashMap::new() };
    parser.grammar()?;
    let Some(&root) = parser.numbers.get("root") else {
        return Err("there is no rule `root`".to_owned());
    };
    let names = parser.rules.iter().map(|rule| (rule.name, rule.line)).collect();
    let mut rules = Vec::with_capacity(parser.rules.len());
    for Rule { name, line, definition } in parser.rules {
        rules.push(definition.ok_or_else(|| format!("line {line}: there is no rule `{name}`"))?);
    }
    let mentioned: Vec<Vec<usize>> = rules.iter().map(mentions).collect();
    let is_pattern = patterns(&mentioned);
    let mut text = String::from("start: ");
    write_name(&mut text, root, &is_pattern);
    text.push('\n');
    let written = reachable(root, &mentioned);
    for &rule in &written {
        write_name(&mut text, rule, &is_pattern);
        text.push_str(": ");
        write(&mut text, &rules[rule], &is_pattern);
        text.push('\n');
    }
    Ok(Lark { text, rules: names, written })
}

/// The rules that an expression mentions.
fn mentions(expression: &Expression) -> Vec<usize> {
    let mut found = Vec::new();
    let mut left = vec![expression];
    while let Some(expression) = left.pop() {
        match expression {
            Expression::Rule(rule) => found.push(*rule),
            Expression::Sequence(parts) | Expression::Choice(parts) => left.extend(parts),
            Expression::Repeat(part, ..) => left.push(part),
            Expression::Literal(_) | Expression::Class { .. } | Expression::Any => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Of each rule, whether no way leads from it back to a rule that it came through: then it is a pattern.
fn patterns(mentioned: &[Vec<usize>]) -> Vec<bool> {
    let mut unknown: Vec<usize> = mentioned.iter().map(Vec::len).collect();
    let mut mentioned_by = vec![Vec::new(); mentioned.len()];
    for (rule, others) in mentioned.iter().enumerate() {
        for &other in others {
            mentioned_by[other].push(rule);
        }
    }
    let mut is_pattern = vec![false; mentioned.len()];
    let mut ready: Vec<usize> = (0..mentioned.len()).filter(|&rule| unknown[rule] == 0).collect();
    while let Some(rule) = ready.pop() {
        is_pattern[rule] = true;
        for &user in &mentioned_by[rule] {
            unknown[user] -= 1;
            if unknown[user] == 0 {
                ready.push(user);
            }
        }
    }
    is_pattern
}

/// The rules that are needed for `root`.
fn reachable(root: usize, mentioned: &[Vec<usize>]) -> Vec<usize> {
    let mut is_known = vec![false; mentioned.len()];
    let (mut found, mut left) = (Vec::new(), vec![root]);
    while let Some(rule) = left.pop() {
        if !std::mem::replace(&mut is_known[rule], true) {
            found.push(rule);
            left.extend(&mentioned[rule]);
        }
    }
    found
}

/// Lark tells patterns from rules by their case.
fn write_name(lark: &mut String, rule: usize, is_pattern: &[bool]) {
    let letter = if is_pattern[rule] { 'R' } else { 'r' };
    let _ = write!(lark, "{letter}{rule}");
}

fn write(lark: &mut String, expression: &Expression, is_pattern: &[bool]) {
    match expression {
        // What follows an ampersand outside of a text is an intersection, and those are counted.
        Expression::Literal(text) => {
            lark.push_str(&Value::from(text.as_str()).to_string().replace('&', "\\u0026"));
        }
        Expression::Any => lark.push_str("/(.|\\n)/"),
        Expression::Class { is_negated, ranges } => {
            lark.push_str(if *is_negated { "/[^" } else { "/[" });
            for &(first, last) in ranges {
                write_character(lark, first);
                if first != last {
                    lark.push('-');
                    write_character(lark, last);
                }
            }
            lark.push_str("]/");
        }
        Expression::Rule(rule) => write_name(lark, *rule, is_pattern),
        Expression::Sequence(parts) if parts.is_empty() => lark.push_str("\"\""),
        Expression::Sequence(parts) => write_all(lark, parts, " ", is_pattern),
        Expression::Choice(parts) => {
            lark.push('(');
            write_all(lark, parts, " | ", is_pattern);
            lark.push(')');
        }
        Expression::Repeat(_, _, Some(0)) => lark.push_str("\"\""),
        Expression::Repeat(part, least, most) => {
            lark.push('(');
            write(lark, part, is_pattern);
            lark.push(')');
            let _ = match (least, most) {
                (0, None) => lark.write_str("*"),
                (1, None) => lark.write_str("+"),
                (0, Some(1)) => lark.write_str("?"),
                (least, None) => write!(lark, "{{{least},}}"),
                (least, Some(most)) => write!(lark, "{{{least},{most}}}"),
            };
        }
    }
}

fn write_all(lark: &mut String, parts: &[Expression], between: &str, is_pattern: &[bool]) {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            lark.push_str(between);
        }
        write(lark, part, is_pattern);
    }
}

/// A character of a class, so that it means nothing else there.
fn write_character(lark: &mut String, character: char) {
    if character.is_ascii_alphanumeric() {
        lark.push(character);
    } else {
        let _ = write!(lark, "\\x{{{:X}}}", u32::from(character));
    }
}

struct Parser<'g> {
    rest: &'g str,
    line: usize,
    depth: usize,
    rules: Vec<Rule<'g>>,
    numbers: HashMap<&'g str, usize>,
}

impl<'g> Parser<'g> {
    fn grammar(&mut self) -> Result<(), String> {
        self.skip_blanks(true);
        while !self.rest.is_empty() {
            let line = self.line;
            let name = self.name().ok_or_else(|| self.wrong("the name of a rule"))?;
            self.skip_blanks(false);
            if !self.takes("::=") {
                return Err(self.wrong("`::=`"));
            }
            self.skip_blanks(true);
            let number = self.number_of(name, line);
            let definition = self.choice()?;
            let rule = &mut self.rules[number];
            rule.line = line;
            if rule.definition.replace(definition).is_some() {
                return Err(format!("line {line}: the rule `{name}` is there already"));
            }
            if !self.rest.is_empty() && !self.rest.starts_with(['\n', '\r']) {
                return Err(self.wrong("the end of the rule"));
            }
            self.skip_blanks(true);
        }
        Ok(())
    }

    /// Parts with `|` in between.
    fn choice(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.sequence()?];
        while self.takes("|") {
            self.skip_blanks(true);
            parts.push(self.sequence()?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Expression::Choice(parts) })
    }

    /// Parts one behind the other; within parentheses on several lines.
    fn sequence(&mut self) -> Result<Expression, String> {
        let mut parts = Vec::new();
        while let Some(part) = self.part()? {
            let part = match self.repetition()? {
                Some((least, most)) => Expression::Repeat(Box::new(part), least, most),
                None => part,
            };
            parts.push(part);
            self.skip_blanks(self.depth > 0);
        }
        Ok(Expression::Sequence(parts))
    }

    fn part(&mut self) -> Result<Option<Expression>, String> {
        let line = self.line;
        if self.takes("\"") {
            return self.literal(line).map(Some);
        }
        if self.takes("[") {
            return self.class(line).map(Some);
        }
        if self.takes(".") {
            return Ok(Some(Expression::Any));
        }
        if self.takes("(") {
            self.depth += 1;
            if self.depth > DEEPEST {
                return Err(format!("line {line}: more than {DEEPEST} parentheses inside each other"));
            }
            self.skip_blanks(true);
            let inner = self.choice()?;
            if !self.takes(")") {
                return Err(format!("{}, for the `(` of line {line}", self.wrong("`)`")));
            }
            self.depth -= 1;
            return Ok(Some(inner));
        }
        if self.rest.starts_with(['<', '!']) {
            return Err(format!(
                "line {line}: tokens (`<…>`) are not supported in grammars; write their text"
            ));
        }
        let name = self.name();
        Ok(name.map(|name| Expression::Rule(self.number_of(name, line))))
    }

    /// How often the last part stands there.
    fn repetition(&mut self) -> Result<Option<(usize, Option<usize>)>, String> {
        let found = if self.takes("*") {
            (0, None)
        } else if self.takes("+") {
            (1, None)
        } else if self.takes("?") {
            (0, Some(1))
        } else if self.takes("{") {
            self.counts()?
        } else {
            return Ok(None);
        };
        if self.rest.starts_with(['*', '+', '?', '{']) {
            return Err(format!(
                "line {}: two repetitions of one part; put parentheses around the first",
                self.line
            ));
        }
        Ok(Some(found))
    }

    /// `m}`, `m,}` or `m,n}`.
    fn counts(&mut self) -> Result<(usize, Option<usize>), String> {
        self.skip_blanks(false);
        let least = self.number()?;
        self.skip_blanks(false);
        let most = if self.takes(",") {
            self.skip_blanks(false);
            if self.rest.starts_with('}') { None } else { Some(self.number()?) }
        } else {
            Some(least)
        };
        self.skip_blanks(false);
        if !self.takes("}") {
            return Err(self.wrong("`}`"));
        }
        if most.is_some_and(|most| most < least) {
            return Err(format!(
                "line {}: a part repeats at least {least} times, and less at most",
                self.line
            ));
        }
        Ok((least, most))
    }

    fn number(&mut self) -> Result<usize, String> {
        let digits = self.take_while(|character| character.is_ascii_digit());
        if digits.is_empty() {
            return Err(self.wrong("a number"));
        }
        let number = digits.parse().ok().filter(|number| *number <= MOST_REPETITIONS);
        number.ok_or_else(|| {
            format!("line {}: {digits:.20} repetitions; up to {MOST_REPETITIONS} are supported", self.line)
        })
    }

    fn literal(&mut self, line: usize) -> Result<Expression, String> {
        let mut text = String::new();
        loop {
            match self.character('"', "\"", line)? {
                Some(character) => text.push(character),
                None => return Ok(Expression::Literal(text)),
            }
        }
    }

    fn class(&mut self, line: usize) -> Result<Expression, String> {
        let is_negated = self.takes("^");
        let mut ranges = Vec::new();
        while let Some(first) = self.character(']', "[", line)? {
            // A dash in front of the end is a dash.
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            let last = if is_range {
                self.takes("-");
                self.character(']', "[", line)?.unwrap_or(first)
            } else {
                first
            };
            if last < first {
                return Err(format!("line {line}: the range {first:?} to {last:?} is the wrong way round"));
            }
            ranges.push((first, last));
        }
        match (ranges.is_empty(), is_negated) {
            (false, _) => Ok(Expression::Class { is_negated, ranges }),
            (true, true) => Ok(Expression::Any),
            (true, false) => Err(format!("line {line}: `[]` matches no character")),
        }
    }

    /// The next character of what began with `begin`; `None` at its `end`.
    fn character(&mut self, end: char, begin: &str, line: usize) -> Result<Option<char>, String> {
        match self.next() {
            None | Some('\n') => Err(format!("line {line}: `{begin}` has no end; a line end is `\\n`")),
            Some('\\') => self.escaped().map(Some),
            Some(character) if character == end => Ok(None),
            Some(character) => Ok(Some(character)),
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        let digits = match self.next() {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some(character @ ('\\' | '"' | '[' | ']' | '-' | '^')) => return Ok(character),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(format!("line {}: `\\{other}` stands for no character", self.line));
            }
        };
        let digits = self.rest.get(..digits).unwrap_or(self.rest);
        let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let code = u32::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal);
        let character = code.and_then(char::from_u32);
        let character = character
            .ok_or_else(|| format!("line {}: {digits:?} is the number of no character", self.line))?;
        self.rest = &self.rest[digits.len()..];
        Ok(character)
    }

    /// The number of a rule, which may be defined later.
    fn number_of(&mut self, name: &'g str, line: usize) -> usize {
        *self.numbers.entry(name).or_insert_with(|| {
            self.rules.push(Rule { name, line, definition: None });
            self.rules.len() - 1
        })
    }

    fn name(&mut self) -> Option<&'g str> {
        let name =
            self.take_while(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '_'));
        Some(name).filter(|name| !name.is_empty())
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'g str {
        let end = self.rest.find(|character| !belongs(character)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn takes(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn next(&mut self) -> Option<char> {
        let character = self.rest.chars().next()?;
        self.rest = &self.rest[character.len_utf8()..];
        self.line += usize::from(character == '\n');
        Some(character)
    }

    /// Blanks and comments; the ends of lines too, if a rule may go on behind them.
    fn skip_blanks(&mut self, over_lines: bool) {
        loop {
            match self.rest.chars().next() {
                Some(' ' | '\t') => {}
                Some('\n' | '\r') if over_lines => {}
                Some('#') => {
                    self.take_while(|character| character != '\n');
                    continue;
                }
                _ => return,
            }
            self.next();
        }
    }

    /// That `wanted` is not what stands here.
    fn wrong(&self, wanted: &str) -> String {
        let found: String = self.rest.lines().next().unwrap_or_default().chars().take(20).collect();
        let found = if found.is_empty() { "the end of the line".to_owned() } else { format!("`{found}`") };
        format!("line {}: {wanted} should be where {found} is", self.line)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_that_lead_back_to_themselves_stay_rules_and_others_become_patterns() {
        let grammar = "root ::= \"[\" item (\",\" item)* \"]\" # a list\nitem ::= [0-9]{1,3} | root |\n  word\n\
                       word ::= [^\"/\\x0A-]+ .? \"\\u00e9\\\"\"\nunused ::= unused";
        assert_eq!(
            to_lark(grammar).unwrap().text,
            "start: r0\nr0: \"[\" r1 (\",\" r1)* \"]\"\nr1: ((/[0-9]/){1,3} | r0 | R2)\n".to_owned()
                + "R2: (/[^\\x{22}\\x{2F}\\x{A}\\x{2D}]/)+ (/(.|\\n)/)? \"é\\\"\"\n"
        );
    }

    #[test]
    fn an_error_names_the_line() {
        for (grammar, error) in [
            ("", "there is no rule `root`"),
            ("root ::= a\n", "line 1: there is no rule `a`"),
            ("root ::= \"a\"\nroot ::= \"b\"", "line 2: the rule `root` is there already"),
            ("# x\n\nroot = \"a\"", "line 3: `::=` should be where `= \"a\"` is"),
            ("root ::= \"a\n\"", "line 1: `\"` has no end"),
            ("root ::= [a-", "line 1: `[` has no end"),
            ("root ::= [z-a]", "line 1: the range 'z' to 'a' is the wrong way round"),
            ("root ::= []", "line 1: `[]` matches no character"),
            (
                "root ::= (\"a\"\n\"b\"",
                "line 2: `)` should be where the end of the line is, for the `(` of line 1",
            ),
            ("root ::= \"a\" )", "line 1: the end of the rule should be where `)` is"),
            ("root ::= \"a\"{3,2}", "line 1: a part repeats at least 3 times, and less at most"),
            ("root ::= \"a\"{9999}", "line 1: 9999 repetitions"),
            ("root ::= \"a\"**", "line 1: two repetitions"),
            ("root ::= \"\\q\"", "line 1: `\\q` stands for no character"),
            ("root ::= \"\\ud800\"", "line 1: \"d800\" is the number of no character"),
            ("root ::= \"\\x+1\"", "line 1: \"+1\" is the number of no character"),
            ("root ::= <think>", "line 1: tokens (`<…>`) are not supported"),
        ] {
            let found = to_lark(grammar).err().unwrap();
            assert!(found.starts_with(error), "{grammar:?}: {found}");
        }
        let deep = format!("root ::= {}\"a\"{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(to_lark(&deep).err().unwrap().contains("more than 64 parentheses"));
    }

    #[test]
    fn what_is_wrong_with_the_translation_is_told_of_the_grammar_itself() {
        let lark = to_lark("root ::= \"(\" root \")\" | word\n\n# more\nword ::= [a-z] last\nlast ::= \"z\"")
            .unwrap();
        let line = lark.text.lines().position(|line| line.starts_with("R1: ")).unwrap() + 1;
        for (problem, told) in [
            (
                format!("at {line}(3): invalid regex in \"R1\" or R22: R2\n R1: /[a-z]/\n  ^"),
                "line 4, rule `word`: invalid regex in \"word\" or R22: last",
            ),
            (format!("{line}(3): expected x (at ) (RParen))\nR1: "), "line 4, rule `word`: expected x"),
            ("at 1(1): wrong".to_owned(), "wrong"),
            ("lexer error: too many (limit 9): r0".to_owned(), "lexer error: too many (limit 9): root"),
            ("at EOF: wrong".to_owned(), "at EOF: wrong"),
        ] {
            assert_eq!(lark.explained(&problem), told, "{problem}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_translated_or_refused(text in "(root ::= )?([a-c \\n\"\\[\\]()|*+?{}0-9,.#^é\\\\-]|::=|\\\\x4|\\\\u00){0,40}") {
            let _ = to_lark(&text);
        }
    }
}
