//! Models in several files, `NAME-00001-of-00003.gguf` and so on: the first has all metadata, and each some of the tensors.
//!
//! The keys `split.no`, `split.count` and `split.tensors.count` are those of llama.cpp's `gguf-split`.

use std::path::{Path, PathBuf};

use super::error::GgufError;
use super::metadata::Metadata;

/// Digits of a number in a part's name.
const DIGITS: usize = 5;

/// Which part a file says it is, counted from 0, and of how many; `None` if it is whole.
pub(super) fn place(metadata: &Metadata) -> Result<Option<(u64, u64)>, GgufError> {
    match metadata.u64("split.count")? {
        None | Some(0 | 1) => Ok(None),
        Some(count) => Ok(Some((metadata.require_u64("split.no")?, count))),
    }
}

/// Where all files of a model lie, by the name of any of them: that file itself, if its name is not that of a part.
///
/// ```
/// use lookahead_model::gguf::part_paths;
///
/// assert_eq!(part_paths("m/x-00002-of-00003.gguf".as_ref())[0], std::path::Path::new("m/x-00001-of-00003.gguf"));
/// assert_eq!(part_paths("m/x.gguf".as_ref()).len(), 1);
/// ```
pub fn part_paths(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(name_of_part);
    let Some((stem, count, extension)) = name else { return vec![path.to_owned()] };
    let name = |part: usize| format!("{stem}-{part:0DIGITS$}-of-{count:0DIGITS$}.{extension}");
    (1..=count).map(|part| path.with_file_name(name(part))).collect()
}

/// The name of a part as what stands before its number, how many there are, and its extension.
fn name_of_part(name: &str) -> Option<(&str, usize, &str)> {
    let number = |text: &str| {
        let is_number = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<usize>().ok()).flatten()
    };
    let (front, extension) = name.rsplit_once('.')?;
    let (front, count) = front.rsplit_once("-of-")?;
    let (stem, part) = front.rsplit_once('-')?;
    let (part, count) = (number(part)?, number(count)?);
    (1..=count).contains(&part).then_some((stem, count, extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_their_names() {
        let names = |name: &str| -> Vec<String> {
            part_paths(name.as_ref()).iter().map(|path| path.display().to_string()).collect()
        };
        let all = ["a-b-00001-of-00002.gguf", "a-b-00002-of-00002.gguf"];
        assert_eq!(names(all[0]), all);
        assert_eq!(names(all[1]), all);
        for whole in
            ["a.gguf", "a-00003-of-00002.gguf", "a-0001-of-0002.gguf", "00001-of-00002.gguf", "-of-.gguf"]
        {
            assert_eq!(names(whole), [whole]);
        }
    }
}
