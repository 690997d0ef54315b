//! What is built. Content is made up, the same every time: words, so that it compresses as programs do.

use std::path::{Path, PathBuf};

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Little,
    Full,
}

/// A context and its Dockerfile.
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) context: PathBuf,
    /// The file that changes.
    changes: PathBuf,
}

impl Workload {
    pub(super) fn change(&self, round: usize) -> anyhow::Result<()> {
        let path = self.context.join(&self.changes);
        Ok(fs_err::write(path, format!("changed in round {round}\n"))?)
    }
}

/// Files of one folder each, so many of so many bytes.
struct Tree {
    folder: &'static str,
    files: usize,
    bytes: usize,
}

pub(super) const NAMES: [&str; 4] = ["w1", "w2", "w3", "w4"];

/// Makes the context of one of [`NAMES`] in a folder.
pub(super) fn make(
    context: PathBuf,
    base: &str,
    size: Size,
    name: &'static str,
) -> anyhow::Result<Workload> {
    let part = |full: usize| if size == Size::Full { full } else { full.div_ceil(40) };
    let mut numbers = Numbers(1);
    let mut trees =
        |trees: &[Tree]| trees.iter().try_for_each(|it| it.make(&context, &mut numbers));
    let (changes, instructions) = match name {
        "w1" => {
            let source = Tree { folder: "src", files: part(12_000), bytes: 13_600 };
            trees(&[source, Tree { folder: "app", files: part(200), bytes: 5_000 }])?;
            let instructions = "ENV A=b\nWORKDIR /w\nCOPY src /w/src\n\
                 RUN mkdir /w/some && cp -r /w/src/1* /w/some\nRUN echo done > /w/done\n\
                 COPY app /w/app\nRUN find /w/app -type f | sort > /w/list\n";
            ("app/0/0", instructions.to_owned())
        }
        "w2" => {
            let ten = (0..10).map(|at| format!("RUN echo {at} > /{at}\n")).collect::<String>();
            ("changes", format!("{ten}COPY changes /\n"))
        }
        "w3" => {
            trees(&[Tree { folder: "large", files: part(480), bytes: 1_000_000 }])?;
            ("large/0/0", "COPY large /large\n".to_owned())
        }
        _ => {
            let instructions = format!(
                "RUN for i in $(seq {}); do find /usr/bin /usr/lib -type f | sort | \
                 xargs -d '\\n' sha256sum; done > /sums\nCOPY changes /\n",
                part(40)
            );
            ("changes", instructions)
        }
    };
    fs_err::create_dir_all(&context)?;
    fs_err::write(context.join("changes"), "as it was\n")?;
    fs_err::write(context.join("Dockerfile"), format!("FROM {base}\n{instructions}"))?;
    Ok(Workload { name, context, changes: changes.into() })
}

impl Tree {
    fn make(&self, context: &Path, numbers: &mut Numbers) -> anyhow::Result<()> {
        const IN_A_FOLDER: usize = 100;
        for file in 0..self.files {
            let folder = context.join(self.folder).join((file / IN_A_FOLDER).to_string());
            if file % IN_A_FOLDER == 0 {
                fs_err::create_dir_all(&folder)?;
            }
            let name = (file % IN_A_FOLDER).to_string();
            fs_err::write(folder.join(name), numbers.text(self.bytes))?;
        }
        Ok(())
    }
}

/// The same numbers every time (a linear congruential generator).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Three parts words, one part noise: what a library's bytes come to under gzip.
    fn text(&mut self, bytes: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "return ",
            "self.",
            "let ",
            "=> ",
            "function(",
            ")\n",
            "const ",
            "0x",
            "    ",
            "error",
            "::",
            "if ",
            "value",
            "index",
            "byte",
            "\n\n",
        ];
        let mut text = Vec::with_capacity(bytes + 16);
        while text.len() < bytes {
            let number = self.next();
            if number.is_multiple_of(4) {
                text.extend_from_slice(&number.to_le_bytes()[..4]);
            } else {
                let word = usize::try_from(number / 4 % 16).unwrap_or(0);
                text.extend_from_slice(WORDS.get(word).copied().unwrap_or("x").as_bytes());
            }
        }
        text.truncate(bytes);
        text
    }
}
