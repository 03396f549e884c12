//! The probability of the next token, blended from everything that followed similar contexts, and how far to trust what.
//!
//! What is known about a context is sorted into *levels*, the most specific first: the occurrences in one source that match
//! so many tokens, or the model's own runners-up behind the last tokens. A level of occurrences counts those that match
//! longer as well. The estimate is a mixture, in which each level takes its trust of what the levels before it have left:
//!
//! ```text
//! p(t) = sum over levels l of  untrusted(l) * trust(l) * count(l, t) / count(l)
//! untrusted(l + 1) = untrusted(l) * (1 - trust(l))
//! ```
//!
//! This is interpolated back-off (Jelinek and Mercer 1980, "Interpolated estimation of Markov source parameters from
//! sparse data"). How far a level is trusted is learned from the tokens that the model really produced, by kind of level:
//! its source, the length of the match, how many occurrences there are and how many different tokens followed. Each token
//! is shared out among the levels by how likely each made it: expectation maximisation, one token at a time.

use crate::TokenId;
use crate::history::Occurrence;
use crate::runners_up::{CONTEXTS, NO_TOKEN, RANKS};

/// Where occurrences are looked for: in earlier answers to the same question; in the request's own text; there, with the last token
/// of the context changed (a copy that resumes behind a difference); there, close to where a copy was left; there, with the last
/// token of the context spelled otherwise; in what the namespace shares; in corpora.
pub(crate) const SOURCES: usize = 7;

/// The source of earlier answers to the same question.
pub(crate) const ANSWERED: usize = 0;

/// The source of the request's own text.
pub(crate) const OWN: usize = 1;

/// The source of copies that resume.
pub(crate) const RESUMED: usize = 2;

/// The source of copies that are returned to.
pub(crate) const RETURNED: usize = 3;

/// The source of words that are spelled otherwise.
pub(crate) const RESPELLED: usize = 4;

/// The source of what the namespace shares, corpora aside.
pub(crate) const SHARED: usize = 5;

/// Kinds of evidence: those of sources, then the runners-up behind two tokens and behind one.
const KINDS: usize = SOURCES + CONTEXTS;

/// Match lengths told apart; see [`length_class`].
const LENGTHS: usize = 10;

/// What earlier versions told apart: sources that they did not have, and lengths. The latest first, this one before them.
const VERSIONS: [(&[usize], usize); 4] = [
    (&[], LENGTHS),
    (&[RESPELLED], LENGTHS),
    (&[ANSWERED, RETURNED, RESPELLED], LENGTHS),
    (&[ANSWERED, RETURNED, RESPELLED], FORMER_LENGTHS),
];

/// As many as the first version told apart.
const FORMER_LENGTHS: usize = 8;

/// Numbers of occurrences told apart: 1, 2, 3 to 4, 5 to 8, more; and one of each, for the prior.
const COUNTS: [f32; 5] = [1.0, 2.0, 3.5, 6.5, 16.0];

/// Numbers of different followers told apart: 1, 2, more.
const DISTINCT: usize = 3;

/// Kinds of levels of one source and length.
const CELLS_OF_A_LENGTH: usize = COUNTS.len() * DISTINCT;

/// Followers of a node by its occurrences: the rarer ones of common words are each unlikely.
const MAX_FOLLOWERS: usize = 24;

/// How many tokens the trust that an untaught table begins with is worth.
const PRIOR_WEIGHT: f32 = 4.0;

/// After so many tokens a kind of level begins to forget: what it learned counts half from there on.
const MEMORY: f32 = 512.0;

/// How often a copy of the request's own text goes on, by the length of the match, to begin with. Answers that rewrite what they were
/// given go on more often, others less; either is soon learned.
const COPY: [f32; LENGTHS] = [0.2, 0.22, 0.3, 0.42, 0.55, 0.62, 0.72, 0.82, 0.88, 0.93];

/// How often a copy goes on that was returned to, to begin with, by the length that it counts as.
const RETURN: [f32; LENGTHS] = [0.1, 0.1, 0.1, 0.15, 0.4, 0.6, 0.75, 0.85, 0.9, 0.95];

/// How often what followed a word goes on behind another spelling of it, to begin with, by the length of the match.
const RESPELL: [f32; LENGTHS] = [0.25, 0.35, 0.45, 0.55, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9];

/// How often the next token is that of an earlier answer to the same question, to begin with, by how many different tokens followed
/// in such answers.
const ANSWER: [f32; DISTINCT] = [0.9, 0.8, 0.6];

