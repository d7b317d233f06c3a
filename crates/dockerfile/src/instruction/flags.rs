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
    lists: Vec<(String, Word)>,
}

impl Flags {
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.switches.iter().find(|(given, _)| given == name).map(|(_, value)| *value)
    }

    pub(super) fn text(&self, name: &str) -> Option<Word> {
        self.texts.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone())
    }

    pub(super) fn list(&self, name: &str) -> Vec<Word> {
        self.lists.iter().filter(|(given, _)| given == name).map(|(_, value)| value.clone()).collect()
    }

    /// Whether a flag that stands once only has been given.
    fn has(&self, name: &str) -> bool {
        self.switches.iter().any(|(given, _)| given == name) || self.texts.iter().any(|(given, _)| given == name)
    }
}

/// Reads the flags of a statement.
pub(super) fn read(statement: &Statement, known: &[(&str, Takes)], scene: &mut Scene<'_>) -> Flags {
    let mut flags = Flags::default();
    for flag in &statement.flags {
        if let Err((rule, message)) = flags.add(flag, known) {
            scene.refuse(rule, flag.word.span, message, hint(rule, &statement.name(), flag, known));
        }
    }
    flags
}

/// What to do about a flag.
fn hint(rule: &str, instruction: &str, flag: &Flag, known: &[(&str, Takes)]) -> String {
    match (rule, known) {
        ("UnknownFlag", []) => {
            format!("{instruction} has no flags; a -- in front of what follows says that it is none")
        }
        ("UnknownFlag", known) => {
            let names: Vec<String> = known.iter().map(|(name, _)| format!("--{name}")).collect();
            format!("{instruction} has the flags {}", names.join(", "))
        }
        ("DuplicateFlag", _) => "give it once".to_owned(),
        _ if known.iter().any(|(name, takes)| flag.name()[2..] == **name && *takes == Takes::Switch) => {
            format!("write {0}, {0}=true or {0}=false", flag.name())
        }
        _ => format!("write {}=VALUE", flag.name()),
    }
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
            let list = if takes == Takes::List { &mut self.lists } else { &mut self.texts };
            list.push((name.to_owned(), value));
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
