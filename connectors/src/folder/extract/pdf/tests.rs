//! Files that are written by hand, since what matters is what may stand in them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use lopdf::{EncryptionState, EncryptionVersion, Permissions};
use proptest::prelude::*;

use super::*;

/// A file of these objects, numbered from 1; the first is the catalog.
fn file(objects: &[Vec<u8>], trailer: &str) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut places = Vec::new();
    for (number, object) in (1..).zip(objects) {
        places.push(bytes.len());
        bytes.extend(format!("{number} 0 obj\n").bytes());
        bytes.extend(object);
        bytes.extend(b"\nendobj\n");
    }
    let xref = bytes.len();
    let n_objects = objects.len() + 1;
    bytes.extend(format!("xref\n0 {n_objects}\n0000000000 65535 f \n").bytes());
    for place in places {
        bytes.extend(format!("{place:010} 00000 n \n").bytes());
    }
    let trailer = format!(
        "trailer\n<< /Size {n_objects} /Root 1 0 R {trailer} >>\nstartxref\n{xref}\n%%EOF\n"
    );
    bytes.extend(trailer.bytes());
    bytes
}

fn stream(dictionary: &str, data: &[u8]) -> Vec<u8> {
    let len = data.len();
    let head = format!("<< {dictionary} /Length {len} >>\nstream\n");
    [head.as_bytes(), data, b"\nendstream"].concat()
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(data).unwrap();
    packed.finish().unwrap()
}

const PLAIN: &str = "/Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding";

/// One page that draws this in one font, with what else it takes from object 6.
fn page_of(drawn: &[u8], font: &str, more: &[Vec<u8>], trailer: &str) -> Vec<u8> {
    let resources = "/Resources << /Font << /F1 5 0 R >> /XObject << /X 6 0 R >> >>";
    let mut objects = vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        format!("<< /Type /Page /Parent 2 0 R /Contents 4 0 R {resources} >>").into_bytes(),
        stream("", drawn),
        format!("<< {font} >>").into_bytes(),
    ];
    objects.extend_from_slice(more);
    file(&objects, trailer)
}

fn page(drawn: &str) -> Vec<u8> {
    page_of(drawn.as_bytes(), PLAIN, &[], "")
}

fn read_all(bytes: &[u8]) -> Result<Extracted, Rejection> {
    read(bytes, 1 << 20, &StopFlag::new())
}

fn text(bytes: &[u8]) -> String {
    read_all(bytes).unwrap().text
}

#[test]
fn lines_and_blanks_come_from_places() {
    let bytes = page(
        "BT /F1 20 Tf 72 700 Td (Ferries) Tj ET \
         BT /F1 10 Tf 1 0 0 1 72 660 Tm [(The fer) 20 (ry) -300 (leaves)] TJ \
         0 -12 Td (at six. Caf\\351.) Tj 14 TL T* (Daily.) Tj ET",
    );
    let found = read_all(&bytes).unwrap();
    let expected = "Ferries\n\nThe ferry leaves\nat six. Caf\u{e9}.\nDaily.\n";
    assert_eq!(found.text, expected);
    assert_eq!(found.title.as_deref(), Some("Ferries"));
    assert_eq!(read_all(&bytes).unwrap(), found);
}

#[test]
fn the_title_among_the_properties_counts_unless_it_is_a_files_name() {
    let titled = |title: &str| {
        let drawn =
            b"BT /F1 20 Tf 0 99 Td (Large) Tj /F1 9 Tf 0 -20 Td (small) Tj 0 -9 Td (x) Tj ET";
        let info = format!("/Info << /Title {title} >>");
        read_all(&page_of(drawn, PLAIN, &[], &info)).unwrap().title
    };
    assert_eq!(titled("(The Ferry)").as_deref(), Some("The Ferry"));
    assert_eq!(titled("<FEFF00D6006C>").as_deref(), Some("\u{d6}l"));
    assert_eq!(titled("(Microsoft Word - a)").as_deref(), Some("Large"));
    assert_eq!(titled("(thesis.dvi)").as_deref(), Some("Large"));
    assert_eq!(titled("()").as_deref(), Some("Large"));
}

