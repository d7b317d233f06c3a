//! Variables: which are known where, and which value wins.
//!
//! ```text
//!   automatic (TARGETARCH …) ─┐                       ┌─ FROM lines
//!   ARG before the first FROM ─┴─► Globals ───────────┤
//!                                     │ ARG NAME      └─ (nothing else)
//!                                     ▼
//!   base image's ENV ─► Scope: ARG and ENV in order, the later one wins ─► stages that stand on this one
//! ```
//!
//! Build arguments win over defaults. Predefined proxy arguments stay outside of all this: RUN sees them, but no
//! expansion, key or history does, unless an ARG declares them.

use std::collections::{BTreeMap, BTreeSet};

use kuz_dockerfile::Diagnostic;
use kuz_dockerfile::ast::{ArgItem, Instruction, Kind};

use crate::expand;
use crate::request::Request;

/// Build arguments that steer a scan and never become variables.
const NEVER_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];
/// The predefined proxy arguments, in lower case.
const PROXIES: [&str; 5] = ["all_proxy", "ftp_proxy", "http_proxy", "https_proxy", "no_proxy"];

/// Variables in the order of their first setting; setting one again keeps its place.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Env {
    pairs: Vec<(String, String)>,
    places: BTreeMap<String, usize>,
}

impl Env {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).and_then(|&place| self.pairs.get(place)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        if let Some((_, old)) = self.places.get(name).and_then(|&place| self.pairs.get_mut(place)) {
            *old = value;
        } else {
            self.places.insert(name.to_owned(), self.pairs.len());
            self.pairs.push((name.to_owned(), value));
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

/// `KEY=value` of an image's configuration.
pub(crate) fn split_pair(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

/// What FROM lines see, and what a value-less ARG of a stage takes over.
#[derive(Debug, Clone)]
pub(crate) struct Globals {
    /// Those with a value.
    pub(crate) env: Env,
    /// Also those without.
    pub(crate) declared: BTreeSet<String>,
}

impl Globals {
    /// The automatic variables and the ARGs before the first FROM. `build_args` is apart from the request so that the
    /// defaults alone can be tried.
    pub(crate) fn new(
        arguments: &[&Instruction],
        request: &Request,
        target: &str,
        build_args: &BTreeMap<String, String>,
        escape: char,
    ) -> Result<Self, Diagnostic> {
        let mut globals = Self { env: automatic(request, target), declared: BTreeSet::new() };
        for instruction in arguments {
            let Kind::Arg(items) = &instruction.kind else { continue };
            for item in items {
                let value = match (build_args.get(&item.name.value), &item.default) {
                    (Some(given), _) => Some(given.clone()),
                    (None, Some(default)) => Some(expand::word(default, &globals.env, escape)?.text),
                    (None, None) => None,
                };
                globals.declared.insert(item.name.value.clone());
                if let Some(value) = value {
                    globals.env.set(&item.name.value, value);
                }
            }
        }
        Ok(globals)
    }

    /// Whether a FROM line may name it.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.env.get(name).is_some() || self.declared.contains(name)
    }
}

/// `BUILDPLATFORM`, `TARGETARCH` and their like; build arguments of the same names win.
fn automatic(request: &Request, target: &str) -> Env {
    let (build, wanted) = (&request.build_platform, &request.platform);
    let text = |option: &Option<String>| option.clone().unwrap_or_default();
    let mut env = Env::default();
    for (name, value) in [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", text(&build.os_version)),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", text(&build.variant)),
        ("TARGETPLATFORM", wanted.to_string()),
        ("TARGETOS", wanted.os.clone()),
        ("TARGETOSVERSION", text(&wanted.os_version)),
        ("TARGETARCH", wanted.architecture.clone()),
        ("TARGETVARIANT", text(&wanted.variant)),
        ("TARGETSTAGE", target.to_owned()),
    ] {
        env.set(name, request.build_args.get(name).cloned().unwrap_or(value));
    }
    env
}

/// What the instructions of a stage see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// ENV and ARG together.
    pub(crate) env: Env,
    /// The ARGs alone, in order of their first declaration.
    args: Env,
}

