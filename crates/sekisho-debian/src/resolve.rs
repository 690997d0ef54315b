//! Which packages a base is made of: a plain function of the index.

use std::collections::{BTreeMap, BTreeSet};

use crate::DebianError;
use crate::index::{Need, Package, Packages, alternatives};

/// The smallest set that has the essential and the required packages, what was asked for, and all that
/// these need; by name.
///
/// Of alternatives, the one that is there already is taken, else the first that exists, else the first by
/// name that provides it. What a package only recommends is left out.
///
/// # Errors
/// [`DebianError::Unresolved`], with who needs what.
pub fn base<'a>(
    packages: &'a Packages,
    wanted: &[String],
) -> Result<BTreeMap<&'a str, &'a Package>, DebianError> {
    let mut chosen: BTreeMap<&str, &Package> = BTreeMap::new();
    let mut open: BTreeSet<&str> = packages
        .0
        .values()
        .filter(|package| package.essential || package.priority == "required")
        .map(|package| package.id.name.as_str())
        .collect();
    let providers = providers(packages);
    for name in wanted {
        let need = Need { name: name.clone(), version: None };
        let found = pick(packages, &providers, &chosen, &open, std::slice::from_ref(&need));
        open.insert(found.ok_or_else(|| DebianError::Unresolved {
            package: String::new(),
            needs: name.clone(),
        })?);
    }
    while let Some(name) = open.pop_first() {
        let Some(package) = packages.0.get(name) else { continue };
        chosen.insert(name, package);
        for group in alternatives(&package.depends) {
            let found = pick(packages, &providers, &chosen, &open, &group);
            let found = found.ok_or_else(|| DebianError::Unresolved {
                package: name.to_owned(),
                needs: group.iter().map(|need| need.name.as_str()).collect::<Vec<_>>().join(" | "),
            })?;
            if !chosen.contains_key(found) {
                open.insert(found);
            }
        }
    }
    Ok(chosen)
}

type Providers<'a> = BTreeMap<&'a str, Vec<(&'a str, Option<&'a str>)>>;

fn providers(packages: &Packages) -> Providers<'_> {
    let mut providers: Providers<'_> = BTreeMap::new();
    for package in packages.0.values() {
        for (name, version) in &package.provides {
            providers.entry(name).or_default().push((&package.id.name, version.as_deref()));
        }
    }
    providers
}

fn pick<'a>(
    packages: &'a Packages,
    providers: &Providers<'a>,
    chosen: &BTreeMap<&'a str, &'a Package>,
    open: &BTreeSet<&'a str>,
    group: &[Need],
) -> Option<&'a str> {
    let candidates: Vec<&str> =
        group.iter().flat_map(|need| candidates(packages, providers, need)).collect();
    let there = candidates.iter().find(|name| chosen.contains_key(*name) || open.contains(*name));
    there.or(candidates.first()).copied()
}

/// The package of that name if its version will do, then those that provide it.
fn candidates<'a>(packages: &'a Packages, providers: &Providers<'a>, need: &Need) -> Vec<&'a str> {
    let real = packages.0.get(&need.name).filter(|package| need.allows(&package.id.version));
    let provided = providers.get(need.name.as_str()).into_iter().flatten();
    // A name that is provided without a version fits no relation with one (deb-control(5)).
    let fits = |version: &Option<&str>| match version {
        Some(version) => need.allows(version),
        None => need.version.is_none(),
    };
    real.map(|package| package.id.name.as_str())
        .into_iter()
        .chain(provided.filter(|(_, version)| fits(version)).map(|(name, _)| *name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name version [!essential] depends; provides`.
    fn world(lines: &[(&str, &str, &str)]) -> Packages {
        let mut packages = Packages::default();
        for (name, depends, more) in lines {
            let (name, version) = name.split_once('=').unwrap_or((name, "1"));
            let digest = "b".repeat(64);
            packages.add(
                &format!(
                    "Package: {name}\nVersion: {version}\nArchitecture: all\nFilename: f\nSize: 1\n\
                     SHA256: {digest}\nDepends: {depends}\n{more}\n"
                ),
                "http://m",
            );
        }
        packages
    }

    #[track_caller]
    fn check(packages: &Packages, wanted: &[&str], want: &[&str]) {
        let wanted: Vec<_> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let chosen = base(packages, &wanted).unwrap();
        assert_eq!(chosen.keys().copied().collect::<Vec<_>>(), want);
    }

    #[test]
    fn essential_and_required_bring_what_they_need() {
        let packages = world(&[
            ("bash", "libc6 (>= 1)", "Essential: yes"),
            ("login", "libpam | libpam-old", "Priority: required"),
            ("libc6=2", "", ""),
            ("libpam-old", "", ""),
            ("apt", "gpgv, awk", ""),
            ("gpgv", "apt", ""),
            ("mawk", "", "Provides: awk"),
            ("gawk", "", "Provides: awk"),
            ("unwanted", "", "Priority: optional"),
        ]);
        check(&packages, &[], &["bash", "libc6", "libpam-old", "login"]);
        check(
            &packages,
            &["apt"],
            &["apt", "bash", "gawk", "gpgv", "libc6", "libpam-old", "login"],
        );
        // What is there already is taken before what comes first.
        let wanted = ["apt", "mawk"];
        check(&packages, &wanted, &["apt", "bash", "gpgv", "libc6", "libpam-old", "login", "mawk"]);
    }

    #[test]
    fn versions_and_provided_versions_count() {
        let packages = world(&[
            ("a", "b (>= 2) | c (>= 2)", "Essential: yes"),
            ("b=1", "", ""),
            ("d", "", "Provides: c (= 3)"),
            ("e", "", "Provides: c"),
        ]);
        check(&packages, &[], &["a", "d"]);
        let packages = world(&[("a", "c (>= 4)", "Essential: yes"), ("e", "", "Provides: c")]);
        let error = base(&packages, &[]).unwrap_err();
        assert_eq!(error.to_string(), "package `a` needs `c`, which no package is");
        let error = base(&Packages::default(), &["x".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "package `` needs `x`, which no package is");
    }
}