/// The probability of a token that no level knows: about one of a vocabulary.
const UNKNOWN: f32 = 1e-5;

/// How often each rank of runners-up is right, to begin with: about as a model's probabilities fall with the rank.
const PRIOR_RANKS: [f32; RANKS] = [8.0, 3.6, 2.4, 1.6, 1.4, 1.2, 1.0, 0.8];

/// What is known about the context of a node.
#[derive(Clone, Copy)]
pub(crate) struct Evidence<'a> {
    /// By source, in the order of their rank.
    pub(crate) occurrences: [&'a [Occurrence]; SOURCES],
    /// What the model held most likely where the last two tokens, or the last one, stood before.
    pub(crate) runners_up: [Option<[TokenId; RANKS]>; CONTEXTS],
}

/// A token that may follow.
#[derive(Clone, Copy)]
pub(crate) struct Follower {
    pub(crate) token: TokenId,
    pub(crate) probability: f32,
    /// How often it did, by source and context of runners-up.
    counts: [f32; SOURCES + CONTEXTS],
}

/// A level, as [`Trust::each_level`] visits it.
#[derive(Clone, Copy)]
struct Level {
    /// Its source, or `SOURCES` and the context of runners-up.
    source: usize,
    /// Its kind: an index of [`Trust::cells`].
    cell: usize,
    /// The sum of all followers' counts.
    count: f32,
}

/// What was learned about one kind of level.
#[derive(Clone, Copy)]
struct Cell {
    /// Tokens that came to a level of this kind, as no level before it had made them.
    reached: f32,
    /// Of those, the ones that it made.
    made: f32,
}

/// The trust in each kind of level.
#[derive(Clone)]
pub(crate) struct Trust {
    cells: Vec<Cell>,
    /// How often each rank was right.
    ranks: [[f32; RANKS]; CONTEXTS],
    followers: Vec<Follower>,
    /// Of the node that is learned from: cell, source, and how likely the level made the token.
    levels: Vec<(usize, usize, f32)>,
}

/// How far a level is trusted that nothing was learned about: of this kind and class of lengths, with `count` occurrences and
/// `distinct + 1` different followers.
fn prior(kind: usize, length: usize, count: f32, distinct: usize) -> f32 {
    match kind {
        ANSWERED => return ANSWER[distinct],
        RETURNED => return RETURN[length],
        RESPELLED => return RESPELL[length] / (1.0 + distinct as f32),
        // What followed each time is the surer, the more often it did.
        OWN if distinct == 0 => return COPY[length] + (1.0 - COPY[length]) * (1.0 - 1.0 / count) * 0.5,
        _ => {}
    }
    // Shared text and guesses are weaker evidence, however long they match, and so are places where different tokens followed.
    let doubt = if kind == OWN {
        (5.0 - length as f32).max(1.0)
    } else {
        12.0 - length.min(FORMER_LENGTHS - 1) as f32
    };
    count / (count + doubt + 2.0 * distinct as f32)
}

impl Default for Trust {
    fn default() -> Self {
        let mut cells = Vec::with_capacity(KINDS * LENGTHS * CELLS_OF_A_LENGTH);
        for kind in 0..KINDS {
            for length in 0..LENGTHS {
                for count in COUNTS {
                    for distinct in 0..DISTINCT {
                        let trust = prior(kind, length, count, distinct);
                        cells.push(Cell { reached: PRIOR_WEIGHT, made: PRIOR_WEIGHT * trust });
                    }
                }
            }
        }
        Self { cells, ranks: [PRIOR_RANKS; CONTEXTS], followers: Vec::new(), levels: Vec::new() }
    }
}

impl Trust {
    /// Every token that may follow, with its probability, in the order in which the levels name them. The probabilities
    /// sum to less than 1.
    pub(crate) fn estimate(&mut self, evidence: &Evidence<'_>) -> &[Follower] {
        let mut followers = std::mem::take(&mut self.followers);
        let mut untrusted = 1.0;
        self.each_level(evidence, &mut followers, |level, followers| {
            let trust = self.cells[level.cell].trust();
            let share = untrusted * trust / level.count;
            untrusted *= 1.0 - trust;
            for follower in followers {
                follower.probability += share * follower.counts[level.source];
            }
        });
        self.followers = followers;
        &self.followers
    }

