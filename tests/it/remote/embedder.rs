//! Texts that are embedded behind HTTP: what is asked of servers of several kinds, and what becomes of
//! their troubles.

use perennial::ask::remote::{EmbedderOptions, RemoteEmbedder};
use perennial::ask::scripted::Scripted;
use perennial::ask::{Embed, Failure, embed_within};

use super::stub::{MAX_TEXTS, MISHAPS, Mishap, N_DIMENSIONS, TEXT_WINDOW, tokens, vector};
use super::*;

/// As long as no test waits.
const HOUR: Duration = Duration::from_secs(3600);

fn embedder_options() -> EmbedderOptions {
    EmbedderOptions {
        key: Some(ApiKey::new(KEY).expect("a key")),
        patience: Duration::from_secs(20),
        ..EmbedderOptions::default()
    }
}

fn embedder_of(stub: &Stub, options: &EmbedderOptions) -> RemoteEmbedder {
    RemoteEmbedder::open(&stub.url(), options).expect("opens")
}

fn embedder(stub: &Stub) -> RemoteEmbedder {
    embedder_of(stub, &embedder_options())
}

/// The vector of a text as it is to be.
fn unit(text: &str) -> Vec<f32> {
    let vector = vector(text, N_DIMENSIONS);
    let squares = vector.iter().map(|x| f64::from(*x) * f64::from(*x));
    let length = squares.sum::<f64>().sqrt();
    let scaled = vector.iter().map(|x| (f64::from(*x) / length) as f32);
    scaled.collect()
}

fn units(texts: &[&str]) -> Vec<Vec<f32>> {
    texts.iter().map(|text| unit(text)).collect()
}

/// The texts of each request behind the first `n`.
fn asked_behind(stub: &Stub, n: usize) -> Vec<Vec<String>> {
    let texts = |asked: &serde_json::Value| {
        let texts = asked["input"].as_array().expect("a list").iter();
        let texts = texts.map(|text| text.as_str().expect("a text").to_owned());
        texts.collect()
    };
    stub.embed_asked()[n..].iter().map(texts).collect()
}

/// So many different texts.
fn texts(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("text number {i}")).collect()
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Embeds, again and again while it may succeed later; how often it was tried.
fn until_embedded(embedder: &RemoteEmbedder, texts: &[&str]) -> (Vec<Vec<f32>>, usize) {
    for n_tries in 1..1000 {
        match embedder.embed(texts) {
            Ok(vectors) => return (vectors, n_tries),
            Err(Failure::Wait(pause)) => std::thread::sleep(pause),
            Err(Failure::Retry { .. }) => {}
            Err(Failure::Final(error)) => panic!("{error}"),
        }
    }
    panic!("it is not embedded at last")
}

#[test]
fn texts_are_embedded_over_any_server() {
    let texts = ["the library opens", "at nine", "the library opens"];
    for dialect in ALL {
        let stub = Stub::new(dialect);
        let embedder = embedder(&stub);
        assert_eq!(embedder.n_dimensions(), N_DIMENSIONS, "{dialect:?}");
        assert_eq!(embedder.embed(&texts), Ok(units(&texts)), "{dialect:?}");
        let asked = stub.embed_asked();
        let last = asked.last().expect("a request");
        let is_packed = last["encoding_format"] == json!("base64");
        // Who does not know the word is read as it replies; one refuses it.
        assert_eq!(is_packed, dialect != Dialect::Bare, "{dialect:?}");
        assert_eq!(embedder.embed(&[]), Ok(Vec::new()));
        assert_eq!(
            stub.embed_asked().len(),
            asked.len(),
            "of nothing nobody is asked"
        );
    }
}

