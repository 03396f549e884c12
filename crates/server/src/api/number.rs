//! Whole numbers as clients write them: `5`, `5.0` and `5e0` are one number, and `1e20` is more than any field holds.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A whole number of any size; what is beyond the type saturates.
struct Whole(i128);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeVisitor)
    }
}

struct WholeVisitor;

impl Visitor<'_> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
        Ok(Whole(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
        Ok(Whole(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
        if number.fract() == 0.0 {
            return Ok(Whole(number as i128));
        }
        Err(E::custom(format!("invalid value: {number} is not a whole number")))
    }
}

fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i128>, D::Error> {
    Ok(Option::<Whole>::deserialize(deserializer)?.map(|Whole(number)| number))
}

/// A count: not negative; more than a `usize` holds is as many as it holds.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let of = |number: i128| match number {
        ..0 => Err(D::Error::custom(format!("{number} is negative"))),
        _ => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
    };
    whole(deserializer)?.map(of).transpose()
}

/// A number of tokens; -1 is no limit, as clients of llama.cpp's server say.
pub(super) fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    limit_from(-1, deserializer)
}

/// A number of tokens; -1 is no limit, and so is -2, by which clients of Ollama mean what the context holds.
pub(super) fn limit_or_fill<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    limit_from(-2, deserializer)
}

/// A number of tokens; `least` to -1 is no limit.
fn limit_from<'de, D: Deserializer<'de>>(least: i128, deserializer: D) -> Result<Option<usize>, D::Error> {
    let of = |number: i128| match number {
        ..0 if number < least => {
            Err(D::Error::custom(format!("{number} is no number of tokens; -1 is no limit")))
        }
        _ => Ok(usize::try_from(number).unwrap_or(usize::MAX)), // of those below 0, too
    };
    whole(deserializer)?.map(of).transpose()
}

/// A number with a sign; what is beyond an `i64` is the nearest that it holds.
pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let clamp = |number: i128| number.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    Ok(whole(deserializer)?.map(clamp))
}

/// A seed: any whole number, of which the lowest 64 bits count, so that -1 and 2^64 - 1 are one.
pub(super) fn seed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(whole(deserializer)?.map(|number| number as u64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_number_may_be_written_in_any_way_that_json_has() {
        let read =
            |text: &str| whole(&mut serde_json::Deserializer::from_str(text)).map_err(|e| e.to_string());
        for (text, number) in [
            ("5", 5),
            ("5.0", 5),
            ("0.5e1", 5),
            ("-3.0", -3),
            ("18446744073709551615", u64::MAX.into()),
            ("1e20", 100_000_000_000_000_000_000),
            ("1e300", i128::MAX),
        ] {
            assert_eq!(read(text), Ok(Some(number)), "{text}");
        }
        assert_eq!(read("null"), Ok(None));
        for wrong in ["5.5", "\"5\"", "true", "[]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_field_does_not_hold_saturates_or_is_refused() {
        assert_eq!(count(json!(1e20)).unwrap(), Some(usize::MAX));
        assert!(count(json!(-1)).unwrap_err().to_string().contains("-1 is negative"));
        assert_eq!(limit(json!(-1.0)).unwrap(), Some(usize::MAX));
        assert!(limit(json!(-2)).is_err() && limit_or_fill(json!(-3)).is_err());
        assert_eq!(limit_or_fill(json!(-2)).unwrap(), Some(usize::MAX));
        assert_eq!(integer(json!(-1e20)).unwrap(), Some(i64::MIN));
        assert_eq!(seed(json!(-1)).unwrap(), Some(u64::MAX));
        assert_eq!(seed(json!(9_223_372_036_854_775_808_u64)).unwrap(), Some(1 << 63));
    }
}
