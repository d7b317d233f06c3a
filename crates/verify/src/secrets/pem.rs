//! Private keys as text: PEM of every kind, those of `OpenSSH`, `OpenPGP` and `PuTTY`.
//!
//! The bytes from a header on go in; out comes whether a whole key follows, and whether a passphrase protects it. Keys in
//! program text count too, with their quotes and `\n`; headers with nothing behind them, which every TLS library has in
//! its strings, do not. Whether a key is used anywhere is not asked.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::likely::distinct;
use super::rules::{Found, Verdict};

/// How long a key's text may be: an RSA key of 16384 bits takes 13 KiB, an `OpenPGP` block with many subkeys a few times that.
pub(super) const KEY_TEXT: usize = 48 << 10;
/// The shortest key, Ed25519 in PKCS #8 or SEC 1 on a small curve, is a little longer in DER.
const SHORTEST: usize = 40;
/// Different bytes in a key: the shortest have more than thirty.
const DISTINCT: usize = 16;
/// Files in the format of `OpenSSH` begin so; the name of the cipher follows with its length.
const OPENSSH: &[u8] = b"openssh-key-v1\0";
/// Documents are not careful about the last group.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Judges what follows `-----BEGIN … PRIVATE KEY-----`; group 1 is what stands between.
pub(super) fn pem(found: &Found<'_>) -> Verdict {
    let body = found.rest.get(found.whole.len()..).unwrap_or_default();
    let body = body.get(..body.len().min(KEY_TEXT)).unwrap_or_default();
    let Some(end) = memchr::memmem::find(body, b"-----END") else { return Verdict::No };
    let Some(armour) = read(body.get(..end).unwrap_or_default()) else { return Verdict::No };
    // Manuals write this into what was a key; nobody draws it by chance.
    if memchr::memmem::find(&armour.text, b"EXAMPLE").is_some() {
        return Verdict::No;
    }
    let Ok(key) = LENIENT.decode(&armour.text) else { return Verdict::No };
    if key.len() < SHORTEST || distinct(&key) < DISTINCT {
        return Verdict::No;
    }
    let label = found.secret.trim_ascii();
    if armour.encrypted || label == b"ENCRYPTED" {
        return Verdict::As("EncryptedPrivateKey");
    }
    match label {
        b"OPENSSH" => match key.strip_prefix(OPENSSH) {
            Some(rest) if rest.starts_with(b"\0\0\0\x04none") => Verdict::Yes,
            Some(_) => Verdict::As("EncryptedPrivateKey"),
            None => Verdict::No,
        },
        b"PGP" => {
            if secret_packet(&key) {
                Verdict::Yes
            } else {
                Verdict::No
            }
        }
        _ => {
            if whole_sequence(&key) {
                Verdict::Yes
            } else {
                Verdict::No
            }
        }
    }
}

/// Judges what follows `PuTTY-User-Key-File-N:`.
pub(super) fn putty(found: &Found<'_>) -> Verdict {
    let head = found.rest.get(..found.rest.len().min(KEY_TEXT)).unwrap_or_default();
    if memchr::memmem::find(head, b"Private-Lines:").is_none() {
        return Verdict::No;
    }
    let plain = memchr::memmem::find(head, b"Encryption: none").is_some();
    if plain { Verdict::Yes } else { Verdict::As("EncryptedPrivateKey") }
}

struct Armour {
    text: Vec<u8>,
    encrypted: bool,
}

/// The base64 text of a body, without what encloses its lines; nothing if something else stands in it.
fn read(body: &[u8]) -> Option<Armour> {
    let mut armour = Armour { text: Vec::new(), encrypted: false };
    for line in lines(body) {
        if let Some(at) = line.iter().position(|&byte| byte == b':') {
            // `Proc-Type: 4,ENCRYPTED`, `DEK-Info: …`, `Comment: …`
            let (name, value) = line.split_at(at);
            if !armour.text.is_empty() || name.is_empty() {
                return None;
            }
            armour.encrypted |= name == b"DEK-Info" || value.ends_with(b"ENCRYPTED");
            continue;
        }
        if line.first() == Some(&b'=') && line.len() == 5 {
            // OpenPGP's checksum is the last line.
            break;
        }
        if !line.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)) {
            return None;
        }
        armour.text.extend(line.iter().copied().filter(|&byte| byte != b'='));
    }
    Some(armour)
}

