//! The report in Markdown.

use super::document::{Block, Document, PLOTS, Plot, Table};
use super::format::printable;

/// `document` as Markdown, in the dialect with tables.
pub(super) fn render(document: &Document) -> String {
    let mut parts = vec![format!("# {}", escape(&document.title)), escape(&document.subtitle)];
    parts.extend(document.blocks.iter().map(|block| match block {
        Block::Heading(text) => format!("## {text}"),
        Block::Text(text) => escape(text),
        Block::Verdict { text, .. } => format!("> **{}**", escape(text)),
        Block::Table(content) => table(content),
        Block::Plot(content) => plot(content),
        Block::Definitions(definitions) => {
            let lines = definitions.iter().map(|(word, text)| format!("- **{word}**: {text}"));
            lines.collect::<Vec<_>>().join("\n")
        }
    }));
    parts.join("\n\n") + "\n"
}

fn table(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let alignment = |column: usize| if column < table.texts { "---".to_owned() } else { "---:".to_owned() };
    let mut lines = vec![
        line(table.columns.iter().map(|text| escape(text)).collect()),
        line((0..table.columns.len()).map(alignment).collect()),
    ];
    for (index, row) in table.rows.iter().enumerate() {
        let is_mean = table.has_mean && index + 1 == table.rows.len();
        let cells = row.iter().map(|cell| match escape(&cell.text) {
            text if (is_mean || cell.is_best) && !text.is_empty() => format!("**{text}**"),
            text => text,
        });
        lines.push(line(cells.collect()));
    }
    lines.join("\n")
}

fn plot(plot: &Plot) -> String {
    let caption = escape(&plot.caption);
    match &plot.svg {
        Ok(_) => format!("![{}]({PLOTS}/{}.svg)\n\n{caption}", plot.title, plot.name),
        Err(reason) => format!("{}: could not be drawn: {}", plot.title, escape(reason)),
    }
}

/// `text` so that it reads as it is, in a table too.
fn escape(text: &str) -> String {
    let text: Vec<char> = printable(text).chars().collect();
    let is_word = |index: usize| text.get(index).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    let mut escaped = String::new();
    for (index, &c) in text.iter().enumerate() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            // An underscore between letters stays one.
            '_' if index > 0 && is_word(index - 1) && is_word(index + 1) => escaped.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::document::Cell;
    use super::*;

    #[test]
    fn what_would_be_markup_is_text() {
        for (text, expected) in [
            ("<script>|x", "&lt;script&gt;\\|x"),
            ("math_reasoning", "math_reasoning"),
            ("_em_ *b* `c` [l](u) ~~s~~", "\\_em\\_ \\*b\\* \\`c\\` \\[l\\](u) \\~\\~s\\~\\~"),
            ("a\nb\\|", "a\u{fffd}b\\\\\\|"),
            ("a & b", "a &amp; b"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn a_table_has_a_line_a_row_and_numbers_stand_right() {
        let mut rows = vec![vec!["a".into(), "1".into()], vec!["mean".into(), "".into()]];
        rows[0][1] = Cell { text: "1".to_owned(), is_best: true };
        let columns = vec!["T".to_owned(), "N".to_owned()];
        let content = Table { columns, texts: 1, rows, has_mean: true };
        assert_eq!(table(&content), "| T | N |\n| --- | ---: |\n| a | **1** |\n| **mean** |  |");
    }
}
