//! A Python source file to what is remembered of it.
//!
//! The parser is Ruff's; no other file names it, but [`super::depth`] its lexer and [`super::mentions`] its tree. Sources are limited in size and depth first, and
//! parsed on a stack that fits the depth. Nothing is executed, and expressions are looked at only for the few forms
//! that bind names or change how modules are found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{self as ast, ExceptHandler, Expr, PythonVersion, Stmt};
use ruff_python_parser::{Mode, ParseOptions, UnsupportedSyntaxErrorKind as Kind, parse_unchecked};
use ruff_text_size::{Ranged, TextSize};

use super::depth;
use super::facts::{Broken, Import, Module, Named, Newer, Place, Role};
use super::mentions;
use super::prune::prune;

/// Larger sources are tables: the longest module of Python's library has 0.3 MB, of the large packages 1.3 MB.
const SOURCE_BYTES: usize = 4 << 20;
/// Below this depth, every thread's stack is enough.
const SHALLOW: u32 = 150;
/// For [`depth::DEPTH`] levels of anything, with room: a level takes less than 8 KiB also without optimisation.
const STACK_BYTES: usize = 32 << 20;

/// What the file at `path` (in an image, no leading slash) says. `None` if it is no Python source by its name.
///
/// Imports inside functions are kept only for files outside `site-packages`: a package's own are its business.
pub fn module(path: &[u8], source: &[u8]) -> Option<Module> {
    if !path.ends_with(b".py") {
        return None;
    }
    let unread = || Some(Module::unread());
    if source.len() > SOURCE_BYTES {
        return unread();
    }
    let decoded = match std::str::from_utf8(source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source)) {
        Ok(text) => std::borrow::Cow::Borrowed(text),
        // Python reads other encodings where the file names one. All of them are ASCII where names are concerned, but
        // for those in which a byte of a character may look like a quote.
        Err(_) if names_latin(source) => source.iter().map(|&byte| char::from(byte)).collect::<String>().into(),
        Err(_) => return unread(),
    };
    if is_installed(path)
        && let Some(pruned) = prune(&decoded)
        && let Some(mut facts) = guarded(&pruned.text, Whose::Package, pruned.longest)
        && facts.broken.is_none()
    {
        facts.dynamic |=
            SHOWS_NOT.iter().any(|word| memchr::memmem::find(decoded.as_bytes(), word.as_bytes()).is_some());
        facts.bound.extend(pruned.globals.into_iter().map(|name| (name.into(), 0)));
        facts.bound.sort_unstable();
        facts.bound.dedup_by(|next, kept| next.0 == kept.0);
        return Some(facts);
    }
    guarded(&decoded, Whose::of(path), None).or_else(unread)
}

/// Whose a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The user's.
    App,
    /// Python's own library's.
    Library,
    /// An installed package's.
    Package,
}

impl Whose {
    fn of(path: &[u8]) -> Self {
        match () {
            () if is_installed(path) => Self::Package,
            () if is_library(path) => Self::Library,
            () => Self::App,
        }
    }
}

/// Words by which a module may have names that its statements do not bind.
const SHOWS_NOT: [&str; 6] = ["globals(", "sys.modules", "exec(", "f_globals", "deferredimport", "initpkg"];

/// Parses what is not too deep. The parser is not ours: if it fails on something, nothing is known about that file.
/// `longest` is an upper bound of its depth, where one is known.
fn guarded(source: &str, whose: Whose, longest: Option<usize>) -> Option<Module> {
    let shallow = longest.is_some_and(|longest| longest < SHALLOW as usize);
    let deepest = if shallow { 0 } else { depth::bound(source) };
    if deepest > depth::DEPTH {
        return None;
    }
    let read = || catch_unwind(AssertUnwindSafe(|| parse(source, whose))).ok();
    if deepest < SHALLOW { read() } else { stacker::grow(STACK_BYTES, read) }
}

