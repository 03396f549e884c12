//! How a byte-level vocabulary cuts text into words before merging: the table behind `tokenizer.ggml.pre`.
//!
//! Merges never cross a word boundary, so the words are part of what a model was trained on. Each entry holds
//! the regular expressions of the models' published tokenizers. They are applied one after another: every
//! match becomes a word of its own, and so does the text between two matches.
//!
//! Nearly all end in `\s+(?!\S)|\s+`: of several spaces before a word, the last belongs to the word. That is
//! the only look-ahead among them. It is done by hand here, so that a regex engine without backtracking
//! suffices: time is linear in the text, whatever the text, where backtracking engines give up on a run of a
//! million spaces.

use regex::Regex;

use super::vocabulary::excerpt;

/// One way of cutting text into words, and the habits that come with it.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    /// Names in `tokenizer.ggml.pre`.
    names: &'static [&'static str],
    /// Regular expressions, applied in order.
    splits: &'static [&'static str],
    /// Whether a word that is itself a token is taken whole, without merging.
    pub(super) whole_words_first: bool,
    /// Whether prompts begin with the beginning-of-sequence token where the file does not say.
    pub(super) adds_bos: bool,
}

impl PreTokenizer {
    const fn new(names: &'static [&'static str], splits: &'static [&'static str]) -> Self {
        Self { names, splits, whole_words_first: false, adds_bos: false }
    }

    const fn whole_words_first(self) -> Self {
        Self { whole_words_first: true, ..self }
    }

    const fn adds_bos(self) -> Self {
        Self { adds_bos: true, ..self }
    }

    /// The entry for a name, or the default one (with a warning) where the name is missing or unknown.
    pub(super) fn for_name(name: Option<&str>) -> &'static Self {
        if let Some(entry) = name.and_then(|name| TABLE.iter().find(|entry| entry.names.contains(&name))) {
            return entry;
        }
        let supported: Vec<&str> = TABLE.iter().flat_map(|entry| entry.names).copied().collect();
        tracing::warn!(
            "tokenizer.ggml.pre is {}: words are cut as for \"default\", answers may suffer; supported: {}",
            name.map_or_else(|| "missing".to_owned(), excerpt),
            supported.join(", ")
        );
        &DEFAULT
    }

    /// The splits, ready to use.
    pub(super) fn compile(&self) -> Result<Vec<Split>, regex::Error> {
        self.splits.iter().map(|pattern| Split::new(pattern)).collect()
    }
}

/// One regular expression that cuts text.
#[derive(Debug)]
pub(super) struct Split {
    regex: Regex,
    /// Whether the pattern ended in [`SPACES`].
    leaves_last_space: bool,
    /// Whether runs of spaces end at line ends by an alternative of their own, which leaves nothing.
    takes_line_ends: bool,
}

/// The alternatives for runs of spaces.
const SPACES: &str = r"\s+(?!\S)|\s+";

impl Split {
    fn new(pattern: &str) -> Result<Self, regex::Error> {
        let (regex, leaves_last_space) = match pattern.strip_suffix(SPACES) {
            Some(before) => (Regex::new(&format!(r"{before}\s+"))?, true),
            None => (Regex::new(pattern)?, false),
        };
        Ok(Self { regex, leaves_last_space, takes_line_ends: pattern.contains(r"\s*[\r\n]") })
    }

    /// The first match in `text`, as a byte range.
    fn find(&self, text: &str) -> Option<(usize, usize)> {
        let found = self.regex.find(text)?;
        let (start, end) = (found.start(), found.end());
        // Only the alternative `\s+` ends in a space, apart from those that end in a line end.
        let last_space = || {
            let last = found.as_str().chars().next_back()?;
            let line_end = self.takes_line_ends && matches!(last, '\r' | '\n');
            (last.is_whitespace() && !line_end).then_some(last.len_utf8())
        };
        if self.leaves_last_space
            && end < text.len()
            && let Some(bytes) = last_space()
            && bytes < end - start
        {
            return Some((start, end - bytes));
        }
        Some((start, end))
    }
}

/// Cuts `text` into words: byte ranges that follow one another and cover it.
pub(super) fn cut(splits: &[Split], text: &str) -> Vec<(usize, usize)> {
    let mut words = vec![(0, text.len())];
    for split in splits {
        let mut finer = Vec::with_capacity(words.len() + text.len() / 4);
        for (mut start, end) in words {
            while let Some((from, to)) = split.find(&text[start..end]) {
                finer.extend((from > 0).then_some((start, start + from)));
                finer.push((start + from, start + to));
                start += to;
            }
            finer.extend((start < end).then_some((start, end)));
        }
        words = finer;
    }
    words
}

pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Contractions in either case. Published as `(?i:…)`, which also takes `ſ` for an `s`; `llama.cpp` does not,
/// nor do we.
macro_rules! contractions {
    () => {
        r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    };
}