impl Scope {
    /// ENV, or a variable of the base image.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.env.set(name, value);
    }

    /// ARG: the value that wins, which is now set.
    pub(crate) fn declare(
        &mut self,
        item: &ArgItem,
        request: &Request,
        globals: &Globals,
        default: impl FnOnce(&Self) -> Result<Option<String>, Diagnostic>,
    ) -> Result<Option<String>, Diagnostic> {
        let name = &item.name.value;
        let value = match (request.build_args.get(name), &item.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(_)) => default(self)?,
            (None, None) => globals.env.get(name).map(str::to_owned),
        };
        if let Some(value) = &value
            && !NEVER_VARIABLES.contains(&name.as_str())
        {
            self.env.set(name, value.clone());
        }
        match &value {
            Some(value) => self.args.set(name, value.clone()),
            None if self.args.get(name).is_none() => self.args.set(name, String::new()),
            None => {}
        }
        Ok(value)
    }

    /// Whether an ARG names it, with or without a value.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.args.get(name).is_some()
    }

    /// `NAME=value` of the ARGs, as the history of a RUN lists them: with the value that the command sees.
    pub(crate) fn args(&self) -> Vec<String> {
        let shown = |(name, value): &(String, String)| format!("{name}={}", self.env.get(name).unwrap_or(value));
        self.args.pairs().iter().map(shown).collect()
    }
}

/// The proxy variables that the build arguments give, in both spellings, without those that `env` has.
pub(crate) fn proxies(build_args: &BTreeMap<String, String>, env: &Env) -> Vec<(String, String)> {
    let mut given: BTreeMap<String, &String> = BTreeMap::new();
    for (name, value) in build_args {
        // In order of bytes lower case comes last, and wins.
        let lower = name.to_ascii_lowercase();
        if PROXIES.contains(&lower.as_str()) {
            given.insert(lower, value);
        }
    }
    let spelled = given.iter().flat_map(|(name, value)| [(name.to_ascii_uppercase(), value), (name.clone(), value)]);
    spelled.filter(|(name, _)| env.get(name).is_none()).map(|(name, value)| (name, (*value).clone())).collect()
}

/// Whether a build argument has a use without any ARG that declares it.
pub(crate) fn is_predefined(name: &str) -> bool {
    const AUTOMATIC: [&str; 2] = ["BUILD", "TARGET"];
    const PARTS: [&str; 6] = ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT", "STAGE"];
    PROXIES.contains(&name.to_ascii_lowercase().as_str())
        || name == "SOURCE_DATE_EPOCH"
        || name.starts_with("BUILDKIT_")
        || AUTOMATIC.iter().any(|side| name.strip_prefix(side).is_some_and(|part| PARTS.contains(&part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_again_keeps_the_place() {
        let mut env = Env::default();
        for (name, value) in [("A", "1"), ("B", "2"), ("A", "3")] {
            env.set(name, value.to_owned());
        }
        assert_eq!(env.pairs(), [("A".to_owned(), "3".to_owned()), ("B".to_owned(), "2".to_owned())]);
        assert_eq!((env.get("A"), env.get("C")), (Some("3"), None));
    }

    #[test]
    fn proxies_come_in_both_spellings_and_lower_case_wins() {
        let args = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut env = Env::default();
        env.set("no_proxy", "declared".to_owned());
        let got = proxies(&args(&[("HTTP_PROXY", "u"), ("http_proxy", "l"), ("NO_PROXY", "n"), ("FOO", "x")]), &env);
        let got: Vec<String> = got.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(got, ["HTTP_PROXY=l", "http_proxy=l", "NO_PROXY=n"]);
    }

    #[test]
    fn predefined_arguments() {
        for name in ["http_proxy", "ALL_PROXY", "SOURCE_DATE_EPOCH", "BUILDKIT_SYNTAX", "TARGETARCH", "BUILDPLATFORM"] {
            assert!(is_predefined(name), "{name}");
        }
        for name in ["PROXY", "TARGET", "TARGETX", "BUILDER", "VERSION"] {
            assert!(!is_predefined(name), "{name}");
        }
    }
}
