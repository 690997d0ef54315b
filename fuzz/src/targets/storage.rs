//! What clients of the storage and the cache send.

use sekisho_github::wire::azure::{self, MAX_BLOCKS, Range, block_list, is_block_id};
use sekisho_github::wire::cache::{CreateRequest, FinalizeRequest, LookupRequest, Message as _};
use sekisho_github::wire::proto::{self, Field, Writer};

use super::{must, parts, text, texts};
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "block-list",
        reads: "the list of blocks of an upload",
        holds: "ids and their number keep their limits; what is written is read again as the same",
        seeds: || {
            texts(&[
                "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList><Latest>QQ==</Latest><Committed>Qg==</Committed></BlockList>",
            ])
        },
        words: &[
            "<BlockList>",
            "</BlockList>",
            "<Latest>",
            "</Latest>",
            "<Uncommitted>",
            "<!--",
            "]]>",
            "&lt;",
            "<?xml",
            "?>",
        ],
        cost: 1,
        run: blocks,
    },
    Target {
        name: "range-header",
        reads: "a `Range` header and the content's size",
        holds: "the part is not empty and within the content",
        seeds: || texts(&["bytes=0-99\x001000", "bytes=-5\x003", "bytes=7-\x007"]),
        words: &["bytes=", "-", "0-", ",", "\0", "BYTES ="],
        cost: 1,
        run: range,
    },
    Target {
        name: "protobuf",
        reads: "cache messages in protobuf",
        holds: "fields are pieces of the input; what is written is read again as the same",
        seeds: || {
            let lookup = Writer::default().text(2, "k").item(3, "r").text(4, "v").finish();
            let finalize = Writer::default().text(2, "k").number(3, -1).text(4, "v").finish();
            vec![lookup, finalize, Writer::default().text(2, "key").text(3, "v").finish()]
        },
        words: &["\x08\x01", "\x12\x01a", "\x1a", "\x0b", "\x0d", "\x09"],
        cost: 1,
        run: protobuf,
    },
];

fn blocks(input: &[u8]) {
    let xml = text(input);
    let Ok(list) = block_list(&xml) else { return };
    assert!(list.len() <= MAX_BLOCKS);
    let mut written = "<BlockList>".to_owned();
    for (from, id) in &list {
        assert!(is_block_id(id), "{id}");
        written.push_str(&format!("<{from:?}>{id}</{from:?}>"));
    }
    written.push_str("</BlockList>");
    assert_eq!(must(block_list(&written), "what is written is read"), list);
}

fn range(input: &[u8]) {
    let [header, size] = parts::<2>(input);
    let size = text(size).parse::<u64>().unwrap_or_default();
    if let Range::Part(first, end) = azure::range(Some(&text(header)), size) {
        assert!(first < end && end <= size, "{first} {end} {size}");
    }
}

fn protobuf(input: &[u8]) {
    if let Ok(fields) = proto::read(input) {
        let bytes: usize = fields
            .iter()
            .map(|(_, field)| match field {
                Field::Bytes(bytes) => bytes.len(),
                Field::Number(_) => 1,
            })
            .sum();
        assert!(bytes <= input.len());
    }
    if let Ok(read) = LookupRequest::from_proto(input) {
        let keys = read.restore_keys.iter();
        let writer =
            keys.fold(Writer::default().text(2, &read.key), |writer, key| writer.item(3, key));
        let written = writer.text(4, &read.version).finish();
        assert_eq!(must(LookupRequest::from_proto(&written), "what is written is read"), read);
    }
    if let Ok(read) = FinalizeRequest::from_proto(input) {
        let writer = Writer::default().text(2, &read.key).number(3, read.size_bytes);
        let written = writer.text(4, &read.version).finish();
        assert_eq!(must(FinalizeRequest::from_proto(&written), "what is written is read"), read);
    }
    if let Ok(read) = CreateRequest::from_proto(input) {
        let written = Writer::default().text(2, &read.key).text(3, &read.version).finish();
        assert_eq!(must(CreateRequest::from_proto(&written), "what is written is read"), read);
    }
}
