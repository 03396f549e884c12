//! Any file of drafts and any journal: both are refused with an error that names them, or drafts come from them and they can be
//! written anew. It never panics.
//!
//! Input: flags (one byte), the length of the file (two bytes), the file, then its journal. With flag 1 the rest is no file but
//! texts and changes: a good file and its journal are made of those, and changed. With flag 2 the checksums of headers, trust
//! and runners-up are made to match whatever they now stand for.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use lookahead_trie::{Corpus, CorpusBuilder, DraftParams, Namespace, RANKS, Sharing, TokenId, TrieError};

const FINGERPRINT: u64 = 7;
const MAX_BYTES: usize = 4 << 20;

/// Where the header of a file of drafts has its checksum, and ends.
const CHECKSUM_AT: usize = 12;
const HEADER_BYTES: usize = 232;

/// Where that of a journal does.
const JOURNAL_HEADER_BYTES: usize = 32;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[flags, low, high], rest)) = bytes.split_first_chunk() else { return };
    let split = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (first, second) = rest.split_at(split);

    let directory = temporary_directory();
    let path = directory.path().join("fuzz.trie");
    let journal = directory.path().join("fuzz.trie.journal");
    let (mut file_bytes, mut journal_bytes) = (first.to_vec(), second.to_vec());
    if flags & 1 != 0 {
        write_good_files(&path, first);
        (file_bytes, journal_bytes) = (fs::read(&path).unwrap(), fs::read(&journal).unwrap());
        change(&mut file_bytes, &mut journal_bytes, second);
    }
    if flags & 2 != 0 {
        repair_file(&mut file_bytes);
        repair_journal(&mut journal_bytes);
    }
    fs::write(&path, &file_bytes).unwrap();
    fs::write(&journal, &journal_bytes).unwrap();

    read(&path, &tokens(rest));
    fs::write(&path, file_bytes).unwrap();
    serve(&path, &tokens(rest));
});

/// Reads the file as a corpus.
fn read(path: &Path, tokens: &[TokenId]) {
    let corpus = match Corpus::open(path, None) {
        Ok(corpus) => corpus,
        Err(error) => return check_message(&error),
    };
    if let Err(error) = corpus.check() {
        check_message(&error);
    }
    let in_texts: usize = corpus.texts().map(|text| text.len()).sum();
    assert!(in_texts as u64 <= corpus.tokens() && corpus.tokens() * 4 <= corpus.bytes());
    if let Err(error) = corpus.journaled() {
        check_message(&error);
    }
    let namespace = Namespace::new(MAX_BYTES).unwrap();
    match namespace.add_corpus("fuzz", corpus.clone()) {
        Ok(()) => draft(&namespace, tokens),
        Err(error) => check_message(&error),
    }
    let mut builder = CorpusBuilder::default();
    match builder.add_corpus(&corpus) {
        Ok(()) => builder.write(path, FINGERPRINT).unwrap().check().unwrap(),
        Err(error) => check_message(&error),
    }
}

/// Opens the file and its journal, learns something, and has them written anew.
fn serve(path: &Path, tokens: &[TokenId]) {
    let namespace = match Namespace::open(path, FINGERPRINT, MAX_BYTES) {
        Ok(namespace) => namespace,
        Err(error) => return check_message(&error),
    };
    assert!(namespace.is_saved());
    draft(&namespace, tokens);
    namespace.save().unwrap();
    drop(namespace);
    let namespace = Namespace::open(path, FINGERPRINT, MAX_BYTES).unwrap();
    draft(&namespace, tokens);
    drop(namespace);
    let corpus = Corpus::open(path, Some(FINGERPRINT)).unwrap();
    let answer = &tokens[..tokens.len().min(64)];
    let known = corpus.texts().chain(corpus.journaled().unwrap());
    assert!(answer.is_empty() || known.into_iter().any(|text| text == answer), "{answer:?} was finished");
}