#[test]
fn a_request_has_so_many_texts_and_bytes_at_most() {
    let stub = Stub::new(Dialect::Vllm);
    let options = EmbedderOptions {
        max_texts: 3,
        max_bytes: 30,
        ..embedder_options()
    };
    let embedder = embedder_of(&stub, &options);
    let n = stub.embed_asked().len();
    let long = "a text that is longer than all that one request may have";
    let texts = [
        "a",
        "b",
        "c",
        "d",
        "fifteen letters",
        "fifteen of them",
        "e",
        long,
        "f",
    ];
    assert_eq!(embedder.embed(&texts), Ok(units(&texts)));
    let expected: [&[&str]; 5] = [
        &texts[..3],
        &texts[3..5],
        &texts[5..7],
        &texts[7..8],
        &texts[8..],
    ];
    assert_eq!(asked_behind(&stub, n), expected);
}

#[test]
fn a_server_that_takes_fewer_texts_is_sent_fewer_from_then_on() {
    let stub = Stub::new(Dialect::Bare);
    let embedder = embedder(&stub);
    let (first, second) = (texts(20), texts(21));
    let first = borrowed(&first);
    assert_eq!(embedder.embed(&first), Ok(units(&first)));
    let n = stub.embed_asked().len();
    let second = borrowed(&second);
    assert_eq!(embedder.embed(&second), Ok(units(&second)));
    let sizes: Vec<usize> = asked_behind(&stub, n).iter().map(Vec::len).collect();
    assert_eq!(sizes, [5, 5, 5, 5, 1]);
}

#[test]
fn of_a_text_that_is_too_long_its_beginning_counts_whatever_it_comes_with() {
    let long: String = (0..100).map(|i| format!("word{i} ")).collect();
    let mut beginning = long.as_str();
    while tokens(beginning).len() > TEXT_WINDOW {
        beginning = &beginning[..beginning.len() / 2];
    }
    for dialect in [
        Dialect::Vllm,
        Dialect::OpenAi,
        Dialect::LlamaCpp,
        Dialect::Bare,
    ] {
        let stub = Stub::new(dialect);
        let embedder = embedder(&stub);
        let alone = embedder.embed(&[long.as_str()]);
        assert_eq!(alone, Ok(vec![unit(beginning)]), "{dialect:?}");
        let together = ["a", long.as_str(), "b", "c"];
        let expected = units(&["a", beginning, "b", "c"]);
        assert_eq!(embedder.embed(&together), Ok(expected), "{dialect:?}");
    }
}

#[test]
fn a_text_without_a_vector_fails_alone_and_the_others_are_not_asked_for_again() {
    for dialect in ALL {
        let stub = Stub::new(dialect);
        let embedder = embedder(&stub);
        let failed = embedder.embed(&["a", "an unspeakable text", "b"]);
        let Err(Failure::Final(error)) = failed else {
            panic!("{dialect:?}: {failed:?}");
        };
        assert!(
            error.to_string().contains("element 0 of the vector"),
            "{error}"
        );
        let n = stub.embed_asked().len();
        assert_eq!(embedder.embed(&["a", "b"]), Ok(units(&["a", "b"])));
        let again = embedder.embed(&["an unspeakable text"]);
        assert!(matches!(again, Err(Failure::Final(_))), "{again:?}");
        assert_eq!(stub.embed_asked().len(), n, "{dialect:?}");
    }
    // What the server itself refuses is heard in its words.
    let stub = Stub::new(Dialect::OpenAi);
    let embedder = embedder(&stub);
    let refused = embedder.embed(&["a", ""]);
    let Err(Failure::Final(error)) = refused else {
        panic!("{refused:?}");
    };
    assert!(error.to_string().contains("an empty string"), "{error}");
}

