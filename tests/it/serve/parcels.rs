//! Parcels over HTTP: who is given what, and that only what is missing travels.

use perennial::ask::TensorModel;
use perennial::bank::FragmentStore;
use perennial::bank::parcel::{Expected, Manifest, ParcelReader, Trust};

use super::backup::streamed;
use super::*;
use crate::tensors::{CharCodec, decoder};

const READER: &str = "reader-0123456789abcdef";
const OF_BOB: &str = "of-bob-0123456789abcdef";
const WRITER: &str = "writer-0123456789abcdef";

const FILE: &str = "\
read reader-0123456789abcdef
read of-bob-0123456789abcdef team_as_bob
write writer-0123456789abcdef
";

const TEAM: &str = "
    CREATE TABLE turns (key TEXT, text TEXT, room TEXT);
    CREATE MEMORY team FROM turns WITH (NAMESPACE = room);
    INSERT INTO turns VALUES ('a', 'The library opens at nine.', 'desk');
    INSERT INTO turns VALUES ('b', 'A ferry ticket costs twelve crowns.', 'harbour');
    GRANT READ ON NAMESPACE 'desk' OF MEMORY team TO 'bob';
";

fn model() -> Arc<TensorModel> {
    let store = Arc::new(FragmentStore::new(1 << 26));
    Arc::new(TensorModel::new(decoder(1), &[9; 32], CharCodec, store))
}

fn with_tensors(model: &Arc<TensorModel>) -> Runtime {
    let embedder = Arc::new(ScriptedEmbedder::default());
    let runtime = Runtime::new(model.clone(), model.store().clone(), embedder, 1);
    runtime.handing_over(model.clone())
}

/// What a server hands over, as it is listed; or the status with which it is refused.
fn parcel(
    serving: &Serving,
    token: Option<&str>,
    wanted: &Value,
    model: &TensorModel,
) -> Result<Manifest, u16> {
    let body = wanted.to_string();
    let path = "/v1/memories/team/parcel";
    let (status, body) = streamed(serving, path, token, body.as_bytes());
    if status != 200 {
        return Err(status);
    }
    let body = body.expect("whole");
    let parts = model.parts();
    let expected = Expected {
        model: Some(&parts),
        trust: &Trust::Anybody,
        now_ms: 0,
        is_known: &|_| false,
        max_bytes: body.len() as u64,
        n_bytes: Some(body.len() as u64),
    };
    let mut parcel = ParcelReader::open(&body[..], expected).expect("is one");
    while parcel.next_fragment().expect("is whole").is_some() {}
    Ok(parcel.manifest().clone())
}

fn keys(manifest: &Manifest) -> Vec<&str> {
    manifest.records.iter().map(|of| &*of.key).collect()
}

#[test]
fn each_is_given_what_they_may_read_and_only_what_is_missing() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tokens");
    std::fs::write(&path, FILE).expect("writable");
    let model = model();
    let setup = Setup {
        tokens: Some(Arc::new(Tokens::open(path).expect("tokens"))),
        runtime: Some(with_tensors(&model)),
        ..Setup::default()
    };
    let serving = Serving::with(TEAM, setup);
    let ask = |token, wanted: Value| parcel(&serving, token, &wanted, &model);
    eventually("all is visible", || {
        ask(Some(READER), json!({})).is_ok_and(|of| of.records.len() == 2)
    });
    let all = ask(Some(READER), json!({})).expect("may be read");
    assert_eq!(keys(&all), ["a", "b"]);
    let of_bob = ask(Some(OF_BOB), json!({"as": "bob"})).expect("may be read");
    assert_eq!(keys(&of_bob), ["a"]);
    for (token, wanted, status) in [
        (None, json!({}), 401),
        (Some(WRITER), json!({}), 403),
        // Not all of it, and not for another.
        (Some(OF_BOB), json!({}), 403),
        (Some(OF_BOB), json!({"as": "eve"}), 403),
        (Some(READER), json!({"as": "eve"}), 404),
        // What is hidden and what is not there are answered alike.
        (
            Some(OF_BOB),
            json!({"as": "bob", "namespace": "harbour"}),
            404,
        ),
        (
            Some(OF_BOB),
            json!({"as": "bob", "namespace": "nowhere"}),
            404,
        ),
        (Some(READER), json!({"haves": []}), 400),
    ] {
        assert_eq!(
            ask(token, wanted.clone()),
            Err(status),
            "{token:?} {wanted}"
        );
    }
    let path = "/v1/memories/teams/parcel";
    assert_eq!(streamed(&serving, path, Some(READER), b"").0, 404);
    // What is there already is named.
    let of_texts = || all.fragments.iter().filter(|of| of.record.is_some());
    let have: Vec<String> = of_texts()
        .take(1)
        .map(|of| {
            of.id
                .as_bytes()
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect()
        })
        .collect();
    let rest = ask(Some(READER), json!({ "have": have })).expect("may be read");
    let whole: Vec<bool> = all.fragments.iter().map(|of| of.n_bytes > 0).collect();
    let missing: Vec<bool> = rest.fragments.iter().map(|of| of.n_bytes > 0).collect();
    assert_eq!(
        (whole, missing),
        (vec![false, true, true], vec![false, false, true])
    );
    // What is no id leaves none out.
    let all_the_same = ask(Some(READER), json!({"have": ["12"]})).expect("may be read");
    assert_eq!(all_the_same.fragments, all.fragments);
    let ids = |of: &Manifest| of.fragments.iter().map(|of| of.id).collect::<Vec<_>>();
    assert_eq!(ids(&all), ids(&rest));
}

#[test]
fn a_server_without_fragments_hands_over_texts() {
    let serving = Serving::start(TEAM);
    let model = model();
    let ask = |wanted: Value| parcel(&serving, None, &wanted, &model);
    assert_eq!(ask(json!({})), Err(409));
    let texts = || ask(json!({"texts_only": true}));
    eventually("all is visible", || {
        texts().is_ok_and(|of| of.records.len() == 2)
    });
    let texts = texts().expect("may be read");
    assert!(texts.model.is_none() && texts.fragments.is_empty());
}
