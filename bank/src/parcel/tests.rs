use std::io::Read;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use perennial_model::cancel::Cancel;
use perennial_model::decoder::Decoder;
use perennial_model::kv::coding::{CodedKv, Coding, KeyFrame};
use perennial_model::kv::{KvFragment, KvShape};
use perennial_model::seeded::{tiny, tiny_config};
use proptest::prelude::*;

use super::write::{Label, Payload};
use super::*;
use crate::id::ModelIdentity;

const NOW: i64 = 1_000_000;

struct World {
    decoder: Decoder,
    frame: KeyFrame,
    model: ModelParts,
    trust: Trust,
}

fn world() -> World {
    let config = tiny_config();
    let decoder = Decoder::load(config.clone(), &tiny(&config, 4), 1, &mut |_, _| {}).unwrap();
    let identity = ModelIdentity::new(&[4; 32], "test", "f16");
    let model = ModelParts {
        weights: [4; 32],
        codec: [5; 32],
        kernel_class: "test".to_owned(),
        identity,
        shape: decoder.kv_shape(),
    };
    let trust = Trust {
        unsigned: true,
        ..Trust::default()
    };
    World {
        frame: decoder.key_frame(),
        decoder,
        model,
        trust,
    }
}

impl World {
    fn encoder<'a>(&'a self, cancel: &'a Cancel) -> DecoderEncoder<'a> {
        let decoder = &self.decoder;
        DecoderEncoder { decoder, cancel }
    }

    fn encode(&self, chain: &[&[u32]]) -> Arc<KvFragment> {
        Arc::new(self.encoder(&Cancel::new()).encode(chain).unwrap())
    }

    /// A prefix that is named only, a passage behind it, and one behind that.
    fn packed(&self) -> Vec<Packed> {
        let texts: [&[u32]; 3] = [&[1, 2, 3], &[4, 5, 6, 7, 8], &[9, 10]];
        let mut packed = vec![Packed::named(None, texts[0].to_vec())];
        for n in 1..3 {
            let kv = self.encode(&texts[..=n]);
            let before = Some(n as u32 - 1);
            packed.push(Packed {
                provenance: format!("session {n}"),
                ..Packed::whole(before, texts[n].to_vec(), kv)
            });
        }
        packed
    }

    /// The same, coded.
    fn coded(&self) -> Vec<Packed> {
        let mut packed = self.packed();
        for packed in &mut packed {
            if let Payload::Kv(kv) = &packed.payload {
                let coded = CodedKv::encode(kv, Coding::K8V4, &self.frame).unwrap();
                packed.payload = Payload::Coded(Arc::new(coded));
            }
        }
        packed
    }

    fn label(&self, coding: PayloadCoding) -> Label {
        Label {
            model: self.model.clone(),
            coding,
            written_at_ms: NOW - 10,
            expires_at_ms: Some(NOW + 10),
            writer: "writer".to_owned(),
        }
    }

    fn write(&self, packed: &[Packed], signer: Option<&Signer>) -> Vec<u8> {
        let is_coded = |p: &Packed| matches!(p.payload, Payload::Coded(_));
        let coding = match packed.iter().any(is_coded) {
            true => PayloadCoding::Coded,
            false => PayloadCoding::F16,
        };
        let mut bytes = Vec::new();
        write_parcel(&mut bytes, self.label(coding), packed, signer).unwrap();
        bytes
    }

    fn expected(&self) -> Expected<'_> {
        Expected {
            model: &self.model,
            frame: &self.frame,
            trust: &self.trust,
            now_ms: NOW,
            is_known: &|_| false,
            max_bytes: 1 << 20,
        }
    }

    fn read(&self, bytes: &[u8]) -> Result<(Manifest, Vec<Received>), ParcelError> {
        read_all(bytes, self.expected())
    }

    fn audit(&self, manifest: &Manifest, received: &[Received]) -> Result<usize, AuditError> {
        let cancel = Cancel::new();
        let encoder = &mut self.encoder(&cancel);
        let audited = audit(manifest, received, |_| true, &self.frame, encoder);
        audited.map(|ids| ids.len())
    }
}

