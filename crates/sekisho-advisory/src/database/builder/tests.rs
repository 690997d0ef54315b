use crate::{Ecosystem, Package, match_packages};

use super::*;

fn record(id: &str, day: u8, rest: &str) -> Record {
    let text = format!("{{\"id\":\"{id}\",\"modified\":\"2026-11-{day:02}T00:00:00Z\"{rest}}}");
    serde_json::from_str(&text).unwrap()
}

fn affects(name: &str, more: &str) -> String {
    let package = format!("{{\"ecosystem\":\"Debian:12\",\"name\":\"{name}\"}}");
    format!(",\"affected\":[{{\"package\":{package},{more}}}]")
}

fn of(records: &[Record]) -> Database {
    let mut builder = Builder::new(Timestamp::UNIX_EPOCH);
    records.iter().for_each(|record| builder.add(record.clone()).unwrap());
    builder.finish()
}

/// The ids of what is found of a package in that version.
fn found(database: &Database, name: &str, version: &str) -> Vec<String> {
    let ecosystem: Ecosystem = "Debian:12".parse().unwrap();
    let package = Package {
        ecosystem,
        name: name.to_owned(),
        version: version.to_owned(),
        source: None,
        path: "p".to_owned(),
        layer: None,
        dev: false,
        licence: None,
    };
    let matches = match_packages(&[package], database);
    matches.findings.into_iter().map(|finding| finding.id).collect()
}

#[test]
fn of_one_id_the_newest_record_counts_in_any_order() {
    let old = record("CVE-1", 1, &affects("a", "\"versions\":[\"1\"]"));
    let new = record("CVE-1", 2, &affects("a", "\"versions\":[\"2\"]"));
    let gone = record("CVE-1", 3, ",\"withdrawn\":\"2026-11-03T00:00:00Z\"");
    for records in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        let database = of(&records);
        assert_eq!(database.records(), 1);
        assert_eq!(found(&database, "a", "2"), ["CVE-1"]);
        assert_eq!(found(&database, "a", "1"), [] as [&str; 0]);
        assert_eq!(database.contents(), of(std::slice::from_ref(&new)).contents());
    }
    let withdrawn = of(&[gone, old.clone(), new.clone()]);
    assert_eq!((withdrawn.records(), found(&withdrawn, "a", "2").len()), (0, 0));
    assert!(!withdrawn.covers(&"Debian:12".parse().unwrap()));
    assert_ne!(withdrawn.contents(), of(&[old, new]).contents());
}

#[test]
fn what_an_older_record_could_not_say_is_forgotten_with_it() {
    let broken = "\"ranges\":[{\"type\":\"ECOSYSTEM\",\"events\":[{\"introduced\":\"~!\"}]}]";
    let old = record("CVE-1", 1, &affects("a", broken));
    assert_eq!(of(std::slice::from_ref(&old)).ignored().len(), 1);
    let new = record("CVE-1", 2, &affects("a", "\"versions\":[\"2\"]"));
    assert_eq!(of(&[old, new]).ignored(), []);
}

#[test]
fn a_listed_version_is_kept_where_no_range_holds_it_and_counts_either_way() {
    let range = "\"ranges\":[{\"type\":\"ECOSYSTEM\",\"events\":[{\"introduced\":\"2\"},{\"fixed\":\"4\"}]}]";
    let listed = "\"versions\":[\"1\",\"2\",\"3\",\"4\",\"no version\"]";
    let database = of(&[record("CVE-1", 1, &affects("a", &format!("{range},{listed}")))]);
    let rows = database.rows_for(&"Debian:12".parse().unwrap(), "a");
    let kept: Vec<&str> = rows[0].versions.iter().map(|it| &**it).collect();
    assert_eq!(kept, ["1", "4", "no version"]);
    for (version, is_found) in
        [("1", true), ("2", true), ("3", true), ("4", true), ("5", false), ("no version", true)]
    {
        assert_eq!(found(&database, "a", version).len(), usize::from(is_found), "{version}");
    }
}
