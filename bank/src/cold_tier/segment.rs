//! A segment: a file of fragments, one behind the other.
//!
//! ```text
//! segment  magic "perennial kv" (12)  version u32
//!          entry*
//! entry    mark "FRAG" (4)
//!          n_layers u32  n_kv_heads u32  head_dim u32  base u32  n_tokens u32
//!          cost_tokens u64
//!          n_bytes u64
//!          id (32)
//!          BLAKE3 of the payload (32)
//!          first 8 bytes of the BLAKE3 of the 104 bytes before
//!          payload (n_bytes): keys and values, as `perennial_model::kv` writes them
//! ```
//! Numbers are little endian. Entries are only ever appended; the file is its own index.
//!
//! Each check catches one kind of tear: the digest of a header a header that was half written or
//! a bit that flipped in it, the length against the file's end a payload that was cut off, the
//! digest of a payload everything else. What fails a check is not there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use perennial_model::kv::{KvFragment, KvShape};

use crate::id::FragmentId;

const MAGIC: &[u8; 12] = b"perennial kv";
/// Version of the format; a newer one is refused.
pub(super) const VERSION: u32 = 1;
const MARK: &[u8; 4] = b"FRAG";
/// Bytes before the first entry.
pub(super) const HEAD_BYTES: usize = 16;
/// Bytes of an entry before its payload.
pub(super) const HEADER_BYTES: usize = 112;
/// Of these, the ones that the check is of.
const CHECKED_BYTES: usize = 104;

/// What stands before a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: FragmentId,
    pub(super) shape: KvShape,
    pub(super) base: u32,
    pub(super) n_tokens: u32,
    /// Tokens forwarded to encode it.
    pub(super) cost_tokens: u64,
    /// Bytes of the payload.
    pub(super) n_bytes: u64,
    digest: [u8; 32],
}

impl Header {
    fn of(id: FragmentId, kv: &KvFragment, cost_tokens: usize, payload: &[u8]) -> Self {
        Self {
            id,
            shape: kv.shape(),
            base: kv.base(),
            n_tokens: kv.n_tokens() as u32,
            cost_tokens: cost_tokens as u64,
            n_bytes: payload.len() as u64,
            digest: *blake3::hash(payload).as_bytes(),
        }
    }

    /// Bytes of the entry.
    pub(super) fn n_entry_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + self.n_bytes
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MARK);
        let shape = self.shape;
        for n in [shape.n_layers, shape.n_kv_heads, shape.head_dim] {
            bytes.extend((n as u32).to_le_bytes());
        }
        bytes.extend(self.base.to_le_bytes());
        bytes.extend(self.n_tokens.to_le_bytes());
        bytes.extend(self.cost_tokens.to_le_bytes());
        bytes.extend(self.n_bytes.to_le_bytes());
        bytes.extend(self.id.as_bytes());
        bytes.extend(self.digest);
        let check = blake3::hash(&bytes);
        bytes.extend(&check.as_bytes()[..HEADER_BYTES - CHECKED_BYTES]);
        bytes
    }

    /// `None` where no entry begins.
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (checked, check) = bytes.split_at(CHECKED_BYTES);
        let is_whole = blake3::hash(checked).as_bytes().starts_with(check);
        let mut rest = checked.strip_prefix(MARK).filter(|_| is_whole)?;
        let mut u32s = || Some(u32::from_le_bytes(take(&mut rest)?));
        let shape = KvShape {
            n_layers: u32s()? as usize,
            n_kv_heads: u32s()? as usize,
            head_dim: u32s()? as usize,
        };
        let (base, n_tokens) = (u32s()?, u32s()?);
        let cost_tokens = u64::from_le_bytes(take(&mut rest)?);
        let n_bytes = u64::from_le_bytes(take(&mut rest)?);
        let header = Self {
            id: FragmentId::from_bytes(take(&mut rest)?),
            shape,
            base,
            n_tokens,
            cost_tokens,
            n_bytes,
            digest: take(&mut rest)?,
        };
        let n_expected = shape.n_bytes(n_tokens as usize)?;
        // No file is longer than an `i64` counts.
        let is_possible = n_bytes > 0 && i64::try_from(n_bytes).is_ok();
        (is_possible && n_expected as u64 == n_bytes).then_some(header)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Headers, and where in the file each stands.
    pub(super) entries: Vec<(u64, Header)>,
    /// Bytes up to the end of the last entry.
    pub(super) n_whole: u64,
    /// Bytes of the file.
    pub(super) n_bytes: u64,
    /// Whether what is behind them was changed, not just cut off.
    pub(super) is_damaged: bool,
}

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("format version {0}")]
    Version(u32),
    #[error("it does not begin as a segment")]
    NotASegment,
}

