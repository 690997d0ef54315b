//! ADD: archives, and files of other machines.

use std::fs;
use std::io::BufRead as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// The same archive as a program of before 1988 writes it: nothing says that it is one but the sums.
fn old(mut tar: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while tar[at] != 0 {
        let size = std::str::from_utf8(&tar[at + 124..at + 135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        tar[at + 257..at + 265].fill(0);
        tar[at + 148..at + 156].fill(b' ');
        let sum: u32 = tar[at..at + 512].iter().map(|byte| u32::from(*byte)).sum();
        tar[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        at += 512 + size.next_multiple_of(512);
    }
    tar
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn add_unpacks_local_archives() {
    let world = World::new().await;
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &archive()).unwrap();
    fs::write(world.context().join("a.tar"), archive()).unwrap();
    fs::write(world.context().join("a.tgz"), gzip.finish().unwrap()).unwrap();
    fs::write(world.context().join("old.tar"), old(archive())).unwrap();
    fs::write(world.context().join("zeros.tar"), [0; 10240]).unwrap();
    fs::write(world.context().join("broken.xz"), b"\xfd7zXZ\0rest").unwrap();
    world.file("plain.tar", "not an archive");
    let want = [
        "d d755 0:0 ",
        "d/l l777 0:0 /etc",
        "d/t d700 3:4 ",
        "d/t/a f644 3:4 data",
        "d/t/z h644 3:4 d/t/a",
    ];
    for name in ["a.tar", "a.tgz", "old.tar"] {
        let result = world.build(&format!("FROM scratch\nADD {name} /d/")).await;
        assert_eq!(world.last_layer(&result), want, "{name}");
    }
    let text = "FROM scratch\nADD plain.tar zeros.tar /d/\nADD --unpack=false a.tar /d/";
    let result = world.build(text).await;
    let files: Vec<_> = world.files(&result).into_keys().collect();
    assert_eq!(files, ["d/a.tar", "d/plain.tar", "d/zeros.tar"]);
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
    use std::io::Write as _;
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
    // What was fetched from another address is no reason to ask this one for something newer.
    assert!(!asked[2].to_lowercase().contains("if-"), "{}", asked[2]);
    assert!(asked[1].starts_with("GET /other?x HTTP/1.1"), "{}", asked[1]);
    assert!(asked.iter().all(|head| !head.to_lowercase().contains("authorization")));
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_the_same_is_not_sent_again() {
    let world = World::new().await;
    let same = "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n";
    let tagged = |body: &str, tag: &str| {
        answer(body).replace("Last-Modified", &format!("ETag: \"{tag}\"\r\nLast-Modified"))
    };
    let answers = [answer("dated"), same.to_owned(), same.to_owned(), tagged("new", "t1")];
    let (host, asked) = server([&answers[..], &[same.to_owned()]].concat());
    let text = format!("FROM scratch\nADD {host}/a /a");
    let first = world.build(&text).await;
    let second = world.build(&text).await;
    assert_eq!(second.manifest_digest, first.manifest_digest);
    assert_eq!(crate::world::cached(&second), "cc");
    // Its bytes are here also for another step.
    let other = world.build(&format!("{text}\nADD {host}/a /b").replace("/a /a", "/a /c")).await;
    let both = ["b", "c"].map(|name| (name.to_owned(), "dated".to_owned()));
    assert_eq!(
        world.files(&other).into_iter().collect::<Vec<_>>(),
        both,
        "asked for once in a build"
    );
    let new = world.build(&format!("FROM scratch\nADD {host}/a /d")).await;
    assert_eq!(world.files(&new)["d"], "new");
    world.build(&format!("FROM scratch\nADD {host}/a /e")).await;
    let asked: Vec<String> = asked.join().unwrap().iter().map(|head| head.to_lowercase()).collect();
    assert!(!asked[0].contains("if-"));
    assert!(asked[1].contains("if-modified-since: thu, 01 jan 1970 00:01:40 gmt"), "{}", asked[1]);
    assert!(asked[4].contains("if-none-match: \"t1\""), "{}", asked[4]);
    world.assert_clean();
}

/// OpenSSL's own server of a folder's files, until it is dropped.
struct Https(Child);

impl Drop for Https {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Https {
    /// With a certificate for 127.0.0.1 that only `ca.pem` of the folder vouches for; and the address. `None`
    /// where there is no `openssl`.
    fn start(folder: &Path) -> Option<(Self, String)> {
        fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for arguments in [
            format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=private -days 2"),
            format!("req {key} -keyout key.pem -out request.pem -subj /CN=files"),
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 \
             -extfile san"
                .to_owned(),
        ] {
            let mut command = Command::new("openssl");
            command.args(arguments.split(' ')).current_dir(folder).stderr(Stdio::null());
            assert!(command.output().ok()?.status.success(), "{arguments}");
        }
        let mut command = Command::new("openssl");
        command.args("s_server -accept 127.0.0.1:0 -cert cert.pem -key key.pem -WWW".split(' '));
        command.current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let address = lines.find_map(|line| Some(line.strip_prefix("ACCEPT ")?.to_owned()));
        // What else it says goes nowhere, and does not stop it.
        std::thread::spawn(move || lines.count());
        Some((Self(child), address.unwrap()))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn a_file_comes_from_who_a_named_authority_vouches_for_and_from_nobody_else() {
    let world = World::new().await;
    let folder = world.dir.path().join("served");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("f"), "over TLS").unwrap();
    let Some((_server, address)) = Https::start(&folder) else {
        eprintln!("skipped: needs openssl");
        return;
    };
    let text = format!("FROM scratch\nADD https://{address}/f /f");
    let error = world.fail(&text).await.to_string();
    assert!(error.starts_with("Dockerfile:2:5: cannot fetch `https://127.0.0.1:"), "{error}");
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    let mut options = world.options();
    options.registries.ca_files = vec![folder.join("ca.pem")];
    let built = world.try_build(options.clone()).await.unwrap();
    assert_eq!(world.files(&built)["f"], "over TLS");
    // A file without a certificate vouches for nobody.
    options.registries.ca_files = vec![folder.join("san")];
    assert!(world.try_build(options).await.is_err());
    world.assert_clean();
}
