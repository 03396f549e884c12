//! How calls are written, as data: the parser reads them by it, and grammars are made of it.

/// How calls of tools are written.
///
/// Literals are as templates write them, with their white space, of which the parser takes any.
#[derive(Debug, PartialEq, Eq)]
pub struct Syntax {
    /// What a call, or a run of calls, begins with.
    pub begin: &'static [&'static str],
    /// A call.
    pub call: CallSyntax,
    /// What stands between the calls of a run; `None` if each call has a beginning and an end of its own.
    pub between: Option<&'static str>,
    /// What a call, or a run of calls, ends with.
    pub end: &'static [&'static str],
    /// What stands between calls that each have a beginning and an end of their own.
    pub separator: &'static str,
    /// Whether calls stand anywhere in an answer; otherwise they are the whole answer.
    pub is_anywhere: bool,
    /// How an answer says which part of it is what, if it does.
    pub messages: Option<Messages>,
    /// What may be control tokens among the literals.
    pub tokens: &'static [&'static str],
}

impl Syntax {
    /// The name behind which a text stands, and not the arguments of a call.
    pub fn text_name(&self) -> Option<&'static str> {
        match self.call {
            CallSyntax::Named { name: NameSyntax::OrText(name), .. } => Some(name),
            _ => None,
        }
    }
}

/// The marks of answers that consist of messages: what the model thinks, a text, calls.
#[derive(Debug, PartialEq, Eq)]
pub struct Messages {
    /// What stands before and behind what the model thinks, if it says so.
    pub thought: Option<(&'static str, &'static str)>,
    /// What stands before and behind a text.
    pub text: (&'static str, &'static str),
    /// What stands between two messages.
    pub between: &'static str,
    /// What stands before calls that no text stands before.
    pub no_text: &'static str,
    /// What an answer may end with.
    pub end: &'static str,
    /// Whether the prompt ends with what stands before the first message.
    pub is_begun: bool,
}

impl Messages {
    /// All marks, as far as there are any.
    pub(super) fn marks(&self) -> impl Iterator<Item = &'static str> {
        let (open, close) = self.thought.unwrap_or_default();
        let marks = [open, close, self.text.0, self.text.1, self.between, self.end].map(str::trim);
        marks.into_iter().filter(|mark| !mark.is_empty())
    }

    /// Whether `mark` stands before what the model thinks.
    pub(super) fn begins_thought(&self, mark: &str) -> bool {
        self.thought.is_some_and(|(open, _)| open.trim() == mark)
    }
}

/// How a call is written between what it begins and ends with.
#[derive(Debug, PartialEq, Eq)]
pub enum CallSyntax {
    /// As a JSON object that holds the name and the arguments.
    Object {
        /// The key of the name.
        name: &'static str,
        /// The key of the arguments.
        arguments: &'static str,
        /// The number that calls have.
        id: IdSyntax,
    },
    /// As a name with arguments behind it.
    Named {
        /// What stands before the name.
        open: &'static str,
        /// How the name is written.
        name: NameSyntax,
        /// What stands behind the name.
        close: &'static str,
        /// The arguments.
        arguments: ArgumentSyntax,
        /// What stands behind the arguments.
        end: &'static str,
    },
}

