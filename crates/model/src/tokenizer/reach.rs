//! How much of a text one token stands for: how many tokens a long text has at least is known before it is encoded then.

use std::collections::HashSet;

use serde_json::Value;

use super::byte_level::ALPHABET;
use super::vocabulary::byte_token;

/// Bytes that NFC makes one of, at most: three jamo of Hangul, three bytes each, become a syllable of three.
const COMPOSED: usize = 3;

/// The most of a text that one token of a tokenizer stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// In bytes.
    longest: usize,
    /// Bytes of a text that are left out of its tokens.
    lost: Vec<u8>,
}

impl Reach {
    pub(super) fn new(longest: usize, lost: Vec<u8>) -> Self {
        Self { longest: longest.max(1), lost }
    }

    /// The reach of tokens of composed characters, where no byte is left out.
    pub(super) fn composing(longest: usize) -> Self {
        Self::new(longest.saturating_mul(COMPOSED), Vec::new())
    }

    /// The reach of a published tokenizer, by what `tokenizer.json` says, of which `tokens` are the texts. `None` if it may leave
    /// out parts of a text that are not told by their bytes.
    pub(super) fn of_published(json: &Value, tokens: &[String]) -> Option<Self> {
        let model = &json["model"];
        let added = json["added_tokens"].as_array();
        let takes_blanks = |token: &Value| token["lstrip"] == true || token["rstrip"] == true;
        if model["type"] != "BPE"
            || !json["truncation"].is_null()
            || added.into_iter().flatten().any(takes_blanks)
        {
            return None;
        }
        let shrinks = shrinks(&json["normalizer"])?;
        let known: HashSet<&str> = tokens.iter().map(String::as_str).collect();
        let lost: Vec<u8> = if keeps_all(&json["pre_tokenizer"])? {
            let is_known =
                |byte: u8| known.contains(ALPHABET[usize::from(byte)].encode_utf8(&mut [0; 4]) as &str);
            (0..=u8::MAX).filter(|&byte| !is_known(byte)).collect()
        } else {
            let bytes: HashSet<u8> = known.iter().filter_map(|text| byte_token(text)).collect();
            (model["byte_fallback"] == true && bytes.len() == 256).then(Vec::new)?
        };
        // What is composed may have other bytes than its parts.
        if shrinks > 1 && !lost.is_empty() {
            return None;
        }
        let longest = tokens.iter().map(String::len).max()?;
        Some(Self::new(longest.checked_mul(shrinks)?, lost))
    }

    /// A number of tokens that `texts` together do not have fewer than.
    pub(super) fn fewest_tokens<'t>(&self, texts: impl IntoIterator<Item = &'t str>) -> usize {
        let kept = |text: &str| match self.lost.as_slice() {
            [] => text.len(),
            lost => text.bytes().filter(|byte| !lost.contains(byte)).count(),
        };
        let bytes: usize = texts.into_iter().map(kept).sum();
        bytes.div_ceil(self.longest)
    }
}

/// How many times shorter a normalizer makes a text at most, if that is known.
fn shrinks(normalizer: &Value) -> Option<usize> {
    let text = |value: &Value| value.as_str().map(str::len);
    match normalizer["type"].as_str() {
        None if normalizer.is_null() => Some(1),
        Some("NFC") => Some(COMPOSED),
        Some("Prepend") => Some(1),
        Some("Replace") => {
            let (pattern, content) = (text(&normalizer["pattern"]["String"])?, text(&normalizer["content"])?);
            (content >= pattern).then_some(1)
        }
        Some("Sequence") => {
            let all = normalizer["normalizers"].as_array()?;
            all.iter().map(shrinks).try_fold(1_usize, |product, times| product.checked_mul(times?))
        }
        _ => None,
    }
}

