//! What does the head of a GGUF file say? Metadata and a table of tensors.
//!
//! A file is data from elsewhere. Each length in it is compared with the bytes that are
//! left before anything is allocated, elements of arrays are counted against one budget
//! for the whole file (an element takes 32 bytes in memory and may take one on disk),
//! and no input reaches a panic: all arithmetic is checked.
//!
//! candle's header reader is not used: it divides by a file's alignment without looking at it,
//! has no bound on the memory that arrays take, and cannot name a tensor whose encoding
//! it does not know. And whoever builds the program compiles candle for minutes.

use std::collections::HashMap;

use super::gguf_value::Value;

/// Array elements that one file may hold. Vocabularies of 260,000 tokens with their
/// merges, scores and kinds have 1.3 million.
const MAX_ARRAY_ELEMENTS: u64 = 8 << 20;
/// Metadata entries, and tensors, that one file may hold.
const MAX_ENTRIES: u64 = 1 << 16;
/// Longest string in bytes. Chat templates are the longest, at some tens of KiB.
const MAX_STRING_BYTES: u64 = 16 << 20;
/// Dimensions of a tensor, as in GGML.
const MAX_DIMENSIONS: u32 = 4;
/// Tensor data starts at a multiple of this where the file does not say otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;

/// One row of the tensor table.
#[derive(Debug)]
pub(super) struct TensorEntry {
    /// GGUF name.
    pub name: String,
    /// Sizes, slowest dimension first (the reverse of their order in the file).
    pub shape: Vec<u64>,
    /// GGML's number of the encoding; not checked here.
    pub ggml_type: u32,
    /// First byte, counted from [`Header::data_start`].
    pub offset: u64,
}

/// The parsed head of a file.
#[derive(Debug)]
pub(super) struct Header {
    /// Metadata by key.
    pub metadata: HashMap<String, Value>,
    /// Tensor table in file order.
    pub tensors: Vec<TensorEntry>,
    /// Byte of the file at which tensor data begins.
    pub data_start: u64,
}

/// Why a head could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The file is something else than a GGUF of version 2 or 3, little-endian.
    Foreign(String),
    /// It is GGUF, and damaged.
    Damaged(String),
}

/// Parses the head of a mapped file.
pub(super) fn parse(file: &[u8]) -> Result<Header, Refusal> {
    let magic = file.get(..4).unwrap_or(file);
    if magic != b"GGUF" {
        return Err(Refusal::Foreign(describe_foreign(file)));
    }
    let mut cursor = Cursor {
        bytes: file,
        at: 4,
        elements_left: MAX_ARRAY_ELEMENTS,
    };
    match cursor.u32("version")? {
        2 | 3 => {}
        0x0200_0000 | 0x0300_0000 => {
            return Err(Refusal::Foreign("a big-endian GGUF file".into()));
        }
        version => {
            return Err(Refusal::Foreign(format!(
                "GGUF version {version}; versions 2 and 3 open"
            )));
        }
    }
    let n_tensors = cursor.count("number of tensors")?;
    let n_entries = cursor.count("number of metadata entries")?;

    let mut metadata = HashMap::new();
    for _ in 0..n_entries {
        let key = cursor.string("metadata key")?;
        let kind = cursor.u32(&key)?;
        let value = cursor.value(kind, &key)?;
        if metadata.contains_key(&key) {
            return Err(cursor.damaged(format!("metadata key `{key}` stands twice")));
        }
        metadata.insert(key, value);
    }

    let mut tensors = Vec::new();
    for _ in 0..n_tensors {
        tensors.push(cursor.tensor()?);
    }

    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(value) => match value.unsigned() {
            Some(alignment) if alignment.is_power_of_two() && alignment <= 1 << 20 => alignment,
            _ => return Err(cursor.damaged(format!("`general.alignment` is {value:?}"))),
        },
    };
    let data_start = (cursor.at as u64).next_multiple_of(alignment);
    Ok(Header {
        metadata,
        tensors,
        data_start,
    })
}

/// Names the kinds of file that people pass by mistake.
fn describe_foreign(file: &[u8]) -> String {
    let found = match file {
        [] => "an empty file",
        [b'P', b'K', 3, 4, ..] => "a zip archive (a PyTorch checkpoint or a wheel?)",
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => {
            "a Git LFS pointer: the weights themselves were not fetched"
        }
        [b'<', ..] => "an HTML or XML page: the download was answered with a page",
        [b'l', b'm', b'g', b'g', ..] | [b't', b'j', b'g', b'g', ..] => {
            "a GGML file older than GGUF"
        }
        [_, _, _, _, _, _, _, 0, b'{', ..] => {
            "a safetensors file: pass the folder with its config.json"
        }
        _ => return "it does not begin with `GGUF`".into(),
    };
    found.into()
}

/// A reading position in the file.
struct Cursor<'a> {
    bytes: &'a [u8],
    /// Next byte to read; never past the end.
    at: usize,
    /// What is left of [`MAX_ARRAY_ELEMENTS`].
    elements_left: u64,
}

impl<'a> Cursor<'a> {
    fn damaged(&self, what: impl Into<String>) -> Refusal {
        Refusal::Damaged(format!("{} (at byte {})", what.into(), self.at))
    }

    fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8], Refusal> {
        let left = (self.bytes.len() - self.at) as u64;
        if n > left {
            return Err(self.damaged(format!("{what}: {n} bytes wanted, {left} are left")));
        }
        let taken = &self.bytes[self.at..self.at + n as usize];
        self.at += n as usize;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Refusal> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    fn u32(&mut self, what: &str) -> Result<u32, Refusal> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, Refusal> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn count(&mut self, what: &str) -> Result<u64, Refusal> {
        match self.u64(what)? {
            n if n <= MAX_ENTRIES => Ok(n),
            n => Err(self.damaged(format!("{what}: {n}, the limit is {MAX_ENTRIES}"))),
        }
    }

    /// Strings are UTF-8 by the format; the stray bytes that some writers leave are
    /// replaced, and trailing zeros dropped, as other readers do.
    fn string(&mut self, what: &str) -> Result<String, Refusal> {
        let n = self.u64(what)?;
        if n > MAX_STRING_BYTES {
            return Err(self.damaged(format!(
                "{what}: a string of {n} bytes, the limit is {MAX_STRING_BYTES}"
            )));
        }
        let bytes = self.take(n, what)?;
        let end = bytes
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value, Refusal> {
        const ARRAY: u32 = 9;
        if kind != ARRAY {
            return self.scalar(kind, key);
        }
        let kind = self.u32(key)?;
        if kind == ARRAY {
            return Err(self.damaged(format!("`{key}`: an array of arrays")));
        }
        let n = self.u64(key)?;
        // The smallest element is a byte: more elements than bytes is a lie.
        let left = (self.bytes.len() - self.at) as u64;
        if n > left || n > self.elements_left {
            return Err(self.damaged(format!("`{key}`: an array of {n} elements")));
        }
        self.elements_left -= n;
        let mut elements = Vec::new();
        for _ in 0..n {
            elements.push(self.scalar(kind, key)?);
        }
        Ok(Value::Array(elements))
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<Value, Refusal> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array(key)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(key)?)),
            4 => Value::U32(self.u32(key)?),
            5 => Value::I32(i32::from_le_bytes(self.array(key)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(key)?)),
            7 => match self.array::<1>(key)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                byte => return Err(self.damaged(format!("`{key}`: {byte} for a truth value"))),
            },
            8 => Value::String(self.string(key)?),
            10 => Value::U64(self.u64(key)?),
            11 => Value::I64(i64::from_le_bytes(self.array(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            _ => return Err(self.damaged(format!("`{key}`: unknown value kind {kind}"))),
        })
    }

    fn tensor(&mut self) -> Result<TensorEntry, Refusal> {
        let name = self.string("tensor name")?;
        let n_dimensions = self.u32(&name)?;
        if n_dimensions == 0 || n_dimensions > MAX_DIMENSIONS {
            return Err(self.damaged(format!("tensor `{name}`: {n_dimensions} dimensions")));
        }
        let mut shape = Vec::with_capacity(n_dimensions as usize);
        for _ in 0..n_dimensions {
            shape.push(self.u64(&name)?);
        }
        shape.reverse();
        Ok(TensorEntry {
            ggml_type: self.u32(&name)?,
            offset: self.u64(&name)?,
            name,
            shape,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(entries: &[u8], n_entries: u64) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(n_entries.to_le_bytes());
        file.extend(entries);
        file
    }

    fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        let mut out = (key.len() as u64).to_le_bytes().to_vec();
        out.extend(key.as_bytes());
        out.extend(kind.to_le_bytes());
        out.extend(value);
        out
    }

    fn refusal(file: &[u8]) -> String {
        match parse(file).expect_err("must be refused") {
            Refusal::Foreign(why) | Refusal::Damaged(why) => why,
        }
    }

    #[test]
    fn a_zero_alignment_is_refused() {
        let file = header(&entry("general.alignment", 4, &0u32.to_le_bytes()), 1);
        assert!(refusal(&file).contains("general.alignment"));
    }

    #[test]
    fn lengths_beyond_the_file_are_refused_before_allocating() {
        let mut array = 0u32.to_le_bytes().to_vec();
        array.extend(u64::MAX.to_le_bytes());
        assert!(refusal(&header(&entry("k", 9, &array), 1)).contains("an array of"));
        assert!(refusal(&header(&entry("k", 8, &(1u64 << 20).to_le_bytes()), 1)).contains("left"));
        assert!(refusal(&header(&[], u64::MAX)).contains("the limit"));
    }

    #[test]
    fn foreign_files_are_named() {
        assert!(refusal(b"").contains("empty"));
        assert!(refusal(b"version https://git-lfs").contains("LFS"));
        assert!(refusal(b"<!DOCTYPE html>").contains("page"));
        assert!(refusal(&[9, 0, 0, 0, 0, 0, 0, 0, b'{']).contains("safetensors"));
        let mut old = b"GGUF".to_vec();
        old.extend(1u32.to_le_bytes());
        assert!(refusal(&old).contains("version 1"));
    }

    #[test]
    fn a_key_stands_once() {
        let mut twice = entry("k", 4, &1u32.to_le_bytes());
        twice.extend(entry("k", 4, &2u32.to_le_bytes()));
        assert!(refusal(&header(&twice, 2)).contains("twice"));
    }
}