/// Where the object of a call holds a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdSyntax {
    /// Nowhere.
    None,
    /// As a string of digits before the name, under this key.
    First(&'static str),
    /// As a string behind the arguments, if at all, under this key.
    Last(&'static str),
}

/// How the name of a tool is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSyntax {
    /// As it is.
    Plain,
    /// As `functions.name:0`, with the number of the call in the answer.
    Indexed,
    /// As `name" index="1`, with the number of the call in the answer.
    Counted,
    /// Behind ten letters or digits that tell calls apart, and this mark.
    BehindId(&'static str),
    /// As it is; behind this name stands a text.
    OrText(&'static str),
}

/// How arguments are written.
#[derive(Debug, PartialEq, Eq)]
pub enum ArgumentSyntax {
    /// As a JSON object.
    Json,
    /// Each between tags.
    Tagged(TagSyntax),
    /// As keyword arguments of Python, up to the closing parenthesis: `a=1, b='x')`.
    Python,
    /// As JSON without quotes around keys, with the token `<|"|>` around strings, behind the opening brace.
    Unquoted,
    /// Each between tags of its name, in which fields and items have tags of their own, up to what ends the call.
    Nested(NestedSyntax),
}

/// How tags that nest are written.
#[derive(Debug, PartialEq, Eq)]
pub struct NestedSyntax {
    /// What stands before every tag.
    pub mark: &'static str,
    /// The name of the tags of items.
    pub item: &'static str,
}

/// How an argument is written between tags.
#[derive(Debug, PartialEq, Eq)]
pub struct TagSyntax {
    /// What stands before the name of a parameter.
    pub key_open: &'static str,
    /// What stands behind it.
    pub key_close: &'static str,
    /// What stands before the value, and whether it says that the value is a string (`Some(true)`) or JSON
    /// (`Some(false)`). Where nothing stands there, this is empty.
    pub value_open: &'static [(&'static str, Option<bool>)],
    /// What stands behind the value.
    pub value_close: &'static str,
    /// What ends a value in answers, which may lack a line break.
    pub value_ends: &'static [&'static str],
    /// Whether a line break before the value is no part of it.
    pub is_on_own_line: bool,
    /// What stands before a value that holds markup or a line break, and what ends it, if such values are written so.
    pub raw: Option<(&'static str, &'static str)>,
    /// Whether truth values may be written as Python writes them.
    pub is_python: bool,
}

const OBJECT: CallSyntax = CallSyntax::Object { name: "name", arguments: "arguments", id: IdSyntax::None };

pub(super) static HERMES: Syntax = Syntax {
    begin: &["<tool_call>\n"],
    call: OBJECT,
    between: None,
    end: &["\n</tool_call>"],
    separator: "\n",
    is_anywhere: true,
    messages: None,
    tokens: &["<tool_call>", "</tool_call>"],
};

pub(super) static LLAMA3_JSON: Syntax = Syntax {
    begin: &[],
    call: CallSyntax::Object { name: "name", arguments: "parameters", id: IdSyntax::None },
    between: Some("; "),
    end: &[],
    separator: "",
    is_anywhere: false,
    messages: None,
    tokens: &["<|python_tag|>"],
};

pub(super) static PYTHONIC: Syntax = Syntax {
    begin: &["["],
    call: PYTHON_CALL,
    between: Some(", "),
    end: &["]"],
    separator: "",
    is_anywhere: false,
    messages: None,
    tokens: &["<|python_start|>"],
};

const PYTHON_CALL: CallSyntax = CallSyntax::Named {
    open: "",
    name: NameSyntax::Plain,
    close: "(",
    arguments: ArgumentSyntax::Python,
    end: "",
};

