//! The formats of calls that models were trained on.

use super::syntax::{self, Syntax};
use super::{CALL_BEGIN, harmony};

/// How a model writes calls of tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolFormat {
    /// Hermes, Qwen 2.5 and 3, Granite 4: `<tool_call>\n{"name": "f", "arguments": {…}}\n</tool_call>`.
    #[default]
    Hermes,
    /// Llama 3: `{"name": "f", "parameters": {…}}` as the whole answer; several with `;` between them.
    Llama3Json,
    /// Llama 4: `[f(a=1), g(b='x')]` as the whole answer.
    Pythonic,
    /// LFM2: `<|tool_call_start|>[f(a=1)]<|tool_call_end|>`.
    Lfm2,
    /// Qwen3-Coder, Qwen 3.5, Nemotron 3: `<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>`.
    Qwen3Coder,
    /// Seed-OSS: as Qwen3-Coder between `<seed:tool_call>` tags, values without line breaks.
    Seed,
    /// MiniMax-M2: `<minimax:tool_call>\n<invoke name="f">\n<parameter name="a">1</parameter>\n</invoke>\n</minimax:tool_call>`.
    MiniMax,
    /// MiniMax-M1: `<tool_calls>\n{"name": "f", "arguments": {…}}\n</tool_calls>`.
    ToolCallsLines,
    /// DeepSeek V3.2: tags as MiniMax's that say which values are strings.
    DeepSeekV32,
    /// DeepSeek V4: as V3.2 with another tag around calls.
    DeepSeekV4,
    /// GLM 4.5 and 4.6: `<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>`.
    Glm,
    /// GLM 4.7: the same without line breaks.
    GlmCompact,
    /// Mistral: `[TOOL_CALLS][{"name": "f", "arguments": {…}}]`.
    Mistral,
    /// Mistral since Small 3.2, Devstral, Ministral 3: `[TOOL_CALLS]f[ARGS]{…}`.
    MistralArgs,
    /// DeepSeek V3 and R1: JSON in a block of Markdown between control tokens.
    DeepSeekR1,
    /// DeepSeek V3.1: JSON between control tokens.
    DeepSeekV31,
    /// Kimi K2: JSON behind `functions.f:0`, between control tokens.
    KimiK2,
    /// gpt-oss: messages on channels, of which some are calls and some are thinking.
    Harmony,
    /// Granite 3: `<|tool_call|>[{"name": "f", "arguments": {…}}]`.
    Granite,
    /// Command R7B and Command A: `<|START_ACTION|>[{"tool_name": "f", "parameters": {…}}]<|END_ACTION|>`.
    CommandR,
    /// Nemotron Nano 2: `<TOOLCALL>[{"name": "f", "arguments": {…}}]</TOOLCALL>`.
    Nemotron,
    /// Hunyuan A13B, Apriel: `<tool_calls>[{"name": "f", "arguments": {…}}]</tool_calls>`.
    ToolCallsList,
    /// Hunyuan Hy3: as GLM with other tags, several calls in one block.
    Hunyuan,
    /// GigaChat 3.1: `<|function_call|>{"name": "f", "arguments": {…}}`.
    GigaChat,
    /// Functionary 3.1: `<function=f>{…}</function>`.
    Functionary,
    /// Gemma 4: `<|tool_call>call:f{a:1,b:<|"|>x<|"|>}<tool_call|>`.
    Gemma4,
    /// MiniMax-M3: as M2, each tag behind `]<]minimax[>[`, arguments in tags that nest.
    MiniMaxM3,
    /// Solar Open: `<|tool_calls|><|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>f<|tool_call:args|>{…}<|tool_call:end|><|calls|>`, in
    /// messages of which some are thinking.
    Solar,
    /// Apertus: `<|tools_prefix|>[{"f": {…}}]<|tools_suffix|>`.
    Apertus,
    /// Functionary 3.2: `>>>f\n{…}`, of which the prompt has written the beginning; `>>>all\n` before a text.
    FunctionaryV32,
    /// MiniCPM5: `<function name="f"><param name="a">1</param></function>`, with CDATA around what holds markup.
    MiniCpm,
    /// Kimi K3: tags that say the types of arguments, in messages of which some are thinking.
    KimiK3,
    /// GigaChat 3: a message `function call` of `{"name": "f", "arguments": {…}}` behind the text.
    GigaChatV3,
}

