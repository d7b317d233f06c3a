//! One line of `Requires-Dist`: which distribution, with which extras, in which versions, under which conditions (PEP 508).
//!
//! Text in; for an environment, whether it applies. What cannot be read gives `None`, and nothing is then claimed.

use super::version::{Version, contains};

/// A requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Requirement<'t> {
    /// The distribution's name, as written.
    pub(super) name: &'t str,
    /// The extras asked of it.
    pub(super) extras: Vec<&'t str>,
    /// The versions, as written: empty for any, and for those that a URL names.
    pub(super) versions: &'t str,
    /// The condition.
    marker: Option<&'t str>,
}

/// What markers ask about.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    /// `3.10`
    pub(super) python: String,
    /// `x86_64`
    pub(super) machine: String,
}

impl<'t> Requirement<'t> {
    /// Reads a requirement.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        let text = text.trim();
        let end =
            text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end)?;
        if name.is_empty() {
            return None;
        }
        let mut rest = rest.trim_start();
        let mut extras = Vec::new();
        if let Some(inside) = rest.strip_prefix('[') {
            let (list, after) = inside.split_once(']')?;
            extras = list.split(',').map(str::trim).filter(|extra| !extra.is_empty()).collect();
            rest = after.trim_start();
        }
        let (versions, marker) = match rest.split_once(';') {
            Some((versions, marker)) => (versions.trim(), Some(marker.trim())),
            None => (rest.trim_end(), None),
        };
        let versions = match versions.strip_prefix('(') {
            Some(inside) => inside.strip_suffix(')')?.trim(),
            None if versions.starts_with('@') => "",
            None => versions,
        };
        Some(Self { name, extras, versions, marker })
    }

    /// Whether it applies in an environment, for a distribution of which these extras were asked. `None` if that
    /// cannot be told.
    pub(super) fn applies(&self, environment: &Environment, extras: &[&str]) -> Option<bool> {
        let Some(marker) = self.marker else { return Some(true) };
        let tokens = tokens(marker)?;
        // Without an extra, markers about extras compare with the empty string; with some, one of them must fit.
        let wanted: &[&str] = if extras.is_empty() { &[""] } else { extras };
        let mut any = false;
        for extra in wanted {
            let mut parser = Parser { tokens: &tokens, at: 0, environment, extra, depth: 0 };
            let value = parser.or()?;
            if parser.at != tokens.len() {
                return None;
            }
            any |= value;
        }
        Some(any)
    }

    /// Whether it may apply, for some extra that is `asked` for or for none. What cannot be told may.
    pub(super) fn may_apply(&self, environment: &Environment, asked: impl Fn(&str) -> bool) -> bool {
        let Some(marker) = self.marker else { return true };
        let Some(tokens) = tokens(marker) else { return true };
        let extras = tokens.windows(3).filter_map(|three| match three {
            [Token::Word("extra"), Token::Operator(_), Token::Text(extra)]
            | [Token::Text(extra), Token::Operator(_), Token::Word("extra")] => Some(*extra),
            _ => None,
        });
        let mut all = std::iter::once("").chain(extras.filter(|extra| asked(extra)));
        all.any(|extra| self.applies(environment, &[extra]) != Some(false))
    }
}

/// Markers nest by parentheses; nobody's do so deep.
const MARKER_DEPTH: u32 = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'t> {
    Text(&'t str),
    Word(&'t str),
    Operator(&'t str),
    Open,
    Close,
}

fn tokens(marker: &str) -> Option<Vec<Token<'_>>> {
    let mut found = Vec::new();
    let mut rest = marker.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '"' | '\'' => {
                let end = rest.get(1..)?.find(first)? + 1;
                (Token::Text(rest.get(1..end)?), end + 1)
            }
            '<' | '>' | '=' | '!' | '~' => {
                let end = rest.find(|c| !matches!(c, '<' | '>' | '=' | '!' | '~')).unwrap_or(rest.len());
                (Token::Operator(rest.get(..end)?), end)
            }
            _ => {
                let end =
                    rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(rest.len());
                if end == 0 {
                    return None;
                }
                (Token::Word(rest.get(..end)?), end)
            }
        };
        found.push(token);
        rest = rest.get(length..)?.trim_start();
    }
    Some(found)
}

struct Parser<'p> {
    tokens: &'p [Token<'p>],
    at: usize,
    environment: &'p Environment,
    extra: &'p str,
    depth: u32,
}

