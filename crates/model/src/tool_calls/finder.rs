//! Literals in text that arrives character by character.

/// Looks for the first of some literals, none of which begins with another.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    literals: Vec<&'static str>,
    /// The end of the text so far that one of the literals begins with.
    partial: String,
}

impl Finder {
    pub(super) fn new(literals: impl IntoIterator<Item = &'static str>) -> Self {
        Self { literals: literals.into_iter().collect(), partial: String::new() }
    }

    /// Takes the next character. What is certainly no part of a literal goes to `text`; the literal that is complete,
    /// if one is, is returned. The work for all characters is linear in their number.
    pub(super) fn push(&mut self, character: char, text: &mut String) -> Option<&'static str> {
        self.partial.push(character);
        while !self.partial.is_empty() {
            let mut begin = self.literals.iter().filter(|literal| literal.starts_with(&self.partial));
            if let Some(literal) = begin.next() {
                if literal.len() > self.partial.len() {
                    return None;
                }
                let literal = *literal;
                self.partial.clear();
                return Some(literal);
            }
            text.push(self.partial.remove(0));
        }
        None
    }

    /// What may be the beginning of a literal.
    pub(super) fn partial(&self) -> &str {
        &self.partial
    }

    /// As [`Self::partial`], once no more will come.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.partial)
    }
}
