//! The families of models, a file each.

mod apertus;
mod arcee;
mod baichuan;
mod bailing;
mod bloom;
mod chatglm;
mod cohere;
mod deepseek;
mod dots1;
mod ernie;
mod exaone4;
mod falcon;
mod falcon_h1;
mod gemma;
mod gemma3n;
mod gemma4;
mod glm4;
mod glm4_moe;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod gptj;
mod granite;
mod hunyuan;
mod internlm2;
mod jamba;
mod kimi_linear;
mod lfm2;
mod llama;
mod llama4;
mod mamba2;
mod minimax;
mod ministral3;
mod nemotron;
mod nemotron_h;
mod olmo2;
mod olmoe;
mod opt;
mod phi;
mod phi3;
mod phimoe;
mod qwen;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_next;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder2;

use super::family::Family;

/// All families.
pub(super) const ALL: &[Family] = &[
    apertus::FAMILY,
    arcee::FAMILY,
    baichuan::FAMILY,
    bailing::LING1,
    bailing::LING2,
    bailing::LING3,
    bloom::FAMILY,
    chatglm::FAMILY,
    cohere::COHERE,
    cohere::COHERE2,
    deepseek::V2,
    deepseek::V3,
    dots1::FAMILY,
    ernie::FAMILY,
    exaone4::FAMILY,
    falcon::FAMILY,
    falcon_h1::FAMILY,
    gemma::GEMMA,
    gemma::GEMMA2,
    gemma::GEMMA3,
    gemma3n::FAMILY,
    gemma4::FAMILY,
    glm4::GLM,
    glm4::GLM4,
    glm4_moe::FAMILY,
    gpt2::FAMILY,
    gpt_neox::FAMILY,
    gpt_oss::FAMILY,
    gptj::FAMILY,
    granite::FAMILY,
    granite::HYBRID,
    hunyuan::FAMILY,
    internlm2::FAMILY,
    jamba::FAMILY,
    kimi_linear::FAMILY,
    lfm2::LFM2,
    lfm2::LFM3,
    llama::FAMILY,
    mamba2::FAMILY,
    llama4::FAMILY,
    minimax::FAMILY,
    ministral3::FAMILY,
    nemotron::FAMILY,
    nemotron_h::FAMILY,
    olmo2::FAMILY,
    olmoe::FAMILY,
    opt::FAMILY,
    phi::FAMILY,
    phi3::FAMILY,
    phimoe::FAMILY,
    qwen::FAMILY,
    qwen2::FAMILY,
    qwen2_moe::FAMILY,
    qwen3::FAMILY,
    qwen3_next::NEXT,
    qwen3_next::QWEN3_5,
    seed_oss::FAMILY,
    smollm3::FAMILY,
    stablelm::FAMILY,
    starcoder2::FAMILY,
];
