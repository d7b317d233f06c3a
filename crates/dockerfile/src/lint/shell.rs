//! RUN's text as simple commands: words between `&&`, `||`, `;`, `|` and line ends, with quotes taken off.
//!
//! Text in, [`Simple`] commands out. No shell: nothing is expanded, and what's nested in `$( )` is part of its word.
//! It's as much as rules about programs and their options need, and never fails.

use crate::ast::{Command, Run};

/// One command with its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Simple {
    /// The program and its arguments; assignments in front are left out.
    pub(super) words: Vec<String>,
    /// Assignments in front, `NAME=value`.
    pub(super) assignments: Vec<String>,
    /// Files that it writes by `>` and `>>`.
    pub(super) writes: Vec<String>,
    /// Its output goes to the next command.
    pub(super) piped: bool,
}

impl Simple {
    /// The program's name without its directory.
    pub(super) fn program(&self) -> &str {
        self.words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word))
    }

    /// What follows the program.
    pub(super) fn args(&self) -> impl Iterator<Item = &str> {
        self.words.iter().skip(1).map(String::as_str)
    }

    /// The values that it gives a variable, in front of a program or by `export`.
    pub(super) fn assigned<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        let exported = self.args().filter(|_| self.program() == "export");
        let all = self.assignments.iter().map(String::as_str).chain(exported);
        all.filter_map(move |pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// Is one of the arguments one of these?
    pub(super) fn has(&self, options: &[&str]) -> bool {
        self.args().any(|arg| options.contains(&arg))
    }

    /// The first argument that is no option.
    pub(super) fn subcommand(&self) -> &str {
        self.args().find(|arg| !arg.starts_with('-')).unwrap_or_default()
    }
}

/// The commands of a RUN, bodies of heredocs included where a shell reads them.
pub(super) fn of_run(run: &Run) -> Vec<Simple> {
    let mut commands = match &run.command {
        Command::Exec(words) => {
            let shell = matches!(words.first().map(String::as_str), Some("sh" | "bash" | "/bin/sh" | "/bin/bash"));
            match words.iter().position(|word| word == "-c").and_then(|at| words.get(at + 1)) {
                Some(script) if shell => split(script),
                _ => vec![Simple { words: words.clone(), ..Simple::default() }],
            }
        }
        Command::Shell(word) => split(&word.value),
    };
    let alone = commands.is_empty() || commands.iter().all(|command| command.words.is_empty());
    for heredoc in &run.heredocs {
        if alone && !heredoc.content.starts_with("#!") || commands.iter().any(reads_script) {
            commands.extend(split(&heredoc.content));
        }
    }
    commands
        .retain(|command| !command.words.is_empty() || !command.writes.is_empty() || !command.assignments.is_empty());
    commands
}

fn reads_script(command: &Simple) -> bool {
    matches!(command.program(), "sh" | "bash" | "dash" | "ash") && command.words.len() == 1
}

/// Cuts a script at its operators.
pub(super) fn split(script: &str) -> Vec<Simple> {
    let mut cutter = Cutter::default();
    let mut chars = script.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                None | Some('\n') => {}
                Some(next) => cutter.push(next),
            },
            '\'' => {
                cutter.quoted = true;
                while let Some(next) = chars.next().filter(|&next| next != '\'') {
                    cutter.word.push(next);
                }
            }
            '"' => {
                cutter.quoted = true;
                while let Some(next) = chars.next().filter(|&next| next != '"') {
                    let escaped = next == '\\' && matches!(chars.peek(), Some('"' | '\\' | '$'));
                    cutter.word.push(if escaped { chars.next().unwrap_or(next) } else { next });
                }
            }
            '#' if cutter.word.is_empty() && !cutter.quoted => {
                while chars.peek().is_some_and(|&next| next != '\n') {
                    chars.next();
                }
            }
            '$' if chars.peek() == Some(&'(') => {
                cutter.push(c);
                take_nested(&mut chars, &mut cutter.word);
            }
            '|' if chars.peek() != Some(&'|') => {
                chars.next_if_eq(&'&');
                cutter.end_command(true);
            }
            // `2>&1` and `&>file` are no ends.
            '&' if cutter.word.ends_with('>') || chars.peek() == Some(&'>') => cutter.push(c),
            '|' | '&' | ';' | '\n' | '(' | ')' => {
                chars.next_if_eq(&c);
                cutter.end_command(false);
            }
            '<' | '>' => cutter.redirect(c, &mut chars),
            c if c.is_whitespace() => cutter.end_word(),
            c => cutter.push(c),
        }
    }
    cutter.end_command(false);
    cutter.commands
}

