//! Pushing: what's there stays, what can be mounted is, and what broke off goes on.

use kuz_image::digest::Digest;
use kuz_registry::{Class, Client, CredentialPaths, PushEvent};
use kuz_testkit::registry::{Access, Action, Bearer, Fault, TestRegistry};

use super::fixture::{auth_file, chain, client, config, image, listening, noise, plain, reference, silent};

#[tokio::test]
async fn a_push_sends_what_is_missing_and_tags_last() {
    let registry = TestRegistry::start().unwrap();
    let (mut image, source) = image(&noise(700_000));
    image.tags = vec!["latest".to_owned()];
    let target = reference(&registry, "team/app:1");
    let client = client(&registry);
    let (progress, heard) = listening();
    let digest = client.push(&target, &image, &source, &progress).await.unwrap();
    assert_eq!(digest, Digest::of(&image.manifest));
    for name in ["1", "latest", &digest.to_string()] {
        assert_eq!(registry.manifest("team/app", name).unwrap().1, image.manifest);
    }
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.iter().filter(|event| matches!(event, PushEvent::Uploaded(_))).count(), 2);
    assert_eq!(heard.iter().rev().take(2).filter(|event| matches!(event, PushEvent::Tagged(_))).count(), 2);
    let layer = image.blobs[1].descriptor.digest.clone();
    assert!(heard.contains(&PushEvent::Sent(layer, 700_000)));

    // Where both names stand for it already, that is all there is to ask.
    registry.clear_log();
    client.push(&target, &image, &source, &silent()).await.unwrap();
    assert_eq!((registry.count("HEAD", "/manifests/"), registry.log().len()), (2, 2));
    image.tags.push("new".to_owned());
    registry.clear_log();
    client.push(&target, &image, &source, &silent()).await.unwrap();
    assert_eq!(registry.count("POST", "/uploads/"), 0);
    assert_eq!(registry.count("HEAD", "/blobs/"), 2);
    assert_eq!(registry.manifest("team/app", "new").unwrap().1, image.manifest);
}

#[tokio::test]
async fn blobs_are_mounted_where_that_works() {
    let layer = noise(5000);
    for (name, fault, mounted) in [
        ("mounted", None, true),
        ("a 202 is an open upload", Some(Action::RefuseMount), false),
        ("refused", Some(Action::Status(403)), false),
        ("not understood", Some(Action::Status(405)), false),
    ] {
        let registry = TestRegistry::start().unwrap();
        registry.put_blob("library/base", &layer);
        registry.set_access(Access::Bearer(Bearer { anonymous_pull: false, ..Bearer::default() }));
        if let Some(fault) = fault.clone() {
            registry.fault(Fault::on("mount=", fault));
        }
        let folder = tempfile::tempdir().unwrap();
        let client = Client::new(config(&plain(&registry)), auth_file(&folder, &[&registry.host()])).unwrap();
        let (mut image, source) = image(&layer);
        image.blobs[1].mount_from = Some(reference(&registry, "library/base:1"));
        let (progress, heard) = listening();
        client.push(&reference(&registry, "team/app:1"), &image, &source, &progress).await.unwrap();
        let want = PushEvent::Mounted(Digest::of(&layer), "library/base".to_owned());
        assert_eq!(heard.lock().unwrap().contains(&want), mounted, "{name}");
        assert_eq!(source.opened.lock().unwrap().len(), if mounted { 1 } else { 2 }, "{name}");
        assert_eq!(registry.blob("team/app", &Digest::of(&layer)).unwrap(), layer, "{name}");
        if fault == Some(Action::RefuseMount) {
            let posts = registry.log().iter().filter(|entry| entry.method == "POST" && entry.status == 202).count();
            assert_eq!(posts, 2, "the session that the mount opened is used");
        }
    }
}

