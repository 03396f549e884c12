//! How a byte-level vocabulary cuts text into words before merging: the table behind `tokenizer.ggml.pre`.
//!
//! Merges never cross a word boundary, so the words are part of what a model was trained on. Each entry holds
//! the regular expressions of the models' published tokenizers. They are applied one after another: every
//! match becomes a word of its own, and so does the text between two matches.
//!
//! Nearly all end in `\s+(?!\S)|\s+`: of several spaces before a word, the last belongs to the word. A few group digits
//! by what follows them. Such look-ahead is done by hand here, so that a regex engine without backtracking
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
    /// Whether tokens spell characters, with a sign for spaces, and not bytes.
    pub(super) spells_characters: bool,
}

impl PreTokenizer {
    const fn new(names: &'static [&'static str], splits: &'static [&'static str]) -> Self {
        Self { names, splits, whole_words_first: false, adds_bos: false, spells_characters: false }
    }

    const fn whole_words_first(self) -> Self {
        Self { whole_words_first: true, ..self }
    }

    const fn adds_bos(self) -> Self {
        Self { adds_bos: true, ..self }
    }

    const fn spells_characters(self) -> Self {
        Self { spells_characters: true, ..self }
    }

    /// The entry with this regular expression alone.
    pub(super) fn for_pattern(pattern: &str) -> Option<&'static Self> {
        TABLE.iter().find(|entry| entry.splits == [pattern])
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
    ahead: Ahead,
    /// Whether runs of spaces end at line ends by an alternative of their own, which leaves nothing.
    takes_line_ends: bool,
}

/// What a regular expression looks at behind its match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    Nothing,
    /// A run of spaces leaves the last one to the word that follows ([`SPACES`]).
    Word,
    /// The same, and such runs are cut into powers of two ([`POWERS_OF_TWO`]).
    WordCuttingPowers,
    /// A run of digits is cut into threes from the right.
    Digits,
    /// The same, if no letter follows the run.
    DigitsAlone,
}

/// The alternatives for runs of spaces.
const SPACES: &str = r"\s+(?!\S)|\s+";

/// Alternatives for runs of spaces of lengths that are tokens.
macro_rules! powers_of_two {
    () => {
        concat!(
            r"\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)",
            r"|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"
        )
    };
}
const POWERS_OF_TWO: &str = powers_of_two!();

/// Digits as they are grouped in writing, `1 234 567`.
const DIGITS: &str = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))";

/// The same, unless a letter stands behind them.
const DIGITS_ALONE: &str = r"\d{1,3}(?=(?:\d{3})*\b)";

impl Split {
    fn new(pattern: &str) -> Result<Self, regex::Error> {
        let spaces = |before: &str| format!(r"{before}\s+");
        let (linear, ahead) = if let Some(before) = pattern.strip_suffix(SPACES) {
            (spaces(before), Ahead::Word)
        } else if let Some(before) = pattern.strip_suffix(POWERS_OF_TWO) {
            (spaces(before), Ahead::WordCuttingPowers)
        } else if pattern == DIGITS {
            (r"\p{N}+".to_owned(), Ahead::Digits)
        } else if pattern == DIGITS_ALONE {
            // A group of what follows: with it, the digits do not stand alone.
            (r"\d+(\w?)".to_owned(), Ahead::DigitsAlone)
        } else {
            (pattern.to_owned(), Ahead::Nothing)
        };
        Ok(Self { regex: Regex::new(&linear)?, ahead, takes_line_ends: pattern.contains(r"\s*[\r\n]") })
    }

    /// The first match in `text`, as a byte range.
    fn find(&self, text: &str) -> Option<(usize, usize)> {
        let found = match self.ahead {
            Ahead::DigitsAlone => {
                let mut runs = self.regex.captures_iter(text);
                runs.find(|run| run.get(1).is_none_or(|letter| letter.is_empty()))?.get(0)
            }
            _ => self.regex.find(text),
        }?;
        let (start, end, matched) = (found.start(), found.end(), found.as_str());
        let length = match self.ahead {
            Ahead::Digits | Ahead::DigitsAlone => first_group(matched),
            Ahead::Word | Ahead::WordCuttingPowers if self.is_run_of_spaces(matched) => {
                self.spaces(matched, end < text.len())
            }
            Ahead::Nothing | Ahead::Word | Ahead::WordCuttingPowers => matched.len(),
        };
        Some((start, start + length))
    }

    /// Whether the last alternative made the match: only it ends in a space, apart from those that end in a line end.
    fn is_run_of_spaces(&self, matched: &str) -> bool {
        let is_line_end = |last| self.takes_line_ends && matches!(last, '\r' | '\n');
        matched.chars().next_back().is_some_and(|last| last.is_whitespace() && !is_line_end(last))
    }

