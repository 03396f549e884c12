//! What is written as GGUF is read back as it was, from memory and from disk.

use lookahead_kernels::WeightType;
use lookahead_model::gguf::{Array, GgufError, GgufFile, TensorProblem, Value, Writer};
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        prop::num::f32::NORMAL.prop_map(Value::F32),
        prop::num::f64::NORMAL.prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        any::<String>().prop_map(Value::String),
    ]
}

fn array() -> impl Strategy<Value = Array> {
    use prop::collection::vec;
    let flat = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8),
        vec(any::<i8>(), 0..9).prop_map(Array::I8),
        vec(any::<u16>(), 0..9).prop_map(Array::U16),
        vec(any::<i16>(), 0..9).prop_map(Array::I16),
        vec(any::<u32>(), 0..9).prop_map(Array::U32),
        vec(any::<i32>(), 0..9).prop_map(Array::I32),
        vec(any::<u64>(), 0..9).prop_map(Array::U64),
        vec(any::<i64>(), 0..9).prop_map(Array::I64),
        vec(prop::num::f32::NORMAL, 0..9).prop_map(Array::F32),
        vec(prop::num::f64::NORMAL, 0..9).prop_map(Array::F64),
        vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        vec(any::<String>(), 0..9).prop_map(|strings| Array::Strings(strings.iter().collect())),
    ];
    flat.prop_recursive(3, 16, 3, |inner| vec(inner, 0..3).prop_map(Array::Arrays))
}

/// A weight type, columns in blocks, rows.
fn tensor() -> impl Strategy<Value = (WeightType, usize, usize)> {
    (prop::sample::select(WeightType::ALL.to_vec()), 1usize..3, 1usize..4)
}

proptest! {
    #[test]
    fn written_files_read_back_equal(
        metadata in prop::collection::btree_map(
            "[a-z.]{0,12}",
            prop_oneof![scalar(), array().prop_map(Value::Array)],
            0..8,
        ),
        tensors in prop::collection::vec(tensor(), 0..5),
        version in 2u8..=3,
    ) {
        let mut writer = Writer::new("written.gguf");
        for (key, value) in &metadata {
            writer.metadata(key.as_str(), value.clone());
        }
        let mut written = Vec::new();
        for (index, (weight_type, blocks, rows)) in tensors.into_iter().enumerate() {
            let name = format!("blk.{index}.weight");
            let shape = [(blocks * weight_type.block_weights()) as u64, rows as u64];
            let bytes = vec![index as u8 + 1; blocks * rows * weight_type.block_bytes()];
            writer.tensor(name.as_str(), weight_type, &shape, bytes.clone()).unwrap();
            written.push((name, weight_type, shape, bytes));
        }
        let mut bytes = writer.to_bytes();
        bytes[4] = version; // versions 2 and 3 differ in byte order only

        let file = GgufFile::from_bytes("read.gguf", bytes).unwrap();
        let read: Vec<_> = file.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        prop_assert_eq!(read, metadata.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(file.tensors().len(), written.len());
        for (info, (name, weight_type, shape, bytes)) in file.tensors().iter().zip(written) {
            prop_assert_eq!((&info.name, info.weight_type, &info.shape[..]), (&name, weight_type, &shape[..]));
            prop_assert_eq!(file.require(&name).unwrap().bytes, bytes);
        }
    }
}

fn small_file() -> Vec<u8> {
    let mut writer = Writer::new("small.gguf");
    writer.metadata("general.architecture", "llama");
    let weights: Vec<u8> = (0..4096u32).flat_map(|i| (i as f32).to_le_bytes()).collect();
    writer.tensor("a.weight", WeightType::F32, &[64, 32, 2], weights).unwrap();
    writer.to_bytes()
}

#[test]
fn a_mapped_file_equals_the_same_file_in_memory_even_after_its_pages_are_released() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.gguf");
    std::fs::write(&path, small_file()).unwrap();

    let memory = GgufFile::from_bytes("small.gguf", small_file()).unwrap();
    let mapped = GgufFile::open(&path).unwrap();
    assert_eq!(mapped.name(), path.display().to_string());
    assert_eq!(mapped.tensors(), memory.tensors());

    let weights = mapped.require("a.weight").unwrap();
    assert_eq!((weights.columns(), weights.rows()), (64, 64));
    assert_eq!(weights.bytes, memory.require("a.weight").unwrap().bytes);
    mapped.release_pages();
    assert_eq!(weights.bytes, memory.require("a.weight").unwrap().bytes);
}

