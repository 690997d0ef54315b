use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn at(hours: i64) -> Timestamp {
    NOW + SignedDuration::from_hours(hours)
}

fn entry(id: u64, scope: &str, key: &str, hour: i64) -> CacheEntry {
    CacheEntry {
        id,
        place: place(scope, key),
        blob: Uuid::from_u128(id.into()),
        size_bytes: 10,
        created_at: at(hour),
        used_at: at(hour),
    }
}

fn place(scope: &str, key: &str) -> Place {
    let (scope, key) = (scope.to_owned(), key.to_owned());
    Place { repository: 1, scope, key, version: "v".to_owned() }
}

#[test]
fn who_reads_and_writes_what() {
    let check = |git_ref: &str, base: &str, reads: &[&str]| {
        let access = access(git_ref, base, "main");
        assert_eq!(write_scope(&access), Some(git_ref));
        assert_eq!(read_scopes(&access), reads);
        assert_eq!(access.iter().filter(|access| access.permission & WRITE != 0).count(), 1);
    };
    check("refs/heads/main", "", &["refs/heads/main"]);
    check("refs/heads/topic", "", &["refs/heads/topic", "refs/heads/main"]);
    check("refs/tags/v1", "", &["refs/tags/v1", "refs/heads/main"]);
    check("refs/pull/7/merge", "main", &["refs/pull/7/merge", "refs/heads/main"]);
    let release = ["refs/pull/7/merge", "refs/heads/release", "refs/heads/main"];
    check("refs/pull/7/merge", "release", &release);
}

#[test]
fn a_cache_mode_takes_access_away() {
    let all = || access("refs/heads/topic", "", "main");
    let check = |reads, writes, want: &[(&str, u8)]| {
        let left = limited(all(), reads, writes);
        let left: Vec<(&str, u8)> =
            left.iter().map(|it| (it.scope.as_str(), it.permission)).collect();
        assert_eq!(left, want);
    };
    let (topic, main) = ("refs/heads/topic", "refs/heads/main");
    check(true, true, &[(topic, 3), (main, 1)]);
    check(true, false, &[(topic, 1), (main, 1)]);
    check(false, true, &[(topic, 2)]);
    check(false, false, &[]);
}

#[test]
fn what_is_found() {
    let mut other_version = entry(6, "main", "go-1", 9);
    other_version.place.version = "w".to_owned();
    let mut other_repository = entry(7, "main", "go-1", 9);
    other_repository.place.repository = 2;
    let caches = Caches::new([
        entry(1, "main", "go-1", 1),
        entry(2, "main", "go-1-x", 2),
        entry(3, "main", "go-2", 3),
        entry(4, "topic", "go-0", 0),
        entry(5, "main", "npm", 4),
        other_version,
        other_repository,
    ]);
    let check = |scopes: &[&str], keys: &[&str], want: Option<u64>| {
        let found = caches.find(1, scopes, keys, "v").map(|entry| entry.id);
        assert_eq!(found, want, "{scopes:?} {keys:?}");
    };
    check(&["main"], &["go-1"], Some(1));
    check(&["main"], &["go-"], Some(3));
    check(&["main"], &["go-1-"], Some(2));
    check(&["main"], &["rust"], None);
    check(&["main"], &["o-1"], None);
    check(&["main"], &["rust", "np", "go-"], Some(5));
    check(&["main"], &["rust", "go-1", "go-"], Some(2));
    // The nearer scope wins, even over an exact match further away.
    check(&["topic", "main"], &["go-1", "go-"], Some(4));
    check(&["topic", "main"], &["go-1"], Some(1));
    check(&["topic"], &["npm"], None);
    check(&[], &["go-1"], None);
    check(&["main"], &[], None);
    let found = caches.find(2, &["main"], &["go-1"], "v").map(|entry| entry.id);
    assert_eq!(found, Some(7));
}

