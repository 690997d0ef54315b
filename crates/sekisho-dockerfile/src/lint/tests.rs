use super::*;
use crate::{parse, scope};

/// `line rule: message` of each finding.
fn found(text: &str) -> Vec<String> {
    found_with(text, &BTreeMap::new(), None)
}

fn found_with(
    text: &str,
    base_env: &BTreeMap<String, Vec<String>>,
    ignore: Option<&str>,
) -> Vec<String> {
    let file = parse("D", text).unwrap();
    let platform = [("TARGETPLATFORM".to_owned(), "linux/amd64".to_owned())].into();
    let globals = scope::globals(&file, &BTreeMap::new(), &platform).unwrap();
    let ignore = ignore.map(|text| Ignore::parse(text).unwrap());
    let subject = Subject { file: &file, globals: &globals, base_env, ignore: ignore.as_ref() };
    let check = settings(&file, &BTreeMap::new()).unwrap();
    let line = |one: &Finding| format!("{} {}: {}", one.span.line, one.rule, one.message);
    lint(&subject, &check).iter().map(line).collect()
}

#[track_caller]
fn check(text: &str, want: &[&str]) {
    assert_eq!(found(text), want, "{text}");
}

#[test]
fn stages() {
    check("FROM scratch AS Build", &["1 StageNameCasing: Stage name 'Build' should be lowercase"]);
    check(
        "FROM scratch as a\nFROM scratch AS a",
        &[
            "1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match",
            "2 DuplicateStageName: Duplicate stage name \"a\", stage names should be unique",
        ],
    );
    check("from scratch as a", &[]);
    check(
        "FROM scratch AS context",
        &[
            "1 ReservedStageName: Stage name should not use the same name as reserved stage \"context\"",
        ],
    );
    check(
        "FROM --platform=$TARGETPLATFORM debian:12",
        &[
            "1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ],
    );
    check(
        "FROM --platform=linux/arm64 debian:12 AS a\nFROM --platform=linux/arm64 debian:12 AS b-arm64",
        &[
            "1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/arm64\"",
        ],
    );
}

#[test]
fn variables_of_from() {
    check(
        "ARG VERSION=12\nFROM debian:$VERSIN\nFROM x$TARGETARCH",
        &[
            "2 InvalidDefaultArgInFrom: Default value for ARG debian:$VERSIN results in empty or invalid base image name",
            "2 UndefinedArgInFrom: FROM argument 'VERSIN' is not declared (did you mean VERSION?)",
        ],
    );
    check(
        "ARG BASE\nFROM $BASE",
        &[
            "2 InvalidDefaultArgInFrom: Default value for ARG $BASE results in empty or invalid base image name",
        ],
    );
    check("ARG BASE=debian\nFROM ${BASE:-x}", &[]);
}

#[test]
fn variables_of_a_stage() {
    check(
        "FROM scratch AS a\nENV DIR=/x\nWORKDIR $DIRR\nLABEL l=$OTHER m=${NOPE:-x} n=\\$Q\nFROM a\nUSER $DIR",
        &[
            "3 UndefinedVar: Usage of undefined variable '$DIRR' (did you mean $DIR?)",
            "4 UndefinedVar: Usage of undefined variable '$OTHER'",
        ],
    );
    // What an image that is not here defines is not known.
    check("FROM debian:12\nWORKDIR $HOME/x\nENV PATH=$PATH:/x", &[]);
    let env = [("debian:12".to_owned(), vec!["GOPATH=/go".to_owned()])].into();
    assert_eq!(
        found_with("FROM debian:12\nWORKDIR $GOPATH\nUSER $WHO", &env, None),
        ["3 UndefinedVar: Usage of undefined variable '$WHO'"]
    );
    check("FROM scratch\nARG A=1 B=$A\nENV C=$B D=$A", &[]);
    check("FROM scratch\nENV A=1 B=$A", &["2 UndefinedVar: Usage of undefined variable '$A'"]);
    check("FROM scratch\nRUN echo $anything\nCMD [\"$x\"]", &[]);
}

#[test]
fn secrets() {
    check(
        "ARG NPM_TOKEN\nFROM scratch\nENV AWS_SECRET_ACCESS_KEY=x PUBLIC_KEY=y KEY_FILE=z MONKEY=m\nARG apikey",
        &[
            "1 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"NPM_TOKEN\")",
            "3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"AWS_SECRET_ACCESS_KEY\")",
            "4 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"apikey\")",
        ],
    );
}

#[test]
fn instructions() {
    check("FROM scratch\nRUN a \\\n\n  b", &["3 NoEmptyContinuation: Empty continuation line"]);
    check(
        "FROM scratch\nCopy a b\nrun x",
        &[
            "2 ConsistentInstructionCasing: Command 'Copy' should match the case of the command majority (uppercase)",
            "3 ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
        ],
    );
    check(
        "FROM scratch AS a\nENTRYPOINT x\nSHELL [\"/bin/sh\"]\nCMD y\nFROM a\nCMD z",
        &[
            "2 JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
        ],
    );
    check(
        "FROM scratch\nMAINTAINER me\nENV a b c\nLABEL d e",
        &[
            "2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
            "3 LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            "4 LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format",
        ],
    );
    check(
        "FROM scratch AS a\nWORKDIR x\nWORKDIR y\nFROM a\nWORKDIR z",
        &[
            "2 WorkdirRelativePath: Relative workdir \"x\" can have unexpected results if the base image changes",
        ],
    );
    check(
        "FROM scratch\nCMD [\"a\"]\nHEALTHCHECK NONE\nCMD [\"b\"]",
        &[
            "2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ],
    );
    check(
        "FROM scratch\nEXPOSE 80/TCP 127.0.0.1:80:80",
        &[
            "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
            "2 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        ],
    );
}

#[test]
fn ignored_files() {
    let text = "FROM scratch AS a\nCOPY secret/x ok /d/\nADD ./secret /d/\nCOPY --from=a secret /\nCOPY . /";
    let none = BTreeMap::new();
    assert_eq!(
        found_with(text, &none, Some("secret\n")),
        [
            "2 CopyIgnoredFile: Attempting to Copy file \"secret/x\" that is excluded by .dockerignore",
            "3 CopyIgnoredFile: Attempting to Add file \"secret\" that is excluded by .dockerignore",
        ]
    );
    assert_eq!(found_with(text, &none, Some("secret\n!secret/x")), [""; 0]);
}

#[test]
fn directives_say_what_counts() {
    check("# check=skip=StageNameCasing,UndefinedVar\nFROM scratch AS A\nUSER $x", &[]);
    check("# check=skip=all\nFROM scratch as A", &[]);
    let text = "FROM scratch AS a\n# wrong comment\nARG x";
    check(text, &[]);
    check(
        &format!("# check=experimental=all\n{text}"),
        &[
            "4 InvalidDefinitionDescription: Comment for ARG should follow the format: `# x <description>`",
        ],
    );
    let file = parse("D", "# check=skip=all\nFROM scratch").unwrap();
    let argument = [(CHECK_ARG.to_owned(), "error=true".to_owned())].into();
    let check = settings(&file, &argument).unwrap();
    assert_eq!((check.error, check.skip.len()), (true, 0), "the argument wins");
    let bad = [(CHECK_ARG.to_owned(), "x".to_owned())].into();
    assert!(settings(&file, &bad).is_err());
}

#[test]
fn rules_have_pages() {
    for (name, want) in [
        ("StageNameCasing", "stage-name-casing"),
        ("JSONArgsRecommended", "json-args-recommended"),
        ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
    ] {
        let rule = RULES.iter().find(|rule| rule.name == name).unwrap();
        assert_eq!(rule.url(), format!("https://docs.docker.com/go/dockerfile/rule/{want}/"));
    }
    let names: std::collections::BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
}
