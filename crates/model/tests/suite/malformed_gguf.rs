//! Damaged and hostile GGUF files: each is refused with an error that names the file and what is wrong in it.

use lookahead_fixtures::Golden;
use lookahead_model::architecture::Architecture;
use lookahead_model::gguf::{GgufFile, Value, Writer};
use proptest::prelude::*;

/// A GGUF file in pieces, each of which can be falsified.
struct Raw {
    magic: [u8; 4],
    version: u32,
    tensor_count: Option<u64>,
    metadata_count: Option<u64>,
    metadata: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    alignment: usize,
    data: Vec<u8>,
}

const U8: u32 = 0;
const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;

const F32: u32 = 0;
const Q8_0: u32 = 8;

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

fn entry(key: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
    [&string(key.as_bytes()), value_type.to_le_bytes().as_slice(), value].concat()
}

fn array(element_type: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [element_type.to_le_bytes().as_slice(), &count.to_le_bytes(), elements].concat()
}

fn tensor(name: &str, shape: &[u64], type_number: u32, offset: u64) -> Vec<u8> {
    let dimensions = (shape.len() as u32).to_le_bytes();
    let shape: Vec<u8> = shape.iter().flat_map(|length| length.to_le_bytes()).collect();
    let (type_number, offset) = (type_number.to_le_bytes(), offset.to_le_bytes());
    [&string(name.as_bytes()), dimensions.as_slice(), &shape, &type_number, &offset].concat()
}