/// Reads the headers of a segment, up to the first place where there should be one and is not.
///
/// # Errors
/// [`Unreadable`]. A file that ends within its first bytes was being made, and is empty.
pub(super) fn scan(path: &Path) -> Result<Scan, Unreadable> {
    let mut file = BufReader::with_capacity(1 << 10, File::open(path)?);
    let n_bytes = file.get_ref().metadata()?.len();
    let mut scan = Scan {
        n_bytes,
        ..Scan::default()
    };
    let mut head = [0; HEAD_BYTES];
    if n_bytes < HEAD_BYTES as u64 {
        return Ok(scan);
    }
    file.read_exact(&mut head)?;
    let (magic, version) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(Unreadable::NotASegment);
    }
    match version.try_into().map(u32::from_le_bytes) {
        Ok(VERSION) => {}
        Ok(version) => return Err(Unreadable::Version(version)),
        Err(_) => return Err(Unreadable::NotASegment),
    }
    scan.n_whole = HEAD_BYTES as u64;
    while n_bytes - scan.n_whole >= HEADER_BYTES as u64 {
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact(&mut bytes)?;
        let Some(header) = Header::parse(&bytes) else {
            scan.is_damaged = true;
            break;
        };
        let at = scan.n_whole;
        let Some(end) = at.checked_add(header.n_entry_bytes()) else {
            break;
        };
        if end > n_bytes {
            break;
        }
        file.seek_relative(header.n_bytes as i64)?;
        scan.n_whole = end;
        scan.entries.push((at, header));
    }
    Ok(scan)
}

/// What stands where an entry should.
#[derive(Debug)]
pub(super) enum Found {
    Whole(KvFragment),
    /// It is not what was written.
    Damaged,
}

/// The payload of an entry, as it is on the disk.
///
/// # Errors
/// What the file system reports.
fn read_payload(path: &Path, at: u64, header: &Header) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    // A header is believed as far as its file goes.
    let fits = at.checked_add(header.n_entry_bytes());
    if fits.is_none_or(|end| end > file.metadata().map_or(0, |m| m.len())) {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(at + HEADER_BYTES as u64))?;
    let mut payload = vec![0; header.n_bytes as usize];
    file.read_exact(&mut payload)?;
    let is_whole = blake3::hash(&payload) == header.digest;
    Ok(is_whole.then_some(payload))
}

/// Reads the entry at a place of a segment.
///
/// # Errors
/// What the file system reports.
pub(super) fn read(path: &Path, at: u64, header: &Header) -> io::Result<Found> {
    let payload = read_payload(path, at, header)?;
    let kv = payload.and_then(|payload| {
        let n_tokens = header.n_tokens as usize;
        KvFragment::from_bytes(header.shape, header.base, n_tokens, &payload)
    });
    Ok(kv.map_or(Found::Damaged, Found::Whole))
}

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct Appender {
    file: File,
    /// Bytes that are whole.
    pub(super) n_bytes: u64,
}

