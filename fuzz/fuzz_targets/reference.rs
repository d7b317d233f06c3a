//! Any text as an image reference: what is read prints to what reads the same.

#![no_main]

use kuz_image::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<Reference>() else { return };
    let printed = reference.to_string();
    let again: Reference = printed.parse().expect("what was printed is a reference");
    assert_eq!(again.to_string(), printed);
    let familiar: Reference = reference.familiar().parse().expect("the short form is a reference");
    assert_eq!(familiar.to_string(), printed);
});
