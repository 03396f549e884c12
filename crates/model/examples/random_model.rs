//! Writes a Llama of random weights in the shape of a real one, in Q4_0: for measuring loading and speed without a download.
//!
//! ```text
//! cargo run --release -p lookahead-model --example random_model -- 1b model.gguf
//! ```

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;

use half::f16;
use lookahead_kernels::WeightType;
use lookahead_model::gguf::{Strings, Writer};

/// The shape of a Llama.
struct Shape {
    hidden: u32,
    layers: u32,
    heads: u32,
    kv_heads: u32,
    feed_forward: u32,
    vocabulary: u32,
    rope_base: f32,
    tied_embeddings: bool,
}

/// As Llama 3.2 1B.
const SHAPE_1B: Shape = Shape {
    hidden: 2048,
    layers: 16,
    heads: 32,
    kv_heads: 8,
    feed_forward: 8192,
    vocabulary: 128_256,
    rope_base: 500_000.0,
    tied_embeddings: true,
};

/// As Llama 2 7B.
const SHAPE_7B: Shape = Shape {
    hidden: 4096,
    layers: 32,
    heads: 32,
    kv_heads: 32,
    feed_forward: 11_008,
    vocabulary: 32_000,
    rope_base: 10_000.0,
    tied_embeddings: false,
};

/// Special tokens and bytes, which come before all others.
const FIRST_PIECE: u32 = 3 + 256;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (shape, path) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["1b", path] => (SHAPE_1B, path),
        ["7b", path] => (SHAPE_7B, path),
        _ => return Err("usage: random_model 1b|7b FILE.gguf".into()),
    };
    let mut writer = Writer::new(path);
    shape.write_metadata(&mut writer);
    shape.write_tensors(&mut writer)?;
    writer.write(&mut BufWriter::new(File::create(path)?))?;
    Ok(())
}

impl Shape {
    fn write_metadata(&self, writer: &mut Writer<'_>) {
        writer.metadata("general.architecture", "llama");
        for (name, value) in [
            ("context_length", 4096),
            ("embedding_length", self.hidden),
            ("block_count", self.layers),
            ("feed_forward_length", self.feed_forward),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("rope.dimension_count", self.hidden / self.heads),
            ("vocab_size", self.vocabulary),
        ] {
            writer.metadata(format!("llama.{name}"), value);
        }
        writer.metadata("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
        writer.metadata("llama.rope.freq_base", self.rope_base);

        let special = ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter();
        let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
        let pieces = (FIRST_PIECE..self.vocabulary).map(|number| format!("▁{number}"));
        let tokens: Vec<String> = special.chain(bytes).chain(pieces).collect();
        let kind = |id: u32| match id {
            0 => 2,
            1 | 2 => 3,
            3..FIRST_PIECE => 6,
            _ => 1,
        };
        writer.metadata("tokenizer.ggml.model", "llama");
        writer.metadata("tokenizer.ggml.tokens", tokens.iter().collect::<Strings>());
        writer.metadata("tokenizer.ggml.scores", vec![0.0f32; tokens.len()]);
        writer.metadata("tokenizer.ggml.token_type", (0..self.vocabulary).map(kind).collect::<Vec<i32>>());
        for (name, id) in [("unknown", 0u32), ("bos", 1), ("eos", 2)] {
            writer.metadata(format!("tokenizer.ggml.{name}_token_id"), id);
        }
    }

    fn write_tensors(&self, writer: &mut Writer<'_>) -> Result<(), Box<dyn Error>> {
        let mut random = Random(1);
        let keys = self.hidden / self.heads * self.kv_heads;
        let mut matrix = |writer: &mut Writer<'_>, name: String, rows: u32, columns: u32| {
            let bytes = random.q4_0(rows as usize, columns as usize);
            writer.tensor(name, WeightType::Q4_0, &[columns.into(), rows.into()], bytes).map(drop)
        };
        let norm = |writer: &mut Writer<'_>, name: String| {
            let ones: Vec<u8> = (0..self.hidden).flat_map(|_| 1f32.to_le_bytes()).collect();
            writer.tensor(name, WeightType::F32, &[self.hidden.into()], ones).map(drop)
        };
        matrix(writer, "token_embd.weight".to_owned(), self.vocabulary, self.hidden)?;
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            norm(writer, name("attn_norm"))?;
            norm(writer, name("ffn_norm"))?;
            for (part, rows, columns) in [
                ("attn_q", self.hidden, self.hidden),
                ("attn_k", keys, self.hidden),
                ("attn_v", keys, self.hidden),
                ("attn_output", self.hidden, self.hidden),
                ("ffn_gate", self.feed_forward, self.hidden),
                ("ffn_up", self.feed_forward, self.hidden),
                ("ffn_down", self.hidden, self.feed_forward),
            ] {
                matrix(writer, name(part), rows, columns)?;
            }
        }
        norm(writer, "output_norm.weight".to_owned())?;
        if !self.tied_embeddings {
            matrix(writer, "output.weight".to_owned(), self.vocabulary, self.hidden)?;
        }
        Ok(())
    }
}

/// A generator of random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Random codes under one scale, so that products keep the size of their inputs.
    fn q4_0(&mut self, rows: usize, columns: usize) -> Vec<u8> {
        // Codes from -8 to 7, each as likely, have a standard deviation of 4.6.
        let scale = f16::from_f32(1.0 / (4.6 * (columns as f32).sqrt())).to_le_bytes();
        let mut bytes = vec![0; rows * columns / 32 * 18];
        for block in bytes.as_chunks_mut::<18>().0 {
            block[..2].copy_from_slice(&scale);
            block[2..10].copy_from_slice(&self.next().to_le_bytes());
            block[10..].copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}
