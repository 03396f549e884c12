//! How many bytes of a text one token of a published tokenizer stands for, at most: what a long text's tokens are fewer than is known
//! before it is encoded then. Nothing is known of tokenizers that leave out parts of a text.

use std::collections::HashSet;

use serde_json::Value;

use super::byte_level::ALPHABET;
use super::vocabulary::byte_token;

/// Bytes that NFC makes one of, at most: three jamo of Hangul, three bytes each, become a syllable of three.
const COMPOSED: usize = 3;

/// The most bytes of a text that a token stands for, by what `tokenizer.json` says, of which `tokens` are the texts; `None` if parts of a
/// text may have no tokens.
pub(super) fn of(json: &Value, tokens: &[String]) -> Option<usize> {
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
    let is_byte_level = keeps_all(&json["pre_tokenizer"])?;
    let known: HashSet<&str> = tokens.iter().map(String::as_str).collect();
    let knows_all = if is_byte_level {
        ALPHABET.iter().all(|character| known.contains(character.encode_utf8(&mut [0; 4]) as &str))
    } else {
        let bytes: HashSet<u8> = known.iter().filter_map(|text| byte_token(text)).collect();
        model["byte_fallback"] == true && bytes.len() == 256
    };
    let longest = tokens.iter().map(String::len).max().filter(|_| knows_all)?;
    longest.checked_mul(shrinks)
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
            assert_eq!(of(&tokenizer(&changes), &tokens), longest, "{changes:?}");
        }
        assert_eq!(of(&tokenizer(&[]), &tokens[1..]), None, "a byte has no token");

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
        assert_eq!(of(&fallback("▁"), &tokens), Some(6));
        assert_eq!(of(&fallback(""), &tokens), None);
        assert_eq!(of(&tokenizer(&[("/normalizer", blank("▁"))]), &tokens), None);
        tokens.pop();
        assert_eq!(of(&fallback("▁"), &tokens), None);
    }
}
