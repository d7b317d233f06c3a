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
use std::sync::Arc;

use kuz_dockerfile::Diagnostic;
use kuz_dockerfile::ast::{ArgItem, Instruction, Kind};

use crate::env::Env;
use crate::expand;
use crate::request::Request;
use crate::work;

/// Build arguments that steer a scan and never become variables.
const NEVER_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];
/// Build arguments that steer the build, and need no ARG.
pub const CONTROLS: [&str; 9] = [
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
    "BUILDKIT_SYNTAX",
];
/// Those of them that ask for what is never done here, and what to do.
const NEVER_DONE: [(&str, &str); 2] = [
    ("BUILDKIT_INLINE_CACHE", "images hold no cache of how they were built; leave the argument out, or set it to 0"),
    ("BUILDKIT_MULTI_PLATFORM", "an image is one manifest for one platform; leave the argument out, or set it to 0"),
];
/// The predefined proxy arguments, in lower case.
const PROXIES: [&str; 5] = ["all_proxy", "ftp_proxy", "http_proxy", "https_proxy", "no_proxy"];

/// So many settings are always kept in a chain before it is made anew.
const SPARE: usize = 64;

/// Variables by name, and their order. Setting one again keeps its place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    names: Vec<Arc<str>>,
    values: BTreeMap<Arc<str>, Arc<str>>,
    env: Env,
    /// What the chain of `env` holds, with values that no longer count.
    settings: usize,
}

impl Variables {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| &**value)
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        work::done(1);
        let value: Arc<str> = value.into();
        let name = if let Some((name, _)) = self.values.get_key_value(name) {
            Arc::clone(name)
        } else {
            let name: Arc<str> = name.into();
            self.names.push(Arc::clone(&name));
            name
        };
        self.values.insert(Arc::clone(&name), Arc::clone(&value));
        self.env.set(name, value);
        self.settings += 1;
        if self.settings > 2 * self.names.len() + SPARE {
            work::done(self.names.len());
            self.settings = self.names.len();
            self.env = self.shared().collect();
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// In order.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names().filter_map(|name| Some((name, self.get(name)?)))
    }

    fn shared(&self) -> impl Iterator<Item = (Arc<str>, Arc<str>)> {
        self.names.iter().filter_map(|name| Some((Arc::clone(name), Arc::clone(self.values.get(name)?))))
    }

    /// All of them as they are now.
    pub(crate) fn env(&self) -> Env {
        self.env.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
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
    pub(crate) env: Variables,
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
                    globals.env.set(&item.name.value, &value);
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
fn automatic(request: &Request, target: &str) -> Variables {
    let (build, wanted) = (&request.build_platform, &request.platform);
    let text = |option: &Option<String>| option.clone().unwrap_or_default();
    let mut env = Variables::default();
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
        env.set(name, request.build_args.get(name).unwrap_or(&value));
    }
    env
}

/// What the instructions of a stage see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// ENV and ARG together.
    pub(crate) env: Variables,
    /// The ARGs alone, in order of their first declaration.
    args: Variables,
    /// Variables that the image has, and where in its list they are.
    kept: BTreeMap<Arc<str>, usize>,
    /// Values of such variables that an ARG of this stage hides.
    hidden: BTreeMap<Arc<str>, Arc<str>>,
}

