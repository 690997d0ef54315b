//! Job logs: write, seek, read.
