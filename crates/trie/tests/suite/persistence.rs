//! What is kept in files: nothing that was finished is lost, whatever ends the program.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lookahead_trie::{
    Corpus, CorpusBuilder, DraftParams, DraftTree, FileProblem, Namespace, Sharing, TokenId, TrieError,
};

const FINGERPRINT: u64 = 7;
const MAX_BYTES: usize = 64 << 20;

fn open(path: &Path) -> Namespace {
    Namespace::open(path, FINGERPRINT, MAX_BYTES).unwrap()
}

/// Serves a request whose answer is `output`.
fn serve(namespace: &Namespace, output: &[TokenId]) {
    let mut request = namespace.begin(&[1], &[], Sharing::ReadWrite);
    for tokens in output.chunks(8) {
        namespace.draft(&mut request, &DraftParams::default());
        request.observe(&[5, tokens[0]], [1, 2, 3, 4, 5, 6, 7, 8]);
        namespace.accept(&mut request, tokens);
    }
    namespace.finish(request).unwrap();
}

fn draft(namespace: &Namespace, prompt: &[TokenId]) -> DraftTree {
    let mut request = namespace.begin(prompt, &[], Sharing::Read);
    let params = DraftParams { nodes: 8, min_probability: 0.0, ..DraftParams::default() };
    namespace.draft(&mut request, &params).clone()
}

/// All answers in the files.
fn answers(path: &Path) -> Vec<Vec<TokenId>> {
    let corpus = Corpus::open(path, Some(FINGERPRINT)).unwrap();
    corpus.check().unwrap();
    corpus.texts().chain(corpus.journaled().unwrap()).collect()
}

/// How often the file was rewritten.
fn generation(path: &Path) -> u64 {
    fs::read(path).map_or(0, |bytes| u64::from_le_bytes(*bytes[24..].first_chunk().unwrap()))
}

fn answer(n: u32, len: u32) -> Vec<TokenId> {
    (0..len).map(|index| n * 1000 + index).collect()
}

#[test]
fn what_was_finished_is_there_the_next_time_saved_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.trie");
    for n in 0..6 {
        let namespace = open(&path);
        assert!(namespace.is_saved());
        for earlier in 0..n {
            let known = answer(earlier, 40);
            assert!(draft(&namespace, &known[..3]).tokens().contains(&known[3]), "{earlier} of {n}");
        }
        serve(&namespace, &answer(n, 40));
        if n % 2 == 1 {
            namespace.save().unwrap();
        }
        // What it drafts, and how likely it finds that, is as before when it is opened again.
        let before = draft(&namespace, &answer(n, 3));
        let is_saved = n % 2 == 1;
        drop(namespace);
        let after = draft(&open(&path), &answer(n, 3));
        assert_eq!(before.tokens(), after.tokens());
        if is_saved {
            assert_eq!(before, after);
        }
    }
}

#[test]
fn a_file_is_rewritten_when_its_journal_has_grown_and_not_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.trie");
    let namespace = open(&path);
    namespace.save().unwrap();
    assert!(!path.exists(), "there is nothing to keep");
    serve(&namespace, &answer(1, 100));
    namespace.save().unwrap();
    let first = fs::read(&path).unwrap();
    assert_eq!(generation(&path), 1);
    serve(&namespace, &answer(2, 100));
    namespace.save().unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    for n in 3..300 {
        serve(&namespace, &answer(n, 900));
    }
    namespace.save().unwrap();
    assert_eq!(generation(&path), 2);
    assert!(Corpus::open(&path, None).unwrap().journaled().unwrap().is_empty());
    let expected: Vec<_> =
        [1, 2].map(|n| answer(n, 100)).into_iter().chain((3..300).map(|n| answer(n, 900))).collect();
    assert_eq!(answers(&path), expected);
    let leftovers = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(leftovers, 2, "the file and its journal");
}

#[test]
fn a_request_that_ended_before_its_first_token_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.trie");
    let namespace = Namespace::open(&path, FINGERPRINT, 4 << 20).unwrap();
    namespace.finish(namespace.begin(&[1, 2], &[], Sharing::ReadWrite)).unwrap();
    assert_eq!(namespace.stats().tokens, 0);
    serve(&namespace, &[5, 6, 7]);
    namespace.save().unwrap();
    assert_eq!(answers(&path), [[5, 6, 7]]);
}

#[test]
fn a_file_keeps_the_newest_texts_within_the_bound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.trie");
    for _ in 0..4 {
        let namespace = Namespace::open(&path, FINGERPRINT, 4 << 20).unwrap();
        for n in 0..200 {
            serve(&namespace, &answer(n, 900));
        }
        namespace.save().unwrap();
        assert!(namespace.stats().bytes < 8 << 20);
    }
    let bytes = fs::metadata(&path).unwrap().len();
    assert!(bytes < 4 << 20, "{bytes}");
    assert_eq!(answers(&path).last().unwrap(), &answer(199, 900));
}

