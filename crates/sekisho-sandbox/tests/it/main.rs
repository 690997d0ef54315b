//! The sandbox on the kernel that runs the tests.

#[cfg(test)]
mod changed_root;
#[cfg(test)]
mod confine;
#[cfg(test)]
mod emulation;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod parsers;
#[cfg(test)]
mod profile;
#[cfg(test)]
mod rootfs;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod unprivileged;
#[cfg(test)]
mod zygote;
