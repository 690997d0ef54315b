//! A router that knows its paths.
//!
//! axum does not tell which routes a router has; a test that is to forget none has to know.

use std::sync::Arc;

use axum::Router;
use axum::routing::MethodRouter;

use crate::shared::Shared;

/// A router, and the paths that were given to it.
pub(super) struct Table {
    router: Router<Arc<Shared>>,
    paths: Vec<String>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), paths: Vec::new() }
    }

    pub(super) fn route(mut self, path: &str, methods: MethodRouter<Arc<Shared>>) -> Self {
        self.paths.push(path.to_owned());
        self.with(|router| router.route(path, methods))
    }

    pub(super) fn nest(mut self, prefix: &str, inner: Self) -> Self {
        self.paths.extend(inner.paths.iter().map(|path| format!("{prefix}{path}")));
        self.with(|router| router.nest(prefix, inner.router))
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        self.paths.extend(other.paths);
        self.with(|router| router.merge(other.router))
    }

    /// Layers and fallbacks.
    pub(super) fn with(
        mut self,
        change: impl FnOnce(Router<Arc<Shared>>) -> Router<Arc<Shared>>,
    ) -> Self {
        self.router = change(self.router);
        self
    }

    pub(super) fn into_parts(self) -> (Router<Arc<Shared>>, Vec<String>) {
        (self.router, self.paths)
    }
}