#[test]
fn texts_that_memory_has_no_room_for_are_whole_in_the_file_until_it_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.trie");
    let max_bytes = 4 << 20;
    let namespace = Namespace::open(&path, FINGERPRINT, max_bytes).unwrap();
    // About half of what comes is new, as in real text.
    let texts: Vec<Vec<TokenId>> =
        (0..1_000).map(|n| (0..500).map(|i| if i < 250 { i } else { n * 500 + i }).collect()).collect();
    for (n, text) in texts.iter().enumerate() {
        namespace.warm_up(text).unwrap();
        if n == 60 || n == 999 {
            namespace.save().unwrap();
        }
    }
    let kept = answers(&path);
    let (cut, whole) = kept.split_first().unwrap();
    assert!(whole.len() > 80, "{}", whole.len());
    assert_eq!(whole, &texts[1_000 - whole.len()..], "the newest, and all between the oldest and them");
    assert!(texts[999 - whole.len()].ends_with(cut));
}

#[test]
fn a_second_program_reads_what_is_there_and_keeps_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.trie");
    let first = open(&path);
    serve(&first, &answer(1, 20));
    first.save().unwrap();
    serve(&first, &answer(2, 20));
    let second = open(&path);
    assert!(first.is_saved() && !second.is_saved());
    for n in [1, 2] {
        assert_eq!(draft(&second, &answer(n, 3)).tokens(), draft(&first, &answer(n, 3)).tokens());
        assert!(draft(&second, &answer(n, 3)).len() > 1);
    }
    serve(&second, &answer(3, 20));
    second.save().unwrap();
    assert!(draft(&second, &answer(3, 3)).len() > 1, "it knows what it learned while it runs");
    drop((first, second));
    assert_eq!(answers(&path), [answer(1, 20), answer(2, 20)]);
}

#[test]
fn files_that_cannot_be_used_are_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.trie");
    let namespace = open(&path);
    serve(&namespace, &answer(1, 20));
    namespace.save().unwrap();
    drop(namespace);
    let good = fs::read(&path).unwrap();
    let problem = |content: &[u8], fingerprint| {
        fs::write(&path, content).unwrap();
        let Err(TrieError::File { path: named, problem }) = Namespace::open(&path, fingerprint, MAX_BYTES)
        else {
            panic!("it opens")
        };
        assert_eq!(named.file_name(), path.file_name());
        assert_eq!(fs::read(&path).unwrap(), content);
        problem
    };
    assert!(matches!(problem(&good, 8), FileProblem::Fingerprint { found: 7, expected: 8 }));
    assert!(matches!(problem(&good[..good.len() / 2], 7), FileProblem::Truncated { .. }));
    assert!(matches!(problem(b"something else", 7), FileProblem::NotADraftFile));
    let mut trust = good.clone();
    let last = trust.len() - 1;
    trust[last] ^= 1;
    assert!(matches!(problem(&trust, 7), FileProblem::Checksum("runners-up")));
    fs::write(&path, &good).unwrap();
    let journal = PathBuf::from(format!("{}.journal", path.display()));
    fs::write(&journal, "something else, and long enough to be a journal").unwrap();
    let error = Namespace::open(&path, 7, MAX_BYTES).err().unwrap().to_string();
    assert!(error.contains("d.trie.journal: not a journal"), "{error}");
}

#[test]
fn a_journal_that_cannot_be_used_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.trie");
    let journal = directory.path().join("d.trie.journal");
    let namespace = open(&path);
    serve(&namespace, &answer(1, 20));
    drop(namespace);
    let good = fs::read(&journal).unwrap();
    let problem = |content: &[u8], fingerprint| {
        fs::write(&journal, content).unwrap();
        let Err(TrieError::File { path: named, problem }) = Namespace::open(&path, fingerprint, MAX_BYTES)
        else {
            panic!("it opens")
        };
        assert_eq!(named.file_name(), journal.file_name());
        assert_eq!(fs::read(&journal).unwrap(), content);
        assert!(!path.exists());
        problem
    };
    assert!(matches!(problem(&good, 8), FileProblem::Fingerprint { found: 7, expected: 8 }));
    assert!(matches!(problem(&[b'x'; 100], 7), FileProblem::NotAJournal));
    let mut changed = good.clone();
    changed[20] ^= 1;
    assert!(matches!(problem(&changed, 7), FileProblem::Checksum("header")));
    changed = good.clone();
    changed[8] = 9;
    assert!(matches!(problem(&changed, 7), FileProblem::Version { found: 9, supported: 1 }));
    // A record that is damaged is where what can be known ends.
    changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&journal, &changed).unwrap();
    let namespace = open(&path);
    assert_eq!(draft(&namespace, &answer(1, 3)).len(), 1);
    serve(&namespace, &answer(2, 20));
    drop(namespace);
    assert!(draft(&open(&path), &answer(2, 3)).len() > 1);
}

