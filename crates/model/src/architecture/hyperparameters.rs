//! Hyperparameters of a model, from the metadata of a GGUF file or from `config.json`, and the blocks that most families
//! share.
//!
//! They are asked for by the names that GGUF has under the architecture's prefix; [`SPELLINGS`] lists what `config.json`
//! calls them. A name that is not listed is the same there.

use lookahead_kernels::{Activation, RopePairs, Window};
use serde_json::Value;

use super::layer::{
    Attention, Decay, ExpertGroups, Experts, KeysAndValues, Layer, MOST_TAPS, Mixer, Mlp, Recurrence,
    RecurrenceGate, RouterScores, Routing, SharedExpert, UpdateRule, Wiring,
};
use super::model::{Architecture, Embedding, Norm, NormKind};
use super::rope::{Rope, RopeFactors};
use super::tensor_names::{Layout, TensorName};
use crate::load_error::LoadError;
use crate::model_files::ModelFiles;

/// The objects of `config.json` that describe rotary embeddings, in its new and its old form.
const ROPE_OBJECTS: [&str; 2] = ["rope_parameters", "rope_scaling"];

/// More heads or dimensions than any model has: beyond it, a file is damaged.
const SANE_COUNT: usize = 1 << 20;
/// Contexts are longer: some models say 10 million tokens.
const SANE_CONTEXT: usize = 1 << 24;

/// The same for layers, each of which takes memory before anything is found to be wrong.
const SANE_LAYERS: usize = 1 << 12;

/// The context length where `config.json` does not say and positions do not limit it: what BLOOM was trained on.
const UNSAID_CONTEXT: usize = 2048;

/// What `config.json` calls the hyperparameters: the first that is there counts.
const SPELLINGS: &[(&str, &[&str])] = &[
    ("context_length", &["max_position_embeddings", "n_positions", "seq_length", "model_max_length"]),
    ("embedding_length", &["hidden_size", "n_embd", "d_model"]),
    ("block_count", &["num_hidden_layers", "n_layer", "num_layers"]),
    ("feed_forward_length", &["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"]),
    ("attention.head_count", &["num_attention_heads", "n_head"]),
    ("attention.head_count_kv", &["num_key_value_heads"]),
    ("attention.key_length", &["head_dim", "kv_channels"]),
    ("attention.layer_norm_rms_epsilon", &["rms_norm_eps", "layernorm_epsilon", "layer_norm_epsilon"]),
    ("attention.layer_norm_epsilon", &["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"]),
    ("attention.sliding_window", &["sliding_window"]),
    ("attention.shared_kv_layers", &["num_kv_shared_layers"]),
    ("attention.q_lora_rank", &["q_lora_rank"]),
    ("attention.kv_lora_rank", &["kv_lora_rank"]),
    ("rope.freq_base", &["rope_theta", "rotary_emb_base"]),
    ("rope.dimension_count", &["rotary_dim"]),
    ("expert_count", &["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"]),
    (
        "expert_used_count",
        &["num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"],
    ),
    ("expert_feed_forward_length", &["moe_intermediate_size"]),
    (
        "expert_shared_feed_forward_length",
        &[
            "shared_expert_intermediate_size",
            "shared_intermediate_size",
            "moe_shared_expert_intermediate_size",
        ],
    ),
    (
        "expert_shared_count",
        &["n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert"],
    ),
    ("expert_group_count", &["n_group", "num_expert_group"]),
    ("expert_group_used_count", &["topk_group"]),
    ("expert_weights_norm", &["norm_topk_prob", "moe_renormalize"]),
    ("expert_weights_scale", &["routed_scaling_factor"]),
    ("leading_dense_block_count", &["first_k_dense_replace", "moe_layer_start_index", "num_dense_layers"]),
    ("ssm.conv_kernel", &["linear_conv_kernel_dim", "short_conv_kernel_size", "mamba_d_conv", "conv_kernel"]),
    ("ssm.state_size", &["linear_key_head_dim", "mamba_d_state", "ssm_state_size", "state_size"]),
    ("ssm.group_count", &["linear_num_key_heads", "mamba_n_groups", "n_groups"]),
    ("ssm.time_step_rank", &["linear_num_value_heads", "mamba_n_heads", "mamba_num_heads", "num_heads"]),
    ("ssm.head_length", &["linear_value_head_dim", "mamba_d_head", "mamba_head_dim", "head_dim"]),
    ("shortconv.l_cache", &["conv_L_cache"]),
    ("kda.head_dim", &["linear_head_dim"]),
    ("kda.safe_gate", &["kda_safe_gate"]),
    ("kda.gate_lower_bound", &["kda_lower_bound"]),
    ("embedding_length_per_layer_input", &["hidden_size_per_layer_input"]),
    ("altup.num_inputs", &["altup_num_inputs"]),
    ("altup.active_idx", &["altup_active_idx"]),
    ("embedding_scale", &["embedding_multiplier"]),
    ("residual_scale", &["residual_multiplier"]),
    ("attention.scale", &["attention_multiplier"]),
    ("logit_scale", &["logits_scaling", "logit_scale"]),
];

