//! The instructions that only change the configuration: ENV, LABEL, CMD, EXPOSE and their like.
//!
//! Each folds into the stage's [`kuz_image::ImageConfig`] and comes to a history line; none makes a layer.

use std::collections::{BTreeMap, BTreeSet};

use kuz_dockerfile::ast::{ArgItem, Command, Healthcheck, Kind, Pair, Word};
use kuz_dockerfile::{Diagnostic, Span, suggest};
use kuz_image::Healthcheck as ImageHealthcheck;
use serde_json::Value;

use crate::expand;
use crate::history;
use crate::plan::Op;
use crate::ports;
use crate::steps::{Effect, Lowering};

/// What runs a shell form where no SHELL says otherwise.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl Lowering<'_> {
    /// Folds one instruction; those that do more are not for this page.
    pub(crate) fn configure(&mut self, kind: &Kind) -> Effect {
        let line = match kind {
            Kind::Arg(items) => self.arg(items)?,
            Kind::Env(pairs) => self.env(pairs)?,
            Kind::Label(pairs) => self.label(pairs)?,
            Kind::Cmd(command) => self.cmd(command),
            Kind::Entrypoint(command) => self.entrypoint(command),
            Kind::Expose(words) => self.expose(words)?,
            Kind::Volume(words) => self.volume(words)?,
            Kind::User(word) => {
                let user = self.word(word)?;
                self.config_mut().user = Some(user.clone());
                format!("USER {user}")
            }
            Kind::Shell(shell) => {
                self.config_mut().shell = Some(shell.clone());
                history::list("SHELL", shell)
            }
            Kind::StopSignal(word) => {
                let signal = self.word(word)?;
                check_signal(&signal, word.span)?;
                self.config_mut().stop_signal = Some(signal.clone());
                format!("STOPSIGNAL {signal}")
            }
            Kind::Healthcheck(check) => self.healthcheck(check),
            Kind::Maintainer(name) => {
                self.image_mut().author = Some(name.value.clone());
                format!("MAINTAINER {}", name.value)
            }
            Kind::OnBuild(on_build) => {
                self.config_mut().on_build.get_or_insert_default().push(on_build.text.clone());
                return Ok(None);
            }
            Kind::From(_) | Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_) => return Ok(None),
        };
        Ok(Some((Op::Nothing, line)))
    }

    /// Each ARG sees those before it, on the same line too.
    fn arg(&mut self, items: &[ArgItem]) -> Result<String, Diagnostic> {
        let mut line = String::from("ARG");
        for item in items {
            let mut unmatched = BTreeSet::new();
            let (request, globals, escape) = (self.shared.request, self.shared.globals, self.shared.escape);
            let value = self.scope.declare(item, request, globals, |scope| {
                let Some(default) = &item.default else { return Ok(None) };
                let expanded = expand::word(default, &scope.env, escape)?;
                unmatched = expanded.unmatched;
                Ok(Some(expanded.text))
            })?;
            self.warn(&unmatched, item.default.as_ref().map_or(item.name.span, |default| default.span));
            line.push(' ');
            line.push_str(&item.name.value);
            if let Some(value) = value {
                line.push('=');
                line.push_str(&value);
            }
        }
        Ok(line)
    }

    /// Every pair sees the variables as they were before the instruction.
    fn pairs(&mut self, pairs: &[Pair]) -> Result<Vec<(String, String)>, Diagnostic> {
        pairs.iter().map(|pair| Ok((self.word(&pair.key)?, self.word(&pair.value)?))).collect()
    }

    fn env(&mut self, pairs: &[Pair]) -> Result<String, Diagnostic> {
        let expanded = self.pairs(pairs)?;
        if let Some((_, pair)) = expanded.iter().zip(pairs).find(|((key, _), _)| key.is_empty()) {
            return Err(Diagnostic::error("BlankName", pair.key.span, "ENV names can not be blank"));
        }
        for (key, value) in &expanded {
            self.scope.set(key, value);
            let known = self.scope.place(key);
            let env = self.config_mut().env.get_or_insert_default();
            let pair = format!("{key}={value}");
            if let Some(old) = known.and_then(|place| env.get_mut(place)) {
                *old = pair;
            } else {
                let place = env.len();
                env.push(pair);
                self.scope.keep(key, place);
            }
        }
        Ok(history::pairs("ENV", &expanded))
    }

    fn label(&mut self, pairs: &[Pair]) -> Result<String, Diagnostic> {
        let expanded = self.pairs(pairs)?;
        self.config_mut().labels.get_or_insert_default().extend(expanded.iter().cloned());
        Ok(history::pairs("LABEL", &expanded))
    }

    /// A command line as the image holds it: the shell form with the shell in front.
    pub(crate) fn argv(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(argv) => argv.clone(),
            Command::Shell(line) => self.with_shell(&line.value),
        }
    }

    pub(crate) fn with_shell(&self, line: &str) -> Vec<String> {
        let shell = self.config.config.shell.as_deref().filter(|shell| !shell.is_empty());
        let mut argv = shell.map_or_else(|| DEFAULT_SHELL.map(str::to_owned).to_vec(), <[String]>::to_vec);
        argv.push(line.to_owned());
        argv
    }

    fn cmd(&mut self, command: &Command) -> String {
        let argv = self.argv(command);
        let line = history::command("CMD", &argv);
        let config = self.config_mut();
        config.cmd = Some(argv);
        // Docker and BuildKit say so for every CMD; it means something on Windows only.
        config.args_escaped = Some(true);
        self.cmd_set = true;
        line
    }

    /// A CMD that came with the base was meant for the base's ENTRYPOINT.
    fn entrypoint(&mut self, command: &Command) -> String {
        let argv = self.argv(command);
        let line = history::command("ENTRYPOINT", &argv);
        self.config_mut().entrypoint = Some(argv).filter(|argv| !argv.is_empty());
        if !self.cmd_set {
            self.config_mut().cmd = None;
        }
        line
    }

    fn expose(&mut self, words: &[Word]) -> Result<String, Diagnostic> {
        // BuildKit sorts the words before their variables are replaced, which the history line shows.
        let mut words: Vec<&Word> = words.iter().collect();
        words.sort_by(|a, b| a.value.cmp(&b.value));
        let mut all = Vec::new();
        for word in words {
            let (specs, unmatched) = expand::words(word, &self.scope.env, self.shared.escape)?;
            if specs.is_empty() {
                let message = format!("`{}` names no port: it is empty", word.value);
                let warning = Diagnostic::warning("NothingExposed", word.span, message);
                self.report(match unmatched.first() {
                    Some(name) => warning.hint(format!("set {name}: ARG {name}=PORT above this line")),
                    None => warning.hint("write the container's port"),
                });
            }
            for spec in &specs {
                let ports = ports::ports(spec);
                all.extend(ports.map_err(|message| invalid_port(word, message))?);
            }
        }
        let exposed = self.config_mut().exposed_ports.get_or_insert_default();
        exposed.extend(all.iter().map(|port| (port.clone(), nothing())));
        Ok(history::list("EXPOSE", &all))
    }

    fn volume(&mut self, words: &[Word]) -> Result<String, Diagnostic> {
        let mut paths = Vec::with_capacity(words.len());
        for word in words {
            let path = self.word(word)?;
            if path.is_empty() {
                let message = "VOLUME specified can not be an empty string";
                return Err(Diagnostic::error("EmptyVolume", word.span, message));
            }
            paths.push(path);
        }
        let volumes: &mut BTreeMap<String, Value> = self.config_mut().volumes.get_or_insert_default();
        volumes.extend(paths.iter().map(|path| (path.clone(), nothing())));
        Ok(history::list("VOLUME", &paths))
    }

    fn healthcheck(&mut self, check: &Healthcheck) -> String {
        let check = match check {
            Healthcheck::None => {
                ImageHealthcheck { test: Some(vec!["NONE".to_owned()]), ..ImageHealthcheck::default() }
            }
            Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } => {
                ImageHealthcheck {
                    test: Some(match command {
                        Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.value.clone()],
                        Command::Exec(argv) => [&["CMD".to_owned()], argv.as_slice()].concat(),
                    }),
                    interval: *interval,
                    timeout: *timeout,
                    start_period: *start_period,
                    start_interval: *start_interval,
                    retries: *retries,
                    ..ImageHealthcheck::default()
                }
            }
        };
        let line = history::healthcheck(&check);
        self.config_mut().healthcheck = Some(check);
        line
    }
}

