//! Thinking before an answer that follows a grammar: the grammar begins where the thinking has ended.

use std::sync::Arc;
use std::time::Instant;

use lookahead_engine::{Constraint, ConstraintError, Scout, allow, forbid};
use lookahead_model::{ReasoningFormat, TokenId, tokenizer::Tokenizer};

/// The tokens that a model's thinking stands between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinkingTokens {
    /// What an answer that thinks begins with, where that is one token.
    open: Option<TokenId>,
    close: TokenId,
    /// Line breaks that may stand between thinking and answer.
    breaks: Vec<TokenId>,
    /// Tokens that end an answer.
    ends: Vec<TokenId>,
    masks: Masks,
}

/// What may follow in thinking: a bit for each token. All answers of a model share them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Masks {
    all: Arc<[u32]>,
    /// While an answer is to follow, nothing ends it before.
    all_but_ends: Arc<[u32]>,
    only_close: Arc<[u32]>,
}

impl Masks {
    fn new(vocabulary_size: usize, close: TokenId, ends: &[TokenId]) -> Self {
        let words = vocabulary_size.div_ceil(32);
        let all = vec![u32::MAX; words];
        let mut all_but_ends = all.clone();
        for &end in ends {
            forbid(&mut all_but_ends, end);
        }
        let mut only_close = vec![0; words];
        allow(&mut only_close, close);
        Self { all: all.into(), all_but_ends: all_but_ends.into(), only_close: only_close.into() }
    }
}

impl ThinkingTokens {
    /// The tokens of a format in a model whose logits are `vocabulary_size` wide. `None` if thinking does not end with a
    /// token of its own: then nothing can tell its end in time.
    pub fn new(tokenizer: &Tokenizer, vocabulary_size: usize, format: ReasoningFormat) -> Option<Self> {
        let known = tokenizer.vocabulary_size().min(vocabulary_size) as TokenId;
        let named = |name: &str| (0..known).find(|&id| tokenizer.token_bytes(id) == name.as_bytes());
        let (open, close) = (named(format.open), named(format.close)?);
        let breaks = ["\n", "\n\n"].into_iter().filter_map(named).collect();
        let ends = tokenizer.end_of_generation().to_vec();
        let masks = Masks::new(vocabulary_size, close, &ends);
        Some(Self { open, close, breaks, ends, masks })
    }
}

/// A constraint on what stands behind a model's thinking, and on the length of that.
pub struct ThinkFirst {
    places: Places,
    answer: Option<Box<dyn Constraint>>,
    /// What may follow at a place where two rules meet.
    joined: Vec<u32>,
}

/// Tells where a completion is.
#[derive(Clone, Debug)]
struct Places {
    tokens: ThinkingTokens,
    /// Whether the prompt has ended inside thinking.
    is_open: bool,
    /// Tokens that the model may think, at most.
    budget: usize,
    has_answer: bool,
}

/// Where a completion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the beginning, where thinking may begin, or the answer.
    Beginning,
    Thinking {
        is_over_budget: bool,
    },
    /// Right behind thinking.
    Behind {
        from: usize,
    },
    /// In the answer, which begins at a token.
    Answer {
        from: usize,
    },
}

impl ThinkFirst {
    /// Of an answer that follows `answer`, if anything, behind up to `budget` tokens of thinking. `is_open` says that the
    /// prompt has ended inside thinking.
    pub fn new(
        tokens: &ThinkingTokens,
        is_open: bool,
        budget: Option<usize>,
        answer: Option<Box<dyn Constraint>>,
    ) -> Self {
        let (budget, has_answer) = (budget.unwrap_or(usize::MAX), answer.is_some());
        let places = Places { tokens: tokens.clone(), is_open, budget, has_answer };
        Self { places, answer, joined: Vec::new() }
    }
}

impl Places {
    /// Where `completion` is; of that alone.
    fn of(&self, completion: &[TokenId]) -> Place {
        let begun = match (self.is_open, completion.first()) {
            (true, _) => 0,
            (false, None) => return Place::Beginning,
            (false, first) if first.copied() == self.tokens.open => 1,
            // An answer may begin with the end of thinking that it does without.
            (false, Some(first)) if *first == self.tokens.close => 0,
            (false, Some(_)) => return Place::Answer { from: 0 },
        };
        match completion[begun..].iter().position(|&id| id == self.tokens.close) {
            None => Place::Thinking { is_over_budget: completion.len() - begun >= self.budget },
            Some(thoughts) => {
                let from = begun + thoughts + 1;
                match completion.get(from) {
                    None => Place::Behind { from },
                    Some(first) if self.tokens.breaks.contains(first) => Place::Answer { from: from + 1 },
                    Some(_) => Place::Answer { from },
                }
            }
        }
    }
}

