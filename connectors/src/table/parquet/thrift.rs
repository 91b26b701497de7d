//! Does metadata say no more than is there? A walk over Thrift's compact protocol.
//!
//! Every list must fit into the bytes that are left, every field have the type that the format
//! gives it ([parquet.thrift](https://github.com/apache/parquet-format)), and the schema be a
//! tree of a bounded depth. Nothing is allocated but one number a column. Fields that the
//! format does not know are stepped over by the type that they claim, as the library does.

/// The most columns and groups of columns.
const MAX_COLUMNS: usize = 10_000;
/// The most row groups; the format numbers them by 16 bits.
const MAX_ROW_GROUPS: usize = 32_767;
/// How deep columns and unknown fields may nest.
const MAX_DEPTH: usize = 64;

/// The metadata is not what the format says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What the walk came by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether columns are encrypted, though the metadata is not.
    pub is_encrypted: bool,
}

/// What a field holds.
enum Shape {
    Bool,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List(&'static Shape),
    Struct(&'static [(i16, Shape)]),
}

use Shape::{Binary, Bool, Byte, Double, I16, I32, I64, List, Struct};

const EMPTY: Shape = Struct(&[]);
const TIME_UNIT: Shape = Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]);
const TIME: Shape = Struct(&[(1, Bool), (2, TIME_UNIT)]);
const LOGICAL_TYPE: Shape = Struct(&[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Struct(&[(1, I32), (2, I32)])),
    (6, EMPTY),
    (7, TIME),
    (8, TIME),
    (10, Struct(&[(1, Byte), (2, Bool)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, Struct(&[(1, Byte)])),
    (17, Struct(&[(1, Binary)])),
    (18, Struct(&[(1, Binary), (2, I32)])),
]);
static SCHEMA_ELEMENT: &[(i16, Shape)] = &[
    (1, I32),
    (2, I32),
    (3, I32),
    (4, Binary),
    (CHILDREN, I32),
    (6, I32),
    (7, I32),
    (8, I32),
    (9, I32),
    (10, LOGICAL_TYPE),
];
const BOUNDING_BOX: Shape = Struct(&[
    (1, Double),
    (2, Double),
    (3, Double),
    (4, Double),
    (5, Double),
    (6, Double),
    (7, Double),
    (8, Double),
]);
const COLUMN_METADATA: Shape = Struct(&[
    (1, I32),
    (2, List(&I32)),
    (3, List(&Binary)),
    (4, I32),
    (5, I64),
    (6, I64),
    (7, I64),
    (9, I64),
    (10, I64),
    (11, I64),
    (14, I64),
    (15, I32),
    (17, Struct(&[(1, BOUNDING_BOX), (2, List(&I32))])),
]);
const COLUMN_CHUNK: Shape = Struct(&[
    (1, Binary),
    (2, I64),
    (3, COLUMN_METADATA),
    (4, I64),
    (5, I32),
    (6, I64),
    (7, I32),
]);
const SORTING_COLUMN: Shape = Struct(&[(1, I32), (2, Bool), (3, Bool)]);
const ROW_GROUP: Shape = Struct(&[
    (1, List(&COLUMN_CHUNK)),
    (2, I64),
    (3, I64),
    (4, List(&SORTING_COLUMN)),
    (5, I64),
    (7, I16),
]);
static FILE: &[(i16, Shape)] = &[
    (1, I32),
    (SCHEMA, List(&EMPTY)),
    (3, I64),
    (ROW_GROUPS, List(&ROW_GROUP)),
    (5, List(&Struct(&[(1, Binary), (2, Binary)]))),
    (6, Binary),
    (7, List(&Struct(&[(1, EMPTY), (2, EMPTY)]))),
];

/// Fields by their numbers.
const SCHEMA: i16 = 2;
const ROW_GROUPS: i16 = 4;
const ENCRYPTION: i16 = 8;
const CHILDREN: i16 = 5;

/// Types as the compact protocol numbers them.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// Walks over the metadata of a file.
pub(super) fn check(metadata: &[u8]) -> Result<Found, Malformed> {
    let mut walk = Walk(metadata);
    let mut found = Found {
        is_encrypted: false,
    };
    let mut id = 0;
    while let Some(kind) = walk.field(&mut id)? {
        match id {
            SCHEMA if kind == LIST => {
                let n_elements = walk.list(STRUCT)?;
                if n_elements > MAX_COLUMNS {
                    return Err(Malformed);
                }
                let n_children: Result<Vec<_>, _> =
                    (0..n_elements).map(|_| walk.schema_element()).collect();
                is_tree(&n_children?)?;
            }
            ROW_GROUPS if kind == LIST => {
                let n_groups = walk.list(STRUCT)?;
                if n_groups > MAX_ROW_GROUPS {
                    return Err(Malformed);
                }
                for _ in 0..n_groups {
                    walk.known(&ROW_GROUP, STRUCT)?;
                }
            }
            _ => {
                found.is_encrypted |= id == ENCRYPTION;
                walk.any_field(FILE, id, kind)?;
            }
        }
    }
    Ok(found)
}

/// Whether these numbers of children, depth first, are those of one tree that is not too deep.
fn is_tree(n_children: &[i64]) -> Result<(), Malformed> {
    // Of each group that is open: children still to come.
    let mut open: Vec<i64> = Vec::new();
    for (i, n) in n_children.iter().enumerate() {
        match open.last_mut() {
            Some(left) => *left -= 1,
            None if i > 0 => return Err(Malformed),
            None => {}
        }
        let limit = i64::try_from(n_children.len()).map_err(|_| Malformed)?;
        if *n < 0 || *n > limit {
            return Err(Malformed);
        }
        open.push(*n);
        if open.len() > MAX_DEPTH {
            return Err(Malformed);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    open.is_empty().then_some(()).ok_or(Malformed)
}

/// The bytes that are left.
struct Walk<'a>(&'a [u8]);

impl Walk<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn skip(&mut self, n_bytes: u64) -> Result<(), Malformed> {
        let n_bytes = usize::try_from(n_bytes).map_err(|_| Malformed)?;
        self.0 = self.0.get(n_bytes..).ok_or(Malformed)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn integer(&mut self) -> Result<i64, Malformed> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// The next field's type, and in `id` its number; none at the end of the structure.
    fn field(&mut self, id: &mut i16) -> Result<Option<u8>, Malformed> {
        let head = self.byte()?;
        let (delta, kind) = (head >> 4, head & 0xf);
        if kind == 0 {
            return Ok(None);
        }
        // Writers give the full number only where one is far from the one before it, and none
        // of the format is.
        if delta == 0 {
            return Err(Malformed);
        }
        *id = id.checked_add(i16::from(delta)).ok_or(Malformed)?;
        Ok(Some(kind))
    }

    /// How many elements a list of elements of this type has.
    fn list(&mut self, of: u8) -> Result<usize, Malformed> {
        let (kind, n) = self.any_list()?;
        match n {
            0 => Ok(0),
            _ if kind == of => Ok(n),
            _ => Err(Malformed),
        }
    }

    fn any_list(&mut self) -> Result<(u8, usize), Malformed> {
        let head = self.byte()?;
        let n = match head >> 4 {
            15 => self.varint()?,
            n => u64::from(n),
        };
        let n = usize::try_from(n).map_err(|_| Malformed)?;
        match n <= self.0.len() {
            true => Ok((head & 0xf, n)),
            false => Err(Malformed),
        }
    }

    /// How many children it has.
    fn schema_element(&mut self) -> Result<i64, Malformed> {
        let (mut id, mut n_children) = (0, 0);
        while let Some(kind) = self.field(&mut id)? {
            if id == CHILDREN && kind == I32.kind() {
                n_children = self.integer()?;
            } else {
                self.any_field(SCHEMA_ELEMENT, id, kind)?;
            }
        }
        Ok(n_children)
    }

    fn any_field(&mut self, of: &[(i16, Shape)], id: i16, kind: u8) -> Result<(), Malformed> {
        match of.iter().find(|(known, _)| *known == id) {
            Some((_, shape)) => self.known(shape, kind),
            None => self.unknown(kind, MAX_DEPTH),
        }
    }

    fn known(&mut self, shape: &Shape, kind: u8) -> Result<(), Malformed> {
        match shape {
            Bool if matches!(kind, TRUE | FALSE) => Ok(()),
            _ if kind != shape.kind() => Err(Malformed),
            List(of) => {
                for _ in 0..self.list(of.kind())? {
                    self.known(of, of.kind())?;
                }
                Ok(())
            }
            Struct(fields) => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.any_field(fields, id, kind)?;
                }
                Ok(())
            }
            _ => self.unknown(kind, MAX_DEPTH),
        }
    }

    /// Steps over a field that the format does not know.
    fn unknown(&mut self, kind: u8, depth: usize) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        match kind {
            TRUE | FALSE => Ok(()),
            3 => self.skip(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.skip(8),
            8 => {
                let n_bytes = self.varint()?;
                self.skip(n_bytes)
            }
            LIST | SET => {
                let (of, n) = self.any_list()?;
                // Such elements are empty to the library: it would count to any number.
                if n > 0 && matches!(of, TRUE | FALSE) {
                    return Err(Malformed);
                }
                (0..n).try_for_each(|_| self.unknown(of, depth))
            }
            MAP => Err(Malformed),
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.unknown(kind, depth)?;
                }
                Ok(())
            }
            UUID => self.skip(16),
            _ => Err(Malformed),
        }
    }
}

