//! The report as a page of its own: styles and pictures are inside, and nothing runs or is fetched.

use super::document::{Block, Cell, Document, Plot, Table};
use super::format::printable;

/// Pictures stay on white in the dark: their colours are chosen for it.
const STYLE: &str = "\
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--faint:#5b6570;--line:#d9dee3;--card:#f5f7f9;\
--good:#0a6b4b;--good-back:#e3f5ee;--bad:#a3200d;--bad-back:#fde8e4}
@media(prefers-color-scheme:dark){:root{--back:#14171a;--text:#e4e7ea;--faint:#9aa4ae;--line:#343b42;--card:#1d2226;\
--good:#7fdcb8;--good-back:#123529;--bad:#ffab9c;--bad-back:#47190f}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:80rem;background:var(--back);color:var(--text);\
font:16px/1.5 system-ui,sans-serif}
h1{margin:0;font-size:1.8rem;line-height:1.2;overflow-wrap:anywhere}
h2{margin:2.5rem 0 .75rem;font-size:1.25rem}
.subtitle{margin:.25rem 0 1.25rem;color:var(--faint)}
.verdict{margin:1.25rem 0;padding:.75rem 1rem;border-left:5px solid;border-radius:4px;font-weight:600}
.holds{background:var(--good-back);color:var(--good)}
.fails{background:var(--bad-back);color:var(--bad)}
.table{margin:1rem 0;overflow:auto;max-height:80vh;border:1px solid var(--line);border-radius:6px}
table{border-collapse:separate;border-spacing:0;min-width:100%;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .5rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}
th{position:sticky;top:0;z-index:1;background:var(--card);font-weight:600;vertical-align:bottom}
.text{text-align:left;white-space:nowrap}
small{color:var(--faint);font-size:.8rem;font-weight:400;white-space:nowrap}
td:first-child,th:first-child{position:sticky;left:0;background:var(--back)}
th:first-child{z-index:2;background:var(--card)}
tbody tr:last-child td{border-bottom:0}
.mean td{border-top:2px solid var(--line);font-weight:600}
.fit{width:fit-content;max-width:100%}
figure{margin:1.5rem 0;padding:.75rem;border:1px solid var(--line);border-radius:6px;background:#fff;color:#3d4650}
figure svg{display:block;margin:auto;max-width:100%;height:auto}
figcaption{margin:.5rem .25rem 0;font-size:.875rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.25rem;margin:0}
dt{font-weight:600}
dd{margin:0}
@media print{.table{max-height:none}}
";

/// `document` as a page.
pub(super) fn render(document: &Document) -> String {
    let title = escape(&document.title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n<p class=\"subtitle\">{}</p>\n",
        escape(&document.subtitle)
    );
    page.extend(document.blocks.iter().map(block));
    page + "</body>\n</html>\n"
}

fn block(block: &Block) -> String {
    match block {
        Block::Heading(text) => format!("<h2>{}</h2>\n", escape(text)),
        Block::Text(text) => format!("<p>{}</p>\n", escape(text)),
        Block::Verdict { holds, text } => {
            let class = if *holds { "holds" } else { "fails" };
            format!("<p class=\"verdict {class}\">{}</p>\n", escape(text))
        }
        Block::Table(content) => table(content),
        Block::Plot(content) => plot(content),
        Block::Definitions(definitions) => {
            let items: Vec<String> = definitions
                .iter()
                .map(|(word, text)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(word), escape(text)))
                .collect();
            format!("<dl>\n{}</dl>\n", items.concat())
        }
    }
}

fn table(table: &Table) -> String {
    let class = |column: usize| if column < table.texts { " class=\"text\"" } else { "" };
    let heads = table.columns.iter().enumerate();
    let columns: Vec<String> = heads
        .map(|(column, text)| {
            let text = if column < table.texts { escape(text) } else { breakable(text) };
            format!("<th scope=\"col\"{}>{text}</th>", class(column))
        })
        .collect();
    let cell = |(column, cell): (usize, &Cell)| {
        let text = if column < table.texts { escape(&cell.text) } else { number(&cell.text) };
        let text = if cell.is_best { format!("<strong>{text}</strong>") } else { text };
        format!("<td{}>{text}</td>", class(column))
    };
    let rows: Vec<String> = (1..)
        .zip(&table.rows)
        .map(|(place, row)| {
            let class = if table.has_mean && place == table.rows.len() { " class=\"mean\"" } else { "" };
            format!("<tr{class}>{}</tr>\n", row.iter().enumerate().map(cell).collect::<String>())
        })
        .collect();
    // A narrow table is no wider than it has to be.
    let fit = if table.columns.len() <= 3 { " fit" } else { "" };
    format!(
        "<div class=\"table{fit}\" tabindex=\"0\">\n<table>\n<thead><tr>{}</tr></thead>\n\
         <tbody>\n{}</tbody>\n</table>\n</div>\n",
        columns.concat(),
        rows.concat()
    )
}

/// A number on one line, with the ends of its range less prominent, and on a line of their own where there is no room.
fn number(text: &str) -> String {
    let (number, rest) = text.split_once(" (").unwrap_or((text, ""));
    match rest.split_once(')') {
        Some((range, rest)) => {
            format!("{} <small>({})</small>{}", escape(number), escape(range), escape(rest))
        }
        None => escape(text).replace(' ', "&nbsp;"),
    }
}

fn plot(plot: &Plot) -> String {
    let title = escape(plot.title);
    let caption = escape(&plot.caption);
    match &plot.svg {
        Ok(svg) => {
            let svg = svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1);
            format!("<figure>\n{svg}<figcaption>{caption}</figcaption>\n</figure>\n")
        }
        Err(reason) => format!("<p>{title}: could not be drawn: {}</p>\n", escape(reason)),
    }
}

/// `text` as text, in attributes too.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in printable(text).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// `text` as text, whose long names may go over several lines.
fn breakable(text: &str) -> String {
    ["_", ":", "/"].iter().fold(escape(text), |text, mark| text.replace(mark, &format!("{mark}<wbr>")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_markup_is_text() {
        assert_eq!(escape("<script>|x"), "&lt;script&gt;|x");
        assert_eq!(escape("\"a\" & 'b'\0"), "&quot;a&quot; &amp; &#39;b&#39;\u{fffd}");
        assert_eq!(breakable("a_b<"), "a_<wbr>b&lt;");
        assert_eq!(number("2.0 (1–3) <i>"), "2.0 <small>(1–3)</small> &lt;i&gt;");
        assert_eq!(number("2.0 (<i>"), "2.0&nbsp;(&lt;i&gt;");
    }

    #[test]
    fn what_could_not_be_drawn_is_said() {
        let svg = Err("no <room>".to_owned());
        let text = plot(&Plot { name: "n", title: "T", caption: String::new(), svg });
        assert_eq!(text, "<p>T: could not be drawn: no &lt;room&gt;</p>\n");
    }
}
