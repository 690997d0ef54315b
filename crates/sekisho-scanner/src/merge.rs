//! The layers of an image, put on top of each other.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_advisory::{Ecosystem, NotAssessed, Package, Reason};
use serde::{Deserialize, Serialize};

use crate::index::{Facts, LayerIndex};
use crate::os::{Os, OsRelease};
use crate::tree::{Held, Tree};
use crate::watch::{
    ALPINE_RELEASE, APK_INSTALLED, DEBIAN_VERSION, DPKG_PARTS, DPKG_STATUS, Kind, OS_RELEASE, kind,
};

/// Most files of one language that are named as not read; the others are counted.
const MAX_UNREAD: usize = 20;

/// Files that are looked at for the database of a single package, after each layer.
const MAX_PARTS: usize = 1000;

/// What is in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The operating system; `None` when there is no trace of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<Os>,
    /// In order, without repeats.
    pub packages: Vec<Package>,
    /// What could not be read, in order.
    pub not_assessed: Vec<NotAssessed>,
}

/// Puts layers on top of each other, the lowest first, and lists what is left.
///
/// A package database is one file, so the topmost copy is the list; whiteouts, opaque folders and
/// links are followed as a container runtime does. A package belongs to the lowest layer from which
/// on its file has had it in this version.
pub fn merge(layers: &[LayerIndex]) -> Inventory {
    let (mut tree, mut had) = (Tree::default(), None);
    for layer in layers {
        tree.apply(layer);
        had = had.or_else(|| database_after(&tree, layer));
    }
    let mut inventory =
        Inventory { not_assessed: std::mem::take(&mut tree.not_assessed), ..Inventory::default() };
    let os = os_of(&tree);
    let databases = databases(&tree);
    system_packages(&tree, os.as_ref(), &databases, &mut inventory);
    inventory.not_assessed.extend(had.filter(|_| databases.is_empty()).map(|path| NotAssessed {
        reason: Reason::MissingDatabase,
        subject: path.clone(),
        detail: "a layer of the image removes the package database of the layers below".to_owned(),
        path: Some(path),
        layer: None,
    }));
    inventory.os = os;
    unread_packages(&tree, &mut inventory);
    language_packages(&tree, &databases, &mut inventory);
    inventory.packages.sort();
    inventory.packages.dedup();
    inventory.not_assessed.sort();
    inventory.not_assessed.dedup();
    inventory
}

fn os_of(tree: &Tree) -> Option<Os> {
    let release = OS_RELEASE.iter().find_map(|path| match &tree.file(path)?.1.facts {
        Facts::OsRelease(release) => Some(release),
        _ => None,
    });
    let line = |path| match &tree.file(path)?.1.facts {
        Facts::Line(line) => Some(line.as_str()),
        _ => None,
    };
    Os::of(release.map(|release: &OsRelease| release), line(DEBIAN_VERSION), line(ALPINE_RELEASE))
}

const DATABASES: [(&str, Kind); 3] =
    [(DPKG_STATUS, Kind::Dpkg), (APK_INSTALLED[0], Kind::Apk), (APK_INSTALLED[1], Kind::Apk)];

/// A database of the system that there is once this layer is applied. Asked of each layer, so it looks at
/// few files of those below.
fn database_after(tree: &Tree, layer: &LayerIndex) -> Option<String> {
    let known = DATABASES.iter().find_map(|(path, _)| Some(tree.file(path)?.0));
    let part = || parts(tree, MAX_PARTS).next().map(|path| path.to_owned());
    // It is one wherever it lies, so no link of another layer makes it one.
    let is_rpm =
        |path: &str, facts: &Facts| kind(path) == Some(Kind::Rpm) && *facts != Facts::Absent;
    let rpm = || Some(layer.files.iter().find(|(path, facts)| is_rpm(path, facts))?.0.clone());
    known.or_else(part).or_else(rpm)
}

/// The databases of single packages, among so many files of their folder.
fn parts(tree: &Tree, among: usize) -> impl Iterator<Item = &str> {
    let folder = tree.resolve(DPKG_PARTS) + "/";
    let from = folder.clone();
    let below = tree.files.range(from..).take(among).map(|(path, _)| path.as_str());
    below
        .map_while(move |path| Some((path, path.strip_prefix(&folder)?.contains('/'))))
        .filter_map(|(path, is_deeper)| (!is_deeper).then_some(path))
}

