//! The schemas: that the committed files are those of the code, and what they must contain.

mod schemas;
