//! The command line: words to a typed [`Cli`]. Flags of `build` are named as `docker buildx build` names them.
//!
//! Parsing only; values are checked against each other where they are used. Reads nothing but the arguments.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use kuz_build::smoke::Health;

use crate::refused::Refused;

/// Builds container images from Dockerfiles: no daemon, no root, no Docker.
#[derive(Debug, Parser)]
#[command(name = "kuz", version, max_term_width = 110, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kuz build -t app .                     build ./Dockerfile, keep the image as app:latest
  kuz run app                            start it
  kuz image save --format docker-archive -o app.tar app
  kuz push app registry.example/team/app:1

Environment: KUZ_STORE (where images are kept), KUZ_CONFIG (kuz.toml).  Exit codes: docs/exit-codes.md";

const BUILD_EXAMPLES: &str = "\
Examples:
  kuz build -t app .
  kuz build -t app -f docker/Dockerfile --build-arg VERSION=1.2 .
  kuz build --target builder .
  kuz build -t registry.example/team/app:1 --push .
  kuz build -o type=docker,dest=app.tar -t app .

Standard output carries one JSON object, on success and on failure:
  {\"imageId\":\"sha256:…\",\"tag\":\"app\",\"size\":123,\"success\":true}
Everything else goes to standard error.";

const CHECK_EXAMPLES: &str = "\
Examples:
  kuz check                              ./Dockerfile
  kuz check docker/Dockerfile .          another one, and the context that it copies from
  kuz check --format sarif > kuz.sarif   for code scanning; `github` writes annotations
  kuz check --enable python              with the rules that are off by themselves

Exit code 3 if there is an error or a warning. Rules: docs/rules.md";

const INIT_EXAMPLES: &str = "\
Examples:
  kuz init                               look at the project here, write Dockerfile and .dockerignore
  kuz init --print                       show them
  kuz init --app shop.main:app --port 9000 service

Nothing of the project is run, and no file that exists is written to.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  kuz verify app                         what is wrong, and the lines that mend it
  kuz verify --format sarif app          for code scanning
  kuz verify --fix app | patch -p0       add the lines to ./Dockerfile

Exit code 1 if there is an error. Rules: docs/verify.md";

const RUN_EXAMPLES: &str = "\
Examples:
  kuz run app
  kuz run -e DEBUG=1 -v ./data:/data app python -m app
  kuz run --smoke app                    start it, wait until it is ready, stop it
  kuz run --smoke=30 --health /healthz app

Exit code: the program's; of a smoke run 0 or 1. Smoke runs: docs/smoke.md";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  kuz explain                            what the next build would do anew, and why
  kuz explain --last                     what the last build did anew, why, and how long it took
  kuz build --explain -t app .           the same after a build

Flags are those of kuz build: give the same as in the build. Details: docs/explain.md";

const SIZE_EXAMPLES: &str = "\
Examples:
  kuz size app
  kuz size app --against app:old         what one has more of than the other
  kuz size app --format html -o app.html a page with a treemap

Sizes are powers of 1024, as ls -h and du -h write them. Details: docs/size.md";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    #[command(after_help = BUILD_EXAMPLES)]
    Build(Box<BuildArgs>),
    /// Say what is wrong or doubtful with a Dockerfile, without building
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Write a Dockerfile and a .dockerignore for a Python project
    #[command(after_help = INIT_EXAMPLES)]
    Init(InitArgs),
    /// Say whether an image will run: its command, its libraries, and hints
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Say why steps are hits or misses: of the next build, or with --last of the last one
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Box<ExplainArgs>),
    /// Show the plan of a build, every step expanded, without building
    Plan(PlanArgs),
    /// Start an image in the sandbox; with --smoke only to see whether it comes up
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Say where an image's bytes are: stages, layers, directories, packages, waste
    #[command(after_help = SIZE_EXAMPLES)]
    Size(SizeArgs),
    /// Fetch an image from a registry
    Pull(PullArgs),
    /// Push an image to a registry
    Push(PushArgs),
    /// Give an image another name
    Tag {
        /// Name, id or the beginning of an id
        image: String,
        /// The new name
        name: String,
    },
    /// Remember credentials for a registry
    Login(LoginArgs),
    /// Forget credentials for a registry
    Logout {
        /// Registry host
        #[arg(default_value = "docker.io")]
        registry: String,
    },
    /// Look at, remove, save and load images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Check, measure and clean the store
    #[command(subcommand)]
    Store(StoreCommand),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, clippy::struct_field_names, reason = "each is a flag of the command line")]
