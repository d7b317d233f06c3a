//! Which object of which module is the application.
//!
//! Source text in, `module:attribute` out, by what stands at the beginning of lines: nothing is imported. Where several
//! are found, the likeliest is taken and a note names the others.

use super::dependencies::Dependencies;
use super::{InitError, Project};

/// How a server calls the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Asynchronously.
    Asgi,
    /// As PEP 3333 has it.
    Wsgi,
    /// Not at all: it is a program.
    Script,
}

/// An application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct App {
    pub(super) kind: Kind,
    /// `module:attribute`, or a script's path.
    pub(super) target: String,
    /// The attribute makes the application.
    pub(super) factory: bool,
    /// The directory that modules are found in, if it is not the project's own.
    pub(super) root: Option<String>,
    /// What its text says.
    pub(super) port: Option<u16>,
}

/// What is called to make an application.
const FRAMEWORKS: &[(&str, Kind)] = &[
    ("FastAPI", Kind::Asgi),
    ("Starlette", Kind::Asgi),
    ("Quart", Kind::Asgi),
    ("Litestar", Kind::Asgi),
    ("Sanic", Kind::Asgi),
    ("falcon.asgi.App", Kind::Asgi),
    ("get_asgi_application", Kind::Asgi),
    ("socketio.ASGIApp", Kind::Asgi),
    ("Flask", Kind::Wsgi),
    ("Bottle", Kind::Wsgi),
    ("falcon.App", Kind::Wsgi),
    ("get_wsgi_application", Kind::Wsgi),
];
/// Functions that make one, by convention.
const FACTORIES: &[&str] = &["create_app", "make_app", "build_app", "get_app"];
/// Modules that applications are in, likeliest first.
const MODULES: &[&str] = &["main", "app", "asgi", "wsgi", "application", "server", "api", "web", "__init__"];
/// Directories whose applications are not the project's own.
const ELSEWHERE: &[&str] =
    &["tests", "test", "examples", "example", "docs", "doc", "benchmarks", "migrations", "scripts", "tools"];

/// The application that was named, or the likeliest.
pub(super) fn find(
    project: &Project,
    dependencies: &Dependencies,
    named: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<App, InitError> {
    let mut found: Vec<Candidate> = project
        .files
        .iter()
        .filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
        .filter(|(path, _)| path.strip_suffix(".py").is_some() && !elsewhere(path))
        .flat_map(|(path, text)| candidates(project, path, text))
        .collect();
    if let Some(named) = named {
        return by_name(project, dependencies, named, &found, notes);
    }
    // Django has both forms: the one that an installed server speaks.
    let asgi = ["uvicorn", "daphne", "hypercorn"].iter().any(|server| dependencies.has(server))
        && !dependencies.has("gunicorn");
    found.sort_by_key(|candidate| {
        let (factory, depth, order) = candidate.rank;
        let other = candidate.django && (candidate.app.kind == Kind::Asgi) != asgi;
        (factory, depth, other, order, candidate.path.clone())
    });
    let Some(best) = found.first() else { return script(project, notes) };
    let others: Vec<&str> = found
        .iter()
        .skip(1)
        .filter(|other| !(best.django && other.django))
        .map(|other| other.app.target.as_str())
        .collect();
    if !others.is_empty() {
        notes.push(format!(
            "took {} for the application; there is also {} (--app takes another)",
            best.app.target,
            others.join(", ")
        ));
    }
    if best.app.factory {
        notes.push(format!("took the function {} for what makes the application", best.app.target));
    }
    if best.django {
        notes.push("Django: static files and migrations are not the recipe's: `collectstatic` in the builder stage, `migrate` before the service starts; ALLOWED_HOSTS has to name the host".to_owned());
    }
    Ok(best.app.clone())
}

/// An application by what stands in a file.
struct Candidate {
    app: App,
    path: String,
    django: bool,
    /// Less is likelier.
    rank: (bool, usize, usize),
}

fn candidates(project: &Project, path: &str, text: &str) -> Vec<Candidate> {
    let (root, module) = module(project, path, text);
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".py");
    let order = MODULES.iter().position(|name| *name == stem).unwrap_or(MODULES.len());
    let depth = path.matches('/').count();
    let port = port(text);
    let lines: Vec<&str> = top_level(text);
    let made = lines.iter().filter_map(|line| {
        let (name, kind, django) = assigned(line)?;
        Some((name.to_owned(), kind, django, false))
    });
    let imported = |word: &str| {
        lines
            .iter()
            .any(|line| line.starts_with(&format!("from {word}")) || line.starts_with(&format!("import {word}")))
    };
    let kind = if ["fastapi", "starlette", "quart", "litestar"].iter().any(|word| imported(word)) {
        Some(Kind::Asgi)
    } else {
        Some(Kind::Wsgi).filter(|_| imported("flask"))
    };
    let factories = lines.iter().filter_map(|line| {
        let name = line.strip_prefix("def ")?.split('(').next()?.trim();
        Some((name.to_owned(), kind?, false, true)).filter(|_| FACTORIES.contains(&name))
    });
    made.chain(factories)
        .map(|(name, kind, django, factory)| Candidate {
            app: App { kind, target: format!("{module}:{name}"), factory, root: root.clone(), port },
            path: path.to_owned(),
            django,
            rank: (factory, depth, order),
        })
        .collect()
}