type Chars<'s> = std::iter::Peekable<std::str::Chars<'s>>;

fn take_nested(chars: &mut Chars<'_>, word: &mut String) {
    let mut depth = 0_usize;
    for c in chars.by_ref() {
        word.push(c);
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
}

#[derive(Default)]
struct Cutter {
    commands: Vec<Simple>,
    now: Simple,
    word: String,
    quoted: bool,
    /// The next word is a file: `Some(true)` is written.
    file: Option<bool>,
}

impl Cutter {
    fn push(&mut self, c: char) {
        self.word.push(c);
    }

    fn redirect(&mut self, c: char, chars: &mut Chars<'_>) {
        // A number or `&` in front belongs to the operator.
        if self.word.chars().all(|c| c.is_ascii_digit() || c == '&') {
            self.word.clear();
        }
        self.end_word();
        let mut operator = String::from(c);
        while let Some(next) = chars.next_if(|&next| matches!(next, '<' | '>' | '-' | '|' | '&')) {
            operator.push(next);
        }
        self.file = Some(c == '>' && !operator.ends_with('&'));
    }

    fn end_word(&mut self) {
        let word = std::mem::take(&mut self.word);
        let quoted = std::mem::take(&mut self.quoted);
        if word.is_empty() && !quoted {
            return;
        }
        match self.file.take() {
            Some(true) => self.now.writes.push(word),
            Some(false) => {}
            None => {
                let assignment = self.now.words.is_empty()
                    && word.split_once('=').is_some_and(|(name, _)| {
                        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                    });
                let keyword = self.now.words.is_empty()
                    && matches!(
                        word.as_str(),
                        "if" | "then" | "else" | "elif" | "do" | "while" | "until" | "!" | "{" | "exec"
                    );
                if assignment {
                    self.now.assignments.push(word);
                } else if !keyword {
                    self.now.words.push(word);
                }
            }
        }
    }

    fn end_command(&mut self, piped: bool) {
        self.end_word();
        self.file = None;
        let mut command = std::mem::take(&mut self.now);
        command.piped = piped;
        if !command.words.is_empty() || !command.writes.is_empty() || !command.assignments.is_empty() {
            self.commands.push(command);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        for (script, expected) in [
            ("a b&&c; d || e", vec!["a b", "c", "d", "e"]),
            ("a 'b c' \"d;e\" f\\ g", vec!["a,b c,d;e,f g"]),
            ("X=1 Y='2 3' make all", vec!["make all"]),
            ("if a; then b; fi", vec!["a", "b", "fi"]),
            ("a $(b | c) d", vec!["a,$(b | c),d"]),
            ("a # b && c\nd", vec!["a", "d"]),
            ("a 2>&1 | b > f >>g < h", vec!["a |", "b >f >g"]),
            ("echo x &> log", vec!["echo x >log"]),
            ("(cd a && b)", vec!["cd a", "b"]),
            ("cat <<EOF >f.yaml", vec!["cat >f.yaml"]),
            ("'", vec!["''"]),
            ("$(", vec!["$("]),
            ("", vec![]),
        ] {
            let shown: Vec<String> = split(script)
                .iter()
                .map(|command| {
                    let plain = command.words.iter().all(|word| !word.contains(' '));
                    let mut text = command.words.join(if plain { " " } else { "," });
                    if command.words == [""] {
                        text = "''".to_owned();
                    }
                    command.writes.iter().for_each(|file| text = format!("{text} >{file}"));
                    if command.piped { format!("{text} |") } else { text }
                })
                .collect();
            assert_eq!(shown, expected, "{script:?}");
        }
    }
}