fn read_all(
    bytes: impl Read,
    expected: Expected<'_>,
) -> Result<(Manifest, Vec<Received>), ParcelError> {
    let mut reader = ParcelReader::open(bytes, expected)?;
    let mut received = Vec::new();
    while let Some(fragment) = reader.next_fragment()? {
        received.push(fragment);
    }
    assert!(reader.next_fragment()?.is_none());
    Ok((reader.manifest().clone(), received))
}

#[test]
fn what_was_packed_arrives_and_stands_an_audit() {
    let world = world();
    let packed = world.packed();
    let (manifest, received) = world.read(&world.write(&packed, None)).unwrap();
    assert_eq!(manifest.entries.len(), 3);
    assert_eq!(manifest.entries[2].provenance, "session 2");
    assert_eq!(received.len(), 2);
    for received in &received {
        let Payload::Kv(kv) = &packed[received.entry as usize].payload else {
            panic!("only those with tensors are sent");
        };
        assert_eq!(received.kv, *kv);
        assert_ne!(received.borrowed_id(), received.id);
    }
    assert_eq!(world.audit(&manifest, &received).unwrap(), 2);
    // A sample is those that are drawn.
    let cancel = Cancel::new();
    let mut encoder = world.encoder(&cancel);
    let drawn = audit(&manifest, &received, |n| n == 2, &world.frame, &mut encoder).unwrap();
    assert_eq!(drawn, [received[1].id]);
}

#[test]
fn codes_arrive_and_stand_an_audit_and_are_borrowed() {
    let world = world();
    let (manifest, received) = world.read(&world.write(&world.coded(), None)).unwrap();
    assert_eq!(manifest.coding, PayloadCoding::Coded);
    assert_eq!(world.audit(&manifest, &received).unwrap(), 2);
    for received in &received {
        let exact = world.encode(&manifest.chain(received.entry));
        assert_ne!(received.kv, exact);
        assert_ne!(received.borrowed_id(), received.id);
    }
}

#[test]
fn every_byte_that_is_flipped_is_refused() {
    let world = world();
    for packed in [world.packed(), world.coded()] {
        let bytes = world.write(&packed[..2], None);
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut flipped = bytes.clone();
                flipped[at] ^= bit;
                assert!(world.read(&flipped).is_err(), "byte {at}");
            }
        }
    }
}