fn spellings<'a>(name: &'a &'a str) -> &'a [&'a str] {
    SPELLINGS.iter().find(|(ours, _)| ours == name).map_or(std::slice::from_ref(name), |(_, theirs)| theirs)
}

pub(super) struct Hyperparameters<'a> {
    files: ModelFiles<'a>,
    family: &'static str,
    layout: &'a Layout,
}

impl<'a> Hyperparameters<'a> {
    pub(super) fn new(files: ModelFiles<'a>, family: &'static str, layout: &'a Layout) -> Self {
        Self { files, family, layout }
    }

    /// Whether they come from a GGUF file.
    pub(super) fn is_gguf(&self) -> bool {
        matches!(self.files, ModelFiles::Gguf(_))
    }

    /// Whether the first layer has a tensor `part`.
    pub(super) fn has_tensor(&self, part: &str) -> bool {
        self.has_tensor_in(0, part, "weight")
    }

    /// Whether queries and keys have norms: `config.json` says so under `flag`, GGUF files have their tensors.
    pub(super) fn has_qk_norm(&self, flag: &str) -> Result<bool, LoadError> {
        if self.is_gguf() {
            return Ok(self.has_tensor("attn_q_norm"));
        }
        Ok(self.flag(flag)?.unwrap_or(false))
    }

    /// Whether a layer has a tensor `part` of this kind, `weight` or `bias`.
    pub(super) fn has_tensor_in(&self, layer: usize, part: &str, kind: &'static str) -> bool {
        self.rows_in(layer, part, kind).is_some()
    }

    /// Rows of the first layer's tensor `part`, if it has that.
    pub(super) fn rows_of(&self, part: &str) -> Option<usize> {
        self.rows_in(0, part, "weight")
    }

