//! `--chmod`: octal (`0755`) and symbolic (`u=rwX,go=rX`, `+x`, `g=u`) modes.
//!
//! In: the text. Out: a function from a file's mode to its new mode. There is no umask: a clause without `ugoa` means
//! everybody, as in BuildKit.

use crate::root::show;

/// A change of mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// Twelve bits that replace the mode.
    Octal(u32),
    /// Clauses applied one after the other.
    Symbolic(Vec<Clause>),
}

/// One `who op what`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Of [`USER`], [`GROUP`], [`OTHER`].
    who: u32,
    op: u8,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// Letters of `rwxXst`.
    Letters(Vec<u8>),
    /// The present permissions of `u`, `g` or `o`.
    Of(u8),
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o0007;
const STICKY: u32 = 0o1000;

/// Not a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no mode (want octal digits up to 7777, or clauses such as u=rwX,go=rX)")]
pub struct ChmodError {
    text: String,
}

impl Chmod {
    /// Reads `--chmod`.
    pub fn parse(text: &str) -> Result<Self, ChmodError> {
        let bad = || ChmodError { text: show(text.get(..100).unwrap_or(text).as_bytes()) };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let digits = text.bytes().all(|b| (b'0'..=b'7').contains(&b)) && text.len() <= 5;
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o7777);
            return mode.map(Self::Octal).ok_or_else(bad);
        }
        let mut clauses = Vec::new();
        for part in text.as_bytes().split(|&b| b == b',') {
            parse_clause(part, &mut clauses).ok_or_else(bad)?;
        }
        Ok(Self::Symbolic(clauses))
    }

    /// The octal mode, if it is one: directories made on the way get it too.
    pub fn octal(&self) -> Option<u32> {
        match self {
            Self::Octal(mode) => Some(*mode),
            Self::Symbolic(_) => None,
        }
    }

    /// The new mode of a file that has `mode`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(new) => *new,
            Self::Symbolic(clauses) => clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_dir)),
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let spread = |bits: u32| bits << 6 | bits << 3 | bits;
        let bits = match &self.what {
            What::Of(who) => spread(match who {
                b'u' => mode >> 6 & 7,
                b'g' => mode >> 3 & 7,
                _ => mode & 7,
            }),
            What::Letters(letters) => letters.iter().fold(0, |bits, letter| {
                bits | match letter {
                    b'r' => spread(4),
                    b'w' => spread(2),
                    b'x' => spread(1),
                    b'X' if is_dir || mode & 0o111 != 0 => spread(1),
                    b's' => 0o6000,
                    b't' => STICKY,
                    _ => 0,
                }
            }),
        };
        // The sticky bit belongs to nobody in particular.
        let reach = self.who | if self.who == USER | GROUP | OTHER || bits & STICKY != 0 { STICKY } else { 0 };
        match self.op {
            b'+' => mode | (bits & reach),
            b'-' => mode & !(bits & reach),
            // As in GNU chmod, `=` leaves a directory's setuid and setgid bits alone unless it names them.
            _ => {
                let special = if is_dir && bits & 0o6000 == 0 { 0o6000 } else { 0 };
                mode & !(reach & !special) | (bits & reach)
            }
        }
    }
}

/// Reads one comma's worth: who, then one or more operations.
fn parse_clause(text: &[u8], clauses: &mut Vec<Clause>) -> Option<()> {
    let start = text.iter().position(|b| b"+-=".contains(b))?;
    let (names, mut rest) = text.split_at(start);
    let mut who = if names.is_empty() { USER | GROUP | OTHER } else { 0 };
    for name in names {
        who |= match name {
            b'u' => USER,
            b'g' => GROUP,
            b'o' => OTHER,
            b'a' => USER | GROUP | OTHER,
            _ => return None,
        };
    }
    while let Some((&op, after)) = rest.split_first() {
        let end = after.iter().position(|b| b"+-=".contains(b)).unwrap_or(after.len());
        let (what, next) = after.split_at(end);
        let what = match what {
            [of @ (b'u' | b'g' | b'o')] => What::Of(*of),
            letters if letters.iter().all(|b| b"rwxXst".contains(b)) => What::Letters(letters.to_vec()),
            _ => return None,
        };
        clauses.push(Clause { who, op, what });
        rest = next;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let cases = [
            ("755", 0o600, false, 0o755),
            ("0", 0o777, false, 0),
            ("07777", 0, true, 0o7777),
            ("+x", 0o644, false, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o750, false, 0o770),
            ("o=", 0o757, false, 0o750),
            ("a-w", 0o666, false, 0o444),
            ("u+s", 0o755, false, 0o4755),
            ("g+s,o+t", 0o755, true, 0o3755),
            ("+t", 0o755, true, 0o1755),
            ("u-x+w", 0o555, false, 0o655),
            ("=r", 0o4755, false, 0o444),
            ("=rx", 0o2755, true, 0o2555),
        ];
        for (text, mode, is_dir, want) in cases {
            let got = Chmod::parse(text).unwrap().apply(mode, is_dir);
            assert_eq!(got, want, "{text} on {mode:o}: {got:o}");
        }
        proptest::proptest!(|(text in "[ugoa]{0,2}[+=-][rwxXstugo]{0,3}(,[0-9a]{1,2}=r)?", mode in 0u32..=0o7777)| {
            if let Ok(chmod) = Chmod::parse(&text) {
                proptest::prop_assert!(chmod.apply(mode, false) <= 0o7777 && chmod.apply(mode, true) <= 0o7777);
            }
        });
        for bad in
            ["", "8", "10000", "77777", "-1", "0x7", "u", "x=r", "u=z", "u=ug", "755,", ",", "00000755", "7 ", "+"]
        {
            let parsed = Chmod::parse(bad);
            assert!(parsed.is_err() || bad == "+", "{bad}: {parsed:?}");
        }
    }
}
