//! Each target on up to a thousand inputs, the same ones every time; and whether what finds things does.

use sekisho_fuzz::hunt::{holds, hunt};
use sekisho_fuzz::mutate::Mutator;
use sekisho_fuzz::{MAX_INPUT, Target, table, targets};

/// The seed of every change's test. Hours of others are the program's business.
const SEED: u64 = 1;
/// Inputs of each target: some seconds for all of them, unoptimised.
const INPUTS: u64 = 1_000;

/// As a test, but for each target.
fn held(target: &Target) -> Result<u64, String> {
    let inputs = INPUTS / u64::from(target.cost);
    hunt(target, SEED, |round, _| Ok(round < inputs)).map_err(|finding| finding.to_string())
}

#[test]
fn every_target_holds() {
    let all = targets::all();
    let half = all.len() / 2;
    let failed = std::thread::scope(|scope| {
        let run = |targets: &[Target]| -> Vec<String> {
            targets.iter().filter_map(|target| held(target).err()).collect()
        };
        let [first, second] =
            [&all[..half], &all[half..]].map(|part| scope.spawn(move || run(part)));
        let mut failed = first.join().unwrap();
        failed.extend(second.join().unwrap());
        failed
    });
    assert!(failed.is_empty(), "\n{}", failed.join("\n\n"));
}

#[test]
fn every_target_has_a_name_of_its_own_and_seeds() {
    let mut names: Vec<&str> = targets::all().iter().map(|target| target.name).collect();
    for target in targets::all() {
        assert!(!target.corpus().unwrap().is_empty(), "{}", target.name);
        assert_eq!(targets::named(target.name).unwrap().reads, target.reads);
        let plain = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(target.name.chars().all(plain), "{}", target.name);
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(targets::named("none").is_none());
}

#[test]
fn a_seed_makes_the_same_inputs_twice_and_another_makes_others() {
    let corpus = [b"a: 1\n".to_vec(), b"[2, 3]".to_vec()];
    let inputs = |seed: u64| -> Vec<Vec<u8>> {
        let mut mutator = Mutator::new(seed, &corpus, &["word"]);
        (0..2_000).map(|_| mutator.next_input().to_vec()).collect()
    };
    let first = inputs(7);
    assert_eq!(inputs(7), first);
    assert_ne!(inputs(8), first);
    assert!(first.iter().all(|input| input.len() <= MAX_INPUT));
    let has =
        |piece: &[u8]| first.iter().any(|input| input.windows(piece.len()).any(|w| w == piece));
    assert!(has(b"word") && has(b"4294967296") && has(&[0xff]) && first.contains(&Vec::new()));
}

/// Does not hold of inputs with `bug` or `BUG` in them.
const WRONG: Target = Target {
    name: "wrong",
    reads: "",
    holds: "",
    seeds: || vec![b"the beginning, and the end".to_vec()],
    words: &["bug"],
    cost: 1,
    run: |input| assert!(!input.to_ascii_lowercase().windows(3).any(|w| w == b"bug"), "found it"),
};

#[test]
fn what_does_not_hold_is_found_and_made_small() {
    let finding = hunt(&WRONG, 3, |round, _| Ok(round < 10_000)).unwrap_err();
    assert_eq!(finding.input.to_ascii_lowercase(), b"bug");
    assert!(finding.said.starts_with("found it, at fuzz"), "{}", finding.said);
    let again = hunt(&WRONG, 3, |round, _| Ok(round < 10_000)).unwrap_err();
    assert_eq!((again.round, again.input), (finding.round, finding.input));
    assert!(finding.round.is_some());
    assert!(holds(&WRONG, b"all is well").is_ok());
    // One that was found before is in the corpus, and is tried first.
    let seeded = Target { seeds: || vec![b"a bug".to_vec()], ..WRONG };
    assert_eq!(hunt(&seeded, 3, |_, _| Ok(true)).unwrap_err().round, None);
}

#[test]
fn the_page_lists_the_targets() {
    let text = std::fs::read_to_string(table::page()).unwrap();
    let wanted = table::renewed(&text).expect("docs/fuzzing.md has a place for the table");
    assert_eq!(text, wanted, "run `cargo run -p sekisho-fuzz -- --table`");
}

#[test]
fn every_found_case_is_one_of_a_target() {
    let Ok(folders) = std::fs::read_dir(sekisho_fuzz::repository().join("fuzz/cases")) else {
        return;
    };
    for folder in folders {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(targets::named(&name).is_some(), "fuzz/cases/{name} is of no target");
    }
}
