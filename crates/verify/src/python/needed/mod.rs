//! Which installed distributions nothing needs that the image's command starts.
//!
//! ```text
//! command, environment, health check ─► start ──► words ─┐
//! the user's sources, .pth files ─► gather ─► imports, ──┼─► reached ─► what it requires, imports, loads ─► reached …
//!                                             strings  ──┘
//! ```
//! A hint that people act on, so everything counts as needed that could be: imports under any condition, also in functions of the
//! user's code; whatever a string of it, a word of the command or a variable may name; requirements with every extra that is
//! not for development; plugins of whatever is reached. Imports in functions of packages are not known, which their
//! requirements must make up for. Where something may load anything, nothing is said: see [`start`] and [`gather`]. So it is where
//! the command does not start Python. pip's sources are not read; what they import lies in pip itself.

mod gather;
mod start;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};

use self::gather::{Distribution, Gathered, absolute};
use self::start::Start;
use self::tables::Loaded;
use super::facts::Module;
use super::requirement::{Environment, Requirement, normalize};
use crate::facts::Path;
use crate::subject::Subject;

/// A distribution with a list of its files.
#[derive(Debug, Clone, Copy)]
pub struct Installed<'a> {
    /// The path of its metadata.
    pub info: &'a [u8],
    /// Paths of its files.
    pub files: &'a [Path],
}

/// The files of an image, and whose they are.
#[derive(Debug)]
pub struct Files<'a> {
    /// Those that a container sees, with the layers that show them.
    pub seen: &'a [(usize, &'a [u8])],
    /// What is asked about.
    pub distributions: &'a [Installed<'a>],
    /// Files of the system's packages.
    pub system: HashSet<&'a [u8]>,
}

/// Whether nothing needs them, for each distribution; `None` where that cannot be told.
pub fn unneeded(subject: &Subject<'_>, files: &Files<'_>) -> Option<Vec<bool>> {
    if subject.facts.len() != subject.stack.layers().len() {
        return None;
    }
    let all = gather::gather(subject, files)?;
    let owned: HashSet<&[u8]> = files
        .distributions
        .iter()
        .flat_map(|it| it.files)
        .map(Vec::as_slice)
        .chain(files.system.iter().copied())
        .collect();
    let scripts: HashSet<&str> = all.distributions.iter().flat_map(|it| it.scripts.iter().copied()).collect();
    let start = start::start(subject, &|path| owned.contains(path), &|name| scripts.contains(name))?;
    let mut search = Search::new(&all, &start);
    search.begin(&start)?;
    search.follow()?;
    Some(search.reached.into_iter().take(files.distributions.len()).map(|reached| !reached).collect())
}

/// Follows what leads from one distribution to others.
struct Search<'a> {
    all: &'a Gathered<'a>,
    environment: &'a Environment,
    by_key: HashMap<&'a str, Vec<usize>>,
    by_top: HashMap<&'a str, Vec<usize>>,
    by_script: HashMap<&'a str, Vec<usize>>,
    reached: Vec<bool>,
    /// Those whose own needs are not looked at yet.
    waiting: Vec<usize>,
    /// Extras that somebody asks of distributions, by their names.
    extras: HashMap<String, BTreeSet<String>>,
    /// Sources that only a tool loads which is not reached so far.
    plugins: Vec<(&'static str, &'a Module)>,
}

impl<'a> Search<'a> {
    fn new(all: &'a Gathered<'a>, start: &'a Start) -> Self {
        let mut search = Self {
            all,
            environment: &start.environment,
            by_key: HashMap::new(),
            by_top: HashMap::new(),
            by_script: HashMap::new(),
            reached: vec![false; all.distributions.len()],
            waiting: Vec::new(),
            extras: HashMap::new(),
            plugins: Vec::new(),
        };
        for (number, it) in all.distributions.iter().enumerate() {
            search.by_key.entry(&it.key).or_default().push(number);
            it.tops.iter().for_each(|top| search.by_top.entry(top).or_default().push(number));
            it.scripts.iter().for_each(|script| search.by_script.entry(script).or_default().push(number));
        }
        search
    }

