//! Windows, the reserve, and a server that counts, simulated.

use super::*;

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn seen(remaining: u64, resets: i64) -> RateSeen {
    RateSeen { resource: CORE.into(), limit: 100, remaining, resets_at: at(NOW + resets) }
}

#[test]
fn a_tenth_is_kept_for_what_must_not_fail() {
    let check = |remaining, out, purpose, want: bool| {
        let mut budget = Budget::default();
        budget.observe(seen(remaining, 60));
        (0..out).for_each(|_| budget.begin(CORE));
        let wait = Permit::Wait { until: at(NOW + 60), secondary: false };
        let want = if want { Permit::Go } else { wait };
        assert_eq!(budget.decide(CORE, purpose, at(NOW)), want, "{remaining} {out} {purpose:?}");
        // Other resources and the next window are free.
        assert_eq!(budget.decide(REGISTRATION, purpose, at(NOW)), Permit::Go);
        assert_eq!(budget.decide(CORE, purpose, at(NOW + 60)), Permit::Go);
    };
    check(11, 0, Purpose::Ordinary, true);
    check(11, 1, Purpose::Ordinary, false);
    check(10, 0, Purpose::Ordinary, false);
    check(10, 0, Purpose::Reserved, true);
    check(1, 0, Purpose::Reserved, true);
    check(1, 1, Purpose::Reserved, false);
    check(0, 0, Purpose::Reserved, false);
}

#[test]
fn answers_overtake_each_other() {
    let mut budget = Budget::default();
    for (remaining, resets, want) in
        [(50, 60, 50), (52, 60, 50), (49, 60, 49), (90, 30, 49), (99, 3660, 99), (1, 60, 99)]
    {
        budget.observe(seen(remaining, resets));
        assert_eq!(budget.windows[CORE].remaining, want);
    }
}

#[test]
fn secondary_limits_double() {
    let mut budget = Budget::default();
    let seconds = |until: Timestamp, now| until.as_second() - now;
    assert_eq!(seconds(budget.strike(None, at(NOW)), NOW), 60);
    let wait = budget.decide(CORE, Purpose::Reserved, at(NOW + 59));
    assert_eq!(wait, Permit::Wait { until: at(NOW + 60), secondary: true });
    assert_eq!(budget.decide(CORE, Purpose::Reserved, at(NOW + 60)), Permit::Go);
    assert_eq!(seconds(budget.strike(None, at(NOW + 60)), NOW + 60), 120);
    assert_eq!(seconds(budget.strike(Some(Duration::from_secs(5)), at(NOW + 500)), NOW + 500), 5);
    budget.went_well();
    assert_eq!(seconds(budget.strike(None, at(NOW + 900)), NOW + 900), 60);
    for _ in 0..40 {
        budget.strike(None, at(NOW + 900));
    }
    assert_eq!(budget.paused_until, Some(at(NOW + 900 + 3600)));
}

#[test]
fn headers() {
    let read = |list: &[(&'static str, &str)]| {
        let pairs = list.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
        RateSeen::read(&pairs.collect())
    };
    let (limit, left) = (("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "7"));
    let reset = ("x-ratelimit-reset", "1800000060");
    assert_eq!(read(&[limit, left, reset]), Some(seen(7, 60)));
    assert_eq!(read(&[limit, left]), None);
    assert_eq!(read(&[limit, ("x-ratelimit-remaining", "-1"), reset]), None);
    assert_eq!(read(&[limit, left, ("x-ratelimit-reset", "99999999999999999")]), None);
}

/// A server with a window of 100 that starts anew every hour.
#[test]
fn the_reserve_is_there_when_it_is_needed() {
    let mut random = 7_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % limit
    };
    let (mut budget, mut now) = (Budget::default(), NOW);
    let (mut left, mut resets, mut refused, mut saved) = (100_u64, NOW + 3600, 0, 0);
    for _ in 0..20_000 {
        now += below(20).cast_signed();
        if now >= resets {
            (left, resets) = (100, now + 3600);
        }
        let purpose = if below(80) == 0 { Purpose::Reserved } else { Purpose::Ordinary };
        match budget.decide(CORE, purpose, at(now)) {
            Permit::Go => {
                budget.begin(CORE);
                assert!(left > 0, "the server would have refused");
                left -= 1;
                budget.end(CORE);
                let resets_at = at(resets);
                budget.observe(RateSeen { resets_at, remaining: left, ..seen(0, 0) });
                saved += u64::from(purpose == Purpose::Reserved && left < 10);
            }
            Permit::Wait { until, secondary } => {
                assert!(!secondary && until == at(resets));
                assert_eq!(purpose, Purpose::Ordinary, "the reserve was used up");
                refused += 1;
            }
        }
    }
    assert!(refused > 100 && saved > 10, "{refused} {saved}");
}

proptest::proptest! {
    #[test]
    fn any_headers_are_read_or_not(
        limit in "\\PC{0,20}", remaining in "[0-9]{0,22}", reset in "[0-9]{0,22}",
        resource in "\\PC{0,70}", after in "\\PC{0,20}",
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-ratelimit-limit", limit), ("x-ratelimit-remaining", remaining),
            ("x-ratelimit-reset", reset), ("x-ratelimit-resource", resource),
            ("retry-after", after),
        ] {
            let value = reqwest::header::HeaderValue::from_bytes(value.as_bytes());
            if let Ok(value) = value { headers.insert(name, value); }
        }
        if let Some(seen) = RateSeen::read(&headers) {
            assert!(seen.remaining <= seen.limit);
        }
        assert!(retry_after(&headers).is_none_or(|pause| pause <= MAX_PAUSE));
    }
}
