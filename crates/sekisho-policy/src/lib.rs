//! Push verdicts, decided by Cedar policies.
