//! A bucket where each request takes its time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use sekisho_store::{Bucket, Records};

/// Answers reads only when so many were asked for, or when nobody asked for long.
#[derive(Debug)]
struct Patient {
    inner: InMemory,
    asked: AtomicUsize,
    wanted: usize,
}

/// Far longer than it takes to ask.
const LONG: Duration = Duration::from_secs(60);

impl std::fmt::Display for Patient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("patient")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Patient {
    async fn put_opts(&self, to: &Key, what: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(to, what, how).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Key,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(to, how).await
    }

    async fn get_opts(&self, from: &Key, how: GetOptions) -> Result<GetResult> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let enough = async {
            while self.asked.load(Ordering::SeqCst) < self.wanted {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(LONG, enough).await.is_err() {
            let source = "nobody asked for more".into();
            return Err(object_store::Error::Generic { store: "patient", source });
        }
        self.inner.get_opts(from, how).await
    }

    async fn get_ranges(&self, from: &Key, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(from, ranges).await
    }

    fn delete_stream(
        &self,
        which: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        self.inner.delete_stream(which)
    }

    fn list(&self, below: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(below)
    }

    async fn list_with_delimiter(&self, below: Option<&Key>) -> Result<ListResult> {
        self.inner.list_with_delimiter(below).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}

/// The records `0` to `99` in a bucket, without `7`; `damaged` is none.
fn records(wanted: usize, damaged: Option<usize>) -> (Arc<Patient>, Records, Vec<String>) {
    let asked = AtomicUsize::new(0);
    let store = Arc::new(Patient { inner: InMemory::new(), asked, wanted });
    let records = Records::in_bucket(Bucket::on(Arc::clone(&store) as _, ""));
    let names: Vec<String> = (0..100).map(|number| format!("a/{number}")).collect();
    for (number, name) in names.iter().enumerate().filter(|(number, _)| *number != 7) {
        let bytes = if Some(number) == damaged { "{".to_owned() } else { number.to_string() };
        records.write(name, bytes.as_bytes()).unwrap();
    }
    (store, records, names)
}

#[test]
fn many_are_read_at_once_and_come_in_order() {
    let (store, records, names) = records(16, None);
    let mut read = records.read_each::<usize>(names);
    assert_eq!(read.next().unwrap().unwrap(), 0);
    assert_eq!(store.asked.load(Ordering::SeqCst), 16, "those that come next, and no more");
    let rest: Vec<usize> = read.map(Result::unwrap).collect();
    assert_eq!(rest, (1..100).filter(|number| *number != 7).collect::<Vec<_>>());
}

#[test]
fn what_is_damaged_is_said_in_its_place() {
    let (_, records, names) = records(1, Some(3));
    let read: Vec<_> = records.read_each::<usize>(names).take(5).collect();
    let error = read[3].as_ref().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("a/3"), "{error}");
    let right: Vec<usize> = read.into_iter().flatten().collect();
    assert_eq!(right, [0, 1, 2, 4]);
}
