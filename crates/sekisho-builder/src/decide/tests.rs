use std::collections::BTreeMap;

use sekisho_dockerfile::parse;

use sekisho_dockerfile::MountKind;

use super::*;

fn state() -> State {
    let env = [format!("PATH={DEFAULT_PATH}")];
    State {
        config: RunConfig::default(),
        author: None,
        scope: Scope::new(&BTreeMap::new(), &BTreeMap::new(), &env),
        own_cmd: false,
    }
}

/// Decides about each instruction of a stage.
fn all(text: &str) -> (State, Vec<Result<Decided, String>>) {
    let file = parse("Dockerfile", &format!("FROM scratch\n{text}")).unwrap();
    let mut state = state();
    let decided = file.stages[0].instructions.iter();
    let decided = decided
        .map(|one| {
            decide(&file, &mut state, one)
                .map_err(|error| format!("{}:{}: {}", error.line, error.column, error.message))
        })
        .collect();
    (state, decided)
}

#[track_caller]
fn last(text: &str) -> Decided {
    all(text).1.pop().unwrap().unwrap()
}

#[test]
fn metadata_adds_up() {
    let (state, decided) = all("ENV A=1 B=\"two words\"\nENV C=$A-$B A=9\nLABEL l=$A m=x\n\
         EXPOSE 80 90-91/udp\nCMD echo hi\nENTRYPOINT [\"/app\"]\nUSER $B\nSTOPSIGNAL 9\n\
         VOLUME /a /b\nWORKDIR /x\nWORKDIR y\nSHELL [\"/bin/bash\", \"-c\"]\nCMD echo bash\n\
         HEALTHCHECK --interval=2s CMD true\nMAINTAINER me");
    assert!(decided.iter().all(Result::is_ok), "{decided:?}");
    let config = state.config;
    assert_eq!(config.env[1..], ["A=9", "B=two words", "C=1-two words"]);
    assert_eq!(config.labels["l"], "9");
    let ports: Vec<_> = config.exposed_ports.keys().map(String::as_str).collect();
    assert_eq!(ports, ["80/tcp", "90/udp", "91/udp"]);
    assert_eq!(config.cmd.unwrap(), ["/bin/bash", "-c", "echo bash"]);
    assert_eq!(config.entrypoint.unwrap(), ["/app"]);
    assert_eq!(config.user, "two words");
    assert_eq!(config.working_dir, "/x/y");
    assert_eq!(config.volumes.len(), 2);
    assert_eq!(config.healthcheck.unwrap().interval, 2_000_000_000);
    assert_eq!(state.author.as_deref(), Some("me"));
}

#[test]
fn entrypoint_forgets_an_inherited_cmd_only() {
    let file = parse("Dockerfile", "FROM scratch\nENTRYPOINT [\"/app\"]").unwrap();
    let mut state = state();
    state.config.cmd = Some(vec!["inherited".to_owned()]);
    decide(&file, &mut state, &file.stages[0].instructions[0]).unwrap();
    assert_eq!(state.config.cmd, None);
    let (state, _) = all("CMD [\"own\"]\nENTRYPOINT [\"/app\"]");
    assert_eq!(state.config.cmd.unwrap(), ["own"]);
}

#[test]
fn run_sees_arguments_and_environment() {
    let decided = last("ARG A=1\nENV B=2\nARG B=3\nARG http_proxy=p\nRUN echo $A");
    assert_eq!(
        decided.created_by.as_deref(),
        Some("RUN |3 A=1 B=3 http_proxy=p /bin/sh -c echo $A"),
        "as BuildKit: every ARG, with what the command sees"
    );
    let Action::Run(step) = decided.action else { panic!("a RUN") };
    assert_eq!(step.args, ["/bin/sh", "-c", "echo $A"]);
    let has = |name: &str, value: &str| step.env.contains(&(name.to_owned(), value.to_owned()));
    assert!(has("A", "1") && has("B", "3") && has("PATH", DEFAULT_PATH), "{:?}", step.env);
    assert!(step.free.is_empty());
    let Action::Run(step) = last("RUN [\"/bin/a\", \"b c\"]").action else { panic!("a RUN") };
    assert_eq!(step.args, ["/bin/a", "b c"]);
}

