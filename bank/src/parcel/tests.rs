use std::io::{self, Cursor, Read};
use std::sync::{Arc, LazyLock};

use perennial_model::cancel::Cancel;
use perennial_model::decoder::{Decoder, Logits, Rows};
use perennial_model::kv::coding::{CodedKv, Coding};
use perennial_model::kv::{KvFragment, KvShape};
use perennial_model::layout::Layout;
use perennial_model::seeded::{tiny, tiny_config};
use proptest::prelude::*;

use super::write::head;
use super::*;
use crate::id::ModelIdentity;

const NOW: i64 = 1_000_000;
const SHAPE: KvShape = KvShape {
    n_layers: 2,
    n_kv_heads: 1,
    head_dim: 16,
};

fn model() -> ModelParts {
    ModelParts {
        weights: [4; 32],
        codec: [5; 32],
        kernel_class: "test".to_owned(),
        identity: ModelIdentity::new(&[4; 32], "test", "f16"),
        shape: SHAPE,
    }
}

/// Tensors that no model computed, of so many tokens: finite, with nothing behind the last token.
fn fragment(n_tokens: usize) -> Arc<KvFragment> {
    let n_bytes = SHAPE.n_bytes(n_tokens).expect("is counted");
    let mut bytes: Vec<u8> = (0..n_bytes).map(|i| (i % 53) as u8).collect();
    let n_strip = n_bytes / SHAPE.n_layers;
    for strip in bytes.chunks_exact_mut(n_strip) {
        for tile in strip.chunks_exact_mut(32).take(16) {
            tile[2 * n_tokens..].fill(0);
        }
    }
    let kv = KvFragment::from_bytes(SHAPE, 0, n_tokens, &bytes).expect("has the length");
    assert!(kv.is_sound());
    Arc::new(kv)
}

fn signer() -> Signer {
    Signer::of(&[8; 32]).expect("a key")
}

fn record(key: &str) -> Record {
    Record {
        key: key.to_owned(),
        namespace: "desk".to_owned(),
        session: Some("monday".to_owned()),
        text: format!("What {key} says."),
        updated_at_ms: NOW - 20,
        is_pinned: key == "a",
        provenance: (key == "b").then(|| "came by another".to_owned()),
        ..Record::default()
    }
}

/// Two entries: the first of two passages, the second of one, and the prefix of all.
fn write_with(signer: Option<&Signer>, change: impl FnOnce(&mut Label)) -> Vec<u8> {
    let mut label = Label {
        model: Some(model()),
        written_at_ms: NOW - 10,
        expires_at_ms: Some(NOW + 10),
        writer: "writer".to_owned(),
        is_coded: false,
    };
    change(&mut label);
    let mut parcel = ParcelWriter::new(label, Cursor::new(Vec::new())).expect("is begun");
    let [a, b] = ["a", "b"].map(|key| parcel.record(record(key)).expect("is taken"));
    let prefix = parcel.named(None, None, &[1, 2, 3]).expect("is named");
    let first = parcel.whole(Some(prefix), Some(a), &[4, 5, 6], &fragment(3));
    let first = first.expect("is packed");
    let second = parcel.whole(Some(first), Some(a), &[7], &fragment(1));
    second.expect("is packed");
    let third = parcel.whole(Some(prefix), Some(b), &[9, 10], &fragment(2));
    third.expect("is packed");
    let mut bytes = Vec::new();
    parcel.finish(&mut bytes, signer).expect("is written");
    bytes
}

fn written() -> Vec<u8> {
    write_with(None, |_| ())
}

type All = (Manifest, Vec<Received>);

static HERE: LazyLock<ModelParts> = LazyLock::new(model);
static ANYBODY: Trust = Trust::Anybody;

fn here() -> Expected<'static> {
    Expected {
        model: Some(&HERE),
        trust: &ANYBODY,
        now_ms: NOW,
        is_known: &|_| false,
        max_bytes: 1 << 20,
        n_bytes: None,
    }
}

