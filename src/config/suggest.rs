//! "did you mean": the nearest of the names that exist.

/// More names than this are not searched: a document of that size is written by a program.
const NAMES_MAX: usize = 2_000;

/// `wanted`'s nearest neighbour among `names`, if it is near enough to be a typo.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters: Vec<char> = simplified(wanted);
    let distance_max = (letters.len() / 3).clamp(1, 3);
    names
        .take(NAMES_MAX)
        .map(|name| (distance(&letters, &simplified(name)), name))
        .filter(|&(distance, _)| distance <= distance_max)
        .min()
        .map(|(_, name)| name)
}

/// People mix up case, `-` and `_` more often than they mistype.
fn simplified(name: &str) -> Vec<char> {
    let letters = name.chars().map(|letter| if letter == '-' { '_' } else { letter });
    letters.map(|letter| letter.to_ascii_lowercase()).take(64).collect()
}

/// How many letters to insert, remove, replace or swap with their neighbour.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (row, &letter) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        let mut left = row + 1;
        for (column, &other) in to.iter().enumerate() {
            let at = |list: &[usize], index: usize| list.get(index).copied().unwrap_or(usize::MAX);
            let replaced = at(&last, column) + usize::from(letter != other);
            let mut best = replaced.min(left + 1).min(at(&last, column + 1) + 1);
            let before = column.checked_sub(1);
            if before.and_then(|before| to.get(before)) == Some(&letter) && previous == Some(other)
            {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
            left = best;
        }
        previous = Some(letter);
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 4] = ["base_url", "credential", "enabled", "name"];

    #[test]
    fn typo_finds_its_name_and_nonsense_finds_none() {
        let nearest = |wanted| nearest(wanted, NAMES.into_iter());
        assert_eq!(nearest("base-url"), Some("base_url"));
        assert_eq!(nearest("baseUrl"), Some("base_url"));
        assert_eq!(nearest("credentail"), Some("credential"));
        assert_eq!(nearest("enable"), Some("enabled"));
        assert_eq!(nearest("nmae"), Some("name"));
        assert_eq!(nearest("weight"), None);
        assert_eq!(nearest("x"), None);
    }

    fn letters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_bounded(a in "[ab]{0,8}", b in "[ab]{0,8}") {
            let (a, b) = (letters(&a), letters(&b));
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &b) <= a.len().max(b.len()));
        }
    }
}
