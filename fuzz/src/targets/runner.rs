//! What a job's steps write, and what a runner downloads.

use sekisho_runner::fuzzing;

use super::texts;
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "workflow-command",
        reads: "lines of a step's output: `::set-output …::`, `##[warning]`",
        holds: "names are plain words; a message that is escaped again is read as the same",
        seeds: || {
            texts(&[
                "::error file=a.c,line=3,title=x%3Ay::m%0An",
                "x ##[warning a=1;b=2]m%5D",
                "::add-mask::s",
            ])
        },
        words: &[
            "::",
            "##[",
            "]",
            "%25",
            "%0A",
            "%0D",
            "%3A",
            "%2C",
            "%5D",
            "set-output",
            "stop-commands",
            " name=",
            ",",
            ";",
        ],
        cost: 1,
        run: fuzzing::workflow_command,
    },
    Target {
        name: "file-commands",
        reads: "the files of `GITHUB_ENV`, `GITHUB_OUTPUT`, `GITHUB_STATE`, `GITHUB_PATH`",
        holds: "no name is empty, none is `NODE_OPTIONS` in the environment; what is written is read again as the same",
        seeds: || {
            texts(&[
                "a=1\nb<<EOF\nx\ny\nEOF\n",
                "\u{feff}PATH=/x\r\n\r\nNODE_options=y",
                "/usr/bin\n./x\n",
            ])
        },
        words: &["=", "<<", "<<EOF\n", "EOF\n", "EOF", "\r\n", "\n", "NODE_OPTIONS", "\u{feff}"],
        cost: 1,
        run: fuzzing::file_commands,
    },
    Target {
        name: "problem-matcher",
        reads: "a file of problem matchers, and lines that they look at",
        holds: "what is found is of the line, or of one before; time is limited",
        seeds: || {
            texts(&[
                "{\"problemMatcher\":[{\"owner\":\"x\",\"severity\":\"error\",\"pattern\":[{\"regexp\":\"^(.+):(\\\\d+):(.*)$\",\"file\":1,\"line\":2,\"message\":3}]}]}\0a.c:3:bad\nb",
                "{\"problemMatcher\":[{\"owner\":\"y\",\"pattern\":[{\"regexp\":\"^(\\\\S+)$\",\"file\":1},{\"regexp\":\"^ (?!x)(\\\\d+) (.+)$\",\"line\":1,\"message\":2,\"loop\":true}]}]}\0a\n 1 m\n 2 n",
            ])
        },
        words: &[
            "(a+)+$",
            "(?=",
            "(?<!",
            "\\\\1",
            "{9}",
            ".*",
            "\"loop\":true",
            "\"file\":1",
            "\"message\":1",
            "(?<n>",
            "\\\\d",
            "\u{1b}[31m",
            "\0",
            "\n",
        ],
        cost: 1,
        run: fuzzing::problem_matcher,
    },
    Target {
        name: "mask",
        reads: "secrets of a job, and text that they are in",
        holds: "no secret is left in the text, nor in base64, JSON or a URL",
        seeds: || {
            texts(&[
                "hunter2\0the password is hunter2, aHVudGVyMg==",
                "two\nlines\0lines and two",
                "\"quoted secret\"\0quoted secret",
            ])
        },
        words: &["hunter2", "\n", "\0", "%20", "\\n", "=", "aHVudGVyMg", "'", "\"", "&amp;"],
        cost: 1,
        run: fuzzing::mask,
    },
    Target {
        name: "log-lines",
        reads: "a step's output, as its pieces come through the pipe",
        holds: "nothing is lost, added or told apart by where the pieces end",
        seeds: || texts(&["a\r\nb\n\nc", "no end", "\u{1f600}\n\n"]),
        words: &["\n", "\r\n", "\r", "é"],
        cost: 1,
        run: fuzzing::log_lines,
    },
    Target {
        name: "action-manifest",
        reads: "an `action.yml`",
        holds: "errors have a place in the file",
        seeds: || {
            texts(&[
                "name: x\ninputs:\n  a: {default: \"${{ github.ref }}\", required: true}\noutputs:\n  o: {value: \"${{ steps.s.outputs.o }}\"}\nruns:\n  using: composite\n  steps:\n    - id: s\n      run: make\n      shell: bash\n    - uses: ./x\n      with: {a: 1}\n      if: success()\n",
                "runs: {using: node20, main: dist/index.js, pre: setup.js, pre-if: always(), post: p.js}\n",
                "runs: {using: docker, image: Dockerfile}\n",
            ])
        },
        words: &[
            "runs:",
            "using: composite",
            "using: node24",
            "steps:",
            "- run: x",
            "shell: ",
            "uses: ",
            "main: ",
            "${{ ",
            " }}",
            "&a",
            "*a",
            "[",
            "{",
            "deprecationMessage: ",
        ],
        cost: 1,
        run: fuzzing::action_manifest,
    },
    Target {
        name: "action-archive",
        reads: "the archive of an action, as `.tar.gz` or as the tar in it",
        holds: "nothing is written outside of its folder",
        seeds: fuzzing::action_archives,
        words: &["../", "/tmp/", "ustar", "\0\0\0\0\0\0\0\0", "r/", "2", "5", "L"],
        cost: 20,
        run: fuzzing::action_archive,
    },
    Target {
        name: "step-texts",
        reads: "`shell:`, `uses:` and patterns of `hashFiles()`",
        holds: "a shell has its script as an argument; no action's folder and no pattern leaves its place",
        seeds: || {
            texts(&[
                "bash -x {0}",
                "perl \"a b\" {0}",
                "acme/setup/sub@v1",
                "./local",
                "**/*.lock",
                "!a/[b-c]?",
                "docker://x",
            ])
        },
        words: &[
            "{0}",
            "\"",
            "@",
            "/",
            "..",
            "./",
            "docker://",
            "**",
            "[",
            "]",
            "!",
            "\\",
            "actions/checkout",
        ],
        cost: 8,
        run: fuzzing::step_texts,
    },
];
