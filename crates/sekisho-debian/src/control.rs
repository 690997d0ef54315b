//! Paragraphs of `Name: value` lines (deb822).

/// Longest paragraph, in bytes. A source's `Signed-By` may hold a key.
pub const MAX_PARAGRAPH_BYTES: usize = 1 << 20;

/// One paragraph: fields in their order, names as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paragraph<'a> {
    fields: Vec<(&'a str, String)>,
}

impl<'a> Paragraph<'a> {
    /// The value of a field, with its continuation lines; names are compared without case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    /// Reads one paragraph; lines that are none of a field are left out, comments among them.
    pub fn parse(text: &'a str) -> Self {
        let mut fields: Vec<(&str, String)> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.trim_end(), value.trim().to_owned()));
            }
        }
        Self { fields }
    }
}

/// The paragraphs of a text, which empty lines part. Ones that are too long are left out.
pub fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('\n');
        if rest.is_empty() {
            return None;
        }
        let (one, left) = rest.split_once("\n\n").unwrap_or((rest, ""));
        rest = left;
        Some(one)
    })
    .filter(|one| one.len() <= MAX_PARAGRAPH_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_continue_and_comments_do_not_count() {
        let text = "# said\nPackage: a\nDepends: b,\n c (>= 1)\n# in between\n\td\nEmpty:\n\n\nPackage: z\n";
        let all: Vec<_> = paragraphs(text).map(Paragraph::parse).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("depends"), Some("b,\nc (>= 1)\nd"));
        assert_eq!((all[0].get("Empty"), all[0].get("Absent")), (Some(""), None));
        assert_eq!(all[1].get("Package"), Some("z"));
        let long = format!("A: {}\n\nB: 1", "x".repeat(MAX_PARAGRAPH_BYTES));
        assert_eq!(paragraphs(&long).collect::<Vec<_>>(), ["B: 1"]);
    }
}