/// Whether a path is below a directory of installed packages.
pub(super) fn is_installed(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|name| matches!(name, b"site-packages" | b"dist-packages"))
}

/// Whether a path is below a directory of Python's own library, which is none of the directories of packages in it.
pub(super) fn is_library(path: &[u8]) -> bool {
    let version = |name: &[u8]| {
        let rest = name.strip_prefix(b"python3").or_else(|| name.strip_prefix(b"pypy3"));
        rest.is_some_and(|rest| rest.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b't')))
    };
    let mut parts = path.split(|&byte| byte == b'/').peekable();
    while let Some(part) = parts.next() {
        if matches!(part, b"lib" | b"lib64") && parts.peek().is_some_and(|next| version(next)) {
            return !is_installed(path);
        }
    }
    false
}

/// Whether a file is a module of pip itself: half of all sources in a small image, and nothing that a service imports.
pub fn is_pip(path: &[u8]) -> bool {
    let at = |packages: &[u8]| memchr::memmem::find(path, packages).is_some();
    path.ends_with(b".py") && (at(b"/site-packages/pip/") || at(b"/dist-packages/pip/"))
}

/// Whether one of the first two lines declares an encoding that is ASCII with single bytes above it.
fn names_latin(source: &[u8]) -> bool {
    source.split(|&byte| byte == b'\n').take(2).any(|line| {
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        line.trim_start().starts_with('#')
            && line.contains("coding")
            && ["latin", "iso-8859", "iso8859", "cp125", "koi8", "windows-125"].iter().any(|name| line.contains(name))
    })
}

/// Parses and collects.
fn parse(source: &str, whose: Whose) -> Module {
    let own = whose != Whose::Package;
    // Against the oldest version that the parser knows, everything newer is reported.
    let options = ParseOptions::from(Mode::Module).with_target_version(PythonVersion::PY37);
    let parsed = parse_unchecked(source, options);
    let lines = Lines::new(source);
    if let Some(error) = parsed.errors().first() {
        let mut message = error.error.to_string();
        if let Some(first) = message.get(..1).map(str::to_ascii_lowercase) {
            message.replace_range(..1, &first);
        }
        let broken = Broken { line: lines.of(error.location.start()), message: message.trim_end_matches('.').into() };
        return Module { broken: Some(broken), ..Module::default() };
    }
    let newer = parsed
        .unsupported_syntax_errors()
        .iter()
        .filter_map(|error| Some((since(error.kind)?, error)))
        .max_by_key(|((minor, _), error)| (*minor, std::cmp::Reverse(error.range.start())))
        .map(|((minor, what), error)| Newer { minor, line: lines.of(error.range.start()), what: what.into() });
    let ast::Mod::Module(tree) = parsed.syntax() else { return Module::default() };
    let mut reader = Reader { own, lines, facts: Module { newer, ..Module::default() }, tries: 0, ended: false };
    if has_hints(source) {
        let mut hints = Hints { own, functions: 0, reader: &mut reader };
        hints.visit_body(&tree.body);
    }
    reader.body(&tree.body, Place::Module);
    if whose == Whose::App {
        reader.facts.mentions = mentions::of(&tree.body);
    }
    reader.finish()
}

/// The first minor version of Python 3 that has a syntax, and what it is; nothing for what 3.8 has.
fn since(kind: Kind) -> Option<(u8, &'static str)> {
    Some(match kind {
        Kind::Match => (10, "a match statement"),
        Kind::ExceptStar => (11, "except*"),
        Kind::TypeParameterList => (12, "a list of type parameters"),
        Kind::TypeAliasStatement => (12, "a type statement"),
        Kind::TypeParamDefault => (13, "a type parameter's default"),
        Kind::Pep701FString(_) => (12, "an f-string with quotes, backslashes or comments in its expressions"),
        Kind::ParenthesizedContextManager => (9, "a parenthesised list in a with statement"),
        Kind::RelaxedDecorator { .. } => (9, "an expression as a decorator"),
        Kind::StarExpressionInIndex => (11, "a starred expression in an index"),
        Kind::StarAnnotation => (11, "a starred annotation"),
        Kind::UnparenthesizedExceptionTypes => (14, "several exception types without parentheses"),
        Kind::TemplateStrings => (14, "a template string"),
        Kind::LazyImportStatement => (15, "a lazy import"),
        Kind::UnpackingInComprehension(_) => (15, "unpacking in a comprehension"),
        _ => return None,
    })
}

