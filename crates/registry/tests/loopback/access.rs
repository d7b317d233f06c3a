//! Credentials and tokens: what is asked for, how often, and what is said when it isn't enough.

use kuz_image::platform::Platform;
use kuz_registry::{Class, Client, Credential, CredentialPaths, Secret};
use kuz_testkit::registry::{Access, Action, Bearer, Fault, TestImage, TestRegistry};

use super::fixture::{auth_file, chain, config, descriptor, image, noise, plain, reference, silent, write_file};

fn basic() -> Access {
    Access::Basic { user: "ada".into(), password: "hunter2".into() }
}

fn private() -> Bearer {
    Bearer { anonymous_pull: false, ..Bearer::default() }
}

fn start(access: Access) -> TestRegistry {
    let registry = TestRegistry::start().unwrap();
    registry.put_image("team/app", "1", &TestImage::new(vec![noise(100)])).unwrap();
    registry.set_access(access);
    registry
}

fn client(registry: &TestRegistry, credentials: CredentialPaths) -> Client {
    Client::new(config(&plain(registry)), credentials).unwrap()
}

#[tokio::test]
async fn every_kind_of_credential_opens_its_registry() {
    let refreshing = Bearer { refresh_token: Some("refresh-me".into()), ..private() };
    let other_field = Bearer { field: "access_token".into(), expires_in: None, ..private() };
    let entry = |registry: &TestRegistry, content: &str| format!(r#"{{"auths":{{"{}":{content}}}}}"#, registry.host());
    for (name, access, content) in [
        ("open", Access::Open, "{}"),
        ("basic", basic(), r#"{"auth":"YWRhOmh1bnRlcjI="}"#),
        ("anonymous bearer", Access::Bearer(Bearer::default()), "{}"),
        ("bearer", Access::Bearer(private()), r#"{"auth":"YWRhOmh1bnRlcjI="}"#),
        ("access_token, no expiry", Access::Bearer(other_field), r#"{"username":"ada","password":"hunter2"}"#),
        ("identity token", Access::Bearer(refreshing), r#"{"identitytoken":"refresh-me"}"#),
    ] {
        let registry = start(access);
        let folder = tempfile::tempdir().unwrap();
        let client = client(&registry, write_file(&folder, &entry(&registry, content)));
        let got = client.resolve(&reference(&registry, "team/app:1"), &Platform::host()).await;
        assert!(got.is_ok(), "{name}: {}", chain(&got.unwrap_err()));
    }
}

#[tokio::test]
async fn a_refusal_says_as_whom_and_never_the_secret() {
    for access in [basic(), Access::Bearer(private())] {
        let registry = start(access);
        let target = reference(&registry, "team/app:1");
        let error =
            client(&registry, CredentialPaths::default()).resolve(&target, &Platform::host()).await.unwrap_err();
        assert_eq!(error.class(), Class::Unauthorized);
        assert!(chain(&error).contains("without credentials"), "{}", chain(&error));
        let folder = tempfile::tempdir().unwrap();
        let content = format!(r#"{{"auths":{{"{}":{{"auth":"ZXZlOndyb25ncGFzcw=="}}}}}}"#, registry.host());
        let paths = write_file(&folder, &content);
        let echo = br#"{"errors":[{"code":"X","message":"bad ZXZlOndyb25ncGFzcw== wrongpass"}]}"#.to_vec();
        registry.fault(Fault::on("/token", Action::Answer(401, vec![], echo)));
        let error = client(&registry, paths).resolve(&target, &Platform::host()).await.unwrap_err();
        let text = format!("{} {error:?}", chain(&error));
        assert_eq!(error.class(), Class::Unauthorized, "{text}");
        assert!(text.contains("as `eve`") && text.contains("config.json"), "{text}");
        assert!(!text.contains("wrongpass") && !text.contains("ZXZlOndyb25ncGFzcw"), "{text}");
    }
}

#[tokio::test]
async fn tokens_are_fetched_once_and_shared() {
    let registry = start(Access::Bearer(Bearer::default()));
    let layer = noise(1000);
    registry.put_blob("team/app", &layer);
    let client = client(&registry, CredentialPaths::default());
    let target = reference(&registry, "team/app:1");
    client.resolve(&target, &Platform::host()).await.unwrap();
    let fetches: Vec<_> = (0..8)
        .map(|_| {
            let (client, target, wanted) = (client.clone(), target.clone(), descriptor(&layer));
            tokio::spawn(async move { client.fetch_blob(&target, &wanted, &mut Vec::new()).await.unwrap() })
        })
        .collect();
    for fetch in fetches {
        fetch.await.unwrap();
    }
    assert_eq!(registry.count("GET", "/token"), 1);
    let challenged = registry.log().iter().filter(|entry| entry.status == 401).count();
    assert_eq!(challenged, 1, "only the first request goes without a token");
}

#[tokio::test]
async fn an_expired_token_is_replaced_in_the_middle() {
    let registry = start(Access::Bearer(Bearer { uses: 1, ..Bearer::default() }));
    let client = client(&registry, CredentialPaths::default());
    client.resolve(&reference(&registry, "team/app:1"), &Platform::host()).await.unwrap();
    assert_eq!(registry.count("GET", "/token"), 2, "one for the manifest, one for the config");
    // But a registry that never takes a token is not asked forever.
    registry.set_access(Access::Bearer(Bearer { uses: 0, ..Bearer::default() }));
    registry.clear_log();
    let error = client.resolve(&reference(&registry, "team/app:1"), &Platform::host()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unauthorized);
    assert!(registry.log().len() <= 4, "{:?}", registry.log());
}

#[tokio::test]
async fn a_token_server_that_stumbles_is_asked_again() {
    for (action, times, class) in [
        (Action::Status(503), 2, None),
        (Action::RetryAfter(429, "0".into()), 1, None),
        (Action::Close, 1, None),
        (Action::Status(503), usize::MAX, Some(Class::Protocol)),
        (Action::Html, usize::MAX, Some(Class::Protocol)),
        (Action::Answer(200, vec![], b"{}".to_vec()), usize::MAX, Some(Class::Protocol)),
        (Action::Answer(200, vec![], br#"{"token":"a\nb"}"#.to_vec()), usize::MAX, Some(Class::Protocol)),
        (Action::Longer(2 << 20), usize::MAX, Some(Class::Limit)),
    ] {
        let registry = start(Access::Bearer(Bearer::default()));
        registry.fault(Fault::on("/token", action.clone()).times(times));
        let got = client(&registry, CredentialPaths::default())
            .resolve(&reference(&registry, "team/app:1"), &Platform::host())
            .await;
        let text = got.as_ref().err().map(|error| chain(error));
        assert_eq!(got.err().map(|error| error.class()), class, "{action:?} {text:?}");
        assert!(text.is_none_or(|text| text.contains("token server 127.0.0.1:")), "{action:?}");
    }
}

#[tokio::test]
async fn a_name_and_password_are_posted_where_get_is_not_served() {
    let registry = start(Access::Bearer(private()));
    registry.fault(Fault::on("/token", Action::Status(405)).method("GET"));
    let folder = tempfile::tempdir().unwrap();
    let client = client(&registry, auth_file(&folder, &[&registry.host()]));
    client.resolve(&reference(&registry, "team/app:1"), &Platform::host()).await.unwrap();
    assert_eq!(registry.count("POST", "/token"), 1);
}

#[tokio::test]
async fn a_push_asks_for_its_scopes() {
    let registry = start(Access::Bearer(private()));
    let folder = tempfile::tempdir().unwrap();
    let client = client(&registry, auth_file(&folder, &[&registry.host()]));
    let (image, source) = image(&noise(1000));
    client.push(&reference(&registry, "team/new:1"), &image, &source, &silent()).await.unwrap();
    let query = registry.log().iter().find(|entry| entry.path == "/token").unwrap().query.clone();
    assert!(query.contains("scope=repository%3Ateam%2Fnew%3Apull%2Cpush"), "{query}");
    assert_eq!(registry.count("GET", "/token"), 1);
}

#[tokio::test]
async fn logins_are_verified() {
    let good = Credential::Password { username: "ada".into(), password: Secret::new("hunter2") };
    let bad = Credential::Password { username: "ada".into(), password: Secret::new("letmein") };
    for access in [basic(), Access::Bearer(private())] {
        let registry = start(access);
        let client = client(&registry, CredentialPaths::default());
        client.verify_login(&registry.host(), &good).await.unwrap();
        let error = client.verify_login(&registry.host(), &bad).await.unwrap_err();
        assert_eq!(error.class(), Class::Unauthorized);
        assert!(!chain(&error).contains("letmein"), "{}", chain(&error));
    }
}

#[tokio::test]
async fn push_permission_is_checked_beforehand() {
    let registry = start(Access::Bearer(Bearer::default()));
    let target = reference(&registry, "team/app:1");
    let error = client(&registry, CredentialPaths::default()).check_push(&target).await.unwrap_err();
    assert_eq!(error.class(), Class::Unauthorized);
    assert!(chain(&error).contains("repository:team/app:pull,push"), "{}", chain(&error));
    let folder = tempfile::tempdir().unwrap();
    client(&registry, auth_file(&folder, &[&registry.host()])).check_push(&target).await.unwrap();
    assert_eq!(registry.count("DELETE", "/uploads/"), 1);
}
