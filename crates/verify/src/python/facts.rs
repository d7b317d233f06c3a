//! What is remembered of a Python source file: what it imports and what it binds. Enough to follow imports without
//! opening the file again, and small enough to keep for every file of an image's packages.
//!
//! Everything here is what the text says. Whether a name exists at run time is judged elsewhere, and never where
//! [`Module::dynamic`] says that names may come from code that the text does not show.

use serde::{Deserialize, Serialize};

pub use super::mentions::Mentions;

/// One Python source file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its imports, in the order in which they run.
    pub imports: Vec<Import>,
    /// The names that its module level binds, and the line that does so first, sorted by name. Imports bind names too.
    pub bound: Vec<(Box<str>, u32)>,
    /// The literal `__all__`, if there is one and it is nothing but strings.
    pub all: Option<Vec<Box<str>>>,
    /// Names may be bound that the text does not show: a module-level `__getattr__`, `globals()`, `exec`, `sys.modules`.
    pub dynamic: bool,
    /// The line that first changes `sys.path` or the finders, and whether that is at module level.
    pub search_path: Option<(u32, bool)>,
    /// Syntax that only newer versions of Python have.
    pub newer: Option<Newer>,
    /// Why it could not be parsed: it then has no other facts.
    pub broken: Option<Broken>,
    /// It was not read (too large, too deep, an unknown encoding): nothing is known about it.
    pub unread: bool,
    /// Names bound to what looks like an application: the name and what was called.
    pub made: Vec<(Box<str>, Box<str>)>,
    /// Modules that Django will import: `DJANGO_SETTINGS_MODULE`'s default and the entries of `INSTALLED_APPS`.
    pub named: Vec<Named>,
    /// What else a source of the user's may load; of packages and of Python's own library it is not looked for.
    pub mentions: Mentions,
}

/// One import statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Leading dots: 0 for an absolute import.
    pub level: u8,
    /// The dotted name after them; empty for `from . import x`.
    pub module: Box<str>,
    /// For `from … import`: the names, `*` for all. `None` for `import module`.
    pub names: Option<Vec<Box<str>>>,
    /// Counted from 1.
    pub line: u32,
    /// Under which conditions it runs.
    pub place: Place,
}

/// Under which conditions a statement runs when its module is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Always.
    Module,
    /// In the `try` (numbered in the module) of a handler that catches a failed import.
    Try(u16),
    /// In that handler, and always when it runs.
    Handler(u16),
    /// Where a failed import is expected, or the condition is about the Python or the system.
    Optional,
    /// Under some other condition, or in a loop.
    Conditional,
    /// Only in `if __name__ == "__main__"`.
    Main,
    /// When a function is called.
    Function,
    /// Never: for type checkers only.
    Typing,
}

/// Syntax that older versions of Python do not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newer {
    /// The first minor version of Python 3 that has it.
    pub minor: u8,
    /// Counted from 1.
    pub line: u32,
    /// What it is.
    pub what: Box<str>,
}

/// A syntax error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Counted from 1.
    pub line: u32,
    /// What the parser says.
    pub message: Box<str>,
}

/// A module that a string names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// What the string is for.
    pub role: Role,
    /// The string.
    pub module: Box<str>,
    /// Counted from 1.
    pub line: u32,
}

/// What a string that names a module is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The default of `DJANGO_SETTINGS_MODULE`.
    Settings,
    /// An entry of `INSTALLED_APPS`.
    App,
}

impl Module {
    /// One of which nothing is known.
    pub fn unread() -> Self {
        Self { unread: true, ..Self::default() }
    }

    /// The line that binds a name at module level.
    pub fn line_of(&self, name: &str) -> Option<u32> {
        let at = self.bound.binary_search_by(|(bound, _)| (**bound).cmp(name)).ok()?;
        self.bound.get(at).map(|(_, line)| *line)
    }

    /// Whether the text shows every name that it binds.
    pub fn is_static(&self) -> bool {
        !self.dynamic && !self.unread && self.broken.is_none()
    }

    /// Whether a `from … import *` at module level adds names that are bound elsewhere.
    pub fn stars(&self) -> impl Iterator<Item = &Import> {
        self.imports.iter().filter(|import| {
            import.names.as_ref().is_some_and(|names| names.iter().any(|name| &**name == "*"))
                && !matches!(import.place, Place::Function | Place::Typing)
        })
    }
}