    /// Learns that `token` followed.
    pub(crate) fn learn(&mut self, evidence: &Evidence<'_>, token: TokenId) {
        let (mut followers, mut levels) =
            (std::mem::take(&mut self.followers), std::mem::take(&mut self.levels));
        levels.clear();
        let mut untrusted = 1.0;
        self.each_level(evidence, &mut followers, |level, followers| {
            let trust = self.cells[level.cell].trust();
            let follower = followers.iter().find(|follower| follower.token == token);
            let share = follower.map_or(0.0, |follower| follower.counts[level.source] / level.count);
            levels.push((level.cell, level.source, untrusted * trust * share));
            untrusted *= 1.0 - trust;
        });
        let mut reached = untrusted * UNKNOWN;
        let all = reached + levels.iter().map(|&(_, _, made)| made).sum::<f32>();
        for &(cell, source, made) in levels.iter().rev() {
            reached += made;
            self.cells[cell].learn(reached / all, made / all);
            if let Some(context) = source.checked_sub(SOURCES)
                && let Some(runners_up) = evidence.runners_up[context]
                && let Some(rank) = runners_up.iter().position(|&other| other == token)
            {
                self.ranks[context][rank] += made / all;
            }
        }
        (self.followers, self.levels) = (followers, levels);
    }

    /// Adds what `other` has learned since it was cloned from `origin`.
    pub(crate) fn join(&mut self, other: &Self, origin: &Self) {
        for ((cell, after), before) in self.cells.iter_mut().zip(&other.cells).zip(&origin.cells) {
            // A cell that forgot meanwhile knows less than it did: then nothing is known to be new.
            cell.learn((after.reached - before.reached).max(0.0), (after.made - before.made).max(0.0));
        }
        for ((ranks, after), before) in self.ranks.iter_mut().zip(&other.ranks).zip(&origin.ranks) {
            for ((rank, after), before) in ranks.iter_mut().zip(after).zip(before) {
                *rank += after - before;
            }
        }
    }

    /// As bytes for a file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let cells = self.cells.iter().flat_map(|cell| [cell.reached, cell.made]);
        let numbers = cells.chain(self.ranks.iter().flatten().copied());
        numbers.flat_map(f32::to_le_bytes).collect()
    }

    /// What [`Trust::to_bytes`] gave, now or when fewer sources or lengths were told apart; `None` for anything else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, []) = bytes.as_chunks::<4>() else { return None };
        let (newer, lengths) = VERSIONS
            .into_iter()
            .find(|&(newer, lengths)| numbers.len() == numbers_of(SOURCES - newer.len(), lengths))?;
        let mut numbers = numbers.iter();
        let mut trust = Self::default();
        for (kind, cells) in trust.cells.chunks_exact_mut(LENGTHS * CELLS_OF_A_LENGTH).enumerate() {
            if newer.contains(&kind) {
                continue;
            }
            for cell in &mut cells[..lengths * CELLS_OF_A_LENGTH] {
                *cell = Cell { reached: take(&mut numbers)?, made: take(&mut numbers)? };
                if cell.reached == 0.0 || cell.made > cell.reached {
                    return None;
                }
            }
            // The longest class stood for all that are longer.
            let longest = (lengths - 1) * CELLS_OF_A_LENGTH;
            for length in lengths..LENGTHS {
                cells.copy_within(longest..longest + CELLS_OF_A_LENGTH, length * CELLS_OF_A_LENGTH);
            }
        }
        for rank in trust.ranks.iter_mut().flatten() {
            *rank = take(&mut numbers).filter(|&rank| rank > 0.0)?;
        }
        Some(trust)
    }

    /// Calls `visit` with each level, the most specific first, and with the followers known until then.
    fn each_level(
        &self,
        evidence: &Evidence<'_>,
        followers: &mut Vec<Follower>,
        mut visit: impl FnMut(Level, &mut [Follower]),
    ) {
        followers.clear();
        let mut left = evidence.occurrences;
        let mut counts = [0usize; SOURCES];
        let mut distinct = [0usize; SOURCES];
        let longest =
            left.iter().filter_map(|occurrences| occurrences.first()).map(|first| first.length).max();
        let longest_class = length_class(longest.unwrap_or(0));
        for class in (0..=longest_class).rev() {
            for source in 0..SOURCES {
                let here = left[source].iter().take_while(|here| length_class(here.length) == class).count();
                if here == 0 {
                    continue;
                }
                let (here, rest) = left[source].split_at(here);
                left[source] = rest;
                for token in here.iter().map(|here| here.token) {
                    counts[source] += 1;
                    if let Some(follower) = follower(followers, token, MAX_FOLLOWERS) {
                        distinct[source] += usize::from(follower.counts[source] == 0.0);
                        follower.counts[source] += 1.0;
                    }
                }
                let cell = cell(source, class, counts[source], distinct[source]);
                visit(Level { source, cell, count: counts[source] as f32 }, followers);
            }
            // Behind two tokens the runners-up are worth about as much as a match of two, behind one as one of one.
            let context = CONTEXTS - 1 - class.min(CONTEXTS - 1);
            if class < CONTEXTS
                && let Some(runners_up) = evidence.runners_up[context]
            {
                let ranks = &self.ranks[context];
                for (token, &count) in runners_up.into_iter().zip(ranks) {
                    if token != NO_TOKEN
                        && let Some(follower) = follower(followers, token, usize::MAX)
                    {
                        follower.counts[SOURCES + context] = count;
                    }
                }
                let kind = KINDS - CONTEXTS + context;
                let cell = cell(kind, longest_class, counts.iter().sum(), 1);
                visit(Level { source: SOURCES + context, cell, count: ranks.iter().sum() }, followers);
            }
        }
    }
}

