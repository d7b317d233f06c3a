//! Versions of distributions and what a requirement says about them (PEP 440).
//!
//! Text in, order and containment out. What is no version by that rule (old releases of some packages) gives `None`,
//! and nothing is then claimed. `===` compares text.

use std::cmp::Ordering;

/// A version, in a form whose derived order is PEP 440's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    epoch: u64,
    release: Vec<u64>,
    pre: Option<(Pre, u64)>,
    post: Option<u64>,
    dev: Option<u64>,
    local: Vec<Local>,
}

/// A kind of pre-release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pre {
    Alpha,
    Beta,
    Candidate,
}

/// A part of a local version: numbers are newer than words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Local {
    Word(String),
    Number(u64),
}

impl Version {
    /// Reads a version in any of the forms that PEP 440 allows.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_prefix('v').unwrap_or(&text);
        let (public, local) = text.split_once('+').map_or((text, None), |(public, local)| (public, Some(local)));
        let (epoch, rest) = match public.split_once('!') {
            Some((epoch, rest)) => (epoch.parse().ok()?, rest),
            None => (0, public),
        };
        let mut at = Cursor(rest);
        let mut release = vec![at.number()?];
        while let Some(next) = at.after_dot_number() {
            release.push(next);
        }
        let mut version = Self { epoch, release, pre: None, post: None, dev: None, local: Vec::new() };
        if let Some(word) = at.word(&["alpha", "beta", "preview", "pre", "rc", "a", "b", "c"]) {
            let kind = match word {
                "alpha" | "a" => Pre::Alpha,
                "beta" | "b" => Pre::Beta,
                _ => Pre::Candidate,
            };
            version.pre = Some((kind, at.tail_number()));
        }
        if let Some(rest) = at.0.strip_prefix('-').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            at = Cursor(rest);
            version.post = Some(at.number()?);
        } else if at.word(&["post", "rev", "r"]).is_some() {
            version.post = Some(at.tail_number());
        }
        if at.word(&["dev"]).is_some() {
            version.dev = Some(at.tail_number());
        }
        if !at.0.is_empty() {
            return None;
        }
        for part in local.into_iter().flat_map(|local| local.split(['.', '-', '_'])) {
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return None;
            }
            version.local.push(part.parse().map_or_else(|_| Local::Word(part.to_owned()), Local::Number));
        }
        Some(version)
    }

    /// Whether it is newer or older without regard to the local part.
    fn cmp_public(&self, other: &Self) -> Ordering {
        let release = |version: &Self| {
            let length = version.release.iter().rposition(|&part| part != 0).map_or(0, |at| at + 1);
            version.release.get(..length).unwrap_or_default().to_vec()
        };
        // A development release comes before its pre-releases, and a version without either after them.
        let pre = |version: &Self| match (version.pre, version.post, version.dev) {
            (Some((kind, number)), _, _) => (1, Some(kind), number),
            (None, None, Some(_)) => (0, None, 0),
            (None, _, _) => (2, None, 0),
        };
        let post = |version: &Self| version.post.map_or(0, |post| post.saturating_add(1));
        let dev = |version: &Self| version.dev.map_or((1, 0), |dev| (0, dev));
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| release(self).cmp(&release(other)))
            .then_with(|| pre(self).cmp(&pre(other)))
            .then_with(|| post(self).cmp(&post(other)))
            .then_with(|| dev(self).cmp(&dev(other)))
    }

    /// Whether the first `count` numbers of the release are the same, missing ones being zero.
    fn same_release(&self, other: &Self, count: usize) -> bool {
        let part = |version: &Self, at: usize| version.release.get(at).copied().unwrap_or(0);
        self.epoch == other.epoch && (0..count).all(|at| part(self, at) == part(other, at))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.cmp_public(other).then_with(|| self.local.cmp(&other.local))
    }
}

/// Reads a version from left to right.
struct Cursor<'t>(&'t str);

