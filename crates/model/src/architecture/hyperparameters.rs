//! Hyperparameters of a GGUF file: metadata under the architecture's prefix, and the blocks that most families share.

use lookahead_kernels::{Activation, RopePairs};

use super::{Architecture, Attention, FeedForward, Layer, Rope};
use crate::LoadError;
use crate::gguf::GgufFile;

/// More heads, layers or dimensions than any model has: beyond it, a file is damaged.
const SANE_COUNT: usize = 1 << 20;

pub(super) struct Hyperparameters<'a> {
    file: &'a GgufFile,
    family: &'static str,
}

impl<'a> Hyperparameters<'a> {
    pub(super) fn new(file: &'a GgufFile, family: &'static str) -> Self {
        Self { file, family }
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family)
    }

    /// An error about a value, saying what would be right.
    pub(super) fn invalid(&self, name: &str, expected: &'static str) -> LoadError {
        self.file.metadata().invalid(&self.key(name), expected).into()
    }

    /// A count above 0, or `None`.
    pub(super) fn optional_count(&self, name: &str) -> Result<Option<usize>, LoadError> {
        match self.file.metadata().u32(&self.key(name))? {
            Some(count) if count == 0 || count as usize > SANE_COUNT => {
                Err(self.invalid(name, "a number from 1 to 1048576"))
            }
            count => Ok(count.map(|count| count as usize)),
        }
    }

    /// A count above 0.
    pub(super) fn count(&self, name: &str) -> Result<usize, LoadError> {
        self.optional_count(name)?.ok_or_else(|| self.invalid(name, "a number"))
    }

    pub(super) fn float(&self, name: &str) -> Result<Option<f32>, LoadError> {
        match self.file.metadata().f32(&self.key(name))? {
            Some(value) if !value.is_finite() || value <= 0.0 => Err(self.invalid(name, "a positive number")),
            value => Ok(value),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, LoadError> {
        Ok(self.file.metadata().str(&self.key(name))?)
    }

    /// A flag for each layer, if the file has them.
    pub(super) fn layer_flags(&self, name: &str) -> Result<Option<Vec<bool>>, LoadError> {
        let key = self.key(name);
        // The same key is a number in other tools' files: every n-th layer. Only the array is explicit.
        if !matches!(self.file.metadata().get(&key), Some(crate::gguf::Value::Array(_))) {
            return Ok(None);
        }
        let flags = self.file.metadata().require_bools(&key)?;
        if flags.len() != self.count("block_count")? {
            return Err(self.invalid(name, "as many flags as there are layers"));
        }
        Ok(Some(flags.to_vec()))
    }

    /// The attention that most families share: scaled by the root of the head's dimensions.
    pub(super) fn attention(&self) -> Result<Attention, LoadError> {
        let heads = self.count("attention.head_count")?;
        let kv_heads = self.optional_count("attention.head_count_kv")?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.invalid("attention.head_count_kv", "a divisor of attention.head_count"));
        }
        let head_dim = match self.optional_count("attention.key_length")? {
            Some(head_dim) => head_dim,
            None => self.count("embedding_length")? / heads,
        };
        if self.optional_count("attention.value_length")?.is_some_and(|length| length != head_dim) {
            return Err(self.invalid("attention.value_length", "the same as attention.key_length"));
        }
        if head_dim == 0 {
            return Err(self.invalid("attention.head_count", "at most embedding_length"));
        }
        let scale = 1.0 / (head_dim as f32).sqrt();
        Ok(Attention { heads, kv_heads, head_dim, scale, rope: 0, window: None, qk_norm: false })
    }

    /// The rotary embedding that most families share.
    pub(super) fn rope(&self, pairs: RopePairs, head_dim: usize) -> Result<Rope, LoadError> {
        let dimensions = self.optional_count("rope.dimension_count")?.unwrap_or(head_dim);
        if dimensions > head_dim || !dimensions.is_multiple_of(2) {
            return Err(self.invalid("rope.dimension_count", "an even number, at most the head's dimensions"));
        }
        let base = f64::from(self.float("rope.freq_base")?.unwrap_or(10_000.0));
        let factor = self.float("rope.scaling.factor")?.or(self.float("rope.scale_linear")?).unwrap_or(1.0);
        let position_scale = match self.text("rope.scaling.type")? {
            None if factor == 1.0 => 1.0,
            None | Some("linear") => 1.0 / f64::from(factor),
            Some("none") => 1.0,
            Some(_) => {
                return Err(
                    self.invalid("rope.scaling.type", "none or linear (others are not supported yet)")
                );
            }
        };
        Ok(Rope { pairs, dimensions, base, position_scale, factors_tensor: Some("rope_freqs.weight") })
    }

    /// A model whose layers are all `attention` and a gated network with `activation`, without further norms.
    pub(super) fn uniform(
        &self,
        attention: &Attention,
        rope: Rope,
        activation: Activation,
    ) -> Result<Architecture, LoadError> {
        let feed_forward = FeedForward { size: self.count("feed_forward_length")?, activation };
        let layer = Layer { attention: attention.clone(), feed_forward, post_norms: false };
        Ok(Architecture {
            family: self.family,
            context_length: self.count("context_length")?,
            hidden_size: self.count("embedding_length")?,
            norm_epsilon: self
                .float("attention.layer_norm_rms_epsilon")?
                .ok_or_else(|| self.invalid("attention.layer_norm_rms_epsilon", "a number"))?,
            embedding_scale: 1.0,
            ropes: vec![rope],
            layers: vec![layer; self.count("block_count")?],
        })
    }
}
