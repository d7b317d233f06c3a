//! RUN: the command line with its shell, the environment, heredocs and mounts.
//!
//! What the command needs is all in [`crate::plan::Run`]; nothing of SHELL, ARG or WORKDIR is left to look up.

use kuz_dockerfile::ast::{Command, Heredoc, Run, Word};
use kuz_dockerfile::{Diagnostic, Span};

use crate::history;
use crate::plan::{self, Inline, Network, Op};
use crate::scope;
use crate::steps::{Effect, Lowering};

/// Where scripts from heredocs are, as the command sees it.
const SCRIPTS: &str = "/dev/pipes/";

impl Lowering<'_> {
    pub(crate) fn run(&mut self, run: &Run) -> Effect {
        let (argv, scripts) = self.command(run);
        let mounts = self.mounts(&run.mounts)?;
        let network = self.network(run.network.as_ref())?;
        let insecure = insecure(run.security.as_ref())?;
        if let Some(device) = run.devices.first() {
            let error = Diagnostic::error("RunDevice", device.span, "RUN --device is not supported");
            return Err(error.hint("a step in a user namespace can be given no devices: leave the flag out"));
        }
        let line = history::run(&self.scope.args(), &argv);
        let planned = plan::Run {
            argv,
            env: self.scope.env.env(),
            proxies: scope::proxies(&self.shared.request.build_args, &self.scope.env),
            cwd: self.cwd(),
            user: self.user(),
            network,
            scripts,
            mounts,
            insecure,
        };
        Ok(Some((Op::Run(Box::new(planned)), line)))
    }

    /// The command line. A heredoc alone is a script: with `#!` a file that is executed, else text for the shell. A
    /// command with heredocs goes to the shell as a whole, which reads them itself.
    fn command(&self, run: &Run) -> (Vec<String>, Vec<Inline>) {
        let Command::Shell(line) = &run.command else { return (self.argv(&run.command), Vec::new()) };
        match run.heredocs.as_slice() {
            [] => (self.with_shell(&line.value), Vec::new()),
            [script] if is_heredoc_alone(&line.value, &script.name) => {
                if !script.content.starts_with("#!") {
                    return (self.with_shell(&script.content), Vec::new());
                }
                let file = Inline { name: script.name.clone(), content: script.content.clone() };
                (self.with_shell(&format!("{SCRIPTS}{}", script.name)), vec![file])
            }
            heredocs => (self.with_shell(&rejoined(&line.value, heredocs)), Vec::new()),
        }
    }

    fn network(&mut self, word: Option<&Word>) -> Result<Network, Diagnostic> {
        match word.map(|word| (word.value.to_ascii_lowercase(), word.span)) {
            None => Ok(self.shared.request.network),
            Some((name, span)) => match name.as_str() {
                "default" => Ok(self.shared.request.network),
                "none" => Ok(Network::None),
                "host" => Ok(Network::Host),
                _ => Err(one_of("InvalidNetwork", span, "network mode", &name, "default, none or host")),
            },
        }
    }
}

fn insecure(word: Option<&Word>) -> Result<bool, Diagnostic> {
    let Some(word) = word else { return Ok(false) };
    match word.value.to_ascii_lowercase().as_str() {
        "sandbox" => Ok(false),
        "insecure" => Ok(true),
        name => Err(one_of("InvalidSecurity", word.span, "security mode", name, "sandbox or insecure")),
    }
}

fn one_of(rule: &'static str, span: Span, what: &str, got: &str, want: &str) -> Diagnostic {
    Diagnostic::error(rule, span, format!("invalid {what} \"{got}\"")).hint(format!("want {want}"))
}

/// Whether a command line is nothing but `<<NAME`.
fn is_heredoc_alone(line: &str, name: &str) -> bool {
    let without_fd = line.trim().trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(word) = without_fd.strip_prefix("<<") else { return false };
    let word = word.strip_prefix('-').unwrap_or(word).trim_start();
    let bare = |text: &str| text.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect::<String>();
    bare(word) == bare(name)
}

/// The lines as they stood: the command, each body, each closing word.
fn rejoined(line: &str, heredocs: &[Heredoc]) -> String {
    heredocs.iter().fold(line.to_owned(), |mut text, heredoc| {
        text.extend(["\n", heredoc.content.as_str(), heredoc.name.as_str()]);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heredoc_alone_is_told_from_a_command() {
        for (line, name, want) in [
            ("<<EOF", "EOF", true),
            ("<<-EOF", "EOF", true),
            (" <<\"EOF\" ", "EOF", true),
            ("3<<'E F'", "E F", true),
            ("<<EOF cat", "EOF", false),
            ("cat <<EOF", "EOF", false),
            ("<<A <<B", "A", false),
        ] {
            assert_eq!(is_heredoc_alone(line, name), want, "{line}");
        }
    }
}
