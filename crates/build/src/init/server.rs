//! Which program serves the application, and how it is started.
//!
//! The application and the installed packages in, a command in the JSON form out. A server that the project does not list
//! is installed beside the list, and a note says so.

use super::app::{App, Kind};
use super::dependencies::Dependencies;

/// Where nothing says otherwise.
pub(super) const PORT: u16 = 8000;

/// How the service is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// Its words.
    pub(super) command: Vec<String>,
    /// The command that pip puts beside the interpreter; none for a script.
    pub(super) script: Option<&'static str>,
    /// A package that the project does not list.
    pub(super) missing: Option<&'static str>,
}

/// Chooses among the servers that are installed.
pub(super) fn choose(app: &App, dependencies: &Dependencies, port: u16, notes: &mut Vec<String>) -> Server {
    let has = |package: &str| dependencies.has(package);
    let port = port.to_string();
    let bind = format!("0.0.0.0:{port}");
    let target = app.target.as_str();
    let call = format!("{target}()");
    let uvicorn = || {
        let mut words = vec!["uvicorn", target, "--host", "0.0.0.0", "--port", &port];
        words.extend(Some("--factory").filter(|_| app.factory));
        server(&words)
    };
    let gunicorn = || server(&["gunicorn", "--bind", &bind, if app.factory { &call } else { target }]);
    match app.kind {
        Kind::Script => Server { command: vec!["python".to_owned(), app.target.clone()], script: None, missing: None },
        Kind::Asgi if has("uvicorn") || has("fastapi[standard]") || has("fastapi[all]") => uvicorn(),
        Kind::Asgi if has("hypercorn") && !app.factory => server(&["hypercorn", "--bind", &bind, target]),
        Kind::Asgi if has("daphne") && !app.factory => server(&["daphne", "-b", "0.0.0.0", "-p", &port, target]),
        Kind::Asgi if has("granian") && !app.factory => {
            server(&["granian", "--interface", "asgi", "--host", "0.0.0.0", "--port", &port, target])
        }
        Kind::Asgi => missing(uvicorn(), "uvicorn", notes),
        Kind::Wsgi if has("gunicorn") => gunicorn(),
        Kind::Wsgi if has("waitress") => {
            let mut words = vec!["waitress-serve", "--host", "0.0.0.0", "--port", &port];
            words.extend(Some("--call").filter(|_| app.factory));
            words.push(target);
            server(&words)
        }
        Kind::Wsgi if has("granian") && !app.factory => {
            server(&["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", &port, target])
        }
        Kind::Wsgi => missing(gunicorn(), "gunicorn", notes),
    }
}

/// The commands that servers install.
const SCRIPTS: &[&str] = &["uvicorn", "hypercorn", "daphne", "granian", "gunicorn", "waitress-serve"];

fn server(words: &[&str]) -> Server {
    let script = SCRIPTS.iter().find(|script| words.first() == Some(script)).copied();
    Server { command: words.iter().map(|word| (*word).to_owned()).collect(), script, missing: None }
}

fn missing(server: Server, package: &'static str, notes: &mut Vec<String>) -> Server {
    notes.push(format!(
        "no server is among the dependencies: the recipe installs {package}; add it to the list, with a version"
    ));
    Server { missing: Some(package), ..server }
}
