//! What names of images mean. Each is asked for once in a build: a tag that is moved meanwhile leads all stages and
//! platforms to the same image, or to images of the same index.

use sekisho_oci::{Manifest, Platform, media_type, parse_manifest};
use sekisho_types::{Digest, ImageReference};

use crate::slots::{Slots, lock};
use crate::store::Store;

/// An image that a registry has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Of the manifest for the platform.
    pub(crate) digest: Digest,
    /// The manifest.
    pub(crate) manifest: Vec<u8>,
    /// What it says it is.
    pub(crate) media_type: String,
}

impl Resolved {
    /// A manifest that an earlier build stored.
    pub(crate) fn of_store(store: &Store, digest: &Digest) -> Option<Self> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            media_type: Option<String>,
        }
        let bytes = std::fs::read(store.blob_path(digest)).ok()?;
        let kind: Kind = serde_json::from_slice(&bytes).ok()?;
        let media_type = kind.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
        let image = matches!(parse_manifest(&bytes, &media_type), Ok(Manifest::Image(_)));
        image.then(|| Self { digest: digest.clone(), manifest: bytes, media_type })
    }
}

/// Names that were asked for in this build.
#[derive(Default)]
pub(crate) struct Names(Slots<ImageReference, Meaning>);

#[derive(Default)]
struct Meaning {
    /// Of the manifest or index that the name led to.
    root: Option<Digest>,
    images: Vec<(Platform, Resolved)>,
}

impl Names {
    /// What a name means for a platform. `ask` finds it out, and the digest of what the name leads to with it; it is
    /// given the name with that digest when it is known for another platform.
    ///
    /// # Errors
    /// Those of `ask`, which is asked again then.
    pub(crate) fn resolve<E>(
        &self,
        name: &ImageReference,
        platform: &Platform,
        ask: impl FnOnce(&ImageReference) -> Result<(Digest, Resolved), E>,
    ) -> Result<Resolved, E> {
        let meaning = self.0.of(name.clone());
        // Who wants the same at the same time waits for the answer.
        let mut meaning = lock(&meaning);
        if let Some((_, known)) = meaning.images.iter().find(|(of, _)| of == platform) {
            return Ok(known.clone());
        }
        let digest = meaning.root.clone().or_else(|| name.digest.clone());
        let (root, resolved) = ask(&ImageReference { digest, ..name.clone() })?;
        meaning.root.get_or_insert(root);
        meaning.images.push((platform.clone(), resolved.clone()));
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A registry whose tag means another index each time that it is asked for.
    #[derive(Default)]
    struct Moving(Vec<String>);

    impl Moving {
        fn ask(&mut self, name: &ImageReference, platform: &Platform) -> (Digest, Resolved) {
            self.0.push(name.to_string());
            let moved = Digest::sha256(self.0.len().to_string().as_bytes());
            let root = name.digest.clone().unwrap_or(moved);
            let manifest = format!("{root} {platform}").into_bytes();
            let digest = Digest::sha256(&manifest);
            (root, Resolved { digest, manifest, media_type: "m".to_owned() })
        }
    }

    #[test]
    fn a_name_means_one_index_whoever_asks() {
        let (names, mut registry) = (Names::default(), Moving::default());
        let name: ImageReference = "h.example/a:v1".parse().unwrap();
        let platforms = [Platform::new("linux", "amd64"), Platform::new("linux", "arm64")];
        let mut of = |platform: &Platform| {
            let asked =
                names.resolve(&name, platform, |name| Ok::<_, ()>(registry.ask(name, platform)));
            asked.unwrap()
        };
        let first = platforms.each_ref().map(&mut of);
        assert_eq!(platforms.each_ref().map(&mut of), first);
        let root = Digest::sha256(b"1");
        let want = platforms.each_ref().map(|platform| format!("{root} {platform}").into_bytes());
        assert_eq!(first.map(|found| found.manifest), want);
        assert_eq!(registry.0, ["h.example/a:v1".to_owned(), format!("h.example/a:v1@{root}")]);
    }

    #[test]
    fn what_was_not_found_is_asked_for_again() {
        let (names, mut registry) = (Names::default(), Moving::default());
        let (name, platform): (ImageReference, _) =
            ("h.example/a".parse().unwrap(), Platform::host());
        assert_eq!(names.resolve(&name, &platform, |_| Err("silence")), Err("silence"));
        let found =
            names.resolve(&name, &platform, |name| Ok::<_, ()>(registry.ask(name, &platform)));
        assert!(found.is_ok());
        assert_eq!(registry.0, ["h.example/a:latest"]);
    }

    #[test]
    fn who_asks_at_the_same_time_gets_the_same() {
        let (names, registry) = (Names::default(), Mutex::new(Moving::default()));
        let (name, platform): (ImageReference, _) =
            ("h.example/a".parse().unwrap(), Platform::host());
        let ask = || {
            names
                .resolve(&name, &platform, |name| Ok::<_, ()>(lock(&registry).ask(name, &platform)))
        };
        let found: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|one| one.join().unwrap().unwrap()).collect()
        });
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(lock(&registry).0.len(), 1);
    }
}
