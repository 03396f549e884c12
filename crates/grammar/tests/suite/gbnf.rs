//! Grammars in GBNF: what they allow is what they say.

use std::collections::BTreeSet;

use crate::common::{Model, Random};

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
            ("root ::= \"a\"{0} \"b\" | root{0,0} [c]{0}", &["b", ""], &["a", "ab", "c"]),
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

/// A random part of a rule.
fn random_part(random: &mut Random, depth: usize) -> String {
    let leaves = ["\"a\"", "[b-d]", "[^x]", ".", "\"\"", "root", "x", "y", "\"\\x00\"", "\"&/\"", "\"r1\""];
    let counts = ["", "", "*", "+", "?", "{0}", "{2}", "{0,1}", "{2000}", "{1,2000}"];
    let kind = if depth == 0 { 0 } else { random.below(4) };
    let mut inner = || random_part(random, depth - 1);
    let part = match kind {
        0 => leaves[random.below(leaves.len())].to_owned(),
        1 => format!("({} {})", inner(), inner()),
        2 => format!("({} | {})", inner(), inner()),
        _ => format!("({})", inner()),
    };
    part + counts[random.below(counts.len())]
}

/// What llguidance says of the grammar that it is given means nothing to whoever wrote another.
#[test]
fn errors_speak_of_the_grammar_that_was_sent() {
    let model = Model::byte_level();
    let mut random = Random(7);
    let mut problems = BTreeSet::new();
    for _ in 0..1_500 {
        let mut rule = || random_part(&mut random, 3);
        let grammar = format!("root ::= {}\nx ::= {}\ny ::= {}", rule(), rule(), rule());
        if let Err(error) = model.grammars.gbnf(&grammar) {
            problems.insert(error.to_string());
        }
    }
    assert!(!problems.is_empty());
    let is_inner =
        |problem: &&String| ["start", "lark", "at 2(", " R"].iter().any(|word| problem.contains(word));
    assert_eq!(problems.iter().find(is_inner), None);
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