pub(crate) struct BuildArgs {
    /// What COPY and ADD read from: a directory, a git repository, a tar on the web, or - for standard input
    #[arg(default_value = ".")]
    pub(crate) context: String,
    /// The Dockerfile [default: CONTEXT/Dockerfile]; - is standard input, and it may be on the web
    #[arg(short, long)]
    pub(crate) file: Option<String>,
    /// Set an ARG: NAME=VALUE, or NAME to take the value from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,
    /// Name the image; may be repeated
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub(crate) tags: Vec<String>,
    /// Stop at this stage
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// Do every step anew
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Do the steps of these stages anew
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Do up to N independent stages side by side (0: as many as there are)
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) jobs: usize,
    /// Ask the registry for newer base images
    #[arg(long)]
    pub(crate) pull: bool,
    /// What the image is for, such as linux/amd64
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Network for RUN, and for --smoke if it is host
    #[arg(long, value_enum, default_value_t)]
    pub(crate) network: NetworkArg,
    /// Set a label of the image
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Annotate the image's manifest: [manifest:]KEY=VALUE; may be repeated
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(crate) annotations: Vec<String>,
    /// Let a name stand for a directory, `docker-image://NAME`, `oci-layout://DIR[:TAG|@DIGEST]` or a git address
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub(crate) contexts: Vec<String>,
    /// Add a line to /etc/hosts for RUN
    #[arg(long = "add-host", value_name = "HOST:IP")]
    pub(crate) hosts: Vec<String>,
    /// Size of /dev/shm for RUN, such as 64m
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// Limit of a resource for RUN; may be repeated
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimits: Vec<String>,
    /// Pass a secret to RUN --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]; may be repeated
    #[arg(long = "secret", value_name = "SPEC")]
    pub(crate) secrets: Vec<String>,
    /// Pass an ssh agent to RUN --mount=type=ssh, by default the one of `SSH_AUTH_SOCK`; may be repeated
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    pub(crate) ssh: Vec<String>,
    /// Grant a step more than usual: network.host (always granted here)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,
    /// Whether the finished image is looked at, and what comes of it: will it run?
    #[arg(long, value_enum, default_value_t)]
    pub(crate) verify: VerifyArg,
    #[command(flatten)]
    pub(crate) smoke: SmokeArgs,
    /// A place that may hold what looks like a secret: a path in the image (wildcards as in an ignore file), or
    /// env:NAME, arg:NAME, label:NAME, history; may be repeated
    #[arg(long = "allow-secret", value_name = "PATH")]
    pub(crate) allowed_secrets: Vec<String>,
    /// Write nothing but the result
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t)]
    pub(crate) progress: ProgressArg,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write digests and names as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Push to the tags' registries
    #[arg(long)]
    pub(crate) push: bool,
    /// Load into the Docker daemon
    #[arg(long)]
    pub(crate) load: bool,
    /// Check the Dockerfile only (as `kuz check --target`)
    #[arg(long)]
    pub(crate) check: bool,
    /// Say afterwards, on standard error, why steps were hits or misses
    #[arg(long)]
    pub(crate) explain: bool,
    /// Instead of building: check, outline or targets; `,format=json` for programs
    #[arg(long, value_name = "WHAT", conflicts_with = "check")]
    pub(crate) call: Option<String>,
    /// type=oci|docker[,tar=false],dest=PATH; type=image[,push=true]; type=registry
    #[arg(short, long = "output", value_name = "SPEC")]
    pub(crate) outputs: Vec<String>,
    #[command(flatten)]
    pub(crate) refused: Refused,
}

