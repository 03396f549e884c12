//! What is kept in files: nothing that was finished is lost, whatever ends the program.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lookahead_trie::{Corpus, DraftParams, DraftTree, FileProblem, Namespace, Sharing, TokenId, TrieError};

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
        request.keep_runners_up(&[5, tokens[0]], [1, 2, 3, 4, 5, 6, 7, 8]);
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
    serve(&namespace, &answer(2, 100));
    namespace.save().unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    for n in 3..300 {
        serve(&namespace, &answer(n, 900));
    }
    namespace.save().unwrap();
    assert_ne!(fs::read(&path).unwrap(), first);
    assert!(Corpus::open(&path, None).unwrap().journaled().unwrap().is_empty());
    let expected: Vec<_> =
        [1, 2].map(|n| answer(n, 100)).into_iter().chain((3..300).map(|n| answer(n, 900))).collect();
    assert_eq!(answers(&path), expected);
    let leftovers = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(leftovers, 2, "the file and its journal");
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
    assert!(bytes < 6 << 20, "{bytes}");
    assert_eq!(answers(&path).last().unwrap(), &answer(199, 900));
}

#[test]
fn a_second_program_reads_and_keeps_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.trie");
    let first = open(&path);
    serve(&first, &answer(1, 20));
    first.save().unwrap();
    let second = open(&path);
    assert!(!second.is_saved());
    assert_eq!(draft(&second, &answer(1, 3)).tokens(), draft(&first, &answer(1, 3)).tokens());
    serve(&second, &answer(2, 20));
    second.save().unwrap();
    drop((first, second));
    assert_eq!(answers(&path), [answer(1, 20)]);
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

/// What the killed process runs: it serves numbered answers, says so when each is finished, and saves now and then.
#[test]
fn child_that_is_killed() {
    let Ok(path) = std::env::var("LOOKAHEAD_CRASH_TEST_FILE") else { return };
    let path = Path::new(&path);
    let namespace = open(path);
    assert!(namespace.is_saved(), "the lock of a killed process is gone");
    let mut stdout = std::io::stdout().lock();
    let first = namespace.stats().tokens as u32;
    for n in first.. {
        let output: Vec<TokenId> = (0..30).map(|index| n ^ (index << 12)).collect();
        let mut request = namespace.begin(&[1], &[], Sharing::ReadWrite);
        // Runners-up make the journal grow, so that the file is rewritten every few answers.
        for context in 0..2000 {
            request.keep_runners_up(&[n, context], [n; 8]);
        }
        namespace.accept(&mut request, &[n]);
        namespace.accept(&mut request, &output);
        namespace.finish(request).unwrap();
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
    let (mut kills, mut generations) = (0, HashSet::new());
    let mut seed = 1u64;
    while kills < 200 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.trie");
        let mut finished = Vec::new();
        for _ in 0..10 {
            let mut child = Command::new(&program)
                .args(["child_that_is_killed", "--exact", "--nocapture"])
                .env("LOOKAHEAD_CRASH_TEST_FILE", &path)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_micros((seed >> 33) % 150_000));
            child.kill().unwrap();
            let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            finished.extend(said.filter_map(|line| line.strip_prefix("finished ")?.parse::<u32>().ok()));
            child.wait().unwrap();
            kills += 1;

            let namespace = open(&path);
            if path.exists() {
                generations.insert(fs::metadata(&path).unwrap().modified().unwrap());
            } else {
                namespace.save().unwrap();
            }
            drop(namespace);
            let kept: Vec<TokenId> = if path.exists() {
                answers(&path).iter().map(|answer| answer[0]).collect()
            } else {
                Vec::new()
            };
            for n in &finished {
                assert_eq!(kept.iter().filter(|kept| *kept == n).count(), 1, "answer {n} of kill {kills}");
            }
        }
    }
    assert!(generations.len() > 20, "the file was rewritten {} times only", generations.len());
}
