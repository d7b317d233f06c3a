//! What a source of the user's may load beside what it imports: the names in its strings, and whether it loads what its text
//! does not show.
//!
//! Frameworks take modules, plugins and programs by name: `"django.contrib.auth"`, `"uvicorn.workers.UvicornWorker"`,
//! `"postgresql+psycopg2://…"`, `["alembic", "upgrade"]`. Every string that could be such a name is one here; whether anything
//! is called so is for others to say. Prose gives its first word, which is no harm.

use std::collections::BTreeSet;

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{self as ast, Expr, FStringPart, InterpolatedStringElement as Element, Stmt};
use serde::{Deserialize, Serialize};

use super::read::last_name;

/// Names of one source; tables of words have more, and then anything may be among them.
const NAMES: usize = 4096;
/// Longer strings are texts.
const TEXT_BYTES: usize = 512;
/// Longer words are no names.
const NAME_BYTES: usize = 100;
/// What loads the module that its first argument names.
const LOADERS: [&str; 6] =
    ["import_module", "__import__", "import_string", "run_module", "resolve_name", "importorskip"];

/// What a source may load beside what it imports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mentions {
    /// Names in its strings, as written, sorted: of modules, of what is in them, of groups of plugins, of programs.
    pub names: Vec<Box<str>>,
    /// It loads something by a name that is made when it runs, or runs code that is.
    pub unshown: bool,
}

/// Looks through a module.
pub(super) fn of(body: &[Stmt]) -> Mentions {
    let mut found = Strings::default();
    found.visit_body(body);
    let unshown = found.unshown || found.names.len() > NAMES;
    Mentions { names: found.names.into_iter().take(NAMES).map(String::into_boxed_str).collect(), unshown }
}

#[derive(Default)]
struct Strings {
    names: BTreeSet<String>,
    unshown: bool,
}

impl<'a> Visitor<'a> for Strings {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            // A docstring.
            Stmt::Expr(expression) if matches!(*expression.value, Expr::StringLiteral(_)) => return,
            // Under another name its calls are not seen.
            Stmt::ImportFrom(import) => {
                let renamed = |alias: &ast::Alias| {
                    is_loader(&alias.name) && alias.asname.as_ref().is_some_and(|name| name.as_str() != &*alias.name)
                };
                self.unshown |= import.names.iter().any(renamed);
            }
            _ => {}
        }
        visitor::walk_stmt(self, statement);
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Call(call) if last_name(&call.func).is_some_and(is_loader) => {
                let first = call.arguments.args.first().or_else(|| Some(&call.arguments.keywords.first()?.value));
                match first.map_or(Target::Unknown, Target::of) {
                    Target::Named(name) => self.text(name),
                    Target::Own => {}
                    Target::Unknown => self.unshown = true,
                }
                if let Expr::Attribute(attribute) = &*call.func {
                    self.visit_expr(&attribute.value);
                }
                self.visit_arguments(&call.arguments);
                return;
            }
            Expr::Call(call) => {
                self.unshown |= matches!(&*call.func, Expr::Name(name) if name.id == "exec");
            }
            // Handed on, to be called somewhere else.
            Expr::Name(name) => self.unshown |= is_loader(&name.id),
            Expr::Attribute(attribute) => self.unshown |= is_loader(&attribute.attr),
            Expr::StringLiteral(literal) => self.text(literal.value.to_str()),
            Expr::FString(string) => {
                for piece in pieces(string) {
                    if let Piece::Text(text) = piece {
                        self.text(text);
                    }
                }
            }
            _ => {}
        }
        visitor::walk_expr(self, expression);
    }
}

impl Strings {
    fn text(&mut self, text: &str) {
        if text.len() > TEXT_BYTES || text.contains('\n') {
            return;
        }
        // `dialect+driver://…`: a database, a broker, a cache.
        if let Some((scheme, _)) = text.split_once("://") {
            return scheme.split('+').for_each(|word| self.word(word));
        }
        for command in text.split([';', '&', '|']) {
            let mut words = command.split_whitespace();
            words.next().into_iter().for_each(|word| self.word(word));
            while let Some(word) = words.next() {
                if word == "-m" {
                    words.next().into_iter().for_each(|word| self.word(word));
                }
            }
        }
    }

    fn word(&mut self, word: &str) {
        let word = word.rsplit('/').next().unwrap_or(word);
        let word = word.split([':', '[']).next().unwrap_or(word).trim_matches('.');
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.len() <= NAME_BYTES
            && word.chars().all(fits)
            && self.names.len() <= NAMES
        {
            self.names.insert(word.to_owned());
        }
    }
}

/// What a loader is given.
enum Target<'a> {
    /// A name, or what one begins with.
    Named(&'a str),
    /// Something in the package that asks.
    Own,
    Unknown,
}

