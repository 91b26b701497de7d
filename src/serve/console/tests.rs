//! Are the pages whole, and kept from running what is not theirs?

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::*;

/// What pages weigh at most, all together and unpacked.
const MOST_BYTES: usize = 345_000;

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/console/assets")
}

fn files_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files_below(&path, found),
            false => {
                let name = path.strip_prefix(assets()).unwrap();
                found.insert(name.to_str().unwrap().to_owned());
            }
        }
    }
}

fn text_of(path: &str) -> &'static str {
    let (_, bytes) = ASSETS.iter().find(|(name, _)| *name == path).unwrap();
    std::str::from_utf8(bytes).unwrap()
}

/// What stands in `text` between `before` and the next `after`, each time.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    let parts = text.split(before).skip(1);
    parts.filter_map(|part| part.split(after).next()).collect()
}

/// `path` seen from the folder of the file `from`.
fn resolved(from: &str, path: &str) -> String {
    let mut folders: Vec<&str> = from.split('/').collect();
    folders.pop();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => assert!(
                folders.pop().is_some(),
                "{path} of {from} leaves the folder"
            ),
            name => folders.push(name),
        }
    }
    folders.join("/")
}

/// The modules that a script imports.
fn imports(path: &str) -> Vec<String> {
    let text = text_of(path);
    let named = between(text, " from \"", "\"");
    let bare = between(text, "\nimport \"", "\"");
    let all = named.into_iter().chain(bare);
    all.map(|module| resolved(path, module)).collect()
}

fn get_with(path: &str, headers: &[(axum::http::HeaderName, &str)]) -> Response {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
        .collect();
    reply(path, &headers)
}

fn body(response: Response) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let read = axum::body::to_bytes(response.into_body(), usize::MAX);
    runtime.block_on(read).unwrap().to_vec()
}

#[test]
fn every_file_is_listed_once_and_in_order() {
    let mut on_disk = BTreeSet::new();
    files_below(&assets(), &mut on_disk);
    // It is read by who exchanges a library, not by browsers.
    assert!(on_disk.remove("vendor/README.md"));
    let listed: Vec<&str> = ASSETS.iter().map(|(path, _)| *path).collect();
    assert!(listed.is_sorted(), "they are looked up by halving");
    assert_eq!(listed, on_disk.iter().collect::<Vec<_>>());
    let bytes: usize = ASSETS.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}

#[test]
fn every_file_that_is_referred_to_is_there_and_each_is_referred_to() {
    let page = text_of(PAGE);
    let references = between(page, "src=\"", "\"").into_iter();
    let references = references.chain(between(page, "href=\"", "\""));
    let mut waiting: Vec<String> = references
        .map(|path| path.strip_prefix("console/").unwrap_or(path).to_owned())
        .collect();
    let mut reached = BTreeSet::from([PAGE.to_owned()]);
    while let Some(path) = waiting.pop() {
        assert!(
            ASSETS.iter().any(|(name, _)| *name == path),
            "there is no {path}"
        );
        if reached.insert(path.clone()) && path.ends_with(".js") {
            waiting.extend(imports(&path));
        }
    }
    let listed = ASSETS.iter().map(|(path, _)| (*path).to_owned());
    let lost: Vec<String> = listed.filter(|path| !reached.contains(path)).collect();
    assert_eq!(lost, ["vendor/LICENSES.txt"], "no page needs them");
}

#[test]
fn no_file_names_another_host_or_makes_markup_of_text() {
    for (path, bytes) in ASSETS {
        let text = std::str::from_utf8(bytes).unwrap();
        let hosts = between(text, "://", "/").into_iter();
        let hosts: Vec<&str> = hosts
            .filter(|host| !host.starts_with("www.w3.org"))
            .collect();
        let is_of_licences = path.ends_with(".txt");
        assert!(hosts.is_empty() || is_of_licences, "{path} names {hosts:?}");
        let is_ours = !path.starts_with("vendor/");
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
            "new Function",
            "document.write",
        ] {
            assert!(!(is_ours && text.contains(word)), "{path} has {word}");
        }
    }
    // A policy without inline scripts is kept only by pages without them.
    let page = text_of(PAGE);
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"));
}

#[test]
fn files_come_with_their_type_and_a_policy_that_lets_no_other_script_run() {
    for (path, plain) in ASSETS {
        let response = get_with(path, &[]);
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers().clone();
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self';",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[CONTENT_TYPE], media_type(path));
        assert!(!headers.contains_key(CONTENT_ENCODING));
        assert_eq!(body(response), *plain, "{path}");
    }
}

#[test]
fn a_file_is_packed_for_who_can_unpack_it_and_not_sent_twice() {
    let packed = get_with("app.js", &[(ACCEPT_ENCODING, "br, gzip;q=0.5")]);
    assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
    let tag = packed.headers()[ETAG].to_str().unwrap().to_owned();
    let mut unpacked = String::new();
    let packed = body(packed);
    assert!(packed.len() < text_of("app.js").len());
    flate2::read::GzDecoder::new(packed.as_slice())
        .read_to_string(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, text_of("app.js"));

    let refused = get_with("app.js", &[(ACCEPT_ENCODING, "gzip;q=0, deflate")]);
    assert!(!refused.headers().contains_key(CONTENT_ENCODING));

    let known = get_with("app.js", &[(IF_NONE_MATCH, &format!("\"other\", {tag}"))]);
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    assert!(body(known).is_empty());
    let other = get_with("app.js", &[(IF_NONE_MATCH, "W/\"0123\"")]);
    assert_eq!(other.status(), StatusCode::OK);
}

#[test]
fn no_path_leads_elsewhere() {
    for path in [
        "",
        "nothing.js",
        "../mod.rs",
        "/etc/passwd",
        "vendor/README.md",
        "app.js/",
    ] {
        assert_eq!(
            get_with(path, &[]).status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}
