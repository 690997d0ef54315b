//! Releases that are signed here, and ones that are not.

use super::*;

const BODY: &str = "Origin: Debian\nSuite: stable\nCodename: bookworm\n\
    Date: Sat, 11 Jul 2026 10:16:37 UTC\nValid-Until: Sat, 18 Jul 2026 10:16:37 UTC\n\
    Acquire-By-Hash: yes\nSHA256:\n";

fn archive(suite: &str) -> Archive {
    Archive {
        url: "http://m".to_owned(),
        suite: suite.to_owned(),
        keyring: "/keys.gpg".into(),
        allow_expired: false,
    }
}

fn body() -> String {
    format!("{BODY} {} 12 main/binary-amd64/Packages.xz\n", "c".repeat(64))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_release_says_what_it_is_until_when_and_what_it_lists() {
    let early = at("2026-07-12T00:00:00Z");
    let release = parse(&body(), "u", &archive("bookworm"), early).unwrap();
    assert_eq!((release.date, release.by_hash), (1_783_764_997, true));
    let file = release.file("main/binary-amd64/Packages.xz").unwrap();
    assert_eq!((file.size, file.sha256), (12, "c".repeat(64)));
    assert_eq!(release.file("main/binary-arm64/Packages.xz"), None);
    assert!(parse(&body(), "u", &archive("stable"), early).is_ok());

    let late = at("2026-08-01T00:00:00Z");
    let error = parse(&body(), "u", &archive("bookworm"), late).unwrap_err();
    assert_eq!(error.to_string(), "`u` was valid until 2026-07-18T10:16:37Z");
    let lenient = Archive { allow_expired: true, ..archive("bookworm") };
    assert!(parse(&body(), "u", &lenient, late).is_ok());
    let error = parse(&body(), "u", &archive("trixie"), early).unwrap_err();
    assert_eq!(error.to_string(), "`u` is not a release of `trixie`: it says `bookworm`, `stable`");
    for (from, to) in
        [("Date:", "Day:"), ("SHA256:", "MD5Sum:"), ("Jul 2026", "Foo 2026"), (" 12 ", " x ")]
    {
        let broken = body().replace(from, to);
        let error = parse(&broken, "u", &archive("bookworm"), early).unwrap_err();
        assert!(matches!(error, DebianError::Release { .. }), "{from}: {error}");
    }
}

/// A gpg with keys of a test's own.
struct Gpg(tempfile::TempDir);

impl Gpg {
    /// With keys of these names and ends; `None` where there is no gpg.
    #[expect(clippy::print_stdout, reason = "says what it skipped")]
    fn with(keys: &[(&str, &str)]) -> Option<Self> {
        let gpg = Self(tempfile::tempdir().unwrap());
        let make = |(name, end): &(&str, &str)| {
            gpg.call(&["--quick-generate-key", name, "rsa2048", "sign", end], "").is_some()
        };
        if keys.iter().all(make) {
            return Some(gpg);
        }
        println!("skipped: needs gpg");
        None
    }

    fn call(&self, arguments: &[&str], input: &str) -> Option<Vec<u8>> {
        use std::io::Write as _;
        let always = ["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback"];
        let mut child = std::process::Command::new("gpg")
            .args(always)
            .args(["--passphrase", ""])
            .args(arguments)
            .env("GNUPGHOME", self.0.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(input.as_bytes()).ok()?;
        let output = child.wait_with_output().ok()?;
        output.status.success().then_some(output.stdout)
    }

    fn ring(&self, name: &str, armor: bool) -> Vec<SignedPublicKey> {
        let path = self.0.path().join(format!("{name}-{armor}.gpg"));
        let bytes = match armor {
            true => self.call(&["--export", "--armor", name], ""),
            false => self.call(&["--export", name], ""),
        };
        std::fs::write(&path, bytes.unwrap()).unwrap();
        keyring(&path).unwrap()
    }

    fn sign(&self, name: &str) -> String {
        let signed = self.call(&["--clearsign", "--local-user", name], &body()).unwrap();
        String::from_utf8(signed).unwrap()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let mut agents = std::process::Command::new("gpgconf");
        let _ = agents.args(["--kill", "all"]).env("GNUPGHOME", self.0.path()).status();
    }
}

#[test]
fn only_a_key_of_the_ring_signs() {
    let keys = [("one@test", "never"), ("two@test", "never")];
    let Some(gpg) = Gpg::with(&keys) else { return };
    let signed = gpg.sign("one@test");
    let now = at("2026-07-12T00:00:00Z");
    let archive = archive("bookworm");
    for armor in [false, true] {
        let release = verify(&signed, "u", &archive, &gpg.ring("one@test", armor), now).unwrap();
        assert_eq!(release, parse(&body(), "u", &archive, now).unwrap());
    }
    let refused = |text: &str, keys: &[SignedPublicKey]| {
        let error = verify(text, "u", &archive, keys, now).unwrap_err();
        assert_eq!(error.to_string(), "`u` is not signed by a key of `/keys.gpg`");
    };
    let one = gpg.ring("one@test", false);
    refused(&signed, &gpg.ring("two@test", false));
    refused(&signed.replace(" 12 main", " 13 main"), &one);
    refused(&body(), &one);
    refused("", &one);
    // What stands around the signed text is not taken for it.
    let around = format!("Codename: trixie\n{signed}\nCodename: trixie\n");
    if let Ok(release) = verify(&around, "u", &archive, &one, now) {
        assert_eq!(release, parse(&body(), "u", &archive, now).unwrap());
    }
    let empty = gpg.0.path().join("empty.gpg");
    std::fs::write(&empty, "nothing").unwrap();
    assert!(matches!(keyring(&empty), Err(DebianError::Keyring { .. })));
}

#[test]
fn a_key_signs_nothing_after_its_end() {
    let Some(gpg) = Gpg::with(&[("short@test", "20300101T000000")]) else { return };
    let (keys, signed) = (gpg.ring("short@test", false), gpg.sign("short@test"));
    let lenient = Archive { allow_expired: true, ..archive("bookworm") };
    assert!(verify(&signed, "u", &lenient, &keys, at("2029-12-30T00:00:00Z")).is_ok());
    let error = verify(&signed, "u", &lenient, &keys, at("2030-01-03T00:00:00Z")).unwrap_err();
    let DebianError::KeyExpired { ended, .. } = &error else { panic!("{error}") };
    assert!(ended.starts_with("2030-01-01") || ended.starts_with("2029-12-31"), "{ended}");
}
