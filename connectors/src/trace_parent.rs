//! Of which trace is a change a part, by the word of whoever sent it?
//!
//! The header `traceparent` of [W3C Trace Context](https://www.w3.org/TR/trace-context/), read and kept
//! and no more: who follows traces is above.

/// What somebody outside was doing when it sent a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Names the trace; never all zero.
    pub trace_id: [u8; 16],
    /// Names what was being done within it; never all zero.
    pub span_id: [u8; 8],
    /// Whether the sender records it.
    pub is_sampled: bool,
}

impl TraceParent {
    /// What a value of the header says; nothing where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(5, '-');
        let [version] = hex(fields.next()?)?;
        let trace_id = hex(fields.next()?)?;
        let span_id = hex(fields.next()?)?;
        let [flags] = hex(fields.next()?)?;
        // A later version may say more behind; this one ends here, and 255 is none.
        let is_version = match version {
            0 => fields.next().is_none(),
            version => version != u8::MAX,
        };
        let is_named = trace_id != [0; 16] && span_id != [0; 8];
        (is_version && is_named).then_some(Self {
            trace_id,
            span_id,
            is_sampled: flags & 1 == 1,
        })
    }
}

/// The bytes of lower-case hexadecimal digits; nothing where they are not exactly so many.
fn hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    if digits.len() != 2 * N || !digits.bytes().all(is_digit) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_parent_is_read_as_the_standard_writes_it() {
        let parent = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-01")).expect("a parent");
        assert_eq!(parent.trace_id[..3], [0x4b, 0xf9, 0x2f]);
        assert_eq!(
            parent.span_id,
            [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]
        );
        assert!(parent.is_sampled);
        let unsampled = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-02"));
        assert!(unsampled.is_some_and(|parent| !parent.is_sampled));
        // Of a later version.
        assert!(TraceParent::parse(&format!("cc-{TRACE}-{SPAN}-01-more-of-it")).is_some());
    }

    #[test]
    fn what_is_no_parent_is_none() {
        let zero_trace = "0".repeat(32);
        for wrong in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{zero_trace}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-+0f067aa0ba902b7-01"),
            format!("00-{}é-{SPAN}-01", &TRACE[..30]),
        ] {
            assert_eq!(TraceParent::parse(&wrong), None, "{wrong:?}");
        }
    }
}
