//! Resolving and fetching: platforms, mirrors, resuming, TLS.

use std::time::Duration;

use kuz_image::digest::Digest;
use kuz_image::manifest::{Descriptor, Index, media_type};
use kuz_image::platform::Platform;
use kuz_image::reference::Reference;
use kuz_registry::{Class, Client, CredentialPaths, RegistryConfig};
use kuz_testkit::registry::{Action, Fault, Squeeze, TestImage, TestRegistry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fixture::{chain, client, config, descriptor, noise, plain, reference};

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

#[tokio::test]
async fn images_of_every_form_are_resolved() {
    for (docker, index, squeeze) in [
        (false, false, Squeeze::Gzip),
        (true, false, Squeeze::Plain),
        (false, true, Squeeze::Zstd),
        (true, true, Squeeze::Gzip),
    ] {
        let registry = TestRegistry::start().unwrap();
        let platforms = vec![platform("linux/amd64"), platform("linux/arm64")];
        let image = TestImage {
            docker,
            index,
            squeeze,
            platforms: if index { platforms } else { vec![platform("linux/amd64")] },
            ..TestImage::new(vec![noise(2000), noise(3000)])
        };
        let put = registry.put_image("team/app", "1", &image).unwrap();
        let client = client(&registry);
        let target = reference(&registry, "team/app:1");
        let found = client.resolve(&target, &platform("linux/amd64")).await.unwrap();
        assert_eq!(found.manifest_digest, put.manifests[0]);
        assert_eq!(Digest::of(&found.manifest_bytes), put.manifests[0]);
        assert_eq!(found.index_digest.is_some(), index);
        assert_eq!(found.digest(), &put.digest);
        assert_eq!(found.manifest.config.digest, put.configs[0]);
        assert_eq!(Digest::of(&found.config_bytes), put.configs[0]);
        assert_eq!(found.config.rootfs.diff_ids, put.diff_ids);
        assert_eq!(found.media_type == media_type::DOCKER_MANIFEST, docker);
        assert_eq!(client.resolve_digest(&target).await.unwrap(), put.digest);
        let pinned = target.with_digest(put.digest.clone());
        assert_eq!(client.resolve(&pinned, &platform("linux/amd64")).await.unwrap().manifest_digest, put.manifests[0]);
    }
}

#[tokio::test]
async fn a_missing_platform_lists_what_there_is() {
    let registry = TestRegistry::start().unwrap();
    let platforms = vec![platform("linux/amd64"), platform("linux/arm64")];
    registry.put_image("a", "1", &TestImage { platforms, ..TestImage::new(vec![]) }).unwrap();
    let error = client(&registry).resolve(&reference(&registry, "a:1"), &platform("linux/s390x")).await.unwrap_err();
    assert_eq!(error.class(), Class::Platform);
    assert!(chain(&error).contains("no image for linux/s390x; there is linux/amd64, linux/arm64"), "{}", chain(&error));
}

#[tokio::test]
async fn endless_indexes_end() {
    let registry = TestRegistry::start().unwrap();
    let mut inner = b"{\"schemaVersion\":2,\"manifests\":[]}".to_vec();
    let mut digest = registry.put_manifest("a", "0", media_type::INDEX, &inner);
    for depth in 1..10 {
        let entry = Descriptor {
            platform: Some(platform("linux/amd64")),
            ..Descriptor::new(media_type::INDEX, digest, inner.len() as u64)
        };
        inner = serde_json::to_vec(&Index { manifests: vec![entry], ..Index::default() }).unwrap();
        digest = registry.put_manifest("a", &depth.to_string(), media_type::INDEX, &inner);
    }
    let error = client(&registry).resolve(&reference(&registry, "a:9"), &platform("linux/amd64")).await.unwrap_err();
    assert!(chain(&error).contains("nested deeper"), "{}", chain(&error));
    assert!(registry.count("GET", "/manifests/") <= 5);
}

#[tokio::test]
async fn a_pinned_digest_is_held_against_the_registry() {
    let registry = TestRegistry::start().unwrap();
    registry.put_image("a", "1", &TestImage::new(vec![])).unwrap();
    let (media_type, bytes) = registry.manifest("a", "1").unwrap();
    let other = Digest::of(b"something else");
    // The registry serves the wrong bytes under the right name, and claims what was asked for.
    registry.put_manifest("a", &other.to_string(), &media_type, &bytes);
    registry.fault(Fault::on("/manifests/", Action::DigestHeader(other.to_string())));
    let pinned = reference(&registry, "a").with_digest(other);
    let error = client(&registry).resolve(&pinned, &Platform::host()).await.unwrap_err();
    assert_eq!(error.class(), Class::DigestMismatch, "{}", chain(&error));
}

#[tokio::test]
async fn a_resumed_blob_is_not_sent_twice() {
    let registry = TestRegistry::start().unwrap();
    let layer = noise(1_000_000);
    registry.put_blob("a", &layer);
    registry.fault(Fault::on("/blobs/", Action::CutAfter(600_000)).times(1));
    let mut sink = Vec::new();
    client(&registry).fetch_blob(&reference(&registry, "a"), &descriptor(&layer), &mut sink).await.unwrap();
    assert_eq!(sink, layer);
    let log = registry.log();
    let range = log[1].header("range").unwrap();
    let from: u64 = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    assert!(from > 0 && from <= 600_000, "{range}");
    assert_eq!(log[1].status, 206);
    assert_eq!(log[1].bytes_sent(), 1_000_000 - from);
    assert_eq!(log.len(), 2);
}

#[tokio::test]
async fn a_slow_mirror_hands_over_to_the_next_in_the_middle() {
    let (one, two) = (TestRegistry::start().unwrap(), TestRegistry::start().unwrap());
    let layer = noise(500_000);
    one.put_blob("library/python", &layer);
    two.put_blob("library/python", &layer);
    one.fault(Fault::on("/blobs/", Action::CutAfter(200_000)).times(1));
    one.fault(Fault::on("/blobs/", Action::Close));
    let client = mirrored(&[&one, &two], "origin = false");
    let mut sink = Vec::new();
    client.fetch_blob(&"python:3.10".parse().unwrap(), &descriptor(&layer), &mut sink).await.unwrap();
    assert_eq!(sink, layer);
    assert!(two.log()[0].header("range").is_some());
    assert!(two.bytes_sent("/blobs/") < 500_000);
}

/// A client whose Docker Hub is mirrored.
fn mirrored(mirrors: &[&TestRegistry], more: &str) -> Client {
    let hosts: Vec<String> = mirrors.iter().map(|mirror| format!("\"{}\"", mirror.host())).collect();
    let mut text = format!("[registry.\"docker.io\"]\nmirrors = [{}]\n{more}\n", hosts.join(", "));
    for mirror in mirrors {
        text.push_str(&plain(mirror));
    }
    Client::new(config(&text), CredentialPaths::default()).unwrap()
}

#[tokio::test]
async fn mirrors_are_asked_in_order_and_give_the_same_image() {
    let image = TestImage::new(vec![noise(100)]);
    for fault in
        [Action::Status(404), Action::Status(403), Action::Status(503), Action::Close, Action::Html, Action::Corrupt]
    {
        let (one, two) = (TestRegistry::start().unwrap(), TestRegistry::start().unwrap());
        one.put_image("library/python", "3.10", &image).unwrap();
        let put = two.put_image("library/python", "3.10", &image).unwrap();
        one.fault(Fault::on("/v2/", fault.clone()));
        let client = mirrored(&[&one, &two], "origin = false");
        let python: Reference = "python:3.10".parse().unwrap();
        let found = client.resolve(&python, &Platform::host()).await.unwrap();
        assert_eq!(found.manifest.config.digest, put.configs[0], "{fault:?}");
        let mut sink = Vec::new();
        client.fetch_blob(&python, &found.manifest.layers[0], &mut sink).await.unwrap();
        assert_eq!(Digest::of(&sink), found.manifest.layers[0].digest);
        assert!(one.count("GET", "/manifests/") > 0);
    }
}

#[tokio::test]
async fn all_failures_are_told() {
    let (one, two) = (TestRegistry::start().unwrap(), TestRegistry::start().unwrap());
    one.fault(Fault::on("/v2/", Action::Status(503)));
    let client = mirrored(&[&one, &two], "origin = false");
    let error = client.resolve(&"python:3.10".parse().unwrap(), &Platform::host()).await.unwrap_err();
    let text = chain(&error);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "resolve docker.io/library/python:3.10");
    assert!(lines[1].starts_with(&format!("mirror {}: unexpected answer (503)", one.host())), "{text}");
    assert!(lines[2].starts_with(&format!("mirror {}: not found (404)", two.host())), "{text}");
    assert_eq!((lines.len(), error.class()), (3, Class::NotFound));
}