impl<'a> Target<'a> {
    fn of(expression: &'a Expr) -> Self {
        match expression {
            Expr::StringLiteral(literal) => {
                let name = literal.value.to_str();
                if name.starts_with('.') { Self::Own } else { Self::Named(name) }
            }
            Expr::FString(string) => match pieces(string).find(|piece| !matches!(piece, Piece::Text(""))) {
                Some(Piece::Text(text)) => Self::start(text),
                Some(Piece::Value(value)) if is_own_name(value) => Self::Own,
                _ => Self::Unknown,
            },
            Expr::BinOp(sum) if matches!(sum.op, ast::Operator::Add | ast::Operator::Mod) => match &*sum.left {
                Expr::StringLiteral(literal) => Self::start(literal.value.to_str()),
                Expr::BinOp(_) => Self::Unknown,
                left => Self::of(left),
            },
            Expr::Call(call) => match &*call.func {
                Expr::Attribute(method) if method.attr.as_str() == "format" => match &*method.value {
                    Expr::StringLiteral(literal) => Self::start(literal.value.to_str()),
                    _ => Self::Unknown,
                },
                _ => Self::Unknown,
            },
            expression if is_own_name(expression) => Self::Own,
            _ => Self::Unknown,
        }
    }

    /// A name of which only the beginning is shown: its first part must be whole.
    fn start(text: &'a str) -> Self {
        match text.find(['{', '%', '.']).and_then(|at| Some((text.get(..at)?, text.get(at..=at)?))) {
            Some(("", ".")) => Self::Own,
            Some((top, ".")) => Self::Named(top),
            _ => Self::Unknown,
        }
    }
}

enum Piece<'a> {
    Text(&'a str),
    Value(&'a Expr),
}

fn pieces(string: &ast::ExprFString) -> impl Iterator<Item = Piece<'_>> {
    string.value.iter().flat_map(|part| {
        let (text, elements) = match part {
            FStringPart::Literal(literal) => (Some(Piece::Text(literal.as_str())), None),
            FStringPart::FString(string) => (None, Some(&string.elements)),
        };
        let elements = elements.into_iter().flat_map(|elements| elements.iter()).map(|element| match element {
            Element::Literal(literal) => Piece::Text(&literal.value),
            Element::Interpolation(value) => Piece::Value(&value.expression),
        });
        text.into_iter().chain(elements)
    })
}

fn is_own_name(expression: &Expr) -> bool {
    matches!(expression, Expr::Name(name) if matches!(name.id.as_str(), "__name__" | "__package__"))
}

fn is_loader(name: &str) -> bool {
    LOADERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use crate::python::module;

    #[test]
    fn strings_name_what_may_be_loaded() {
        for (source, names) in [
            ("x = ['django.contrib.auth', 'a.b.C']", "a.b.C django.contrib.auth"),
            ("x = 'uvicorn.workers:Worker'", "uvicorn.workers"),
            ("x = 'postgresql+psycopg2://u:p@h/d'", "postgresql psycopg2"),
            ("def f(u):\n  return f'mysql+pymysql://{u}'", "mysql pymysql"),
            ("run(['/usr/bin/alembic', 'upgrade'])", "alembic upgrade"),
            ("system('cd /x && celery -A p; python -m pip.x y')", "cd celery pip.x python"),
            ("'''pytest'''\ndef f():\n  'black'\n  return 'with space'", "with"),
            ("x = '1', '-m', '', '\\n', 'a\\nb', 'é', b'bytes'", ""),
            ("__import__('x.y')\nimport_module(name='z')", "x.y z"),
        ] {
            let found = module(b"app/a.py", source.as_bytes()).unwrap().mentions;
            assert_eq!(found.names.join(" "), names, "{source}");
            assert!(!found.unshown, "{source}");
        }
        for path in ["usr/lib/python3.11/json/tool.py", "usr/lib/python3/site-packages/x/y.py"] {
            assert!(module(path.as_bytes(), b"x = 'name'").unwrap().mentions.names.is_empty(), "{path}");
        }
    }

    #[test]
    fn what_is_loaded_by_a_made_name_is_unshown() {
        for (source, unshown) in [
            ("importlib.import_module(name)", true),
            ("def f(n):\n  return __import__(n)", true),
            ("load = importlib.import_module", true),
            ("from importlib import import_module as load", true),
            ("list(map(import_module, names))", true),
            ("import_module(f'{name}.x')", true),
            ("import_module('x%s' % name)", true),
            ("import_module()", true),
            ("exec(text)", true),
            ("from importlib import import_module", false),
            ("import_module('.x', __package__)", false),
            ("import_module(f'app.plugins.{name}')", false),
            ("import_module(f'.{name}', package=__name__)", false),
            ("import_module('app.' + name)", false),
            ("import_module('app.%s' % name)", false),
            ("import_module('app.{}'.format(name))", false),
            ("import_module(__name__ + '.x')", false),
            ("import_module(f'{__name__}.{x}')", false),
            ("re.compile(x).exec(y)", false),
        ] {
            assert_eq!(module(b"app/a.py", source.as_bytes()).unwrap().mentions.unshown, unshown, "{source}");
        }
        let table: String =
            (0..5000).flat_map(|number| ["'n".to_owned(), number.to_string(), "',".to_owned()]).collect();
        assert!(module(b"app/a.py", format!("x = [{table}]").as_bytes()).unwrap().mentions.unshown);
    }
}