impl<'p> Parser<'p> {
    fn next(&mut self) -> Option<&'p Token<'p>> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        Some(token)
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Word(next)) if *next == word);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Option<bool> {
        let mut value = self.and()?;
        while self.eat("or") {
            value |= self.and()?;
        }
        Some(value)
    }

    fn and(&mut self) -> Option<bool> {
        let mut value = self.term()?;
        while self.eat("and") {
            value &= self.term()?;
        }
        Some(value)
    }

    fn term(&mut self) -> Option<bool> {
        if self.tokens.get(self.at) == Some(&Token::Open) {
            self.at += 1;
            self.depth += 1;
            if self.depth > MARKER_DEPTH {
                return None;
            }
            let value = self.or()?;
            self.depth -= 1;
            return (self.next()? == &Token::Close).then_some(value);
        }
        let (left, left_name) = self.value()?;
        let operator = match self.next()? {
            Token::Operator(operator) => *operator,
            Token::Word("in") => "in",
            Token::Word("not") if self.eat("in") => "not in",
            _ => return None,
        };
        let (right, right_name) = self.value()?;
        let is_extra = left_name == Some("extra") || right_name == Some("extra");
        if is_extra {
            let same = normalize(&left) == normalize(&right);
            return match operator {
                "==" => Some(same),
                "!=" => Some(!same),
                _ => None,
            };
        }
        match operator {
            "in" => return Some(right.contains(&*left)),
            "not in" => return Some(!right.contains(&*left)),
            _ => {}
        }
        // Versions compare as versions where both are, else as text.
        if Version::parse(&left).is_some() && (right.ends_with(".*") || Version::parse(&right).is_some()) {
            return contains(&format!("{operator}{right}"), &left);
        }
        Some(match operator {
            "==" | "===" => left == right,
            "!=" => left != right,
            "<" => left < right,
            ">" => left > right,
            "<=" => left <= right,
            ">=" => left >= right,
            _ => return None,
        })
    }

    /// A text or a variable's value, and the variable's name.
    fn value(&mut self) -> Option<(String, Option<&'p str>)> {
        let name = match self.next()? {
            Token::Text(text) => return Some(((*text).to_owned(), None)),
            Token::Word(name) => *name,
            _ => return None,
        };
        let value = match name {
            "python_version" => self.environment.python.clone(),
            // The patch number is not known: one that is newer than most comparisons and older than none.
            "python_full_version" | "implementation_version" => format!("{}.99", self.environment.python),
            "os_name" | "os.name" => "posix".into(),
            "sys_platform" | "sys.platform" => "linux".into(),
            "platform_system" => "Linux".into(),
            "platform_machine" | "platform.machine" => self.environment.machine.clone(),
            "platform_python_implementation" | "platform.python_implementation" | "python_implementation" => {
                "CPython".into()
            }
            "implementation_name" => "cpython".into(),
            "extra" => self.extra.to_owned(),
            // The kernel that it will run on.
            _ => return None,
        };
        Some((value, Some(name)))
    }
}

/// A distribution's or extra's name in the form in which names are compared: lower case, `-` for runs of `-`, `_` and `.`.
pub(super) fn normalize(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '-' | '_' | '.') {
            if !normal.ends_with('-') {
                normal.push('-');
            }
        } else {
            normal.push(c.to_ascii_lowercase());
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_read() {
        for (text, name, extras, versions) in [
            ("click>=7.0", "click", vec![], ">=7.0"),
            ("h11 (>=0.8,<1)", "h11", vec![], ">=0.8,<1"),
            ("uvicorn[standard,extra] >=0.12.0 ; extra == 'all'", "uvicorn", vec!["standard", "extra"], ">=0.12.0"),
            ("zope.interface", "zope.interface", vec![], ""),
            ("x @ https://host/x.whl ; python_version < '3'", "x", vec![], ""),
        ] {
            let read = Requirement::parse(text).unwrap();
            assert_eq!((read.name, read.extras, read.versions), (name, extras, versions), "{text}");
        }
        for bad in ["", ">=1", "x[", "x (>=1"] {
            assert_eq!(Requirement::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn markers_ask_the_image() {
        let environment = Environment { python: "3.10".into(), machine: "x86_64".into() };
        for (marker, extras, expected) in [
            ("python_version < '3.11'", vec![], Some(true)),
            ("python_version >= \"3.9\" and python_version < \"3.10\"", vec![], Some(false)),
            ("python_full_version < '3.11.0a6'", vec![], Some(true)),
            ("python_full_version >= '3.10.2'", vec![], Some(true)),
            ("sys_platform == 'win32' or platform_system == 'Linux'", vec![], Some(true)),
            ("(sys_platform == 'win32' or os_name == 'nt') and extra == 'x'", vec!["x"], Some(false)),
            ("platform_machine in 'x86_64 AMD64'", vec![], Some(true)),
            ("platform_machine not in 'x86_64 AMD64'", vec![], Some(false)),
            ("implementation_name == 'cpython' and extra == 'standard'", vec!["standard"], Some(true)),
            ("extra == 'Test_Suite'", vec!["test-suite"], Some(true)),
            ("extra == 'standard'", vec![], Some(false)),
            ("extra == 'b'", vec!["a", "b"], Some(true)),
            ("python_version == '3.10.*'", vec![], Some(true)),
            ("'3.9' <= python_version", vec![], Some(true)),
            ("platform_release > '5'", vec![], None),
            ("python_version", vec![], None),
            ("python_version < '3", vec![], None),
        ] {
            let text = format!("x; {marker}");
            assert_eq!(Requirement::parse(&text).unwrap().applies(&environment, &extras), expected, "{marker}");
        }
        let deep = format!("x; {}python_version > '3'", "(".repeat(100_000));
        assert_eq!(Requirement::parse(&deep).unwrap().applies(&environment, &[]), None);
        assert_eq!(normalize("Zope._-Interface"), "zope-interface");
    }
}