/// Lines that begin at the margin and are no part of a long string.
fn top_level(text: &str) -> Vec<&str> {
    let mut quote: Option<&str> = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        if quote.is_none() && line.starts_with(|character: char| character.is_ascii_alphabetic() || character == '_') {
            lines.push(line);
        }
        let mut rest = line;
        loop {
            let next = match quote {
                Some(open) => rest.find(open).map(|at| (at, open)),
                None => ["\"\"\"", "'''"].iter().filter_map(|mark| Some((rest.find(mark)?, *mark))).min(),
            };
            let Some((at, mark)) = next else { break };
            quote = if quote.is_some() { None } else { Some(mark) };
            rest = rest.get(at + mark.len()..).unwrap_or_default();
        }
    }
    lines
}

/// `app: FastAPI = FastAPI(` is `app`, asynchronous.
fn assigned(line: &str) -> Option<(&str, Kind, bool)> {
    let (left, right) = line.split_once('=')?;
    let name = left.split(':').next()?.trim();
    let called = right.trim_start().split_once('(')?.0.trim();
    let word =
        |text: &str| !text.is_empty() && text.chars().all(|character| character.is_alphanumeric() || character == '_');
    if !word(name) || !called.split('.').all(word) {
        return None;
    }
    let fits = |framework: &str| {
        called == framework || !framework.contains('.') && called.rsplit('.').next() == Some(framework)
    };
    let (framework, kind) = FRAMEWORKS.iter().find(|(framework, _)| fits(framework))?;
    Some((name, *kind, framework.starts_with("get_")))
}

/// Where modules of a file are looked for (if not in the project's directory), and the module's name from there.
fn module(project: &Project, path: &str, text: &str) -> (Option<String>, String) {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let root = root(project, folder, text);
    let below = if root.is_empty() { path } else { path.get(root.len() + 1..).unwrap_or(path) };
    let dotted = below.trim_end_matches(".py").replace('/', ".");
    let dotted = dotted.strip_suffix(".__init__").map_or(dotted.clone(), str::to_owned);
    (Some(root.to_owned()).filter(|root| !root.is_empty()), dotted)
}

