use super::*;
use crate::parse;

fn graph(text: &str, target: Option<&str>) -> Result<Graph, (u32, u32, String)> {
    let file = parse("D", text).unwrap();
    let globals = |name: &str| (name == "V").then(|| "12".to_owned());
    order(&file, target, &globals, &Contexts::new()).map_err(|error| {
        let hint = error.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        (error.line, error.column, format!("{}{hint}", error.message))
    })
}

#[test]
fn resolves_names_and_orders_what_is_needed() {
    let text = "FROM debian:$V AS Base\nFROM scratch AS unused\nFROM base AS a\n\
                FROM alpine AS b\nCOPY --from=A x y\nRUN --mount=from=0,target=/m z\n\
                FROM b\nCOPY --from=nginx:1 a b\nCOPY --from=base a b\n";
    let graph = graph(text, None).unwrap();
    assert_eq!((graph.order.as_slice(), graph.target), (&[0, 2, 3, 4][..], 4));
    assert_eq!(graph.nodes[0].base, Origin::Image("debian:12".into()));
    assert_eq!(graph.nodes[1].base, Origin::Scratch);
    assert_eq!(graph.nodes[2].base, Origin::Stage(0));
    let origins: Vec<_> = graph.nodes[3].froms.iter().map(|from| &from.origin).collect();
    assert_eq!(origins, [&Origin::Stage(2), &Origin::Stage(0)]);
    assert_eq!(graph.nodes[4].froms[0].origin, Origin::Image("nginx:1".into()));
    assert_eq!(graph.nodes[4].froms[1].instruction, 1);
    let early = super::tests::graph(text, Some("UNUSED")).unwrap();
    assert_eq!(early.order, [1]);
    assert_eq!(super::tests::graph(text, Some("2")).unwrap().order, [0, 2]);
}

#[test]
fn a_stage_may_hide_an_image_of_its_name() {
    let text = "FROM debian AS debian\nFROM debian\nFROM scratch AS x\nFROM debian AS x\nFROM x";
    let graph = graph(text, None).unwrap();
    assert_eq!(graph.nodes[0].base, Origin::Image("debian".into()));
    assert_eq!(graph.nodes[1].base, Origin::Stage(0));
    assert_eq!(graph.order, [0, 3, 4]);
}

#[test]
fn named_contexts_come_first() {
    let text = "FROM docker.io/library/Alpine:latest AS base\nFROM base AS x\nFROM debian AS y\n\
                FROM scratch\nCOPY --from=base a b\nCOPY --from=src a b\nCOPY --from=other a b";
    let file = parse("D", text).unwrap();
    let contexts = |pairs: &[(&str, Named)]| -> Contexts {
        pairs.iter().map(|(name, named)| ((*name).to_owned(), named.clone())).collect()
    };
    let all = contexts(&[
        ("alpine", Named::Tree),
        ("src", Named::Tree),
        ("other", Named::Stage("Y".to_owned())),
    ]);
    let graph = order(&file, None, &|_| None, &all).unwrap();
    assert_eq!(graph.nodes[0].base, Origin::Context("alpine".to_owned()));
    let origins: Vec<_> = graph.nodes[3].froms.iter().map(|from| from.origin.clone()).collect();
    assert_eq!(origins, [Origin::Stage(0), Origin::Context("src".to_owned()), Origin::Stage(2)]);
    assert_eq!(graph.order, [0, 2, 3]);
    let hidden = contexts(&[("base", Named::Tree)]);
    let graph = order(&file, Some("x"), &|_| None, &hidden).unwrap();
    assert_eq!(
        (graph.order.as_slice(), &graph.nodes[1].base),
        (&[1][..], &Origin::Context("base".to_owned()))
    );
    let none = contexts(&[("base", Named::Stage("nope".to_owned()))]);
    let error = order(&file, Some("x"), &|_| None, &none).unwrap_err();
    assert_eq!(error.message, "the context `base` is the stage `nope`, which is not there");
}

#[test]
fn mistakes_say_where() {
    let two = "FROM a AS build\nFROM b\n";
    for (text, target, want) in [
        (
            format!("{two}COPY --from=biuld x y"),
            None,
            (
                3,
                6,
                "there is no stage `biuld` (did you mean `build`? For the image write `biuld:latest`)",
            ),
        ),
        (
            format!("{two}COPY --from=2 x y"),
            None,
            (3, 6, "there is no stage 2 (stages are numbered from 0 to 1)"),
        ),
        (format!("{two}COPY --from=1 x y"), None, (3, 6, "stage 1 needs itself")),
        (
            "FROM a AS x\nCOPY --from=y a b\nFROM b AS y\nRUN --mount=target=/m,from=x c"
                .to_owned(),
            None,
            (2, 6, "stage `y` needs itself"),
        ),
        (
            two.to_owned(),
            Some("bild"),
            (1, 1, "there is no target stage `bild` (did you mean `build`?)"),
        ),
        (two.to_owned(), Some("2"), (1, 1, "there is no target stage `2` (stages are `build`)")),
        (
            "FROM $NO".to_owned(),
            None,
            (
                1,
                6,
                "base `$NO` is empty (declare its variable with ARG before the first FROM, with a default)",
            ),
        ),
        ("FROM ${V".to_owned(), None, (1, 6, "`}` is missing after `${V`")),
    ] {
        let (line, column, message) = graph(&text, target).unwrap_err();
        assert_eq!((line, column, message.as_str()), want, "{text}");
    }
}

#[test]
fn many_stages_are_no_problem() {
    let mut text = "FROM a AS s0\n".to_owned();
    for index in 1..3000 {
        text.push_str(&format!("FROM s{} AS s{index}\n", index - 1));
    }
    assert_eq!(graph(&text, None).unwrap().order.len(), 3000);
}
