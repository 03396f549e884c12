//! Grammars in GBNF: what they allow is what they say.

use crate::common::Model;

/// JSON as llama.cpp's users write it.
const JSON: &str = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
    string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [1-9] [0-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"#;

#[test]
fn a_grammar_allows_what_it_says_and_nothing_else() {
    for (kind, model) in Model::all() {
        for (grammar, right, wrong) in [
            ("root ::= \"yes\" | \"no\"", &["yes", "no"][..], &["", "maybe", "yesno"][..]),
            ("root ::= [a-c]+ \"c\"", &["ac", "abcc"], &["c", "ab"]), // one pattern: no lexeme eats the end
            ("root ::= \"a\" \"b\" \"c\" | \"ab\" \"d\"", &["abc", "abd"], &["ab", "ad"]),
            ("root ::= .{2} [^x]", &["a\n\"", "éé/"], &["aax", "aa"]),
            ("root ::= (\n  \"a\"\n  b # more\n)?\nb ::= \"b\"{2,3}", &["", "abb", "abbb"], &["ab", "abbbb"]),
            ("root ::= \"&&&&&\" | \"\"", &["&&&&&", ""], &["&"]),
            ("root ::= \"(\" root \")\" | \"x\"", &["x", "((x))"], &["(x", "()"]),
            (
                JSON,
                &[r#"{"a": [1, -2.5e3, {"b": "\u00e9\""}], "c":null }"#, "{}"],
                &["[]", r#"{"a"}"#, r#"{"a": 01}"#],
            ),
        ] {
            let follower = model.grammars.gbnf(grammar).unwrap_or_else(|error| panic!("{grammar}: {error}"));
            for text in right {
                assert!(model.allows(&mut follower.clone(), text), "{kind}, {grammar}: {text}");
            }
            for text in wrong {
                assert!(!model.allows(&mut follower.clone(), text), "{kind}, {grammar}: {text}");
            }
        }
    }
}

#[test]
fn a_wrong_grammar_is_refused_with_its_line() {
    let model = Model::byte_level();
    for (grammar, error) in [
        ("root ::= \"a\"\nother ::= (", "grammar: line 2: `)` should be where the end of the line is"),
        ("root ::= item", "grammar: line 1: there is no rule `item`"),
    ] {
        let found = model.grammars.gbnf(grammar).err().unwrap().to_string();
        assert!(found.starts_with(error), "{found}");
    }
    assert!(model.grammars.gbnf(&"root ::= \"a\" ".repeat(10_000)).is_err(), "too long");
    assert!(model.grammars.gbnf("root ::= root").is_err(), "nothing");
}

#[test]
fn repetitions_inside_each_other_are_refused_where_they_are_too_many() {
    let model = Model::byte_level();
    let refused = model.grammars.gbnf("root ::= ((\"a\"{2000}){2000}){2000}").err().unwrap().to_string();
    assert!(refused.contains("too many states"), "{refused}");
    for grammar in ["root ::= ((\"a\"?){2000}){2000}", "root ::= \"x\" | (root? [ab]{0,2000}){0,2000} \"x\""]
    {
        let mut follower = model.grammars.gbnf(grammar).unwrap_or_else(|error| panic!("{grammar}: {error}"));
        let text = if grammar.contains('x') { "x" } else { "aaa" };
        assert!(model.allows(&mut follower, text), "{grammar}");
    }
}
