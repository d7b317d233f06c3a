//! Assignments of something random to a name that says it is a secret: `SECRET_KEY = "…"`.
//!
//! The text around a word such as `secret` in, a judgement out. Read by hand rather than by a regular expression, since
//! such words are frequent in programs and nearly all of them can be passed over after a few bytes.

use super::likely::{distinct, entropy, holds_any, stand_in};

/// Words of which one must stand in the name. Each in the three ways in which names are written.
pub(super) const WORDS: &[&str] = &[
    "secret",
    "SECRET",
    "Secret",
    "passw",
    "PASSW",
    "Passw",
    "token",
    "TOKEN",
    "Token",
    "api_key",
    "API_KEY",
    "apikey",
    "apiKey",
    "APIKEY",
    "ApiKey",
    "api-key",
    "access_key",
    "ACCESS_KEY",
    "accessKey",
    "private_key",
    "PRIVATE_KEY",
    "_KEY",
];
/// The longest name that is read.
const NAME: usize = 64;
/// The longest value.
const VALUE: usize = 256;
/// The shortest value in a file: shorter ones are words and samples.
const SHORTEST: usize = 16;
/// Bits a character. Identifiers and English lie below, keys of twenty characters above.
const RANDOM: f64 = 3.5;
/// Last words of a name that say that a secret stands behind it.
const SECRET_WORDS: &[&str] = &[
    "secret",
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "pwd",
    "token",
    "apikey",
    "credential",
    "credentials",
    "pass",
];
/// Words before `key` that make it a secret one.
const KEYS: &[&str] = &[
    "secret",
    "api",
    "access",
    "private",
    "auth",
    "signing",
    "sign",
    "encryption",
    "crypt",
    "master",
    "account",
    "session",
    "jwt",
    "hmac",
    "service",
    "app",
    "fernet",
    "flask",
];
/// Words anywhere in a name that say that what stands behind it may be known: digests, names of things, identifiers.
const PUBLIC_WORDS: &[&str] = &[
    "public",
    "pub",
    "fingerprint",
    "sha256",
    "sha512",
    "sha1",
    "md5",
    "digest",
    "checksum",
    "hash",
    "gpg",
    "id",
    "url",
    "uri",
    "name",
    "type",
    "field",
    "file",
    "path",
    "header",
    "test",
    "example",
    "csrf",
    "xsrf",
    "next",
    "page",
    "pagination",
    "continuation",
    "cursor",
    "mask",
    "pad",
    "eos",
    "bos",
    "unk",
    "sep",
    "cls",
];

/// A judged assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Assignment {
    /// Where its name begins.
    pub(super) start: usize,
    /// Where its name ends.
    pub(super) end: usize,
    /// The rule that it falls under.
    pub(super) rule: &'static str,
}

/// Looks around a word of [`WORDS`] at `at` in a file's text. `bare`: values may stand without quotes.
pub(super) fn around(text: &[u8], at: usize, bare: bool) -> Option<Assignment> {
    let (start, end) = name_around(text, at)?;
    let name = text.get(start..end)?;
    let value = value_behind(text.get(end..)?, bare)?;
    if value.len() < SHORTEST || !says_secret(name) {
        return None;
    }
    if value.starts_with(b"django-insecure-") {
        return Some(Assignment { start, end, rule: "DjangoInsecureKey" });
    }
    random(value).then_some(Assignment { start, end, rule: "SecretAssignment" })
}

/// A variable, label or option of the configuration: its name says that it is a secret, and something stands behind it.
pub(super) fn setting(name: &[u8], value: &[u8]) -> bool {
    // Ports, switches, places and words such as `none` are no secrets whatever their names say.
    let word = value.len() < 6 || value.iter().all(u8::is_ascii_digit) && value.len() < 8;
    says_secret(name) && !word && !place(value) && !stand_in(value) && distinct(value) > 3
}

/// The identifier that a position lies in.
fn name_around(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'-';
    let before = text.get(..at)?.iter().rev().take(NAME).take_while(|byte| part(byte)).count();
    let behind = text.get(at..)?.iter().take(NAME).take_while(|byte| part(byte)).count();
    (before + behind < NAME).then_some((at - before, at + behind))
}

