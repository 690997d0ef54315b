//! Packages in an image to findings.
