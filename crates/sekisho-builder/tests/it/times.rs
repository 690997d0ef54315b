//! Times: what commands see, and what layers hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sekisho_builder::{BuildResult, LAYER_EPOCH};
use sekisho_oci::layer;

use crate::world::World;

/// Time and content of every entry of the image, the topmost.
fn entries(world: &World, result: &BuildResult) -> BTreeMap<String, (i64, Vec<u8>)> {
    let mut entries = BTreeMap::new();
    for info in &result.layers {
        let bytes = world.blob(&info.digest);
        layer::read(bytes.as_slice(), &layer::Limits::default(), &mut |entry, data| {
            let mut content = Vec::new();
            data.read_to_end(&mut content)?;
            entries.insert(entry.display_path(), (entry.mtime, content));
            Ok(())
        })
        .unwrap();
    }
    entries
}

/// A `make` of one rule, which says what it did.
const MAKE: &str = "if [ ! -e /src/main.o ] || [ /src/main.c -nt /src/main.o ]; then \
                    cp /src/main.c /src/main.o; echo made; else echo up to date; fi";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_after_a_command_is_newer_than_its_results() {
    let world = World::with_base().await;
    world.file("one.c", "one");
    world.file("two.c", "two");
    let text = format!(
        "FROM BASE\nRUN touch /before\nCOPY one.c /src/main.c\nRUN {MAKE}\nRUN {MAKE}\n\
         COPY two.c /src/main.c\nRUN touch /unrelated\nRUN {MAKE}\nRUN {MAKE}"
    );
    let result = world.build(&text).await;
    assert_eq!(world.log(), ["made", "up to date", "made", "up to date"]);
    let files = entries(&world, &result);
    assert_eq!(files["src/main.o"], (LAYER_EPOCH, b"two".to_vec()), "layers have the fixed time");
    assert_eq!(files["src/main.c"], (LAYER_EPOCH, b"two".to_vec()));
    // From the cache, and from layers that have to be unpacked first, it is the same.
    let more = format!("{text}\nRUN {MAKE}; [ /src/main.c -nt /before ] && echo newer than before");
    assert_eq!(world.build(&more).await.layers.len(), result.layers.len());
    let said = ["up to date", "newer than before"];
    assert_eq!(world.log(), said);
    for entry in fs::read_dir(world.cache()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("trees-") {
            fs::remove_dir_all(&path).unwrap();
        }
    }
    world.build(&format!("{more}\nRUN : again; {MAKE}")).await;
    assert_eq!(world.log(), ["up to date"]);
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_is_newer_than_an_image_that_it_is_built_on() {
    let world = World::with_base().await;
    world.file("a", "a");
    world.build("FROM BASE\nCOPY a /a\nRUN [ /a -nt /etc/passwd ] && echo newer").await;
    assert_eq!(world.log(), ["newer"]);
}

/// The machine's Python in the folder `py` of the context: the program, what it loads, and the part of its
/// library without which it does not start. `None` where there is no Python.
fn add_python(world: &World) -> Option<()> {
    let ask = "import sys, encodings as e, os.path as p; print(sys.executable); \
               print(p.dirname(p.dirname(e.__file__))); print('%d.%d' % sys.version_info[:2]); \
               [print(m.__file__) for m in sys.modules.values() if getattr(m, '__file__', None)]";
    let output = Command::new("python3").args(["-S", "-c", ask]).output().ok()?;
    let said = String::from_utf8(output.stdout).unwrap();
    let mut lines = said.lines();
    let (program, library, version) = (lines.next()?, lines.next()?, lines.next()?);
    let root = world.context().join("py");
    crate::rootfs::add(&root, Path::new(program), "python3");
    let to = root.join("py/lib").join(format!("python{version}"));
    let encodings = fs::read_dir(Path::new(library).join("encodings")).unwrap();
    let encodings = encodings.map(|entry| entry.unwrap().path());
    for file in lines.map(PathBuf::from).chain(encodings) {
        let Ok(relative) = file.strip_prefix(library) else { continue };
        if file.extension().is_some_and(|extension| extension == "py") {
            fs::create_dir_all(to.join(relative).parent().unwrap()).unwrap();
            fs::copy(&file, to.join(relative)).unwrap();
        }
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn compiled_python_is_up_to_date_in_the_image_and_the_same_in_each_build() {
    let world = World::with_base().await;
    if add_python(&world).is_none() {
        eprintln!("there is no python3 here: skipped");
        return;
    }
    world.file("copied.py", "print('copied')");
    let python = "PYTHONHOME=/py PYTHONPATH=/src python3 -S";
    let text = format!(
        "FROM BASE\nCOPY py /\nCOPY copied.py /src/\n\
         RUN echo \"print('1 made')\" > /src/made.py; {python} -c 'import made, copied'\n\
         RUN {python} -v -c 'import made' 2>&1 | \
           while read line; do case \"$line\" in *made.cpython*matches*) echo current;; esac; done\n\
         RUN echo \"print('2 made')\" > /src/made.py\n\
         RUN {python} -c 'import made'"
    );
    world.dockerfile(&text);
    let mut options = world.options();
    options.no_cache = true;
    let first = world.try_build(options.clone()).await.unwrap();
    assert_eq!(world.log(), ["1 made", "copied", "current", "2 made"]);
    let files = entries(&world, &first);
    for name in ["made", "copied"] {
        let start = format!("src/__pycache__/{name}.");
        let compiled: Vec<_> = files.iter().filter(|(path, _)| path.starts_with(&start)).collect();
        assert_eq!(compiled.len(), 1, "{name}");
        let (mtime, source) = &files[&format!("src/{name}.py")];
        let header = &compiled[0].1.1[..16];
        assert_eq!(header[8..12], u32::try_from(*mtime).unwrap().to_le_bytes(), "{name}");
        assert_eq!(header[12..16], u32::try_from(source.len()).unwrap().to_le_bytes(), "{name}");
    }
    world.events.0.lock().unwrap().clear();
    let second = world.try_build(options).await.unwrap();
    assert_eq!(second.manifest_digest, first.manifest_digest);
    world.assert_clean();
}
