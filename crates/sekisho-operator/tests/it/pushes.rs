//! Workflows that are pushed to the hub.

use std::sync::atomic::Ordering;

use crate::git;
use crate::world::World;

impl World {
    /// Pushes a workflow with so many jobs for the set; the number of its run.
    pub(crate) async fn push(&self, jobs: usize) -> u64 {
        let number = self.pushes.fetch_add(1, Ordering::SeqCst);
        let mut text = "name: gpu\non: push\njobs:\n".to_owned();
        for job in 0..jobs {
            text.push_str(&format!(
                "  job{job}:\n    runs-on: gpu\n    steps: [{{ run: echo {job} }}]\n"
            ));
        }
        let (home, folder) =
            (self.dir.path().to_owned(), self.dir.path().join(format!("push-{number}")));
        let repository = format!("acme/app-{number}");
        let remote = format!("{}/{repository}", self.url);
        let sha = tokio::task::spawn_blocking(move || {
            let workflows = folder.join(".github/workflows");
            std::fs::create_dir_all(&workflows).unwrap();
            std::fs::write(workflows.join("gpu.yml"), text).unwrap();
            git::push(&folder, &home, &remote)
        });
        let sha = sha.await.unwrap();
        let pushed = self.get(&format!("/_hub/v1/pushes?repository={repository}&sha={sha}")).await;
        pushed["runs"][0].as_u64().unwrap_or_else(|| panic!("{pushed}"))
    }
}