#[test]
fn here_documents_are_scripts_and_files() {
    let Action::Run(step) = last("RUN <<EOF\necho 1\necho 2\nEOF").action else { panic!("a RUN") };
    assert_eq!(step.args[2], "echo 1\necho 2\n");
    let Action::Run(step) = last("RUN cat <<'X' > f\n$a\nX").action else { panic!("a RUN") };
    assert_eq!(step.args[2], "cat <<'X' > f\n$a\nX");
    let Action::Copy(step) = last("ENV v=1\nCOPY <<f <<'g' /d/\n\"$v\" \\$v \\n\nf\n$v\ng").action
    else {
        panic!("a COPY")
    };
    let inline = |name: &str, content: &str| CopySource::Inline {
        name: name.to_owned(),
        content: content.to_owned(),
    };
    assert_eq!(step.sources, [inline("f", "\"1\" $v n\n"), inline("g", "$v\n")]);
}

#[test]
fn mounts_get_their_targets() {
    let text = "WORKDIR /w\nARG n=x\nRUN --mount=type=secret,id=$n --mount=type=secret,target=a/b \
                --mount=type=secret,env=E --mount=type=ssh --mount=type=ssh,id=$n \
                --mount=target=. --mount=type=cache,target=/c/../d y";
    let Action::Run(step) = last(text).action else { panic!("a RUN") };
    let targets: Vec<_> = step.mounts.iter().map(|mount| mount.target.as_deref()).collect();
    assert_eq!(
        targets,
        [
            Some("/run/secrets/x"),
            Some("/w/a/b"),
            None,
            Some("/run/buildkit/ssh_agent.0"),
            Some("/run/buildkit/ssh_agent.1"),
            Some("/w"),
            Some("/d"),
        ]
    );
    let ids: Vec<_> = step
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Secret { id, .. } => id.as_deref(),
            _ => None,
        })
        .collect();
    assert_eq!(ids, ["x", "b", "E"]);
}

#[test]
fn copies_know_their_destination() {
    let decided = last("WORKDIR /app\nENV d=sub\nCOPY --chown=a:b --chmod=755 x ./y $d/");
    assert_eq!(decided.created_by.as_deref(), Some("COPY --chown=a:b --chmod=755 x ./y sub/"));
    let Action::Copy(step) = decided.action else { panic!("a COPY") };
    assert_eq!((step.destination.as_str(), step.is_folder), ("/app/sub", true));
    assert_eq!(
        (step.chown.as_deref(), step.chmod.map(|(_, chmod)| chmod)),
        (Some("a:b"), Some(crate::chmod::Chmod::Octal(0o755)))
    );
    let Action::Copy(step) = last("WORKDIR /app\nADD a.tar .").action else { panic!("an ADD") };
    assert_eq!((step.destination.as_str(), step.is_folder, step.unpack), ("/app", true, true));
}

#[test]
fn what_is_not_supported_is_refused_where_it_stands() {
    for (text, want) in [
        ("STOPSIGNAL SIGNOPE", "2:12: `SIGNOPE` is no signal: write `SIGTERM`, `TERM` or `15`"),
        ("STOPSIGNAL 65", "2:12: `65` is no signal: write `SIGTERM`, `TERM` or `15`"),
        ("RUN --security=insecure x", "2:1: `RUN --security=insecure` is not supported yet"),
        (
            "ADD https://h/x.git?nope=1 /",
            "2:5: cannot add this repository: `nope` is not known in the query of a git URL",
        ),
        ("COPY https://h/x.git /", "2:6: COPY takes no URL and no git repository"),
        ("VOLUME $NO", "2:8: VOLUME is empty after expansion"),
        (
            "ADD https://me:pw@h/x /",
            "2:5: cannot fetch from this URL: a name or password in a URL is not taken, for others would see it",
        ),
        (
            "ADD https://me:pw@h/x.git /",
            "2:5: cannot add this repository: a name or password in its URL would stand in the image's history",
        ),
        (
            "ADD --checksum=md5:x https://h/x /",
            "2:5: `--checksum=md5:x` is not `sha256:` and 64 digits",
        ),
        ("ADD --checksum=sha256:x a /", "2:5: `--checksum` is only for a URL or a git repository"),
        (
            "ADD --checksum=xyz git@example.com:x.git /",
            "2:5: `--checksum=xyz` is not the digits of the commit",
        ),
        (
            "COPY --chmod=u+q a /",
            "2:6: `--chmod=u+q` is neither octal digits nor like `u=rwX,go=rX`",
        ),
        ("COPY a b /c", "2:10: with more than one source the destination must end with `/`"),
        ("EXPOSE 99999", "2:8: `99999` is no port: write `80`, `80/udp` or `80-90`"),
    ] {
        let got = all(text).1.pop().unwrap().unwrap_err();
        assert_eq!(got, want, "{text}");
    }
}
