//! Package versions, ranges, advisories, matching.