/// Serves a request whose prompt and answer are `tokens`.
fn draft(namespace: &Namespace, tokens: &[TokenId]) {
    let params = DraftParams { min_probability: 0.0, ..DraftParams::default() };
    let mut request = namespace.begin(tokens, &[], Sharing::ReadWrite);
    for chunk in tokens[..tokens.len().min(64)].chunks(3) {
        let draft = namespace.draft(&mut request, &params);
        assert!(draft.len() <= params.nodes + 1);
        assert!(draft.tokens()[1..].iter().all(|&token| token != TokenId::MAX), "no token is drafted");
        request.observe(chunk, [chunk[0]; RANKS]);
        namespace.accept(&mut request, chunk);
    }
    namespace.finish(request).unwrap();
}

fn check_message(error: &TrieError) {
    let message = error.to_string();
    assert!(message.contains("fuzz.trie"), "{message}");
    assert!(!message.contains(char::is_control), "{message:?}");
}

/// Few different ones, so that some come again.
fn tokens(bytes: &[u8]) -> Vec<TokenId> {
    bytes.iter().take(256).map(|byte| u32::from(byte % 16)).collect()
}

/// A file and a journal with texts made of `bytes`.
fn write_good_files(path: &Path, bytes: &[u8]) {
    let (old, new) = bytes.split_at(bytes.len() / 2);
    let mut builder = CorpusBuilder::default();
    old.split(|&byte| byte == 0).for_each(|text| builder.add(&tokens(text)));
    builder.write(path, FINGERPRINT).unwrap();
    let namespace = Namespace::open(path, FINGERPRINT, MAX_BYTES).unwrap();
    new.split(|&byte| byte == 0).take(8).for_each(|text| draft(&namespace, &tokens(text)));
    namespace.save().unwrap();
}

/// Changes bytes: each three of `changes` are a place and what is added there.
fn change(file: &mut [u8], journal: &mut [u8], changes: &[u8]) {
    for &[low, high, add] in changes.as_chunks::<3>().0 {
        let place = usize::from(u16::from_le_bytes([low, high]));
        let (bytes, place) =
            if place % 2 == 0 { (&mut *file, place / 2) } else { (&mut *journal, place / 2) };
        if let Some(byte) = bytes.get_mut(place) {
            *byte = byte.wrapping_add(add);
        }
    }
}

fn repair_file(bytes: &mut [u8]) {
    // Trust and runners-up, the last two sections: what is read when a file is opened.
    for section in [HEADER_BYTES - 48, HEADER_BYTES - 24] {
        let number =
            |at: usize| Some(u64::from_le_bytes(*bytes.get(section + at..)?.first_chunk()?) as usize);
        let Some((offset, len)) = number(0).zip(number(8)) else { return };
        let content = bytes.get(offset..).and_then(|rest| rest.get(..len));
        let Some(checksum) = content.map(crc32fast::hash) else { continue };
        bytes[section + 16..][..4].copy_from_slice(&checksum.to_le_bytes());
    }
    let Some(header) = bytes.get_mut(..HEADER_BYTES) else { return };
    header[CHECKSUM_AT..][..4].fill(0);
    let checksum = crc32fast::hash(header);
    header[CHECKSUM_AT..][..4].copy_from_slice(&checksum.to_le_bytes());
}

fn repair_journal(bytes: &mut [u8]) {
    let Some((header, mut records)) = bytes.split_at_mut_checked(JOURNAL_HEADER_BYTES) else { return };
    let checksum = crc32fast::hash(&header[16..]);
    header[CHECKSUM_AT..][..4].copy_from_slice(&checksum.to_le_bytes());
    while let Some((head, rest)) = records.split_first_chunk_mut::<8>() {
        let len = u32::from_le_bytes(*head.first_chunk().unwrap()) as usize;
        let Some((content, rest)) = rest.split_at_mut_checked(len) else { return };
        head[4..].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
        records = rest;
    }
}

/// In memory where that is possible: a disk would wait for each file.
fn temporary_directory() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).unwrap()
}
