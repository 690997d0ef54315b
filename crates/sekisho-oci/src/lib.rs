//! Manifests, indexes, configs, tar layers: bytes in, values out.
