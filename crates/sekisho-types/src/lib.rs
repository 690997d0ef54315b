//! Digests, image references, severities, ids, hints.