/// Lines, also where they are written as `\n` in a string; quotes, commas, comment signs and the like around them are
/// taken off.
fn lines(body: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        let end = at;
        match byte {
            b'\n' => at += 1,
            b'\\' => {
                // `\n`, and `\\n` where a string stands in a string.
                at += body.iter().skip(at).take_while(|&&byte| byte == b'\\').count();
                at += usize::from(body.get(at).is_some_and(|byte| b"nrt\r\n".contains(byte)));
            }
            _ => {
                at += 1;
                continue;
            }
        }
        lines.push(body.get(start..end).unwrap_or_default());
        start = at;
    }
    lines.push(body.get(start..).unwrap_or_default());
    lines.into_iter().map(bare).filter(|line| !line.is_empty()).collect()
}

fn bare(mut line: &[u8]) -> &[u8] {
    loop {
        let before = line.len();
        line = line.trim_ascii();
        // No sign of base64 but the plus sign and the slash, which count only with what stands beside them.
        for sign in [&b"\""[..], b"'", b"`", b"#", b"*", b">", b"|", b"// ", b"+ ", b"b'", b"b\""] {
            line = line.strip_prefix(sign).unwrap_or(line);
        }
        if line.ends_with(b"\"+") || line.ends_with(b"'+") {
            line = line.strip_suffix(b"+").unwrap_or(line);
        }
        for sign in [&b"\""[..], b"'", b"`", b",", b";", b")", b" +"] {
            line = line.strip_suffix(sign).unwrap_or(line);
        }
        if line.len() == before {
            return line;
        }
    }
}

/// DER: one SEQUENCE that is exactly as long as it says.
fn whole_sequence(der: &[u8]) -> bool {
    let Some((&0x30, rest)) = der.split_first() else { return false };
    let Some((&first, rest)) = rest.split_first() else { return false };
    if first < 0x80 {
        return usize::from(first) == rest.len();
    }
    let digits = usize::from(first & 0x7F);
    let Some((length, content)) = rest.split_at_checked(digits).filter(|_| (1..=3).contains(&digits)) else {
        return false;
    };
    length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)) == content.len()
}

/// The first packet is a secret key's: tag 5, in the old or the new form.
fn secret_packet(bytes: &[u8]) -> bool {
    bytes
        .first()
        .is_some_and(|&tag| tag & 0x80 != 0 && if tag & 0x40 == 0 { (tag >> 2) & 0x0F == 5 } else { tag & 0x3F == 5 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_out_of_what_encloses_them() {
        for text in [
            "\nAbc+\nDef/\n",
            "\r\nAbc+\r\nDef/\r\n",
            "\\nAbc+\\nDef/\\n",
            "\\\\nAbc+\\\\nDef/\\\\n",
            "\\n\"\n    \"Abc+\\n\"\n    \"Def/\\n\"\n",
            "\\n' +\n  'Abc+\\n' +\n  'Def/\\n' +\n",
            "\n# Abc+\n# Def/\n# ",
            "\\\nAbc+\\\nDef/\\\n",
        ] {
            let want: Vec<&[u8]> = vec![b"Abc+", b"Def/"];
            assert_eq!(lines(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn lengths() {
        assert!(whole_sequence(&[0x30, 1, 0]));
        assert!(!whole_sequence(&[0x30, 2, 0]));
        assert!(whole_sequence(&[&[0x30, 0x82, 1, 0][..], &[7; 256]].concat()));
        assert!(!whole_sequence(&[0x30, 0x80]));
        assert!(!whole_sequence(&[]));
        assert!(secret_packet(&[0x95]) && secret_packet(&[0xC5]) && !secret_packet(&[0x99]) && !secret_packet(&[]));
    }
}
