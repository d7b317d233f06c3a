//! Credentials stay with the host and port that they were stored for.

use kuz_image::platform::Platform;
use kuz_registry::{Class, Client, CredentialPaths};
use kuz_testkit::registry::{Access, Action, Bearer, Fault, TestImage, TestRegistry};

use super::fixture::{auth_file, chain, config, descriptor, image, noise, plain, reference, silent};

/// A registry with credentials, another without, and a client that knows the first one's.
struct Scene {
    home: TestRegistry,
    away: TestRegistry,
    client: Client,
    _folder: tempfile::TempDir,
}

fn scene(access: Access, more: &str) -> Scene {
    let (home, away) = (TestRegistry::start().unwrap(), TestRegistry::start().unwrap());
    home.set_access(access);
    let folder = tempfile::tempdir().unwrap();
    let paths = auth_file(&folder, &[&home.host()]);
    let text = format!("{}{}\n{}", plain(&home), more.replace("AWAY", &away.port().to_string()), plain(&away));
    let client = Client::new(config(&text), paths).unwrap();
    Scene { home, away, client, _folder: folder }
}

fn accesses() -> [Access; 2] {
    let bearer = Bearer { anonymous_pull: false, ..Bearer::default() };
    [Access::Basic { user: "ada".into(), password: "hunter2".into() }, Access::Bearer(bearer)]
}

