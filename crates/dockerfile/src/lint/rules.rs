//! All rules as data: name, what it's about, how bad, whether it has to be asked for, and who checks it.
//!
//! `docs/rules.md` is made of this table ([`document`]). The checks themselves are elsewhere.

use std::fmt::Write as _;

use crate::diagnostic::Severity;

/// What a rule looks at, which says when its findings matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The file, whichever stages are built.
    File,
    /// A stage: of no interest where that isn't built.
    Stage,
}

/// Where a rule comes from. A family's name turns all its rules on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// BuildKit's checks, under BuildKit's names. Only these count for `# check=error=true`.
    BuildKit,
    /// What hadolint also looks for; its codes are understood wherever a name is.
    Hadolint,
    /// Dockerfiles of Python programs.
    Python,
    /// Our own.
    Kuz,
}

impl Family {
    /// As it's written in `--enable` and `# check=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuildKit => "buildkit",
            Self::Hadolint => "hadolint",
            Self::Python => "python",
            Self::Kuz => "kuz",
        }
    }
}

/// What a rule has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The syntax tree.
    Tree,
    /// Values of variables, or the base image's configuration: the planner checks it.
    Plan,
    /// The context or its ignore file: whoever reads those checks it.
    Context,
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// In camel case; BuildKit's where it has one.
    pub name: &'static str,
    /// hadolint's codes for the same, and P1 to P11 of the Python rules.
    pub codes: &'static [&'static str],
    /// Where it comes from.
    pub family: Family,
    /// Of its findings.
    pub severity: Severity,
    /// When they matter.
    pub scope: Scope,
    /// What it has to know.
    pub needs: Needs,
    /// Off: only where `# check=experimental=` or `--enable` asks for it.
    pub experimental: bool,
    /// A sentence.
    pub description: &'static str,
}

impl Rule {
    const fn codes(self, codes: &'static [&'static str]) -> Self {
        Self { codes, ..self }
    }

    const fn plan(self) -> Self {
        Self { needs: Needs::Plan, ..self }
    }

    const fn context(self) -> Self {
        Self { needs: Needs::Context, ..self }
    }

    const fn off(self) -> Self {
        Self { experimental: true, ..self }
    }

    const fn file(self) -> Self {
        Self { scope: Scope::File, ..self }
    }

    /// Is this its name, one of its codes, or its family's name?
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.codes.contains(&name) || self.family.name() == name
    }
}

const fn rule_of(
    family: Family,
    severity: Severity,
    codes: &'static [&'static str],
    name: &'static str,
    description: &'static str,
) -> Rule {
    let (scope, needs) = (Scope::Stage, Needs::Tree);
    Rule { name, codes, family, severity, scope, needs, experimental: false, description }
}

const fn buildkit(name: &'static str, description: &'static str) -> Rule {
    rule_of(Family::BuildKit, Severity::Warning, &[], name, description)
}

const fn warns(code: &'static [&'static str], name: &'static str, description: &'static str) -> Rule {
    rule_of(Family::Hadolint, Severity::Warning, code, name, description)
}

const fn notes(code: &'static [&'static str], name: &'static str, description: &'static str) -> Rule {
    rule_of(Family::Hadolint, Severity::Note, code, name, description)
}

const fn python(code: &'static [&'static str], name: &'static str, description: &'static str) -> Rule {
    rule_of(Family::Python, Severity::Warning, code, name, description)
}

const fn python_note(code: &'static [&'static str], name: &'static str, description: &'static str) -> Rule {
    rule_of(Family::Python, Severity::Note, code, name, description)
}

const fn ours(name: &'static str, description: &'static str) -> Rule {
    rule_of(Family::Kuz, Severity::Warning, &[], name, description)
}