/// An answer that no other is like.
fn numbered(n: u32) -> [TokenId; 30] {
    std::array::from_fn(|index| n + 1_000_000 * index as TokenId)
}

/// Serves such an answer, with so many runners-up that the file is rewritten every few answers. No answer has the prompt's token.
fn serve_with_runners_up(namespace: &Namespace, n: u32) {
    let mut request = namespace.begin(&[800_000_000], &[], Sharing::ReadWrite);
    for context in 0..2_000 {
        request.observe(&[900_000_000 + n % 8, 900_000_100 + context], [n; 8]);
    }
    namespace.accept(&mut request, &numbered(n));
    namespace.finish(request).unwrap();
}

#[test]
fn programs_that_take_turns_lose_nothing_of_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = &directory.path().join("d.trie");
    std::thread::scope(|scope| {
        for first in [0, 1, 2] {
            scope.spawn(move || {
                for turn in (first..60).step_by(3) {
                    let namespace = std::iter::repeat_with(|| open(path)).find(Namespace::is_saved).unwrap();
                    // Enough for the file to be rewritten in every turn.
                    for n in 12 * turn..12 * (turn + 1) {
                        serve_with_runners_up(&namespace, n);
                    }
                    namespace.save().unwrap();
                }
            });
        }
    });
    let mut kept: Vec<TokenId> = answers(path).iter().map(|answer| answer[0]).collect();
    kept.sort_unstable();
    assert_eq!(kept, (0..720).collect::<Vec<_>>());
}

/// What the killed process runs: it serves numbered answers, says so when each is finished, and saves now and then.
#[test]
fn child_that_is_killed() {
    let Ok(path) = std::env::var("LOOKAHEAD_CRASH_TEST_FILE") else { return };
    let namespace = open(Path::new(&path));
    assert!(namespace.is_saved(), "the lock of a killed process is gone");
    let mut stdout = std::io::stdout().lock();
    for n in namespace.stats().tokens as u32.. {
        serve_with_runners_up(&namespace, n);
        writeln!(stdout, "finished {n}").unwrap();
        stdout.flush().unwrap();
        if n % 3 == 0 {
            namespace.save().unwrap();
        }
    }
}

#[test]
fn a_process_killed_at_any_moment_has_lost_nothing_that_it_finished() {
    let program = std::env::current_exe().unwrap();
    let (mut kills, mut all_finished, mut generations) = (0, 0, 0);
    let mut seed = u64::from(std::process::id());
    while kills < 200 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.trie");
        let mut finished = Vec::new();
        for _ in 0..25 {
            let mut child = Command::new(&program)
                .args(["persistence::child_that_is_killed", "--exact", "--nocapture"])
                .env("LOOKAHEAD_CRASH_TEST_FILE", &path)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_micros((seed >> 33) % 100_000));
            child.kill().unwrap();
            let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            finished.extend(said.filter_map(|line| line.strip_prefix("finished ")?.parse::<u32>().ok()));
            child.wait().unwrap();
            kills += 1;

            let namespace = open(&path);
            assert!(namespace.is_saved());
            if let Some(&last) = finished.last() {
                let known = draft(&namespace, &[last]);
                assert_eq!(known.tokens().get(1), Some(&(last + 1_000_000)), "answer {last} of kill {kills}");
            }
            if !path.exists() {
                namespace.save().unwrap();
            }
            drop(namespace);
            let kept: Vec<Vec<TokenId>> = if path.exists() { answers(&path) } else { Vec::new() };
            for n in &finished {
                let copies = kept.iter().filter(|kept| kept[..] == numbered(*n)).count();
                assert_eq!(copies, 1, "answer {n} of kill {kills}");
            }
        }
        all_finished += finished.len();
        generations += generation(&path);
    }
    // How often depends on the machine; some kills must fall into it.
    assert!(generations > 5, "the file was rewritten {generations} times only");
    println!("{kills} kills, {all_finished} answers, {generations} generations of files");
}

#[test]
fn a_corpus_takes_no_more_than_it_may_in_memory_and_in_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let max_bytes = 300_000;
    let mut corpus = CorpusBuilder::default();
    let text = |number: u32| (0..100).map(|token| token * 31 % (number + 7)).collect::<Vec<_>>();
    let added = (0..1_000_000).take_while(|&number| corpus.add_within(&text(number), max_bytes)).count();
    assert!(added > 10, "{added}");
    assert!(
        !corpus.add_within(&(0..1_000_000).collect::<Vec<_>>(), max_bytes),
        "a text is not added piece by piece"
    );
    let written = corpus.write(&directory.path().join("corpus"), 7).unwrap();
    assert!(
        (max_bytes as u64 / 4..max_bytes as u64 + 1000).contains(&written.bytes()),
        "{}",
        written.bytes()
    );
}
