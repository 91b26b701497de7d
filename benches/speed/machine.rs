//! On what machine was this measured, and was it busy?

use std::fs;

/// One line: processor, cores, the vector instructions it has, and the load average
/// of the last minute, which includes the benchmark's own threads.
pub fn describe() -> String {
    let n_cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {n_cores} cores, {}; load average {}",
        processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        vector_instructions().join(" "),
        load_average().unwrap_or_else(|| "unknown".to_owned()),
    )
}

fn processor() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    Some(format!(
        "{} (family {}, model {})",
        field("model name")?,
        field("cpu family")?,
        field("model\t")?
    ))
}

#[cfg(target_arch = "x86_64")]
fn vector_instructions() -> Vec<&'static str> {
    [
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("F16C", is_x86_feature_detected!("f16c")),
        ("AVX-512F", is_x86_feature_detected!("avx512f")),
        ("AVX-512-VNNI", is_x86_feature_detected!("avx512vnni")),
        ("AVX-512-BF16", is_x86_feature_detected!("avx512bf16")),
        ("AMX", has_amx()),
    ]
    .into_iter()
    .filter_map(|(name, present)| present.then_some(name))
    .collect()
}

/// The kernel's word for it: std's detection macro does not know AMX on stable.
#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|info| info.contains("amx_tile"))
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_instructions() -> Vec<&'static str> {
    vec!["baseline vector instructions"]
}

fn load_average() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next().map(str::to_owned)
}
