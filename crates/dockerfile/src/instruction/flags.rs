//! The flags of an instruction against those that it knows.
//!
//! Flags and a table in, values by name out; unknown, repeated, missing and odd values are reported, all of them.

use super::Scene;
use crate::ast::Word;
use crate::split::Flag;
use crate::statement::Statement;
use crate::suggest;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, `=true` or `=false`.
    Switch,
    /// A value.
    Text,
    /// A value, and it may be repeated.
    List,
}

/// The values that were given.
#[derive(Debug, Default)]
pub(super) struct Flags {
    switches: Vec<(String, bool)>,
    texts: Vec<(String, Word)>,
}

impl Flags {
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.switches.iter().find(|(given, _)| given == name).map(|(_, value)| *value)
    }

    pub(super) fn text(&self, name: &str) -> Option<Word> {
        self.texts.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone())
    }

    pub(super) fn list(&self, name: &str) -> Vec<Word> {
        self.texts.iter().filter(|(given, _)| given == name).map(|(_, value)| value.clone()).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.switches.iter().any(|(given, _)| given == name) || self.texts.iter().any(|(given, _)| given == name)
    }
}

/// Reads the flags of a statement.
pub(super) fn read(statement: &Statement, known: &[(&str, Takes)], scene: &mut Scene<'_>) -> Flags {
    let mut flags = Flags::default();
    for flag in &statement.flags {
        if let Err((rule, message)) = flags.add(flag, known) {
            scene.error(rule, flag.word.span, message);
        }
    }
    flags
}

impl Flags {
    fn add(&mut self, flag: &Flag, known: &[(&str, Takes)]) -> Result<(), (&'static str, String)> {
        let dashed = flag.name();
        let name = dashed.trim_start_matches("--");
        let Some(&(_, takes)) = known.iter().find(|(known, _)| dashed[2..] == **known) else {
            let suggestion = suggest::nearest(name, known.iter().map(|(known, _)| *known));
            let suggestion = suggestion.map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
            return Err(("UnknownFlag", format!("unknown flag: {dashed}{suggestion}")));
        };
        if takes != Takes::List && self.has(name) {
            return Err(("DuplicateFlag", format!("duplicate flag specified: {dashed}")));
        }
        let missing = || ("FlagValue", format!("missing a value on flag: {dashed}"));
        if takes != Takes::Switch {
            let value = flag.value.clone().ok_or_else(missing)?;
            self.texts.push((name.to_owned(), value));
            return Ok(());
        }
        let text = flag.value.as_ref().map(|value| value.value.as_str());
        let value = match text.map(str::to_lowercase).as_deref() {
            None | Some("true") => true,
            Some("false") => false,
            Some("") => return Err(missing()),
            Some(_) => {
                let text = text.unwrap_or_default();
                return Err(("FlagValue", format!("expecting boolean value for flag {dashed}, not: {text}")));
            }
        };
        self.switches.push((name.to_owned(), value));
        Ok(())
    }
}
