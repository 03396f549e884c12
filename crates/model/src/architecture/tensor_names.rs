//! How checkpoints name and store the tensors of a model.
//!
//! The engine's names are those of GGUF files. A checkpoint's names are given by tables, one a family over the one that most
//! share.

/// A tensor by the engine's name: `blk.LAYER.PART.weight` or `PART.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TensorName<'a> {
    /// The layer, if it is in one.
    pub(crate) layer: Option<usize>,
    /// What it is, such as `attn_q`.
    pub(crate) part: &'a str,
    /// Which expert's, or which head's, where a checkpoint has a tensor for each.
    pub(crate) index: Option<usize>,
    /// `weight`, `bias` or `scale`; empty if the name ends with the part.
    pub(crate) kind: &'static str,
}

impl TensorName<'_> {
    /// What a GGUF file calls the tensor.
    pub(crate) fn in_gguf(&self) -> String {
        let Self { layer, part, kind, .. } = *self;
        let name = match part.strip_prefix('=') {
            Some(whole) => whole.to_owned(),
            None if kind.is_empty() => part.to_owned(),
            None => format!("{part}.{kind}"),
        };
        layer.map_or_else(|| name.clone(), |layer| format!("blk.{layer}.{name}"))
    }
}

/// Where the rows of queries, keys and values lie in one matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FusedQkv {
    /// All queries, all keys, all values.
    #[default]
    Concatenated,
    /// For each head of keys its query heads, its key, its value.
    ByGroup,
}

/// How experts lie in a tensor for all of them, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stacking {
    /// Matrices have a row for each output, gates in front of ups.
    Rows,
    /// Matrices have a column for each output, gates and ups in turn.
    Columns,
    /// The same, gates in front of ups.
    HalvedColumns,
}

/// How a family's files name and store tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Tables of names, the first that has a part counts.
    pub(crate) names: &'static [&'static Names],
    /// Parts that go by another part's name if files have that; behind `=` stands a name without the kind.
    pub(crate) aliases: &'static [(&'static str, &'static str)],
    /// How `attn_qkv` is laid out.
    pub(crate) qkv: FusedQkv,
    /// Whether norms are stored without the 1 that belongs to them.
    pub(crate) norms_minus_one: bool,
    /// Whether matrices of layers are stored with a column for each output.
    pub(crate) transposed: bool,
    /// An output head of so many rows is used with rows of unit length.
    pub(crate) unit_head_rows: Option<usize>,
    /// How the matrices of experts lie in a tensor for all, where they have none of their own.
    pub(crate) stacking: Stacking,
    /// How fast a state decays, of the number that is stored for it.
    pub(crate) decay_rate: fn(f32) -> f32,
}

impl Layout {
    /// Named by `names`, stored as most are.
    pub(crate) const fn new(names: &'static [&'static Names]) -> Self {
        Self {
            names,
            aliases: &[],
            qkv: FusedQkv::Concatenated,
            norms_minus_one: false,
            transposed: false,
            unit_head_rows: None,
            stacking: Stacking::Rows,
            decay_rate: |logarithm| libm::exp(f64::from(logarithm)) as f32,
        }
    }

    /// How the family's GGUF files store tensors: all but the aliases is the same for all families.
    pub(crate) fn of_gguf(self) -> Self {
        Self { aliases: self.aliases, decay_rate: f32::abs, ..Self::new(&[]) }
    }

    /// The name itself, after its alias if it has one.
    pub(crate) fn aliases<'a>(
        &self,
        name: &TensorName<'a>,
    ) -> impl Iterator<Item = TensorName<'a>> + use<'a> {
        let alias = self.aliases.iter().find(|(ours, _)| *ours == name.part).map(|(_, theirs)| *theirs);
        let (name, alias) = (*name, alias.map(|part| TensorName { part, ..*name }));
        alias.into_iter().chain([name])
    }

    /// What a checkpoint calls the tensor: the first of these that it has. Some are saved without the name of the whole
    /// model in front, or with that of a larger one that it is part of.
    pub(crate) fn in_checkpoint(&self, name: &TensorName<'_>) -> Option<[String; 4]> {
        let TensorName { layer, part, index, kind } = *name;
        let full = self.names.iter().find_map(|names| {
            let table = if layer.is_some() { names.layer } else { names.model };
            let is_asked =
                |(ours, theirs): &&(&str, &str)| *ours == part && theirs.contains("{}") == index.is_some();
            let theirs = table.iter().find(is_asked)?.1;
            let theirs = index.map_or(theirs.to_owned(), |index| theirs.replace("{}", &index.to_string()));
            let theirs = match (theirs.strip_prefix('='), kind) {
                (Some(whole), "weight" | "") => whole.to_owned(),
                (Some(whole), _) => format!("{whole}_{kind}"),
                (None, _) => format!("{theirs}.{kind}"),
            };
            Some(match layer {
                Some(layer) => format!("{}.{layer}.{theirs}", names.layers),
                None => theirs,
            })
        })?;
        let without = full.split_once('.').map_or_else(String::new, |(_, rest)| rest.to_owned());
        let within = format!("language_model.{full}");
        let inside = full.replacen("model.", "model.language_model.", 1);
        Some([full, without, within, inside])
    }
}