fn read_as(bytes: impl Read, expected: Expected<'_>) -> Result<All, ParcelError> {
    let mut reader = ParcelReader::open(bytes, expected)?;
    let mut received = Vec::new();
    while let Some(fragment) = reader.next_fragment()? {
        received.push(fragment);
    }
    assert!(reader.next_fragment()?.is_none());
    Ok((reader.manifest().clone(), received))
}

fn read(bytes: &[u8]) -> Result<All, ParcelError> {
    read_as(bytes, here())
}

#[test]
fn what_was_packed_arrives() {
    let (manifest, received) = read(&written()).expect("is whole");
    assert_eq!(manifest.records, [record("a"), record("b")]);
    assert_eq!(manifest.fragments.len(), 4);
    let numbers: Vec<u32> = received.iter().map(|of| of.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    for received in &received {
        let entry = &manifest.fragments[received.number as usize];
        assert_eq!(received.whole(), Some(&fragment(entry.tokens.len())));
        assert_eq!(received.id, entry.id);
    }
    // Without a model here it is known to have come whole, and no more.
    let alone = Expected {
        model: None,
        ..here()
    };
    let (_, received) = read_as(&written()[..], alone).expect("is whole");
    assert_eq!(received.len(), 3);
}

/// A model whose fragments can be coded, and one of them.
fn coded() -> (ModelParts, CodedKv) {
    let config = tiny_config();
    let decoder = Decoder::load(config.clone(), &tiny(&config, 5), 1, &mut |_, _| {});
    let decoder = decoder.expect("loads");
    let mut tail = decoder.new_tail(0);
    let rows = Rows {
        layout: &Layout::new(),
        pending: &[],
        tail: &mut tail,
        tokens: &[4, 5, 6],
        logits: Logits::None,
        mass: false,
    };
    let computed = decoder.forward(&mut [rows], &Cancel::new());
    computed.expect("is computed");
    let kv = CodedKv::encode(&tail.freeze(), Coding::K8V4, &decoder.key_frame());
    let model = ModelParts {
        shape: KvShape::of(&config),
        ..model()
    };
    (model, kv.expect("is coded"))
}

fn write_coded(model: &ModelParts, kv: &CodedKv) -> Vec<u8> {
    let label = Label {
        model: Some(model.clone()),
        written_at_ms: NOW,
        expires_at_ms: None,
        writer: String::new(),
        is_coded: true,
    };
    let mut parcel = ParcelWriter::new(label, Cursor::new(Vec::new())).expect("is begun");
    let prefix = parcel.named(None, None, &[1, 2]).expect("is named");
    let added = parcel.coded(Some(prefix), None, &[4, 5, 6], kv);
    added.expect("is packed");
    // One parcel has one coding, and codes are of their tokens.
    for refused in [
        parcel.coded(Some(prefix), None, &[4, 5], kv),
        parcel.whole(Some(prefix), None, &[4, 5, 6], &fragment(3)),
    ] {
        assert!(matches!(refused, Err(ParcelError::Unfit { .. })));
    }
    let mut bytes = Vec::new();
    parcel.finish(&mut bytes, None).expect("is written");
    bytes
}

#[test]
fn what_was_coded_arrives_and_no_other_bytes_do() {
    let (model, kv) = coded();
    let bytes = write_coded(&model, &kv);
    let here = Expected {
        model: Some(&model),
        ..here()
    };
    let (manifest, received) = read_as(&bytes[..], here).expect("is whole");
    assert!(manifest.is_coded);
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].tensors, Tensors::Coded(Arc::new(kv)));
    assert!(received[0].whole().is_none());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(read_as(&changed[..], here).is_err(), "byte {at} changed");
        assert!(read_as(&bytes[..at], here).is_err(), "cut at {at}");
    }
}

#[test]
fn texts_go_without_a_model() {
    let label = Label {
        model: None,
        written_at_ms: NOW,
        expires_at_ms: None,
        writer: String::new(),
        is_coded: false,
    };
    let mut parcel = ParcelWriter::new(label, Cursor::new(Vec::new())).expect("is begun");
    parcel.record(record("a")).expect("is taken");
    let refused = parcel.named(None, None, &[1]);
    assert!(matches!(refused, Err(ParcelError::Unfit { .. })));
    let mut bytes = Vec::new();
    parcel.finish(&mut bytes, None).expect("is written");
    let (manifest, received) = read(&bytes).expect("is whole");
    assert_eq!((manifest.model, received.len()), (None, 0));
    assert_eq!(manifest.records, [record("a")]);
}