impl Constraint for ThinkFirst {
    fn allowed(&mut self, completion: &[TokenId]) -> Result<&[u32], ConstraintError> {
        let (place, masks) = (self.places.of(completion), &self.places.tokens.masks);
        let from = match place {
            Place::Thinking { is_over_budget: true } => return Ok(&masks.only_close),
            Place::Thinking { is_over_budget: false } if self.answer.is_some() => {
                return Ok(&masks.all_but_ends);
            }
            Place::Thinking { is_over_budget: false } => return Ok(&masks.all),
            Place::Beginning => 0,
            Place::Behind { from } | Place::Answer { from } => from,
        };
        let Some(answer) = &mut self.answer else { return Ok(&masks.all) };
        let allowed = answer.allowed(&completion[from..])?;
        let marks = &self.places.tokens;
        let (more, close) = match place {
            Place::Beginning => (marks.open.as_slice(), Some(marks.close)),
            Place::Behind { .. } => (marks.breaks.as_slice(), None),
            Place::Thinking { .. } | Place::Answer { .. } => return Ok(allowed),
        };
        self.joined.clear();
        self.joined.extend_from_slice(allowed);
        for id in more.iter().copied().chain(close) {
            allow(&mut self.joined, id);
        }
        Ok(&self.joined)
    }

    fn scout(&mut self) -> Box<dyn Scout> {
        let answer = self.answer.as_mut().map(|answer| answer.scout());
        Box::new(ThinkFirstScout { places: self.places.clone(), answer })
    }
}

struct ThinkFirstScout {
    places: Places,
    answer: Option<Box<dyn Scout>>,
}

impl Scout for ThinkFirstScout {
    fn forced(&mut self, completion: &[TokenId], until: Instant) -> Vec<TokenId> {
        match (self.places.of(completion), &mut self.answer) {
            (Place::Thinking { is_over_budget: true }, _) => vec![self.places.tokens.close],
            (Place::Answer { from }, Some(answer)) => answer.forced(&completion[from..], until),
            _ => Vec::new(),
        }
    }