/// The paths of the system's own package databases, by kind.
fn databases(tree: &Tree) -> BTreeMap<String, Kind> {
    let mut paths = BTreeMap::new();
    for (path, kind) in DATABASES {
        if let Some((path, _)) = tree.file(path) {
            paths.insert(path, kind);
        }
    }
    paths.extend(parts(tree, usize::MAX).map(|path| (path.to_owned(), Kind::DpkgPart)));
    let rpm = tree.files.keys().filter(|path| kind(path) == Some(Kind::Rpm));
    paths.extend(rpm.map(|path| (path.clone(), Kind::Rpm)));
    paths
}

fn system_packages(
    tree: &Tree,
    os: Option<&Os>,
    databases: &BTreeMap<String, Kind>,
    inventory: &mut Inventory,
) {
    let ecosystem = os.and_then(|os| os.ecosystem.as_ref());
    let fits = |kind: Kind| match ecosystem {
        Some(Ecosystem::Debian(_) | Ecosystem::Ubuntu(_)) => {
            matches!(kind, Kind::Dpkg | Kind::DpkgPart)
        }
        Some(Ecosystem::Alpine(_) | Ecosystem::Wolfi | Ecosystem::Chainguard) => kind == Kind::Apk,
        _ => false,
    };
    let mut any = false;
    for (path, kind) in databases {
        let Some(held) = tree.files.get(path) else { continue };
        report_problems(path, held, inventory);
        match ecosystem.filter(|_| fits(*kind)) {
            Some(ecosystem) => {
                any = true;
                add_packages(ecosystem, path, held, inventory);
            }
            None if *kind == Kind::Rpm || os.is_none_or(|os| os.ecosystem.is_none()) => {}
            None => {
                let detail = "the package database is not one of this system's".to_owned();
                let entry = entry(Reason::UnsupportedFile, path, detail, path, held);
                inventory.not_assessed.push(entry);
            }
        }
    }
    inventory.not_assessed.extend(doubt_about_system(tree, os, databases, any));
}

/// What is to be said when the system's packages are not known: a system without a name, a name
/// that we do not support, a name without packages.
fn doubt_about_system(
    tree: &Tree,
    os: Option<&Os>,
    databases: &BTreeMap<String, Kind>,
    any: bool,
) -> Option<NotAssessed> {
    let (reason, subject, detail) = match os {
        Some(os) if os.ecosystem.is_none() => {
            (Reason::UnsupportedOs, os.name.clone(), "this operating system is not supported")
        }
        Some(os) if !any => {
            let detail =
                match tree.is_redirected(DPKG_STATUS) || tree.is_redirected(APK_INSTALLED[0]) {
                    true => "its package database is a link to a file that was not read",
                    false => "its package database is not in the image",
                };
            (Reason::MissingDatabase, os.name.clone(), detail)
        }
        Some(_) => return None,
        None if !databases.is_empty() => {
            let detail = "there is a package database, and nothing names the operating system";
            (Reason::UnknownOs, "operating system".to_owned(), detail)
        }
        None if tree.files.values().any(|held| held.facts == Facts::Present) => {
            let detail = "there is a C library, and nothing names the operating system";
            (Reason::UnknownOs, "operating system".to_owned(), detail)
        }
        None => return None,
    };
    Some(NotAssessed { reason, subject, detail: detail.to_owned(), path: None, layer: None })
}

fn language_packages(tree: &Tree, databases: &BTreeMap<String, Kind>, inventory: &mut Inventory) {
    let installed = installed(tree);
    for (path, held) in &tree.files {
        let kind = kind(path);
        let (ecosystem, locked) = match kind {
            Some(Kind::NpmLock | Kind::OtherNpmLock) => (Ecosystem::Npm, true),
            Some(Kind::NpmPackage) => (Ecosystem::Npm, false),
            Some(Kind::PythonRequirements) => (Ecosystem::PyPi, true),
            Some(Kind::PythonPackage) => (Ecosystem::PyPi, false),
            Some(Kind::Dpkg | Kind::Apk) if !databases.contains_key(path) => {
                let detail = "it is a package database outside the system's own place".to_owned();
                let entry = entry(Reason::UnsupportedFile, path, detail, path, held);
                inventory.not_assessed.push(entry);
                continue;
            }
            _ => continue,
        };
        // A lock file that we cannot read is no loss where what it locks is installed beside it.
        let scope = scope_of(path, &ecosystem);
        let stood_for = || {
            let from = (scope.clone(), String::new(), String::new());
            installed.range(from..).next().is_some_and(|(beside, ..)| *beside == scope)
        };
        if kind == Some(Kind::OtherNpmLock) && stood_for() {
            continue;
        }
        report_problems(path, held, inventory);
        let mut held = held.clone();
        if let (true, Facts::Packages { found, .. }) = (locked, &mut held.facts) {
            // What is locked and also installed is one package; the installed one is the evidence.
            found.retain(|package| {
                let name = ecosystem.normal_name(&package.name);
                !installed.contains(&(scope.clone(), name, package.version.clone()))
            });
        }
        add_packages(&ecosystem, path, &held, inventory);
    }
}