#[tokio::test]
async fn a_blob_of_another_registry_is_not_mounted() {
    let registry = TestRegistry::start().unwrap();
    let (mut image, source) = image(&noise(10));
    image.blobs[1].mount_from = Some("docker.io/library/python".parse().unwrap());
    client(&registry).push(&reference(&registry, "a:1"), &image, &source, &silent()).await.unwrap();
    assert!(registry.log().iter().all(|entry| !entry.query.contains("mount=")));
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_broke() {
    let registry = TestRegistry::start().unwrap();
    let layer = noise(2_000_000);
    let (image, source) = image(&layer);
    let config = image.blobs[0].descriptor.digest.clone();
    registry.put_blob("a", &source.blobs[0]);
    registry.fault(Fault::on("/uploads/", Action::CutUpload(1_500_000)).method("PUT").times(1));
    client(&registry).push(&reference(&registry, "a:1"), &image, &source, &silent()).await.unwrap();
    assert_eq!(registry.blob("a", &Digest::of(&layer)).unwrap(), layer);
    let patch = registry.log().into_iter().find(|entry| entry.method == "PATCH").unwrap();
    assert_eq!(patch.header("content-range"), Some("1500000-1999999"));
    assert_eq!(patch.body_bytes, 500_000);
    assert_eq!(*source.opened.lock().unwrap(), [0, 1_500_000]);
    assert!(registry.log().iter().all(|entry| entry.method != "PUT" || !entry.path.contains(&config.to_string())));
}

#[tokio::test]
async fn a_blob_that_is_nowhere_is_named() {
    let registry = TestRegistry::start().unwrap();
    let (image, mut source) = image(&noise(10));
    let layer = source.blobs.pop().unwrap();
    let error = client(&registry).push(&reference(&registry, "a:1"), &image, &source, &silent()).await.unwrap_err();
    assert_eq!(error.class(), Class::Local);
    assert!(chain(&error).contains(&Digest::of(&layer).to_string()), "{}", chain(&error));
}

#[tokio::test]
async fn a_denied_push_names_scope_and_account() {
    let registry = TestRegistry::start().unwrap();
    registry.fault(Fault::on("/uploads/", Action::Status(403)).method("POST"));
    registry.set_access(Access::Basic { user: "ada".into(), password: "hunter2".into() });
    let folder = tempfile::tempdir().unwrap();
    let client = Client::new(config(&plain(&registry)), auth_file(&folder, &[&registry.host()])).unwrap();
    let (image, source) = image(&noise(10));
    let error = client.push(&reference(&registry, "a:1"), &image, &source, &silent()).await.unwrap_err();
    let text = chain(&error);
    assert_eq!(error.class(), Class::Denied);
    assert!(text.contains("repository:a:pull,push") && text.contains("as `ada` (from "), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn an_immutable_tag_is_fine_if_it_is_right() {
    let registry = TestRegistry::start().unwrap();
    let (image, source) = image(&noise(10));
    let target = reference(&registry, "a:1");
    let client = client(&registry);
    client.push(&target, &image, &source, &silent()).await.unwrap();
    registry.fault(Fault::on("/manifests/", Action::Status(409)).method("PUT"));
    client.push(&target, &image, &source, &silent()).await.unwrap();
    let (other, source) = super::fixture::image(&noise(11));
    let error = client.push(&target, &other, &source, &silent()).await.unwrap_err();
    assert!(chain(&error).contains("(409)"), "{}", chain(&error));
}

#[tokio::test]
async fn mirrors_take_no_pushes() {
    let mirror = TestRegistry::start().unwrap();
    let text = format!("[registry.\"docker.io\"]\nmirrors = [\"{}\"]\norigin = false\n", mirror.host());
    let client = Client::new(config(&text), CredentialPaths::default()).unwrap();
    let (image, source) = image(&noise(10));
    let error = client.push(&"me/app:1".parse().unwrap(), &image, &source, &silent()).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(chain(&error).contains("origin = false"), "{}", chain(&error));
    assert!(mirror.log().is_empty());
}
