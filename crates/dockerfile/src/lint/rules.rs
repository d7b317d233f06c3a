//! All rules as data: name, what it's about, whether it has to be asked for.

use crate::diagnostic::Severity;

/// What a rule looks at, which says when its findings matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The file, whichever stages are built.
    File,
    /// A stage: of no interest where that isn't built.
    Stage,
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// In camel case; BuildKit's where it has one.
    pub name: &'static str,
    /// Of its findings.
    pub severity: Severity,
    /// When they matter.
    pub scope: Scope,
    /// Only where `# check=experimental=` asks for it.
    pub experimental: bool,
    /// A sentence.
    pub description: &'static str,
}

const fn of(name: &'static str, scope: Scope, description: &'static str) -> Rule {
    Rule { name, severity: Severity::Warning, scope, experimental: false, description }
}

/// The rules, those included that need more than a tree (names of variables, images, the ignore file).
pub const RULES: &[Rule] = &[
    of("StageNameCasing", Scope::File, "names of stages are in lower case"),
    of("FromAsCasing", Scope::File, "`as` has the case of `from`"),
    of("NoEmptyContinuation", Scope::File, "no blank lines within an instruction"),
    of("ConsistentInstructionCasing", Scope::File, "all instructions are in the same case"),
    of("DuplicateStageName", Scope::File, "names of stages differ"),
    of("ReservedStageName", Scope::File, "no stage is called `scratch` or `context`"),
    of("JSONArgsRecommended", Scope::Stage, "CMD and ENTRYPOINT have the JSON form, so that signals reach the program"),
    of("MaintainerDeprecated", Scope::File, "a label instead of MAINTAINER names the author"),
    of("UndefinedArgInFrom", Scope::File, "FROM uses declared arguments"),
    of("WorkdirRelativePath", Scope::Stage, "the first WORKDIR is absolute, whatever the base image has"),
    of("UndefinedVar", Scope::Stage, "variables are set before they are used"),
    of(
        "MultipleInstructionsDisallowed",
        Scope::Stage,
        "one CMD, ENTRYPOINT and HEALTHCHECK a stage: only the last counts",
    ),
    of("LegacyKeyValueFormat", Scope::Stage, "ENV and LABEL are written key=value"),
    of("InvalidBaseImagePlatform", Scope::Stage, "the base image is for the platform that is built"),
    of("RedundantTargetPlatform", Scope::File, "no `--platform=$TARGETPLATFORM`: it's what is taken anyway"),
    of("SecretsUsedInArgOrEnv", Scope::Stage, "no secrets in ARG and ENV, which stay in the image"),
    of("InvalidDefaultArgInFrom", Scope::File, "FROM names an image with the defaults of its arguments, too"),
    of(
        "FromPlatformFlagConstDisallowed",
        Scope::File,
        "no constant `--platform`, so that the file serves all platforms",
    ),
    of("CopyIgnoredFile", Scope::Stage, "nothing is copied that the ignore file leaves out"),
    Rule {
        experimental: true,
        ..of(
            "InvalidDefinitionDescription",
            Scope::File,
            "a comment above ARG or FROM begins with the name it describes",
        )
    },
    of("ExposeProtoCasing", Scope::Stage, "protocols in EXPOSE are in lower case"),
    of("ExposeInvalidFormat", Scope::Stage, "EXPOSE names a port, no address and no port of the host"),
    of("MalformedJsonForm", Scope::Stage, "what looks like the JSON form is JSON: else it's run by the shell"),
];

/// The rule of this name.
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}