/// Offsets to line numbers.
struct Lines(Vec<u32>);

impl Lines {
    fn new(source: &str) -> Self {
        Self(memchr::memchr_iter(b'\n', source.as_bytes()).map(|at| u32::try_from(at).unwrap_or(u32::MAX)).collect())
    }

    fn of(&self, offset: TextSize) -> u32 {
        u32::try_from(self.0.partition_point(|&end| end < offset.to_u32())).unwrap_or(u32::MAX - 1) + 1
    }
}

/// Collects from statements.
struct Reader {
    own: bool,
    lines: Lines,
    facts: Module,
    tries: u16,
    /// A statement at module level that never goes on was seen: what follows does not run.
    ended: bool,
}

impl Reader {
    fn finish(mut self) -> Module {
        self.facts.bound.sort_unstable();
        self.facts.bound.dedup_by(|next, kept| next.0 == kept.0);
        self.facts.dynamic |= self.facts.line_of("__getattr__").is_some() || self.facts.line_of("__path__").is_some();
        self.facts
    }

    fn bind(&mut self, name: &str, at: TextSize, place: Place) {
        if !matches!(place, Place::Function | Place::Typing) {
            self.facts.bound.push((name.into(), self.lines.of(at)));
        }
    }

    fn bind_target(&mut self, target: &Expr, place: Place) {
        match target {
            Expr::Name(name) => self.bind(&name.id, name.start(), place),
            Expr::Tuple(tuple) => tuple.elts.iter().for_each(|part| self.bind_target(part, place)),
            Expr::List(list) => list.elts.iter().for_each(|part| self.bind_target(part, place)),
            Expr::Starred(starred) => self.bind_target(&starred.value, place),
            _ => {}
        }
    }

    fn body(&mut self, body: &[Stmt], place: Place) {
        for statement in body {
            let place = if self.ended && place == Place::Module { Place::Optional } else { place };
            self.statement(statement, place);
        }
    }

