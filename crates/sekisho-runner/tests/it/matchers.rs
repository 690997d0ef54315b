//! Problem matchers, from the file that a step names to the annotation.

use serde_json::json;

use crate::fixture::{Job, finish, run};

const GCC: &str = r#"
mkdir -p src; echo > src/a.c
cat > gcc.json <<'E'
{"problemMatcher": [{"owner": "gcc", "pattern": [{
  "regexp": "^(?!note)(.+?):(\\d+):(\\d+): (warning|error): (.+)$",
  "file": 1, "line": 2, "column": 3, "severity": 4, "message": 5}]}]}
E
"#;

#[tokio::test]
async fn matchers_hold_until_they_are_removed() {
    let done = finish(Job::new([
        run("add", &format!("{GCC}\necho '::add-matcher::gcc.json'; echo src/a.c:3:7: error: one")),
        run(
            "use",
            "
            printf '\\033[1msrc/a.c:4:1: warning: two ***\\033[0m\\n'
            echo none.c:5:1: error: three
            echo note:6:1: error: not one
            echo '::error file=b.c,line=1::a command is no line for matchers'
            echo '::remove-matcher owner=GCC::'
            echo src/a.c:7:1: error: too late",
        ),
    ]))
    .await;
    done.assert_conclusion("succeeded");
    done.assert_logged("add", "##[add-matcher]gcc.json (gcc)");
    done.assert_logged("add", "##[error]src/a.c:3:7: error: one");
    done.assert_logged("use", "src/a.c:7:1: error: too late");
    let one = &done.step("add")["annotations"][0];
    assert_eq!(
        (&one["level"], &one["path"], &one["startLine"], &one["startColumn"], &one["message"]),
        (&json!("failure"), &json!("src/a.c"), &json!(3), &json!(7), &json!("one"))
    );
    let annotations = done.step("use")["annotations"].as_array().unwrap();
    let texts: Vec<_> = annotations.iter().map(|a| a["message"].as_str().unwrap()).collect();
    assert_eq!(texts, ["two ***", "three", "a command is no line for matchers"]);
    assert_eq!(annotations[0]["level"], json!("warning"));
    assert_eq!(annotations[1].get("path"), None, "there is no such file");
}

#[tokio::test]
async fn wrong_matchers_are_a_warning() {
    let done = finish(Job::new([run(
        "wrong",
        "
        echo '{\"problemMatcher\": [{\"owner\": \"x\", \"pattern\": [{\"regexp\": \"(\"}]}]}' > x.json
        echo '::add-matcher::none.json'; echo '::add-matcher::x.json'; echo '::remove-matcher::'",
    )]))
    .await;
    done.assert_conclusion("succeeded");
    let annotations = done.step("wrong")["annotations"].as_array().unwrap();
    let texts: Vec<_> = annotations.iter().map(|a| a["message"].as_str().unwrap()).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts[0].ends_with("'none.json': it is not a file"), "{texts:?}");
    assert!(texts[1].contains("matcher `x`: the last pattern must say"), "{texts:?}");
    assert!(texts[2].contains("either an owner or a file"), "{texts:?}");
}

#[tokio::test]
async fn what_a_matcher_finds_is_masked() {
    let mut job = Job::new([run(
        "leak",
        &format!(
            "{GCC}\necho '::add-matcher::gcc.json'; echo \"src/a.c:3:7: error: pass is hunter22\""
        ),
    )]);
    job.variables = json!({"P": {"value": "hunter22", "isSecret": true}});
    let done = finish(job).await;
    assert_eq!(done.step("leak")["annotations"][0]["message"], json!("pass is ***"));
    done.assert_logged("leak", "##[error]src/a.c:3:7: error: pass is ***");
}
