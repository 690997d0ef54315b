//! The Sekisho command line.

fn main() {}