    fn accepted(&mut self, completion: &[TokenId], tokens: &[TokenId], until: Instant) -> usize {
        if let (Place::Answer { from }, Some(answer)) = (self.places.of(completion), &mut self.answer) {
            return answer.accepted(&completion[from..], tokens, until); // nothing of it is copied
        }
        let path = [completion, tokens].concat();
        let begun = completion.len();
        for at in begun..path.len() {
            let next = path[at];
            let marks = &self.places.tokens;
            let from = match self.places.of(&path[..at]) {
                Place::Thinking { is_over_budget } => {
                    if (is_over_budget && next != marks.close)
                        || (self.places.has_answer && marks.ends.contains(&next))
                    {
                        return at - begun;
                    }
                    continue;
                }
                Place::Beginning if Some(next) == marks.open || next == marks.close => continue,
                Place::Behind { .. } if marks.breaks.contains(&next) => continue,
                Place::Beginning => 0,
                Place::Behind { from } | Place::Answer { from } => from,
            };
            let Some(answer) = &mut self.answer else { break };
            return at - begun + answer.accepted(&path[from..at], &path[at..], until);
        }
        tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lookahead_engine::allows;

    use super::*;

    const OPEN: TokenId = 1;
    const CLOSE: TokenId = 2;
    const BREAK: TokenId = 3;
    const END: TokenId = 4;

    fn tokens() -> ThinkingTokens {
        let (breaks, ends) = (vec![BREAK], vec![END]);
        let masks = Masks::new(40, CLOSE, &ends);
        ThinkingTokens { open: Some(OPEN), close: CLOSE, breaks, ends, masks }
    }

    /// Answers are 10, 11, … and the end behind three of them.
    struct Counting(Vec<u32>);

    fn next(completion: &[TokenId]) -> TokenId {
        if completion.len() < 3 { 10 + completion.len() as TokenId } else { END }
    }

    impl Constraint for Counting {
        fn allowed(&mut self, completion: &[TokenId]) -> Result<&[u32], ConstraintError> {
            self.0 = vec![0; 2];
            allow(&mut self.0, next(completion));
            Ok(&self.0)
        }

        fn scout(&mut self) -> Box<dyn Scout> {
            Box::new(CountingScout)
        }
    }

    struct CountingScout;

    impl Scout for CountingScout {
        fn forced(&mut self, completion: &[TokenId], _until: Instant) -> Vec<TokenId> {
            vec![next(completion)]
        }

        fn accepted(&mut self, completion: &[TokenId], tokens: &[TokenId], _until: Instant) -> usize {
            let mut path = completion.to_vec();
            let accepted = tokens.iter().take_while(|&&token| {
                let fits = token == next(&path);
                path.push(token);
                fits
            });
            accepted.count()
        }
    }

    fn counting(is_open: bool, budget: Option<usize>) -> ThinkFirst {
        ThinkFirst::new(&tokens(), is_open, budget, Some(Box::new(Counting(Vec::new()))))
    }

    fn allowed(constraint: &mut ThinkFirst, completion: &[TokenId]) -> Vec<TokenId> {
        let mask = constraint.allowed(completion).unwrap();
        (0..40).filter(|&id| allows(mask, id)).collect()
    }

    #[test]
    fn the_answer_follows_its_rules_behind_the_thinking() {
        let mut constraint = counting(false, None);
        let all_but_end: Vec<TokenId> = (0..40).filter(|&id| id != END).collect();
        for (completion, expected) in [
            (&[][..], &[OPEN, CLOSE, 10][..]),
            (&[CLOSE], &[BREAK, 10]),
            (&[CLOSE, 10], &[11]),
            (&[10], &[11]),
            (&[10, OPEN], &[12]),
            (&[OPEN], &all_but_end),
            (&[OPEN, 10, 20], &all_but_end),
            (&[OPEN, 10, CLOSE], &[BREAK, 10]),
            (&[OPEN, 10, CLOSE, BREAK], &[10]),
            (&[OPEN, 10, CLOSE, 10], &[11]),
            (&[OPEN, CLOSE, BREAK, 10, 11, 12], &[END]),
        ] {
            assert_eq!(allowed(&mut constraint, completion), expected, "{completion:?}");
        }
        assert_eq!(allowed(&mut counting(true, None), &[]), all_but_end, "the prompt has opened it");
    }

    #[test]
    fn thinking_is_closed_where_its_budget_ends() {
        let mut constraint = counting(true, Some(2));
        assert_eq!(allowed(&mut constraint, &[20]).len(), 39);
        assert_eq!(allowed(&mut constraint, &[20, 21]), [CLOSE]);
        assert_eq!(allowed(&mut constraint, &[20, 21, CLOSE]), [BREAK, 10]);
        assert_eq!(allowed(&mut counting(false, Some(0)), &[OPEN]), [CLOSE]);
        let mut free = ThinkFirst::new(&tokens(), true, Some(2), None);
        assert_eq!(allowed(&mut free, &[20]).len(), 40);
        assert_eq!(allowed(&mut free, &[20, 21]), [CLOSE]);
        assert_eq!(allowed(&mut free, &[20, CLOSE]).len(), 40);
    }

    /// A scout must say what the constraint does, or drafts are lost.
    #[test]
    fn the_scout_agrees_with_the_constraint() {
        let until = Instant::now() + Duration::from_secs(100);
        for (is_open, budget) in [(false, None), (true, None), (true, Some(2)), (false, Some(1))] {
            let mut constraint = counting(is_open, budget);
            let mut scout = constraint.scout();
            for path in [
                &[OPEN, 20, CLOSE, BREAK, 10, 11, 12, END][..],
                &[20, 21, CLOSE, 10, 11, 12, END],
                &[20, 21, 22, CLOSE],
                &[10, 11, 12, END],
                &[OPEN, END],
                &[OPEN, CLOSE, 11],
                &[CLOSE, BREAK, 10, 11, 12, END],
            ] {
                for begun in 0..path.len() {
                    let fits = |&at: &usize| allowed(&mut constraint, &path[..at]).contains(&path[at]);
                    let expected = (begun..path.len()).take_while(fits).count();
                    let accepted = scout.accepted(&path[..begun], &path[begun..], until);
                    assert_eq!(
                        accepted, expected,
                        "{path:?} from {begun}, open {is_open}, budget {budget:?}"
                    );
                }
            }
        }
        let mut scout = counting(true, Some(1)).scout();
        assert_eq!(scout.forced(&[20], until), [CLOSE]);
        assert_eq!(scout.forced(&[CLOSE, BREAK, 10], until), [11]);
        assert!(scout.forced(&[CLOSE], until).is_empty());
    }
}
