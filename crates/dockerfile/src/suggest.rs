//! "Did you mean": the nearest of some names to one that was mistyped.
//!
//! Names in, at most one name out. Doesn't build messages.

/// More edits than this are another word, not a slip.
const FARTHEST: usize = 2;

/// The option nearest to `value`, at most two edits away; the first of several. `None` where `value` is an option.
pub fn nearest<'a>(value: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = None;
    let mut bound = FARTHEST + 1;
    for option in options {
        if option == value {
            return None;
        }
        let distance = edit_distance(value, option);
        if distance < bound {
            bound = distance;
            best = Some(option);
        }
    }
    best
}

/// [`nearest`] without regard to case; the answer takes the case of `value` where that is all upper or all lower.
pub fn nearest_ignoring_case<'a>(value: &str, options: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower: Vec<String> = options.into_iter().map(str::to_lowercase).collect();
    let found = nearest(&value.to_lowercase(), lower.iter().map(String::as_str))?;
    Some(if value == value.to_uppercase() { found.to_uppercase() } else { found.to_owned() })
}

/// Insertions, deletions, replacements of characters and swaps of neighbours that turn `a` into `b` (optimal string
/// alignment).
///
/// Words whose lengths differ by more than two are too far apart to be compared: that difference is given for them.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let apart = a.chars().count().abs_diff(b.chars().count());
    if apart > FARTHEST { apart } else { strsim::osa_distance(a, b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("run", "rum", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
            ("rnu", "run", 1),
            ("rnu", "env", 2),
        ] {
            assert_eq!(edit_distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn suggestions() {
        let names = ["RUN", "COPY", "ENTRYPOINT"];
        assert_eq!(nearest_ignoring_case("FNTRYPOINT", names).as_deref(), Some("ENTRYPOINT"));
        assert_eq!(nearest_ignoring_case("entrpoint", names).as_deref(), Some("entrypoint"));
        assert_eq!(nearest_ignoring_case("run", names), None, "the word itself is no suggestion");
        assert_eq!(nearest("mont", ["mount", "network"]), Some("mount"));
        assert_eq!(nearest("BOGUS", names), None);
        assert_eq!(nearest_ignoring_case("rnu", ["ENV", "RUN"]).as_deref(), Some("run"));
    }
}
