//! Numbers as people read them.

use super::document::NOTHING;
use crate::results::Spread;

pub(super) fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

/// The geometric mean of those `values` that have one; no number if none has.
pub(super) fn geometric_mean(values: impl IntoIterator<Item = f64>) -> f64 {
    arithmetic_mean(values.into_iter().filter(|&value| is_positive(value)).map(f64::ln)).exp()
}

/// The mean of those `values` that are numbers; no number if none is.
pub(super) fn arithmetic_mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let numbers = values.into_iter().filter(|value| value.is_finite());
    let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// The mean length of a histogram by length; no number if it is empty.
pub(super) fn mean_length(counts: &[u64]) -> f64 {
    let steps: f64 = counts.iter().map(|&count| count as f64).sum();
    counts.iter().enumerate().map(|(length, &count)| length as f64 * count as f64).sum::<f64>() / steps
}

pub(super) fn number(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { NOTHING.to_owned() }
}

/// A ratio.
pub(super) fn times(value: f64) -> String {
    if is_positive(value) { format!("{value:.2}×") } else { NOTHING.to_owned() }
}

/// A speed or a time, with the three digits or so that are more than noise.
pub(super) fn amount(value: f64) -> String {
    let decimals = match value {
        _ if !is_positive(value) => return NOTHING.to_owned(),
        1000.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    number(value, decimals)
}

pub(super) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", share * 100.0) } else { NOTHING.to_owned() }
}

/// The median, and both ends where they differ from it.
pub(super) fn spread(spread: Spread, format: impl Fn(f64) -> String) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(&format);
    if min == max || median == NOTHING {
        median
    } else {
        format!("{median} ({}–{})", min.trim_end_matches('×'), max.trim_end_matches('×'))
    }
}

/// A count with commas between thousands.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `text` without characters that no XML document may hold and line breaks, which no name needs.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c })
        .collect()
}
