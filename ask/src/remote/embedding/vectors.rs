//! What did a server answer that was asked for vectors?

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::Outcome;
use crate::remote::fault::Fault;
use crate::remote::reply::refusal;

/// Bytes of a packed number: an f32, the lowest byte first.
const N_BYTES: usize = 4;

/// The vectors of some texts, in their order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vectors {
    /// Each of length 1, or zero; one that has an element that is no number is an error.
    pub(super) vectors: Vec<Outcome>,
    /// Which model says that it gave them.
    pub(super) model: Option<String>,
    /// Tokens of the texts, by the server's count.
    pub(super) n_tokens: Option<u64>,
}

/// Reads a reply to `n_texts` texts.
///
/// # Errors
/// [`Fault::Garbled`], unless there is exactly one vector for each text.
pub(super) fn read(reply: &Json, n_texts: usize) -> Result<Vectors, Fault> {
    if let Some(refusal) = refusal(reply) {
        return Err(refusal);
    }
    let entries = reply.get("data").and_then(Json::as_array);
    let entries = entries.ok_or_else(|| garbled("it holds no vectors"))?;
    if entries.len() != n_texts {
        let n = entries.len();
        return Err(garbled(&format!("{n} vectors of {n_texts} texts")));
    }
    let mut vectors: Vec<Option<Outcome>> = vec![None; n_texts];
    let is_numbered = entries.iter().any(|entry| entry.get("index").is_some());
    for (at, entry) in entries.iter().enumerate() {
        let place = match is_numbered {
            true => entry.get("index").and_then(Json::as_u64),
            false => Some(at as u64),
        };
        let place = place.and_then(|place| usize::try_from(place).ok());
        let place = place.and_then(|place| vectors.get_mut(place));
        match place {
            Some(empty @ None) => *empty = Some(unit(elements(entry)?)),
            _ => return Err(garbled("its vectors are not of one text each")),
        }
    }
    let name = reply.get("model").and_then(Json::as_str);
    let n_tokens = reply.pointer("/usage/prompt_tokens").and_then(Json::as_u64);
    Ok(Vectors {
        // All places are taken: there are as many vectors as places, and no two for one.
        vectors: vectors.into_iter().flatten().collect(),
        model: name.map(str::to_owned),
        n_tokens,
    })
}

fn garbled(what: &str) -> Fault {
    Fault::Garbled(format!("the reply cannot be read as vectors: {what}"))
}

/// The elements of a vector, as numbers or packed.
fn elements(entry: &Json) -> Result<Vec<f32>, Fault> {
    match entry.get("embedding") {
        // What is no number has no digits in JSON.
        Some(Json::Array(elements)) => {
            let element = |element: &Json| match element {
                Json::Null => Some(f32::NAN),
                other => other.as_f64().map(|x| x as f32),
            };
            let elements: Option<Vec<f32>> = elements.iter().map(element).collect();
            elements.ok_or_else(|| garbled("an element is no number"))
        }
        Some(Json::String(packed)) => {
            let bytes = STANDARD.decode(packed);
            let bytes = bytes.map_err(|error| garbled(&error.to_string()))?;
            let (numbers, rest) = bytes.as_chunks::<N_BYTES>();
            match rest.is_empty() {
                true => Ok(numbers.iter().copied().map(f32::from_le_bytes).collect()),
                false => Err(garbled("a packed vector ends within a number")),
            }
        }
        _ => Err(garbled("an entry has no `embedding`")),
    }
}

/// A vector scaled to length 1; a zero vector stays.
fn unit(mut vector: Vec<f32>) -> Outcome {
    if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
        return Err(format!("element {at} of the vector is {}", vector[at]));
    }
    let squares = vector.iter().map(|x| f64::from(*x) * f64::from(*x));
    let length = squares.sum::<f64>().sqrt();
    if length > 0.0 {
        for x in &mut vector {
            *x = (f64::from(*x) / length) as f32;
        }
    }
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(index: usize, embedding: Json) -> Json {
        json!({"index": index, "embedding": embedding})
    }

    #[test]
    fn vectors_stand_where_their_index_says_and_have_length_one() {
        let packed = STANDARD.encode([3f32, 4f32].map(f32::to_le_bytes).concat());
        let reply = json!({
            "model": "m", "usage": {"prompt_tokens": 7},
            "data": [entry(2, json!([0, 0])), entry(0, json!([0, 2])), entry(1, json!(packed))],
        });
        let read = read(&reply, 3).expect("vectors");
        let vectors = [Ok(vec![0.0, 1.0]), Ok(vec![0.6, 0.8]), Ok(vec![0.0, 0.0])];
        assert_eq!(read.vectors, vectors);
        assert_eq!((read.model.as_deref(), read.n_tokens), (Some("m"), Some(7)));
    }

    #[test]
    fn without_numbers_the_order_is_that_of_the_texts() {
        let reply = json!({"data": [{"embedding": [1.0, 0.0]}, {"embedding": [0.0, -1e30]}]});
        let read = read(&reply, 2).expect("vectors");
        assert_eq!(read.vectors, [Ok(vec![1.0, 0.0]), Ok(vec![0.0, -1.0])]);
        assert_eq!((read.model, read.n_tokens), (None, None));
    }

    #[test]
    fn what_is_no_number_is_the_failure_of_its_text_alone() {
        for none in [json!([1.0, null]), json!([1.0, 1e300])] {
            let reply = json!({"data": [entry(1, none), entry(0, json!([1.0, 0.0]))]});
            let read = read(&reply, 2).expect("vectors");
            assert_eq!(read.vectors[0], Ok(vec![1.0, 0.0]));
            let reason = read.vectors[1].as_ref().expect_err("no number");
            assert!(
                reason.starts_with("element 1 of the vector is "),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_reply_that_is_not_of_these_texts_is_none() {
        let one = || json!([1.0]);
        for data in [
            json!([entry(0, one())]),
            json!([entry(0, one()), entry(0, one())]),
            json!([entry(0, one()), entry(2, one())]),
            json!([entry(0, one()), {"embedding": [1.0]}]),
            json!([entry(0, one()), entry(1, json!(["a"]))]),
            json!([entry(0, one()), entry(1, json!("AAA="))]),
            json!([entry(0, one()), entry(1, json!("?"))]),
            json!([entry(0, one()), {"index": 1}]),
            json!("none"),
        ] {
            let read = read(&json!({"data": data}), 2);
            assert!(matches!(read, Err(Fault::Garbled(_))), "{data}: {read:?}");
        }
        let error = json!({"error": {"message": "out of memory", "code": 503}});
        assert!(read(&error, 1).is_err_and(|fault| fault.is_overload()));
    }
}