#[tokio::test]
async fn a_mirror_may_have_a_prefix() {
    let mirror = TestRegistry::start().unwrap();
    mirror.put_image("hub/proxy/library/python", "3", &TestImage::new(vec![])).unwrap();
    let text = format!(
        "[registry.\"docker.io\"]\nmirrors = [\"{}/hub/proxy\"]\norigin = false\n{}",
        mirror.host(),
        plain(&mirror)
    );
    let client = Client::new(config(&text), CredentialPaths::default()).unwrap();
    client.resolve(&"python:3".parse().unwrap(), &Platform::host()).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_stops_everything() {
    struct Full;
    impl kuz_registry::BlobSink for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn restart(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (one, two) = (TestRegistry::start().unwrap(), TestRegistry::start().unwrap());
    let layer = noise(1000);
    one.put_blob("library/python", &layer);
    let client = mirrored(&[&one, &two], "");
    let error = client.fetch_blob(&"python".parse().unwrap(), &descriptor(&layer), &mut Full).await.unwrap_err();
    assert_eq!(error.class(), Class::Local, "{}", chain(&error));
    assert!(two.log().is_empty());
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let registry = TestRegistry::start().unwrap();
    registry.put_blob("a", b"");
    let mut sink = Vec::new();
    client(&registry).fetch_blob(&reference(&registry, "a"), &descriptor(b""), &mut sink).await.unwrap();
    assert!(sink.is_empty());
}

#[tokio::test]
async fn foreign_layer_addresses_are_not_followed() {
    let (registry, other) = (TestRegistry::start().unwrap(), TestRegistry::start().unwrap());
    let layer = noise(100);
    other.put_blob("a", &layer);
    let mut wanted = descriptor(&layer);
    wanted.urls.push(format!("http://{}/v2/a/blobs/{}", other.host(), wanted.digest));
    let error = client(&registry).fetch_blob(&reference(&registry, "a"), &wanted, &mut Vec::new()).await.unwrap_err();
    assert_eq!(error.class(), Class::NotFound);
    assert!(other.log().is_empty());
}

#[tokio::test]
async fn loopback_may_speak_either() {
    let plain_registry = TestRegistry::start().unwrap();
    let tls = TestRegistry::start_tls().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, tls.ca_pem().unwrap()).unwrap();
    for registry in [&plain_registry, &tls] {
        registry.put_image("a", "1", &TestImage::new(vec![noise(10)])).unwrap();
    }
    let default = Client::new(config(""), CredentialPaths::default()).unwrap();
    default.resolve(&reference(&plain_registry, "a:1"), &Platform::host()).await.unwrap();
    // A certificate that nobody vouches for is no reason to step down to plain HTTP, nor to go on.
    let error = default.resolve(&reference(&tls, "a:1"), &Platform::host()).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(chain(&error).contains("ca = ["), "{}", chain(&error));
    assert!(tls.log().is_empty());
    for section in [format!("ca = [\"{}\"]", ca.display()), "insecure = true".to_owned()] {
        let config: RegistryConfig = config(&format!("[registry.\"{}\"]\n{section}\n", tls.host()));
        let client = Client::new(config, CredentialPaths::default()).unwrap();
        client.resolve(&reference(&tls, "a:1"), &Platform::host()).await.unwrap();
    }
    let missing = config(&format!("[registry.\"{}\"]\nca = [\"/nowhere/ca.pem\"]\n", tls.host()));
    let error = Client::new(missing, CredentialPaths::default())
        .unwrap()
        .resolve(&reference(&tls, "a:1"), &Platform::host())
        .await
        .unwrap_err();
    assert!(chain(&error).contains("/nowhere/ca.pem"), "{}", chain(&error));
}

/// Answers everything with this status.
async fn answering(status: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut start = [0; 1024];
            let _ = stream.read(&mut start).await;
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
        }
    });
    host
}

