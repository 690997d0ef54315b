//! Two gates that collect, and users that come at any moment.

use std::cell::Cell;
use std::sync::Arc;

use sekisho_store::Bucket;

use super::*;

const START: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn clock(now: Timestamp) -> Clock {
    Clock::new(move || now)
}

fn marks() -> Marks {
    Marks::new(Records::in_bucket(Bucket::on(Arc::new(object_store::memory::InMemory::new()), "")))
}

/// Another gate on the same bucket.
fn other(marks: &Marks) -> Marks {
    Marks::new(marks.records.clone())
}

#[test]
fn every_mark_says_what_may_be_done() {
    use Stage::{Condemned, Removing, Used};
    let (hour, day) = (3600, 24 * 3600);
    for (stage, age, use_it, collect) in [
        (None, 0, OnUse::Use, OnGarbage::Condemn),
        (Some(Used), 0, OnUse::Use, OnGarbage::Condemn),
        (Some(Used), 30 * day, OnUse::Use, OnGarbage::Condemn),
        (Some(Condemned), 0, OnUse::Save, OnGarbage::Wait),
        (Some(Condemned), day, OnUse::Save, OnGarbage::Wait),
        (Some(Condemned), day + 1, OnUse::Save, OnGarbage::Remove),
        // A clock that was set back.
        (Some(Condemned), -30 * day, OnUse::Save, OnGarbage::Wait),
        (Some(Removing), 0, OnUse::ComeAgain, OnGarbage::Wait),
        (Some(Removing), 600, OnUse::ComeAgain, OnGarbage::Wait),
        (Some(Removing), 601, OnUse::Save, OnGarbage::Remove),
        (Some(Removing), -hour, OnUse::ComeAgain, OnGarbage::Wait),
    ] {
        let mark = stage.map(|stage| Mark { stage, at: at(START) });
        let now = at(START + age);
        let said = (on_use(mark.as_ref(), now), on_garbage(mark.as_ref(), now));
        assert_eq!(said, (use_it, collect), "{stage:?} {age}");
    }
}

#[test]
fn a_use_or_a_removal_and_never_both() {
    let (one, digest) = (marks(), Digest::sha256(b"layer"));
    let two = other(&one);
    let (first, later) = (at(START), at(START + 25 * 3600));
    let removed = Cell::new(0);
    let remove = |marks: &Marks, clock: &Clock| {
        marks.remove(&digest, clock, || {
            removed.set(removed.get() + 1);
            Ok(())
        })
    };
    assert!(!remove(&one, &clock(first)).unwrap(), "condemned");
    assert!(two.use_all(std::slice::from_ref(&digest), later).unwrap(), "saved at another gate");
    assert!(!remove(&one, &clock(later)).unwrap(), "condemned anew");
    let last = at(START + 50 * 3600);
    let come_again = Cell::new(None);
    let done = one.remove(&digest, &clock(last), || {
        // In the middle of it.
        come_again.set(Some(two.use_all(std::slice::from_ref(&digest), last).unwrap()));
        assert!(!remove(&two, &clock(last)).unwrap(), "one gate removes it");
        Ok(())
    });
    assert!(done.unwrap() && come_again.get() == Some(false));
    assert!(two.use_all(std::slice::from_ref(&digest), last).unwrap(), "gone, to be pushed again");
    assert_eq!(removed.get(), 0);

    // A gate that sleeps between its mark and the removal does not go on with it.
    assert!(!remove(&one, &clock(last)).unwrap());
    let begun = at(START + 80 * 3600);
    let asked = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let slow = Clock::new(move || {
        let asked = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        begun + SignedDuration::from_mins(5 * asked)
    });
    assert!(!remove(&one, &slow).unwrap());
    assert_eq!(removed.get(), 0);
    // Nor does it keep anybody out for good: another one saves it, or ends the removal.
    let after = begun + SignedDuration::from_mins(11);
    assert!(remove(&two, &clock(after)).unwrap());
    assert_eq!(removed.get(), 1);
}

#[test]
fn what_is_no_garbage_any_more_has_no_mark() {
    let (marks, digest) = (marks(), Digest::sha256(b"layer"));
    let none = BTreeSet::new();
    assert!(!marks.remove(&digest, &clock(at(START)), || Ok(())).unwrap());
    let all: BTreeSet<&Digest> = [&digest].into();
    marks.tidy(&all, at(START)).unwrap();
    assert!(marks.read(&digest).unwrap().0.is_some());
    // First as used, so that no removal goes on with it; then not at all.
    for want in [Some(Stage::Used), None] {
        marks.tidy(&none, at(START)).unwrap();
        assert_eq!(marks.read(&digest).unwrap().0.map(|mark| mark.stage), want);
    }
}

/// SplitMix64: a seed gives the same run for ever.
fn roll(random: &mut u64, sides: u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % sides
}

/// Gates look, remove piece by piece and tidy; users are told of a blob and put its manifest within
/// the hour. Whatever was promised is there when its manifest comes.
#[test]
fn nothing_promised_goes_whoever_collects() {
    let (mut promised, mut kept, mut removed) = (0, 0, 0);
    for seed in 0..400_u64 {
        let mut random = seed;
        let one = marks();
        let gates = [other(&one), other(&one), one];
        let digest = Digest::sha256(&seed.to_le_bytes());
        let (mut is_here, mut is_named, mut now) = (true, false, START);
        // When a user was told, and what each gate saw when it looked.
        let mut told: Option<i64> = None;
        let mut saw: [Option<bool>; 3] = [None; 3];
        for _ in 0..120 {
            let which = roll(&mut random, 3) as usize;
            let gate = &gates[which];
            match roll(&mut random, 12) {
                // To look, and to go on with what was seen a while ago.
                0..3 => saw[which] = Some(is_here && !is_named),
                3..7 => match saw[which].take() {
                    Some(true) => {
                        let remove = || {
                            is_here = false;
                            removed += 1;
                            Ok(())
                        };
                        gate.remove(&digest, &clock(at(now)), remove).unwrap();
                    }
                    Some(false) => gate.tidy(&BTreeSet::new(), at(now)).unwrap(),
                    None => {}
                },
                7 if is_here && told.is_none() && !is_named => {
                    if gate.use_all(std::slice::from_ref(&digest), at(now)).unwrap() {
                        told = Some(now);
                        promised += 1;
                    }
                }
                8 => {
                    if let Some(when) = told.take().filter(|when| now - when <= 3600) {
                        assert!(is_here, "seed {seed}: promised at {when}, gone at {now}");
                        if gate.use_all(std::slice::from_ref(&digest), at(now)).unwrap() {
                            is_named = true;
                            kept += 1;
                        }
                    }
                }
                9 => is_named = false,
                10 if !is_here => is_here = true,
                11 if roll(&mut random, 2) == 0 => {
                    now += 13 * 3600;
                    // A look of yesterday is none: a collection takes minutes.
                    saw = [None; 3];
                }
                _ => now += i64::try_from(roll(&mut random, 6)).unwrap() * 200,
            }
            assert!(is_here || !is_named, "seed {seed}: named, and gone");
        }
    }
    assert!(promised > 100 && kept > 50 && removed > 50, "{promised} {kept} {removed}");
}
