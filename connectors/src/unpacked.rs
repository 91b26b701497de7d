//! What does a file say once it is unpacked? Told by its first bytes, not by its name.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};

use flate2::read::MultiGzDecoder;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Gzip,
    Zstd,
}

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How this file is packed. Its cursor is at its beginning afterwards.
pub(crate) fn packing(file: &mut File) -> io::Result<Packing> {
    let mut head = Vec::new();
    file.take(4).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(if head.starts_with(&GZIP) {
        Packing::Gzip
    } else if head.starts_with(&ZSTD) {
        Packing::Zstd
    } else {
        Packing::None
    })
}

/// The contents of a file from its beginning, unpacked. Damage shows as an error while reading.
pub(crate) fn unpacked(mut file: File) -> io::Result<Box<dyn Read + Send>> {
    Ok(match packing(&mut file)? {
        Packing::None => Box::new(BufReader::new(file)),
        Packing::Gzip => Box::new(MultiGzDecoder::new(BufReader::new(file))),
        Packing::Zstd => Box::new(zstd::Decoder::new(file)?),
    })
}