    fn rows_in(&self, layer: usize, part: &str, kind: &'static str) -> Option<usize> {
        let name = TensorName { layer: Some(layer), part, index: None, kind };
        self.files.find(self.layout, &name).ok().flatten().map(|stored| stored.rows)
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family)
    }

    /// The value in `config.json`, if that is where they come from; `null` is none.
    fn field(&self, name: &str) -> Option<&'a Value> {
        let ModelFiles::Checkpoint(checkpoint) = self.files else { return None };
        spellings(&name).iter().find_map(|name| checkpoint.field(name))
    }

    /// An error about a value, saying what would be right.
    pub(super) fn invalid(&self, name: &str, expected: &'static str) -> LoadError {
        match self.files {
            ModelFiles::Gguf(file) => file.metadata().invalid(&self.key(name), expected).into(),
            ModelFiles::Checkpoint(checkpoint) => {
                let spellings = spellings(&name);
                let name =
                    spellings.iter().find(|name| checkpoint.field(name).is_some()).unwrap_or(&spellings[0]);
                checkpoint.invalid_field(name, expected).into()
            }
        }
    }

    /// A whole number, or `None`. A list with the same one for each layer will do, and in GGUF files one with the same for each layer
    /// that has any.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, LoadError> {
        let number = match self.files {
            ModelFiles::Gguf(file) => match self.layer_numbers(name)? {
                None => file.metadata().u32(&self.key(name))?.map(|count| count as usize),
                Some(numbers) => {
                    let mut numbers = numbers.into_iter().filter(|&number| number > 0);
                    let first = numbers.next().unwrap_or(0);
                    if numbers.any(|other| other != first) {
                        return Err(self.invalid(name, "the same number for each layer"));
                    }
                    Some(first)
                }
            },
            ModelFiles::Checkpoint(_) => match self.field(name) {
                None => None,
                Some(value) => {
                    let only = match value.as_array().map(Vec::as_slice) {
                        Some([first, rest @ ..]) if rest.iter().all(|other| other == first) => first,
                        _ => value,
                    };
                    Some(only.as_u64().ok_or_else(|| self.invalid(name, "a whole number"))? as usize)
                }
            },
        };
        match number {
            Some(number) if name == "block_count" && number > SANE_LAYERS => {
                Err(self.invalid(name, "at most 4096"))
            }
            Some(number) if name == "context_length" && number <= SANE_CONTEXT => Ok(Some(number)),
            Some(number) if number > SANE_COUNT => Err(self.invalid(name, "at most 1048576")),
            number => Ok(number),
        }
    }

    /// A count above 0, or `None`.
    pub(super) fn optional_count(&self, name: &str) -> Result<Option<usize>, LoadError> {
        match self.number(name)? {
            Some(0) => Err(self.invalid(name, "a number from 1 to 1048576")),
            count => Ok(count),
        }
    }

    /// A count above 0.
    pub(super) fn count(&self, name: &str) -> Result<usize, LoadError> {
        self.optional_count(name)?.ok_or_else(|| self.invalid(name, "a number"))
    }

    /// A count above 0 of layer `layer`: files may have one for each.
    pub(super) fn count_in(&self, layer: usize, name: &str) -> Result<usize, LoadError> {
        if let Some(counts) = self.layer_numbers(name)? {
            let count = counts.get(layer).copied().filter(|count| (1..=SANE_COUNT).contains(count));
            return count.ok_or_else(|| self.invalid(name, "a number from 1 to 1048576 for each layer"));
        }
        self.count(name)
    }

    /// A count above 0 that `config.json` has for layer `layer` alone, under `per_layer_config`.
    pub(super) fn count_of_layer(&self, layer: usize, name: &str) -> Result<Option<usize>, LoadError> {
        let layers = self.field("per_layer_config");
        let Some(count) = layers.and_then(|layers| layers.get(layer.to_string())?.get(name)) else {
            return Ok(None);
        };
        let count =
            count.as_u64().map(|count| count as usize).filter(|count| (1..=SANE_COUNT).contains(count));
        count.map(Some).ok_or_else(|| self.invalid("per_layer_config", "numbers from 1 to 1048576"))
    }

    /// A positive number, or `None`.
    pub(super) fn float(&self, name: &str) -> Result<Option<f32>, LoadError> {
        match self.any_float(name)? {
            Some(value) if !value.is_finite() || value <= 0.0 => Err(self.invalid(name, "a positive number")),
            value => Ok(value),
        }
    }

    /// A negative number.
    pub(super) fn negative(&self, name: &str) -> Result<f32, LoadError> {
        let value = self.any_float(name)?.filter(|value| value.is_finite() && *value < 0.0);
        value.ok_or_else(|| self.invalid(name, "a negative number"))
    }

    fn any_float(&self, name: &str) -> Result<Option<f32>, LoadError> {
        match self.files {
            ModelFiles::Gguf(file) => Ok(file.metadata().f32(&self.key(name))?),
            ModelFiles::Checkpoint(_) => match self.field(name) {
                None => Ok(None),
                Some(value) => value
                    .as_f64()
                    .map(|value| Some(value as f32))
                    .ok_or_else(|| self.invalid(name, "a number")),
            },
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, LoadError> {
        match self.files {
            ModelFiles::Gguf(file) => Ok(file.metadata().str(&self.key(name))?),
            ModelFiles::Checkpoint(_) => match self.field(name) {
                None => Ok(None),
                Some(value) => Ok(Some(value.as_str().ok_or_else(|| self.invalid(name, "a text"))?)),
            },
        }
    }

    /// A yes or no, or `None`.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, LoadError> {
        match self.files {
            ModelFiles::Gguf(file) => Ok(file.metadata().bool(&self.key(name))?),
            ModelFiles::Checkpoint(_) => match self.field(name) {
                None => Ok(None),
                Some(value) => Ok(Some(value.as_bool().ok_or_else(|| self.invalid(name, "true or false"))?)),
            },
        }
    }

    /// A number for each layer, where the files have a list of them.
    pub(super) fn layer_numbers(&self, name: &str) -> Result<Option<Vec<usize>>, LoadError> {
        let (ModelFiles::Gguf(file), key) = (self.files, self.key(name)) else {
            let is_list = self.field(name).is_some_and(Value::is_array);
            return is_list.then(|| self.numbers(name)).transpose();
        };
        if !matches!(file.metadata().get(&key), Some(crate::gguf::Value::Array(_))) {
            return Ok(None);
        }
        Ok(Some(file.metadata().require_u32s(&key)?.into_iter().map(|number| number as usize).collect()))
    }

    /// Which layers have attention, of a model of which others have something else; all but every `n`-th have none where the files do not
    /// say.
    pub(super) fn attention_layers(&self, n: usize) -> Result<Vec<bool>, LoadError> {
        let layers = self.count("block_count")?;
        let (name, found): (_, Option<Vec<bool>>) = match self.files {
            ModelFiles::Gguf(file) => {
                let name = "attention.recurrent_layers";
                let recurrent = file.metadata().bools(&self.key(name))?;
                match self.layer_numbers("attention.head_count_kv")? {
                    Some(heads) => {
                        ("attention.head_count_kv", Some(heads.iter().map(|&heads| heads > 0).collect()))
                    }
                    None => (name, recurrent.map(|flags| flags.iter().map(|flag| !flag).collect())),
                }
            }
            ModelFiles::Checkpoint(_) => {
                let name = if self.has_field("layer_types") { "layer_types" } else { "layers_block_type" };
                let is_attention = |name: &str| name.ends_with("attention") && name != "linear_attention";
                let names = self.names(name)?;
                (name, names.map(|names| names.into_iter().map(is_attention).collect()))
            }
        };
        let found = if let Some(found) = found {
            found
        } else {
            let every = self.optional_count("full_attention_interval")?.unwrap_or(n);
            (1..=layers).map(|layer| layer.is_multiple_of(every)).collect()
        };
        if found.len() != layers {
            return Err(self.invalid(name, "as many entries as there are layers"));
        }
        Ok(found)
    }

    /// Heads of linear attention, of keys and of values, and their dimensions.
    ///
    /// # Errors
    /// If heads do not share keys evenly, or the convolution sees more tokens than there is room for.
    pub(super) fn recurrence(
        &self,
        rule: UpdateRule,
        decay: Decay,
        gate: RecurrenceGate,
    ) -> Result<Recurrence, LoadError> {
        let (heads, key_heads) = (self.count("ssm.time_step_rank")?, self.count("ssm.group_count")?);
        if !heads.is_multiple_of(key_heads) {
            return Err(self.invalid("ssm.group_count", "a divisor of the number of heads"));
        }
        let value_dim = if self.is_gguf() {
            let inner = self.count("ssm.inner_size")?;
            if !inner.is_multiple_of(heads) {
                return Err(self.invalid("ssm.inner_size", "a multiple of the number of heads"));
            }
            inner / heads
        } else {
            self.count("ssm.head_length")?
        };
        let key_dim = self.count("ssm.state_size")?;
        let taps = self.taps("ssm.conv_kernel")?;
        Ok(Recurrence { heads, key_heads, interleaved: false, key_dim, value_dim, taps, rule, decay, gate })
    }

    /// Checks that the steps of Mamba 2 have no bounds but 0: `config.json` may say so, in words that are no numbers.
    pub(super) fn steps_are_unlimited(&self) -> Result<(), LoadError> {
        let name = "time_step_limit";
        let Some(limits) = self.field(name).and_then(Value::as_array) else { return Ok(()) };
        match limits.as_slice() {
            [least, most] if least.as_f64() == Some(0.0) && most.as_f64().is_none() => Ok(()),
            _ => Err(self.invalid(name, "from 0 to infinity")),
        }
    }

    /// A list of positive factors, from `config.json` alone; all are 1 if it is not there.
    pub(super) fn factors<const N: usize>(&self, name: &str) -> Result<[f32; N], LoadError> {
        let Some(value) = self.field(name) else { return Ok([1.0; N]) };
        let values: Vec<f32> =
            value.as_array().into_iter().flatten().filter_map(|value| Some(value.as_f64()? as f32)).collect();
        let factors = values
            .try_into()
            .ok()
            .filter(|factors: &[f32; N]| factors.iter().all(|factor| factor.is_finite() && *factor > 0.0));
        factors.ok_or_else(|| self.invalid(name, "a positive number for each part"))
    }

    /// Tokens that a convolution sees.
    pub(super) fn taps(&self, name: &str) -> Result<usize, LoadError> {
        self.taps_of(name, self.count(name)?)
    }

    /// So many, which stand under `name`, if there is room for them.
    pub(super) fn taps_of(&self, name: &str, taps: usize) -> Result<usize, LoadError> {
        if taps == 0 || taps > MOST_TAPS { Err(self.invalid(name, "a number from 1 to 8")) } else { Ok(taps) }
    }

    /// Numbers of layers, from `config.json` alone.
    pub(super) fn numbers(&self, name: &str) -> Result<Vec<usize>, LoadError> {
        let numbers = self.field(name).map(|value| {
            let numbers =
                value.as_array().map(|values| values.iter().map(Value::as_u64).collect::<Option<Vec<_>>>());
            numbers.flatten().ok_or_else(|| self.invalid(name, "a list of numbers"))
        });
        Ok(numbers.transpose()?.unwrap_or_default().into_iter().map(|number| number as usize).collect())
    }

    /// A list of numbers, if the files have it.
    pub(super) fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, LoadError> {
        match self.files {
            ModelFiles::Gguf(file) => Ok(file.metadata().f32s(&self.key(name))?.map(<[f32]>::to_vec)),
            ModelFiles::Checkpoint(_) => {
                let Some(value) = self.field(name) else { return Ok(None) };
                let floats = value.as_array().and_then(|values| values.iter().map(Value::as_f64).collect());
                let floats: Vec<f64> = floats.ok_or_else(|| self.invalid(name, "a list of numbers"))?;
                Ok(Some(floats.into_iter().map(|number| number as f32).collect()))
            }
        }
    }

    /// A name for each layer, from `config.json` alone.
    pub(super) fn names(&self, name: &str) -> Result<Option<Vec<&'a str>>, LoadError> {
        let Some(value) = self.field(name) else { return Ok(None) };
        let names =
            value.as_array().and_then(|names| names.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        names.map(Some).ok_or_else(|| self.invalid(name, "a list of names"))
    }

    /// A field of an object in `config.json`.
    pub(super) fn within(&self, object: &str, name: &str) -> Option<&'a Value> {
        self.field(object)?.get(name)
    }

    /// A number that a layer has learned: of the list `name` in GGUF files, a tensor in checkpoints.
    pub(super) fn learned(&self, layer: usize, name: &str) -> Result<f32, LoadError> {
        let tensor = TensorName { layer: Some(layer), part: name, index: None, kind: "weight" };
        let (number, missing) = match self.files {
            ModelFiles::Gguf(file) => {
                let numbers = file.metadata().require_f32s(name)?;
                (numbers.get(layer).copied(), file.metadata().invalid(name, "a number for each layer").into())
            }
            ModelFiles::Checkpoint(_) => {
                let number = self.files.find(self.layout, &tensor)?.filter(|stored| stored.columns == 1);
                let number = number.and_then(|stored| stored.to_floats().first().copied());
                let tensor = self.files.name_of(self.layout, &tensor);
                (number, LoadError::MissingTensor { file: self.files.name(), tensor })
            }
        };
        number.ok_or(missing)
    }

    /// Whether `config.json` has the field.
    pub(super) fn has_field(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    /// Whether each layer sees a sliding window only, if the files say so.
    pub(super) fn sliding_layers(&self) -> Result<Option<Vec<bool>>, LoadError> {
        let flags = match self.files {
            ModelFiles::Gguf(file) => {
                let key = self.key("attention.sliding_window_pattern");
                // The same key is a number in other tools' files: every n-th layer. Only the array is explicit.
                if !matches!(file.metadata().get(&key), Some(crate::gguf::Value::Array(_))) {
                    return Ok(None);
                }
                file.metadata().require_bools(&key)?.to_vec()
            }
            ModelFiles::Checkpoint(checkpoint) => {
                let Some(types) = checkpoint.field("layer_types") else { return Ok(None) };
                let names = types.as_array().into_iter().flatten().map(Value::as_str);
                let slides = names.map(|name| match name {
                    Some("sliding_attention") => Ok(true),
                    Some("full_attention") => Ok(false),
                    _ => Err(self.invalid("layer_types", "a list of sliding_attention and full_attention")),
                });
                slides.collect::<Result<_, _>>()?
            }
        };
        if flags.len() != self.count("block_count")? {
            let name = if self.is_gguf() { "attention.sliding_window_pattern" } else { "layer_types" };
            return Err(self.invalid(name, "as many entries as there are layers"));
        }
        Ok(Some(flags))
    }

    /// The same; all but every `n`-th if the files do not say.
    pub(super) fn sliding_but_every(&self, n: usize) -> Result<Vec<bool>, LoadError> {
        Ok(match self.sliding_layers()? {
            Some(slides) => slides,
            None => (1..=self.count("block_count")?).map(|layer| !layer.is_multiple_of(n)).collect(),
        })
    }

    /// How many tokens attention sees, if that is limited; some files say 0 where it is not.
    pub(super) fn window(&self) -> Result<Option<usize>, LoadError> {
        let name = "attention.sliding_window";
        let is_off = match self.files {
            ModelFiles::Gguf(file) => file.metadata().u32(&self.key(name))? == Some(0),
            ModelFiles::Checkpoint(_) => self.field(name).is_some_and(|value| *value == 0),
        };
        if is_off { Ok(None) } else { self.optional_count(name) }
    }

    /// Lets the last layers, as many as the files say, see keys and values of earlier ones, and returns how many have some of their own.
    pub(super) fn share_keys(
        &self,
        architecture: &mut Architecture,
        slides: &[bool],
    ) -> Result<usize, LoadError> {
        let name = "attention.shared_kv_layers";
        let layers = architecture.layers.len();
        let own = layers.checked_sub(self.number(name)?.unwrap_or(0)).filter(|&own| own > 0);
        let own = own.ok_or_else(|| self.invalid(name, "fewer than there are layers"))?;
        let shared = architecture.share_keys(slides, own);
        shared.ok_or_else(|| self.invalid(name, "so few that layers of both kinds are in front"))?;
        Ok(own)
    }

    /// Root-mean-square norms. Files of Qwen 1 may call their epsilon that of layer norms.
    pub(super) fn rms_norm(&self) -> Result<Norm, LoadError> {
        let name = "attention.layer_norm_rms_epsilon";
        let epsilon = match self.float(name)? {
            Some(epsilon) => epsilon,
            None => {
                self.float("attention.layer_norm_epsilon")?.ok_or_else(|| self.invalid(name, "a number"))?
            }
        };
        Ok(Norm { kind: NormKind::Rms, epsilon })
    }

    /// Layer norms.
    pub(super) fn layer_norm(&self) -> Result<Norm, LoadError> {
        let name = "attention.layer_norm_epsilon";
        let epsilon = self.float(name)?.ok_or_else(|| self.invalid(name, "a number"))?;
        Ok(Norm { kind: NormKind::Layer, epsilon })
    }

    /// The attention that most families share: scaled by the root of the head's dimensions, turned by the first rope.
    pub(super) fn attention(&self) -> Result<Attention, LoadError> {
        let heads = self.count("attention.head_count")?;
        let kv_heads = self.optional_count("attention.head_count_kv")?.unwrap_or(heads);
        self.attention_of(heads, kv_heads)
    }

    /// The same with so many heads.
    pub(super) fn attention_of(&self, heads: usize, kv_heads: usize) -> Result<Attention, LoadError> {
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.invalid("attention.head_count_kv", "a divisor of the number of heads"));
        }
        let key_dim = match self.optional_count("attention.key_length")? {
            Some(key_dim) => key_dim,
            None => self.count("embedding_length")? / heads,
        };
        if key_dim == 0 {
            return Err(self.invalid("attention.head_count", "at most the width of the residual stream"));
        }
        let value_dim = if self.is_gguf() { self.optional_count("attention.value_length")? } else { None };
        Ok(Attention {
            heads,
            kv_heads,
            key_dim,
            value_dim: value_dim.unwrap_or(key_dim),
            scale: 1.0 / (key_dim as f32).sqrt(),
            rope: Some(0),
            alibi: false,
            window: None,
            soft_cap: None,
            sinks: false,
            keys_and_values: KeysAndValues::TwoMatrices,
            qk_norm: None,
            value_norm: None,
            norm_is_behind_rope: false,
            query_scale: None,
            gate: None,
        })
    }

    /// The same with a sliding window, if the files say so.
    pub(super) fn sliding_attention(&self) -> Result<Attention, LoadError> {
        Ok(Attention { window: self.window()?.map(Window::Sliding), ..self.attention()? })
    }

    /// The same without a rotary embedding.
    pub(super) fn attention_without_rope(&self) -> Result<Attention, LoadError> {
        Ok(Attention { rope: None, ..self.attention()? })
    }

    /// Pairs of families whose weights GGUF files hold permuted: halves become neighbours.
    pub(super) fn permuted_pairs(&self) -> RopePairs {
        if self.is_gguf() { RopePairs::Interleaved } else { RopePairs::Halves }
    }

    /// The rotary embedding that most families share.
    pub(super) fn rope(&self, pairs: RopePairs, head_dim: usize) -> Result<Rope, LoadError> {
        self.rope_with_ramp(pairs, head_dim, true)
    }

    /// The same, with a ramp of YaRN that is `rounded` or not where GGUF files do not say.
    pub(super) fn rope_with_ramp(
        &self,
        pairs: RopePairs,
        head_dim: usize,
        rounded: bool,
    ) -> Result<Rope, LoadError> {
        match self.files {
            ModelFiles::Gguf(_) => self.gguf_rope(pairs, head_dim, rounded),
            ModelFiles::Checkpoint(_) => self.config_rope(pairs, head_dim, "full_attention"),
        }
    }

    /// So many rotated dimensions, if heads of `head_dim` can have them.
    pub(super) fn rope_dimensions(&self, dimensions: usize, head_dim: usize) -> Result<usize, LoadError> {
        if dimensions == 0 || dimensions > head_dim || !dimensions.is_multiple_of(2) {
            let expected = "an even number of dimensions, at most the head's";
            return Err(self.invalid("rope.dimension_count", expected));
        }
        Ok(dimensions)
    }

    fn gguf_rope(&self, pairs: RopePairs, head_dim: usize, rounded: bool) -> Result<Rope, LoadError> {
        let dimensions = self.optional_count("rope.dimension_count")?.unwrap_or(head_dim);
        let rope = Rope {
            pairs,
            dimensions: self.rope_dimensions(dimensions, head_dim)?,
            base: f64::from(self.float("rope.freq_base")?.unwrap_or(10_000.0)),
            position_scale: 1.0,
            factors: RopeFactors::Tensor("rope_freqs"),
            magnitude: f64::from(self.float("rope.scaling.attn_factor")?.unwrap_or(1.0)),
        };
        let factor = self.float("rope.scaling.factor")?.or(self.float("rope.scale_linear")?).unwrap_or(1.0);
        let factor = f64::from(factor);
        match self.text("rope.scaling.type")? {
            None if factor == 1.0 => Ok(rope),
            Some("none" | "longrope") => Ok(rope), // the factors of LongRoPE are tensors
            None | Some("linear") => Ok(Rope { position_scale: 1.0 / factor, ..rope }),
            Some("yarn") => {
                let original = self.count("rope.scaling.original_context_length")?;
                let scale = |weight: f64| 0.1 * weight * libm::log(factor) + 1.0;
                // Where attention is scaled as a whole, the rotation is not.
                let all =
                    self.float("rope.scaling.yarn_log_multiplier")?.map_or(1.0, |all| scale(f64::from(all)));
                let fast = self.float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0);
                let slow = self.float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0);
                let turns = [fast, slow].map(f64::from);
                let magnitude = rope.magnitude * scale(1.0) / all;
                Ok(Rope { magnitude, ..rope.yarn(factor, turns, original as f64, rounded) })
            }
            Some(_) => Err(self.invalid("rope.scaling.type", "none, linear, yarn or longrope")),
        }
    }

    /// A field of the rotary embedding: of `rope_parameters` (for the layers of type `layer_type`, if it has them apart) or,
    /// in older files, of `rope_scaling` or `config.json` itself.
    fn rope_field(&self, layer_type: &str, name: &str) -> Option<&'a Value> {
        let objects = ROPE_OBJECTS.map(|name| self.field(name));
        let of = |object: &'a Value| {
            object.get(layer_type).unwrap_or(object).get(name).filter(|value| !value.is_null())
        };
        objects.into_iter().flatten().find_map(of)
    }

    pub(super) fn rope_number(&self, layer_type: &str, name: &'static str) -> Result<Option<f64>, LoadError> {
        match self.rope_field(layer_type, name).map(Value::as_f64) {
            None => Ok(None),
            Some(Some(value)) if value.is_finite() && value > 0.0 => Ok(Some(value)),
            Some(_) => Err(self.invalid(name, "a positive number")),
        }
    }

    /// The rotary embedding of the layers of type `layer_type`, from `config.json` in its old or its new form.
    pub(super) fn config_rope(
        &self,
        pairs: RopePairs,
        head_dim: usize,
        layer_type: &'static str,
    ) -> Result<Rope, LoadError> {
        for name in ROPE_OBJECTS {
            if self.field(name).is_some_and(|value| !value.is_object()) {
                return Err(self.invalid(name, "an object"));
            }
        }
        let number = |name| self.rope_number(layer_type, name);
        let share = match number("partial_rotary_factor")? {
            Some(share) => Some(share),
            None => self.float("partial_rotary_factor")?.or(self.float("rotary_pct")?).map(f64::from),
        };
        let dimensions = match (self.optional_count("rope.dimension_count")?, share) {
            (Some(dimensions), _) => dimensions,
            (None, share) => (head_dim as f64 * share.unwrap_or(1.0)) as usize,
        };
        let base = match number("rope_theta")? {
            Some(base) => base,
            None => f64::from(self.float("rope.freq_base")?.unwrap_or(10_000.0)),
        };
        let rope = Rope {
            pairs,
            dimensions: self.rope_dimensions(dimensions, head_dim)?,
            base,
            position_scale: 1.0,
            factors: RopeFactors::None,
            magnitude: 1.0,
        };
        let kind = self.rope_field(layer_type, "rope_type").or_else(|| self.rope_field(layer_type, "type"));
        let context = self.count("context_length")? as f64;
        let original = number("original_max_position_embeddings")?
            .or(self.optional_count("original_max_position_embeddings")?.map(|count| count as f64))
            .unwrap_or(context);
        let factor = || number("factor")?.ok_or_else(|| self.invalid("rope_scaling", "a factor"));
        match kind.map(Value::as_str) {
            None | Some(Some("default" | "dynamic" | "mrope")) => Ok(rope), // dynamic: as it is, within the trained context
            Some(Some("linear")) => Ok(Rope { position_scale: 1.0 / factor()?, ..rope }),
            Some(Some("proportional")) => {
                Ok(Rope { dimensions: head_dim, ..rope }.turned_in_part(dimensions))
            }
            Some(Some("llama3")) => {
                let turns =
                    [number("low_freq_factor")?.unwrap_or(1.0), number("high_freq_factor")?.unwrap_or(4.0)];
                Ok(rope.llama3(factor()?, turns, original))
            }
            Some(Some("yarn")) => {
                let turns = [number("beta_fast")?.unwrap_or(32.0), number("beta_slow")?.unwrap_or(1.0)];
                let factor = factor()?;
                let scale =
                    |weight: f64| if factor > 1.0 { 0.1 * weight * libm::log(factor) + 1.0 } else { 1.0 };
                let magnitude =
                    match (number("attention_factor")?, number("mscale")?, number("mscale_all_dim")?) {
                        (Some(magnitude), ..) => magnitude,
                        (None, Some(one), Some(all)) => scale(one) / scale(all),
                        _ => scale(1.0),
                    };
                let rounded = self.rope_field(layer_type, "truncate") != Some(&Value::Bool(false));
                Ok(Rope { magnitude, ..rope.yarn(factor, turns, original, rounded) })
            }
            Some(Some("longrope" | "su")) => {
                // One choice for all contexts, so that logits do not depend on what comes later.
                let (list, factor) = if context > original {
                    ("long_factor", context / original)
                } else {
                    ("short_factor", 1.0)
                };
                let factors =
                    self.rope_field(layer_type, list).and_then(Value::as_array).into_iter().flatten();
                let factors: Option<Vec<f32>> = factors.map(|value| Some(value.as_f64()? as f32)).collect();
                let factors = factors
                    .filter(|factors| {
                        factors.len() == rope.dimensions / 2 && factors.iter().all(|&f| f > 0.0)
                    })
                    .ok_or_else(|| {
                        self.invalid("rope_scaling", "a factor for each pair in short_factor and long_factor")
                    })?;
                let usual =
                    if factor > 1.0 { (1.0 + libm::log(factor) / libm::log(original)).sqrt() } else { 1.0 };
                let magnitude = number("attention_factor")?.unwrap_or(usual);
                Ok(Rope { factors: RopeFactors::Values(factors), magnitude, ..rope })
            }
            Some(_) => Err(self.invalid(
                "rope_scaling",
                "a type of default, linear, proportional, dynamic, llama3, yarn or longrope",
            )),
        }
    }

    /// A gated network with `activation`.
    pub(super) fn gated_mlp(&self, activation: Activation) -> Result<Mixer, LoadError> {
        Ok(Mixer::Dense(Mlp::gated(self.count("feed_forward_length")?, activation)))
    }

    /// A network without a gate; four times as wide as the residual stream where the files do not say.
    pub(super) fn plain_mlp(&self, activation: Activation) -> Result<Mixer, LoadError> {
        let size = match self.optional_count("feed_forward_length")? {
            Some(size) => size,
            None => 4 * self.count("embedding_length")?,
        };
        Ok(Mixer::Dense(Mlp { gated: false, ..Mlp::gated(size, activation) }))
    }

    /// A mixture of gated experts of width `size`.
    pub(super) fn experts(&self, size: usize, normalised: bool) -> Result<Experts, LoadError> {
        let (count, active) = (self.count("expert_count")?, self.count("expert_used_count")?);
        if active > count {
            return Err(self.invalid("expert_used_count", "at most the number of experts"));
        }
        let expert = Mlp::gated(size, Activation::Silu);
        let routing = Routing {
            scores: RouterScores::Softmax,
            bias: false,
            groups: None,
            normalised,
            scale: 1.0,
            weighs_inputs: false,
        };
        Ok(Experts { count, active, expert, routing, learned_scales: false, shared: None })
    }

    /// A mixture of gated experts in the manner of DeepSeek, beside as many shared ones as the files say: chosen by probability, or
    /// by the sigmoid of their scores and a bias; perhaps from some groups only, judged by their best or by their two best.
    ///
    /// Sources: DeepSeek-AI, "DeepSeek-V2" (2024), "DeepSeek-V3 Technical Report" (2024).
    pub(super) fn deepseek_experts(&self, scores: RouterScores) -> Result<Experts, LoadError> {
        let bias = scores == RouterScores::Sigmoid;
        let size = self.count("expert_feed_forward_length")?;
        let experts = self.experts(size, self.flag("expert_weights_norm")?.unwrap_or(false))?;
        let groups = match (self.number("expert_group_count")?, self.number("expert_group_used_count")?) {
            (Some(count @ 2..), Some(active)) => {
                if !experts.count.is_multiple_of(count) || active == 0 || active > count {
                    return Err(self.invalid("expert_group_count", "a divisor of the number of experts"));
                }
                Some(ExpertGroups { count, active, judged_by: if bias { 2 } else { 1 } })
            }
            _ => None,
        };
        let routing = Routing {
            scores,
            bias,
            groups,
            scale: self.float("expert_weights_scale")?.unwrap_or(1.0),
            ..experts.routing
        };
        Ok(Experts { routing, shared: self.shared_experts(experts.expert)?, ..experts })
    }

    /// Width of an expert: that of a network, where files give no other.
    pub(super) fn expert_width(&self) -> Result<usize, LoadError> {
        match self.optional_count("expert_feed_forward_length")? {
            Some(width) => Ok(width),
            None => self.count("feed_forward_length"),
        }
    }

    /// As many shared experts as the files say, each like `expert`: one network of all their widths.
    pub(super) fn shared_experts(&self, expert: Mlp) -> Result<Option<SharedExpert>, LoadError> {
        let count = self.number("expert_shared_count")?.unwrap_or(0);
        let mlp = Mlp { size: count * expert.size, ..expert };
        Ok((count > 0).then_some(SharedExpert { mlp, gated: false }))
    }

    /// A model whose layers are all the same: attention and a network, norms in front of both, nothing else.
    pub(super) fn uniform(
        &self,
        norm: Norm,
        attention: impl Into<Mixer>,
        ropes: Vec<Rope>,
        feed_forward: Mixer,
    ) -> Result<Architecture, LoadError> {
        let layer = Layer::new([attention.into(), feed_forward], Wiring::PreNorm);
        self.stack(norm, ropes, vec![layer; self.count("block_count")?])
    }

    /// A model of these layers.
    pub(super) fn stack(
        &self,
        norm: Norm,
        ropes: Vec<Rope>,
        layers: Vec<Layer>,
    ) -> Result<Architecture, LoadError> {
        Ok(Architecture {
            family: self.family,
            context_length: match self.optional_count("context_length")? {
                None if !self.is_gguf() && ropes.is_empty() => UNSAID_CONTEXT,
                None => self.count("context_length")?,
                Some(length) => length,
            },
            hidden_size: self.count("embedding_length")?,
            norm,
            embedding: Embedding { scale: 1.0, first_position: None, norm: false, per_layer: None },
            ropes,
            layers,
            output_factors: Vec::new(),
            altup: None,
            residual_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: None,
        })
    }
}
