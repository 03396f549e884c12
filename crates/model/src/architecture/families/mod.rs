//! The families of models, a file each.

mod baichuan;
mod bloom;
mod chatglm;
mod falcon;
mod gemma;
mod glm4;
mod gpt2;
mod gpt_neox;
mod gptj;
mod granite;
mod internlm2;
mod llama;
mod olmo2;
mod opt;
mod phi;
mod phi3;
mod qwen;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod stablelm;
mod starcoder2;

use super::family::Family;

/// All families.
pub(super) const ALL: &[Family] = &[
    baichuan::FAMILY,
    bloom::FAMILY,
    chatglm::FAMILY,
    falcon::FAMILY,
    gemma::GEMMA,
    gemma::GEMMA2,
    gemma::GEMMA3,
    glm4::GLM,
    glm4::GLM4,
    gpt2::FAMILY,
    gpt_neox::FAMILY,
    gptj::FAMILY,
    granite::FAMILY,
    internlm2::FAMILY,
    llama::FAMILY,
    olmo2::FAMILY,
    opt::FAMILY,
    phi::FAMILY,
    phi3::FAMILY,
    qwen::FAMILY,
    qwen2::FAMILY,
    qwen2_moe::FAMILY,
    qwen3::FAMILY,
    stablelm::FAMILY,
    starcoder2::FAMILY,
];