    fn statement(&mut self, statement: &Stmt, place: Place) {
        match statement {
            Stmt::Import(import) => {
                for alias in &import.names {
                    let bound = alias.asname.as_ref().unwrap_or(&alias.name).as_str();
                    self.bind(bound.split('.').next().unwrap_or(bound), alias.start(), place);
                    self.import(0, alias.name.as_str(), None, import.start(), place);
                }
            }
            Stmt::ImportFrom(import) => {
                for alias in &import.names {
                    let bound = alias.asname.as_ref().unwrap_or(&alias.name).as_str();
                    if bound != "*" {
                        self.bind(bound, import.start(), place);
                    }
                }
                let names = import.names.iter().map(|alias| alias.name.as_str().into()).collect();
                let module = import.module.as_ref().map_or("", |name| name.as_str());
                self.import(import.level, module, Some(names), import.start(), place);
            }
            Stmt::FunctionDef(function) => {
                self.bind(&function.name, function.name.start(), place);
                if self.own {
                    let inside = if place == Place::Typing { place } else { Place::Function };
                    self.body(&function.body, inside);
                }
            }
            Stmt::ClassDef(class) => {
                self.bind(&class.name, class.name.start(), place);
                self.class_body(&class.body, place);
            }
            Stmt::Assign(assign) => {
                assign.targets.iter().for_each(|target| self.bind_target(target, place));
                self.assigned(assign, place);
            }
            Stmt::AnnAssign(assign) if assign.value.is_some() => self.bind_target(&assign.target, place),
            Stmt::AugAssign(assign) => {
                self.bind_target(&assign.target, place);
                // `__all__ += …`: the list is not what its first assignment says.
                if is_name(&assign.target, "__all__") {
                    self.facts.all = None;
                    self.facts.dynamic = true;
                }
            }
            Stmt::TypeAlias(alias) => self.bind_target(&alias.name, place),
            Stmt::For(block) => {
                let inside = combine(place, Place::Conditional);
                self.bind_target(&block.target, place);
                self.body(&block.body, inside);
                self.body(&block.orelse, inside);
            }
            Stmt::While(block) => {
                self.body(&block.body, combine(place, Place::Conditional));
                self.body(&block.orelse, combine(place, Place::Conditional));
            }
            Stmt::With(block) => {
                for target in block.items.iter().filter_map(|item| item.optional_vars.as_ref()) {
                    self.bind_target(target, place);
                }
                let quiet = block.items.iter().all(|item| is_harmless_context(&item.context_expr));
                self.body(&block.body, if quiet { place } else { combine(place, Place::Optional) });
            }
            Stmt::If(block) => self.condition(block, place),
            Stmt::Match(block) => {
                for case in &block.cases {
                    self.body(&case.body, combine(place, Place::Conditional));
                }
                // What a pattern captures is bound too; nobody imports such a name.
            }
            Stmt::Try(block) => self.attempt(block, place),
            Stmt::Global(global) if place == Place::Function => {
                // A function may bind it at any time.
                for name in &global.names {
                    self.facts.bound.push((name.as_str().into(), 0));
                }
            }
            Stmt::Raise(_) if place == Place::Module => self.ended = true,
            Stmt::Expr(expression) if place == Place::Module && is_exit(&expression.value) => self.ended = true,
            _ => {}
        }
    }

    /// Names bound in a class are its own, but its imports run with the module.
    fn class_body(&mut self, body: &[Stmt], place: Place) {
        let bound = self.facts.bound.len();
        let (made, ended) = (self.facts.made.len(), self.ended);
        self.body(body, place);
        // Names that methods declare global stay.
        let globals: Vec<_> = self.facts.bound.drain(bound..).filter(|(_, line)| *line == 0).collect();
        self.facts.bound.extend(globals);
        self.facts.made.truncate(made);
        self.ended = ended;
    }

    fn import(&mut self, level: u32, module: &str, names: Option<Vec<Box<str>>>, at: TextSize, place: Place) {
        if place == Place::Typing || (place == Place::Function && !self.own) {
            return;
        }
        let level = u8::try_from(level).unwrap_or(u8::MAX);
        self.facts.imports.push(Import { level, module: module.into(), names, line: self.lines.of(at), place });
    }

    fn condition(&mut self, block: &ast::StmtIf, place: Place) {
        // What each branch runs under, and what is left for the next one.
        let mut left = place;
        let branches = std::iter::once((Some(&*block.test), &block.body))
            .chain(block.elif_else_clauses.iter().map(|clause| (clause.test.as_ref(), &clause.body)));
        for (test, body) in branches {
            let inside = match test.map(Test::of) {
                None => left,
                Some(Test::Typing) => Place::Typing,
                Some(Test::NotTyping) => std::mem::replace(&mut left, Place::Typing),
                Some(Test::Main) => {
                    let inside = combine(left, Place::Main);
                    left = combine(left, Place::Optional);
                    inside
                }
                Some(Test::System) => {
                    left = combine(left, Place::Optional);
                    left
                }
                Some(Test::Other) => {
                    left = combine(left, Place::Conditional);
                    left
                }
            };
            self.body(body, inside);
        }
    }