/// Files that say which packages of a language there are, in a way that nobody reads yet.
fn unread_packages(tree: &Tree, inventory: &mut Inventory) {
    // Asked once: an image may hold any number of lock files.
    let reads_python = tree.files.keys().any(|path| kind(path) == Some(Kind::PythonPackage));
    let mut by_detail: BTreeMap<&str, Vec<(&String, &Held)>> = BTreeMap::new();
    for (path, held) in &tree.files {
        match kind(path) {
            // As with npm's: what is locked is installed, and that is read.
            Some(Kind::Unread("Python")) if reads_python => continue,
            None | Some(Kind::Unread(_)) => {}
            Some(_) => continue,
        }
        let Facts::Packages { problems, .. } = &held.facts else { continue };
        for (_, detail) in problems {
            by_detail.entry(detail).or_default().push((path, held));
        }
    }
    for (detail, files) in by_detail {
        let named = files.iter().take(MAX_UNREAD).map(|(path, held)| {
            entry(Reason::UnsupportedFile, path, detail.to_owned(), path, held)
        });
        inventory.not_assessed.extend(named);
        if let Some((path, held)) = files.get(MAX_UNREAD) {
            let more = files.len() - MAX_UNREAD;
            let subject = format!("{more} more files");
            inventory.not_assessed.push(entry(
                Reason::UnsupportedFile,
                &subject,
                detail.to_owned(),
                path,
                held,
            ));
        }
    }
}

/// Installed packages of languages, as (scope, name, version).
fn installed(tree: &Tree) -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    for (path, held) in &tree.files {
        let ecosystem = match kind(path) {
            Some(Kind::NpmPackage) => Ecosystem::Npm,
            Some(Kind::PythonPackage) => Ecosystem::PyPi,
            _ => continue,
        };
        let Facts::Packages { found, .. } = &held.facts else { continue };
        for package in found {
            let name = ecosystem.normal_name(&package.name);
            all.insert((scope_of(path, &ecosystem), name, package.version.clone()));
        }
    }
    all
}

/// npm: the folder of the lock file, or that of the outermost `node_modules`. Python installs far
/// from the list of requirements, so there the whole image is one scope.
fn scope_of(path: &str, ecosystem: &Ecosystem) -> String {
    if *ecosystem == Ecosystem::PyPi {
        return String::new();
    }
    let path = format!("/{path}");
    let end = path.find("/node_modules/").or(path.rfind('/')).unwrap_or_default();
    path[..end].to_owned()
}

fn add_packages(ecosystem: &Ecosystem, path: &str, held: &Held, inventory: &mut Inventory) {
    let Facts::Packages { found, .. } = &held.facts else { return };
    inventory.packages.extend(found.iter().map(|package| Package {
        ecosystem: ecosystem.clone(),
        name: package.name.clone(),
        version: package.version.clone(),
        source: package.source.clone(),
        layer: Some(held.layer_of(package).clone()),
        path: path.to_owned(),
        dev: package.dev,
        licence: package.licence.clone(),
    }));
}

fn report_problems(path: &str, held: &Held, inventory: &mut Inventory) {
    let Facts::Packages { problems, .. } = &held.facts else { return };
    let entries =
        problems.iter().map(|(reason, detail)| entry(*reason, path, detail.clone(), path, held));
    inventory.not_assessed.extend(entries);
}

fn entry(reason: Reason, subject: &str, detail: String, path: &str, held: &Held) -> NotAssessed {
    NotAssessed {
        reason,
        subject: subject.to_owned(),
        detail,
        path: Some(path.to_owned()),
        layer: Some(held.layer.clone()),
    }
}