fn root<'p>(project: &Project, folder: &'p str, text: &str) -> &'p str {
    if folder.is_empty() {
        return "";
    }
    let above = |folder: &'p str| folder.rsplit_once('/').map_or("", |(above, _)| above);
    // Django's manage.py, and the layout with `src`, say where modules begin.
    let mut at = folder;
    while !at.is_empty() {
        if project.has(&format!("{at}/manage.py")) || at == "src" && !project.has("src/__init__.py") {
            return at;
        }
        at = above(at);
    }
    let name = |name: &str| {
        name.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && name.chars().all(|character| character.is_alphanumeric() || character == '_')
    };
    if let Some(strange) = folder.split('/').position(|part| !name(part)) {
        let length = folder.split('/').take(strange + 1).map(|part| part.len() + 1).sum::<usize>() - 1;
        return folder.get(..length).unwrap_or(folder);
    }
    // A file that imports its neighbours by their bare names is started where it lies.
    let package = project.has(&format!("{folder}/__init__.py"));
    let neighbour = text.lines().any(|line| {
        let module = line.strip_prefix("from ").or_else(|| line.strip_prefix("import ")).unwrap_or_default();
        let module = module.split([' ', '.', ',']).next().unwrap_or_default();
        !module.is_empty() && project.has(&format!("{folder}/{module}.py")) && !project.has(&format!("{module}.py"))
    });
    if !package && neighbour { folder } else { "" }
}

fn elsewhere(path: &str) -> bool {
    let mut names: Vec<&str> = path.split('/').collect();
    let file = names.pop().unwrap_or_default();
    names.iter().any(|name| ELSEWHERE.contains(name))
        || file.starts_with("test_")
        || file.ends_with("_test.py")
        || file == "conftest.py"
}

/// `port=8080`, or the default of the variable PORT.
fn port(text: &str) -> Option<u16> {
    let digits = |text: &str| {
        let text = text.trim_start_matches([' ', '"', '\'']);
        let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end)?.parse::<u16>().ok().filter(|port| *port > 0)
    };
    ["port=", "port = ", "\"PORT\",", "'PORT',", "PORT = ", "port: int = "]
        .iter()
        .flat_map(|sign| text.match_indices(sign).map(|(at, sign)| at + sign.len()))
        .find_map(|at| digits(text.get(at..)?))
}

/// What the user named: found ones say how they are called, others by the installed packages.
fn by_name(
    project: &Project,
    dependencies: &Dependencies,
    named: &str,
    found: &[Candidate],
    notes: &mut Vec<String>,
) -> Result<App, InitError> {
    let plain = |text: &str, signs: &str| {
        !text.is_empty() && text.chars().all(|character| character.is_alphanumeric() || signs.contains(character))
    };
    if named.strip_suffix(".py").is_some() && plain(named, "_./-") {
        let port = project.text(named).and_then(port);
        return Ok(App { kind: Kind::Script, target: named.to_owned(), factory: false, root: None, port });
    }
    let Some((module, attribute)) = named.split_once(':') else { return Err(InitError::BadApp(named.to_owned())) };
    let factory = attribute.ends_with("()");
    let attribute = attribute.trim_end_matches("()");
    if !plain(module, "_.") || !plain(attribute, "_.") {
        return Err(InitError::BadApp(named.to_owned()));
    }
    let target = format!("{module}:{attribute}");
    if let Some(candidate) = found.iter().find(|candidate| candidate.app.target == target) {
        return Ok(App { factory: factory || candidate.app.factory, ..candidate.app.clone() });
    }
    let wsgi =
        ["flask", "django", "bottle", "falcon", "gunicorn", "waitress"].iter().any(|package| dependencies.has(package));
    let asgi =
        ["uvicorn", "fastapi", "starlette", "hypercorn", "daphne"].iter().any(|package| dependencies.has(package));
    let kind = if wsgi && !asgi { Kind::Wsgi } else { Kind::Asgi };
    let how = if kind == Kind::Asgi { "an ASGI" } else { "a WSGI" };
    notes.push(format!("{target} was not found in the text: taken for {how} application"));
    Ok(App { kind, target, factory, root: None, port: None })
}

/// Without an application, a program that is alone.
fn script(project: &Project, notes: &mut Vec<String>) -> Result<App, InitError> {
    let scripts = ["main.py", "app.py", "server.py", "run.py", "__main__.py", "bot.py"];
    let script = scripts.iter().find_map(|file| Some((*file, project.text(file)?)));
    let (file, text) = script.ok_or(InitError::NoApp)?;
    notes.push(format!("found no application of a known framework: the container runs {file}; --app names another"));
    Ok(App { kind: Kind::Script, target: file.to_owned(), factory: false, root: None, port: port(text) })
}