/// The value behind a name: `= "…"`, `: "…"`, `"] = "…"`, `: str = "…"`, `=> '…'`.
fn value_behind(text: &[u8], bare: bool) -> Option<&[u8]> {
    let rest = text.get(..text.len().min(VALUE + 64))?;
    let rest = rest.strip_prefix(b"\"").or_else(|| rest.strip_prefix(b"'")).unwrap_or(rest);
    let rest = blank(rest.strip_prefix(b"]").unwrap_or(rest));
    let rest = match rest.split_first()? {
        (b'=', rest) if rest.first() == Some(&b'=') => return None,
        (b'=', rest) => rest.strip_prefix(b">").unwrap_or(rest),
        (b':', rest) => annotated(rest.strip_prefix(b"=").unwrap_or(rest)),
        _ => return None,
    };
    let rest = blank(rest);
    let rest = rest.strip_prefix(b"b").filter(|rest| matches!(rest.first(), Some(b'"' | b'\''))).unwrap_or(rest);
    let (&quote, inner) = rest.split_first()?;
    if quote == b'"' || quote == b'\'' {
        let end = inner.iter().position(|&byte| byte == quote || byte == b'\n')?;
        return (inner.get(end) == Some(&quote)).then(|| inner.get(..end)).flatten();
    }
    let end = rest.iter().position(|byte| b" \t\r\n;#,".contains(byte)).unwrap_or(rest.len());
    rest.get(..end).filter(|_| bare)
}

/// What follows a type between name and value.
fn annotated(text: &[u8]) -> &[u8] {
    let behind = blank(text);
    let word = behind.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"_.[]|".contains(byte)).count();
    match behind.get(word..).map(blank).and_then(|rest| rest.strip_prefix(b"=")) {
        Some(rest) if word > 0 && rest.first() != Some(&b'=') => rest,
        _ => text,
    }
}

fn blank(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    text.get(blanks..).unwrap_or_default()
}

/// The last word of the name is one for secrets, and none says the opposite.
pub(super) fn says_secret(name: &[u8]) -> bool {
    let words = words(name);
    let Some((last, before)) = words.split_last() else { return false };
    if words.iter().any(|word| PUBLIC_WORDS.contains(&word.as_str())) {
        return false;
    }
    match last.as_str() {
        "key" | "keys" => before.last().is_some_and(|word| KEYS.contains(&word.as_str())),
        last => SECRET_WORDS.contains(&last),
    }
}

/// `apiKey`, `API_KEY` and `api-key` are `api`, `key`.
fn words(name: &[u8]) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    let mut lower_before = false;
    for &byte in name {
        let character = char::from(byte);
        let letter = character.is_ascii_alphanumeric();
        if !letter || character.is_ascii_uppercase() && lower_before {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter) {
            word.push(character.to_ascii_lowercase());
        }
        lower_before = character.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Drawn by a machine, not written by a person.
fn random(value: &[u8]) -> bool {
    let graphic = value.iter().all(u8::is_ascii_graphic);
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = value.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    if !graphic || digits < 2 || letters < 2 || place(value) || stand_in(value) {
        return false;
    }
    // Sixteen different digits hold four bits at most.
    let hex = value.iter().all(u8::is_ascii_hexdigit);
    entropy(value) >= if hex { 3.0 } else { RANDOM }
}

/// Addresses, paths, calls and references to other things.
fn place(value: &[u8]) -> bool {
    holds_any(value, &[b"://", b"(", b"::", b"arn:"])
        || value.first() == Some(&b'/')
        || value.starts_with(b"./")
        || value.starts_with(b"~/")
        || memchr::memchr_iter(b'.', value).count() > 1
            && value.iter().all(|byte| byte.is_ascii_alphabetic() || b"._".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in [
            "SECRET_KEY",
            "secretKey",
            "db_password",
            "API_KEY",
            "x-api-key",
            "GITHUB_TOKEN",
            "apikey",
            "PGPASSWORD_PWD",
        ] {
            assert!(says_secret(name.as_bytes()), "{name}");
        }
        for name in [
            "GPG_KEY",
            "token_type",
            "secret_name",
            "PASSWORD_FILE",
            "primary_key",
            "PUBLIC_API_KEY",
            "tokenizer",
            "",
            "key",
            "csrf_token",
        ] {
            assert!(!says_secret(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn settings() {
        for (name, value, want) in [
            ("DB_PASSWORD", "hunter2-prod", true),
            ("DB_PASSWORD", "${DB_PASSWORD}", false),
            ("DB_PASSWORD", "changeme", false),
            ("DB_PASSWORD", "", false),
            ("DB_PASSWORD_FILE", "/run/secrets/db", false),
            ("SECRET", "/run/secrets/db", false),
            ("API_TOKEN", "false", false),
            ("GPG_KEY", "A035C8C19219BA821ECEA86B64E628F8D684696D", false),
            ("PYTHON_SHA256", "c8f1f6cbb4a58ee9cdd3c1f5c4c9a51d", false),
        ] {
            assert_eq!(setting(name.as_bytes(), value.as_bytes()), want, "{name}={value}");
        }
    }
}
