//! A report, before it is written in one form or another.

/// The folder of the pictures, beside the reports.
pub(super) const PLOTS: &str = "plots";

/// What stands where there is no number.
pub(super) const NOTHING: &str = "–";

/// A report, in any form.
pub(super) struct Document {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) blocks: Vec<Block>,
}

/// A part of a report.
pub(super) enum Block {
    Heading(&'static str),
    Text(String),
    /// Whether the answers are those of plain decoding, in a sentence that nobody overlooks.
    Verdict {
        holds: bool,
        text: String,
    },
    Table(Table),
    Plot(Plot),
    Definitions(Vec<(&'static str, &'static str)>),
}

/// A table. Texts stand left, numbers right.
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    /// How many columns, from the left, hold texts.
    pub(super) texts: usize,
    pub(super) rows: Vec<Vec<Cell>>,
    /// Whether the last row sums up the others.
    pub(super) has_mean: bool,
}

/// A cell of a table.
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) is_best: bool,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), is_best: false }
    }
}

/// A picture, or why there is none.
pub(super) struct Plot {
    /// The name of its file, without `.svg`.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// What it shows, in a sentence.
    pub(super) caption: String,
    pub(super) svg: Result<String, String>,
}