pub(super) static LFM2: Syntax = Syntax {
    begin: &["<|tool_call_start|>", "["],
    call: PYTHON_CALL,
    between: Some(", "),
    end: &["]", "<|tool_call_end|>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["<|tool_call_start|>", "<|tool_call_end|>"],
};

/// A function in tags as Qwen3-Coder writes it, values on lines of their own.
const FUNCTION_ON_LINES: CallSyntax = CallSyntax::Named {
    open: "<function=",
    name: NameSyntax::Plain,
    close: ">\n",
    arguments: ArgumentSyntax::Tagged(TagSyntax {
        key_open: "<parameter=",
        key_close: ">\n",
        value_open: &[],
        value_close: "\n</parameter>\n",
        value_ends: &["\n</parameter>", "</parameter>"],
        is_on_own_line: true,
        raw: None,
        is_python: false,
    }),
    end: "</function>",
};

pub(super) static QWEN3_CODER: Syntax = Syntax {
    begin: &["<tool_call>\n"],
    call: FUNCTION_ON_LINES,
    between: None,
    end: &["\n</tool_call>"],
    separator: "\n",
    is_anywhere: true,
    messages: None,
    tokens: &["<tool_call>", "</tool_call>"],
};

pub(super) static SEED: Syntax = Syntax {
    begin: &["<seed:tool_call>\n"],
    call: CallSyntax::Named {
        open: "<function=",
        name: NameSyntax::Plain,
        close: ">\n",
        arguments: ArgumentSyntax::Tagged(TagSyntax {
            key_open: "<parameter=",
            key_close: ">",
            value_open: &[],
            value_close: "</parameter>\n",
            value_ends: &["</parameter>"],
            is_on_own_line: false,
            raw: None,
            is_python: false,
        }),
        end: "</function>",
    },
    between: None,
    end: &["\n</seed:tool_call>"],
    separator: "\n",
    is_anywhere: true,
    messages: None,
    tokens: &["<seed:tool_call>", "</seed:tool_call>"],
};

pub(super) static MINIMAX: Syntax = Syntax {
    begin: &["<minimax:tool_call>\n"],
    call: CallSyntax::Named {
        open: "<invoke name=\"",
        name: NameSyntax::Plain,
        close: "\">\n",
        arguments: ArgumentSyntax::Tagged(TagSyntax {
            key_open: "<parameter name=\"",
            key_close: "\">",
            value_open: &[],
            value_close: "</parameter>\n",
            value_ends: &["</parameter>"],
            is_on_own_line: false,
            raw: None,
            is_python: false,
        }),
        end: "</invoke>",
    },
    between: Some("\n"),
    end: &["\n</minimax:tool_call>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["<minimax:tool_call>", "</minimax:tool_call>"],
};

const DSML: CallSyntax = CallSyntax::Named {
    open: "<｜DSML｜invoke name=\"",
    name: NameSyntax::Plain,
    close: "\">\n",
    arguments: ArgumentSyntax::Tagged(TagSyntax {
        key_open: "<｜DSML｜parameter name=\"",
        key_close: "\"",
        value_open: &[(" string=\"true\">", Some(true)), (" string=\"false\">", Some(false))],
        value_close: "</｜DSML｜parameter>\n",
        value_ends: &["</｜DSML｜parameter>"],
        is_on_own_line: false,
        raw: None,
        is_python: false,
    }),
    end: "</｜DSML｜invoke>",
};

pub(super) static DEEPSEEK_V32: Syntax = Syntax {
    begin: &["<｜DSML｜function_calls>\n"],
    call: DSML,
    between: Some("\n"),
    end: &["\n</｜DSML｜function_calls>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["｜DSML｜"],
};

pub(super) static DEEPSEEK_V4: Syntax = Syntax {
    begin: &["<｜DSML｜tool_calls>\n"],
    call: DSML,
    between: Some("\n"),
    end: &["\n</｜DSML｜tool_calls>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["｜DSML｜"],
};

const GLM_TOKENS: &[&str] =
    &["<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"];

pub(super) static GLM: Syntax = Syntax {
    begin: &["<tool_call>"],
    call: CallSyntax::Named {
        open: "",
        name: NameSyntax::Plain,
        close: "\n",
        arguments: ArgumentSyntax::Tagged(TagSyntax {
            key_open: "<arg_key>",
            key_close: "</arg_key>",
            value_open: &[("\n<arg_value>", None)],
            value_close: "</arg_value>\n",
            value_ends: &["</arg_value>"],
            is_on_own_line: false,
            raw: None,
            is_python: false,
        }),
        end: "</tool_call>",
    },
    between: None,
    end: &[],
    separator: "\n",
    is_anywhere: true,
    messages: None,
    tokens: GLM_TOKENS,
};

pub(super) static GLM_COMPACT: Syntax = Syntax {
    begin: &["<tool_call>"],
    call: CallSyntax::Named {
        open: "",
        name: NameSyntax::Plain,
        close: "",
        arguments: ArgumentSyntax::Tagged(TagSyntax {
            key_open: "<arg_key>",
            key_close: "</arg_key>",
            value_open: &[("<arg_value>", None)],
            value_close: "</arg_value>",
            value_ends: &["</arg_value>"],
            is_on_own_line: false,
            raw: None,
            is_python: false,
        }),
        end: "</tool_call>",
    },
    between: None,
    end: &[],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: GLM_TOKENS,
};

pub(super) static MISTRAL: Syntax = Syntax {
    begin: &["[TOOL_CALLS]", "["],
    call: CallSyntax::Object { name: "name", arguments: "arguments", id: IdSyntax::Last("id") },
    between: Some(", "),
    end: &["]"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["[TOOL_CALLS]"],
};

pub(super) static MISTRAL_ARGS: Syntax = Syntax {
    begin: &["[TOOL_CALLS]"],
    call: CallSyntax::Named {
        open: "",
        name: NameSyntax::Plain,
        close: "[ARGS]",
        arguments: ArgumentSyntax::Json,
        end: "",
    },
    between: None,
    end: &[],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"],
};

const DEEPSEEK_TOKENS: &[&str] = &[
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
];

pub(super) static DEEPSEEK_R1: Syntax = Syntax {
    begin: &["<｜tool▁calls▁begin｜>"],
    call: CallSyntax::Named {
        open: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        name: NameSyntax::Plain,
        close: "\n```json\n",
        arguments: ArgumentSyntax::Json,
        end: "\n```<｜tool▁call▁end｜>",
    },
    between: Some("\n"),
    end: &["<｜tool▁calls▁end｜>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: DEEPSEEK_TOKENS,
};

pub(super) static DEEPSEEK_V31: Syntax = Syntax {
    begin: &["<｜tool▁calls▁begin｜>"],
    call: CallSyntax::Named {
        open: "<｜tool▁call▁begin｜>",
        name: NameSyntax::Plain,
        close: "<｜tool▁sep｜>",
        arguments: ArgumentSyntax::Json,
        end: "<｜tool▁call▁end｜>",
    },
    between: Some(""),
    end: &["<｜tool▁calls▁end｜>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: DEEPSEEK_TOKENS,
};

pub(super) static KIMI_K2: Syntax = Syntax {
    begin: &["<|tool_calls_section_begin|>"],
    call: CallSyntax::Named {
        open: "<|tool_call_begin|>",
        name: NameSyntax::Indexed,
        close: "<|tool_call_argument_begin|>",
        arguments: ArgumentSyntax::Json,
        end: "<|tool_call_end|>",
    },
    between: Some(""),
    end: &["<|tool_calls_section_end|>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &[
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>",
        "<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        "<|tool_calls_section_end|>",
    ],
};

pub(super) static GRANITE: Syntax = Syntax {
    begin: &["<|tool_call|>", "["],
    call: OBJECT,
    between: Some(", "),
    end: &["]"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["<|tool_call|>"],
};

pub(super) static COMMAND_R: Syntax = Syntax {
    begin: &["<|START_ACTION|>", "[\n    "],
    call: CallSyntax::Object {
        name: "tool_name",
        arguments: "parameters",
        id: IdSyntax::First("tool_call_id"),
    },
    between: Some(",\n    "),
    end: &["\n]", "<|END_ACTION|>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["<|START_ACTION|>", "<|END_ACTION|>"],
};

pub(super) static NEMOTRON: Syntax = Syntax {
    begin: &["<TOOLCALL>", "["],
    call: OBJECT,
    between: Some(", "),
    end: &["]", "</TOOLCALL>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["<TOOLCALL>", "</TOOLCALL>"],
};

pub(super) static TOOL_CALLS_LIST: Syntax = Syntax {
    begin: &["<tool_calls>", "["],
    call: CallSyntax::Object { name: "name", arguments: "arguments", id: IdSyntax::Last("id") },
    between: Some(", "),
    end: &["]", "</tool_calls>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["<tool_calls>", "</tool_calls>"],
};

pub(super) static TOOL_CALLS_LINES: Syntax = Syntax {
    begin: &["<tool_calls>\n"],
    call: OBJECT,
    between: Some("\n"),
    end: &["\n</tool_calls>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["<tool_calls>", "</tool_calls>"],
};

pub(super) static HUNYUAN: Syntax = Syntax {
    begin: &["<tool_calls:opensource>\n"],
    call: CallSyntax::Named {
        open: "<tool_call:opensource>",
        name: NameSyntax::Plain,
        close: "<tool_sep:opensource>\n",
        arguments: ArgumentSyntax::Tagged(TagSyntax {
            key_open: "<arg_key:opensource>",
            key_close: "</arg_key:opensource>",
            value_open: &[("\n<arg_value:opensource>", None)],
            value_close: "</arg_value:opensource>\n",
            value_ends: &["</arg_value:opensource>"],
            is_on_own_line: false,
            raw: None,
            is_python: false,
        }),
        end: "</tool_call:opensource>",
    },
    between: Some("\n"),
    end: &["\n</tool_calls:opensource>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &[
        "<tool_calls:opensource>",
        "<tool_call:opensource>",
        "<tool_sep:opensource>",
        "<arg_key:opensource>",
        "</arg_key:opensource>",
        "<arg_value:opensource>",
        "</arg_value:opensource>",
        "</tool_call:opensource>",
        "</tool_calls:opensource>",
    ],
};

pub(super) static GIGACHAT: Syntax = Syntax {
    begin: &["<|function_call|>"],
    call: OBJECT,
    between: None,
    end: &[],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["<|function_call|>"],
};

pub(super) static FUNCTIONARY: Syntax = Syntax {
    begin: &["<function="],
    call: CallSyntax::Named {
        open: "",
        name: NameSyntax::Plain,
        close: ">",
        arguments: ArgumentSyntax::Json,
        end: "</function>",
    },
    between: None,
    end: &[],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &[],
};

pub(super) static GEMMA4: Syntax = Syntax {
    begin: &["<|tool_call>call:"],
    call: CallSyntax::Named {
        open: "",
        name: NameSyntax::Plain,
        close: "{",
        arguments: ArgumentSyntax::Unquoted,
        end: "<tool_call|>",
    },
    between: None,
    end: &[],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["<|tool_call>", "<tool_call|>", "<|\"|>"],
};

pub(super) static MINIMAX_M3: Syntax = Syntax {
    begin: &["]<]minimax[>[<tool_call>\n"],
    call: CallSyntax::Named {
        open: "]<]minimax[>[<invoke name=\"",
        name: NameSyntax::Plain,
        close: "\">",
        arguments: ArgumentSyntax::Nested(NestedSyntax { mark: "]<]minimax[>[", item: "item" }),
        end: "]<]minimax[>[</invoke>",
    },
    between: Some("\n"),
    end: &["\n]<]minimax[>[</tool_call>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["]<]minimax[>["],
};

pub(super) static SOLAR: Syntax = Syntax {
    begin: &["<|tool_calls|>"],
    call: CallSyntax::Named {
        open: "<|tool_call:begin|>",
        name: NameSyntax::BehindId("<|tool_call:name|>"),
        close: "<|tool_call:args|>",
        arguments: ArgumentSyntax::Json,
        end: "<|tool_call:end|>",
    },
    between: Some(""),
    end: &[],
    separator: "",
    is_anywhere: true,
    messages: Some(Messages {
        thought: Some(("<|think|>", "<|end|>")),
        text: ("<|content|>", "<|end|>"),
        between: "<|begin|>assistant",
        no_text: "",
        end: "<|calls|>",
        is_begun: false,
    }),
    tokens: &[
        "<|begin|>",
        "<|think|>",
        "<|content|>",
        "<|end|>",
        "<|tool_calls|>",
        "<|tool_call:begin|>",
        "<|tool_call:name|>",
        "<|tool_call:args|>",
        "<|tool_call:end|>",
        "<|calls|>",
        "<|flush|>",
    ],
};

pub(super) static APERTUS: Syntax = Syntax {
    begin: &["<|tools_prefix|>", "["],
    call: CallSyntax::Named {
        open: "{\"",
        name: NameSyntax::Plain,
        close: "\": ",
        arguments: ArgumentSyntax::Json,
        end: "}",
    },
    between: Some(", "),
    end: &["]", "<|tools_suffix|>"],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &["<|tools_prefix|>", "<|tools_suffix|>"],
};

pub(super) static FUNCTIONARY_V32: Syntax = Syntax {
    begin: &[">>>"],
    call: CallSyntax::Named {
        open: "",
        name: NameSyntax::OrText("all"),
        close: "\n",
        arguments: ArgumentSyntax::Json,
        end: "",
    },
    between: None,
    end: &[],
    separator: "",
    is_anywhere: true,
    messages: None,
    tokens: &[],
};

pub(super) static MINICPM: Syntax = Syntax {
    begin: &["<function name=\""],
    call: CallSyntax::Named {
        open: "",
        name: NameSyntax::Plain,
        close: "\">",
        arguments: ArgumentSyntax::Tagged(TagSyntax {
            key_open: "<param name=\"",
            key_close: "\">",
            value_open: &[],
            value_close: "</param>",
            value_ends: &["</param>"],
            is_on_own_line: false,
            raw: Some(("<![CDATA[", "]]></param>")),
            is_python: true,
        }),
        end: "</function>",
    },
    between: None,
    end: &[],
    separator: "\n",
    is_anywhere: true,
    messages: None,
    tokens: &["<function", "</function>", "<param", "</param>", "<![CDATA[", "]]>"],
};

pub(super) static KIMI_K3: Syntax = Syntax {
    begin: &["<|open|>tools<|sep|>"],
    call: CallSyntax::Named {
        open: "<|open|>call tool=\"",
        name: NameSyntax::Counted,
        close: "\"<|sep|>",
        arguments: ArgumentSyntax::Tagged(TagSyntax {
            key_open: "<|open|>argument key=\"",
            key_close: "\"",
            value_open: &[
                (" type=\"string\"<|sep|>", Some(true)),
                (" type=\"number\"<|sep|>", Some(false)),
                (" type=\"boolean\"<|sep|>", Some(false)),
                (" type=\"null\"<|sep|>", Some(false)),
                (" type=\"object\"<|sep|>", Some(false)),
                (" type=\"array\"<|sep|>", Some(false)),
            ],
            value_close: "<|close|>argument<|sep|>",
            value_ends: &["<|close|>argument<|sep|>"],
            is_on_own_line: false,
            raw: None,
            is_python: false,
        }),
        end: "<|close|>call<|sep|>",
    },
    between: Some(""),
    end: &["<|close|>tools<|sep|>"],
    separator: "",
    is_anywhere: true,
    messages: Some(Messages {
        thought: Some(("<|open|>think<|sep|>", "<|close|>think<|sep|>")),
        text: ("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
        between: "",
        no_text: "<|open|>response<|sep|><|close|>response<|sep|>",
        end: "<|close|>message<|sep|>",
        is_begun: true,
    }),
    tokens: &["<|open|>", "<|close|>", "<|sep|>"],
};

pub(super) static GIGACHAT_V3: Syntax = Syntax {
    begin: &["function call<|role_sep|>\n"],
    call: OBJECT,
    between: None,
    end: &[],
    separator: "<|message_sep|>\n\n",
    is_anywhere: true,
    messages: Some(Messages {
        thought: None,
        text: ("", "<|message_sep|>\n\n"),
        between: "",
        no_text: "<|message_sep|>\n\n",
        end: "<|message_sep|>\n\n",
        is_begun: false,
    }),
    tokens: &["<|message_sep|>", "<|message_sep|>\n\n", "<|role_sep|>", "<|role_sep|>\n"],
};