/// A table of names: ours, the checkpoint's.
#[derive(Debug)]
pub(crate) struct Names {
    /// Of tensors outside layers.
    pub(crate) model: &'static [(&'static str, &'static str)],
    /// What stands before a layer's number.
    pub(crate) layers: &'static str,
    /// Of tensors in layers. Those of one expert, or of one head, have `{}` for its number; a part may have such a name and one for a tensor of
    /// all. A name behind `=` is that of the weight as it is, and
    /// that of the bias with `_bias` behind it.
    pub(crate) layer: &'static [(&'static str, &'static str)],
}

/// The names of Llama, which most families took over.
pub(crate) const LLAMA: Names = Names {
    model: &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")],
    layers: "model.layers",
    layer: &[
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_qkv", "self_attn.qkv_proj"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("attn_output", "self_attn.o_proj"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_gate_up", "mlp.gate_up_proj"),
        ("ffn_down", "mlp.down_proj"),
        ("ffn_gate_inp", "mlp.gate"),
        ("ffn_gate_exps", "mlp.experts.{}.gate_proj"),
        ("ffn_up_exps", "mlp.experts.{}.up_proj"),
        ("ffn_down_exps", "mlp.experts.{}.down_proj"),
        ("ffn_gate_up_exps", "=mlp.experts.gate_up_proj"),
        ("ffn_down_exps", "=mlp.experts.down_proj"),
        ("ffn_gate_inp_shexp", "mlp.shared_expert_gate"),
        ("ffn_gate_shexp", "mlp.shared_expert.gate_proj"),
        ("ffn_up_shexp", "mlp.shared_expert.up_proj"),
        ("ffn_down_shexp", "mlp.shared_expert.down_proj"),
    ],
};

/// In some families' GGUF files the norm of the network is named by where it stands in checkpoints.
pub(crate) const NORM_BY_PLACE: &[(&str, &str)] = &[("ffn_norm", "post_attention_norm")];

/// The names of DeepSeek V3's experts, which others took over.
pub(crate) const DEEPSEEK_EXPERTS: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("exp_probs_b", "=mlp.gate.e_score_correction"),
        ("ffn_gate_shexp", "mlp.shared_experts.gate_proj"),
        ("ffn_up_shexp", "mlp.shared_experts.up_proj"),
        ("ffn_down_shexp", "mlp.shared_experts.down_proj"),
    ],
};

/// The names of Gemma 2 and 3, of OLMo 2, where they are not Llama's.
pub(crate) const POST_NORMS: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("post_attention_norm", "post_attention_layernorm"),
        ("ffn_norm", "pre_feedforward_layernorm"),
        ("post_ffw_norm", "post_feedforward_layernorm"),
    ],
};

/// The names of what Gemma 3n and 4 give each layer of a token besides.
pub(crate) const PER_LAYER: Names = Names {
    model: &[
        ("per_layer_token_embd", "model.embed_tokens_per_layer"),
        ("per_layer_model_proj", "model.per_layer_model_projection"),
        ("per_layer_proj_norm", "model.per_layer_projection_norm"),
    ],
    layers: "model.layers",
    layer: &[
        ("inp_gate", "per_layer_input_gate"),
        ("proj", "per_layer_projection"),
        ("post_norm", "post_per_layer_input_norm"),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_has_the_names_of_models_that_are_part_of_larger_ones() {
        let name = TensorName { layer: Some(3), part: "attn_q", index: None, kind: "weight" };
        let tensor = "layers.3.self_attn.q_proj.weight";
        let expected = ["model.", "", "language_model.model.", "model.language_model."]
            .map(|prefix| format!("{prefix}{tensor}"));
        assert_eq!(Layout::new(&[&LLAMA]).in_checkpoint(&name), Some(expected));
    }
}
