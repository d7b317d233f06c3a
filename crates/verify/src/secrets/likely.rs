//! Whether a text can be a secret at all: how random it looks, and whether it is a stand-in for one.
//!
//! Bytes in, a judgement out. Knows no formats.

/// Words that only samples have in them, in lower case.
const SAMPLE_WORDS: &[&[u8]] = &[
    b"example",
    b"placeholder",
    b"change_me",
    b"changeme",
    b"change-me",
    b"replace",
    b"insert",
    b"redacted",
    b"dummy",
    b"notreal",
    b"not-real",
    b"fake",
    b"sample",
    b"xxxx",
    b"your_",
    b"your-",
    b"my_secret",
    b"mysecret",
    b"my-secret",
    b"supersecret",
    b"super-secret",
    b"super_secret",
    b"foobar",
    b"abcdef",
    b"123456789",
    b"987654321",
    b"****",
    b"....",
];
/// What templates put where a value goes.
const TEMPLATES: &[&[u8]] = &[b"${", b"{{", b"}}", b"<", b"%(", b"$(", b"%s", b"{}", b"{0}", b"#{", b"[[", b"@@"];
/// Characters in ascending order, one after the other, that nobody draws by chance.
const ASCENDING: usize = 8;
/// Equal characters in a row that nobody draws by chance.
const EQUAL: usize = 6;

/// Bits a character, as Shannon counts them over the text's own characters.
pub(super) fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for &byte in text {
        counts[usize::from(byte)] += 1;
    }
    let length = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX).max(1));
    let bits = counts.iter().filter(|&&count| count > 0).map(|&count| {
        let share = f64::from(count) / length;
        -share * share.log2()
    });
    bits.sum()
}

/// A text that stands where a secret goes, and is none.
pub(super) fn stand_in(text: &[u8]) -> bool {
    let lower = text.to_ascii_lowercase();
    holds_any(&lower, SAMPLE_WORDS) || holds_any(&lower, TEMPLATES) || text.first() == Some(&b'$') || repeats(text)
}

/// Runs of equal or ascending characters, or too few different ones.
fn repeats(text: &[u8]) -> bool {
    let mut equal = 1;
    let mut ascending = 1;
    for pair in text.windows(2) {
        let [first, second] = pair else { continue };
        equal = if first == second { equal + 1 } else { 1 };
        ascending = if first.checked_add(1) == Some(*second) { ascending + 1 } else { 1 };
        if equal >= EQUAL || ascending >= ASCENDING {
            return true;
        }
    }
    distinct(text) <= text.len().min(20) / 5
}

/// How many different bytes there are.
pub(super) fn distinct(text: &[u8]) -> usize {
    let mut seen = [false; 256];
    for &byte in text {
        seen[usize::from(byte)] = true;
    }
    seen.iter().filter(|&&seen| seen).count()
}

/// One of the needles is in the text.
pub(super) fn holds_any(text: &[u8], needles: &[&[u8]]) -> bool {
    needles.iter().any(|needle| memchr::memmem::find(text, needle).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn randomness_and_stand_ins() {
        assert!(entropy(b"") < 0.1 && entropy(b"aaaa") < 0.1);
        assert!((entropy(b"abcd") - 2.0).abs() < 1e-9);
        for text in [
            "AKIAIOSFODNN7EXAMPLE",
            "${TOKEN}",
            "$TOKEN",
            "<your token>",
            "%(password)s",
            "aaaaaaaaaaaaaaaa",
            "q7dhgfedcbKabcdefghij",
            "abababababababababab",
            "xxxxxxxxx",
        ] {
            assert!(stand_in(text.as_bytes()), "{text}");
        }
        for text in ["q7Rf0ZkW2mXu9TgB", "hunter2-and-more", "5f3a9c", "correct horse battery"] {
            assert!(!stand_in(text.as_bytes()), "{text}");
        }
    }
}
