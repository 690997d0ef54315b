//! ADD: archives, and files of other machines.

use std::fs;

use flate2::write::GzEncoder;
use sekisho_oci::layer::{Entry, EntryKind, Writer};

use crate::world::World;

/// A tar with a folder, a file, two hard links (the link sorts before its target) and a symlink.
fn archive() -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    let dir = Entry { mode: 0o700, uid: 3, gid: 4, ..Entry::directory("t") };
    tar.append(&dir).unwrap();
    let file = Entry { mtime: 1_000, uid: 3, gid: 4, ..Entry::file("t/z", 4) };
    tar.append_data(&file, &mut &b"data"[..]).unwrap();
    let target = b"t/z".to_vec();
    tar.append(&Entry::new("t/a", EntryKind::HardLink { target })).unwrap();
    tar.append(&Entry::new("l", EntryKind::Symlink { target: b"/etc".to_vec() })).unwrap();
    tar.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn add_unpacks_local_archives() {
    let world = World::new().await;
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &archive()).unwrap();
    fs::write(world.context().join("a.tar"), archive()).unwrap();
    fs::write(world.context().join("a.tgz"), gzip.finish().unwrap()).unwrap();
    fs::write(world.context().join("broken.xz"), b"\xfd7zXZ\0rest").unwrap();
    world.file("plain.tar", "not an archive");
    let want = [
        "d d755 0:0 ",
        "d/l l777 0:0 /etc",
        "d/t d700 3:4 ",
        "d/t/a f644 3:4 data",
        "d/t/z h644 3:4 d/t/a",
    ];
    for name in ["a.tar", "a.tgz"] {
        let result = world.build(&format!("FROM scratch\nADD {name} /d/")).await;
        assert_eq!(world.last_layer(&result), want, "{name}");
    }
    let result = world.build("FROM scratch\nADD plain.tar /d/\nADD --unpack=false a.tar /d/").await;
    let files: Vec<_> = world.files(&result).into_keys().collect();
    assert_eq!(files, ["d/a.tar", "d/plain.tar"]);
    let result = world.build("FROM scratch\nADD broken.xz /d/").await;
    let line = &world.last_layer(&result)[1];
    assert!(line.starts_with("d/broken.xz f"), "no archive at all: {line}");
    for (program, name) in [("xz", "a.txz"), ("bzip2", "a.tbz")] {
        let tar = fs::File::open(world.context().join("a.tar")).unwrap();
        let packed = std::process::Command::new(program).arg("-c").stdin(tar).output();
        let Ok(packed) = packed else {
            eprintln!("skipped: needs {program}");
            continue;
        };
        fs::write(world.context().join(name), &packed.stdout).unwrap();
        let result = world.build(&format!("FROM scratch\nADD {name} /d/")).await;
        assert_eq!(world.last_layer(&result), want, "{name}");
    }
}

/// Answers one request after the other with what is given, and says what was asked.
pub(crate) fn server(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    use std::io::{BufRead as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<_> =
                lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            asked.push(head.join("\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    (host, thread)
}

pub(crate) fn answer(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\
         Last-Modified: Thu, 01 Jan 1970 00:01:40 GMT\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_fetched_and_checked() {
    let world = World::new().await;
    let moved = "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: /other?x\r\n\r\n".to_owned();
    let gone = "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n".to_owned();
    let (host, asked) =
        server(vec![moved, answer("one"), answer("two"), answer("one"), answer("bad"), gone]);
    let one = sekisho_types::Digest::sha256(b"one");
    let text = format!("FROM scratch\nADD --chown=7:8 {host}/d/file.tar /in/");
    let result = world.build(&text).await;
    assert_eq!(world.last_layer(&result), ["in d755 7:8 ", "in/file.tar f600 7:8 one"]);
    // It is asked again, and is another file now.
    let result = world.build(&text).await;
    assert_eq!(world.last_layer(&result), ["in d755 7:8 ", "in/file.tar f600 7:8 two"]);
    let pinned = format!("FROM scratch\nADD --chmod=644 --checksum={one} {host}/x /y");
    let result = world.build(&pinned).await;
    assert_eq!(world.last_layer(&result), ["y f644 0:0 one"]);
    // With a checksum nobody need be asked.
    assert_eq!(crate::world::cached(&world.build(&pinned).await), "cc");
    let error = world.fail(&pinned.replace("/y", "/z")).await.to_string();
    assert!(error.contains(&format!("not {one}")), "{error}");
    let error = world.fail(&format!("FROM scratch\nADD {host}/absent /z")).await.to_string();
    assert!(error.contains("the server says 404 Not Found"), "{error}");
    let asked = asked.join().unwrap();
    assert!(asked[1].starts_with("GET /other?x HTTP/1.1"), "{}", asked[1]);
    assert!(asked.iter().all(|head| !head.to_lowercase().contains("authorization")));
    world.assert_clean();
}