impl ToolFormat {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Hermes,
        Self::Llama3Json,
        Self::Pythonic,
        Self::Lfm2,
        Self::Qwen3Coder,
        Self::Seed,
        Self::MiniMax,
        Self::ToolCallsLines,
        Self::DeepSeekV32,
        Self::DeepSeekV4,
        Self::Glm,
        Self::GlmCompact,
        Self::Mistral,
        Self::MistralArgs,
        Self::DeepSeekR1,
        Self::DeepSeekV31,
        Self::KimiK2,
        Self::Harmony,
        Self::Granite,
        Self::CommandR,
        Self::Nemotron,
        Self::ToolCallsList,
        Self::Hunyuan,
        Self::GigaChat,
        Self::Functionary,
        Self::Gemma4,
        Self::MiniMaxM3,
        Self::Solar,
        Self::Apertus,
        Self::FunctionaryV32,
        Self::MiniCpm,
        Self::KimiK3,
        Self::GigaChatV3,
    ];

    /// The format that a chat template asks for, by what it writes around calls; [`Self::Hermes`] if it is none of those
    /// that are known.
    pub(crate) fn of_template(source: &str) -> Self {
        let has = |text: &str| source.contains(text);
        if has("DSML") {
            return if has("function_calls>") { Self::DeepSeekV32 } else { Self::DeepSeekV4 };
        }
        // Tags that are a part of others' stand behind them.
        let known = [
            (has("]<]minimax[>["), Self::MiniMaxM3),
            (has("<|tool_call:begin|>"), Self::Solar),
            (has("<|tools_prefix|>"), Self::Apertus),
            (has(">>>all"), Self::FunctionaryV32),
            (has("<function name=") && has("<param name="), Self::MiniCpm),
            (has("<|open|>") && has("<|close|>"), Self::KimiK3),
            (has("<tool_sep:opensource>") || has("<tool_sep{}>"), Self::Hunyuan),
            (has("<arg_key>") && (has("</arg_key>\n") || has(r"</arg_key>\n")), Self::Glm),
            (has("<arg_key>"), Self::GlmCompact),
            (has("<|channel|>") && has("<|message|>"), Self::Harmony),
            (has("<seed:tool_call>"), Self::Seed),
            (has("<minimax:tool_call>"), Self::MiniMax),
            (has("<function=") && has("<parameter="), Self::Qwen3Coder),
            (has("[TOOL_CALLS]") && has("[ARGS]"), Self::MistralArgs),
            (has("[TOOL_CALLS]"), Self::Mistral),
            (has("<｜tool▁sep｜>") && has("```json"), Self::DeepSeekR1),
            (has("<｜tool▁sep｜>"), Self::DeepSeekV31),
            (has("<|tool_calls_section_begin|>"), Self::KimiK2),
            (has("<|tool_call_start|>") || has("<|tool_list_start|>"), Self::Lfm2),
            (has("<|START_ACTION|>"), Self::CommandR),
            (has("<|tool_call>call:"), Self::Gemma4),
            (has("<function="), Self::Functionary),
            (has("<|function_call|>") && has("<|message_sep|>"), Self::GigaChat),
            (has("function call") && has("<|role_sep|>"), Self::GigaChatV3),
            (has("<TOOLCALL>"), Self::Nemotron),
            (has("<tool_calls>["), Self::ToolCallsList),
            (has("<tool_calls>"), Self::ToolCallsLines),
            (has("<|tool_call|>"), Self::Granite),
            (has(CALL_BEGIN), Self::Hermes),
            (has("[func_name"), Self::Pythonic),
            (["\"parameters\"", "ipython", "python_tag"].into_iter().any(has), Self::Llama3Json),
        ];
        known.into_iter().find(|(is_it, _)| *is_it).map_or(Self::Hermes, |(_, format)| format)
    }

    /// How calls are written; `None` for [`Self::Harmony`], whose messages are more than calls.
    pub fn syntax(self) -> Option<&'static Syntax> {
        Some(match self {
            Self::Hermes => &syntax::HERMES,
            Self::Llama3Json => &syntax::LLAMA3_JSON,
            Self::Pythonic => &syntax::PYTHONIC,
            Self::Lfm2 => &syntax::LFM2,
            Self::Qwen3Coder => &syntax::QWEN3_CODER,
            Self::Seed => &syntax::SEED,
            Self::MiniMax => &syntax::MINIMAX,
            Self::ToolCallsLines => &syntax::TOOL_CALLS_LINES,
            Self::DeepSeekV32 => &syntax::DEEPSEEK_V32,
            Self::DeepSeekV4 => &syntax::DEEPSEEK_V4,
            Self::Glm => &syntax::GLM,
            Self::GlmCompact => &syntax::GLM_COMPACT,
            Self::Mistral => &syntax::MISTRAL,
            Self::MistralArgs => &syntax::MISTRAL_ARGS,
            Self::DeepSeekR1 => &syntax::DEEPSEEK_R1,
            Self::DeepSeekV31 => &syntax::DEEPSEEK_V31,
            Self::KimiK2 => &syntax::KIMI_K2,
            Self::Harmony => return None,
            Self::Granite => &syntax::GRANITE,
            Self::CommandR => &syntax::COMMAND_R,
            Self::Nemotron => &syntax::NEMOTRON,
            Self::ToolCallsList => &syntax::TOOL_CALLS_LIST,
            Self::Hunyuan => &syntax::HUNYUAN,
            Self::GigaChat => &syntax::GIGACHAT,
            Self::Functionary => &syntax::FUNCTIONARY,
            Self::Gemma4 => &syntax::GEMMA4,
            Self::MiniMaxM3 => &syntax::MINIMAX_M3,
            Self::Solar => &syntax::SOLAR,
            Self::Apertus => &syntax::APERTUS,
            Self::FunctionaryV32 => &syntax::FUNCTIONARY_V32,
            Self::MiniCpm => &syntax::MINICPM,
            Self::KimiK3 => &syntax::KIMI_K3,
            Self::GigaChatV3 => &syntax::GIGACHAT_V3,
        })
    }

    /// What may be control tokens in the markup of calls: [`ToolCallParser`](super::ToolCallParser) must see them.
    pub fn shown_tokens(self) -> &'static [&'static str] {
        self.syntax().map_or(harmony::TOKENS, |syntax| syntax.tokens)
    }

    /// Whether the format marks more than calls, so that answers are parsed even where no tool may be called.
    pub fn has_channels(self) -> bool {
        self.syntax().is_none_or(|syntax| syntax.messages.is_some() || syntax.text_name().is_some())
    }
}
