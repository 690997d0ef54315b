//! Sizes as people write them.

/// Reads `1024`, `64m`, `20G` or `1GiB` into bytes, in any letter case; units are powers of 1024. `None`: it is
/// no size, or more than [`u64::MAX`].
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        let read = ["0", "1000", "20G", "512MiB", "1kb", "2t", "7B"].map(parse_size);
        let want = [0, 1000, 20 << 30, 512 << 20, 1 << 10, 2 << 40, 7];
        assert_eq!(read, want.map(Some));
        for bad in ["", "G", "-1", "1.5G", "1X", "1GG", "1 G ", "99999999999T"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }
}
