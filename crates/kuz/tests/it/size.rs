//! `kuz size`: bytes by stage, layer and directory, what is wasted and twice, differences, and the page in a browser.

use std::process::Command;

use serde_json::Value;

use crate::kit::{Place, can_run, skip};

fn json(place: &Place, arguments: &[&str]) -> Value {
    let ran = place.kuz(&[&["size", "--format", "json"], arguments].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// An image with waste: a file that is written over, and one that is written again as it was.
fn wasteful(place: &Place) {
    place.write("ctx/big", &"x".repeat(300_000));
    place.write("ctx/other", &"y".repeat(100_000));
    place.dockerfile(
        "FROM scratch AS final\nCOPY big /x/big\nCOPY other /x/big\nCOPY other /x/again\nCOPY --chmod=0755 other /x/again\n\
         CMD [\"/x/again\"]\n",
    );
    assert_eq!(place.build(&["-t", "app"]).code, 0);
}

#[test]
fn bytes_are_told_by_stage_layer_and_directory() {
    let place = Place::new();
    wasteful(&place);
    let report = json(&place, &["app"]);
    assert_eq!(report["version"], 1);
    assert_eq!(report["bytes"], place.inspect("app")["size"]);
    assert_eq!((&report["shown"], &report["files"]), (&200_000.into(), &2.into()));
    assert_eq!(report["stages"][0]["name"], "final");
    assert_eq!(report["stages"][0]["bytes"], report["bytes"]);
    let layer = &report["layers"][1];
    assert_eq!((&layer["text"], &layer["line"]), (&"COPY other /x/big".into(), &3.into()));
    assert_eq!((&layer["written"], &layer["shown"]), (&100_000.into(), &100_000.into()));
    let wasted = &report["wasted"];
    assert_eq!(wasted["bytes"], 400_000);
    let told = |at: usize| {
        let path = &wasted["paths"][at];
        format!("{} {} {} {}", path["path"], path["layer"], path["by"], path["how"])
    };
    assert_eq!(told(0), "\"/x/big\" 0 1 \"overwritten\"");
    assert_eq!(told(1), "\"/x/again\" 2 3 \"repeated\"");
    assert_eq!(report["duplicates"]["bytes"], 100_000);
    assert_eq!(report["tree"]["children"][0]["name"], "x");

    // The second time everything is kept; a prune takes it along with the image's layers.
    let before = std::fs::read_dir(place.path("store/meta/contents")).unwrap().count();
    assert!(before > 0);
    assert_eq!(json(&place, &["app"]), report);
    let text = place.kuz(&["size", "app"]).stdout;
    for part in ["app:latest: ", "STAGES\n", "LAYERS\n", "line 2: COPY big /x/big (293K wasted)", "WASTED", "TWICE"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(place.kuz(&["store", "check"]).code, 0);
    assert_eq!(place.kuz(&["image", "rm", "app"]).code, 0);
    assert_eq!(place.kuz(&["store", "prune", "--all"]).code, 0);
    let left = Command::new("find").arg(place.path("store/meta/contents")).args(["-type", "f"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    assert_eq!(place.kuz(&["size", "app"]).code, 3);
}

#[test]
fn two_images_are_compared() {
    let place = Place::new();
    wasteful(&place);
    place.dockerfile("FROM scratch AS final\nCOPY other /x/big\nCMD [\"/x/big\"]\n");
    assert_eq!(place.build(&["-t", "app:small"]).code, 0);
    let found = json(&place, &["app:small", "--against", "app"]);
    assert_eq!(found["shown"], serde_json::json!([200_000, 100_000]));
    assert_eq!(found["stages"][0]["name"], "final");
    let text = place.kuz(&["size", "app:small", "--against", "app"]).stdout;
    assert!(text.contains("against app:latest: -") && text.contains("COPY big /x/big (gone)"), "{text}");
    let same = json(&place, &["app", "--against", "app"]);
    assert_eq!(same["layers"], serde_json::json!([]));
}

#[test]
fn what_comes_from_bases_and_stages_is_told_apart() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.write("ctx/big", &"x".repeat(50_000));
    place.dockerfile(
        "FROM busybox AS forge\nCOPY big /out/big\nRUN echo 1 > /out/one\nFROM busybox\nCOPY --from=forge /out /out\n\
         RUN rm /out/one\nCMD [\"sh\"]\n",
    );
    assert_eq!(place.build(&["-t", "app"]).code, 0);
    let report = json(&place, &["app"]);
    let names: Vec<&str> = report["stages"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["base docker.io/library/busybox:latest", "stage 1 (copied from forge)", "stage 1"]);
    assert_eq!(report["wasted"]["paths"][0]["path"], "/out/one");
    assert_eq!(report["unreached"]["command"][0], "/bin/busybox");
    // An image that was built elsewhere has its history lines alone.
    assert_eq!(place.kuz(&["pull", "busybox"]).code, 0);
    let pulled = json(&place, &["busybox"]);
    assert_eq!(pulled["stages"][0]["name"], "(not recorded)");
}

/// What a headless browser makes of a page, and what it has to say about it.
fn browse(page: &std::path::Path, home: &std::path::Path) -> Option<(String, String)> {
    let program = ["chromium", "chromium-browser", "google-chrome"].iter().find(|name| {
        Command::new("sh").args(["-c", &format!("command -v {name}")]).output().is_ok_and(|out| out.status.success())
    })?;
    let output = Command::new(program)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--enable-logging=stderr", "--window-size=1200,900", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", home.display()))
        .arg(format!("file://{}", page.display()))
        .env("HOME", home)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((text(&output.stdout), text(&output.stderr)))
}

#[test]
fn the_page_draws_its_treemap_in_a_browser() {
    let place = Place::new();
    place.write("ctx/a<b>&\"c\"/</script><img src=x onerror=alert(1)>", &"x".repeat(300_000));
    place.write("ctx/d/e", &"y".repeat(100_000));
    place.dockerfile("FROM scratch\nCOPY . /x/\nCOPY d /y/\n");
    assert_eq!(place.build(&["-t", "app"]).code, 0);
    let page = place.path("page.html");
    let ran = place.kuz(&["size", "app", "--format", "html", "-o", page.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    let Some((dom, said)) = browse(&page, &place.path("home")) else {
        return skip("no chromium (Debian: chromium)");
    };
    assert!(dom.contains("class=\"tile\""), "no treemap in\n{dom}\n{said}");
    assert!(dom.contains("data-ready=\"2\""), "the script did not come to its end\n{said}");
    assert!(!dom.contains("<img"), "a name became markup");
    for bad in ["Uncaught", "Refused to", "CONSOLE", "ERR_"] {
        assert!(!said.lines().any(|line| line.contains(bad) && line.contains("page.html")), "{bad}:\n{said}");
    }
    // Tiles that open are buttons, the others can be reached too.
    assert!(dom.contains("<button class=\"tile\" type=\"button\""), "{dom}");
}