/// Llama 3 and its kin: contractions, words with one leading sign, numbers of up to `$digits`, signs, line
/// ends, spaces.
macro_rules! llama3_like {
    ($digits:literal) => {
        concat!(
            "(?:",
            contractions!(),
            r")|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

/// Words that also end where lower case turns to upper: `camelCase` is two.
macro_rules! case_aware {
    ($contractions:expr, $digits:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $contractions,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $contractions,
            "|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

const BLOOM: &str = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+";

/// Words of cased letters, as `deepseek-llm` lists them.
const CASED_WORD: &str = concat!(
    r"\s?[A-Za-z",
    r"\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}",
    r"\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}",
    r"\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}",
    r"\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}",
    r"\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}",
    r"\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}",
    r"\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}",
    r"\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}",
    r"\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}",
    r"\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}",
    r"\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}",
    r"\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}",
    r"\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}",
    r"\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}",
    r"\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}",
    r"\x{1E900}-\x{1E943}",
    r"]+"
);

static DEFAULT: PreTokenizer =
    PreTokenizer::new(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]);

static TABLE: [PreTokenizer; 18] = [
    PreTokenizer::new(&["default"], DEFAULT.splits),
    PreTokenizer::new(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "exaone4",
            "gigachat",
            "mellum",
            "granite-docling",
        ],
        &[GPT2],
    ),
    PreTokenizer::new(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[r"\p{N}", GPT2],
    ),
    PreTokenizer::new(
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        &[llama3_like!(r"\p{N}{1,3}")],
    )
    .whole_words_first()
    .adds_bos(),
    PreTokenizer::new(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[llama3_like!(r"\p{N}{1,3}")]),
    PreTokenizer::new(&["glm4", "glm5"], &[llama3_like!(r"\p{N}{1,3}")]).whole_words_first(),
    PreTokenizer::new(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "hunyuan",
            "megrez",
            "kormo",
            "f2llmv2",
            "solar-open",
            "grok-2",
        ],
        &[llama3_like!(r"\p{N}")],
    ),
    PreTokenizer::new(
        &["qwen35"],
        &[concat!(
            "(?:",
            contractions!(),
            r")|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
    ),
    PreTokenizer::new(
        &["deepseek-llm"],
        &[
            "[\r\n]",
            CASED_WORD,
            r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+",
            r"\s+$",
            r"[\x{800}-\x{9FA5}\x{AC00}-\x{D7FF}]+",
            r"\p{N}+",
        ],
    ),
    PreTokenizer::new(
        &["deepseek-coder"],
        &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[\x{800}-\x{9FA5}\x{AC00}-\x{D7FF}]+", r"\p{N}"],
    ),
    PreTokenizer::new(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        &[
            r"\p{N}{1,3}",
            r"[\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+",
            concat!(
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
                r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
        ],
    ),
    PreTokenizer::new(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
    PreTokenizer::new(
        &["gpt-4o", "llama4", "kanana2", "minimax-m2"],
        &[case_aware!(concat!("(?:", contractions!(), ")?"), r"\p{N}{1,3}")],
    ),
    PreTokenizer::new(&["tekken"], &[case_aware!("", r"\p{N}")]).whole_words_first().adds_bos(),
    PreTokenizer::new(&["bloom", "poro-chat", "gpt3-finnish"], &[BLOOM]),
    PreTokenizer::new(&["viking"], &[BLOOM, r"\p{N}"]),
    PreTokenizer::new(
        &["seed-coder"],
        &[concat!(
            "(?:",
            contractions!(),
            r")|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
    ),
    PreTokenizer::new(
        &["bailingmoe", "bailingmoe2", "llada-moe"],
        &[concat!(
            "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])",
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
        )],
    ),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(name: &str, text: &'static str) -> Vec<&'static str> {
        let splits = PreTokenizer::for_name(Some(name)).compile().unwrap();
        cut(&splits, text).into_iter().map(|(start, end)| &text[start..end]).collect()
    }

    #[test]
    fn every_expression_of_the_table_compiles_and_no_name_stands_twice() {
        let mut names: Vec<_> = TABLE.iter().flat_map(|entry| entry.names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for entry in &TABLE {
            entry.compile().unwrap();
        }
    }

    #[test]
    fn gpt2_keeps_a_leading_space_with_its_word() {
        assert_eq!(
            words("gpt-2", "It's 2024,  isn't\n it? "),
            ["It", "'s", " 2024", ",", " ", " isn", "'t", "\n", " it", "?", " "]
        );
    }

    #[test]
    fn digits_are_cut_as_each_family_was_trained() {
        assert_eq!(words("gpt-2", "x 12345"), ["x", " 12345"]);
        assert_eq!(words("smollm", "x 12345"), ["x", " ", "1", "2", "3", "4", "5"]);
        assert_eq!(words("llama-bpe", "x 12345"), ["x", " ", "123", "45"]);
        assert_eq!(words("qwen2", "x 12345"), ["x", " ", "1", "2", "3", "4", "5"]);
        assert_eq!(words("default", "x 12345"), ["x", " ", "123", "45"]);
    }

    #[test]
    fn contractions_match_in_either_case_where_the_family_does() {
        assert_eq!(words("gpt-2", "I'M"), ["I", "'", "M"]);
        assert_eq!(words("llama-bpe", "I'M"), ["I", "'M"]);
        assert_eq!(words("gpt-4o", "camelCase I'll"), ["camel", "Case", " I'll"]);
    }

    #[test]
    fn an_unknown_name_means_the_default_words() {
        assert_eq!(words("no-such-name", "a, 1234"), words("default", "a, 1234"));
    }

    proptest! {
        #[test]
        fn words_cover_the_text_without_gaps(text in any::<String>(), entry in 0..TABLE.len()) {
            let mut end = 0;
            for (from, to) in cut(&TABLE[entry].compile().unwrap(), &text) {
                prop_assert!(from == end && to > from);
                prop_assert!(text.is_char_boundary(to));
                end = to;
            }
            prop_assert_eq!(end, text.len());
        }
    }
}
