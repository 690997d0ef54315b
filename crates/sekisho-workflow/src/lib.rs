//! GitHub workflow files, expressions and needs: what runs.
