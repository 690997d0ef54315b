//! libFuzzer on the target that `SEKISHO_FUZZ_TARGET` names: docs/fuzzing.md.

#![no_main]

use std::sync::LazyLock;

use sekisho_fuzz::{Target, targets};

#[expect(clippy::disallowed_methods, reason = "libFuzzer has the arguments for itself")]
#[expect(clippy::panic, reason = "there is nobody to tell but the terminal")]
static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("SEKISHO_FUZZ_TARGET").unwrap_or_default();
    targets::named(&name).unwrap_or_else(|| panic!("SEKISHO_FUZZ_TARGET={name} is no target"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (TARGET.run)(bytes);
});