#[test]
fn every_byte_that_is_flipped_is_refused() {
    for bytes in [written(), write_with(Some(&signer()), |_| ())] {
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut flipped = bytes.clone();
                flipped[at] ^= bit;
                assert!(read(&flipped).is_err(), "byte {at}");
            }
        }
    }
}

#[test]
fn a_cut_parcel_says_where_and_what_came_before_is_whole() {
    let bytes = written();
    for n in 0..bytes.len() {
        let refused = read(&bytes[..n]).expect_err("is cut");
        assert!(matches!(refused, ParcelError::Cut { .. }), "{n}: {refused}");
    }
    // Where it is known how much there is, the whole is told before any payload is read.
    let mut n_told = 0;
    for n in 0..=bytes.len() {
        let known = Expected {
            n_bytes: Some(n as u64),
            ..here()
        };
        match ParcelReader::open(&bytes[..n], known) {
            Err(ParcelError::Cut { .. }) => assert_eq!(n_told, 0),
            Err(refused) => {
                let told = format!("cut off after {n} of {} bytes", bytes.len());
                assert!(refused.to_string().contains(&told), "{refused}");
                n_told += 1;
            }
            Ok(_) => assert_eq!(n, bytes.len()),
        }
    }
    assert!(n_told > 2 * FRAME_BYTES, "{n_told}");
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(read(&longer), Err(ParcelError::Damaged { .. })));
    let cut = &bytes[..bytes.len() - TRAILER_BYTES - 1];
    let mut reader = ParcelReader::open(cut, here()).expect("begins");
    for _ in 0..2 {
        reader.next_fragment().expect("is whole").expect("is there");
    }
    let place = "within a frame";
    let refused = reader.next_fragment().expect_err("is cut");
    assert!(matches!(refused, ParcelError::Cut { place: of } if of == place));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes).is_err());
        let begun = [&MAGIC[..], &1u32.to_le_bytes(), &bytes].concat();
        prop_assert!(read(&begun).is_err());
    }

    #[test]
    fn a_manifest_of_any_bytes_is_refused_or_is_one(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        at: prop::sample::Index,
    ) {
        for bytes in [bytes.clone(), near_a_manifest(&bytes, at)] {
            if let Ok(manifest) = Manifest::parse(&bytes) {
                prop_assert_eq!(manifest.to_bytes(), bytes);
            }
        }
    }
}

/// The bytes of a manifest with some of them replaced.
fn near_a_manifest(with: &[u8], at: prop::sample::Index) -> Vec<u8> {
    let (manifest, _) = read(&written()).expect("is whole");
    let mut bytes = manifest.to_bytes();
    let at = at.index(bytes.len());
    let n = with.len().min(4).min(bytes.len() - at);
    bytes[at..at + n].copy_from_slice(&with[..n]);
    bytes
}

#[test]
fn signatures_are_of_trusted_keys_or_refused() {
    let signer = signer();
    let public = *signer.public();
    let (signed, unsigned) = (write_with(Some(&signer), |_| ()), written());
    let trusting = |bytes: &[u8], keys: &[[u8; 32]]| {
        let trust = &Trust::Keys(keys.to_vec());
        read_as(bytes, Expected { trust, ..here() }).map(|_| ())
    };
    trusting(&signed, &[[1; 32], public]).expect("is trusted");
    let refused = trusting(&signed, &[[1; 32]]);
    assert!(matches!(refused, Err(ParcelError::Untrusted { .. })));
    let refused = trusting(&unsigned, &[public]);
    assert!(matches!(refused, Err(ParcelError::Unsigned)));
    // Where anybody may write, a signature must still be one.
    read(&signed).expect("is whole");
    let (n_manifest, mut forged) = (n_manifest(&signed), signed.clone());
    let seal = HEAD_BYTES + n_manifest..HEAD_BYTES + n_manifest + SEAL_BYTES;
    let other = write_with(Some(&signer), |label| label.writer = "other".to_owned());
    let from = HEAD_BYTES + self::n_manifest(&other);
    // The signature of another parcel, all checks made anew.
    let mut moved = other[from..from + SEAL_BYTES - CHECK_BYTES].to_vec();
    moved[4..36].copy_from_slice(&signed[seal.start + 4..seal.start + 36]);
    seal_part(&mut moved);
    forged[seal].copy_from_slice(&moved);
    assert!(matches!(read(&forged), Err(ParcelError::Forged { .. })));
}

