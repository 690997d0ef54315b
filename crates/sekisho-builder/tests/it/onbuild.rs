//! ONBUILD: recorded in one image, carried out by the next.

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn child_carries_out_what_the_base_recorded() {
    let world = World::with_base().await;
    world.file("app/main", "m");
    world.dockerfile(
        "FROM BASE\nONBUILD ARG MODE=release\nONBUILD COPY app /app\n\
         ONBUILD COPY --from=tools /tool /app/\nONBUILD RUN echo $MODE > /app/mode\nSTOPSIGNAL RTMIN+3",
    );
    let mut options = world.options();
    options.destinations = vec![world.image("parent")];
    let parent = world.try_build(options).await.unwrap();
    let recorded = world.config(&parent).config;
    assert_eq!(
        recorded.on_build,
        [
            "ARG MODE=release",
            "COPY app /app",
            "COPY --from=tools /tool /app/",
            "RUN echo $MODE > /app/mode"
        ]
    );
    assert_eq!(recorded.stop_signal.as_deref(), Some("RTMIN+3"));
    let name = world.image("parent");
    // `tools` is needed by nothing that the file itself says.
    let child = world
        .build(&format!(
            "FROM BASE AS tools\nRUN echo t > /tool\nFROM {name} AS made\nRUN cat /app/mode /app/tool"
        ))
        .await;
    assert_eq!(world.log(), ["release", "t"]);
    let files = world.files(&child);
    assert_eq!((files["app/main"].as_str(), files["app/mode"].as_str()), ("m", "release\n"));
    assert!(world.config(&child).config.on_build.is_empty());
    let stage = world.build("FROM BASE AS p\nONBUILD RUN echo from a stage\nFROM p").await;
    assert_eq!(world.log(), ["from a stage"]);
    assert!(world.config(&stage).config.on_build.is_empty());
    // Numbers of steps are each given once, also where the base adds steps to every platform.
    world.dockerfile(&format!(
        "FROM {name}\nLABEL a=b\nFROM BASE AS tools\nRUN echo t > /tool\nFROM {name}"
    ));
    let mut options = world.options();
    options.platforms = vec![sekisho_oci::Platform::host(); 2];
    let both = world.try_build(options).await.unwrap();
    let numbers: std::collections::BTreeSet<_> =
        both.steps.iter().map(|step| step.number).collect();
    assert_eq!(numbers.len(), both.steps.len());
    let error =
        world.fail(&format!("FROM {name} AS x\nFROM x AS tools\nRUN true")).await.to_string();
    assert!(
        error.starts_with("Dockerfile:1:6: an ONBUILD of the base needs stage 1, which needs"),
        "{error}"
    );
}
