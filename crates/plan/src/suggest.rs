//! "Did you mean": a word and the words that are possible, to the nearest one.
//!
//! Pure. Says nothing where the word is possible as it is, or where nothing is near.

/// Words further away than this many edits are no suggestion.
const NEAR: usize = 2;
/// Words longer than this are not compared: the cost grows with the product of the lengths.
const LONGEST: usize = 200;

/// The nearest of `options`, if one is near; the first of equals.
pub(crate) fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for option in options {
        if option == word {
            return None;
        }
        if option.len() > LONGEST || word.len() > LONGEST || option.len().abs_diff(word.len()) > 4 * NEAR {
            continue;
        }
        let distance = edits(word, option);
        if distance <= NEAR && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, option));
        }
    }
    best.map(|(_, option)| option)
}

/// Insertions, deletions and substitutions from one word to another.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let substituted = row[j] + usize::from(a != *b);
            next.push(substituted.min(row[j + 1] + 1).min(next[j] + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found() {
        for (word, want) in [
            ("bulid", Some("build")),
            ("build", None),
            ("buildr", Some("build")),
            ("TEST", None),
            ("tset", Some("test")),
            ("xyz", None),
        ] {
            assert_eq!(nearest(word, ["build", "test", "runtime"]), want, "{word}");
        }
    }
}