impl<'t> Cursor<'t> {
    fn number(&mut self) -> Option<u64> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at_checked(end)?;
        let number = digits.parse().ok()?;
        self.0 = rest;
        Some(number)
    }

    fn after_dot_number(&mut self) -> Option<u64> {
        let mut ahead = Cursor(self.0.strip_prefix('.')?);
        let number = ahead.number()?;
        self.0 = ahead.0;
        Some(number)
    }

    /// One of these words, with or without a separator before it.
    fn word(&mut self, words: &[&'t str]) -> Option<&'t str> {
        let rest = self.0.strip_prefix(['.', '-', '_']).unwrap_or(self.0);
        let word = words.iter().find(|word| rest.starts_with(**word))?;
        self.0 = rest.get(word.len()..)?;
        Some(word)
    }

    /// The number after a word: none is zero.
    fn tail_number(&mut self) -> u64 {
        let mut ahead = Cursor(self.0.strip_prefix(['.', '-', '_']).unwrap_or(self.0));
        match ahead.number() {
            Some(number) => {
                self.0 = ahead.0;
                number
            }
            None => 0,
        }
    }
}

/// Whether a version is in a set such as `>=1.2,!=1.5,<2`. `None` where that cannot be told. Pre-releases are in it if they
/// compare so: what is installed was chosen by somebody.
pub(super) fn contains(set: &str, version: &str) -> Option<bool> {
    let mut inside = true;
    for clause in set.split(',').map(str::trim).filter(|clause| !clause.is_empty()) {
        inside &= clause_contains(clause, version)?;
    }
    Some(inside)
}

fn clause_contains(clause: &str, version: &str) -> Option<bool> {
    let operators = ["===", "==", "!=", "~=", "<=", ">=", "<", ">"];
    let operator = *operators.iter().find(|operator| clause.starts_with(**operator))?;
    let wanted = clause.get(operator.len()..)?.trim();
    if operator == "===" {
        return Some(wanted.eq_ignore_ascii_case(version.trim()));
    }
    let version = Version::parse(version)?;
    if let Some(prefix) = wanted.strip_suffix(".*") {
        let prefix = Version::parse(prefix)?;
        let same = version.same_release(&prefix, prefix.release.len());
        return match operator {
            "==" => Some(same),
            "!=" => Some(!same),
            // Not allowed, but in the metadata of old packages: read as if the star were not there.
            ">=" => Some(same || version.cmp_public(&prefix).is_ge()),
            "<" => Some(!same && version.cmp_public(&prefix).is_lt()),
            _ => None,
        };
    }
    let wanted = Version::parse(wanted)?;
    // A local part counts only if the requirement has one too.
    let equal = if wanted.local.is_empty() { version.cmp_public(&wanted).is_eq() } else { version == wanted };
    let order = version.cmp_public(&wanted);
    Some(match operator {
        "==" => equal,
        "!=" => !equal,
        "<=" => order.is_le(),
        ">=" => order.is_ge(),
        // `<2` excludes 2's own pre-releases, `>1` excludes 1's post-releases and local versions.
        "<" => {
            let early = version.pre.is_some() || version.dev.is_some();
            let wanted_early = wanted.pre.is_some() || wanted.dev.is_some();
            let own = early && !wanted_early && version.same_release(&wanted, longest(&version, &wanted));
            order.is_lt() && !own
        }
        ">" => {
            let own = version.post.is_some()
                && wanted.post.is_none()
                && version.same_release(&wanted, longest(&version, &wanted));
            order.is_gt() && !own
        }
        "~=" => order.is_ge() && version.same_release(&wanted, wanted.release.len().saturating_sub(1)),
        _ => return None,
    })
}

fn longest(one: &Version, other: &Version) -> usize {
    one.release.len().max(other.release.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order() {
        let ordered = [
            "1.dev0",
            "1.0.dev456",
            "1.0a1",
            "1.0a2.dev456",
            "1.0a12.dev456",
            "1.0a12",
            "1.0b1.dev456",
            "1.0b2",
            "1.0b2.post345.dev456",
            "1.0b2.post345",
            "1.0rc1.dev456",
            "1.0rc1",
            "1.0",
            "1.0+abc.5",
            "1.0+abc.7",
            "1.0+5",
            "1.0.post456.dev34",
            "1.0.post456",
            "1.0.15",
            "1.1.dev1",
            "1.10",
            "2024.1",
            "1!0.1",
        ];
        for pair in ordered.windows(2) {
            let (low, high) = (Version::parse(pair[0]).unwrap(), Version::parse(pair[1]).unwrap());
            assert!(low < high, "{} < {}", pair[0], pair[1]);
        }
        for (one, other) in [
            ("1.0", "1"),
            ("1.0.0", "v1.0"),
            ("1.0alpha1", "1.0a1"),
            ("1.0-1", "1.0.post1"),
            ("1.0-RC.2", "1.0rc2"),
            ("1.0.r4", "1.0.post4"),
            ("1.0_dev", "1.0.dev0"),
            ("1.0+ubuntu-1", "1.0+ubuntu.1"),
            ("1.0pre3", "1.0rc3"),
        ] {
            assert_eq!(
                Version::parse(one).unwrap().cmp(&Version::parse(other).unwrap()),
                Ordering::Equal,
                "{one} {other}"
            );
        }
        for bad in ["", "abc", "1.x", "1.0foo", "1..2", "1.0+", "1.0+a..b", "99999999999999999999999", "1!"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn sets_contain_what_they_say() {
        for (set, version, expected) in [
            ("", "1.0", Some(true)),
            (">=1.0,<2", "1.5", Some(true)),
            (">=1.0,<2", "2.0", Some(false)),
            ("<2", "2.0rc1", Some(false)),
            ("<2.0rc2", "2.0rc1", Some(true)),
            (">1.0", "1.0.post1", Some(false)),
            (">1.0", "1.0+local", Some(false)),
            ("==1.0", "1.0+local", Some(true)),
            ("==1.0+other", "1.0+local", Some(false)),
            ("==1.*", "1.9.3", Some(true)),
            ("!=1.9.*", "1.9.3", Some(false)),
            ("==1.0.*", "1", Some(true)),
            ("~=2.2", "2.9", Some(true)),
            ("~=2.2", "3.0", Some(false)),
            ("~=1.4.5", "1.5.0", Some(false)),
            ("~=1.4.5", "1.4.9", Some(true)),
            ("===1.0-custom", "1.0-custom", Some(true)),
            (">=2.7.*", "3.10", Some(true)),
            (">=0.14.0, !=1.0.0", "1.0", Some(false)),
            (">=1", "not-a-version", None),
            ("about 1", "1", None),
        ] {
            assert_eq!(contains(set, version), expected, "{version} in {set}");
        }
    }
}
