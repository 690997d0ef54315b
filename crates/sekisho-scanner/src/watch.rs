//! Which paths say something about packages.

/// What a path promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    OsRelease,
    AlpineRelease,
    DebianVersion,
    /// The loader of a C library: there is a system, named or not.
    Loader,
    Dpkg,
    /// One package of a distroless image.
    DpkgPart,
    Apk,
    /// Recognised and not read yet.
    Rpm,
    NpmLock,
    NpmPackage,
    /// A lock file of another tool of the npm world; recognised and not read yet.
    OtherNpmLock,
    PythonPackage,
    PythonRequirements,
    /// Of a language whose packages are not read yet.
    Unread(&'static str),
}

/// The places where the system's own files are looked for, in the order of preference.
pub(crate) const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
pub(crate) const ALPINE_RELEASE: &str = "etc/alpine-release";
pub(crate) const DEBIAN_VERSION: &str = "etc/debian_version";
pub(crate) const DPKG_STATUS: &str = "var/lib/dpkg/status";
pub(crate) const DPKG_PARTS: &str = "var/lib/dpkg/status.d";
pub(crate) const APK_INSTALLED: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
const RPM: [&str; 3] = ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"];

/// What the path promises, wherever in the image it is: a link elsewhere may make it the system's.
pub(crate) fn kind(path: &str) -> Option<Kind> {
    let mut from_end = path.rsplit('/');
    let name = from_end.next()?;
    let parent = from_end.next().unwrap_or_default();
    let grandparent = from_end.next().unwrap_or_default();
    let installed = || path.split('/').any(|component| component == "node_modules");
    match (grandparent, parent, name) {
        (_, _, "os-release") => Some(Kind::OsRelease),
        (_, "etc", "alpine-release") => Some(Kind::AlpineRelease),
        (_, "etc", "debian_version") => Some(Kind::DebianVersion),
        (_, "dpkg", "status") => Some(Kind::Dpkg),
        ("dpkg", "status.d", name) if !name.ends_with(".md5sums") => Some(Kind::DpkgPart),
        ("apk", "db", "installed") => Some(Kind::Apk),
        (_, "rpm", "Packages" | "Packages.db" | "rpmdb.sqlite") => Some(Kind::Rpm),
        // Inside an installed package a lock file is that package's own affair, and npm ignores it.
        (_, _, "package-lock.json" | "npm-shrinkwrap.json") if !installed() => Some(Kind::NpmLock),
        (_, _, "yarn.lock" | "pnpm-lock.yaml") if !installed() => Some(Kind::OtherNpmLock),
        ("node_modules", _, "package.json") => Some(Kind::NpmPackage),
        (scope, _, "package.json")
            if scope.starts_with('@') && from_end.next() == Some("node_modules") =>
        {
            Some(Kind::NpmPackage)
        }
        (_, parent, "METADATA") if parent.ends_with(".dist-info") => Some(Kind::PythonPackage),
        (_, parent, "PKG-INFO") if parent.ends_with(".egg-info") => Some(Kind::PythonPackage),
        (_, _, "requirements.txt") => Some(Kind::PythonRequirements),
        (_, _, name) if is_loader(name) => Some(Kind::Loader),
        (_, _, name) => unread(name).map(Kind::Unread),
    }
}

/// What packages a file of this name is of, where those are not read yet.
fn unread(name: &str) -> Option<&'static str> {
    match name {
        "Gemfile.lock" | "gems.locked" => Some("Ruby"),
        "Cargo.lock" => Some("Rust"),
        "composer.lock" => Some("PHP"),
        "poetry.lock" | "Pipfile.lock" | "uv.lock" => Some("Python"),
        "go.sum" => Some("Go"),
        _ => {
            let (stem, ending) = name.rsplit_once('.')?;
            let is_java = ["jar", "war", "ear"].iter().any(|it| ending.eq_ignore_ascii_case(it));
            (is_java && !stem.is_empty()).then_some("Java")
        }
    }
}

/// `ld-linux-x86-64.so.2`, `ld-musl-aarch64.so.1`.
fn is_loader(name: &str) -> bool {
    (name.starts_with("ld-linux") || name.starts_with("ld-musl-")) && name.contains(".so.")
}

/// Whether a link, folder or file at this path decides where the system's own files are.
pub(crate) fn leads_to_system(path: &str) -> bool {
    let system = [ALPINE_RELEASE, DEBIAN_VERSION, DPKG_STATUS, DPKG_PARTS];
    let mut all = system.iter().chain(&OS_RELEASE).chain(&APK_INSTALLED).chain(&RPM);
    all.any(|known| {
        known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_promise_what_their_names_say() {
        for (path, want) in [
            ("etc/os-release", Some(Kind::OsRelease)),
            ("var/lib/dpkg/status", Some(Kind::Dpkg)),
            ("var/lib/dpkg/status-old", None),
            ("var/lib/dpkg/status.d/base", Some(Kind::DpkgPart)),
            ("var/lib/dpkg/status.d/base.md5sums", None),
            ("usr/lib/apk/db/installed", Some(Kind::Apk)),
            ("usr/lib/sysimage/rpm/rpmdb.sqlite", Some(Kind::Rpm)),
            ("package-lock.json", Some(Kind::NpmLock)),
            ("app/npm-shrinkwrap.json", Some(Kind::NpmLock)),
            ("app/node_modules/x/npm-shrinkwrap.json", None),
            ("app/package.json", None),
            ("app/node_modules/x/package.json", Some(Kind::NpmPackage)),
            ("app/node_modules/@s/x/package.json", Some(Kind::NpmPackage)),
            ("app/node_modules/x/dist/package.json", None),
            ("x/site-packages/a-1.0.dist-info/METADATA", Some(Kind::PythonPackage)),
            ("lib64/ld-linux-x86-64.so.2", Some(Kind::Loader)),
            ("app/lib/log4j-core.jar", Some(Kind::Unread("Java"))),
            ("app/ROOT.WAR", Some(Kind::Unread("Java"))),
            ("app/.jar", None),
            ("app/Gemfile.lock", Some(Kind::Unread("Ruby"))),
            ("Cargo.lock", Some(Kind::Unread("Rust"))),
            ("srv/composer.lock", Some(Kind::Unread("PHP"))),
            ("srv/poetry.lock", Some(Kind::Unread("Python"))),
            ("srv/go.sum", Some(Kind::Unread("Go"))),
            ("", None),
        ] {
            assert_eq!(kind(path), want, "{path}");
        }
        assert!(leads_to_system("usr/lib"));
        assert!(leads_to_system("lib/apk/db/installed"));
        assert!(!leads_to_system("usr/li"));
    }
}