impl Appender {
    /// Makes a segment.
    ///
    /// # Errors
    /// What the file system reports; also where there is one already.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // Tensors tell of the texts they were computed from.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_le_bytes());
        if let Err(error) = file.write_all(&head) {
            // It would stand in the way of the next one.
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Self {
            file,
            n_bytes: HEAD_BYTES as u64,
        })
    }

    /// Goes on behind the first `n_bytes` bytes of a segment, and cuts off what is behind them.
    ///
    /// # Errors
    /// What the file system reports.
    pub(super) fn go_on(path: &Path, n_bytes: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.set_len(n_bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, n_bytes })
    }

    /// Appends a fragment. Returns where it stands.
    ///
    /// # Errors
    /// What the file system reports; then nothing is appended.
    pub(super) fn append(
        &mut self,
        id: FragmentId,
        kv: &KvFragment,
        cost_tokens: usize,
    ) -> io::Result<(u64, Header)> {
        let payload = kv.to_bytes();
        let header = Header::of(id, kv, cost_tokens, &payload);
        let at = self.write(&header, &payload)?;
        Ok((at, header))
    }

    /// Appends an entry of another segment. `None` if it is damaged there, or cannot be read.
    ///
    /// # Errors
    /// What the file system reports of this segment; then nothing is appended.
    pub(super) fn copy(
        &mut self,
        from: &Path,
        at: u64,
        header: &Header,
    ) -> io::Result<Option<u64>> {
        match read_payload(from, at, header) {
            Ok(Some(payload)) => self.write(header, &payload).map(Some),
            Ok(None) | Err(_) => Ok(None),
        }
    }

    fn write(&mut self, header: &Header, payload: &[u8]) -> io::Result<u64> {
        let at = self.n_bytes;
        let all = self.file.write_all(&header.to_bytes());
        if let Err(error) = all.and_then(|()| self.file.write_all(payload)) {
            // What could not be cut off fails its check.
            let _ = self.file.set_len(at);
            let _ = self.file.seek(SeekFrom::Start(at));
            return Err(error);
        }
        self.n_bytes += header.n_entry_bytes();
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{fragment, id};
    use super::*;

    fn written(path: &Path, n: u8) -> Vec<(u64, Header)> {
        let mut segment = Appender::create(path).expect("made");
        let entries = (0..n).map(|i| segment.append(id(i), &fragment(i), 7).expect("appended"));
        entries.collect()
    }

    #[test]
    fn what_was_appended_is_found_and_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("1.kv");
        let entries = written(&path, 3);
        let found = scan(&path).expect("a segment");
        assert_eq!(found.entries, entries);
        assert_eq!(
            (found.n_whole, found.n_whole),
            (found.n_bytes, found.n_whole)
        );
        for (i, (at, header)) in (0..).zip(&entries) {
            let Found::Whole(kv) = read(&path, *at, header).expect("read") else {
                panic!("damaged");
            };
            assert_eq!(kv, fragment(i));
        }
        assert!(matches!(
            Appender::create(&path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists
        ));
    }

    #[test]
    fn a_file_cut_off_anywhere_has_the_entries_before() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("1.kv");
        let entries = written(&path, 2);
        let bytes = fs::read(&path).expect("read");
        let ends = entries
            .iter()
            .map(|(at, header)| at + header.n_entry_bytes());
        let ends: Vec<u64> = ends.collect();
        for n in 0..bytes.len() {
            fs::write(&path, &bytes[..n]).expect("written");
            let n_whole = ends.iter().filter(|end| **end <= n as u64).count();
            assert_eq!(scan(&path).expect("a segment").entries, entries[..n_whole]);
            let (at, header) = &entries[1];
            let found = read(&path, *at, header).expect("read");
            assert!(matches!(found, Found::Damaged), "{n} bytes");
        }
    }

    #[test]
    fn a_byte_changed_anywhere_is_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("1.kv");
        let entries = written(&path, 2);
        let bytes = fs::read(&path).expect("read");
        for n in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[n] ^= 0x10;
            fs::write(&path, &changed).expect("written");
            let found = match scan(&path) {
                Ok(found) => found.entries,
                Err(Unreadable::NotASegment | Unreadable::Version(_)) if n < HEAD_BYTES => continue,
                Err(error) => panic!("{error:?}"),
            };
            let whole = found.iter().filter(|(at, header)| {
                let found = read(&path, *at, header).expect("read");
                matches!(found, Found::Whole(kv) if kv == fragment(header.id.as_bytes()[0]))
            });
            let is_first = (n as u64) < entries[1].0;
            // A header that is gone takes what is behind it with it.
            let n_whole = whole.count();
            assert!(
                n_whole == 1 || is_first && n_whole == 0,
                "byte {n}: {n_whole}"
            );
            assert!(n_whole < 2, "byte {n}");
        }
    }
}