/// Numbers in a file in which so many sources and lengths are told apart.
const fn numbers_of(sources: usize, lengths: usize) -> usize {
    (sources + CONTEXTS) * lengths * CELLS_OF_A_LENGTH * 2 + CONTEXTS * RANKS
}

/// Reads the next number of a file, if it is one that counts may have.
fn take(bytes: &mut std::slice::Iter<'_, [u8; 4]>) -> Option<f32> {
    let number = f32::from_le_bytes(*bytes.next()?);
    (number.is_finite() && number >= 0.0).then_some(number)
}

impl Cell {
    fn trust(self) -> f32 {
        self.made / self.reached
    }

    fn learn(&mut self, reached: f32, made: f32) {
        self.reached += reached;
        self.made += made;
        if self.reached > MEMORY {
            self.reached *= 0.5;
            self.made *= 0.5;
        }
    }
}

/// The follower of this token, a new one if there is none and there are fewer than `most`.
fn follower(followers: &mut Vec<Follower>, token: TokenId, most: usize) -> Option<&mut Follower> {
    let known = followers.iter().position(|follower| follower.token == token);
    let index = match known {
        Some(index) => index,
        None if followers.len() < most => {
            followers.push(Follower { token, probability: 0.0, counts: [0.0; SOURCES + CONTEXTS] });
            followers.len() - 1
        }
        None => return None,
    };
    followers.get_mut(index)
}

/// 1, 2, 3, 4, 5 to 6, 7 to 9, 10 to 15, 16 to 31, 32 to 63, more.
fn length_class(length: u8) -> usize {
    match length {
        0..=4 => usize::from(length).saturating_sub(1),
        5..=6 => 4,
        7..=9 => 5,
        10..=15 => 6,
        16..=31 => 7,
        32..=63 => 8,
        _ => 9,
    }
}

