//! Credential files and helpers, as they are read and written.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use kuz_image::platform::Platform;
use kuz_registry::credentials::{Stored, login, logout};
use kuz_registry::{Class, Client, Credential, CredentialPaths, Secret};
use kuz_testkit::registry::{Access, Action, Fault, TestImage, TestRegistry};

use super::fixture::{chain, config, plain, reference, write_file};

const WAIT: Duration = Duration::from_secs(20);

fn ada() -> Credential {
    Credential::Password { username: "ada".into(), password: Secret::new("hunter2") }
}

#[tokio::test]
async fn a_login_changes_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let paths = write_file(
        &folder,
        r#"{"zeta":1,"auths":{"quay.io":{"auth":"eDp5"},"https://reg.example/v2/":{"auth":"b2xkOm9sZA=="}},"detachKeys":"ctrl-e"}"#,
    );
    let path = paths.docker_config.clone().unwrap();
    assert_eq!(login(&paths, "reg.example", &ada(), WAIT).await.unwrap(), Stored::File(path.clone()));
    login(&paths, "docker.io", &ada(), WAIT).await.unwrap();
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        written,
        serde_json::json!({"zeta": 1, "detachKeys": "ctrl-e", "auths": {
            "quay.io": {"auth": "eDp5"},
            "reg.example": {"auth": "YWRhOmh1bnRlcjI="},
            "https://index.docker.io/v1/": {"auth": "YWRhOmh1bnRlcjI="},
        }})
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(logout(&paths, "index.docker.io", WAIT).await.unwrap());
    assert!(!logout(&paths, "docker.io", WAIT).await.unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("index.docker.io") && text.contains("reg.example") && text.contains("ctrl-e"), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[tokio::test]
async fn a_first_login_makes_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let variable = |name: &str| (name == "HOME").then(|| home.clone().into_os_string());
    let paths = CredentialPaths::from_variables(variable);
    login(&paths, "quay.io", &ada(), WAIT).await.unwrap();
    let made = home.join(".docker");
    assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(made.join("config.json")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(login(&CredentialPaths::default(), "quay.io", &ada(), WAIT).await.is_err());
}

#[tokio::test]
async fn a_link_to_the_file_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("dotfiles.json");
    std::fs::write(&real, "{}").unwrap();
    let link = folder.path().join("config.json");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let paths = CredentialPaths { docker_config: Some(link.clone()), ..CredentialPaths::default() };
    login(&paths, "quay.io", &ada(), WAIT).await.unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(std::fs::read_to_string(&real).unwrap().contains("quay.io"));
}

#[tokio::test]
async fn a_broken_file_is_an_error_and_stays_as_it_is() {
    for content in ["{\"auths\": hunter2", "[]", "{\"auths\":3}"] {
        let folder = tempfile::tempdir().unwrap();
        let paths = write_file(&folder, content);
        let error = login(&paths, "quay.io", &ada(), WAIT).await.unwrap_err();
        assert!(chain(&error).contains("config.json") && !chain(&error).contains("hunter2"), "{}", chain(&error));
        assert_eq!(std::fs::read_to_string(paths.docker_config.unwrap()).unwrap(), content);
    }
    // Nor does a pull go on without what the file may have held.
    let registry = TestRegistry::start().unwrap();
    registry.set_access(Access::Basic { user: "ada".into(), password: "hunter2".into() });
    let folder = tempfile::tempdir().unwrap();
    let client = Client::new(config(&plain(&registry)), write_file(&folder, "{")).unwrap();
    let error = client.resolve(&reference(&registry, "a:1"), &Platform::host()).await.unwrap_err();
    assert_eq!(error.class(), Class::Config, "{}", chain(&error));
}

const HELPER: &str = r#"#!/bin/sh
input=$(cat)
echo "$1 $input" >> "$(dirname "$0")/log"
case "$1 $input" in
  "get 127.0.0.1:"*) echo '{"ServerURL":"x","Username":"ada","Secret":"hunter2"}' ;;
  "get broken.example") echo "the vault is locked"; exit 1 ;;
  "get slow.example") sleep 60 ;;
  get*) echo "credentials not found in native keychain"; exit 1 ;;
esac
"#;

/// One test for all that starts programs: a script must not be open for writing in a child while it's started.
#[tokio::test]
async fn helpers() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("docker-credential-vault");
    std::fs::write(&program, HELPER).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let heard = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let mut paths = write_file(&folder, r#"{"credsStore":"vault","credHelpers":{"gone.example":"gone"}}"#);
    paths.programs = Some(folder.path().as_os_str().to_owned());

    let registry = TestRegistry::start().unwrap();
    registry.put_image("a", "1", &TestImage::new(vec![])).unwrap();
    registry.set_access(Access::Basic { user: "ada".into(), password: "hunter2".into() });
    let client = Client::new(config(&plain(&registry)), paths.clone()).unwrap();
    client.resolve(&reference(&registry, "a:1"), &Platform::host()).await.unwrap();
    assert!(heard().starts_with(&format!("get {}", registry.host())), "{}", heard());

    // The secret goes to the helper, the file only notes that there is one.
    let stored = login(&paths, "reg.example", &ada(), WAIT).await.unwrap();
    assert_eq!(stored, Stored::Helper("vault".to_owned()));
    assert!(heard().contains(r#""ServerURL":"reg.example","Username":"ada","Secret":"hunter2""#), "{}", heard());
    let text = std::fs::read_to_string(paths.docker_config.clone().unwrap()).unwrap();
    assert!(text.contains("\"reg.example\": {}") && !text.contains("YWRhOmh1bnRlcjI"), "{text}");
    logout(&paths, "reg.example", WAIT).await.unwrap();
    assert!(heard().contains("erase reg.example"), "{}", heard());

    // A helper that fails is told of, and leaves the caller anonymous.
    let proxy = TestRegistry::start().unwrap();
    for (host, part) in [
        ("broken.example", "`docker-credential-vault` failed: the vault is locked"),
        ("gone.example", "`docker-credential-gone` is not installed"),
        ("slow.example", "did not answer within"),
    ] {
        let challenge = vec![("www-authenticate".to_owned(), "Basic realm=x".to_owned())];
        proxy.clear_faults();
        proxy.fault(Fault::on("/v2/", Action::Answer(401, challenge, vec![])));
        let mut config = config(&format!("[registry.\"{host}\"]\nhttp = true\n"));
        config.proxy.http = Some(format!("http://{}", proxy.host()));
        config.timing.helper = Duration::from_secs(if host == "slow.example" { 1 } else { 20 });
        let client = Client::new(config, paths.clone()).unwrap();
        let error = client.resolve(&format!("{host}/a:1").parse().unwrap(), &Platform::host()).await.unwrap_err();
        assert_eq!(error.class(), Class::Unauthorized, "{host}: {}", chain(&error));
        assert!(chain(&error).contains(part), "{host}: {}", chain(&error));
        let notes = client.take_notes();
        assert!(notes.len() == 1 && notes[0].contains(part), "{host}: {notes:?}");
    }
}
