//! Forms of values of labels: what a schema can ask for, and what fits it.
//!
//! Text to yes or no. Nothing is looked up: a URL needs not be there, a commit needs not exist.

use std::str::FromStr;

use thiserror::Error;

/// What the value of a label has to be. Named as hadolint names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LabelForm {
    /// `text`: anything that isn't empty.
    #[default]
    Text,
    /// `url`: a URI as RFC 3986 writes it, with its scheme.
    Url,
    /// `rfc3339`: a time.
    Time,
    /// `semver`: MAJOR.MINOR.PATCH, and what may follow.
    Version,
    /// `hash`: a commit, whole or the beginning of one.
    Commit,
    /// `spdx`: a license expression.
    License,
    /// `email`: an address as RFC 5322 writes it.
    Email,
    /// Of the specification's `url`, `source` and `documentation`: a URL with a host, which a person can open.
    Link,
}

/// A form that's not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no form of a label: use text, url, rfc3339, semver, hash, spdx or email")]
pub struct UnknownForm(pub String);

impl FromStr for LabelForm {
    type Err = UnknownForm;

    fn from_str(name: &str) -> Result<Self, UnknownForm> {
        Ok(match name {
            "text" | "" => Self::Text,
            "url" => Self::Url,
            "rfc3339" => Self::Time,
            "semver" => Self::Version,
            "hash" => Self::Commit,
            "spdx" => Self::License,
            "email" => Self::Email,
            other => return Err(UnknownForm(other.to_owned())),
        })
    }
}

impl LabelForm {
    /// Of the label that has this name behind `org.opencontainers.image.`.
    pub(super) fn of_specification(name: &str) -> Self {
        match name {
            "url" | "source" | "documentation" => Self::Link,
            "created" => Self::Time,
            "licenses" => Self::License,
            "revision" => Self::Commit,
            "version" => Self::Version,
            _ => Self::Text,
        }
    }

    /// Is a value, which isn't empty, of this form?
    pub fn fits(self, value: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Url => is_uri(value),
            Self::Link => is_uri(value) && value.contains("://"),
            Self::Time => is_time(value),
            Self::Version => is_version(value),
            Self::Commit => is_commit(value),
            Self::License => is_license(value),
            Self::Email => is_email(value),
        }
    }

    /// Of a value that doesn't fit: the rule, what's wrong, what to do.
    pub(super) fn finding(self) -> Option<(&'static str, String, &'static str)> {
        let (rule, what, hint) = match self {
            Self::Text => return None,
            Self::Url | Self::Link => ("LabelNoUrl", "URL", "write https://…"),
            Self::Time => ("LabelNoTime", "time", "write it as 2026-01-31T12:00:00Z"),
            Self::License => ("LabelNoLicense", "SPDX expression", "write for example MIT OR Apache-2.0"),
            Self::Commit => ("LabelNoRevision", "commit", "write its 40 digits"),
            Self::Version => ("LabelNoVersion", "semantic version", "write MAJOR.MINOR.PATCH"),
            Self::Email => ("LabelNoEmail", "e-mail address", "write name@example.com, without a name in front"),
        };
        Some((rule, format!("the label's value is no {what}"), hint))
    }
}

fn is_uri(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once(':') else { return false };
    let scheme_is_one = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=".contains(c);
    let mut escapes = rest.split('%');
    let whole = escapes.next().is_some_and(|text| text.chars().all(plain))
        && escapes.all(|text| {
            text.len() >= 2 && text.chars().take(2).all(|c| c.is_ascii_hexdigit()) && text.chars().skip(2).all(plain)
        });
    let host = rest.strip_prefix("//");
    let host_is_there = host.is_none_or(|host| host.starts_with('/') || !host.is_empty());
    scheme_is_one && whole && !rest.is_empty() && host_is_there
}

/// `2026-01-31T12:00:00Z`, with a fraction and an offset if there are such.
fn is_time(value: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let bytes = value.as_bytes();
    let fits = |(&byte, &shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        other => byte == other,
    };
    if bytes.len() <= SHAPE.len() || !bytes.iter().zip(SHAPE).all(fits) {
        return false;
    }
    let number = |from: usize| value.get(from..from + 2).and_then(|digits| digits.parse::<u8>().ok());
    // A minute may end with a leap second.
    let highest = [(5, 1, 12), (8, 1, 31), (11, 0, 23), (14, 0, 59), (17, 0, 60)];
    if !highest.iter().all(|&(at, low, high)| number(at).is_some_and(|number| (low..=high).contains(&number))) {
        return false;
    }
    let rest = value.get(SHAPE.len()..).unwrap_or_default();
    let rest = rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let offset = rest.strip_prefix(['+', '-']).and_then(|offset| offset.split_once(':'));
    let two = |digits: &str| digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    matches!(rest, "Z" | "z") || offset.is_some_and(|(hours, minutes)| two(hours) && two(minutes))
}

