//! What the targets begin with, and the words they put in.

pub(super) const SMALL: &str =
    "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: make\n";
pub(super) const LARGE: &str = r#"name: image
run-name: ${{ github.actor }} builds
on:
  push: {branches: [main, 'v*'], paths-ignore: ['docs/**']}
  pull_request: {types: [opened]}
  workflow_dispatch:
    inputs:
      size: {type: choice, options: [a, b], default: a, required: true}
      count: {type: number, default: 3}
  workflow_call:
    inputs: {who: {type: string}}
    outputs: {x: {value: "${{ jobs.b.outputs.x }}"}}
    secrets: {token: {required: false}}
permissions: {contents: read, id-token: write}
env: {A: 1, B: "${{ vars.B }}"}
defaults: {run: {shell: bash, working-directory: x}}
concurrency: {group: "g-${{ github.ref }}", cancel-in-progress: true}
jobs:
  a:
    runs-on: [self-hosted, "${{ matrix.os }}"]
    strategy:
      fail-fast: false
      max-parallel: 2
      matrix:
        os: [x, y]
        n: ${{ fromJSON('[1,2]') }}
        include: [{os: z, extra: true}]
        exclude: [{os: y, n: 2}]
    outputs: {x: "${{ steps.s.outputs.x }}"}
    timeout-minutes: 5
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0}
      - id: s
        if: success() && github.ref == 'refs/heads/main'
        name: it
        run: |
          echo "x=1" >> "$GITHUB_OUTPUT"
        env: {C: "${{ secrets.C }}"}
        continue-on-error: true
  b:
    needs: a
    if: ${{ always() }}
    uses: ./.github/workflows/f.yml
    with: {who: me}
    secrets: inherit
"#;
pub(super) const YAML_WORDS: &[&str] = &[
    "on:",
    "push:",
    "jobs:",
    "steps:",
    "- run: x\n",
    "uses: ",
    "needs: [",
    "strategy:",
    "matrix:",
    "include:",
    "exclude:",
    "concurrency:",
    "permissions: write-all",
    "${{ ",
    " }}",
    "fromJSON('",
    "&a ",
    "*a",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "|\n",
    ">-\n",
    "\n  ",
    "\n",
    "? ",
    "!!str ",
    "<<: ",
    "'",
    "\"",
    "#",
    "%YAML 1.1",
    "---\n",
    "...\n",
    ".inf",
    ".nan",
    "0x1F",
    "0o7",
    "~",
    "null",
    "workflow_call:",
    "secrets: inherit",
    "runs-on: ",
    "schedule: [{cron: '* * * * *'}]",
];
pub(super) const EXPRESSION_WORDS: &[&str] = &[
    "github.",
    "matrix",
    "env.A",
    "[0]",
    ".*",
    "&&",
    "||",
    "==",
    "!=",
    "<=",
    "!",
    "(",
    ")",
    "'",
    "''",
    "contains(",
    "format('{0}', ",
    "join(",
    "toJSON(",
    "fromJSON('",
    "startsWith(",
    "hashFiles(",
    "case(",
    "success()",
    "always()",
    "${{",
    "}}",
    "0x1F",
    "0o17",
    "-1.5e3",
    "NaN",
    "Infinity",
    "null",
    "true",
    ",",
    "{{",
    "'{\"a\":[1]}'",
    "\"type\":3",
    "\"expr\":",
    "insert",
];