#[test]
fn a_font_says_which_letters_its_codes_are() {
    let map = b"/CIDInit /ProcSet findresource begin begincmap\n\
        1 begincodespacerange <0000> <FFFF> endcodespacerange\n\
        2 beginbfchar <0003> <0020> <0010> <00660069> endbfchar\n\
        1 beginbfrange <0024> <0026> <0041> endbfrange\nendcmap end";
    let two = "/Type /Font /Subtype /Type0 /Encoding /Identity-H /ToUnicode 6 0 R \
        /DescendantFonts [<< /Type /Font /Subtype /CIDFontType2 /DW 600 /W [36 [700] 37 38 650] >>]";
    let drawn = b"BT /F1 10 Tf 9 9 Td <0024002500030010> Tj ET";
    let mapped = page_of(drawn, two, &[stream("", map)], "");
    assert_eq!(text(&mapped), "AB fi\n");
    let named = "/Type /Font /Subtype /Type1 /FirstChar 1 /Widths [500 500 500 500 500] \
        /Encoding << /Differences [1 /Aogonek /f_i /uni20AC /u1F600 /a.alt] >>";
    let drawn = b"BT /F1 10 Tf 9 9 Td (\\001\\002\\003\\004\\005) Tj ET";
    let named = page_of(drawn, named, &[], "");
    assert_eq!(text(&named), "\u{104}fi\u{20ac}\u{1f600}a\n");
    let utf16 = "/Type /Font /Subtype /Type0 /Encoding /UniGB-UCS2-H";
    let drawn = b"BT /F1 10 Tf 9 9 Td <4E2D0041> Tj ET";
    assert_eq!(text(&page_of(drawn, utf16, &[], "")), "\u{4e2d}A\n");
}

#[test]
fn where_fonts_say_of_most_letters_nothing_the_file_is_refused() {
    let mute = "/Type /Font /Subtype /Type0 /Encoding /Identity-H";
    let drawn = b"BT /F1 10 Tf 9 9 Td <00240025> Tj ET";
    let said = read_all(&page_of(drawn, mute, &[], "")).unwrap_err();
    assert!(
        said.to_string().contains("do not say which letters"),
        "{said}"
    );
    // One letter among many is shown as unknown.
    let few = "/Type /Font /Subtype /Type1 /Encoding << /Differences [65 /g17] >>";
    let drawn = b"BT /F1 10 Tf 9 9 Td (bAcd) Tj ET";
    assert_eq!(text(&page_of(drawn, few, &[], "")), "b\u{fffd}cd\n");
}

#[test]
fn pieces_are_drawn_where_they_stand_and_never_without_end() {
    let piece = "/Type /XObject /Subtype /Form /Matrix [1 0 0 1 0 -20] \
        /Resources << /Font << /F1 5 0 R >> /XObject << /X 6 0 R >> >>";
    let drawn = b"BT /F1 10 Tf 9 50 Td (in) Tj ET /X Do";
    let bytes = page_of(b"q /X Do Q", PLAIN, &[stream(piece, drawn)], "");
    let expected = "in\n\n".repeat(page::MAX_DEPTH);
    assert_eq!(text(&bytes), expected.trim_end().to_owned() + "\n");
    // Each draws the next twice, and each is large.
    let twice = [&b"/X Do /X Do "[..], &b" ".repeat(STREAM_LIMIT - 99)].concat();
    let bytes = page_of(
        b"/X Do",
        PLAIN,
        &[stream(
            &format!("{piece} /Filter /FlateDecode"),
            &deflated(&twice),
        )],
        "",
    );
    let limit = DRAWN_LIMIT as u64;
    assert_eq!(
        read_all(&bytes),
        Err(Rejection::Unpacked {
            what: "drawing",
            limit
        })
    );
}

#[test]
fn a_scan_has_no_text_and_is_no_empty_document() {
    let scan = page("q 612 0 0 792 0 0 cm /X Do Q");
    let stop = StopFlag::new();
    let refused = super::super::extract(Format::Pdf, &scan, 99, &stop).unwrap_err();
    assert!(
        refused.to_string().starts_with("a PDF without text"),
        "{refused}"
    );
}