/// Names between AND, OR and WITH. Whether there's a license of that name isn't asked.
fn is_license(value: &str) -> bool {
    let bare = value.replace(['(', ')'], " ");
    let words: Vec<&str> = bare.split_whitespace().collect();
    let name = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | ':'));
    words.len() % 2 == 1
        && words.iter().enumerate().all(|(place, word)| {
            let operator = matches!(*word, "AND" | "OR" | "WITH");
            if place % 2 == 1 { operator } else { !operator && name(word) }
        })
}

/// All 40 or 64 digits, or as many as git shows at least.
fn is_commit(value: &str) -> bool {
    ((7..=40).contains(&value.len()) || value.len() == 64)
        && value.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_version(value: &str) -> bool {
    let (value, build) = value.split_once('+').map_or((value, None), |(value, build)| (value, Some(build)));
    let (core, before) = value.split_once('-').map_or((value, None), |(core, before)| (core, Some(before)));
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let words = |text: Option<&str>| text.is_none_or(|text| text.split('.').all(word));
    core.split('.').count() == 3 && core.split('.').all(number) && words(before) && words(build)
}

/// `local@domain`: words with dots between, or a quoted text; then a host's name, or an address in brackets.
fn is_email(value: &str) -> bool {
    // Lengths are RFC 5321's, and RFC 1035's of a name's parts.
    const LOCAL: usize = 64;
    const DOMAIN: usize = 253;
    const PART: usize = 63;
    let Some((local, domain)) = value.rsplit_once('@') else { return false };
    let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let quoted = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).is_some_and(is_quoted_inside);
    let dotted = local.split('.').all(|part| !part.is_empty() && part.chars().all(atom));
    let label = |part: &str| {
        (1..=PART).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let literal = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let literal = literal.is_some_and(|inside| {
        !inside.is_empty() && inside.bytes().all(|byte| byte.is_ascii_graphic() && !b"[]\\".contains(&byte))
    });
    (1..=LOCAL).contains(&local.len())
        && (quoted || dotted)
        && (literal || domain.len() <= DOMAIN && domain.split('.').all(label))
}

/// Text between quotes: a quote or backslash in it has a backslash in front.
fn is_quoted_inside(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let fits = match c {
            '\\' => chars.next().is_some_and(|next| next == ' ' || next.is_ascii_graphic()),
            '"' => false,
            other => other == ' ' || other.is_ascii_graphic(),
        };
        if !fits {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fit_their_forms() {
        for (form, good, bad) in [
            ("", vec!["x"], vec![]),
            (
                "url",
                vec!["https://e/f?a=%20#x", "urn:a:b", "mailto:a@b"],
                vec!["e", "https://", "a b://c", "h://a b", "h://%2"],
            ),
            (
                "rfc3339",
                vec!["2026-01-31T12:00:00Z", "2026-01-31t12:00:00.5+02:00"],
                vec!["2026-13-31T12:00:00Z", "2026-01-31"],
            ),
            ("semver", vec!["1.2.3", "1.2.3-rc.1+5"], vec!["1.2", "v1.2.3", "1.2.3-", "1.2.3-a..b", "1.2.3+_"]),
            ("hash", vec!["0123abc", "0123456789012345678901234567890123456789"], vec!["0123ab", "0123ABC", "main"]),
            ("spdx", vec!["MIT", "MIT OR (Apache-2.0 AND BSD-3-Clause)"], vec!["Apache 2.0", "MIT OR", "OR"]),
            (
                "email",
                vec!["a@b", "a.b+c@d-e.example", "\"a b\\\"@\"@d.e", "a@[192.0.2.1]"],
                vec!["a", "@b", "a@", "a..b@c", "a b@c", "a@b..c", "a@-b", "\"a\"b\"@c", "A <a@b>", "a@[b]c"],
            ),
        ] {
            let form: LabelForm = form.parse().unwrap();
            for value in good {
                assert!(form.fits(value), "{form:?} {value}");
            }
            for value in bad {
                assert!(!form.fits(value), "{form:?} {value}");
            }
        }
        assert!("mail".parse::<LabelForm>().is_err());
        assert!(!LabelForm::Link.fits("mailto:a@b") && LabelForm::Link.fits("https://e"));
    }
}