/// Bytes of a parcel's manifest.
fn n_manifest(bytes: &[u8]) -> usize {
    let n: [u8; 4] = bytes[16..20].try_into().expect("four bytes");
    u32::from_le_bytes(n) as usize
}

#[test]
fn what_is_not_for_here_or_now_is_refused_by_name() {
    let bytes = written();
    let late = Expected {
        now_ms: NOW + 15,
        ..here()
    };
    let refused = read_as(&bytes[..], late);
    assert!(matches!(refused, Err(ParcelError::Expired { late_ms: 5 })));
    let again = Expected {
        is_known: &|_| true,
        ..here()
    };
    let refused = read_as(&bytes[..], again);
    assert!(matches!(refused, Err(ParcelError::Replayed { .. })));
    let small = Expected {
        max_bytes: 10,
        ..here()
    };
    let refused = read_as(&bytes[..], small);
    assert!(matches!(
        refused,
        Err(ParcelError::TooLarge { what: "bytes", .. })
    ));
    type Change = fn(&mut ModelParts);
    let parts: [(&str, Change); 4] = [
        ("weights", |model| model.weights[0] ^= 1),
        ("tokenizer or template", |model| model.codec[0] ^= 1),
        ("kernel class", |model| model.kernel_class.push('2')),
        ("shape", |model| model.shape.n_layers += 1),
    ];
    for (name, change) in parts {
        let mut other = model();
        change(&mut other);
        let there = Expected {
            model: Some(&other),
            ..here()
        };
        let refused = read_as(&bytes[..], there);
        let refused = refused.expect_err("is of another model");
        let ParcelError::OtherModel {
            what,
            got,
            expected,
        } = &refused
        else {
            panic!("{refused}");
        };
        assert_eq!(*what, name);
        let says = refused.to_string();
        let names_both = says.contains(got) && says.contains(expected) && got != expected;
        assert!(names_both, "{says}");
    }
    let mut newer = bytes.clone();
    newer[12] = 2;
    let refused = read(&newer);
    assert!(matches!(
        refused,
        Err(ParcelError::OtherVersion {
            found: 2,
            supported: 1
        })
    ));
}

/// A parcel up to its frames whose manifest was changed, and all digests made anew.
fn with_manifest(change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let (mut manifest, _) = read(&written()).expect("is whole");
    change(&mut manifest);
    let bytes = manifest.to_bytes();
    let head = head(&bytes);
    let seal = seal::seal(&root(&head, &bytes), None);
    [head, bytes, seal].concat()
}

#[test]
fn other_tokens_under_a_known_id_are_refused() {
    let bytes = with_manifest(|manifest| manifest.fragments[1].tokens[0] += 1);
    let refused = read(&bytes);
    assert!(matches!(
        refused,
        Err(ParcelError::WrongId { fragment: 1, .. })
    ));
    let bytes = with_manifest(|manifest| manifest.fragments[2].conditioning = Some(0));
    let refused = read(&bytes);
    assert!(matches!(
        refused,
        Err(ParcelError::WrongId { fragment: 2, .. })
    ));
    for change in [
        |manifest: &mut Manifest| manifest.fragments[1].conditioning = Some(1),
        |manifest: &mut Manifest| manifest.fragments[1].record = Some(2),
        |manifest: &mut Manifest| manifest.model = None,
    ] {
        let refused = read(&with_manifest(change));
        assert!(matches!(refused, Err(ParcelError::Damaged { .. })));
    }
}

/// A reader that says how much was asked of it.
struct Counted {
    begin: Vec<u8>,
    n_read: usize,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = self.begin.len().saturating_sub(self.n_read);
        let n = into.len().min(rest);
        into[..n].copy_from_slice(&self.begin[self.n_read..][..n]);
        self.n_read += n;
        Ok(n)
    }
}

