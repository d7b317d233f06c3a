//! `kuz init`: a project gets a recipe that the checks have nothing against, and keeps the files that it has.

use crate::kit::Place;

const APP: &str = "from fastapi import FastAPI\napp = FastAPI()\n";

#[test]
fn a_project_gets_a_recipe_without_findings() {
    for (list, text, arguments) in [
        ("libraries.list", "fastapi==0.115.0\nuvicorn==0.30.6\n", &[] as &[&str]),
        (
            "requirements.txt",
            "fastapi==0.115.0\nuvicorn==0.30.6\npsycopg2==2.9.9\nxmlsec==1.3.14\n",
            &["--port", "9000"],
        ),
        ("requirements.txt", "fastapi==0.115.0\n", &["--python", "3.12"]),
        ("requirements/base.txt", "flask==3.0.3\ngunicorn==23.0.0\n", &["--app", "main:app"]),
        ("pyproject.toml", "[project]\nname = 'x'\nversion = '1'\ndependencies = ['uvicorn']\n", &[]),
        ("requirements.txt", "requests==2.32.3\n", &["--app", "main.py"]),
    ] {
        let place = Place::new();
        place.write(&format!("ctx/{list}"), text);
        place.write("ctx/main.py", APP);
        place.write("ctx/.env", "TOKEN=1\n");
        place.write("ctx/tests/test_main.py", "");
        let ran = place.kuz(&[&["init", "ctx"], arguments].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("wrote Dockerfile and .dockerignore"), "{}", ran.stderr);
        let ran = place.kuz(&["check", "ctx"]);
        let made = std::fs::read_to_string(place.path("ctx/Dockerfile")).unwrap();
        assert!(ran.code == 0 && !ran.stdout.contains("warning"), "{made}\n{}{}", ran.stdout, ran.stderr);
        assert!(!place.path("store").exists(), "nothing is built");
    }
}

#[test]
fn nothing_is_overwritten() {
    for file in ["Dockerfile", ".dockerignore"] {
        let place = Place::new();
        place.write("ctx/libraries.list", "uvicorn\n");
        place.write("ctx/main.py", APP);
        place.write(&format!("ctx/{file}"), "mine\n");
        let ran = place.kuz(&["init", "ctx"]);
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("`{file}` exists")), "{}", ran.stderr);
        let files = std::fs::read_dir(place.path("ctx")).unwrap().count();
        assert_eq!((std::fs::read_to_string(place.path("ctx").join(file)).unwrap().as_str(), files), ("mine\n", 3));
        let ran = place.kuz(&["init", "ctx", "--print"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(
            ran.stdout.contains("FROM python:3.10-slim\n") && ran.stdout.contains("# .dockerignore\n"),
            "{}",
            ran.stdout
        );
    }
    let place = Place::new();
    place.write("ctx/main.py", APP);
    let ran = place.kuz(&["init", "ctx"]);
    assert!(ran.code == 3 && ran.stderr.contains("found no libraries.list"), "{}", ran.stderr);
    assert_eq!(place.kuz(&["init", "gone"]).code, 3);
}
