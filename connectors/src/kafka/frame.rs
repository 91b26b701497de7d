//! What does a serializer of a schema registry put before a payload?
//!
//! A zero byte and the number of the schema, in four bytes, big-endian (Confluent's wire format). Behind it
//! stand JSON, Avro or Protobuf. JSON is read as it would be without; of the others a message is
//! refused by its schema's number, since neither text nor JSON begins with a zero byte.

use crate::Rejection;
use crate::json::value::{self, Json};

/// Bytes before a payload.
const FRAME: usize = 5;

/// The JSON of a payload, without a frame where it has one.
///
/// # Errors
/// Behind the frame stands no JSON.
pub(super) fn unframed(payload: &[u8]) -> Result<&[u8], Rejection> {
    match parted(payload) {
        None => Ok(payload),
        Some((_, framed)) if json(framed).is_some() => Ok(framed),
        Some((schema, _)) => Err(Rejection::SchemaRegistry { schema }),
    }
}

/// The same of a text, which no serializer of a registry makes.
///
/// # Errors
/// It has a frame.
pub(super) fn unframed_text(payload: &[u8]) -> Result<&[u8], Rejection> {
    match parted(payload) {
        None => Ok(payload),
        Some((schema, _)) => Err(Rejection::SchemaRegistry { schema }),
    }
}

/// A key behind a frame; none where there is no frame. Long integers as keys look like frames, so only
/// what is a string or an object behind one counts.
pub(super) fn framed_key(key: &[u8]) -> Option<(&[u8], Json)> {
    let (_, framed) = parted(key)?;
    let value = json(framed)?;
    matches!(value, Json::String(_) | Json::Object(_)).then_some((framed, value))
}

/// The number of a schema, and what stands behind it.
fn parted(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (frame, framed) = bytes.split_first_chunk::<FRAME>()?;
    let [0, schema @ ..] = *frame else {
        return None;
    };
    Some((u32::from_be_bytes(schema), framed))
}

fn json(bytes: &[u8]) -> Option<Json> {
    value::parse(std::str::from_utf8(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(rest: &[u8]) -> Vec<u8> {
        [&[0, 0, 0, 1, 2][..], rest].concat()
    }

    #[test]
    fn json_stands_behind_a_frame_and_the_rest_is_refused_by_its_schema() {
        let json = br#"{"key":"k","text":"t"}"#;
        assert_eq!(unframed(json), Ok(&json[..]));
        assert_eq!(unframed(&framed(json)), Ok(&json[..]));
        // A record of Avro with one string, and a frame alone.
        let schema = 258;
        for other in [&b"\x0eNine to"[..], b""] {
            let refused = Err(Rejection::SchemaRegistry { schema });
            assert_eq!(unframed(&framed(other)), refused);
        }
        // Too short to be one.
        assert_eq!(unframed(b"\0\0"), Ok(&b"\0\0"[..]));
        assert_eq!(unframed_text(b"Nine to five."), Ok(&b"Nine to five."[..]));
        let refused = Err(Rejection::SchemaRegistry { schema });
        assert_eq!(unframed_text(&framed(b"Nine to five.")), refused);
    }

    #[test]
    fn keys_are_unframed_and_long_integers_are_none() {
        let key = framed(br#""k""#);
        let found = framed_key(&key).map(|(_, value)| value);
        assert_eq!(found, Some(Json::String("k".into())));
        let of_table = framed(br#"{"id":7}"#);
        let found = framed_key(&of_table).map(|(bytes, _)| bytes);
        assert_eq!(found, Some(&br#"{"id":7}"#[..]));
        // 1, 2 and 3 in ASCII at the end of 64 bits.
        assert_eq!(framed_key(b"\0\0\0\0\x00123"), None);
        assert_eq!(framed_key(b"k"), None);
    }
}
