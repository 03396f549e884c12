//! Any bytes: the reader refuses them with an error or gives metadata and tensors that are whole. It never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lookahead_model::gguf::{Array, GgufFile, Value};

fuzz_target!(|bytes: &[u8]| {
    let file = match GgufFile::from_bytes("fuzz.gguf", bytes.to_vec()) {
        Ok(file) => file,
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("fuzz.gguf: "), "{message}");
            assert!(!message.contains(char::is_control), "{message:?}");
            return;
        }
    };
    let metadata = file.metadata();
    for (key, value) in metadata.iter() {
        assert!(metadata.get(key).is_some());
        let _ = value.to_string();
        let _ =
            (metadata.u32(key), metadata.u64(key), metadata.f32(key), metadata.bool(key), metadata.str(key));
        let _ = (metadata.u32s(key), metadata.i32s(key), metadata.f32s(key), metadata.bools(key));
        if let Value::Array(array) = value {
            walk(array);
        }
    }
    for info in file.tensors() {
        let tensor = file.require(&info.name).unwrap();
        let row_bytes = info.weight_type.row_bytes(tensor.columns()).unwrap();
        assert_eq!(tensor.bytes.len(), tensor.rows() * row_bytes);
        file.release_pages();
    }
});

fn walk(array: &Array) {
    match array {
        Array::Strings(strings) => {
            assert_eq!(strings.iter().count(), array.len());
            assert!((0..strings.len()).all(|index| strings.get(index).is_some()));
        }
        Array::Arrays(arrays) => arrays.iter().for_each(walk),
        _ => {}
    }
}
