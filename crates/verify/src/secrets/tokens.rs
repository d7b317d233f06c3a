//! What the regular expressions cannot see of a token: checksums, encoded headers, values that everybody knows.
//!
//! A match in, a verdict out.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::likely::{holds_any, stand_in};
use super::rules::{Found, Verdict};

/// SHA-256 digests of values that stand in manuals and emulators: the Azure storage and Cosmos DB emulators' account
/// keys, two keys of Stripe's documentation, the token of Telegram's.
const KNOWN: &[&str] = &[
    "0011cc25eb4320717494d2703e8cba85743e71b500283c21c8b88147992f9059",
    "aa6547439583c3a275d4542a0df6c1ad6a863971be9f2a2220f027cc02aef615",
    "2cafc0970149a84f3b9e62eaf169f36f59907a3b3e31f7b82e68c69cd27f7326",
    "f2d6ca16515033e5dce14eba840b979d27b5cbae24bb3e5bf484339667f86397",
    "0b5dd075ccdd03c42f4edda8e299e6838e2a75d3486a2a8d86940ed1541e9178",
];
/// The digits of the checksums in GitHub's and npm's tokens.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// How many of them there are.
const CHECKSUM: usize = 6;
/// Passwords that stand in every manual and in files for a developer's own machine.
const COMMON_PASSWORDS: &[&str] = &[
    "password",
    "passwd",
    "pass",
    "pwd",
    "pw",
    "secret",
    "user",
    "username",
    "root",
    "admin",
    "test",
    "testing",
    "guest",
    "postgres",
    "mysql",
    "redis",
    "rabbitmq",
    "mongo",
    "changeme",
    "token",
    "key",
    "foo",
    "bar",
    "scott",
    "tiger",
    "dev",
    "django",
    "default",
    "pass123",
    "password123",
    "p",
    "x",
    "y",
    "me",
    "api_key",
    "apikey",
];
/// Hosts that only the machine itself, or nobody, answers for.
const NO_HOSTS: &[&[u8]] =
    &[b"localhost", b"127.0.0.1", b"[::1]", b"0.0.0.0", b"example.", b".example", b".test", b".invalid"];

/// Anything that is no stand-in.
pub(super) fn plain(found: &Found<'_>) -> Verdict {
    if stand_in(found.secret) { Verdict::No } else { known(found) }
}

/// A value that is a secret whatever it looks like: a file of credentials holds it.
pub(super) fn any(found: &Found<'_>) -> Verdict {
    let template = found.secret.first() == Some(&b'$') || holds_any(found.secret, &[b"${", b"{{", b"<"]);
    if template || super::likely::distinct(found.secret) < 2 { Verdict::No } else { Verdict::Yes }
}

/// Public values get a rule of their own.
fn known(found: &Found<'_>) -> Verdict {
    let digest = hex(&Sha256::digest(found.secret));
    if KNOWN.contains(&digest.as_str()) { Verdict::As("KnownSample") } else { Verdict::Yes }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `prefix_`, thirty characters, and the six digits of their CRC-32.
pub(super) fn checksummed(found: &Found<'_>) -> Verdict {
    let body = found.secret.iter().rposition(|&byte| byte == b'_').and_then(|at| found.secret.get(at + 1..));
    let Some((text, digits)) = body.and_then(|body| body.split_at_checked(body.len().saturating_sub(CHECKSUM))) else {
        return Verdict::No;
    };
    if base62(crc32(text)) == digits { Verdict::Yes } else { Verdict::No }
}

/// The checksum of zip and PNG, bit by bit: tokens are short.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |state, &byte| {
        (0..8).fold(
            state ^ u32::from(byte),
            |state, _| if state & 1 == 1 { (state >> 1) ^ 0xEDB8_8320 } else { state >> 1 },
        )
    })
}

/// Six digits, zeros in front.
pub(super) fn base62(mut number: u32) -> [u8; CHECKSUM] {
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(number % 62) as usize];
        number /= 62;
    }
    digits
}

