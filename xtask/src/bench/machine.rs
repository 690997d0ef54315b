//! What a figure was measured on.

/// Processor, cores, memory, kernel: what matters for a time, and names nobody's machine.
pub(super) fn describe() -> String {
    let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str, text: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("model name", &cpuinfo).unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field("MemTotal", &read("/proc/meminfo"))
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map_or(0, |kibibytes| kibibytes.div_ceil(1024 * 1024));
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    format!("{model}, {cores} cores, {memory} GiB, Linux {kernel}.")
}
