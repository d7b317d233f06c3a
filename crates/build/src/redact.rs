//! Keeping secrets out of what steps write: every occurrence becomes `***`.
//!
//! In: output in pieces, cut anywhere. Out: the same with the values replaced, also where one was cut in two; what may be
//! the beginning of one is held back until it is known. Looked for are each value, its lines, and its base64 form. A
//! command that disguises a secret otherwise is not caught: this guards against accidents.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use kuz_sandbox::Hidden;

/// Shorter ones would tear ordinary words apart without hiding anything.
const SHORTEST: usize = 4;
/// A line of a longer secret counts only if it says something.
const SHORTEST_LINE: usize = 8;
/// Lines of one secret that are looked for.
const LINES: usize = 1000;
/// What stands for a secret.
const STARS: &[u8] = b"***";

/// A filter for one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor {
    /// Longest first.
    needles: Vec<Hidden>,
    held: Vec<u8>,
}

impl Redactor {
    /// For these values.
    pub(crate) fn new(secrets: &[Hidden]) -> Self {
        let mut needles: Vec<Vec<u8>> = secrets.iter().flat_map(|secret| forms(&secret.0)).collect();
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup();
        Self { needles: needles.into_iter().map(Hidden).collect(), held: Vec::new() }
    }

    /// What of the output so far may be shown.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.needles.is_empty() {
            return bytes.to_vec();
        }
        self.held.extend_from_slice(bytes);
        let mut shown = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while let Some(rest) = self.held.get(at..).filter(|rest| !rest.is_empty()) {
            // A longer one that may still come whole is waited for.
            if self.needles.iter().any(|needle| needle.0.len() > rest.len() && needle.0.starts_with(rest)) {
                break;
            }
            if let Some(needle) = self.needles.iter().find(|needle| rest.starts_with(&needle.0)) {
                shown.extend_from_slice(STARS);
                at += needle.0.len();
            } else {
                shown.extend(rest.first());
                at += 1;
            }
        }
        self.held.drain(..at);
        shown
    }

    /// What was held back, at the end: the beginning of a secret is not shown either if it is long enough to matter.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.held);
        let whole = self.needles.iter().any(|needle| rest.starts_with(&needle.0));
        if whole || rest.len() >= SHORTEST_LINE { STARS.to_vec() } else { rest }
    }
}

/// How a value may show up.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let trimmed = value.trim_ascii();
    let mut forms: Vec<Vec<u8>> = vec![trimmed.to_vec()];
    let lines = trimmed.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| line.len() >= SHORTEST_LINE);
    forms.extend(lines.take(LINES).map(<[u8]>::to_vec));
    for plain in [value, trimmed] {
        // The last group depends on what follows: without it the rest is found whatever that is.
        let whole = plain.get(..plain.len() / 3 * 3).unwrap_or_default();
        for text in [STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole)] {
            forms.extend(Some(text.into_bytes()).filter(|text| text.len() >= SHORTEST_LINE));
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(secret: &str, output: &str, piece: usize) -> String {
        let mut redactor = Redactor::new(&[Hidden(secret.into())]);
        let mut shown: Vec<u8> = output.as_bytes().chunks(piece).flat_map(|bytes| redactor.take(bytes)).collect();
        shown.extend(redactor.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn secrets_are_replaced_however_the_output_is_cut() {
        let secret = "correct-horse\nbattery-staple\n";
        let encoded = base64::engine::general_purpose::STANDARD.encode(secret);
        for (output, want) in [
            ("nothing here\n", "nothing here\n"),
            ("a correct-horse\nbattery-staple\nb", "a ***\nb"),
            ("x battery-staple y", "x *** y"),
            ("correct-hcorrect-horse!", "correct-h***!"),
            ("bat", "bat"),
            ("correct-hors", "***"),
        ] {
            for piece in 1..=output.len() {
                assert_eq!(shown(secret, output, piece), want, "pieces of {piece}");
            }
        }
        let text = shown(secret, &format!("auth: {encoded}\n"), 7);
        assert!(text.starts_with("auth: ***") && text.len() < 16, "{text}");
        assert_eq!(shown("ab", "abc", 1), "abc", "too short to be found");
    }
}