#[test]
fn a_server_that_changes_model_or_size_fails_until_it_is_as_it_was() {
    let stub = Stub::new(Dialect::Vllm);
    let embedder = embedder(&stub);
    let digest = embedder.digest();
    let reason = |failed: Result<Vec<Vec<f32>>, Failure>| match failed {
        Err(Failure::Retry { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    stub.embed_in(48);
    let resized = reason(embedder.embed(&["a"]));
    assert!(
        resized.contains("vectors of 48 elements") && resized.contains("24"),
        "{resized}"
    );
    let other = embedder_of(&stub, &embedder_options());
    assert_ne!(other.digest(), digest, "of 48 elements");
    stub.embed_in(N_DIMENSIONS);
    stub.mishap([Some(Mishap::OtherModel), Some(Mishap::Uneven)]);
    let exchanged = reason(embedder.embed(&["a", "b"]));
    assert!(
        exchanged.contains("embeds as `another-model`"),
        "{exchanged}"
    );
    let uneven = reason(embedder.embed(&["a", "b"]));
    assert!(uneven.contains("vectors of 25 elements"), "{uneven}");
    assert_eq!(embedder.embed(&["a", "b"]), Ok(units(&["a", "b"])));
    // The same model at another address gives the same vectors.
    let moved = Stub::new(Dialect::Vllm);
    assert_eq!(self::embedder(&moved).digest(), digest);
}

#[test]
fn limits_are_kept_and_what_was_got_within_them_is_not_asked_for_again() {
    let stub = Stub::new(Dialect::LlamaCpp);
    let mut options = embedder_options();
    options.limits.requests_per_minute = Some(1);
    let embedder = embedder_of(&stub, &options);
    assert_eq!(embedder.embed(&["a"]), Ok(units(&["a"])));
    let waits = embedder.embed(&["b"]);
    assert!(matches!(waits, Err(Failure::Wait(_))), "{waits:?}");
    // Of a text that is too long, and of texts that are too many, each request learns something.
    let long: String = (0..100).map(|i| format!("word{i} ")).collect();
    let few = texts(MAX_TEXTS + 1);
    let all: Vec<&str> = few
        .iter()
        .map(String::as_str)
        .chain([long.as_str()])
        .collect();
    let stub = Stub::new(Dialect::Bare);
    let embedder = embedder_of(&stub, &embedder_options());
    stub.mishap([None, Some(Mishap::Busy)].repeat(20));
    let (vectors, _) = until_embedded(&embedder, &all);
    assert_eq!(vectors[..few.len()], units(&all[..few.len()]));
    let (alone, _) = until_embedded(&embedder, &[long.as_str()]);
    assert_eq!(vectors[few.len()..], alone);
    // Each request but the last is followed by one that is refused for load.
    let stub = Stub::new(Dialect::LlamaCpp);
    let options = EmbedderOptions {
        max_texts: 2,
        ..embedder_options()
    };
    let embedder = embedder_of(&stub, &options);
    let n = stub.embed_asked().len();
    let busy = [None, Some(Mishap::Busy)];
    stub.mishap([busy; 3].concat());
    let texts = texts(8);
    let texts = borrowed(&texts);
    let (vectors, n_tries) = until_embedded(&embedder, &texts);
    assert_eq!(vectors, units(&texts));
    assert!(n_tries > 3, "{n_tries}");
    assert_eq!(stub.embed_asked().len() - n, 4 + 3);
}

#[test]
fn an_embedder_that_cannot_be_used_is_told_when_it_is_opened() {
    let stub = Stub::new(Dialect::OpenAi);
    let said = |spec: &str, key: &str| {
        let options = EmbedderOptions {
            key: Some(ApiKey::new(key).expect("a key")),
            ..embedder_options()
        };
        let error = RemoteEmbedder::open(spec, &options)
            .err()
            .expect("an error");
        assert!(
            !format!("{error} {error:?}").contains("secret"),
            "{error:?}"
        );
        error.to_string()
    };
    let refused = said(&stub.url(), "sk-wrong-and-secret");
    assert!(refused.contains("--embedder-key-file"), "{refused}");
    let named = said(&format!("{}#other", stub.url()), KEY);
    assert!(
        named.contains("no model `other`") && named.contains(MODEL),
        "{named}"
    );
    let nobody = said("http://127.0.0.1:1/v1", KEY);
    assert!(nobody.contains("cannot be reached"), "{nobody}");
    stub.embed_in(0);
    let none = said(&stub.url(), KEY);
    assert!(none.contains("a vector of 0 elements"), "{none}");
}

#[test]
fn who_waits_is_given_vectors_through_troubles() {
    let stub = Stub::new(Dialect::Vllm);
    let embedder = embedder(&stub);
    stub.mishap([Some(Mishap::Busy), Some(Mishap::HangsUp)]);
    assert_eq!(embed_within(&embedder, &["a"], HOUR), Ok(units(&["a"])));
    stub.mishap([Some(Mishap::HangsUp)]);
    let failed = embed_within(&embedder, &["a"], Duration::ZERO);
    assert!(matches!(failed, Err(Failure::Retry { .. })), "{failed:?}");
}

/// A view whose documents exceed its budget, with texts embedded behind HTTP.
fn selecting(stub: &Stub, state: &Path) -> Engine {
    let runtime = Runtime::scripted(
        Arc::new(Scripted::new()),
        Arc::new(ScriptedEmbedder::default()),
    );
    let runtime = runtime.embedding_by(Arc::new(embedder(stub)), 2);
    let builder = Engine::builder(runtime).table("notes").table("questions");
    let view = answers().token_budget(150);
    builder.view(view).state(state).start().expect("starts")
}

#[test]
fn passages_are_selected_through_troubles_and_embedded_once() {
    let stub = Stub::new(Dialect::Ollama);
    let folder = tempfile::tempdir().expect("a folder");
    let engine = selecting(&stub, folder.path());
    let n = stub.embed_asked().len();
    let mishaps = [
        Mishap::Busy,
        Mishap::HangsUp,
        Mishap::OtherModel,
        Mishap::Fewer,
    ];
    stub.mishap(mishaps.map(Some));
    let notes = (0..40).map(|i| {
        let text = format!("Room r{i} of the house holds {i} chairs and a table.");
        Edit::upsert("notes", &*format!("n{i}"), text)
    });
    let asked = Edit::upsert("questions", "q", "r17 r17 r17");
    engine.apply(notes.chain([asked]).collect()).expect("runs");
    engine.settle().expect("runs");
    let said = |engine: &Engine| {
        let standing = engine.answers("answers").expect("a view");
        let (_, answer) = standing.into_iter().next().expect("an answer");
        answer.answer.expect("no error").text.to_string()
    };
    let first = said(&engine);
    assert!(first.contains("Room r17 of the house"), "{first}");
    let embedded = asked_behind(&stub, n).concat();
    assert!(
        embedded.len() >= 41,
        "the notes and the question: {embedded:?}"
    );
    drop(engine);
    // Vectors are kept under the model and its dimension.
    let n = stub.embed_asked().len();
    let engine = selecting(&stub, folder.path());
    engine.settle().expect("runs");
    assert_eq!(said(&engine), first);
    let asked = asked_behind(&stub, n);
    assert_eq!(
        asked.len(),
        2,
        "only what the server gives is asked: {asked:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever goes with one request, and whatever goes wrong with it.
    #[test]
    fn vectors_come_back_in_order_whatever_goes_wrong(
        words in prop::collection::vec(prop::collection::vec("[a-e]{1,3}", 1..6), 1..30),
        dialect in prop::sample::select(ALL.to_vec()),
        max_texts in 1usize..9,
        max_bytes in 1usize..60,
        mishaps in prop::collection::vec(prop::option::of(prop::sample::select(MISHAPS.to_vec())), 0..5),
    ) {
        let stub = Stub::new(dialect);
        let options = EmbedderOptions { max_texts, max_bytes, ..embedder_options() };
        let embedder = embedder_of(&stub, &options);
        let texts: Vec<String> = words.iter().map(|words| words.join(" ")).collect();
        let texts = borrowed(&texts);
        stub.mishap(mishaps);
        let (vectors, _) = until_embedded(&embedder, &texts);
        prop_assert_eq!(vectors, units(&texts));
    }
}