#[test]
fn what_cannot_be_opened_is_an_error_that_names_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.gguf");
    std::fs::write(&empty, []).unwrap();
    for (path, expected) in [
        (folder.path().join("absent.gguf"), "cannot read the file: No such file"),
        (folder.path().to_owned(), "cannot read the file: not a regular file"),
        (empty, "the file ends early"),
    ] {
        let error = GgufFile::open(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_missing_tensor_is_an_error_that_names_it() {
    let file = GgufFile::from_bytes("small.gguf", small_file()).unwrap();
    assert!(file.tensor("b.weight").is_none());
    assert_eq!(
        file.require("b.weight").unwrap_err().to_string(),
        "small.gguf: tensor b.weight: missing: the file is not a complete model"
    );
}

#[test]
fn the_writer_refuses_tensors_that_the_reader_would_refuse() {
    let mut writer = Writer::new("new.gguf");
    writer.tensor("a", WeightType::Q8_0, &[32], vec![0; 34]).unwrap();
    let mut problem = |name: &str, shape: &[u64], bytes: usize| match writer
        .tensor(name, WeightType::Q8_0, shape, vec![0; bytes])
        .map(drop)
    {
        Err(GgufError::Tensor { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(problem("a", &[32], 34), TensorProblem::Duplicate);
    assert_eq!(problem("b", &[32, 2], 34), TensorProblem::WrongSize { expected: 68, found: 34 });
    assert_eq!(problem("b", &[], 0), TensorProblem::Dimensions(0));
    assert_eq!(
        problem("b", &[33], 34),
        TensorProblem::PartialBlock { columns: 33, weight_type: WeightType::Q8_0 }
    );
}

#[test]
fn a_metadata_value_set_twice_keeps_its_place_and_the_last_value() {
    let mut writer = Writer::new("new.gguf");
    writer.metadata("a", 1u32).metadata("b", 2u32).metadata("a", "x");
    let file = GgufFile::from_bytes("new.gguf", writer.to_bytes()).unwrap();
    let read: Vec<_> = file.metadata().iter().collect();
    assert_eq!(read, [("a", &Value::from("x")), ("b", &Value::from(2u32))]);
}

/// Three parts of a model of five tensors below `folder`; `edit` may change what a part says of itself.
fn write_parts(folder: &std::path::Path, edit: impl Fn(usize, &mut [u64; 3])) -> std::path::PathBuf {
    let path = |part: usize| folder.join(format!("m-{part:05}-of-00003.gguf"));
    for (part, tensors) in [0..2, 2..2, 2..5].into_iter().enumerate() {
        let mut place = [part as u64, 3, 5];
        edit(part, &mut place);
        let mut writer = Writer::new("part");
        if part == 0 {
            writer.metadata("general.architecture", "llama");
            writer.metadata("split.tensors.count", Value::I32(place[2] as i32));
        }
        writer.metadata("split.no", Value::U16(place[0] as u16));
        writer.metadata("split.count", Value::U16(place[1] as u16));
        for tensor in tensors {
            let bytes = vec![tensor as u8; 4 * (tensor + 1)];
            writer.tensor(format!("t{tensor}"), WeightType::F32, &[tensor as u64 + 1], bytes).unwrap();
        }
        std::fs::write(path(part + 1), writer.to_bytes()).unwrap();
    }
    path(1)
}

#[test]
fn a_model_in_parts_is_opened_by_the_first_as_if_it_were_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = GgufFile::open(write_parts(folder.path(), |_, _| ())).unwrap();
    assert_eq!(file.metadata().require_str("general.architecture").unwrap(), "llama");
    let names: Vec<&str> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["t0", "t1", "t2", "t3", "t4"]);
    for tensor in 0..5 {
        let found = file.require(&format!("t{tensor}")).unwrap();
        assert_eq!(found.bytes, vec![tensor as u8; 4 * (tensor + 1)]);
    }
    file.release_pages();
    assert_eq!(file.require("t3").unwrap().bytes, [3; 16]);
}

#[test]
fn parts_that_make_no_model_are_errors_that_say_which_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &std::path::Path| GgufFile::open(path).unwrap_err().to_string();
    let first = write_parts(folder.path(), |_, _| ());
    let [second, third] = [2, 3].map(|part| folder.path().join(format!("m-0000{part}-of-00003.gguf")));

    let later = error(&second);
    assert!(later.starts_with(&second.display().to_string()) && later.contains("give the first"), "{later}");
    assert!(later.ends_with(&first.display().to_string()), "{later}");

    let renamed = folder.path().join("model.gguf");
    std::fs::copy(&first, &renamed).unwrap();
    assert!(error(&renamed).contains("the first of 3 files"), "{}", error(&renamed));
    let in_memory = GgufFile::from_bytes("m", std::fs::read(&first).unwrap()).unwrap_err();
    assert!(in_memory.to_string().contains("the first of 3 files"), "{in_memory}");

    std::fs::rename(&second, folder.path().join("away")).unwrap();
    let missing = error(&first);
    assert!(missing.starts_with(&format!("{}: cannot read", second.display())), "{missing}");
    std::fs::copy(&third, &second).unwrap();
    assert!(error(&first).contains("this is not part 2 of 3"), "{}", error(&first));

    let first = write_parts(folder.path(), |_, place| place[2] = 6);
    assert!(error(&first).contains("6 tensors are announced, and 5"), "{}", error(&first));
    let first = write_parts(folder.path(), |part, place| place[0] = [0, 1, 1][part]);
    assert!(error(&first).contains("this is not part 3 of 3"), "{}", error(&first));
    let first = write_parts(folder.path(), |_, place| place[1] = 2);
    assert!(error(&first).contains("the first of 2 files"), "{}", error(&first));
}