    fn attempt(&mut self, block: &ast::StmtTry, place: Place) {
        let catching: Vec<&ast::ExceptHandlerExceptHandler> = block
            .handlers
            .iter()
            .map(|ExceptHandler::ExceptHandler(handler)| handler)
            .filter(|handler| handler.type_.as_deref().is_none_or(catches_imports))
            .collect();
        // A handler that only raises something else does not make the import optional.
        let passes_on =
            |handler: &&ast::ExceptHandlerExceptHandler| matches!(handler.body.last(), Some(Stmt::Raise(_)));
        let guarded = catching.first().is_some_and(|handler| !passes_on(handler));
        let number = self.tries;
        self.tries = self.tries.saturating_add(1);
        self.body(&block.body, if guarded { combine(place, Place::Try(number)) } else { place });
        for ExceptHandler::ExceptHandler(handler) in &block.handlers {
            let catches = catching.first().is_some_and(|first| std::ptr::eq(*first, handler));
            let inside = if catches && guarded { Place::Handler(number) } else { Place::Conditional };
            if let Some(name) = &handler.name {
                self.bind(name, handler.start(), place);
            }
            let ended = self.ended;
            self.body(&handler.body, combine(place, inside));
            self.ended = ended;
        }
        self.body(&block.orelse, if guarded { combine(place, Place::Optional) } else { place });
        self.body(&block.finalbody, place);
    }

    /// `__all__`, applications and Django's lists of modules.
    fn assigned(&mut self, assign: &ast::StmtAssign, place: Place) {
        let [Expr::Name(target)] = assign.targets.as_slice() else { return };
        if matches!(place, Place::Function | Place::Typing) {
            return;
        }
        match (target.id.as_str(), &*assign.value) {
            ("__all__", value) => {
                self.facts.all = strings(value).map(|all| all.into_iter().map(|(name, _)| name.into()).collect());
                self.facts.dynamic |= self.facts.all.is_none();
            }
            ("INSTALLED_APPS", value) if self.own && place == Place::Module => {
                for (name, at) in strings(value).unwrap_or_default() {
                    let line = self.lines.of(at);
                    self.facts.named.push(Named { role: Role::App, module: name.into(), line });
                }
            }
            (name, Expr::Call(call)) if self.own => {
                if let Some(made) = last_name(&call.func).filter(|made| APPLICATIONS.contains(made)) {
                    self.facts.made.push((name.into(), made.into()));
                }
            }
            _ => {}
        }
    }
}

/// What makes an application that a server can run.
const APPLICATIONS: [&str; 9] = [
    "FastAPI",
    "Starlette",
    "Flask",
    "Quart",
    "Litestar",
    "Celery",
    "get_asgi_application",
    "get_wsgi_application",
    "Sanic",
];

/// A place inside another one.
fn combine(outer: Place, inner: Place) -> Place {
    match (outer, inner) {
        (Place::Module, inner) => inner,
        (Place::Function | Place::Typing | Place::Optional | Place::Main, _) => outer,
        (_, Place::Typing) => Place::Typing,
        (outer, Place::Module) => outer,
        (Place::Conditional, Place::Conditional) => Place::Conditional,
        _ => Place::Optional,
    }
}

/// What an `if` asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    /// Whether a type checker reads this: never.
    Typing,
    /// The opposite: always.
    NotTyping,
    /// Whether the file is run, not imported.
    Main,
    /// About the version of Python, the system, or what is installed.
    System,
    /// Anything else.
    Other,
}

impl Test {
    fn of(test: &Expr) -> Self {
        match test {
            Expr::BooleanLiteral(literal) => return if literal.value { Self::NotTyping } else { Self::Typing },
            Expr::NumberLiteral(ast::ExprNumberLiteral { value: ast::Number::Int(int), .. }) if *int == 0 => {
                return Self::Typing;
            }
            Expr::UnaryOp(not) if not.op == ast::UnaryOp::Not => {
                return match Self::of(&not.operand) {
                    Self::Typing => Self::NotTyping,
                    Self::NotTyping => Self::Typing,
                    Self::Main | Self::System => Self::System,
                    Self::Other => Self::Other,
                };
            }
            Expr::BoolOp(both) if both.op == ast::BoolOp::And => {
                let mut found = Self::Other;
                for part in &both.values {
                    match Self::of(part) {
                        Self::Typing => return Self::Typing,
                        Self::System | Self::Main => found = Self::System,
                        _ => {}
                    }
                }
                return found;
            }
            _ => {}
        }
        if last_name(test) == Some("TYPE_CHECKING") {
            return Self::Typing;
        }
        if let Expr::Compare(compare) = test
            && is_name(&compare.left, "__name__")
            && matches!(&*compare.ops, [ast::CmpOp::Eq])
        {
            return Self::Main;
        }
        let mut words = Words { system: false };
        words.visit_expr(test);
        if words.system { Self::System } else { Self::Other }
    }
}