fn cell(kind: usize, length: usize, count: usize, distinct: usize) -> usize {
    let count = match count {
        0..=2 => count.saturating_sub(1),
        3..=4 => 2,
        5..=8 => 3,
        _ => 4,
    };
    ((kind * LENGTHS + length) * COUNTS.len() + count) * DISTINCT + distinct.clamp(1, DISTINCT) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{FindLimits, History as _, Log, LogWriter};

    /// Where `context` occurs in a text.
    fn occurrences(tokens: &[TokenId], context: &[TokenId]) -> Vec<Occurrence> {
        let (log, mut writer, mut found) = (Log::default(), LogWriter::default(), Vec::new());
        writer.extend(&log, tokens);
        log.view().find(context, FindLimits { most: 9, enough: 99 }, 0, &mut found);
        found.sort_unstable_by_key(|occurrence| occurrence.rank());
        found
    }

    /// The evidence of own text alone.
    fn evidence(found: &[Occurrence]) -> Evidence<'_> {
        let mut occurrences: [&[Occurrence]; SOURCES] = [&[]; SOURCES];
        occurrences[OWN] = found;
        Evidence { occurrences, runners_up: [None; CONTEXTS] }
    }

    fn probabilities(trust: &mut Trust, evidence: &Evidence<'_>) -> Vec<(TokenId, f32)> {
        trust.estimate(evidence).iter().map(|follower| (follower.token, follower.probability)).collect()
    }

    #[test]
    fn an_estimate_is_the_mixture_of_its_levels() {
        let found = occurrences(&[1, 2, 3, 9, 2, 4, 5, 2, 4, 1, 2], &[1, 2]);
        let mut trust = Trust::default();
        // Once "1 2" was followed, by 3; three times "2" was, once by 3 and twice by 4.
        let (one, three) = (trust.cells[cell(OWN, 1, 1, 1)].trust(), trust.cells[cell(OWN, 0, 3, 2)].trust());
        let expected = [(3, one + (1.0 - one) * three / 3.0), (4, (1.0 - one) * three * 2.0 / 3.0)];
        let estimated = probabilities(&mut trust, &evidence(&found));
        for ((token, probability), expected) in estimated.into_iter().zip(expected) {
            assert_eq!(token, expected.0);
            assert!((probability - expected.1).abs() < 1e-6, "{token}: {probability} {}", expected.1);
        }
    }

    #[test]
    fn trust_goes_to_the_levels_that_are_right() {
        let found = occurrences(&[1, 2, 3, 9, 2, 4, 5, 2, 4, 1, 2], &[1, 2]);
        let evidence = evidence(&found);
        for (truth, other) in [(3, 4), (4, 3)] {
            let mut trust = Trust::default();
            let before = probabilities(&mut trust, &evidence);
            for _ in 0..100 {
                trust.learn(&evidence, truth);
            }
            let after = probabilities(&mut trust, &evidence);
            let of = |all: &[(TokenId, f32)], token| all.iter().find(|(t, _)| *t == token).unwrap().1;
            assert!(of(&after, truth) > of(&before, truth), "{truth}: {after:?}");
            let ratio = |all: &[(TokenId, f32)]| of(all, truth) / of(all, other);
            assert!(ratio(&after) > ratio(&before), "{truth}: {after:?}");
        }
    }

    #[test]
    fn what_was_never_right_is_not_trusted() {
        let found = occurrences(&[1, 2, 3, 1, 2], &[1, 2]);
        let evidence = evidence(&found);
        let mut trust = Trust::default();
        for _ in 0..100 {
            trust.learn(&evidence, 77);
        }
        let sum: f32 = probabilities(&mut trust, &evidence).iter().map(|(_, probability)| probability).sum();
        assert!(sum < 0.1, "{sum}");
    }

    #[test]
    fn a_joined_trust_has_learned_what_both_did() {
        let found = occurrences(&[1, 2, 3, 1, 2], &[1, 2]);
        let evidence = evidence(&found);
        let origin = Trust::default();
        let (mut a, mut b, mut both) = (origin.clone(), origin.clone(), origin.clone());
        for _ in 0..10 {
            a.learn(&evidence, 3);
            b.learn(&evidence, 7);
        }
        both.join(&a, &origin);
        both.join(&b, &origin);
        let [p_a, p_b, p_both] =
            [&mut a, &mut b, &mut both].map(|trust| probabilities(trust, &evidence)[0].1);
        assert!(p_b < p_both && p_both < p_a, "{p_b} {p_both} {p_a}");
    }

    #[test]
    fn trust_is_read_back_as_it_was_and_nothing_else_is_read() {
        let found = occurrences(&[1, 2, 3, 1, 2], &[1, 2]);
        let mut trust = Trust::default();
        for token in [3, 3, 9, 3] {
            trust.learn(&evidence(&found), token);
        }
        let bytes = trust.to_bytes();
        assert_eq!(Trust::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        // As it was written before there were all sources.
        for (newer, _) in VERSIONS.into_iter().filter(|(_, lengths)| *lengths == LENGTHS) {
            let kinds = bytes.chunks(LENGTHS * CELLS_OF_A_LENGTH * 8).enumerate();
            let former: Vec<u8> =
                kinds.filter(|(kind, _)| !newer.contains(kind)).flat_map(|(_, kind)| kind.to_vec()).collect();
            assert_eq!(Trust::from_bytes(&former).unwrap().to_bytes(), bytes);
        }
        assert!(Trust::from_bytes(&bytes[1..]).is_none() && Trust::from_bytes(&[]).is_none());
        for number in [f32::NAN, -1.0, f32::INFINITY, 0.0] {
            let mut bad = bytes.clone();
            bad[..4].copy_from_slice(&number.to_le_bytes());
            assert!(Trust::from_bytes(&bad).is_none(), "{number}");
        }
    }
}