/// The rules, in the order of `docs/rules.md`.
pub const RULES: &[Rule] = &[
    buildkit("StageNameCasing", "names of stages are in lower case").file(),
    buildkit("FromAsCasing", "`as` has the case of `from`").file(),
    buildkit("NoEmptyContinuation", "no blank lines within an instruction").file(),
    buildkit("ConsistentInstructionCasing", "all instructions are in the same case").file(),
    buildkit("DuplicateStageName", "names of stages differ").file().codes(&["DL3024"]),
    buildkit("ReservedStageName", "no stage is called `scratch` or `context`").file(),
    buildkit("JSONArgsRecommended", "CMD and ENTRYPOINT have the JSON form, so that signals reach the program")
        .codes(&["DL3025"]),
    buildkit("MaintainerDeprecated", "a label instead of MAINTAINER names the author").file().codes(&["DL4000"]),
    buildkit("UndefinedArgInFrom", "FROM uses declared arguments").file().plan(),
    buildkit("WorkdirRelativePath", "the first WORKDIR is absolute, whatever the base image has").codes(&["DL3000"]),
    buildkit("UndefinedVar", "variables are set before they are used").plan(),
    buildkit("MultipleInstructionsDisallowed", "one CMD, ENTRYPOINT and HEALTHCHECK a stage: only the last counts")
        .codes(&["DL3012", "DL4003", "DL4004"]),
    buildkit("LegacyKeyValueFormat", "ENV and LABEL are written key=value"),
    buildkit("InvalidBaseImagePlatform", "the base image is for the platform that is built").plan(),
    buildkit("RedundantTargetPlatform", "no `--platform=$TARGETPLATFORM`: it's what is taken anyway").file(),
    buildkit("SecretsUsedInArgOrEnv", "no secrets in ARG and ENV, which stay in the image"),
    buildkit("InvalidDefaultArgInFrom", "FROM names an image with the defaults of its arguments, too").file().plan(),
    buildkit("FromPlatformFlagConstDisallowed", "no constant `--platform`, so that the file serves all platforms")
        .file()
        .codes(&["DL3029"]),
    buildkit("CopyIgnoredFile", "nothing is copied that the ignore file leaves out").context(),
    buildkit("InvalidDefinitionDescription", "a comment above ARG or FROM begins with the name it describes")
        .file()
        .off(),
    buildkit("ExposeProtoCasing", "protocols in EXPOSE are in lower case"),
    buildkit("ExposeInvalidFormat", "EXPOSE names a port, no address and no port of the host"),
    warns(&["DL3002"], "LastUserRoot", "the last USER of the final stage is not root"),
    notes(&["DL3003"], "CdInRun", "WORKDIR changes the directory, not `cd`, which ends with its RUN").off(),
    warns(&["DL3004"], "Sudo", "no `sudo`: steps are root's already, and USER changes that"),
    warns(&["DL3006"], "UntaggedBase", "a base image has a tag or digest"),
    warns(&["DL3007"], "LatestBase", "a base image's tag is not `latest`, which is another image tomorrow"),
    notes(&["DL3008"], "UnpinnedApt", "packages of apt have versions").off(),
    notes(&["DL3009"], "AptListsLeft", "`apt-get update` and the removal of its lists are in one RUN"),
    warns(&["DL3011"], "PortRange", "ports are between 0 and 65535"),
    notes(&["DL3013"], "UnpinnedPip", "packages of pip have versions"),
    warns(&["DL3014"], "AptAsks", "`apt-get install` has `-y`: nobody is there to answer"),
    notes(&["DL3015"], "AptRecommends", "`apt-get install` has `--no-install-recommends`").off(),
    notes(&["DL3018"], "UnpinnedApk", "packages of apk have versions").off(),
    notes(&["DL3020"], "AddForPlainFile", "COPY copies plain files; ADD is for URLs, repositories and archives"),
    warns(&["DL3021"], "CopyDestNoSlash", "where several sources are copied, the destination ends with a slash"),
    notes(&["DL3022"], "CopyFromUnknown", "`COPY --from` names a stage above it, or an image with its tag"),
    warns(&["DL3023"], "CopyFromSelf", "a stage doesn't copy from itself"),
    warns(&["DL3026"], "UntrustedRegistry", "base images come from the registries of `--trusted-registry`").file(),
    notes(&["DL3027"], "AptInScript", "`apt-get` rather than `apt`, which is made for people"),
    notes(&["DL3042"], "PipCacheLeft", "pip has `--no-cache-dir`, or its cache is a cache mount"),
    warns(&["DL3044"], "EnvSelfReference", "no variable is used in the ENV that sets it: it has its old value there"),
    warns(&["DL3045"], "CopyRelativeNoWorkdir", "a relative destination has a WORKDIR above it"),
    warns(&["DL3046"], "UseraddHighUid", "`useradd` with a high id has `-l`: else it writes a huge sparse file"),
    notes(&["DL3048"], "LabelKeySyntax", "keys of labels are in lower case, with dots and hyphens between words"),
    warns(&["DL3049"], "LabelMissing", "the final stage has the labels of `--require-label`"),
    warns(&["DL3050"], "LabelSuperfluous", "with `--strict-labels`: no labels but those of `--require-label`").off(),
    notes(&["DL3051"], "LabelEmpty", "labels of `org.opencontainers.image` and of the schema have values"),
    notes(&["DL3052"], "LabelNoUrl", "the labels url, source, documentation, and those of the form `url`, are URLs"),
    notes(&["DL3053"], "LabelNoTime", "the label created, and those of the form `rfc3339`, are times"),
    notes(&["DL3054"], "LabelNoLicense", "the label licenses, and those of the form `spdx`, are SPDX expressions"),
    notes(&["DL3055"], "LabelNoRevision", "the label revision, and those of the form `hash`, are commits").off(),
    notes(&["DL3056"], "LabelNoVersion", "the label version, and those of the form `semver`, are semantic versions")
        .off(),
    notes(&["DL3057"], "NoHealthcheck", "the final stage has a HEALTHCHECK").off(),
    warns(&["DL3058"], "LabelNoEmail", "labels of the form `email` are e-mail addresses as RFC 5322 writes them"),
    notes(&["DL3059"], "ConsecutiveRun", "RUN instructions in a row are one RUN").off(),
    notes(&["DL3066"], "NamedUser", "USER is a number, which an orchestrator can check").off(),
    notes(&["DL3067"], "CopyWholeRoot", "a stage is not copied whole onto the root of another image"),
    notes(&["DL4001"], "WgetAndCurl", "one of wget and curl, not both"),
    notes(&["DL4006"], "PipeNoPipefail", "a shell that runs pipes has `pipefail`, or only the last command counts"),
    python(&["P1"], "PythonVersionMismatch", "packages are copied between images of the same Python version"),
    python(&["P2"], "ConsoleScriptNotCopied", "with site-packages the command that CMD names is copied"),
    python(&["P3"], "LibcMismatch", "compiled packages run on the C library that they were built for, or a newer one"),
    python_note(
        &["P4"],
        "SourceBeforeDependencies",
        "the list of requirements is copied and installed before the source",
    ),
    python_note(&["P5"], "UnpinnedRequirements", "every requirement has one version").context().off(),
    python(&["P6"], "PipUserNotCarried", "what `pip install --user` installs belongs to the user that runs it"),
    python(&["P7"], "VenvMoved", "a virtual environment stays at its path, which its scripts hold"),
    python(&["P8"], "DevelopmentServer", "no reload, debugging or 127.0.0.1 in CMD: nobody reaches it from outside"),
    python_note(&["P9"], "PythonBuffered", "PYTHONUNBUFFERED is set, so that logs are seen when they are written")
        .off(),
    python(&["P10"], "ContextLeaks", "`COPY .` copies no keys, `.env`, `.git` or caches: the ignore file names them")
        .context(),
    python_note(&["P11"], "ServerBehindShell", "the server is the container's first process").off(),
    python(&[], "RequirementsNotCopied", "the list of requirements is copied before it is installed"),
    python(&[], "VenvActivated", "a virtual environment is put into PATH, not activated, which ends with its RUN"),
    ours("ConfigInCommand", "configuration is a file that's copied, not text that a command writes"),
    ours("MalformedJsonForm", "what looks like the JSON form is JSON: else it's run by the shell"),
    ours("CommentInArguments", "comments have lines of their own: behind an argument they are part of it"),
    ours("FlagBehindPaths", "flags of COPY and ADD stand in front of the paths: behind them they are paths"),
    ours("FlagPassedOver", "no flags on instructions that have none: other builders overlook them"),
    ours("InvalidEncoding", "the file is UTF-8, comments too"),
    ours("UnusedBuildArg", "build arguments are declared by an ARG").file().plan(),
    ours("NothingExposed", "what EXPOSE names is a port, also where a variable names it").plan(),
    ours("UnknownUser", "users and groups that own copied files are known to the image").plan(),
    ours("NewerSyntax", "`# syntax=` asks for no newer language than this version reads").file(),
    ours("LabsSyntax", "experimental parts of the language are asked for by a `-labs` syntax").file(),
];

