//! Patterns of `${name#pattern}`, `##`, `%`, `%%`, `/` and `//`: `*`, `?` and `\` escapes, no classes.
//!
//! A pattern becomes a regular expression, so that matching is linear and agrees with BuildKit, which does the same.
//! Doesn't look at variables.

use regex::Regex;

use crate::word::ExpandError;

/// `value` without the shortest (longest if `greedy`) start that matches.
pub(crate) fn trim_start(pattern: &str, value: &str, greedy: bool) -> Result<String, ExpandError> {
    let end = compile(pattern, greedy, true)?.find(value).map_or(0, |found| found.end());
    Ok(value[end..].to_owned())
}

/// `value` without the shortest (longest if `greedy`) end that matches. A search runs forwards only, so both are turned
/// round.
pub(crate) fn trim_end(pattern: &str, value: &str, greedy: bool) -> Result<String, ExpandError> {
    let backwards: String = value.chars().rev().collect();
    let rest = trim_start(&reversed(pattern), &backwards, greedy)?;
    Ok(rest.chars().rev().collect())
}

/// `value` with the first (or every) longest match replaced; an error if that's longer than `limit`.
pub(crate) fn replace(
    pattern: &str,
    value: &str,
    replacement: &str,
    all: bool,
    limit: usize,
) -> Result<String, ExpandError> {
    let expression = compile(pattern, true, false)?;
    let mut text = String::new();
    let mut end = 0;
    for found in expression.find_iter(value).take(if all { usize::MAX } else { 1 }) {
        text.push_str(&value[end..found.start()]);
        text.push_str(replacement);
        end = found.end();
        if text.len() > limit {
            return Err(ExpandError::TooLong(limit));
        }
    }
    text.push_str(&value[end..]);
    Ok(text)
}

fn compile(pattern: &str, greedy: bool, anchored: bool) -> Result<Regex, ExpandError> {
    let failed = |reason: String| ExpandError::BadPattern { pattern: pattern.to_owned(), reason };
    let text = expression(pattern, greedy, anchored).map_err(failed)?;
    Regex::new(&text).map_err(|_| failed("the pattern is too long".to_owned()))
}

fn expression(pattern: &str, greedy: bool, anchored: bool) -> Result<String, String> {
    let mut out = String::from(if anchored { "^" } else { "" });
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' => out.push_str(if greedy { ".*" } else { ".*?" }),
            '?' => out.push('.'),
            '\\' => match characters.peek() {
                // These had to be escaped to get here; the escape is no part of the pattern.
                Some('}' | '/') => {}
                Some(&escaped @ ('*' | '?' | '\\')) => {
                    characters.next();
                    out.extend(['\\', escaped]);
                }
                other => return Err(format!("invalid escape '\\{}'", other.unwrap_or(&char::REPLACEMENT_CHARACTER))),
            },
            '[' | ']' | '{' | '}' | '.' | '+' | '(' | ')' | '|' | '^' | '$' => out.extend(['\\', character]),
            _ => out.push(character),
        }
    }
    Ok(out)
}

/// The pattern from its end to its start, each escape still before its character.
fn reversed(pattern: &str) -> String {
    let mut units: Vec<String> = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let escaped = (character == '\\').then(|| characters.next()).flatten();
        units.push([Some(character), escaped].into_iter().flatten().collect());
    }
    units.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        assert_eq!(expression("*a?\\*", true, true).as_deref(), Ok("^.*a.\\*"));
        assert_eq!(expression("(\\}", false, false).as_deref(), Ok("\\(\\}"));
        assert!(expression("\\", true, true).is_err());
        assert!(expression("\\x", true, true).is_err());
        assert_eq!(reversed("\\\\\\ab"), "b\\a\\\\");
        assert_eq!(reversed("ab\\"), "\\ba");
    }

    #[test]
    fn shortest_and_longest() {
        assert_eq!(trim_start("*x", "axbx", false).unwrap(), "bx");
        assert_eq!(trim_start("*x", "axbx", true).unwrap(), "");
        assert_eq!(trim_end("x*", "axbx", false).unwrap(), "axb");
        assert_eq!(trim_end("x*", "axbx", true).unwrap(), "a");
        assert_eq!(replace("", "ab", "-", true, 100).unwrap(), "-a-b-");
        assert_eq!(replace("", "ab", "-", false, 100).unwrap(), "-ab");
    }
}
