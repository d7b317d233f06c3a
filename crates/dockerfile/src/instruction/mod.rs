//! Statements to instructions: what each instruction's flags and arguments mean, and what is wrong with them.
//!
//! A [`Statement`] in; an [`ast`](crate::ast) value or diagnostics out. Nothing is expanded, and nothing that needs
//! another instruction is judged.

mod config;
mod copy;
pub(crate) mod device;
pub(crate) mod duration;
mod flags;
mod healthcheck;
mod run;
mod stage;
mod trigger;

use crate::ast::{Command, Instruction, Kind, Word};
use crate::diagnostic::Diagnostic;
use crate::span::Span;
use crate::statement::{Args, INSTRUCTIONS, Statement};
use crate::suggest;

/// Where findings go, and the text that spans point into.
pub(crate) struct Scene<'a> {
    pub(crate) source: &'a str,
    pub(crate) sink: &'a mut Vec<Diagnostic>,
}

impl Scene<'_> {
    pub(crate) fn error(&mut self, rule: &'static str, span: Span, message: impl Into<String>) {
        self.sink.push(Diagnostic::error(rule, span, message));
    }

    /// An error, and what to do.
    pub(crate) fn refuse(
        &mut self,
        rule: &'static str,
        span: Span,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.sink.push(Diagnostic::error(rule, span, message).hint(hint));
    }
}

/// Judges a statement. `None` where it can't be built; the reasons are in the scene then.
pub(crate) fn read(statement: &Statement, scene: &mut Scene<'_>) -> Option<Instruction> {
    let before = scene.sink.len();
    let kind = kind(statement, scene)?;
    let sound = scene.sink[before..].iter().all(|found| found.severity < crate::Severity::Error);
    sound.then(|| Instruction {
        span: statement.span,
        keyword: statement.keyword.clone(),
        text: statement.text.clone(),
        kind,
        comments: statement.comments.clone(),
    })
}

fn kind(statement: &Statement, scene: &mut Scene<'_>) -> Option<Kind> {
    match statement.name().as_str() {
        "ADD" => copy::add(statement, scene).map(Kind::Add),
        "ARG" => stage::arg(statement, scene).map(Kind::Arg),
        "CMD" => Some(Kind::Cmd(run::command(statement, scene))),
        "COPY" => copy::copy(statement, scene).map(Kind::Copy),
        "ENTRYPOINT" => Some(Kind::Entrypoint(run::command(statement, scene))),
        "ENV" => config::pairs(statement, scene).map(Kind::Env),
        "EXPOSE" => config::expose(statement, scene).map(Kind::Expose),
        "FROM" => stage::from(statement, scene).map(Kind::From),
        "HEALTHCHECK" => healthcheck::read(statement, scene).map(Kind::Healthcheck),
        "LABEL" => config::pairs(statement, scene).map(Kind::Label),
        "MAINTAINER" => config::single(statement, scene).map(Kind::Maintainer),
        "ONBUILD" => trigger::read(statement, scene).map(Kind::OnBuild),
        "RUN" => Some(Kind::Run(run::run(statement, scene))),
        "SHELL" => run::shell(statement, scene).map(Kind::Shell),
        "STOPSIGNAL" => config::stop_signal(statement, scene).map(Kind::StopSignal),
        "USER" => config::single(statement, scene).map(Kind::User),
        "VOLUME" => config::volume(statement, scene).map(Kind::Volume),
        "WORKDIR" => config::single(statement, scene).map(Kind::Workdir),
        _ => {
            unknown(&statement.keyword, scene);
            None
        }
    }
}

/// Every instruction with the flags that it takes.
pub fn instruction_flags() -> Vec<(&'static str, Vec<&'static str>)> {
    let flags = |name: &str| -> &'static [(&'static str, flags::Takes)] {
        match name {
            "ADD" => &copy::ADD_FLAGS,
            "COPY" => &copy::COPY_FLAGS,
            "FROM" => &stage::FROM_FLAGS,
            "HEALTHCHECK" => &healthcheck::FLAGS,
            "RUN" => &run::RUN_FLAGS,
            _ => &[],
        }
    };
    INSTRUCTIONS.iter().map(|name| (*name, flags(name).iter().map(|(flag, _)| *flag).collect())).collect()
}

