//! Each fault, in each phase: the right result, or a clear error of the right class.

use std::time::Duration;

use kuz_image::platform::Platform;
use kuz_registry::{Class, Client, CredentialPaths};
use kuz_testkit::registry::{Action, Fault, TestImage, TestRegistry};

use super::fixture::{self, chain, config, image, impatient, noise, plain, reference, silent, timing};

/// What is to come of it; `Err` with a part of the message.
type Want = Result<(), (Class, &'static str)>;

const OK: Want = Ok(());
const LAYER: usize = 300_000;

fn err(class: Class, part: &'static str) -> Want {
    Err((class, part))
}

fn always(action: Action) -> (Action, usize) {
    (action, usize::MAX)
}

fn once(action: Action) -> (Action, usize) {
    (action, 1)
}

fn never_ends(action: &Action) -> bool {
    matches!(action, Action::Hang | Action::StallAfter(_))
}

fn make_client(registry: &TestRegistry, action: &Action) -> Client {
    let timing = if never_ends(action) { impatient() } else { timing() };
    let config = kuz_registry::RegistryConfig { timing, ..config(&plain(registry)) };
    Client::new(config, CredentialPaths::default()).unwrap()
}

fn check(name: &str, got: Result<(), kuz_registry::RegistryError>, want: Want) {
    match (got, want) {
        (Ok(()), Ok(())) => {}
        (Err(error), Err((class, part))) => {
            let text = chain(&error);
            assert_eq!(error.class(), class, "{name}: {text}");
            assert!(text.contains(part), "{name}: {text}");
            assert!(text.contains("127.0.0.1:") && text.contains("team/app"), "{name}: {text}");
        }
        (got, want) => panic!("{name}: got {:?}, want {want:?}", got.map_err(|error| chain(&error))),
    }
}

/// The rows that hold for a manifest and a blob alike.
fn shared() -> Vec<((Action, usize), Want)> {
    vec![
        (once(Action::Status(500)), OK),
        (once(Action::Status(408)), OK),
        (once(Action::RetryAfter(429, "1".into())), OK),
        (once(Action::RetryAfter(503, "Fri, 15 May 2015 15:34:21 GMT".into())), OK),
        (always(Action::Status(503)), err(Class::Protocol, "unexpected answer (503)")),
        (always(Action::RetryAfter(429, "9999".into())), err(Class::Protocol, "(429): TOOMANYREQUESTS: slow down")),
        (always(Action::Status(501)), err(Class::Protocol, "(501)")),
        (always(Action::Status(404)), err(Class::NotFound, "not found (404)")),
        (always(Action::Status(401)), err(Class::Unauthorized, "kuz login")),
        (always(Action::Status(403)), err(Class::Denied, "repository:team/app:pull")),
        (always(Action::Html), err(Class::Protocol, "a web page instead of a")),
        (once(Action::Close), OK),
        (always(Action::Close), err(Class::Unreachable, "connection broke off")),
        (once(Action::Hang), OK),
        (always(Action::Hang), err(Class::Unreachable, "s for an answer")),
        (once(Action::CutAfter(40)), OK),
        (always(Action::CutAfter(0)), err(Class::Unreachable, "connection broke off")),
        (once(Action::StallAfter(40)), OK),
        (always(Action::StallAfter(0)), err(Class::Unreachable, "s for the next bytes")),
        (once(Action::Chunked), OK),
        (always(Action::Redirect(302, "/v2/again".into())), err(Class::NotFound, "not found")),
        (always(Action::Redirect(307, "ftp://x/".into())), err(Class::Refused, "ftp")),
        (always(Action::Redirect(307, "http://u:p@x/".into())), err(Class::Refused, "name or password")),
    ]
}

#[tokio::test]
async fn manifests() {
    let wrong = format!("sha256:{}", "0".repeat(64));
    let mut rows = shared();
    rows.extend([
        (always(Action::Corrupt), err(Class::DigestMismatch, "manifest has digest")),
        (always(Action::Longer(5)), err(Class::DigestMismatch, "manifest has digest")),
        (always(Action::Shorter(5)), err(Class::DigestMismatch, "manifest has digest")),
        (always(Action::Longer(5 << 20)), err(Class::Limit, "over the limit of 4194304 bytes")),
        (always(Action::DigestHeader(String::new())), OK),
        (always(Action::DigestHeader("sha256:zz".into())), err(Class::Protocol, "Docker-Content-Digest")),
        (always(Action::DigestHeader(wrong)), err(Class::DigestMismatch, "manifest has digest")),
        (always(Action::Answer(200, vec![], b"{}".to_vec())), err(Class::Protocol, "manifest cannot be used")),
        (always(Action::Answer(200, vec![], b"[[[".to_vec())), err(Class::Protocol, "manifest cannot be used")),
    ]);
    for ((action, times), want) in rows {
        let registry = TestRegistry::start().unwrap();
        registry.put_image("team/app", "1", &TestImage::new(vec![noise(100)])).unwrap();
        registry.fault(Fault::on("/manifests/", action.clone()).times(times));
        let client = make_client(&registry, &action);
        let got = client.resolve(&reference(&registry, "team/app:1"), &Platform::host()).await;
        check(&format!("{action:?} x {times}"), got.map(|_| ()), want);
    }
}

#[tokio::test]
async fn blobs() {
    let layer = noise(LAYER);
    let mut rows = shared();
    rows.extend([
        (once(Action::CutAfter(100_000)), OK),
        (once(Action::StallAfter(100_000)), OK),
        (always(Action::Corrupt), err(Class::DigestMismatch, "blob has digest")),
        (always(Action::Longer(5)), err(Class::DigestMismatch, "blob has 300005 bytes, not 300000")),
        (always(Action::Shorter(5)), err(Class::DigestMismatch, "blob has 299995 bytes, not 300000")),
        (always(Action::DigestHeader(String::new())), OK),
    ]);
    for ((action, times), want) in rows {
        let registry = TestRegistry::start().unwrap();
        registry.put_blob("team/app", &layer);
        registry.fault(Fault::on("/blobs/", action.clone()).times(times));
        let client = make_client(&registry, &action);
        let mut sink = Vec::new();
        let got = client.fetch_blob(&reference(&registry, "team/app"), &fixture::descriptor(&layer), &mut sink).await;
        if got.is_ok() {
            assert_eq!(sink, layer, "{action:?}");
        }
        check(&format!("{action:?} x {times}"), got, want);
    }
}

#[tokio::test]
async fn ranges() {
    let layer = noise(LAYER);
    let cut = || Fault::on("/blobs/", Action::CutAfter(100_000)).times(1);
    let second = |action: Action| Fault::on("/blobs/", action);
    for (name, faults, want) in [
        ("200 to a range", vec![cut(), second(Action::IgnoreRange)], OK),
        ("206 of another range", vec![cut(), second(Action::WrongRange)], OK),
        ("416", vec![cut(), second(Action::Status(416)).times(1)], OK),
        ("the rest is corrupt once", vec![cut(), second(Action::Corrupt).times(1)], OK),
        ("cut, then cut again", vec![cut(), cut(), cut(), cut(), cut(), cut(), cut()], OK),
        ("always corrupt", vec![cut(), second(Action::Corrupt)], err(Class::DigestMismatch, "blob has digest")),
    ] {
        let registry = TestRegistry::start().unwrap();
        registry.put_blob("team/app", &layer);
        for fault in faults {
            registry.fault(fault);
        }
        let client = make_client(&registry, &Action::Close);
        let mut sink = Vec::new();
        let got = client.fetch_blob(&reference(&registry, "team/app"), &fixture::descriptor(&layer), &mut sink).await;
        if got.is_ok() {
            assert_eq!(sink, layer, "{name}");
        }
        if name.starts_with("206") {
            let last = registry.log().pop().unwrap();
            assert_eq!((registry.log().len(), last.header("range")), (3, None), "{name}: bytes of nowhere were taken");
        }
        check(name, got, want);
    }
}

#[tokio::test]
async fn uploads() {
    let layer = noise(LAYER);
    let rows: Vec<(&str, &str, (Action, usize), Want)> = vec![
        ("HEAD", "/blobs/", once(Action::Status(500)), OK),
        ("HEAD", "/blobs/", always(Action::Status(403)), err(Class::Denied, "repository:team/app:pull,push")),
        ("POST", "/uploads/", once(Action::Status(502)), OK),
        ("POST", "/uploads/", once(Action::RetryAfter(429, "0".into())), OK),
        ("POST", "/uploads/", once(Action::Close), OK),
        ("POST", "/uploads/", always(Action::Status(401)), err(Class::Unauthorized, "without credentials")),
        ("POST", "/uploads/", always(Action::Status(403)), err(Class::Denied, "DENIED")),
        ("POST", "/uploads/", always(Action::Html), err(Class::Protocol, "a page for people")),
        ("POST", "/uploads/", always(Action::Answer(202, vec![], vec![])), err(Class::Protocol, "Location")),
        ("POST", "/uploads/", always(Action::Location("http://u:p@x/".into())), err(Class::Refused, "password")),
        ("PUT", "/uploads/", once(Action::Status(500)), OK),
        ("PUT", "/uploads/", once(Action::Status(404)), OK),
        ("PUT", "/uploads/", once(Action::Close), OK),
        ("PUT", "/uploads/", once(Action::Hang), OK),
        ("PUT", "/uploads/", once(Action::CutUpload(10)), OK),
        ("PUT", "/uploads/", always(Action::Status(413)), err(Class::Protocol, "(413)")),
        ("PUT", "/uploads/", always(Action::Close), err(Class::Unreachable, "connection broke off")),
        (
            "PUT",
            "/uploads/",
            always(Action::DigestHeader(format!("sha256:{}", "0".repeat(64)))),
            err(Class::DigestMismatch, "the registry stored"),
        ),
        ("PUT", "/manifests/", once(Action::Status(500)), OK),
        ("PUT", "/manifests/", once(Action::Close), OK),
        ("PUT", "/manifests/", always(Action::Status(403)), err(Class::Denied, "pull,push")),
        ("PUT", "/manifests/", always(Action::Status(400)), err(Class::Protocol, "(400)")),
        (
            "PUT",
            "/manifests/",
            always(Action::DigestHeader(format!("sha256:{}", "0".repeat(64)))),
            err(Class::DigestMismatch, "the registry stored"),
        ),
    ];
    for (method, part, (action, times), want) in rows {
        let registry = TestRegistry::start().unwrap();
        registry.fault(Fault::on(part, action.clone()).method(method).times(times));
        let client = make_client(&registry, &action);
        let (image, source) = image(&layer);
        let target = reference(&registry, "team/app:1");
        let got = client.push(&target, &image, &source, &silent()).await;
        let name = format!("{method} {part} {action:?} x {times}");
        if got.is_ok() {
            assert_eq!(registry.manifest("team/app", "1").map(|(_, bytes)| bytes), Some(image.manifest), "{name}");
            assert_eq!(registry.blob("team/app", &kuz_image::digest::Digest::of(&layer)).unwrap(), layer, "{name}");
        }
        check(&name, got.map(|_| ()), want);
    }
}

#[tokio::test]
async fn a_dead_registry_is_said_to_be_dead() {
    let registry = TestRegistry::start().unwrap();
    let (client, target) = (make_client(&registry, &Action::Close), reference(&registry, "team/app:1"));
    drop(registry);
    let began = std::time::Instant::now();
    let got = client.resolve(&target, &Platform::host()).await;
    check("nobody listens", got.map(|_| ()), err(Class::Unreachable, "Connection refused"));
    assert!(began.elapsed() < Duration::from_secs(5));
}
