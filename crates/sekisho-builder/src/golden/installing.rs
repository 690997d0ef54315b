//! How far dpkg is, out of what it says.

/// Every so many packages it is told.
pub(super) const STEP: usize = 15;

/// Longest line of dpkg's that is looked at, in bytes.
const MAX_LINE_BYTES: usize = 512;

/// What dpkg does with a package, and how that is told.
const DOINGS: [(&[u8], &str); 2] = [(b"Unpacking ", "unpacked"), (b"Setting up ", "set up")];

/// Counts packages.
#[derive(Debug)]
pub(super) struct Installing {
    total: usize,
    done: [usize; DOINGS.len()],
    line: Vec<u8>,
}

impl Installing {
    /// So many packages are to be installed.
    pub(super) fn new(total: usize) -> Self {
        Self { total, done: [0; DOINGS.len()], line: Vec::new() }
    }

    /// What is to be told after these bytes of dpkg's output.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut told = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                told.extend(self.end_of_line());
            } else if self.line.len() < MAX_LINE_BYTES {
                self.line.push(*byte);
            }
        }
        told
    }

    fn end_of_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let (count, (_, word)) =
            self.done.iter_mut().zip(DOINGS).find(|(_, (start, _))| line.starts_with(start))?;
        *count += 1;
        // One that is replaced, or named twice, counts again.
        (*count % STEP == 0 && *count <= self.total)
            .then(|| format!("{word} {count} of {} packages", self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_few_packages_are_told_however_the_lines_come() {
        let mut installing = Installing::new(40);
        let text: String = (0..31)
            .map(|n| format!("Preparing to unpack .../{n}.deb ...\nUnpacking p{n} (1) ...\n"))
            .chain((0..16).map(|n| format!("Setting up p{n} (1) ...\n")))
            .collect();
        let told: Vec<_> =
            text.as_bytes().chunks(7).flat_map(|bytes| installing.read(bytes)).collect();
        let want = [
            "unpacked 15 of 40 packages",
            "unpacked 30 of 40 packages",
            "set up 15 of 40 packages",
        ];
        assert_eq!(told, want);
        assert_eq!(Installing::new(3).read("Unpacking x\n".repeat(15).as_bytes()), [""; 0]);
    }
}
