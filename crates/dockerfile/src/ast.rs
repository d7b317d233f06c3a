//! The syntax tree of a Dockerfile: what was written, where, and nothing expanded.
//!
//! The parser fills it, the planner reads it. Every [`Word`] keeps quotes, escapes and `${}` as written; expansion is
//! [`crate::word`]'s. Spans point into [`Dockerfile::source`].

use crate::span::{Span, Spanned};

/// A piece of text as written, unexpanded.
pub type Word = Spanned<String>;

/// A whole file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dockerfile {
    /// The text that the spans point into.
    pub source: String,
    /// `# syntax=`, `# escape=`, `# check=`.
    pub directives: Directives,
    /// In order of the file.
    pub instructions: Vec<Instruction>,
}

/// The parser directives at the top of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Directives {
    /// `# syntax=`
    pub syntax: Option<Word>,
    /// `# escape=`; `None` is a backslash.
    pub escape: Option<Spanned<char>>,
    /// `# check=`, unparsed.
    pub check: Option<Word>,
}

impl Directives {
    /// The escape character in force.
    pub fn escape_char(&self) -> char {
        self.escape.as_ref().map_or('\\', |escape| escape.value)
    }
}

/// One instruction, with its continuation lines and heredocs.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// From the keyword to the end of the last line that belongs to it.
    pub span: Span,
    /// The keyword as written.
    pub keyword: Word,
    /// The instruction with continuations joined and comments dropped, without heredoc bodies: the basis of
    /// `created_by`.
    pub text: String,
    /// What it says.
    pub kind: Kind,
    /// The comment lines directly above (text after `#`, trimmed).
    pub comments: Vec<Word>,
}

/// The instructions.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the instruction of its name")]
pub enum Kind {
    From(From),
    Arg(Vec<ArgItem>),
    Env(Vec<Pair>),
    Label(Vec<Pair>),
    Run(Run),
    Copy(Copy),
    Add(Copy),
    Cmd(Command),
    Entrypoint(Command),
    Expose(Vec<Word>),
    Volume(Vec<Word>),
    User(Word),
    Workdir(Word),
    Shell(Vec<String>),
    StopSignal(Word),
    Healthcheck(Healthcheck),
    OnBuild(OnBuild),
    Maintainer(Word),
}

/// `FROM [--platform=P] IMAGE [AS NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct From {
    /// `--platform`
    pub platform: Option<Word>,
    /// Image or stage.
    pub image: Word,
    /// The name behind `AS`, as written (compare in lower case).
    pub alias: Option<Word>,
    /// `AS` as written, for casing checks.
    pub as_keyword: Option<Word>,
}

/// One `NAME[=default]` of an ARG.
#[derive(Debug, Clone, PartialEq)]
pub struct ArgItem {
    /// The variable.
    pub name: Word,
    /// What it is without `--build-arg`.
    pub default: Option<Word>,
}

/// One `KEY=value` of ENV or LABEL.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// As written (may be quoted, may hold variables in LABEL).
    pub key: Word,
    /// As written.
    pub value: Word,
    /// The `KEY value` form.
    pub legacy: bool,
}

/// Shell form or JSON form.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// The rest of the line, continuations joined, for the SHELL.
    Shell(Word),
    /// `["a", "b"]`
    Exec(Vec<String>),
}

/// `[fd]<<[-]WORD` and its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Heredoc {
    /// The word without quotes.
    pub name: String,
    /// The body, tabs stripped if `-`, with its last newline.
    pub content: String,
    /// The word was unquoted: variables in the body are expanded.
    pub expand: bool,
    /// `<<-`
    pub strip_tabs: bool,
    /// The file descriptor in front, 0 if none.
    pub fd: u32,
    /// The `<<WORD` itself.
    pub span: Span,
    /// The body's lines.
    pub body: Span,
}

/// `RUN [flags] command`
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What runs.
    pub command: Command,
    /// `--mount=…`, in order.
    pub mounts: Vec<Mount>,
    /// `--network`
    pub network: Option<Word>,
    /// `--security`
    pub security: Option<Word>,
    /// `--device`
    pub devices: Vec<Word>,
    /// Bodies, in order of their words.
    pub heredocs: Vec<Heredoc>,
}

/// One `--mount=`, split at its commas (CSV quoting undone) but not interpreted: values may hold variables.
#[derive(Debug, Clone, PartialEq)]
pub struct Mount {
    /// The flag.
    pub span: Span,
    /// Keys in lower case, values where there is a `=`.
    pub options: Vec<(String, Option<String>)>,
}

/// `COPY` and `ADD`, which share a form.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// `--from` (COPY)
    pub from: Option<Word>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--parents` (COPY)
    pub parents: bool,
    /// `--exclude`, repeatable
    pub exclude: Vec<Word>,
    /// `--keep-git-dir` (ADD)
    pub keep_git_dir: Option<bool>,
    /// `--checksum` (ADD)
    pub checksum: Option<Word>,
    /// `--unpack` (ADD)
    pub unpack: Option<bool>,
    /// All but the last argument, without heredocs.
    pub sources: Vec<Word>,
    /// Sources given inline.
    pub heredocs: Vec<Heredoc>,
    /// The last argument.
    pub dest: Word,
}

/// `HEALTHCHECK NONE` or `HEALTHCHECK [options] CMD …`
#[derive(Debug, Clone, PartialEq)]
pub enum Healthcheck {
    /// Switch off what the base has.
    None,
    /// A check. Durations in nanoseconds, zero where not given.
    Check {
        /// What is run.
        command: Command,
        /// `--interval`
        interval: i64,
        /// `--timeout`
        timeout: i64,
        /// `--start-period`
        start_period: i64,
        /// `--start-interval`
        start_interval: i64,
        /// `--retries`
        retries: i64,
    },
}

/// `ONBUILD instruction`
#[derive(Debug, Clone, PartialEq)]
pub struct OnBuild {
    /// The instruction as text, heredoc bodies included: what the image's config stores.
    pub text: String,
    /// The same, parsed.
    pub instruction: Box<Instruction>,
}
