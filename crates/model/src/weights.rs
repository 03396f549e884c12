//! The weights of a model: found in its files, cut and joined as the architecture wants them, and packed for the kernels.

mod loader;
mod packer;
mod parts;
mod rows;
mod source;

pub(crate) use self::loader::load;
pub(crate) use self::parts::{
    AltUpLayerWeights, AltUpWeights, AttentionWeights, BlockWeights, ConvolutionWeights, ExpertsWeights,
    LatentWeights, LaurelWeights, Linear, MixerWeights, MlpWeights, NormWeights, PerLayerInputsWeights,
    PerLayerWeights, RecurrenceWeights, ScanWeights, Series, Weights,
};