impl Raw {
    /// A file without a fault: two tensors of 32 and 68 bytes, metadata of every shape.
    fn good() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            metadata_count: None,
            metadata: vec![
                entry("general.architecture", STRING, &string(b"llama")),
                entry("llama.block_count", U32, &2u32.to_le_bytes()),
                entry("flag", BOOL, &[1]),
                entry("tokens", ARRAY, &array(STRING, 2, &[string(b"a"), string(b"bc")].concat())),
                entry("bytes", ARRAY, &array(U8, 3, &[1, 2, 3])),
                entry("nested", ARRAY, &array(ARRAY, 1, &array(BOOL, 2, &[0, 1]))),
            ],
            tensors: vec![tensor("a.weight", &[4, 2], F32, 0), tensor("b.weight", &[32, 2], Q8_0, 32)],
            alignment: 32,
            data: vec![0; 128],
        }
    }

    fn with_metadata(entry: Vec<u8>) -> Vec<u8> {
        let mut raw = Self::good();
        raw.metadata.push(entry);
        raw.bytes()
    }

    fn with_alignment(alignment: u32) -> Vec<u8> {
        Self::with_metadata(entry("general.alignment", U32, &alignment.to_le_bytes()))
    }

    /// The good file with its second tensor replaced.
    fn with_tensor(entry: Vec<u8>) -> Vec<u8> {
        let mut raw = Self::good();
        raw.tensors[1] = entry;
        raw.bytes()
    }

    /// Everything before the tensor data, without padding.
    fn head(&self) -> Vec<u8> {
        let tensor_count = self.tensor_count.unwrap_or(self.tensors.len() as u64);
        let metadata_count = self.metadata_count.unwrap_or(self.metadata.len() as u64);
        let mut head = [self.magic, self.version.to_le_bytes()].concat();
        head.extend(tensor_count.to_le_bytes());
        head.extend(metadata_count.to_le_bytes());
        head.extend(self.metadata.concat());
        head.extend(self.tensors.concat());
        head
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// Name of the fault, the file that has it, and what its error must say.
type Case = (&'static str, Vec<u8>, &'static str);

fn edited(edit: impl FnOnce(&mut Raw)) -> Vec<u8> {
    let mut raw = Raw::good();
    edit(&mut raw);
    raw.bytes()
}

fn header_cases() -> Vec<Case> {
    let cut = |len: usize| Raw::good().bytes()[..len].to_vec();
    vec![
        ("empty file", vec![], "magic: the file ends early"),
        ("half a magic", cut(3), "magic: the file ends early: 4 bytes needed at offset 0, 3 left"),
        ("another format", edited(|raw| raw.magic = *b"GGML"), "not a GGUF file: it starts with \"GGML\""),
        ("binary magic", edited(|raw| raw.magic = [0, 1, 255, 10]), "it starts with \"\\x00\\x01\\xff\\n\""),
        ("no version", cut(4), "version: the file ends early"),
        ("version 0", edited(|raw| raw.version = 0), "version 0 is not supported; supported: 2, 3"),
        ("version 1", edited(|raw| raw.version = 1), "version 1 is not supported"),
        ("version 4", edited(|raw| raw.version = 4), "version 4 is not supported"),
        ("big-endian", edited(|raw| raw.version = 3u32.swap_bytes()), "big-endian GGUF is not supported"),
        ("no counts", cut(8), "tensor count: the file ends early"),
        ("half the counts", cut(20), "metadata count: the file ends early"),
        (
            "2^64 - 1 tensors",
            edited(|raw| raw.tensor_count = Some(u64::MAX)),
            "tensor count: 18446744073709551615 entries announced, but the rest of the file has room for at most",
        ),
        (
            "2^60 metadata entries",
            edited(|raw| raw.metadata_count = Some(1 << 60)),
            "metadata count: 1152921504606846976 entries announced",
        ),
        (
            "one metadata entry too many",
            edited(|raw| raw.metadata_count = Some(7)),
            "tensor table entry 0: the file ends early",
        ),
        ("one tensor too many", edited(|raw| raw.tensor_count = Some(3)), "tensor : 0 dimensions"),
    ]
}

fn metadata_cases() -> Vec<Case> {
    let huge = u64::MAX.to_le_bytes();
    let deep = (0..6).fold(array(U8, 0, &[]), |inner, _| array(ARRAY, 1, &inner));
    let bottomless = array(ARRAY, 1, &[]).repeat(10_000);
    let mut bad_key = entry("k?y", U32, &[0; 4]);
    bad_key[9] = 0xff;
    let long_key = entry(&"k".repeat(65_536), U32, &[0; 4]);
    vec![
        (
            "key longer than the file",
            Raw::with_metadata(huge.to_vec()),
            "metadata entry 6: the file ends early: 18446744073709551615 bytes needed",
        ),
        (
            "key that is not text",
            Raw::with_metadata(bad_key),
            "metadata entry 6: \"k\\xffy\" is not valid UTF-8",
        ),
        ("endless key", Raw::with_metadata(long_key), "metadata entry 6: \"kkkk"),
        (
            "key that appears twice",
            Raw::with_metadata(entry("flag", U32, &[0; 4])),
            "metadata flag: appears twice",
        ),
        (
            "value type 13",
            Raw::with_metadata(entry("x", 13, &[0; 8])),
            "metadata x: unknown value type 13; the file is damaged or newer",
        ),
        (
            "element type 99",
            Raw::with_metadata(entry("x", ARRAY, &array(99, 1, &[0; 8]))),
            "metadata x: unknown value type 99",
        ),
        ("bool 2", Raw::with_metadata(entry("x", BOOL, &[2])), "metadata x: a boolean is 0 or 1, found 2"),
        (
            "bool 255 in an array",
            Raw::with_metadata(entry("x", ARRAY, &array(BOOL, 3, &[0, 1, 255]))),
            "metadata x: a boolean is 0 or 1, found 255",
        ),
        (
            "string longer than the file",
            Raw::with_metadata(entry("x", STRING, &(1u64 << 40).to_le_bytes())),
            "metadata x: the file ends early: 1099511627776 bytes needed",
        ),
        (
            "array of 2^62 numbers",
            Raw::with_metadata(entry("x", ARRAY, &array(U64, 1 << 62, &[]))),
            "metadata x: the file ends early: 18446744073709551615 bytes needed",
        ),
        (
            "array of 2^64 - 1 bytes",
            Raw::with_metadata(entry("x", ARRAY, &array(U8, u64::MAX, &[]))),
            "metadata x: the file ends early",
        ),
        (
            "array of 2^40 strings",
            Raw::with_metadata(entry("x", ARRAY, &array(STRING, 1 << 40, &[]))),
            "metadata x: 1099511627776 entries announced",
        ),
        (
            "array of 2^40 arrays",
            Raw::with_metadata(entry("x", ARRAY, &array(ARRAY, 1 << 40, &[]))),
            "metadata x: 1099511627776 entries announced",
        ),
        (
            "long string in an array",
            Raw::with_metadata(entry("x", ARRAY, &array(STRING, 1, &huge))),
            "metadata x: the file ends early",
        ),
        (
            "arrays seven deep",
            Raw::with_metadata(entry("x", ARRAY, &deep)),
            "metadata x: arrays nest deeper than 4 levels",
        ),
        (
            "arrays ten thousand deep",
            Raw::with_metadata(entry("x", ARRAY, &bottomless)),
            "metadata x: arrays nest deeper than 4 levels",
        ),
        ("alignment 0", Raw::with_alignment(0), "metadata general.alignment: must be a power of two from 8"),
        ("alignment 4", Raw::with_alignment(4), "metadata general.alignment: must be a power of two from 8"),
        ("alignment 24", Raw::with_alignment(24), "from 8 to 65536, found 24"),
        ("alignment 2^31", Raw::with_alignment(1 << 31), "from 8 to 65536, found 2147483648"),
        (
            "alignment as text",
            Raw::with_metadata(entry("general.alignment", STRING, &string(b"32"))),
            "metadata general.alignment: expected an integer that fits u64, found string \"32\"",
        ),
        (
            "key with a terminal's control characters",
            Raw::with_metadata(entry("x\u{1b}[2J", 77, &[])),
            "metadata x\\u{1b}[2J: unknown value type 77",
        ),
    ]
}

fn tensor_cases() -> Vec<Case> {
    let mut bad_name = tensor("b?weight", &[32], Q8_0, 32);
    bad_name[9] = 0xfe;
    let second =
        |shape: &[u64], type_number, offset| Raw::with_tensor(tensor("b.weight", shape, type_number, offset));
    vec![
        (
            "name that is not text",
            Raw::with_tensor(bad_name),
            "tensor table entry 1: \"b\\xfeweight\" is not valid",
        ),
        (
            "name longer than the file",
            Raw::with_tensor(vec![0xff; 32]),
            "tensor table entry 1: the file ends early",
        ),
        (
            "name that appears twice",
            Raw::with_tensor(tensor("a.weight", &[4], F32, 32)),
            "tensor a.weight: appears twice",
        ),
        ("no dimension", second(&[], F32, 32), "tensor b.weight: 0 dimensions, but a tensor has 1 to 4"),
        ("five dimensions", second(&[1; 5], F32, 32), "tensor b.weight: 5 dimensions"),
        (
            "2^32 - 1 dimensions",
            Raw::with_tensor([string(b"b.weight"), vec![0xff; 4], vec![1; 24]].concat()),
            "tensor b.weight: 4294967295 dimensions",
        ),
        (
            "empty dimension",
            second(&[32, 0], Q8_0, 32),
            "tensor b.weight: shape [32, 0] has an empty dimension",
        ),
        (
            "weights beyond 2^64",
            second(&[1 << 32, 1 << 32, 1 << 32], F32, 32),
            "tensor b.weight: shape [4294967296, 4294967296, 4294967296] is too large",
        ),
        (
            "bytes beyond 2^64",
            second(&[1 << 63], F32, 32),
            "tensor b.weight: shape [9223372036854775808] is too large",
        ),
        (
            "bytes beyond 2^63",
            second(&[1 << 61], F32, 32),
            "tensor b.weight: shape [2305843009213693952] is too large",
        ),
        (
            "half a block in a row",
            second(&[48, 2], Q8_0, 32),
            "tensor b.weight: rows of 48 weights are not whole blocks of 32 (Q8_0)",
        ),
        (
            "half a super-block in a row",
            second(&[384], 12, 32),
            "tensor b.weight: rows of 384 weights are not whole blocks of 256 (Q4_K)",
        ),
        (
            "unsupported type",
            second(&[256], 15, 32),
            "tensor b.weight: type Q8_K (number 15) is not supported; supported: F32, F16, BF16, Q8_0, Q4_0, \
             Q4_1, Q5_0, Q5_1, IQ4_NL, MXFP4, NVFP4, Q1_0, Q2_0, IQ4_XS, IQ3_XXS, IQ3_S, IQ2_XXS, IQ2_XS, IQ2_S, IQ1_S, \
             IQ1_M, TQ1_0, TQ2_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K; use a model file",
        ),
        ("withdrawn type", second(&[256], 4, 32), "tensor b.weight: type number 4 is not supported"),
        (
            "unknown type",
            second(&[256], u32::MAX, 32),
            "tensor b.weight: type number 4294967295 is not supported",
        ),
        (
            "misaligned offset",
            second(&[32], Q8_0, 33),
            "tensor b.weight: its offset 33 is not a multiple of the alignment 32",
        ),
        (
            "offset beyond the end",
            second(&[32], Q8_0, 1 << 20),
            "tensor b.weight: its 34 bytes at offset 1048576 reach beyond the end of the file, which has 128 bytes",
        ),
        (
            "offset that overflows",
            second(&[32], Q8_0, u64::MAX - 31),
            "tensor b.weight: its 34 bytes at offset 18446744073709551584 reach beyond the end",
        ),
        (
            "tensor longer than the data",
            second(&[32, 3], Q8_0, 32),
            "tensor b.weight: its 102 bytes at offset 32 reach beyond the end",
        ),
        ("shared bytes", second(&[32], Q8_0, 0), "overlap those of tensor"),
        (
            "partly shared bytes",
            edited(|raw| raw.tensors[0] = tensor("a.weight", &[4, 3], F32, 0)),
            "tensor b.weight: its bytes overlap those of tensor a.weight",
        ),
        (
            "an alignment that the offsets do not keep",
            Raw::with_alignment(64),
            "tensor b.weight: its offset 32 is not a multiple of the alignment 64",
        ),
        (
            "no tensor data",
            edited(|raw| raw.data.clear()),
            "tensor a.weight: its 32 bytes at offset 0 reach beyond the end of the file, which has 0 bytes",
        ),
    ]
}

#[test]
fn the_file_that_the_faults_are_put_into_is_good() {
    let file = GgufFile::from_bytes("good.gguf", Raw::good().bytes()).unwrap();
    assert_eq!(file.metadata().len(), 6);
    assert_eq!(file.require("b.weight").unwrap().bytes.len(), 68);
}

#[test]
fn every_malformed_file_is_refused_with_an_error_that_names_file_and_fault() {
    let cases = [header_cases(), metadata_cases(), tensor_cases()].concat();
    assert!(cases.len() >= 30, "{} cases", cases.len());
    for (fault, bytes, expected) in cases {
        let error = GgufFile::from_bytes("bad.gguf", bytes).expect_err(fault).to_string();
        assert!(error.starts_with("bad.gguf: "), "{fault}: the file is not named: {error}");
        assert!(error.contains(expected), "{fault}: expected “{expected}” in: {error}");
        assert!(error.len() < 500 && !error.contains(char::is_control), "{fault}: not printable: {error:?}");
    }
}

#[test]
fn a_file_cut_anywhere_before_its_last_weight_is_refused() {
    let bytes = Raw::good().bytes();
    let last_weight = bytes.len() - 128 + 100;
    for len in 0..last_weight {
        let error = GgufFile::from_bytes("cut.gguf", bytes[..len].to_vec()).expect_err("cut").to_string();
        assert!(error.contains("fetch it again"), "cut to {len} bytes: {error}");
    }
    assert!(GgufFile::from_bytes("cut.gguf", bytes[..last_weight].to_vec()).is_ok());
}

#[test]
fn bytes_that_are_no_text_in_a_token_become_replacement_characters() {
    let tokens = [string(b"ok"), string(b"\xff"), string("é".as_bytes())].concat();
    let bytes = Raw::with_metadata(entry("vocabulary", ARRAY, &array(STRING, 3, &tokens)));
    let file = GgufFile::from_bytes("tokens.gguf", bytes).unwrap();
    let tokens = file.metadata().require_strings("vocabulary").unwrap();
    assert_eq!(tokens.iter().collect::<Vec<_>>(), ["ok", "\u{fffd}", "é"]);
}

/// Opens the file and, where that succeeds, touches everything in it.
fn walk(bytes: Vec<u8>) {
    let Ok(file) = GgufFile::from_bytes("fuzzed.gguf", bytes) else { return };
    for (key, value) in file.metadata().iter() {
        let _ = (value.to_string(), file.metadata().u32(key), file.metadata().i32s(key));
        if let Value::Array(array) = value {
            let _ = array.len();
        }
    }
    for info in file.tensors() {
        let tensor = file.require(&info.name).unwrap();
        let row_bytes = info.weight_type.row_bytes(tensor.columns()).unwrap();
        assert_eq!(tensor.bytes.len(), tensor.rows() * row_bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn flipped_and_cut_files_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let mut bytes = Raw::good().bytes();
        for (index, mask) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= mask;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        walk(bytes);
    }

    #[test]
    fn random_bytes_behind_a_good_header_never_panic(
        tensors in 0u64..4,
        metadata in 0u64..4,
        body in prop::collection::vec(prop_oneof![4 => 0u8..14, 1 => any::<u8>()], 0..400),
    ) {
        let mut bytes = [*b"GGUF", 3u32.to_le_bytes()].concat();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(metadata.to_le_bytes());
        bytes.extend(body);
        walk(bytes);
    }
}

#[test]
fn layers_that_look_ahead_are_fewer_than_there_are() {
    let file = GgufFile::from_bytes("glm", Golden::load("glm4-moe").gguf().unwrap()).unwrap();
    for (ahead, is_good) in [(1u32, true), (4, false), (5, false)] {
        let mut writer = Writer::new("glm");
        for (key, value) in file.metadata().iter().filter(|(key, _)| !key.ends_with("nextn_predict_layers")) {
            writer.metadata(key, value.clone());
        }
        writer.metadata("glm4moe.nextn_predict_layers", Value::U32(ahead));
        for info in file.tensors() {
            let bytes = file.require(&info.name).unwrap().bytes;
            writer.tensor(info.name.as_str(), info.weight_type, &info.shape, bytes).unwrap();
        }
        let found = Architecture::of(&GgufFile::from_bytes("glm", writer.to_bytes()).unwrap());
        match found {
            Ok(_) => assert!(is_good, "{ahead} of 4"),
            Err(error) => assert!(!is_good && error.to_string().contains("nextn_predict_layers"), "{error}"),
        }
    }
}