impl Scope {
    /// ENV, or a variable of the base image.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.env.set(name, value);
        self.hidden.remove(name);
    }

    /// Where in the image's list a variable is.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.kept.get(name).copied()
    }

    /// A variable is in the image's list now; the first place of a name counts.
    pub(crate) fn keep(&mut self, name: &str, place: usize) {
        self.kept.entry(name.into()).or_insert(place);
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
            && !is_never_variable(name)
        {
            self.hide(name);
            self.env.set(name, value);
        }
        match &value {
            Some(value) => self.args.set(name, value),
            None if self.args.get(name).is_none() => self.args.set(name, ""),
            None => {}
        }
        Ok(value)
    }

    /// Notes what an ENV said before an ARG takes its place.
    fn hide(&mut self, name: &str) {
        if let (Some((name, _)), Some(value)) = (self.kept.get_key_value(name), self.env.get(name)) {
            self.hidden.entry(Arc::clone(name)).or_insert_with(|| value.into());
        }
    }

    /// For a stage that stands on this one: ENV wins over an ARG that comes with it.
    pub(crate) fn handed_down(mut self) -> Self {
        for (name, value) in std::mem::take(&mut self.hidden) {
            self.env.set(&name, &value);
        }
        self
    }

    /// Whether an ARG names it, with or without a value.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.args.get(name).is_some()
    }

    /// `NAME=value` of the ARGs, as the history of a RUN lists them: with the value that the command sees.
    pub(crate) fn args(&self) -> Vec<String> {
        work::done(self.args.len());
        self.args.pairs().map(|(name, value)| format!("{name}={}", self.env.get(name).unwrap_or(value))).collect()
    }

    /// How much a copy has to copy.
    pub(crate) fn weight(&self) -> usize {
        self.env.len() + self.args.len() + self.kept.len()
    }
}

/// The proxy variables that the build arguments give, in both spellings, without those that `env` has.
pub(crate) fn proxies(build_args: &BTreeMap<String, String>, env: &Variables) -> Vec<(String, String)> {
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

/// What a build argument asks for in vain: the hint of an error.
pub(crate) fn never_done(name: &str, value: &str) -> Option<&'static str> {
    let asked = !value.is_empty() && kuz_dockerfile::boolean(value) != Some(false);
    NEVER_DONE.iter().find(|(known, _)| *known == name && asked).map(|(_, hint)| *hint)
}

/// Whether it is one of the arguments that no instruction ever sees.
pub(crate) fn is_never_variable(name: &str) -> bool {
    NEVER_VARIABLES.contains(&name)
}

/// Names of build arguments that have a use without an ARG, for "did you mean".
pub(crate) fn controls<'n>() -> impl Iterator<Item = &'n str> {
    CONTROLS.into_iter()
}

/// Whether a build argument has a use without any ARG that declares it.
pub(crate) fn is_predefined(name: &str) -> bool {
    const AUTOMATIC: [&str; 2] = ["BUILD", "TARGET"];
    const PARTS: [&str; 6] = ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT", "STAGE"];
    PROXIES.contains(&name.to_ascii_lowercase().as_str())
        || name == crate::epoch::NAME
        || CONTROLS.contains(&name)
        || AUTOMATIC.iter().any(|side| name.strip_prefix(side).is_some_and(|part| PARTS.contains(&part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_again_keeps_the_place() {
        let mut env = Variables::default();
        for (name, value) in [("A", "1"), ("B", "2"), ("A", "3")] {
            env.set(name, value);
        }
        assert_eq!(env.pairs().collect::<Vec<_>>(), [("A", "3"), ("B", "2")]);
        assert_eq!((env.get("A"), env.get("C")), (Some("3"), None));
        for number in 0..1000 {
            env.set("B", &number.to_string());
        }
        assert_eq!(env.env().to_vec(), [("A".to_owned(), "3".to_owned()), ("B".to_owned(), "999".to_owned())]);
        assert!(env.settings < 100, "{} settings of two variables are kept", env.settings);
    }

    #[test]
    fn proxies_come_in_both_spellings_and_lower_case_wins() {
        let args = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut env = Variables::default();
        env.set("no_proxy", "declared");
        let got = proxies(&args(&[("HTTP_PROXY", "u"), ("http_proxy", "l"), ("NO_PROXY", "n"), ("FOO", "x")]), &env);
        let got: Vec<String> = got.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(got, ["HTTP_PROXY=l", "http_proxy=l", "NO_PROXY=n"]);
    }

    #[test]
    fn predefined_arguments() {
        for name in ["http_proxy", "ALL_PROXY", "SOURCE_DATE_EPOCH", "BUILDKIT_SYNTAX", "TARGETARCH", "BUILDPLATFORM"] {
            assert!(is_predefined(name), "{name}");
        }
        for name in ["PROXY", "TARGET", "TARGETX", "BUILDER", "VERSION", "BUILDKIT_SYNTAKS"] {
            assert!(!is_predefined(name), "{name}");
        }
    }
}
