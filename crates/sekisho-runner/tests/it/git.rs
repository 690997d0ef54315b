//! Smart HTTP by `git http-backend`, and repositories to serve.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio::io::AsyncWriteExt as _;

use crate::server::Server;

/// Whether there is a git that can serve.
pub(crate) fn is_there() -> bool {
    let found = std::process::Command::new("git").arg("--exec-path").output();
    let path = found.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    let there = path.is_ok_and(|path| Path::new(&path).join("git-http-backend").exists());
    if !there {
        println!("skipped: needs git with git-http-backend");
    }
    there
}

pub(crate) fn git(folder: &Path, args: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A bare repository `acme/app` with two commits on `main` and a tag `v1` on the first; the
/// answer: folder of repositories, first and second commit.
pub(crate) fn repository(temp: &Path) -> (PathBuf, String, String) {
    let work = temp.join("source");
    std::fs::create_dir_all(&work).unwrap();
    git(&work, &["init", "--quiet"]);
    std::fs::write(work.join("file.txt"), "one\n").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "-m", "one"]);
    git(&work, &["tag", "v1"]);
    let first = git(&work, &["rev-parse", "HEAD"]);
    std::fs::write(work.join("file.txt"), "two\n").unwrap();
    git(&work, &["commit", "--quiet", "-am", "two"]);
    let second = git(&work, &["rev-parse", "HEAD"]);
    let bare = temp.join("repositories/acme/app");
    std::fs::create_dir_all(bare.parent().unwrap()).unwrap();
    git(temp, &["clone", "--quiet", "--bare", "source", bare.to_str().unwrap()]);
    git(&bare, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    (temp.join("repositories"), first, second)
}

/// One request, by CGI.
pub(crate) async fn serve(
    State(server): State<Arc<Server>>,
    method: Method,
    axum::extract::Path(path): axum::extract::Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header =
        |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    server.tell("git", |told| told.git_headers.push(header("authorization")));
    let Some(root) = server.repositories.lock().unwrap().clone() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("PATH_INFO", format!("/{path}"))
        .env("QUERY_STRING", query.unwrap_or_default())
        .env("REQUEST_METHOD", method.as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::spawn(async move {
        let _ = stdin.write_all(&body).await;
    });
    let output = child.wait_with_output().await.unwrap().stdout;
    let end = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(0);
    let (head, body) = (String::from_utf8_lossy(&output[..end]).into_owned(), &output[end + 4..]);
    let mut response = Response::builder();
    for line in head.lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => {
                response = response.status(status[..3].parse::<u16>().unwrap());
            }
            Some((name, value)) => response = response.header(name, value),
            None => {}
        }
    }
    response.body(axum::body::Body::from(body.to_vec())).unwrap()
}