/// Looks for words that ask about the system in an expression.
struct Words {
    system: bool,
}

impl<'a> Visitor<'a> for Words {
    fn visit_expr(&mut self, expression: &'a Expr) {
        let word = match expression {
            Expr::Name(name) => name.id.as_str(),
            Expr::Attribute(attribute) => attribute.attr.as_str(),
            _ => "",
        };
        let lower = word.to_ascii_lowercase();
        self.system |= matches!(
            word,
            "version_info"
                | "hexversion"
                | "platform"
                | "implementation"
                | "maxsize"
                | "byteorder"
                | "find_spec"
                | "hasattr"
        ) || matches!(expression, Expr::Attribute(attribute) if word == "name" && is_name(&attribute.value, "os"))
            || [
                "has",
                "have",
                "_has",
                "_have",
                "py",
                "is_",
                "_is",
                "with_",
                "use_",
                "no_",
                "installed",
                "windows",
                "linux",
            ]
            .iter()
            .any(|prefix| lower.starts_with(prefix));
        visitor::walk_expr(self, expression);
    }
}

/// Whether a source has anything that [`Hints`] looks for. Most have not.
fn has_hints(source: &str) -> bool {
    let bytes = source.as_bytes();
    HINTS.iter().any(|hint| memchr::memmem::find(bytes, hint.as_bytes()).is_some())
}

/// The words that [`Hints`] acts on.
const HINTS: [&str; 12] = [
    ":=",
    "globals(",
    "locals(",
    "vars(",
    "exec(",
    "sys.modules",
    "modules[",
    "sys.path",
    "path.",
    "addsitedir",
    "meta_path",
    "DJANGO_SETTINGS_MODULE",
];

/// Looks at expressions for names bound in unusual ways and for changes to where modules are found.
struct Hints<'r> {
    own: bool,
    functions: u32,
    reader: &'r mut Reader,
}

impl Hints<'_> {
    fn changes_path(&mut self, at: TextSize) {
        let line = self.reader.lines.of(at);
        let top = self.functions == 0;
        match &mut self.reader.facts.search_path {
            Some((_, known)) => *known |= top,
            none => *none = Some((line, top)),
        }
    }
}

impl<'a> Visitor<'a> for Hints<'_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        let inner = u32::from(matches!(statement, Stmt::FunctionDef(_)));
        match statement {
            Stmt::Assign(assign) if assign.targets.iter().any(is_search_path) => self.changes_path(assign.start()),
            Stmt::AugAssign(assign) if is_search_path(&assign.target) => self.changes_path(assign.start()),
            _ => {}
        }
        self.functions += inner;
        visitor::walk_stmt(self, statement);
        self.functions -= inner;
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Named(named) if self.functions == 0 => {
                self.reader.bind_target(&named.target, Place::Module);
            }
            Expr::Attribute(attribute) if attribute.attr.as_str() == "modules" => {
                self.reader.facts.dynamic |= is_name(&attribute.value, "sys") || is_name(&attribute.value, "_sys");
            }
            Expr::Attribute(attribute) if matches!(attribute.attr.as_str(), "meta_path" | "path_hooks") => {
                self.changes_path(attribute.start());
                self.reader.facts.dynamic = true;
            }
            Expr::Name(name) if name.id == "modules" => self.reader.facts.dynamic = true,
            Expr::Call(call) => match &*call.func {
                Expr::Name(name) => match name.id.as_str() {
                    "globals" | "exec" => self.reader.facts.dynamic = true,
                    "locals" | "vars" if self.functions == 0 => self.reader.facts.dynamic = true,
                    "addsitedir" => self.changes_path(call.start()),
                    _ => {}
                },
                Expr::Attribute(method) => match method.attr.as_str() {
                    "insert" | "append" | "extend" if is_search_path(&method.value) => self.changes_path(call.start()),
                    "addsitedir" => self.changes_path(call.start()),
                    "setdefault" if self.own => self.settings(call),
                    _ => {}
                },
                _ => {}
            },
            _ => {}
        }
        visitor::walk_expr(self, expression);
    }
}