#[test]
fn claimed_sizes_are_refused_before_a_payload_is_read() {
    let claims: [fn(&mut Manifest); 3] = [
        |manifest| manifest.fragments[1].n_bytes = u64::MAX,
        |manifest| manifest.fragments[1].n_bytes += 1,
        |manifest| {
            let model = manifest.model.as_mut().expect("has one");
            model.shape.head_dim = 1 << 30;
        },
    ];
    for claim in claims {
        let begin = with_manifest(claim);
        let n = begin.len();
        let mut from = Counted { begin, n_read: 0 };
        let refused = read_as(&mut from, here()).expect_err("claims too much");
        let is_named = matches!(
            refused,
            ParcelError::TooLarge { .. } | ParcelError::OtherModel { .. }
        );
        assert!(is_named, "{refused}");
        assert_eq!(from.n_read, n);
    }
    // A manifest of four gigabytes.
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend(u32::MAX.to_le_bytes());
    head.extend([0; 32]);
    seal_part(&mut head);
    assert!(matches!(read(&head), Err(ParcelError::TooLarge { .. })));
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    // Infinite, and one behind the last token.
    for (at, half) in [(0, 0x7c00_u16), (2 * 3, 1)] {
        let mut bytes = fragment(3).to_bytes();
        bytes[at..at + 2].copy_from_slice(&half.to_le_bytes());
        let kv = KvFragment::from_bytes(SHAPE, 0, 3, &bytes).expect("has the length");
        let label = Label {
            model: Some(model()),
            written_at_ms: NOW,
            expires_at_ms: None,
            writer: String::new(),
            is_coded: false,
        };
        let mut parcel = ParcelWriter::new(label, Cursor::new(Vec::new())).expect("is begun");
        let packed = parcel.whole(None, None, &[1, 2, 3], &kv);
        packed.expect("is packed");
        let mut bytes = Vec::new();
        parcel.finish(&mut bytes, None).expect("is written");
        let refused = read(&bytes);
        assert!(matches!(
            refused,
            Err(ParcelError::NotFinite { fragment: 0 })
        ));
    }
}

#[test]
fn what_cannot_be_packed_is_said() {
    let label = Label {
        model: Some(model()),
        written_at_ms: NOW,
        expires_at_ms: None,
        writer: String::new(),
        is_coded: false,
    };
    let mut parcel = ParcelWriter::new(label, Cursor::new(Vec::new())).expect("is begun");
    let refused = [
        parcel.named(Some(0), None, &[1]),
        parcel.named(None, Some(0), &[1]),
        parcel.named(None, None, &[]),
        parcel.whole(None, None, &[1], &fragment(2)),
        parcel.whole(None, None, &[1], &fragment(2).slice(1..2)),
    ];
    for refused in refused {
        assert!(matches!(
            refused,
            Err(ParcelError::Unfit { fragment: 0, .. })
        ));
    }
    let long = Record {
        text: "x".repeat((64 << 10) + 1),
        ..record("a")
    };
    let refused = parcel.record(long);
    assert!(matches!(refused, Err(ParcelError::TooLarge { .. })));
}

const GOLDEN: &[u8] = include_bytes!("../../tests/golden/parcel-1.bin");

/// What version 1 is written from: no kernel computed it, so it is the same under all.
fn golden() -> Vec<u8> {
    write_with(Some(&signer()), |_| ())
}

#[test]
fn what_version_1_wrote_is_written_and_read() {
    assert!(golden() == GOLDEN, "the format is not that of its version");
    let trust = &Trust::Keys(vec![*signer().public()]);
    let read = read_as(GOLDEN, Expected { trust, ..here() });
    let (manifest, received) = read.expect("is read");
    assert_eq!((manifest.records.len(), received.len()), (2, 3));
    assert_eq!(received[1].id, manifest.fragments[2].id);
}

#[test]
#[ignore = "writes the golden file of a new version"]
fn write_golden() {
    std::fs::write("tests/golden/parcel-1.bin", golden()).expect("is written");
}
