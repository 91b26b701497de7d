//! Which texts go with one request?

/// How many of some texts go with the next request, from the first one on; of any, at least one. With
/// each text stands how many there may be where it is.
pub(super) fn n_first<'t>(
    texts: impl IntoIterator<Item = (&'t str, usize)>,
    max_bytes: usize,
) -> usize {
    let (mut n, mut n_bytes, mut most) = (0, 0, usize::MAX);
    for (text, together) in texts {
        n_bytes += text.len();
        most = most.min(together);
        if n > 0 && (n >= most || n_bytes > max_bytes) {
            break;
        }
        n += 1;
    }
    n
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_is_larger_than_all_goes_alone() {
        let of = |texts: &[&'static str]| n_first(texts.iter().map(|text| (*text, 2)), 4);
        assert_eq!(of(&["a", "bbbbbb"]), 1);
        assert_eq!(of(&["bbbbbb", "c"]), 1);
        assert_eq!(of(&["c", "d", "e"]), 2);
        assert_eq!(of(&["cc", "dd"]), 2);
        assert_eq!(of(&[]), 0);
    }

    #[test]
    fn the_text_that_bears_the_fewest_others_decides() {
        assert_eq!(n_first([("a", 9), ("b", 3), ("c", 9), ("d", 9)], 99), 3);
        assert_eq!(n_first([("a", 9), ("b", 9), ("c", 2)], 99), 2);
        assert_eq!(n_first([("a", 0), ("b", 9)], 99), 1);
    }

    proptest! {
        #[test]
        fn limits_are_kept(
            texts in prop::collection::vec(("[a-z]{0,9}", 1usize..9), 1..20),
            max_bytes in 0usize..30,
        ) {
            let all = texts.iter().map(|(text, most)| (text.as_str(), *most));
            let n = n_first(all, max_bytes);
            prop_assert!((1..=texts.len()).contains(&n));
            let first = &texts[..n];
            let n_bytes: usize = first.iter().map(|(text, _)| text.len()).sum();
            prop_assert!(n == 1 || n_bytes <= max_bytes);
            prop_assert!(first.iter().all(|(_, most)| n <= *most));
        }
    }
}
