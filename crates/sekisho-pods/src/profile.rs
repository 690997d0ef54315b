//! The Pod Security Standards: what a container gets when it asks for nothing, and what it may not
//! ask for.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>, of Kubernetes 1.36. The API
//! server checks the same, where the namespace is labelled; here the field is named before a pod
//! exists, and it is checked where the namespace is not.

use k8s_openapi::api::core::v1::{Capabilities, Container, PodSpec, SecurityContext, Volume};
use sekisho_api::{ContainerMode, RunnerClassSpec, SecurityProfile};
use serde_json::{Value, json};

use crate::base::JIT_VOLUME;
use crate::owned::PATH;
use crate::{
    CONTAINER_BUILDKIT, CONTAINER_DOCKER, CONTAINER_RUNNER, EPHEMERAL_STORAGE_LIMIT,
    EPHEMERAL_STORAGE_REQUEST, Violation,
};

/// Capabilities that Docker gives every container, which Baseline allows.
const BASELINE_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// The one that Restricted allows.
const RESTRICTED_CAPABILITIES: &[&str] = &["NET_BIND_SERVICE"];
/// Kernel settings that are a pod's own.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
/// Kinds of SELinux labels that confine.
const SELINUX_TYPES: &[&str] =
    &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// The daemon of the class's container mode, which is what it is.
fn daemon(class: &RunnerClassSpec) -> Option<&'static str> {
    match class.container.mode {
        ContainerMode::BuildKit => Some(CONTAINER_BUILDKIT),
        ContainerMode::DockerSidecar => Some(CONTAINER_DOCKER),
        ContainerMode::Rootless | ContainerMode::None => None,
    }
}

/// Gives every container what it has when nobody asks for anything.
pub(crate) fn harden(spec: &mut Value, class: &RunnerClassSpec) {
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            disk(container);
            if daemon(class).is_some_and(|daemon| container["name"] == daemon) {
                continue;
            }
            let context = &mut container["securityContext"];
            if context.is_null() {
                *context = json!({});
            }
            if context["privileged"] == json!(true) {
                continue;
            }
            if context["allowPrivilegeEscalation"].is_null() {
                context["allowPrivilegeEscalation"] = json!(false);
            }
            if context["capabilities"]["drop"].is_null() {
                context["capabilities"]["drop"] = json!(["ALL"]);
            }
        }
    }
}

fn disk(container: &mut Value) {
    const NAME: &str = "ephemeral-storage";
    if !container["resources"]["limits"][NAME].is_null() {
        return;
    }
    if container["resources"]["requests"][NAME].is_null() {
        container["resources"]["requests"][NAME] = json!(EPHEMERAL_STORAGE_REQUEST);
    }
    container["resources"]["limits"][NAME] = json!(EPHEMERAL_STORAGE_LIMIT);
}

/// Everything in `spec` that the class does not allow.
pub(crate) fn violations(spec: &PodSpec, class: &RunnerClassSpec) -> Vec<Violation> {
    let profile = class.security.profile;
    let mut found = Found { profile, violations: vec![] };
    for volume in spec.volumes.iter().flatten() {
        found.volume(volume);
    }
    for (path, container) in containers(spec) {
        if container.name != CONTAINER_RUNNER {
            for mount in container.volume_mounts.iter().flatten() {
                let jit = mount.name == JIT_VOLUME;
                found.refuse(
                    jit,
                    &path,
                    "volumeMounts",
                    "the registration is for the runner alone",
                );
            }
        }
        // Privileged is checked for what is everybody's alone.
        if profile != SecurityProfile::Privileged {
            found.container(&path, container);
        }
    }
    if profile != SecurityProfile::Privileged {
        found.pod(spec);
    }
    found.violations
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = (String, &Container)> {
    let named = |list: &'static str| {
        move |container| -> (String, &Container) {
            let container: &Container = container;
            (format!("{PATH}.{list}[{}]", container.name), container)
        }
    };
    let init = spec.init_containers.iter().flatten().map(named("initContainers"));
    init.chain(spec.containers.iter().map(named("containers")))
}

struct Found {
    profile: SecurityProfile,
    violations: Vec<Violation>,
}

impl Found {
    fn refuse(&mut self, broken: bool, path: &str, field: &str, sentence: &str) {
        if broken {
            let path = format!("{path}.{field}");
            self.violations.push(Violation { path, sentence: sentence.to_owned() });
        }
    }

    fn is_restricted(&self) -> bool {
        self.profile == SecurityProfile::Restricted
    }

    fn volume(&mut self, volume: &Volume) {
        let path = format!("{PATH}.volumes[{}]", volume.name);
        let sources = volume.projected.iter().flat_map(|it| it.sources.iter().flatten());
        for source in sources {
            let token = source.service_account_token.is_some();
            self.refuse(
                token,
                &path,
                "projected.sources.serviceAccountToken",
                "a job has no identity in the cluster: the gate takes the job's own OIDC token",
            );
        }
        if self.profile == SecurityProfile::Privileged {
            return;
        }
        let host = volume.host_path.is_some();
        self.refuse(host, &path, "hostPath", "a job sees nothing of its node and of other jobs");
        let allowed = volume.config_map.is_some()
            || volume.csi.is_some()
            || volume.downward_api.is_some()
            || volume.empty_dir.is_some()
            || volume.ephemeral.is_some()
            || volume.persistent_volume_claim.is_some()
            || volume.projected.is_some()
            || volume.secret.is_some();
        if self.is_restricted() && !allowed && !host {
            self.violations.push(Violation {
                path,
                sentence:
                    "profile Restricted allows configMap, csi, downwardAPI, emptyDir, ephemeral, \
                           persistentVolumeClaim, projected and secret"
                        .to_owned(),
            });
        }
    }

