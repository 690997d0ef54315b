//! Whole builds: a real registry protocol, real layers, real sandboxes.

#[cfg(test)]
mod add;
#[cfg(test)]
mod arguments;
#[cfg(test)]
mod buildkit;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod copy;
#[cfg(test)]
mod engines;
#[cfg(test)]
mod failure;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod images;
#[cfg(test)]
mod inputs;
#[cfg(test)]
mod language;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod mount;
#[cfg(test)]
mod onbuild;
#[cfg(test)]
mod platforms;
#[cfg(test)]
mod provenance;
#[cfg(test)]
mod registry;
mod repositories;
#[cfg(test)]
#[path = "../../../sekisho-sandbox/tests/it/rootfs.rs"]
mod rootfs;
#[cfg(test)]
mod run;
#[cfg(test)]
mod tiers;
#[cfg(test)]
mod times;
#[cfg(test)]
mod unprivileged;
#[cfg(test)]
mod world;
