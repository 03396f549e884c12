//! The pieces of a template's text, told apart as minijinja does.

/// A piece of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// What is printed as it stands, comments that are not, and raw blocks with their tags.
    Text(&'t str),
    /// `{{ … }}`.
    Print(&'t str),
    /// `{% … %}`.
    Block(&'t str),
}

impl<'t> Piece<'t> {
    /// The piece as it is written.
    pub(super) fn text(self) -> &'t str {
        let (Self::Text(text) | Self::Print(text) | Self::Block(text)) = self;
        text
    }
}

/// The pieces of `source`, which together are all of it. What is not closed is one with the rest.
pub(super) fn pieces(source: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = source;
    std::iter::from_fn(move || {
        let piece = first(rest)?;
        rest = &rest[piece.text().len()..];
        Some(piece)
    })
}

/// The first piece of a text that is not empty.
fn first(text: &str) -> Option<Piece<'_>> {
    let kind = |at: usize| text.as_bytes().get(at + 1).copied().filter(|kind| b"{%#".contains(kind));
    let begin = text.match_indices('{').map(|(at, _)| at).find(|&at| kind(at).is_some());
    Some(match begin.and_then(kind) {
        None if text.is_empty() => return None,
        Some(b'#') if begin == Some(0) => Piece::Text(&text[..behind(text, 2, "#}")]),
        Some(b'{') if begin == Some(0) => Piece::Print(&text[..end_of(text, "}}")]),
        Some(_) if begin == Some(0) => match marker(text, "raw") {
            Some(length) => Piece::Text(&text[..length + end_of_raw(&text[length..])]),
            None => Piece::Block(&text[..end_of(text, "%}")]),
        },
        _ => Piece::Text(&text[..begin.unwrap_or(text.len())]),
    })
}

/// Where `close` ends that stands first behind the first `begun` bytes.
fn behind(text: &str, begun: usize, close: &str) -> usize {
    text[begun..].find(close).map_or(text.len(), |at| begun + at + close.len())
}

/// Where the `endraw` of a raw block ends.
fn end_of_raw(text: &str) -> usize {
    let mut ends = text.match_indices("{%").filter_map(|(at, _)| Some(at + marker(&text[at..], "endraw")?));
    ends.next().unwrap_or(text.len())
}

/// The length of the tag that a text begins with, if it is `{% name %}`.
fn marker(text: &str, name: &str) -> Option<usize> {
    let inner = unsigned(text.strip_prefix("{%")?).trim_ascii_start();
    let rest = unsigned(inner.strip_prefix(name)?.trim_ascii_start()).strip_prefix("%}")?;
    Some(text.len() - rest.len())
}

/// A text without the sign that trims or keeps whitespace.
fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

/// Where a tag ends that `close` closes: outside of its strings and brackets.
fn end_of(tag: &str, close: &str) -> usize {
    let (bytes, mut at, mut quote, mut open) = (tag.as_bytes(), 2, None, 0_isize);
    while at < bytes.len() {
        match (bytes[at], quote) {
            (b'\\', Some(_)) => at += 1,
            (byte, Some(begin)) if byte == begin => quote = None,
            (_, Some(_)) => {}
            (byte @ (b'"' | b'\''), None) => quote = Some(byte),
            _ if open == 0 && bytes[at..].starts_with(close.as_bytes()) => return at + close.len(),
            (b'(' | b'[' | b'{', None) => open += 1,
            (b')' | b']' | b'}', None) => open -= 1,
            _ => {}
        }
        at += 1;
    }
    tag.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_told_apart() {
        use Piece::{Block, Print, Text};
        for (source, expected) in [
            ("", vec![]),
            ("a{b", vec![Text("a{b")]),
            ("a{{ b }}c", vec![Text("a"), Print("{{ b }}"), Text("c")]),
            ("{%- if '%}' -%}{{{}}}", vec![Block("{%- if '%}' -%}"), Print("{{{}}}")]),
            ("{{ {'a': {'b': '\\'{#'}}['a'] }}b", vec![Print("{{ {'a': {'b': '\\'{#'}}['a'] }}"), Text("b")]),
            ("{#}{% raw %}#}{{ a }}", vec![Text("{#}{% raw %}#}"), Print("{{ a }}")]),
            (
                "{%- raw +%}{% \" %}{{ a }}{%- endraw%}{% b %}",
                vec![Text("{%- raw +%}{% \" %}{{ a }}{%- endraw%}"), Block("{% b %}")],
            ),
            ("{% rawer %}{{ a", vec![Block("{% rawer %}"), Print("{{ a")]),
            ("{% raw %}{% endra", vec![Text("{% raw %}{% endra")]),
            ("{# a", vec![Text("{# a")]),
            ("{{{", vec![Print("{{{")]),
            ("{", vec![Text("{")]),
        ] {
            assert_eq!(pieces(source).collect::<Vec<_>>(), expected, "{source}");
        }
    }
}
