//! A file as its stages: what each stands on, what's in it, and what it inherits from stages below.
//!
//! A tree in, [`Stage`]s out; made once for the rules that look further than one instruction.

use std::collections::BTreeMap;

use super::file::unquoted;
use super::shell::{self, Simple};
use crate::ast::{Command, Copy, Dockerfile, From, Instruction, Kind};

/// So many stages below a stage are looked at.
const MAX_CHAIN: usize = 64;

/// A stage.
#[derive(Debug)]
pub(super) struct Stage<'f> {
    /// From 0.
    pub(super) number: usize,
    /// The FROM instruction.
    pub(super) start: &'f Instruction,
    pub(super) from: &'f From,
    /// In lower case.
    pub(super) name: Option<String>,
    /// The stage that it stands on.
    pub(super) below: Option<usize>,
    /// The image at the bottom; `None` where a variable names it.
    pub(super) image: Option<String>,
    /// What follows FROM.
    pub(super) body: &'f [Instruction],
    /// The commands of each RUN, by its place in the body.
    runs: BTreeMap<usize, Vec<Simple>>,
}

impl<'f> Stage<'f> {
    /// RUN instructions with their commands.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&'f Instruction, &[Simple])> {
        self.runs.iter().filter_map(|(place, commands)| Some((self.body.get(*place)?, commands.as_slice())))
    }

    /// COPY instructions that name another stage or image.
    pub(super) fn copies_from(&self) -> impl Iterator<Item = (&'f Instruction, &'f Copy, &'f str)> {
        self.body.iter().filter_map(|instruction| match &instruction.kind {
            Kind::Copy(copy) => Some((instruction, copy, copy.from.as_ref()?.value.as_str())),
            _ => None,
        })
    }

    /// What the container starts with: the words of the last ENTRYPOINT and CMD, each with its instruction.
    pub(super) fn programs(&self) -> Vec<(&'f Instruction, Vec<String>)> {
        let mut last: BTreeMap<bool, (&Instruction, &Command)> = BTreeMap::new();
        for instruction in self.body {
            match &instruction.kind {
                Kind::Cmd(command) => last.insert(true, (instruction, command)),
                Kind::Entrypoint(command) => last.insert(false, (instruction, command)),
                _ => None,
            };
        }
        last.into_values().map(|(instruction, command)| (instruction, command_words(command))).collect()
    }
}

/// The words of a command; of a script those of its last simple command.
fn command_words(command: &Command) -> Vec<String> {
    let script = match command {
        Command::Exec(words) => match words.as_slice() {
            [shell, flag, script, ..] if flag == "-c" && shell.ends_with("sh") => script,
            _ => return words.clone(),
        },
        Command::Shell(word) => &word.value,
    };
    shell::split(script).pop().map(|command| command.words).unwrap_or_default()
}

/// All stages of a file.
#[derive(Debug)]
pub(super) struct View<'f> {
    pub(super) stages: Vec<Stage<'f>>,
    pub(super) escape: char,
}

impl<'f> View<'f> {
    /// Cuts a file at its FROM lines.
    pub(super) fn new(file: &'f Dockerfile) -> Self {
        let escape = file.directives.escape_char();
        let mut view = Self { stages: Vec::new(), escape };
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let starts: Vec<usize> = (0..file.instructions.len())
            .filter(|&place| matches!(file.instructions[place].kind, Kind::From(_)))
            .collect();
        for (number, &place) in starts.iter().enumerate() {
            let start = &file.instructions[place];
            let Kind::From(from) = &start.kind else { continue };
            let end = starts.get(number + 1).copied().unwrap_or(file.instructions.len());
            let image = unquoted(&from.image, escape);
            let below = names.get(&image.to_lowercase()).copied();
            let image = match below.and_then(|below| view.stages.get(below)) {
                Some(below) => below.image.clone(),
                None => (!image.contains('$')).then_some(image),
            };
            let name = from.alias.as_ref().map(|alias| alias.value.to_lowercase());
            let body = &file.instructions[place + 1..end];
            let runs = body.iter().enumerate().filter_map(|(place, instruction)| match &instruction.kind {
                Kind::Run(run) => Some((place, shell::of_run(run))),
                _ => None,
            });
            let runs = runs.collect();
            view.stages.push(Stage { number, start, from, name: name.clone(), below, image, body, runs });
            names.extend(name.map(|name| (name, number)));
        }
        view
    }

    /// The stage that `--from` means in the stage of this number, if it's one above.
    pub(super) fn source(&self, from: &str, of: usize) -> Option<&Stage<'f>> {
        let lower = from.to_lowercase();
        let above = self.stages.get(..of)?;
        let named = above.iter().rfind(|stage| stage.name.as_ref() == Some(&lower));
        named.or_else(|| above.get(from.parse::<usize>().ok()?))
    }

    /// The stage and those that it stands on, lowest last.
    pub(super) fn chain<'v>(&'v self, stage: &'v Stage<'f>) -> impl Iterator<Item = &'v Stage<'f>> {
        // Stages that stand on each other by the thousand are nobody's, and would be looked at again and again.
        std::iter::successors(Some(stage), |stage| self.stages.get(stage.below?)).take(MAX_CHAIN)
    }

    /// The values that ENV and ARG give to a name, in this stage and those below.
    pub(super) fn values<'v>(&'v self, stage: &'v Stage<'f>, name: &'v str) -> impl Iterator<Item = &'f str> + 'v {
        self.chain(stage).flat_map(|stage| stage.body).flat_map(move |instruction| {
            let pairs = match &instruction.kind {
                Kind::Env(pairs) => pairs.as_slice(),
                _ => &[],
            };
            pairs.iter().filter(move |pair| pair.key.value == name).map(|pair| pair.value.value.as_str())
        })
    }

    /// The last stage: the image that is made.
    pub(super) fn last(&self) -> Option<&Stage<'f>> {
        self.stages.last()
    }
}
