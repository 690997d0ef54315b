//! Many lines and long lines: nothing is lost where nothing may be lost.

use crate::fixture::{Job, finish, run};

#[tokio::test]
async fn two_hundred_thousand_lines_arrive() {
    const LINES: usize = 200_000;
    let script = format!("seq -f 'line %.0f of many' 1 {LINES}");
    let done = finish(Job::new([run("many", &script)])).await;
    done.assert_conclusion("succeeded");
    let want = |n: usize| format!("line {n} of many");
    let log = done.log("many");
    let body: Vec<&String> = log.iter().filter(|line| line.starts_with("line ")).collect();
    assert_eq!(body.len(), LINES);
    assert!(body.iter().enumerate().all(|(i, line)| **line == want(i + 1)));
    let out = done.stdout.lines().filter_map(|line| line.split_once("Z line ")).count();
    assert_eq!(out, LINES);
    let live: usize =
        done.told.feed.iter().map(|frame| frame["value"].as_array().unwrap().len()).sum();
    let dropped = done.complete["telemetry"][0]["message"].as_str().unwrap_or("0 ");
    let dropped: usize = dropped.split(' ').next().unwrap().parse().unwrap();
    let all = done.stdout.lines().count();
    assert_eq!(live + dropped, all, "what the feed lost is counted");
}

#[tokio::test]
async fn a_line_without_end_is_cut_into_lines_and_none_of_it_is_lost() {
    const LENGTH: usize = 3 * 1024 * 1024;
    let script = format!("head -c {LENGTH} /dev/zero | tr '\\0' x; echo; echo end");
    let done = finish(Job::new([run("long", &script)])).await;
    done.assert_conclusion("succeeded");
    let log = done.log("long");
    let only_x = |line: &&String| !line.is_empty() && line.bytes().all(|b| b == b'x');
    let total: usize = log.iter().filter(only_x).map(String::len).sum();
    assert_eq!(total, LENGTH);
    assert_eq!(log.last().map(String::as_str), Some("end"));
}