    /// Bytes of the first word of a run of spaces; `before_word` says that a word follows the run.
    fn spaces(&self, run: &str, before_word: bool) -> usize {
        let count = run.chars().count();
        let free = if before_word { (count - 1).max(1) } else { count };
        let taken = match self.ahead {
            Ahead::WordCuttingPowers => {
                [512, 256, 128, 64, 32, 16, 8, 4, 2, 1].into_iter().find(|power| *power <= free).unwrap_or(1)
            }
            _ => free,
        };
        run.chars().take(taken).map(char::len_utf8).sum()
    }
}

/// Bytes of the first group of a run of digits that is cut into threes from the right.
fn first_group(digits: &str) -> usize {
    let first = match digits.chars().count() % 3 {
        0 => 3,
        rest => rest,
    };
    digits.chars().take(first).map(char::len_utf8).sum()
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

/// Lines and runs of line ends, of vocabularies that merge across words.
const LINES: &str = r"[^\n]+|[\n]+";

const CJK: &str = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+";

/// Words of the third step of `deepseek-v3`; `$signs` are the alternatives of signs and line ends.
macro_rules! deepseek_words {
    ($signs:literal) => {
        concat!(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
            "|",
            $signs,
            r"|\s+(?!\S)|\s+"
        )
    };
}

static TABLE: [PreTokenizer; 31] = [
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
            "a.x-4.0",
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
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        &[r"\p{N}{1,3}", CJK, deepseek_words!(r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+")],
    ),
    PreTokenizer::new(
        &["spark2_5"],
        &[r"\p{N}{1,3}", CJK, deepseek_words!(r" ?[\p{P}\p{S}]+|[\r\n]"), r"\p{N}"],
    ),
    PreTokenizer::new(
        &["afmoe"],
        &[
            DIGITS,
            concat!(
                r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{F900}-\x{FAFF}\x{3040}-\x{30FF}\x{FF65}-\x{FF9F}",
                r"\x{2F00}-\x{2FDF}\x{E40}-\x{E7F}\x{E80}-\x{EFF}\x{1780}-\x{17FF}\x{1000}-\x{109F}",
                r"\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}]+"
            ),
            deepseek_words!(r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"),
        ],
    ),
    PreTokenizer::new(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
    PreTokenizer::new(
        &["gpt-4o", "llama4", "kanana2", "minimax-m2", "talkie"],
        &[case_aware!(concat!("(?:", contractions!(), ")?"), r"\p{N}{1,3}")],
    ),
    PreTokenizer::new(
        &["tiny_aya", "cohere2moe"],
        &[DIGITS_ALONE, case_aware!(concat!("(?:", contractions!(), ")?"), r"\p{N}{1,3}")],
    ),
    PreTokenizer::new(
        &["youtu"],
        &[
            concat!(
                r"[\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+",
                r"|[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}",
                r"\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+",
                r"|[\x{3105}-\x{312F}]+|[\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+"
            ),
            case_aware!(concat!("(?:", contractions!(), ")?"), r"\p{N}"),
        ],
    )
    .whole_words_first(),
    PreTokenizer::new(
        &["kimi-k2"],
        &[concat!(
            r"\p{Han}+",
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*",
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?:",
            contractions!(),
            r")?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+",
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?:",
            contractions!(),
            r")?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
    ),
    PreTokenizer::new(&["laguna"], &[LINES, llama3_like!(r"\p{N}")]),
    PreTokenizer::new(&["minicpm5"], &[r"\p{N}{1,3}", llama3_like!(r"\p{N}+")]).whole_words_first(),
    PreTokenizer::new(&["superbpe"], &[DIGITS]),
    PreTokenizer::new(
        &["exaone-moe"],
        &[concat!(
            "(?:",
            contractions!(),
            r")|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?",
            r"|\s*[\r\n]|\s+(?!\S)|\s+"
        )],
    ),
    PreTokenizer::new(
        &["ufakzeka"],
        &[r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    ),
    PreTokenizer::new(
        &["jais-2"],
        &[concat!(
            "(?:",
            contractions!(),
            r")|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|",
            powers_of_two!()
        )],
    ),
    PreTokenizer::new(
        &["chameleon"],
        &[
            "<sentinel:[0-9]+>",
            "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"[\t\n]|    |  ",
            r"\p{N}",
            r"[\p{P}!-/:-@\[-`{-~]",
            GPT2,
        ],
    )
    .adds_bos(),
    PreTokenizer::new(&["gemma4", "sarvam-moe"], &[LINES]).spells_characters(),
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