fn invalid_port(word: &Word, message: String) -> Diagnostic {
    let hint = if word.value.starts_with('#') {
        "a comment has a line of its own"
    } else {
        "want a number up to 65535, or two with a hyphen between; /udp or /sctp may follow"
    };
    Diagnostic::error("InvalidPort", word.span, message).hint(hint)
}

/// What Docker writes for a member of a set.
fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

/// The signals that STOPSIGNAL can name, without `SIG`, and Linux' numbers on x86-64 and arm64. Real-time signals are those
/// that programs may use.
pub const SIGNALS: [(&str, i32); 37] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("RTMIN", 34),
    ("RTMAX", 64),
    ("UNUSED", 31),
];

/// A number from 1, or a name with or without `SIG`.
fn check_signal(signal: &str, span: Span) -> Result<(), Diagnostic> {
    /// What can be added to RTMIN or taken from RTMAX: 34 to 64 on Linux.
    const REAL_TIME: u8 = 30;
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix| name.strip_prefix(prefix).and_then(|offset| offset.parse::<u8>().ok());
    let known = signal.parse::<u8>().is_ok_and(|number| number > 0)
        || SIGNALS.iter().any(|(known, _)| *known == name)
        || real_time("RTMIN+").or_else(|| real_time("RTMAX-")).is_some_and(|offset| offset <= REAL_TIME);
    if known {
        return Ok(());
    }
    let near = suggest::nearest(name, SIGNALS.map(|(name, _)| name));
    Err(Diagnostic::error("InvalidSignal", span, format!("invalid signal: {signal}")).hint(match near {
        Some(near) => format!("did you mean SIG{near}?"),
        None => "want a name such as SIGTERM, or a number".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_checked() {
        for good in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-30", "SIGUSR1"] {
            assert!(check_signal(good, Span::default()).is_ok(), "{good}");
        }
        for bad in ["", "0", "-1", "SIGFOO", "RTMIN+31", "SIG", "999"] {
            assert!(check_signal(bad, Span::default()).is_err(), "{bad}");
        }
    }
}