#[test]
fn a_cut_parcel_says_where_and_what_came_before_is_whole() {
    let world = world();
    let bytes = world.write(&world.packed(), None);
    for n in 0..bytes.len() {
        let refused = world.read(&bytes[..n]).unwrap_err();
        assert!(matches!(refused, ParcelError::Cut { .. }), "{n}: {refused}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(
        world.read(&longer),
        Err(ParcelError::Damaged { .. })
    ));
    // A transfer that was cut behind its first fragment is resumed by naming that one.
    let cut = &bytes[..bytes.len() - TRAILER_BYTES - 1];
    let mut reader = ParcelReader::open(cut, world.expected()).unwrap();
    let first = reader.next_fragment().unwrap().unwrap();
    assert!(matches!(
        reader.next_fragment(),
        Err(ParcelError::Cut {
            place: "within a frame"
        })
    ));
    let mut rest = world.packed();
    rest[first.entry as usize].payload = Payload::Named;
    let (manifest, received) = world.read(&world.write(&rest, None)).unwrap();
    assert_eq!((received.len(), received[0].entry), (1, 2));
    assert_eq!(
        world
            .audit(&manifest, &[first, received[0].clone()])
            .unwrap(),
        2
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Who changes tensors, and writes all digests anew, is found by an audit; who changes
    /// tokens, too, or their id is not theirs.
    #[test]
    fn whoever_tampers_and_signs_is_caught_by_the_audit(
        coded: bool,
        at: prop::sample::Index,
        bit in 0u8..8,
        entry in 1usize..3,
    ) {
        let world = world();
        let mut packed = if coded { world.coded() } else { world.packed() };
        match &packed[entry].payload {
            Payload::Kv(kv) => {
                let mut bytes = kv.to_bytes();
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                let kv = KvFragment::from_bytes(kv.shape(), kv.base(), kv.n_tokens(), &bytes).unwrap();
                packed[entry].payload = Payload::Kv(Arc::new(kv));
            }
            Payload::Coded(kv) => {
                // Codes of other tensors: those of a fragment with one bit changed.
                let exact = kv.decode(&world.frame).unwrap();
                let mut bytes = exact.to_bytes();
                let at = at.index(bytes.len() / 2) * 2;
                bytes[at] ^= 0x80;
                let other = KvFragment::from_bytes(exact.shape(), exact.base(), exact.n_tokens(), &bytes).unwrap();
                let coded = CodedKv::encode(&other, kv.coding(), &world.frame).unwrap();
                prop_assume!(coded != **kv);
                packed[entry].payload = Payload::Coded(Arc::new(coded));
            }
            Payload::Named => unreachable!("the others have tensors"),
        }
        let signer = Signer::Ed25519(Box::new(SigningKey::from_bytes(&[3; 32])));
        let bytes = world.write(&packed, Some(&signer));
        let mut world = world;
        world.trust.ed25519.push(SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes());
        match world.read(&bytes) {
            Ok((manifest, received)) => {
                let found = world.audit(&manifest, &received);
                let is_found = matches!(&found, Err(AuditError::NotComputed { entry: n, .. }) if *n as usize == entry);
                prop_assert!(is_found, "{found:?}");
            }
            // A bit of an exponent, or one behind the last token.
            Err(ParcelError::NotFinite { entry: n }) => prop_assert_eq!(n as usize, entry),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn any_bytes_are_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let world = world();
        prop_assert!(world.read(&bytes).is_err());
        let begun = [&MAGIC[..], &1u32.to_le_bytes(), &bytes].concat();
        prop_assert!(world.read(&begun).is_err());
    }

    #[test]
    fn a_manifest_of_any_bytes_is_refused_or_is_one(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(manifest) = Manifest::parse(&bytes) {
            prop_assert_eq!(manifest.to_bytes(), bytes);
        }
    }
}

#[test]
fn signatures_are_of_trusted_keys_or_refused() {
    let mut world = world();
    let secret = SigningKey::from_bytes(&[8; 32]);
    let public = secret.verifying_key().to_bytes();
    let ed25519 = Signer::Ed25519(Box::new(secret));
    let hmac = |secret: &[u8]| Signer::Hmac {
        name: [6; 32],
        secret: secret.to_vec(),
    };
    let packed = world.packed();
    let by_key = world.write(&packed, Some(&ed25519));
    let by_secret = world.write(&packed, Some(&hmac(b"shared")));
    let by_another = world.write(&packed, Some(&hmac(b"guessed")));
    let by_nobody = world.write(&packed, None);
    for bytes in [&by_key, &by_secret] {
        assert!(matches!(
            world.read(bytes),
            Err(ParcelError::Untrusted { .. })
        ));
    }
    world.trust = Trust {
        ed25519: vec![public],
        hmac: vec![([6; 32], b"shared".to_vec())],
        unsigned: false,
    };
    assert!(matches!(world.read(&by_nobody), Err(ParcelError::Unsigned)));
    assert!(matches!(
        world.read(&by_another),
        Err(ParcelError::Forged { .. })
    ));
    let signed = |bytes: &[u8]| ParcelReader::open(bytes, world.expected()).map(|r| r.signed());
    assert_eq!(signed(&by_key).unwrap(), Signed::Ed25519(public));
    assert_eq!(signed(&by_secret).unwrap(), Signed::Hmac([6; 32]));
    // A signature of one parcel under another, all checks made anew.
    let other = world.write(&packed[..2], Some(&ed25519));
    let seal_of = |bytes: &[u8]| {
        let n = u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
        HEAD_BYTES + n..HEAD_BYTES + n + SEAL_BYTES
    };
    let mut moved = by_key.clone();
    let (to, from) = (seal_of(&by_key), seal_of(&other));
    let mut seal = other[from].to_vec();
    seal[4..36].copy_from_slice(&by_key[to.clone()][4..36]);
    seal.truncate(SEAL_BYTES - CHECK_BYTES);
    seal_part(&mut seal);
    moved[to].copy_from_slice(&seal);
    assert!(matches!(
        world.read(&moved),
        Err(ParcelError::Forged { .. })
    ));
}

#[test]
fn what_is_not_for_here_or_now_is_refused_by_name() {
    let mut world = world();
    let bytes = world.write(&world.packed(), None);
    let mut expected = world.expected();
    expected.now_ms = NOW + 15;
    assert!(matches!(
        read_all(&bytes[..], expected),
        Err(ParcelError::Expired { late_ms: 5 })
    ));
    let mut expected = world.expected();
    expected.is_known = &|_| true;
    assert!(matches!(
        read_all(&bytes[..], expected),
        Err(ParcelError::Replayed)
    ));
    let mut expected = world.expected();
    expected.max_bytes = 10;
    assert!(matches!(
        read_all(&bytes[..], expected),
        Err(ParcelError::TooLarge { what: "bytes", .. })
    ));
    let parts: [(&str, fn(&mut ModelParts)); 4] = [
        ("weights", |model| model.weights[0] ^= 1),
        ("tokenizer or template", |model| model.codec[0] ^= 1),
        ("kernel class", |model| model.kernel_class.push('2')),
        ("shape", |model| model.shape.n_layers += 1),
    ];
    let here = world.model.clone();
    for (name, change) in parts {
        change(&mut world.model);
        let refused = world.read(&bytes).unwrap_err();
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
        assert!(
            says.contains(got) && says.contains(expected) && got != expected,
            "{says}"
        );
        world.model = here.clone();
    }
}

/// A parcel whose manifest was changed, and all digests made anew.
fn with_manifest(world: &World, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let mut manifest = {
        let bytes = world.write(&world.packed(), None);
        world.read(&bytes).unwrap().0
    };
    change(&mut manifest);
    let bytes = manifest.to_bytes();
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((bytes.len() as u32).to_le_bytes());
    head.extend(blake3::hash(&bytes).as_bytes());
    seal_part(&mut head);
    let seal = seal::seal(&root(&head, &bytes), None);
    [head, bytes, seal].concat()
}

#[test]
fn other_tokens_under_a_known_id_are_refused() {
    let world = world();
    let bytes = with_manifest(&world, |manifest| manifest.entries[1].tokens[0] += 1);
    assert!(matches!(
        world.read(&bytes),
        Err(ParcelError::WrongId { entry: 1, .. })
    ));
    let bytes = with_manifest(&world, |manifest| {
        manifest.entries[2].conditioning = Some(0)
    });
    assert!(matches!(
        world.read(&bytes),
        Err(ParcelError::WrongId { entry: 2, .. })
    ));
    let bytes = with_manifest(&world, |manifest| {
        manifest.entries[1].conditioning = Some(1)
    });
    assert!(matches!(
        world.read(&bytes),
        Err(ParcelError::Damaged { .. })
    ));
}

/// A reader that says how much was asked of it.
struct Endless {
    begin: Vec<u8>,
    n_read: usize,
}

impl Read for Endless {
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
    let world = world();
    let claims: [fn(&mut Manifest); 3] = [
        |manifest| manifest.entries[1].n_bytes = u64::MAX,
        |manifest| manifest.entries[1].n_bytes += 1,
        |manifest| manifest.model.shape.head_dim = 1 << 30,
    ];
    for claim in claims {
        let begin = with_manifest(&world, claim);
        let n = begin.len();
        let mut from = Endless { begin, n_read: 0 };
        let refused = read_all(&mut from, world.expected()).unwrap_err();
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
    assert!(matches!(
        world.read(&head),
        Err(ParcelError::TooLarge { .. })
    ));
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let world = world();
    let mut packed = world.packed();
    let Payload::Kv(kv) = &packed[1].payload else {
        panic!()
    };
    let mut bytes = kv.to_bytes();
    bytes[..2].copy_from_slice(&0x7c00u16.to_le_bytes());
    let kv = KvFragment::from_bytes(kv.shape(), kv.base(), kv.n_tokens(), &bytes).unwrap();
    packed[1].payload = Payload::Kv(Arc::new(kv));
    let refused = world.read(&world.write(&packed, None));
    assert!(matches!(refused, Err(ParcelError::NotFinite { entry: 1 })));
}

#[test]
fn what_cannot_be_packed_is_said() {
    let world = world();
    let unfit = |packed: Vec<Packed>| {
        let label = world.label(PayloadCoding::F16);
        let refused = write_parcel(&mut Vec::new(), label, &packed, None);
        assert!(
            matches!(refused, Err(ParcelError::Unfit { .. })),
            "{refused:?}"
        );
    };
    unfit(vec![Packed::named(Some(0), vec![1])]);
    unfit(vec![Packed::named(None, vec![])]);
    unfit(vec![Packed::whole(None, vec![1], world.encode(&[&[1, 2]]))]);
    unfit(world.coded());
    let provenance = "x".repeat((64 << 10) + 1);
    let long = Packed {
        provenance,
        ..Packed::named(None, vec![1])
    };
    unfit(vec![long]);
}

const GOLDEN: &[u8] = include_bytes!("../../tests/golden/parcel-1.bin");

/// Two fragments that no kernel computed, so that it stays what it is under others.
fn golden() -> Vec<u8> {
    let (mut world, shape) = (world(), tiny_shape());
    world.model.shape = shape;
    let fragment = |n_tokens: usize| {
        let n = shape.n_bytes(n_tokens).unwrap();
        let mut bytes: Vec<u8> = (0..n).map(|i| (i % 53) as u8).collect();
        // Nothing stands behind the last token.
        for (tile, half) in bytes.chunks_exact_mut(32).take(16).zip(0..) {
            assert!(half < 16);
            tile[2 * n_tokens..].fill(0);
        }
        let kv = KvFragment::from_bytes(shape, 0, n_tokens, &bytes).unwrap();
        assert!(kv.is_sound());
        Arc::new(kv)
    };
    let signer = Signer::Ed25519(Box::new(SigningKey::from_bytes(&[8; 32])));
    let packed = [
        Packed::whole(None, vec![1, 2, 3], fragment(3)),
        Packed::whole(Some(0), vec![4, 5], fragment(2)),
    ];
    world.write(&packed, Some(&signer))
}

fn tiny_shape() -> KvShape {
    KvShape {
        n_layers: 1,
        n_kv_heads: 1,
        head_dim: 16,
    }
}

#[test]
fn what_version_1_wrote_is_written_and_read() {
    assert!(golden() == GOLDEN, "the format is not that of its version");
    let mut world = world();
    world.model.shape = tiny_shape();
    world
        .trust
        .ed25519
        .push(SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes());
    let (manifest, received) = world.read(GOLDEN).unwrap();
    assert_eq!((manifest.entries.len(), received.len()), (2, 2));
    assert_eq!(received[1].id, manifest.entries[1].id);
}

#[test]
#[ignore = "writes the golden file of a new version"]
fn write_golden() {
    std::fs::write("tests/golden/parcel-1.bin", golden()).unwrap();
}