#[derive(Debug, Args)]
#[expect(clippy::option_option, reason = "how clap says that a flag's value may be left out")]
pub(crate) struct SmokeArgs {
    /// Start the image, wait until it is ready (10 seconds, or so many), stop it; a failure is one of the command
    #[arg(long, value_name = "SECONDS", require_equals = true, value_parser = kuz_build::smoke::window)]
    pub(crate) smoke: Option<Option<Duration>>,
    /// With --smoke: ready is when this answers 2xx or 3xx: a path at the first exposed port, or
    /// `http://127.0.0.1:PORT/PATH` [default: HEALTHCHECK, else an exposed port, else being alive]
    #[arg(long, value_name = "URL", requires = "smoke", value_parser = Health::parse)]
    pub(crate) health: Option<Health>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerifyArg {
    /// Do not look
    Off,
    /// Tell what is found
    #[default]
    Warn,
    /// Fail on an error, before anything is tagged or pushed
    Error,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Name, id or the beginning of an id
    pub(crate) image: String,
    /// How findings are written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: VerifyFormat,
    /// A place that may hold what looks like a secret: a path in the image (wildcards as in an ignore file), or
    /// env:NAME, arg:NAME, label:NAME, history; may be repeated
    #[arg(long = "allow-secret", value_name = "PATH")]
    pub(crate) allowed_secrets: Vec<String>,
    /// Write a patch that adds the advised lines to the Dockerfile
    #[arg(long, conflicts_with = "format")]
    pub(crate) fix: bool,
    /// The Dockerfile for --fix
    #[arg(short, long, value_name = "FILE", default_value = "Dockerfile")]
    pub(crate) file: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerifyFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkArg {
    /// The machine's network
    #[default]
    Default,
    /// The machine's network
    Host,
    /// Only a loopback interface
    None,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// A live view on a terminal, statuses elsewhere
    #[default]
    Auto,
    /// A live view
    Tty,
    /// Statuses and all output of the steps
    Plain,
    /// Nothing
    #[value(alias = "none")]
    Quiet,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The Dockerfile, or a directory that has one
    #[arg(default_value = ".")]
    pub(crate) file: String,
    /// The directory that COPY and ADD read from [default: the Dockerfile's]
    pub(crate) context: Option<String>,
    /// How findings are written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: CheckFormat,
    /// Set an ARG: NAME=VALUE, or NAME to take the value from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,
    /// Check only what this stage needs
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// Let a name stand for another context, as in `kuz build`
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub(crate) contexts: Vec<String>,
    /// Turn on a rule that is off: its name or code, a family, or all
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub(crate) enable: Vec<String>,
    /// Fail from this severity on
    #[arg(long, value_enum, default_value_t)]
    pub(crate) fail_on: FailOn,
    /// Registries that base images may come from
    #[arg(long = "trusted-registry", value_name = "HOST", value_delimiter = ',')]
    pub(crate) trusted_registries: Vec<String>,
    /// Labels that the image must have, and what they are: text, url, rfc3339, semver, hash, spdx or email
    #[arg(long = "require-label", value_name = "KEY[:FORM]", value_delimiter = ',')]
    pub(crate) required_labels: Vec<String>,
    /// No other labels than those of --require-label
    #[arg(long)]
    pub(crate) strict_labels: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The project
    #[arg(default_value = ".")]
    pub(crate) directory: String,
    /// The application, as in main:app or run.py [default: found in the text]
    #[arg(long, value_name = "APP")]
    pub(crate) app: Option<String>,
    /// The port that it listens on [default: found in the text, else 8000]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// The version of Python [default: what the project asks for, else 3.10]
    #[arg(long, value_name = "VERSION")]
    pub(crate) python: Option<String>,
    /// Show the files instead of writing them
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The last build that was no repetition, instead of the next one
    #[arg(long)]
    pub(crate) last: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Every flag of `kuz build`: those that change what is built count
    #[command(flatten)]
    pub(crate) build: BuildArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The directory that COPY and ADD read from
    #[arg(default_value = ".")]
    pub(crate) context: String,
    /// The Dockerfile [default: CONTEXT/Dockerfile]
    #[arg(short, long)]
    pub(crate) file: Option<String>,
    /// Set an ARG: NAME=VALUE, or NAME to take the value from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,
    /// Stop at this stage
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// What the image is for, such as linux/amd64
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Network for RUN
    #[arg(long, value_enum, default_value_t)]
    pub(crate) network: NetworkArg,
    /// Set a label of the image
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Ask the registry for newer base images
    #[arg(long)]
    pub(crate) pull: bool,
    /// Let a name stand for another context, as in `kuz build`
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub(crate) contexts: Vec<String>,
    /// How the plan is written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// For people, with the lines of the file
    #[default]
    Text,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations of GitHub Actions
    Github,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// Errors only
    Error,
    /// Errors and warnings
    #[default]
    Warning,
    /// Any finding
    Note,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Set a variable: NAME=VALUE, or NAME to pass it on
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Show a directory or file of this machine: HOST:PATH[:ro]
    #[arg(short, long = "volume", value_name = "HOST:PATH[:ro]")]
    pub(crate) volumes: Vec<String>,
    /// Working directory
    #[arg(short, long)]
    pub(crate) workdir: Option<String>,
    /// User, as in USER
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Keep standard input open (it always is; accepted as in docker)
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long, conflicts_with = "smoke")]
    pub(crate) tty: bool,
    /// Replace ENTRYPOINT
    #[arg(long)]
    pub(crate) entrypoint: Option<String>,
    /// Remove afterwards (changes never stay; accepted as in docker)
    #[arg(long)]
    pub(crate) rm: bool,
    /// Network; with --smoke by default a loopback interface of its own
    #[arg(long, value_enum, default_value_t)]
    pub(crate) network: NetworkArg,
    #[command(flatten)]
    pub(crate) smoke: SmokeArgs,
    /// How progress is shown; `plain` shows what the command of a smoke run writes
    #[arg(long, value_enum, default_value_t)]
    pub(crate) progress: ProgressArg,
    /// Name, id or the beginning of an id
    pub(crate) image: String,
    /// Replaces CMD
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SizeArgs {
    /// Name, id or the beginning of an id
    pub(crate) image: String,
    /// Compare it with another image
    #[arg(long, value_name = "IMAGE")]
    pub(crate) against: Option<String>,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: SizeFormat,
    /// Write it to this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SizeFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// A page that needs nothing else, with a treemap
    Html,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// What to fetch
    pub(crate) image: String,
    /// For this platform
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Write only the id
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Name, id or the beginning of an id
    pub(crate) image: String,
    /// Where to [default: the image's own name]
    pub(crate) reference: Option<String>,
    /// Write only the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Registry host
    #[arg(default_value = "docker.io")]
    pub(crate) registry: String,
    /// User name
    #[arg(short, long)]
    pub(crate) username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveFormat {
    /// An OCI image layout in a tar
    OciArchive,
    /// An OCI image layout in a directory
    OciDir,
    /// What `docker save` writes
    DockerArchive,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images
    Ls {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show an image's configuration and layers
    Inspect {
        /// Name, id or the beginning of an id
        image: String,
        #[arg(long, value_enum, default_value = "json")]
        format: Format,
    },
    /// Remove names and images
    Rm {
        /// Names, ids or beginnings of ids
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Write an image to a file
    Save {
        #[arg(long, value_enum, default_value = "docker-archive")]
        format: SaveFormat,
        /// Where to; `-` is standard output
        #[arg(short, long)]
        output: String,
        /// Name, id or the beginning of an id
        image: String,
    },
    /// Read images from a file or directory (any of the formats of `save`)
    Load {
        /// Where from; `-` is standard input
        #[arg(short, long, default_value = "-")]
        input: String,
        /// Name it so
        #[arg(short, long)]
        tag: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Verify everything in the store
    Check {
        /// Drop what is damaged
        #[arg(long)]
        repair: bool,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show what takes how much space
    Du {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Remove what no image needs
    Prune {
        /// Also what would make builds fast
        #[arg(short, long)]
        all: bool,
        /// Keep this much of the cache, such as 10g
        #[arg(long, value_name = "BYTES")]
        keep_storage: Option<String>,
    },
}

/// Flags without a value of `build` and its relatives, which `docker` takes with one, too: `--pull=false`.
const BOOLEAN: [&str; 7] = ["--no-cache", "--pull", "--push", "--load", "--quiet", "--check", "--explain"];

/// The words of the command line with such values taken off: a flag that's true stands alone, one that's false is gone.
pub(crate) fn without_booleans(words: Vec<OsString>) -> Vec<OsString> {
    let command = words.get(1).and_then(|word| word.to_str());
    if !command.is_some_and(|command| matches!(command, "build" | "plan" | "explain")) {
        return words;
    }
    words
        .into_iter()
        .filter_map(|word| {
            let Some((flag, value)) = word.to_str().and_then(|word| word.split_once('=')) else { return Some(word) };
            if !BOOLEAN.contains(&flag) {
                return Some(word);
            }
            match value {
                "true" | "1" => Some(flag.into()),
                "false" | "0" => None,
                _ => Some(word),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn boolean_flags_may_have_their_values() {
        for (given, want) in [
            ("kuz build --pull=true --no-cache=false .", "kuz build --pull ."),
            ("kuz build --push=0 --load=1 --quiet=maybe", "kuz build --load --quiet=maybe"),
            ("kuz build --build-arg --pull=false --label=a=true", "kuz build --build-arg --label=a=true"),
            ("kuz run app --pull=false", "kuz run app --pull=false"),
        ] {
            let words = |text: &str| text.split(' ').map(Into::into).collect::<Vec<std::ffi::OsString>>();
            assert_eq!(super::without_booleans(words(given)), words(want), "{given}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