impl Hints<'_> {
    /// `os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")`
    fn settings(&mut self, call: &ast::ExprCall) {
        if let [Expr::StringLiteral(key), Expr::StringLiteral(value)] = &*call.arguments.args
            && key.value.to_str() == "DJANGO_SETTINGS_MODULE"
        {
            let line = self.reader.lines.of(call.start());
            self.reader.facts.named.push(Named { role: Role::Settings, module: value.value.to_str().into(), line });
        }
    }
}

/// `sys.path`, a slice of it, or a `path` imported from `sys`.
fn is_search_path(expression: &Expr) -> bool {
    match expression {
        Expr::Attribute(attribute) => {
            attribute.attr.as_str() == "path" && (is_name(&attribute.value, "sys") || is_name(&attribute.value, "_sys"))
        }
        Expr::Subscript(subscript) => is_search_path(&subscript.value),
        Expr::Name(name) => name.id == "path",
        _ => false,
    }
}

/// Whether a handler of this type catches a failed import. What cannot be told does.
fn catches_imports(kind: &Expr) -> bool {
    match kind {
        Expr::Tuple(tuple) => tuple.elts.iter().any(catches_imports),
        _ => !last_name(kind).is_some_and(|name| OTHER_EXCEPTIONS.contains(&name)),
    }
}

/// Exceptions that a failed import is not.
const OTHER_EXCEPTIONS: [&str; 22] = [
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "EOFError",
    "FileExistsError",
    "FileNotFoundError",
    "IOError",
    "IndexError",
    "KeyError",
    "KeyboardInterrupt",
    "LookupError",
    "NameError",
    "NotImplementedError",
    "OSError",
    "PermissionError",
    "RecursionError",
    "RuntimeError",
    "StopIteration",
    "SyntaxError",
    "TypeError",
    "UnicodeDecodeError",
    "ValueError",
];

/// A context manager in which a failed import still fails.
fn is_harmless_context(context: &Expr) -> bool {
    let Expr::Call(call) = context else { return false };
    matches!(last_name(&call.func), Some("catch_warnings" | "open"))
}

/// `sys.exit(…)`, `exit(…)`, `quit(…)`
fn is_exit(expression: &Expr) -> bool {
    let Expr::Call(call) = expression else { return false };
    matches!(last_name(&call.func), Some("exit" | "_exit" | "quit"))
}

fn is_name(expression: &Expr, wanted: &str) -> bool {
    matches!(expression, Expr::Name(name) if name.id == *wanted)
}

/// `c` of `a.b.c`, or the name itself.
pub(super) fn last_name(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Name(name) => Some(&name.id),
        Expr::Attribute(attribute) => Some(&attribute.attr),
        _ => None,
    }
}

/// The strings of a list or tuple, `None` if it is no such thing or holds anything else.
fn strings(value: &Expr) -> Option<Vec<(&str, TextSize)>> {
    let parts: &[Expr] = match value {
        Expr::List(list) => &list.elts,
        Expr::Tuple(tuple) => &tuple.elts,
        _ => return None,
    };
    parts
        .iter()
        .map(|part| match part {
            Expr::StringLiteral(literal) => Some((literal.value.to_str(), literal.start())),
            _ => None,
        })
        .collect()
}