impl Shape {
    const fn kind(&self) -> u8 {
        match self {
            Bool => TRUE,
            Byte => 3,
            I16 => 4,
            I32 => 5,
            I64 => 6,
            Double => 7,
            Binary => 8,
            List(_) => LIST,
            Struct(_) => STRUCT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schema of a root with one column, and one row group without columns.
    fn sound() -> Vec<u8> {
        let mut bytes = vec![0x15, 2];
        bytes.extend([0x19, 0x2c, 0x48, 1, b'r', 0x15, 2, 0, 0x48, 1, b'c', 0]);
        bytes.extend([0x16, 0, 0x19, 0x1c, 0x19, 0x0c, 0x16, 0, 0x16, 0, 0, 0]);
        bytes
    }

    #[test]
    fn what_is_sound_passes_and_what_is_cut_does_not() {
        let sound = sound();
        let found = Found {
            is_encrypted: false,
        };
        assert_eq!(check(&sound), Ok(found));
        for len in 0..sound.len() {
            assert_eq!(check(&sound[..len]), Err(Malformed), "{len}");
        }
    }

    #[test]
    fn claims_beyond_what_is_there_are_refused() {
        let with = |at: usize, bytes: &[u8]| {
            let mut metadata = sound();
            metadata.splice(at..=at, bytes.iter().copied());
            check(&metadata)
        };
        // Elements of the schema, its children, row groups: two thousand million each.
        let many = [0xff, 0xff, 0xff, 0xff, 7];
        assert_eq!(with(3, &[&[0xfc], &many[..]].concat()), Err(Malformed));
        assert_eq!(with(8, &many), Err(Malformed));
        assert_eq!(with(17, &[&[0xfc], &many[..]].concat()), Err(Malformed));
        assert_eq!(with(8, &[0]), Err(Malformed), "a second root");
        assert_eq!(with(8, &[4]), Err(Malformed), "a child too few");
    }

    #[test]
    fn a_schema_is_a_tree_of_bounded_depth() {
        assert_eq!(is_tree(&[2, 0, 1, 0]), Ok(()));
        let chain = |n| [vec![1; n], vec![0]].concat();
        assert_eq!(is_tree(&chain(MAX_DEPTH - 1)), Ok(()));
        assert_eq!(is_tree(&chain(MAX_DEPTH)), Err(Malformed));
        assert_eq!(is_tree(&[-1]), Err(Malformed));
    }
}