#[test]
fn one_entry_in_a_place() {
    let mut caches = Caches::new([entry(1, "main", "a", 0)]);
    let (us, them) = (JobRef { run: 1, job: 1 }, JobRef { run: 2, job: 2 });
    let reserve = |key: &str, by| Reservation {
        place: place("main", key),
        blob: Uuid::nil(),
        by,
        until: at(1),
    };
    assert_eq!(caches.reserve(reserve("a", us)), Err(ReserveError::Taken));
    assert_eq!(caches.reserve(reserve("b", us)), Ok(()));
    assert_eq!(caches.reserve(reserve("b", them)), Err(ReserveError::Taken));
    assert_eq!(caches.reserved(&place("main", "b"), them), None);
    assert_eq!(caches.reserved(&place("main", "b"), us), Some(Uuid::nil()));
    assert!(caches.abandon(NOW, |_| true).is_empty());
    assert_eq!(caches.abandon(NOW, |job| job != us), [Uuid::nil()]);
    assert_eq!(caches.reserve(reserve("b", them)), Ok(()));
    assert_eq!(caches.abandon(at(1), |_| true), [Uuid::nil()]);
}

#[test]
fn names() {
    assert_eq!(check_names(&["k"; 10], "v"), Ok(()));
    assert_eq!(check_names(&["é".repeat(512).as_str()], "v"), Ok(()));
    for (keys, version) in [
        (vec!["k"; 11], "v"),
        (vec![""], "v"),
        (vec!["a,b"], "v"),
        (vec!["k".repeat(513).leak() as &str], "v"),
        (vec!["k"], ""),
    ] {
        assert!(check_names(&keys, version).is_err(), "{keys:?}");
    }
}

/// A repository's cache under a random load: what is safe at every step, and what is kept.
fn simulate(seed: u64) -> Vec<u64> {
    const QUOTA: u64 = 100;
    let mut random = seed;
    let mut next = |below: u64| {
        // Splitmix64.
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    };
    let mut caches = Caches::default();
    let mut now = NOW;
    let mut trace = Vec::new();
    for id in 1..=400 {
        now += SignedDuration::from_mins(i64::try_from(next(300)).unwrap());
        let mut new = entry(id, "main", &format!("k{}", next(40)), 0);
        (new.size_bytes, new.created_at, new.used_at) = (next(30), now, now);
        let (place, blob, by) = (new.place.clone(), new.blob, JobRef { run: 1, job: 1 });
        if caches.reserve(Reservation { place, blob, by, until: now }).is_ok() {
            assert!(caches.commit(new));
        }
        let some = caches.entries().nth(next(8).try_into().unwrap()).map(|entry| entry.id);
        if let Some(read) = some {
            caches.touch(read, now);
        }
        let before: Vec<CacheEntry> = caches.entries().cloned().collect();
        let gone = caches.sweep(QUOTA, now);
        let bytes: u64 = caches.entries().map(|entry| entry.size_bytes).sum();
        assert!(bytes <= QUOTA, "seed {seed}: {bytes} bytes");
        assert!(caches.entries().all(|e| now.duration_since(e.used_at) <= MAX_UNUSED));
        // Who goes was used no later than who stays.
        let oldest_kept = caches.entries().map(|entry| entry.used_at).min();
        assert!(gone.iter().all(|e| oldest_kept.is_none_or(|kept| e.used_at <= kept)));
        // Nobody goes without need.
        let needed = before.iter().map(|entry| entry.size_bytes).sum::<u64>() > QUOTA;
        let stale = |e: &CacheEntry| now.duration_since(e.used_at) > MAX_UNUSED;
        assert!(needed || gone.iter().all(stale), "seed {seed}");
        // Doing it again changes nothing.
        assert_eq!(caches.sweep(QUOTA, now), []);
        trace.extend(gone.iter().map(|entry| entry.id));
    }
    trace
}

#[test]
fn quota_and_age_hold_under_any_load() {
    for seed in 0..100 {
        simulate(seed);
    }
    let trace = simulate(7);
    assert!(trace.len() > 50, "{}", trace.len());
    assert_eq!(trace, simulate(7));
}
