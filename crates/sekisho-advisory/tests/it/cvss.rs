use sekisho_advisory::cvss::base_score;

/// Vectors whose score in the list counts more than the base metrics.
const NOT_BASE: &[&str] = &[
    "CVSS:3.1/AV:N/AC:L/PR:H/UI:N/S:U/C:L/I:L/A:N/E:F/RL:X",
    "CVSS:3.1/AV:N/AC:L/PR:H/UI:N/S:U/C:L/I:L/A:N/CR:H/IR:H/AR:H",
];

#[test]
fn base_scores() {
    for file in ["v30_score.list", "v31_score.list"] {
        let Some(text) = super::shared(&format!("version-vectors/cvss/{file}")) else { return };
        let mut done = 0;
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (Some(vector), Some(want)) = (words.next(), words.next()) else { continue };
            if NOT_BASE.contains(&vector) {
                continue;
            }
            let want: f64 = want.parse().unwrap();
            assert_eq!(base_score(vector).unwrap().value(), want, "{vector}");
            done += 1;
        }
        assert!(done >= 29, "only {done} in {file}");
    }
}

#[test]
fn what_is_no_vector() {
    let Some(text) = super::shared("version-vectors/cvss/v3_error.list") else { return };
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (vector, good) = match line.split_once('#') {
            Some((vector, note)) => (vector.trim(), note.trim() == "OK"),
            None => (line.trim(), false),
        };
        assert_eq!(base_score(vector).is_ok(), good, "{vector}");
    }
}