#[test]
fn what_unpacks_to_more_than_the_limits_is_not_unpacked() {
    let over = vec![b' '; STREAM_LIMIT + 1];
    let drawn = stream("/Filter /FlateDecode", &deflated(&over));
    let mut objects = vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R >>".to_vec(),
        drawn,
    ];
    let limit = STREAM_LIMIT as u64;
    let what = "one stream";
    assert_eq!(
        read_all(&file(&objects, "")),
        Err(Rejection::Unpacked { what, limit })
    );
    // Streams of objects are unpacked when a file is opened: all of them count.
    let large = deflated(&vec![b'1'; 12 << 20]);
    objects[3] = stream("", b"");
    for _ in 0..3 {
        objects.push(stream(
            "/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode",
            &large,
        ));
    }
    let limit = OBJECTS_LIMIT;
    let what = "objects";
    let bytes = file(&objects, "");
    assert_eq!(read_all(&bytes), Err(Rejection::Unpacked { what, limit }));
    assert_eq!(objects_size(&file(&objects[..5], "")), Ok(12 << 20));
    // What is packed twice is taken for as large as it may be.
    let twice = stream(
        "/Type /ObjStm /Filter [/FlateDecode /FlateDecode]",
        &deflated(&large),
    );
    assert_eq!(objects_size(&twice), Ok(STREAM_LIMIT as u64));
    let disguised = objects_size(b"<< /Type /#4fbjStm >> stream");
    assert!(matches!(disguised, Err(Rejection::Unsound { .. })));
    let long = page("BT /F1 9 Tf (0123456789) Tj ET");
    let refused = read(&long, 9, &StopFlag::new());
    assert_eq!(
        refused,
        Err(Rejection::Unpacked {
            what: "text",
            limit: 9
        })
    );
}

#[test]
fn a_file_that_takes_a_password_is_refused_and_one_that_takes_none_is_read() {
    let id = "/ID [<0123456789abcdef> <0123456789abcdef>]";
    let drawn = b"BT /F1 9 Tf 9 9 Td (secret) Tj ET";
    let plain = page_of(drawn, PLAIN, &[], id);
    let encrypted = |user_password| {
        let mut document = Document::load_mem(&plain).unwrap();
        let version = EncryptionVersion::V2 {
            document: &document,
            owner_password: "owner",
            user_password,
            key_length: 128,
            permissions: Permissions::all(),
        };
        let state = EncryptionState::try_from(version).unwrap();
        document.encrypt(&state).unwrap();
        let mut bytes = Vec::new();
        document.save_to(&mut bytes).unwrap();
        bytes
    };
    let format = "PDF";
    assert_eq!(
        read_all(&encrypted("user")),
        Err(Rejection::Encrypted { format })
    );
    assert_eq!(text(&encrypted("")), "secret\n");
}

#[test]
fn no_nesting_is_too_deep() {
    let stop = StopFlag::new();
    for (open, close) in [("[", "]"), ("<<", ">>"), ("(", ")"), ("q ", "Q ")] {
        let n = 20_000;
        let drawn = format!(
            "BT /F1 9 Tf 9 9 Td (x) Tj ET {}{} TJ",
            open.repeat(n),
            close.repeat(n)
        );
        let read = super::super::extract(Format::Pdf, &page(&drawn), 99, &stop);
        assert_eq!(read.unwrap().text, "x\n", "{open}");
    }
}

#[test]
fn a_raised_flag_ends_the_work() {
    let stop = StopFlag::new();
    stop.raise();
    let long = page(&"BT /F1 9 Tf (x) Tj ET ".repeat(10_000));
    assert_eq!(read(&long, 1 << 20, &stop).unwrap().text, "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_damaged_file_is_read_or_refused(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let map = b"1 begincodespacerange <00> <FF> endcodespacerange 1 beginbfchar <41> <0042> endbfchar";
        let font = format!("{PLAIN} /ToUnicode 6 0 R /FirstChar 65 /Widths [500]");
        let drawn = b"BT /F1 9 Tf 9 9 Td (A word) Tj ET q 1 0 0 1 5 5 cm Q";
        let mut bytes = page_of(drawn, &font, &[stream("", map)], "");
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let cut = bytes.len() - cut.index(bytes.len()) / 8;
        let stop = StopFlag::new();
        let once = super::super::extract(Format::Pdf, &bytes[..cut], 999, &stop);
        let again = super::super::extract(Format::Pdf, &bytes[..cut], 999, &stop);
        prop_assert_eq!(once, again);
    }
}
