//! How deep what a template says may be nested: minijinja parses, compiles and drops it level by level on the stack, and counts
//! brackets and blocks only.

use minijinja::{Error, ErrorKind};

use super::tags::{Piece, pieces};

/// Operators and brackets that one value goes through, at most. Of seventy published templates the deepest has 29.
const MOST_OPERATORS: usize = 256;

/// The `elif` of one `if` with those of the blocks around it, at most: each stands within the one before it.
const MOST_BRANCHES: usize = 256;

/// Words that are operators.
const OPERATORS: &[&str] = &["and", "or", "not", "in", "is", "if", "else"];

/// Refuses a template that is nested too deeply.
pub(super) fn check(source: &str) -> Result<(), Error> {
    let (mut line, mut branches, mut depth) = (1, Vec::new(), 0);
    for piece in pieces(source) {
        if let Piece::Block(tag) = piece {
            match keyword(tag) {
                "if" => branches.push(0),
                "elif" => {
                    depth += 1;
                    branches.iter_mut().last().into_iter().for_each(|own| *own += 1);
                }
                "endif" => depth -= branches.pop().unwrap_or(0),
                _ => {}
            }
        }
        if depth > MOST_BRANCHES {
            return Err(too_deep(line, &format!("an `if` with more than {MOST_BRANCHES} `elif`")));
        }
        if !matches!(piece, Piece::Text(_)) && operators(piece.text()) > MOST_OPERATORS {
            return Err(too_deep(line, &format!("an expression of more than {MOST_OPERATORS} operators")));
        }
        line += piece.text().matches('\n').count();
    }
    Ok(())
}

fn too_deep(line: usize, what: &str) -> Error {
    Error::new(ErrorKind::SyntaxError, format!("line {line} begins {what} within each other"))
}

/// The first word of a block's tag.
fn keyword(tag: &str) -> &str {
    let inner = tag.trim_start_matches(['{', '%', '-', '+']).trim_ascii_start();
    inner.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("")
}

/// The most operators and brackets that one value of a tag goes through, or more: all that stand between the same commas are taken to
/// be within each other.
fn operators(tag: &str) -> usize {
    let inner = &tag[2..];
    let inner = inner.strip_suffix("}}").or_else(|| inner.strip_suffix("%}")).unwrap_or(inner);
    let mut levels = Levels::default();
    let (mut quote, mut is_escaped, mut word) = (None, false, String::new());
    for character in inner.trim_matches(['-', '+']).chars() {
        if quote.is_none() && (character.is_alphanumeric() || character == '_') {
            word.push(character);
            continue;
        }
        if OPERATORS.contains(&word.as_str()) {
            levels.add();
        }
        word.clear();
        match (character, quote) {
            _ if is_escaped => is_escaped = false,
            ('\\', Some(_)) => is_escaped = true,
            (end, Some(begin)) if end == begin => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) => quote = Some(character),
            (',' | ':', None) => levels.begin_value(),
            ('(' | '[' | '{', None) => levels.open(),
            (')' | ']' | '}', None) => levels.close(),
            (character, None) if character.is_whitespace() => {}
            (_, None) => levels.add(),
        }
    }
    levels.most
}

/// Counts operators within each other.
#[derive(Default)]
struct Levels {
    /// Of the value that each bracket around this place is in.
    around: Vec<usize>,
    /// Of the value at this place.
    own: usize,
    sum: usize,
    most: usize,
}

impl Levels {
    fn add(&mut self) {
        self.own += 1;
        self.sum += 1;
        self.most = self.most.max(self.sum);
    }

    fn open(&mut self) {
        self.add();
        self.around.push(std::mem::take(&mut self.own));
    }

    fn close(&mut self) {
        if let Some(around) = self.around.pop() {
            self.sum -= std::mem::replace(&mut self.own, around);
        }
    }

    fn begin_value(&mut self) {
        self.sum -= std::mem::take(&mut self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::super::ChatTemplate;
    use super::*;

    fn load(source: &str) -> Result<ChatTemplate, String> {
        let template = ChatTemplate::from_source("a.jinja", source, "", "");
        template
            .map_err(|error| std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default())
    }

    /// `begin`, then `part` so often, then `end`.
    fn repeated(begin: &str, part: &str, times: usize, end: &str) -> String {
        format!("{begin}{}{end}", part.repeat(times))
    }

    #[test]
    fn a_template_that_is_nested_as_deep_as_it_is_long_is_refused() {
        for (begin, part, end) in [
            ("{{ ", "(", " }}"),
            ("{{ ", "[", ""),
            ("{{ ", "{1:", " }}"),
            ("{{ ", "- ", "1 }}"),
            ("{{ ", "not ", "1 }}"),
            ("{{ a", ".a", " }}"),
            ("{{ a", "[0]", " }}"),
            ("{{ a", "(1,2)", " }}"),
            ("{{ a", "|string", " }}"),
            ("{{ a", " is odd", " }}"),
            ("{{ a", " + a", " }}"),
            ("{{ a", "\n~ '%}'", " }}"),
            ("{{ a", " and a", " }}"),
            ("{{ a", " if a else a", " }}"),
            ("{% set a = a", " or a", " %}"),
            ("{% set a", " |string", " %}{% endset %}"),
            ("{% for ", "(", "a in b %}{% endfor %}"),
            ("{% raw %}{% \" %}{% endraw %}{{ a", ".a", " }}"),
            ("{#}{% raw %}#}{{ a", ".a", " }}"),
            ("{{ {'a': {}}['{#'] }}{{ a", ".a", " }}"),
            ("{% if a %}", "{% elif a %}", "{% endif %}"),
            ("{% if a %}", "{% elif a %}{% if b %}{% endif %}", "{% endif %}"),
            ("", "{% if a %}", ""),
            ("", "{% for a in b %}", ""),
        ] {
            let source = repeated(begin, part, (1 << 20) / part.len(), end);
            let error = load(&source).unwrap_err();
            let is_clear = error.contains("within each other") || error.contains("recursion limit");
            assert!(is_clear, "{begin}{part}: {error}");
        }
        let error = load(&repeated("a\n{{ b }}\n{{ a", ".a", 300, " }}")).unwrap_err();
        assert!(error.contains("line 3 begins an expression of more than 256 operators"), "{error}");
    }

    /// As deep as it may be, on the least stack that a thread has here.
    #[test]
    fn what_is_just_allowed_fits_on_the_stack() {
        for (begin, part, count, end) in [
            ("{{ a", ".a", MOST_OPERATORS, " }}"),
            ("{{ a", "()", MOST_OPERATORS, " }}"),
            ("{{ a", " + a", MOST_OPERATORS, " }}"),
            ("{{ a", " if a else a", MOST_OPERATORS / 2, " }}"),
            ("{{ ", "not ", MOST_OPERATORS, "a }}"),
            ("{% if a %}", "{% elif a %}", MOST_BRANCHES, "{% endif %}"),
        ] {
            load(&repeated(begin, part, count, end)).unwrap_or_else(|error| panic!("{begin}{part}: {error}"));
            let deeper = repeated(begin, part, count + 1, end);
            assert!(load(&deeper).is_err(), "{begin}{part}");
        }
    }

    #[test]
    fn what_stands_side_by_side_is_not_nested() {
        let list = format!("{{{{ [{}] }}}}", "a.b + c['d'], ".repeat(10_000));
        let branches = "{% if a %}{% elif b %}{% endif %}".repeat(10_000);
        for source in
            [list, branches, "{{ a.b }}".repeat(10_000), format!("{{{{ '{}' }}}}", "(".repeat(10_000))]
        {
            check(&source).unwrap();
        }
    }
}
