//! Runners as local processes, each for one job.