/// The version of the syntax that had a flag first; what is not here is older than versions.
pub const SINCE: [(&str, &str, &str); 17] = [
    ("ADD", "chmod", "1.2"),
    ("ADD", "link", "1.4"),
    ("ADD", "keep-git-dir", "1.1"),
    ("ADD", "checksum", "1.6"),
    ("ADD", "unpack", "1.17"),
    ("ADD", "exclude", "1.19"),
    ("COPY", "from", "1.0"),
    ("COPY", "chmod", "1.2"),
    ("COPY", "link", "1.4"),
    ("COPY", "exclude", "1.19"),
    ("COPY", "parents", "1.20"),
    ("FROM", "platform", "1.0"),
    ("HEALTHCHECK", "start-interval", "1.6"),
    ("RUN", "mount", "1.2"),
    ("RUN", "network", "1.3"),
    ("RUN", "security", "1.20"),
    ("RUN", "device", "labs"),
];

fn unknown(keyword: &Word, scene: &mut Scene<'_>) {
    let mut message = format!("unknown instruction: {}", keyword.value);
    let is_word = keyword.value.bytes().all(|byte| byte.is_ascii_alphabetic());
    let near = if is_word { suggest::nearest_ignoring_case(&keyword.value, INSTRUCTIONS) } else { None };
    let odd = keyword.value.chars().find(|c| !c.is_ascii() && (c.is_whitespace() || is_invisible(*c)));
    let hint = match &near {
        Some(name) => format!("write {name}"),
        None if odd.is_some() => {
            let code = odd.map_or(0, u32::from);
            format!("there is a character in it that looks like a blank, or like nothing, and is U+{code:04X}: type it anew")
        }
        None => "an instruction begins each line, such as RUN or COPY; if this line goes on from the one above, end that one \
                 with a backslash"
            .to_owned(),
    };
    if let Some(name) = near {
        message = format!("{message} (did you mean {name}?)");
    }
    scene.refuse("UnknownInstruction", keyword.span, message, hint);
}

/// Characters that are not seen, and come along when text is pasted.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}')
}

/// How an instruction is written.
fn form(name: &str) -> &'static str {
    match name {
        "ADD" => "ADD SOURCE… DESTINATION",
        "ARG" => "ARG NAME[=DEFAULT]",
        "COPY" => "COPY SOURCE… DESTINATION, such as COPY requirements.txt .",
        "ENV" => "ENV NAME=VALUE",
        "EXPOSE" => "EXPOSE PORT",
        "FROM" => "FROM IMAGE, or FROM IMAGE AS NAME",
        "HEALTHCHECK" => "HEALTHCHECK [flags] CMD COMMAND, or HEALTHCHECK NONE",
        "LABEL" => "LABEL NAME=VALUE",
        "ONBUILD" => "ONBUILD INSTRUCTION",
        "SHELL" => "SHELL [\"PROGRAM\", \"ARGUMENT\"]",
        "STOPSIGNAL" => "STOPSIGNAL SIGNAL",
        "USER" => "USER NAME[:GROUP]",
        "VOLUME" => "VOLUME PATH",
        "WORKDIR" => "WORKDIR PATH",
        _ => "its arguments",
    }
}

/// So many arguments are too few or too many.
fn count(statement: &Statement, message: impl Into<String>, scene: &mut Scene<'_>) {
    let hint = format!("write {}", form(&statement.name()));
    scene.refuse("ArgumentCount", statement.span, message, hint);
}

fn at_least_one(statement: &Statement, scene: &mut Scene<'_>) {
    count(statement, format!("{} requires at least one argument", statement.name()), scene);
}

fn exactly_one(statement: &Statement, scene: &mut Scene<'_>) {
    count(statement, format!("{} requires exactly one argument", statement.name()), scene);
}

fn blank_name(statement: &Statement, span: Span, scene: &mut Scene<'_>) {
    let hint = format!("write {}, without blanks around the =", form(&statement.name()));
    scene.refuse("BlankName", span, format!("{} names can not be blank", statement.name()), hint);
}

/// Shell form or exec form; an empty shell form where nothing stands.
fn command_of(args: &Args, end: Span) -> Command {
    match args {
        Args::Json(words) => Command::Exec(words.iter().map(|word| word.value.clone()).collect()),
        Args::Text(word) => Command::Shell(word.clone()),
        _ => Command::Shell(Word::new(String::new(), Span::new(end.end, end.end))),
    }
}
