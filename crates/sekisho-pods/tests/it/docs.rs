//! The page names the test of each control: those tests are there.

use std::path::Path;

#[test]
fn the_page_names_tests_that_are_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(here.join("../../docs/operator.md")).unwrap();
    let (_, section) = page.split_once("## Hardening").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut named = 0;
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let mut module = String::new();
        for word in row.split('`').skip(1).step_by(2) {
            // A test without its module stands behind one of the same.
            let test = match word.split_once("::") {
                Some((of, test)) => {
                    module = of.to_owned();
                    test
                }
                None if !module.is_empty() && word.contains('_') => word,
                None => continue,
            };
            // Those of another crate stand behind its name.
            let other = row.split('`').find_map(|word| word.strip_prefix("crates/"));
            let dir = other.map_or_else(|| here.to_owned(), |name| here.join("..").join(name));
            let file = dir.join(format!("tests/it/{module}.rs"));
            let text = std::fs::read_to_string(&file).unwrap();
            let is_there = test == "*" || text.contains(&format!("fn {test}()"));
            assert!(is_there, "docs/operator.md names {word}, which is not in {}", file.display());
            named += 1;
        }
    }
    assert!(named >= 16, "only {named} tests are named");
}
