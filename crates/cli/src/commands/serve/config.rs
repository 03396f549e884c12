//! The flags of `serve` from a file and from the environment: they become defaults of the command line, so that there is one
//! rule for all of them, and one place that checks values.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::{ArgAction, Command};
use toml::{Table, Value};

/// What stands in front of the names of environment variables.
const PREFIX: &str = "LOOKAHEAD_SERVE_";

/// The flag that names the file.
const CONFIG: &str = "config";

/// The command `serve` whose flags can also be set by the environment, and by the file at `config`.
///
/// # Errors
/// If the file cannot be read, is no TOML, or has a key that is no flag.
pub(crate) fn read(serve: Command, config: Option<&Path>) -> anyhow::Result<Command> {
    let serve = serve.mut_args(|arg| match arg.get_long() {
        Some(long) if !matches!(long, "help" | "version" | "verbose") => {
            let name = format!("{PREFIX}{}", long.replace('-', "_").to_uppercase());
            arg.env(name).hide_env(true)
        }
        _ => arg,
    });
    let Some(path) = config else { return Ok(serve) };
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read --config {name}"))?;
    let table: Table = text.parse().with_context(|| format!("--config {name}"))?;
    apply(serve, table).with_context(|| format!("--config {name}"))
}

/// `serve` with the values of `table` as defaults.
fn apply(mut serve: Command, table: Table) -> anyhow::Result<Command> {
    for (key, value) in table {
        let flags: Vec<(String, String, bool)> = serve
            .get_arguments()
            .filter_map(|arg| {
                let takes_value = !matches!(arg.get_action(), ArgAction::SetTrue);
                Some((arg.get_long()?.to_owned(), arg.get_id().to_string(), takes_value))
            })
            .collect();
        let known = flags.iter().find(|(long, _, _)| *long == key && key != CONFIG);
        let Some((_, id, takes_value)) = known else {
            let others = flags.iter().map(|(long, _, _)| long).filter(|long| *long != CONFIG);
            let nearest = others.min_by_key(|long| strsim::damerau_levenshtein(long, &key));
            let hint = nearest.map_or(String::new(), |long| format!("; did you mean `{long}`?"));
            bail!("`{key}` is no flag of `lookahead serve`{hint}");
        };
        let values = match value {
            Value::Array(values) => values.into_iter().map(text_of).collect::<Option<Vec<_>>>(),
            value => text_of(value).map(|text| vec![text]),
        };
        let Some(values) = values else {
            bail!("`{key}` is neither a text, a number, true or false, nor a list of them")
        };
        if !takes_value && !matches!(values.as_slice(), [one] if one == "true" || one == "false") {
            bail!("`{key}` is true or false");
        }
        serve = serve.mut_arg(id, |arg| arg.default_values(values));
    }
    Ok(serve)
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(is) => Some(is.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::super::ServeArgs;
    use super::*;

    fn parse(toml: &str, flags: &[&str]) -> anyhow::Result<ServeArgs> {
        let serve = apply(ServeArgs::augment_args(Command::new("serve")), toml.parse()?)?;
        let matches = serve.try_get_matches_from([&["serve"], flags].concat())?;
        Ok(ServeArgs::from_arg_matches(&matches)?)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file =
            "port = 9000\nmax-body = '1MiB'\nmodel-name = ['a', 'b']\nlog-prompts = true\nthreads = 1\n";
        let read = parse(file, &["--port", "9001"]).unwrap();
        assert_eq!((read.network.port, read.limits.max_queue), (9001, 256));
        assert_eq!(read.limits.max_body.as_u64(), 1 << 20);
        assert_eq!(read.network.model_name, ["a", "b"]);
        assert!(read.log.log_prompts);
        assert_eq!(read.load.threads.threads.get(), 1);
        assert!(!parse("log-prompts = false", &[]).unwrap().log.log_prompts);
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        for (file, problem) in [
            ("prot = 9000", "`prot` is no flag of `lookahead serve`; did you mean `port`?"),
            ("config = 'x'", "`config` is no flag"),
            ("port = 'many'", "many"),
            ("[port]\nx = 1", "`port` is neither"),
            ("log-prompts = 'yes'", "`log-prompts` is true or false"),
            ("parallel = 0", "at least 1"),
            ("tenant-share = 0", "from 1 to 100"),
        ] {
            let error = format!("{:#}", parse(file, &[]).unwrap_err());
            assert!(error.contains(problem), "{file}: {error}");
        }
    }
}
