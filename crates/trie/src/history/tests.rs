//! Histories of both kinds against a definition that looks at every place.

use proptest::prelude::*;

use super::lookup::{BREAK, FindLimits, History, Occurrence, context_of};
use super::{Log, LogWriter, Shard, ShardId, write_shard};
use crate::TokenId;

pub(super) const ALL: FindLimits = FindLimits { most: usize::MAX, enough: usize::MAX };

/// Every place of `texts` where at least the last token of `context` occurred and something followed: by looking.
fn naive(texts: &[Vec<TokenId>], context: &[TokenId]) -> Vec<Occurrence> {
    let mut found = Vec::new();
    let mut start = 0;
    for text in texts.iter().filter(|text| !text.is_empty()) {
        for end in 0..text.len() - 1 {
            let pairs = text[..=end].iter().rev().zip(context.iter().rev());
            let length = pairs.take_while(|(a, b)| a == b).count().min(32) as u8;
            if length > 0 {
                let next = (start + end + 1) as u32;
                found.push(Occurrence { next, token: text[end + 1], length, history: 3 });
            }
        }
        start += text.len() + 1;
    }
    found
}

pub(super) fn log_of<T: AsRef<[TokenId]>>(texts: &[T]) -> Log {
    let (log, mut writer) = (Log::default(), LogWriter::default());
    for text in texts {
        writer.begin_text(&log);
        writer.extend(&log, text.as_ref());
    }
    log
}

proptest! {
    #[test]
    fn every_occurrence_is_found_with_its_length_in_a_log_and_in_a_shard(
        texts in prop::collection::vec(prop::collection::vec(0u32..4, 0..60), 1..6),
        context in prop::collection::vec(0u32..4, 1..40),
    ) {
        let log = log_of(&texts);
        let mut file = tempfile::tempfile().unwrap();
        write_shard(&log, ShardId::default(), [&[], &[]], &mut file).unwrap();
        let shard = Shard::read(&mut file, None).unwrap();
        for history in [&log.view() as &dyn History, &shard] {
            let mut found = Vec::new();
            history.find(&context, ALL, 3, &mut found);
            found.sort_by_key(|occurrence| occurrence.next);
            prop_assert_eq!(found, naive(&texts, &context));
        }
    }
}

#[test]
fn the_latest_occurrences_come_first() {
    let log = log_of(&[[7, 1, 7, 2, 7, 3, 7]]);
    let mut found = Vec::new();
    log.view().find(&[7], FindLimits { most: 2, enough: 9 }, 0, &mut found);
    let next: Vec<_> = found.iter().map(|occurrence| occurrence.token).collect();
    // The last 7 is followed by nothing yet, and counts as one of the two.
    assert_eq!(next, [3]);
}

#[test]
fn where_long_sequences_are_enough_short_ones_are_not_looked_at() {
    let log = log_of(&[[1, 2, 3, 9, 1, 2, 4, 9, 7, 2, 5]]);
    let find = |enough| {
        let mut found = Vec::new();
        log.view().find(&[1, 2], FindLimits { most: 9, enough }, 0, &mut found);
        found.iter().map(|occurrence| occurrence.token).collect::<Vec<_>>()
    };
    assert_eq!(find(2), [4, 3]);
    assert_eq!(find(3), [4, 3, 5]);
}

#[test]
fn a_context_does_not_reach_over_a_break() {
    assert_eq!(context_of(&[1, 2, BREAK, 3, 4]), [3, 4]);
    assert_eq!(context_of(&[1, BREAK]), [0; 0]);
    let long: Vec<TokenId> = (0..100).collect();
    assert_eq!(context_of(&long), &long[100 - Occurrence::LONGEST as usize..]);
}