/// Three parts, of which the first two are JSON objects and the first names an algorithm that signs.
pub(super) fn jwt(found: &Found<'_>) -> Verdict {
    let mut parts = found.secret.split(|&byte| byte == b'.');
    let mut object = || -> Option<serde_json::Map<String, serde_json::Value>> {
        let bytes = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    let (Some(header), Some(claims)) = (object(), object()) else { return Verdict::No };
    let text = |map: &serde_json::Map<String, serde_json::Value>, key: &str| {
        map.get(key).and_then(|value| value.as_str()).map(str::to_owned)
    };
    let signed = text(&header, "alg").is_some_and(|algorithm| !algorithm.eq_ignore_ascii_case("none"));
    // The sample of every manual, and of the site where tokens are taken apart.
    let sample = text(&claims, "sub").is_some_and(|subject| subject == "1234567890" || subject == "test")
        || text(&claims, "name").is_some_and(|name| name == "John Doe");
    if signed && !sample && !claims.is_empty() { Verdict::Yes } else { Verdict::No }
}

/// An upload token of the Python package index: a macaroon, which begins with its version and its issuer.
pub(super) fn macaroon(found: &Found<'_>) -> Verdict {
    let body = found.secret.strip_prefix(b"pypi-").unwrap_or_default();
    let whole = body.get(..body.len() / 4 * 4).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(whole).unwrap_or_default();
    let issuer = bytes.get(2).map(|&length| usize::from(length)).and_then(|length| bytes.get(3..3 + length));
    let index = issuer.is_some_and(|name| name.ends_with(b"pypi.org"));
    if index && bytes.len() > 40 { Verdict::Yes } else { Verdict::No }
}

/// A user and a password in an address: group 1 is the password, what follows it in the address the host.
pub(super) fn address(found: &Found<'_>) -> Verdict {
    let password = String::from_utf8_lossy(found.secret).to_ascii_lowercase();
    let behind = found.rest.get(found.whole.len()..).unwrap_or_default();
    let behind = behind.strip_prefix(b"@").unwrap_or(behind);
    let host =
        behind.split(|byte| b"/?#\"'`\\ \t\r\n,)>".contains(byte)).next().unwrap_or_default().to_ascii_lowercase();
    let none = host.is_empty()
        || holds_any(&host, NO_HOSTS)
        || holds_any(&host, &[b"{", b"$", b"<", b"%("])
        || host.split(|&byte| byte == b':').next().is_some_and(|name| name == b"host" || name == b"hostname")
        || !host.iter().any(u8::is_ascii_alphanumeric);
    if none || COMMON_PASSWORDS.contains(&password.as_str()) || password.starts_with('%') {
        return Verdict::No;
    }
    plain(found)
}

/// `user:password` in base64, as HTTP's basic authentication has it, and Docker's credentials.
pub(super) fn basic(found: &Found<'_>) -> Verdict {
    let text = found.secret.strip_suffix(b"==").or_else(|| found.secret.strip_suffix(b"=")).unwrap_or(found.secret);
    match STANDARD_NO_PAD.decode(text) {
        Ok(bytes) if bytes.contains(&b':') && bytes.is_ascii() => Verdict::Yes,
        _ => any(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(check: fn(&Found<'_>) -> Verdict, secret: &str, behind: &str) -> Verdict {
        let rest = format!("{secret}{behind}");
        check(&Found { secret: secret.as_bytes(), whole: secret.as_bytes(), rest: rest.as_bytes() })
    }

    #[test]
    fn checksums() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(&base62(0), b"000000");
        assert_eq!(&base62(61 + 62 * 10), b"0000Az");
        let body = "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ";
        let good = format!("ghp_{body}{}", String::from_utf8_lossy(&base62(crc32(body.as_bytes()))));
        assert_eq!(verdict(checksummed, &good, ""), Verdict::Yes);
        assert_eq!(verdict(checksummed, &good.replace("zQ", "Qz"), ""), Verdict::No);
        assert_eq!(verdict(checksummed, "", ""), Verdict::No);
    }

    #[test]
    fn addresses_without_a_secret() {
        for (password, host, want) in [
            ("q8Zr2k-pw", "@db.internal:5432/app", Verdict::Yes),
            ("password", "@db.internal/app", Verdict::No),
            ("q8Zr2k-pw", "@localhost:5432/app", Verdict::No),
            ("q8Zr2k-pw", "@host/app", Verdict::No),
            ("q8Zr2k-pw", "@{host}/app", Verdict::No),
            ("${PW}", "@db.internal/app", Verdict::No),
            ("q8Zr2k-pw", "@", Verdict::No),
        ] {
            assert_eq!(verdict(address, password, host), want, "{password}{host}");
        }
    }
}