/// Nothing of what the other registry was sent is a secret.
fn assert_clean(away: &TestRegistry, asked: bool) {
    let log = away.log();
    assert_eq!(!log.is_empty(), asked);
    for entry in log {
        let shown = format!("{entry:?}");
        assert_eq!(entry.header("authorization"), None, "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("YWRhOmh1bnRlcjI"), "{shown}");
    }
}

#[tokio::test]
async fn redirects_of_downloads_carry_none() {
    let layer = noise(1000);
    for status in [301, 302, 303, 307, 308] {
        for access in accesses() {
            let scene = scene(access, "");
            scene.home.put_blob("a", &layer);
            scene.home.put_image("a", "1", &TestImage::new(vec![])).unwrap();
            scene.away.put_blob("a", &layer);
            let wanted = descriptor(&layer);
            let to = format!("http://{}/v2/a/blobs/{}?sig=x", scene.away.host(), wanted.digest);
            scene.home.fault(Fault::on("/blobs/", Action::Unauthorized).times(1));
            scene.home.fault(Fault::on("/blobs/", Action::Redirect(status, to)));
            let mut sink = Vec::new();
            scene.client.fetch_blob(&reference(&scene.home, "a"), &wanted, &mut sink).await.unwrap();
            assert_eq!(sink, layer);
            assert!(scene.home.log().iter().any(|entry| entry.header("authorization").is_some()));
            assert_clean(&scene.away, true);
        }
    }
}

#[tokio::test]
async fn an_unauthorised_storage_host_gets_none_either() {
    let layer = noise(10);
    for access in accesses() {
        let scene = scene(access, "");
        let to = format!("http://{}/v2/a/blobs/x", scene.away.host());
        scene.home.fault(Fault::on("/blobs/", Action::Redirect(307, to)));
        scene.away.set_access(Access::Basic { user: "ada".into(), password: "hunter2".into() });
        let target = reference(&scene.home, "a");
        let error = scene.client.fetch_blob(&target, &descriptor(&layer), &mut Vec::new()).await.unwrap_err();
        assert!(chain(&error).contains("where the registry redirected to"), "{}", chain(&error));
        assert_clean(&scene.away, true);
    }
}

#[tokio::test]
async fn redirected_uploads_carry_none() {
    let layer = noise(1000);
    for access in accesses() {
        for (method, part) in [("POST", "/uploads/"), ("PUT", "/uploads/"), ("HEAD", "/blobs/"), ("PUT", "/manifests/")]
        {
            let scene = scene(access.clone(), "");
            let to = format!("http://{}/v2/a{part}stolen", scene.away.host());
            scene.home.fault(Fault::on(part, Action::Redirect(307, to)).method(method));
            let (image, source) = image(&layer);
            let got = scene.client.push(&reference(&scene.home, "a:1"), &image, &source, &silent()).await;
            drop(got);
            assert_clean(&scene.away, true);
        }
    }
}

#[tokio::test]
async fn an_upload_location_elsewhere_gets_the_blob_but_no_credentials() {
    let layer = noise(1000);
    for access in accesses() {
        let scene = scene(access, "");
        let to = format!("http://{}/v2/a/blobs/uploads/x", scene.away.host());
        scene.home.fault(Fault::on("/uploads/", Action::Location(to)).method("POST"));
        let (image, source) = image(&layer);
        let got = scene.client.push(&reference(&scene.home, "a:1"), &image, &source, &silent()).await;
        assert!(got.is_err());
        assert_clean(&scene.away, true);
    }
}

fn foreign_realm(anonymous_pull: bool) -> Access {
    Access::Bearer(Bearer { anonymous_pull, realm: Some("REALM".into()), ..Bearer::default() })
}

#[tokio::test]
async fn a_realm_elsewhere_gets_nothing_until_the_user_says_so() {
    // By another name, as another host: `localhost` is not `127.0.0.1`.
    let with_realm = |scene: &Scene| {
        let realm = format!("http://localhost:{}/token", scene.away.port());
        scene.home.put_image("a", "1", &TestImage::new(vec![])).unwrap();
        scene.home.set_access(Access::Bearer(Bearer { realm: Some(realm), ..Bearer::default() }));
        scene.away.set_access(Access::Bearer(Bearer::default()));
    };
    let refused = scene(foreign_realm(false), "");
    with_realm(&refused);
    let error = refused.client.resolve(&reference(&refused.home, "a:1"), &Platform::host()).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    let line = format!("[registry.\"{}\"] auth = [\"localhost:{}\"]", refused.home.host(), refused.away.port());
    assert!(chain(&error).contains(&line), "{}", chain(&error));
    assert_clean(&refused.away, false);

    let allowed = scene(foreign_realm(false), "auth = [\"localhost:AWAY\"]");
    with_realm(&allowed);
    let error = allowed.client.resolve(&reference(&allowed.home, "a:1"), &Platform::host()).await.unwrap_err();
    // The other registry's tokens aren't good here, but it was asked, with the credentials.
    assert_eq!(error.class(), Class::Unauthorized, "{}", chain(&error));
    assert!(allowed.away.log().iter().any(|entry| entry.header("authorization").is_some()));
}

#[tokio::test]
async fn a_redirected_token_request_is_refused() {
    for (method, content) in [("GET", r#"{"auth":"YWRhOmh1bnRlcjI="}"#), ("POST", r#"{"identitytoken":"hunter2"}"#)] {
        for status in [302, 307, 308] {
            let (home, away) = (TestRegistry::start().unwrap(), TestRegistry::start().unwrap());
            home.set_access(Access::Bearer(Bearer { anonymous_pull: false, ..Bearer::default() }));
            home.fault(
                Fault::on("/token", Action::Redirect(status, format!("http://{}/token", away.host()))).method(method),
            );
            let folder = tempfile::tempdir().unwrap();
            let content = format!(r#"{{"auths":{{"{}":{content}}}}}"#, home.host());
            let paths = super::fixture::write_file(&folder, &content);
            let client = Client::new(config(&plain(&home)), paths).unwrap();
            let error = client.resolve(&reference(&home, "a:1"), &Platform::host()).await.unwrap_err();
            assert_eq!(error.class(), Class::Refused, "{}", chain(&error));
            assert_clean(&away, false);
        }
    }
}

#[tokio::test]
async fn a_mirror_gets_its_own_credentials_only() {
    let mirror = TestRegistry::start().unwrap();
    mirror.put_image("library/python", "3", &TestImage::new(vec![])).unwrap();
    mirror.set_access(Access::Basic { user: "ada".into(), password: "hunter2".into() });
    let text =
        format!("[registry.\"docker.io\"]\nmirrors = [\"{}\"]\norigin = false\n{}", mirror.host(), plain(&mirror));
    for (key, good) in [("https://index.docker.io/v1/".to_owned(), false), (mirror.host(), true)] {
        mirror.clear_log();
        let folder = tempfile::tempdir().unwrap();
        let client = Client::new(config(&text), auth_file(&folder, &[&key])).unwrap();
        let got = client.resolve(&"python:3".parse().unwrap(), &Platform::host()).await;
        assert_eq!(got.is_ok(), good, "{key}");
        if !good {
            assert_clean(&mirror, true);
        }
    }
}

#[tokio::test]
async fn https_is_never_left_for_http() {
    let (home, away) = (TestRegistry::start_tls().unwrap(), TestRegistry::start().unwrap());
    let layer = noise(100);
    away.put_blob("a", &layer);
    let wanted = descriptor(&layer);
    let to = format!("http://{}/v2/a/blobs/{}", away.host(), wanted.digest);
    home.fault(Fault::on("/blobs/sha256", Action::Redirect(307, to)));
    home.fault(Fault::on("/uploads/", Action::Location(format!("http://{}/v2/a/blobs/uploads/x", away.host()))));
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, home.ca_pem().unwrap()).unwrap();
    let text = format!("[registry.\"{}\"]\nca = [\"{}\"]\n", home.host(), ca.display());
    let client = Client::new(config(&text), CredentialPaths::default()).unwrap();
    let target = reference(&home, "a:1");
    let error = client.fetch_blob(&target, &wanted, &mut Vec::new()).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(chain(&error).contains("from https to plain http"), "{}", chain(&error));
    home.clear_faults();
    home.fault(Fault::on("/uploads/", Action::Location(format!("http://{}/v2/a/blobs/uploads/x", away.host()))));
    let (image, source) = image(&layer);
    let error = client.push(&target, &image, &source, &silent()).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused, "{}", chain(&error));
    home.clear_faults();
    home.set_access(Access::Bearer(Bearer {
        realm: Some(format!("http://{}/token", away.host())),
        ..Bearer::default()
    }));
    let error = client.resolve(&target, &Platform::host()).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused, "{}", chain(&error));
    assert!(away.log().is_empty());
}