/// The rule of this name.
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// What to do about a finding of BuildKit's rules, whose messages don't say it.
pub fn what_to_do(name: &str) -> Option<&'static str> {
    Some(match name {
        "StageNameCasing" | "ExposeProtoCasing" => "write it in lower case",
        "FromAsCasing" => "write AS in the case of FROM",
        "NoEmptyContinuation" => "remove the blank lines inside the instruction",
        "ConsistentInstructionCasing" => "write all instructions in the same case",
        "DuplicateStageName" => "give each stage its own name: COPY --from and --target mean the last one of a name",
        "ReservedStageName" => "call the stage something else",
        "JSONArgsRecommended" => "write [\"program\", \"argument\"]: a shell in between keeps signals from the program",
        "MaintainerDeprecated" => "write LABEL org.opencontainers.image.authors=\"…\"",
        "WorkdirRelativePath" => "begin the path with a slash",
        "MultipleInstructionsDisallowed" => "remove this one: only the last one counts",
        "RedundantTargetPlatform" => "leave the flag out: the target's platform is what is taken anyway",
        "SecretsUsedInArgOrEnv" => {
            "it stays in the image for all to read; give it to the step that needs it: RUN --mount=type=secret,id=NAME …, \
             with kuz build --secret id=NAME,src=FILE"
        }
        "FromPlatformFlagConstDisallowed" => "leave the flag out, or use a variable such as $BUILDPLATFORM",
        "InvalidBaseImagePlatform" => "choose a base image for that platform, or another --platform",
        "InvalidDefaultArgInFrom" => "give the ARG a default that makes a whole image name: ARG NAME=value",
        "InvalidDefinitionDescription" => "begin the comment with the name, or leave a blank line below it",
        "ExposeInvalidFormat" => {
            "write the container's port alone; the host's is chosen where it is started (docker run -p HOST:CONTAINER)"
        }
        "MalformedJsonForm" => "the JSON form has double quotes, and no comma behind the last word: [\"a\", \"b\"]",
        "FlagPassedOver" => "leave it out",
        _ => return None,
    })
}