    /// What is needed whatever else is.
    fn begin(&mut self, start: &Start) -> Option<()> {
        let roots = &self.all.roots;
        roots.distributions.iter().for_each(|&number| self.reach(number));
        roots.imports.iter().for_each(|name| self.module(name));
        roots.needed.iter().for_each(|name| self.library(name));
        roots.mentions.iter().for_each(|name| self.name(name));
        start.names.iter().for_each(|name| self.name(name));
        for code in &start.code {
            if code.unread || code.broken.is_some() || code.mentions.unshown {
                return None;
            }
            absolute(code).for_each(|name| self.module(name));
            code.mentions.names.iter().for_each(|name| self.name(name));
        }
        Some(())
    }

    /// All that follows from it; `None` if something is reached of which that is not known.
    fn follow(&mut self) -> Option<()> {
        loop {
            while let Some(number) = self.waiting.pop() {
                self.distribution(number)?;
            }
            let loaders = self.loaders();
            for module in self.plugins.extract_if(.., |(tool, _)| loaders.contains(*tool)).collect::<Vec<_>>() {
                absolute(module.1).for_each(|name| self.module(name));
            }
            let all = self.all;
            for (number, it) in all.distributions.iter().enumerate().filter(|(_, it)| !it.groups.is_empty()) {
                let roots = &all.roots;
                let is_there = |name: &str| loaders.contains(name) || roots.own.contains(name);
                let loaded = |group: &&str| roots.mentions.contains(*group) || tables::loads(group, is_there);
                if !self.reached[number] && it.groups.iter().any(loaded) {
                    self.reach(number);
                }
            }
            if self.waiting.is_empty() {
                return Some(());
            }
        }
    }

    /// What could load plugins: modules and distributions, as [`tables::plain`] has their names.
    fn loaders(&self) -> HashSet<String> {
        let reached = self.all.distributions.iter().zip(&self.reached).filter(|(_, reached)| **reached);
        let names = |it: &'a Distribution<'a>| it.tops.iter().chain([&it.key]).map(|name| tables::plain(name));
        reached.flat_map(|(it, _)| names(it)).collect()
    }

    fn distribution(&mut self, number: usize) -> Option<()> {
        let it = self.all.distributions.get(number)?;
        if it.unknown {
            return None;
        }
        for line in &it.requires {
            let requirement = Requirement::parse(line)?;
            let asked = self.extras.get(&it.key);
            let key = normalize(requirement.name);
            let applies = |extra: &str| {
                let asked = asked.is_some_and(|asked| asked.contains(&normalize(extra)));
                asked || !tables::is_development(extra) && !tables::is_development_tool(&key)
            };
            if !requirement.may_apply(self.environment, applies) {
                continue;
            }
            if !requirement.extras.is_empty() {
                let extras = self.extras.entry(key.clone()).or_default();
                let before = extras.len();
                extras.extend(requirement.extras.iter().map(|extra| normalize(extra)));
                if extras.len() > before {
                    // It may need more now.
                    let again = self.by_key.get(key.as_str()).into_iter().flatten();
                    self.waiting.extend(again.filter(|number| self.reached[**number]));
                }
            }
            self.key(&key);
        }
        tables::optional(&it.key).for_each(|key| self.key(key));
        for (loaded, module) in &it.modules {
            match loaded {
                Loaded::Always => absolute(module).for_each(|name| self.module(name)),
                Loaded::By(tool) => self.plugins.push((tool, module)),
                Loaded::Never => {}
            }
        }
        it.needed.iter().for_each(|name| self.library(name));
        Some(())
    }

    fn reach(&mut self, number: usize) {
        if let Some(reached) = self.reached.get_mut(number)
            && !std::mem::replace(reached, true)
        {
            self.waiting.push(number);
        }
    }

    fn all_of(&mut self, numbers: Option<Vec<usize>>) {
        numbers.into_iter().flatten().for_each(|number| self.reach(number));
    }

    /// A distribution by its name.
    fn key(&mut self, key: &str) {
        self.all_of(self.by_key.get(key).cloned());
    }

    /// A module by its dotted name.
    fn module(&mut self, dotted: &str) {
        let top = dotted.split('.').next().unwrap_or(dotted);
        self.all_of(self.by_top.get(top).cloned());
        tables::completed(top).for_each(|key| self.key(key));
    }

    /// A word that may be anything. Frameworks call what works with a package by its name: `cache.backends.redis.RedisCache`.
    fn name(&mut self, word: &str) {
        word.split('.').for_each(|part| self.module(part));
        self.all_of(self.by_script.get(word).cloned());
    }

    /// A shared library by its file's name.
    fn library(&mut self, name: &[u8]) {
        self.all_of(self.all.libraries.get(name).cloned());
    }
}