    fn pod(&mut self, spec: &PodSpec) {
        let node = "a job sees nothing of its node and of other jobs";
        self.refuse(spec.host_pid == Some(true), PATH, "hostPID", node);
        self.refuse(spec.host_ipc == Some(true), PATH, "hostIPC", node);
        let Some(context) = &spec.security_context else { return };
        let path = format!("{PATH}.securityContext");
        for sysctl in context.sysctls.iter().flatten() {
            let unsafe_one = !SAFE_SYSCTLS.contains(&sysctl.name.as_str());
            let field = format!("sysctls[{}]", sysctl.name);
            self.refuse(unsafe_one, &path, &field, "this setting is the node's and not the pod's");
        }
        // The fields that a pod shares with its containers.
        self.context(
            &path,
            &SecurityContext {
                run_as_non_root: context.run_as_non_root,
                run_as_user: context.run_as_user,
                seccomp_profile: context.seccomp_profile.clone(),
                app_armor_profile: context.app_armor_profile.clone(),
                se_linux_options: context.se_linux_options.clone(),
                windows_options: context.windows_options.clone(),
                ..SecurityContext::default()
            },
        );
    }

    fn container(&mut self, path: &str, container: &Container) {
        for port in container.ports.iter().flatten() {
            let open = port.host_port.is_some_and(|port| port != 0);
            self.refuse(open, path, "ports.hostPort", "nothing listens on the node for a job");
        }
        let probes = [
            ("livenessProbe", &container.liveness_probe),
            ("readinessProbe", &container.readiness_probe),
            ("startupProbe", &container.startup_probe),
        ];
        for (name, probe) in probes {
            let Some(probe) = probe else { continue };
            let http = probe.http_get.as_ref().and_then(|it| it.host.as_deref());
            let tcp = probe.tcp_socket.as_ref().and_then(|it| it.host.as_deref());
            let elsewhere = http.or(tcp).is_some_and(|host| !host.is_empty());
            self.refuse(elsewhere, path, name, "a probe goes to its own pod: leave `host` out");
        }
        let path = format!("{path}.securityContext");
        let context = container.security_context.clone().unwrap_or_default();
        self.capabilities(&path, context.capabilities.as_ref());
        let escalates = context.allow_privilege_escalation != Some(false);
        self.refuse(
            self.is_restricted() && escalates,
            &path,
            "allowPrivilegeEscalation",
            "profile Restricted lets nobody gain privilege (no `sudo`): it must be false",
        );
        self.context(&path, &context);
    }

    fn capabilities(&mut self, path: &str, capabilities: Option<&Capabilities>) {
        let (allowed, sentence) = if self.is_restricted() {
            (RESTRICTED_CAPABILITIES, "profile Restricted allows NET_BIND_SERVICE alone")
        } else {
            (BASELINE_CAPABILITIES, "profile Baseline allows what Docker gives, and no more")
        };
        for name in capabilities.iter().flat_map(|it| it.add.iter().flatten()) {
            let more = !allowed.contains(&name.as_str());
            self.refuse(more, path, &format!("capabilities.add[{name}]"), sentence);
        }
        let drops =
            capabilities.is_some_and(|it| it.drop.iter().flatten().any(|dropped| dropped == "ALL"));
        self.refuse(
            self.is_restricted() && !drops,
            path,
            "capabilities.drop",
            "profile Restricted drops ALL",
        );
    }

    fn context(&mut self, path: &str, context: &SecurityContext) {
        let privileged = context.privileged == Some(true);
        self.refuse(privileged, path, "privileged", "only profile Privileged has it, and a job hardly needs it: see container.mode Rootless");
        if self.is_restricted() {
            let root = "profile Restricted has no root: give the number of another user";
            self.refuse(context.run_as_non_root == Some(false), path, "runAsNonRoot", root);
            self.refuse(context.run_as_user == Some(0), path, "runAsUser", root);
        }
        let seccomp = context.seccomp_profile.as_ref().map(|it| it.type_.as_str());
        self.refuse(
            seccomp.is_some_and(|kind| kind != "RuntimeDefault" && kind != "Localhost"),
            path,
            "seccompProfile",
            "it must be RuntimeDefault or Localhost",
        );
        let apparmor = context.app_armor_profile.as_ref().map(|it| it.type_.as_str());
        self.refuse(
            apparmor.is_some_and(|kind| kind != "RuntimeDefault" && kind != "Localhost"),
            path,
            "appArmorProfile",
            "it must be RuntimeDefault or Localhost",
        );
        if let Some(options) = &context.se_linux_options {
            let kind = options.type_.as_deref().unwrap_or_default();
            let named = [&options.user, &options.role]
                .iter()
                .any(|it| it.as_deref().is_some_and(|it| !it.is_empty()));
            let loose = named || !SELINUX_TYPES.contains(&kind);
            self.refuse(
                loose,
                path,
                "seLinuxOptions",
                "user and role are left out, and the type is a container's",
            );
        }
        let proc = context.proc_mount.as_deref().is_some_and(|it| it != "Default");
        self.refuse(proc, path, "procMount", "it must be Default");
        let host = context.windows_options.as_ref().and_then(|it| it.host_process) == Some(true);
        self.refuse(host, path, "windowsOptions.hostProcess", "it must not be set");
    }
}