/// Is there a rule or family that's called so?
pub fn is_known(name: &str) -> bool {
    RULES.iter().any(|rule| rule.is_called(name))
}

/// The table as the page of the documentation.
pub fn document() -> String {
    let mut page = String::from(INTRODUCTION);
    for (family, title) in [
        (Family::BuildKit, "BuildKit's checks"),
        (Family::Hadolint, "hadolint's rules"),
        (Family::Python, "Python"),
        (Family::Kuz, "Our own"),
    ] {
        let _ = write!(
            page,
            "\n## {title} (`{}`)\n\n| rule | code | severity | on | what it asks for |\n|---|---|---|---|---|\n",
            family.name()
        );
        for rule in RULES.iter().filter(|rule| rule.family == family) {
            let severity = match rule.severity {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            let on = if rule.experimental { "no" } else { "yes" };
            let codes = rule.codes.join(", ");
            let _ = writeln!(page, "| {} | {codes} | {severity} | {on} | {} |", rule.name, rule.description);
        }
    }
    page
}

const INTRODUCTION: &str = "\
# Rules

This page is generated from the rule table; `KUZ_BLESS=1 cargo test -p kuz-dockerfile --test documents` writes it anew.

`kuz check` prints all findings. `kuz build` prints warnings, not notes, and of the stages that it builds only.

- **Off for a file:** `# check=skip=NAME,NAME` at the top. `skip=all` turns all off.
- **Off for an instruction:** the same comment right above it, or `# hadolint ignore=DL3008`.
- **hadolint's comments** are honoured: `# hadolint ignore=CODE,CODE` above an instruction, `# hadolint global ignore=CODE`
  anywhere.
- **On, where a rule is off:** `# check=experimental=NAME` in the file, or `kuz check --enable NAME`.
- Wherever a name can stand, a code (`DL3008`, `P2`) or a family (`hadolint`, `python`, `kuz`) can. `experimental=all`
  means BuildKit's rules, as in BuildKit; `--enable all` means all.
- **`# check=error=true`** makes `kuz build` fail on a finding of BuildKit's rules, as BuildKit does: a file that builds
  there builds here.
- The build argument `BUILDKIT_DOCKERFILE_CHECK` takes the place of the file's `# check=`.
- **A schema of labels:** `kuz check --require-label KEY:FORM` asks for a label and what its value is: `text` (also without
  a form), `url`, `rfc3339`, `semver`, `hash`, `spdx` or `email`, as hadolint names them. Findings about it are warnings,
  whether or not the rule is on. `--strict-labels` (or `--enable LabelSuperfluous`) allows no other labels. Values with
  variables are not judged.

`kuz check` and `kuz build --check` end with exit code 3 when there is an error or a warning, with 0 when there are notes or
nothing; `--fail-on` moves that line.
";
