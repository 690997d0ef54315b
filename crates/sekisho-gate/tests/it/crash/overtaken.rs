//! A gate that starts and finds a push that was cut short, while another gate on the same bucket goes on.

use futures_util::StreamExt as _;
use object_store::{GetOptions, ObjectStore as _};
use sekisho_types::Digest;

use super::faulty::{Fault, Faulty};
use super::{Image, Rig, image};

/// A push that was allowed and not promoted, for its gate died.
struct Cut {
    image: Image,
    tag: String,
    /// Of its record.
    key: String,
}

impl Cut {
    fn digest(&self) -> Digest {
        Digest::sha256(&self.image.manifest)
    }
}

/// The record of the image: its key and what it says.
async fn record(store: &Faulty, image: &Image) -> Option<(String, String)> {
    let digest = Digest::sha256(&image.manifest);
    let mut all = store.list(None);
    while let Some(object) = all.next().await {
        let location = object.unwrap().location;
        let key = location.to_string();
        if key.contains("/pushes/") && key.contains(digest.hex()) {
            let read = store.get_opts(&location, GetOptions::default()).await.unwrap();
            return Some((key, String::from_utf8(read.bytes().await.unwrap().to_vec()).unwrap()));
        }
    }
    None
}

fn cut_short(rig: &Rig, store: &Faulty) -> Cut {
    let cut = |at| {
        let (image, tag) = (image(at, true), format!("v{at}"));
        if let Ok(gate) = rig.open(&store.next(Some((Fault::Before, at)))) {
            rig.push(&gate, &image, &tag);
        }
        let (key, text) = rig.runtime.block_on(record(&store.next(None), &image))?;
        text.contains("\"state\":\"promoting\"").then_some(Cut { image, tag, key })
    };
    (1..200).find_map(cut).unwrap()
}

#[test]
fn a_starting_gate_goes_on_with_what_was_cut_short() {
    let (rig, store) = (Rig::new(), Faulty::new());
    let cut = cut_short(&rig, &store);
    let gate = rig.open(&store.next(None)).unwrap();
    assert_eq!(rig.check_tag(&gate, &cut.tag), Some(cut.digest()));
}

#[test]
fn a_starting_gate_takes_no_tag_back_that_another_gate_moved() {
    let (rig, store) = (Rig::new(), Faulty::new());
    // Open all the time, so that it goes on with nothing.
    let other = rig.open(&store.next(None)).unwrap();
    let cut = cut_short(&rig, &store);
    let newer = image(1000, true);
    let starting = store.next(None).held_at(&cut.key);
    let gate = std::thread::scope(|scope| {
        let opened = scope.spawn(|| rig.open(&starting).unwrap());
        // It has read that a push is to be promoted, and does not know yet what comes now.
        rig.runtime.block_on(starting.reached());
        assert_eq!(rig.push(&other, &newer, &cut.tag).1, 201);
        starting.go_on();
        opened.join().unwrap()
    });
    let want = Some(Digest::sha256(&newer.manifest));
    assert_eq!(rig.check_tag(&gate, &cut.tag), want);
    assert_eq!(rig.check_tag(&other, &cut.tag), want);
    let (_, text) = rig.runtime.block_on(record(&store, &cut.image)).unwrap();
    assert!(text.contains("\"state\":\"superseded\""), "{text}");
}
