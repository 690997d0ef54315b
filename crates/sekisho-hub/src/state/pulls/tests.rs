use super::*;

fn side(repository: u64, branch: &str) -> Side {
    let name = format!("owner{repository}/app").parse().unwrap();
    let repository = RepositoryIds { name, id: repository, owner_id: repository + 100 };
    Side { repository, branch: branch.to_owned(), sha: "0".repeat(40) }
}

fn pull(number: u64, head: Side, base: Side) -> PullRequest {
    PullRequest {
        id: 0,
        number,
        title: "t".to_owned(),
        body: None,
        draft: false,
        state: PullState::Open,
        actor: "a".to_owned(),
        head,
        base,
        merge_sha: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn one_open_pull_request_of_two_branches() {
    let mut pulls = Pulls::default();
    assert_eq!([pulls.reserve(1), pulls.reserve(1), pulls.reserve(2)], [1, 2, 1]);
    let first = pulls.open(pull(1, side(1, "topic"), side(1, "main"))).unwrap();
    let again = pull(2, side(1, "topic"), side(1, "main"));
    assert_eq!(pulls.open(again.clone()), Err(PullError::Exists));
    // Of a fork, to another branch, to another repository: others.
    let fork = pulls.open(pull(3, side(2, "topic"), side(1, "main"))).unwrap();
    assert!(fork.is_of_fork() && !first.is_of_fork());
    pulls.open(pull(4, side(1, "topic"), side(1, "release"))).unwrap();
    let there = pulls.open(pull(1, side(1, "topic"), side(2, "main"))).unwrap();
    assert_eq!((first.id, there.id), (1, 4));
    let numbers = |all: Vec<PullRequest>| all.iter().map(|p| p.id).collect::<Vec<_>>();
    assert_eq!(numbers(pulls.about(1, "topic")), [1, 3, 4]);
    assert_eq!(numbers(pulls.about(1, "main")), [1, 2]);
    assert_eq!(numbers(pulls.about(2, "topic")), [2]);
    assert!(pulls.put(PullRequest { state: PullState::Closed { at: first.created_at }, ..first }));
    assert_eq!(numbers(pulls.about(1, "topic")), [3, 4]);
    assert!(pulls.open(again).is_ok());
    assert_eq!(pulls.of(1).map(|pull| pull.number).collect::<Vec<_>>(), [4, 3, 2, 1]);
    let written = serde_json::to_string(&pulls).unwrap();
    assert_eq!(serde_json::from_str::<Pulls>(&written).unwrap(), pulls);
}

/// One of a branch of its own.
fn nth(pulls: &mut Pulls, repository: u64) -> PullRequest {
    let number = pulls.reserve(repository);
    pull(number, side(repository, &format!("topic{number}")), side(repository, "main"))
}

fn close(pulls: &mut Pulls, (repository, number): (u64, u64), at: i64) {
    let pull = pulls.get(repository, number).unwrap().clone();
    let at = Timestamp::from_second(at).unwrap();
    assert!(pulls.put(PullRequest { state: PullState::Closed { at }, ..pull }));
}

#[test]
fn closed_ones_go_and_open_ones_stay_and_no_number_comes_again() {
    let mut pulls = Pulls::default();
    for n in 0..MAX_PULLS as u64 {
        let new = nth(&mut pulls, 1 + n % 2);
        pulls.open(new).unwrap();
    }
    let more = nth(&mut pulls, 1);
    assert_eq!(pulls.open(more.clone()), Err(PullError::Full));
    assert_eq!(pulls.closed(), []);
    assert!(!pulls.forget(1, 7), "it is open");
    close(&mut pulls, (1, 7), 30);
    close(&mut pulls, (2, 9), 20);
    close(&mut pulls, (1, 2), 20);
    // By when they were closed, then by when they were opened.
    assert_eq!(pulls.closed(), [(1, 2), (2, 9), (1, 7)]);
    assert!(pulls.forget(1, 2) && !pulls.forget(1, 2) && !pulls.forget(3, 2));
    assert_eq!(pulls.get(1, 2), None);
    let gone = PullRequest { number: 2, ..more.clone() };
    assert!(!pulls.put(gone), "whoever still has it does not bring it back");
    assert_eq!(pulls.open(more).unwrap().number, 501);
    assert!(!pulls.has_room(1, 0) && pulls.has_room(0, 0));
    // All of it is forgotten, and the numbers go on, also after the disk.
    for number in 1..=501 {
        if pulls.get(1, number).is_some() {
            close(&mut pulls, (1, number), 40);
            assert!(pulls.forget(1, number));
        }
    }
    let written = serde_json::to_string(&pulls).unwrap();
    assert_eq!(serde_json::from_str::<Pulls>(&written).unwrap().reserve(1), 502);
}

#[test]
fn the_text_of_all_has_a_bound() {
    let mut pulls = Pulls::default();
    let long = |pulls: &mut Pulls| PullRequest {
        body: Some("x".repeat(MAX_TEXT / 4)),
        title: String::new(),
        ..nth(pulls, 1)
    };
    for _ in 0..4 {
        let new = long(&mut pulls);
        pulls.open(new).unwrap();
    }
    assert!(pulls.has_room(1, 0) && !pulls.has_room(1, 1));
    let new = long(&mut pulls);
    assert_eq!(pulls.open(new.clone()), Err(PullError::Full));
    assert!(!pulls.can_have_room((1, 9), 1, 1), "all are open");
    close(&mut pulls, (1, 3), 1);
    assert!(pulls.can_have_room((1, 9), 1, new.text()));
    assert!(!pulls.can_have_room((1, 9), 1, new.text() + 1), "none goes for nothing");
    assert!(!pulls.can_have_room((1, 3), 1, new.text()), "it is the one that stays");
    assert!(pulls.forget(1, 3));
    assert!(pulls.open(new).is_ok());
}
