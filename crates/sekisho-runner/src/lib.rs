//! One job, then gone.