/// Whether a text is spelt in bytes by a pre-tokenizer, if that leaves nothing out.
fn keeps_all(pre_tokenizer: &Value) -> Option<bool> {
    match pre_tokenizer["type"].as_str() {
        None if pre_tokenizer.is_null() => Some(false),
        Some("ByteLevel") => Some(true),
        // The sign that Metaspace makes of a blank is no shorter.
        Some("Digits" | "Metaspace") => Some(false),
        Some("Split") => {
            let kept = ["Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"];
            pre_tokenizer["behavior"].as_str().filter(|behaviour| kept.contains(behaviour)).map(|_| false)
        }
        Some("Sequence") => {
            let all = pre_tokenizer["pretokenizers"].as_array()?;
            all.iter().map(keeps_all).try_fold(false, |any, one| Some(any | one?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tokenizer(changes: &[(&str, Value)]) -> Value {
        let mut json = json!({
            "truncation": null,
            "added_tokens": [{ "content": "<|end|>", "lstrip": false, "rstrip": false }],
            "normalizer": null,
            "pre_tokenizer": { "type": "ByteLevel" },
            "model": { "type": "BPE", "byte_fallback": false },
        });
        for (place, value) in changes {
            *json.pointer_mut(place).unwrap() = value.clone();
        }
        json
    }

    #[test]
    fn what_may_leave_out_parts_of_a_text_is_told_from_what_keeps_all() {
        let mut tokens: Vec<String> = ALPHABET.iter().map(char::to_string).collect();
        tokens.push("abcdefgh".to_owned());
        let split =
            |behavior: &str| json!({ "type": "Split", "behavior": behavior, "pattern": { "String": "a" } });
        let both =
            |first: Value| json!({ "type": "Sequence", "pretokenizers": [first, { "type": "ByteLevel" }] });
        for (changes, longest) in [
            (vec![], Some(8)),
            (vec![("/normalizer", json!({ "type": "NFC" }))], Some(24)),
            (vec![("/normalizer", json!({ "type": "NFKC" }))], None),
            (
                vec![(
                    "/normalizer",
                    json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }, { "type": "Strip" }] }),
                )],
                None,
            ),
            (vec![("/pre_tokenizer", both(split("Isolated")))], Some(8)),
            (vec![("/pre_tokenizer", both(split("Removed")))], None),
            (vec![("/pre_tokenizer", both(json!({ "type": "WhitespaceSplit" })))], None),
            (vec![("/pre_tokenizer", json!(null))], None),
            (vec![("/added_tokens/0/rstrip", json!(true))], None),
            (vec![("/truncation", json!({ "max_length": 8 }))], None),
            (vec![("/model/type", json!("WordPiece"))], None),
        ] {
            let reach = Reach::of_published(&tokenizer(&changes), &tokens);
            assert_eq!(reach, longest.map(|longest| Reach::new(longest, Vec::new())), "{changes:?}");
        }
        let lossy = Reach::of_published(&tokenizer(&[]), &tokens[1..]).unwrap();
        assert_eq!(lossy, Reach::new(8, vec![0]), "a byte has no token");
        assert_eq!(lossy.fewest_tokens(["\0".repeat(100).as_str(), "\0aaaaaaaaa"]), 2);
        let composed = tokenizer(&[("/normalizer", json!({ "type": "NFC" }))]);
        assert_eq!(Reach::of_published(&composed, &tokens[1..]), None);

        let blank =
            |content: &str| json!({ "type": "Replace", "pattern": { "String": " " }, "content": content });
        let fallback = |content: &str| {
            let changes = [
                ("/pre_tokenizer", json!(null)),
                ("/model/byte_fallback", json!(true)),
                ("/normalizer", blank(content)),
            ];
            tokenizer(&changes)
        };
        let mut tokens: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
        let of = |json: &Value, tokens: &[String]| Reach::of_published(json, tokens);
        assert_eq!(of(&fallback("▁"), &tokens), Some(Reach::new(6, Vec::new())));
        assert_eq!(of(&fallback(""), &tokens), None);
        tokens.pop();
        assert_eq!(of(&fallback("▁"), &tokens), None);
    }
}