#[tokio::test]
async fn what_is_no_registry_on_loopback_is_told() {
    for (status, told) in [
        // It speaks plain HTTP, if badly.
        ("503 Busy", vec!["503"]),
        // It wants TLS, and does not speak it.
        ("308 Moved\r\nlocation: https://127.0.0.1:1/v2/", vec!["https: ", "http: status 308"]),
    ] {
        let host = answering(status).await;
        let client = Client::new(config(""), CredentialPaths::default()).unwrap();
        let wanted: Reference = format!("{host}/a:1").parse().unwrap();
        let error = client.resolve(&wanted, &Platform::host()).await.unwrap_err();
        for part in told {
            assert!(chain(&error).contains(part), "{status}: {}", chain(&error));
        }
    }
}

#[tokio::test]
async fn loopback_is_never_proxied() {
    let registry = TestRegistry::start().unwrap();
    let proxy = TestRegistry::start().unwrap();
    registry.put_image("a", "1", &TestImage::new(vec![])).unwrap();
    let mut config = config(&plain(&registry));
    config.proxy.http = Some(format!("http://{}", proxy.host()));
    config.timing.connect = Duration::from_secs(2);
    let client = Client::new(config.clone(), CredentialPaths::default()).unwrap();
    client.resolve(&reference(&registry, "a:1"), &Platform::host()).await.unwrap();
    assert!(proxy.log().is_empty());
    // And others are: the proxy (a registry that knows nothing) answers for a host that doesn't exist.
    config.registry = toml::from_str("\"nowhere.invalid\" = { http = true }").unwrap();
    let client = Client::new(config, CredentialPaths::default()).unwrap();
    let error = client.resolve(&"nowhere.invalid/a:1".parse().unwrap(), &Platform::host()).await.unwrap_err();
    assert_eq!((error.class(), proxy.log().len()), (Class::NotFound, 1), "{}", chain(&error));
}
