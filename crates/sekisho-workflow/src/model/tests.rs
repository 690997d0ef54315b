//! Tests.

use super::*;

#[test]
fn smoke() {
    let w = parse(".github/workflows/image.yml", "on: push\njobs:\n  image:\n    permissions: { contents: read, id-token: write }\n    uses: sekisho/pipeline/.github/workflows/image.yml@v1\n").unwrap();
    println!("{w:#?}");
    let text = r#"
name: x
on:
  pushh:
  push:
    branches: [main, 'rel/**']
    branches-ignore: x
jobs:
  a:
    runs-on: ubuntu
    needs: [b, c, d]
    stepz: []
    steps:
      - run: echo ${{ githib.ref }}
      - nme: hi
        run: |
          line1
          echo ${{ github.ref
        if: succes()
      - uses: actions/checkout
  b:
    needs: a
    runs-on: x
    container: foo
    steps:
      - run: "echo ${{ secrets.X }}"
        if: secrets.X == 1
"#;
    for d in parse("x.yml", text).unwrap_err() {
        println!("{d}");
    }
}
