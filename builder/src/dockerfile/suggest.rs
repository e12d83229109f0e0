//! "Did you mean" by edit distance.

/// The candidate nearest to `input`, if it is near enough to be a slip of the keyboard; letters of either case are equal.
///
/// Near enough is one edit for words up to three letters, two up to six, three beyond. An exact match suggests nothing.
#[must_use]
pub fn nearest<'a>(input: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let input = input.to_lowercase();
    let length = input.chars().count();
    if length == 0 || length > 64 {
        return None;
    }
    let limit = match length {
        1..=3 => 1,
        4..=6 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(&input, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| (1..=limit).contains(distance))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours cost one each.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().take(128).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (i, &a) in left.iter().enumerate() {
        let mut current = vec![i + 1];
        for (j, &b) in right.iter().enumerate() {
            let mut best = (previous[j] + usize::from(a != b))
                .min(previous[j + 1] + 1)
                .min(current[j] + 1);
            if i > 0 && j > 0 && a == right[j - 1] && left[i - 1] == b {
                best = best.min(before[j - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_forgives_slips_only() {
        let names = ["RUN", "FROM", "COPY", "ENTRYPOINT", "ENV", "ADD"];
        let check =
            |input: &str, expected: Option<&str>| assert_eq!(nearest(input, names), expected, "{input}");
        check("RNU", Some("RUN"));
        check("FORM", Some("FROM"));
        check("copyy", Some("COPY"));
        check("ENTRYPIONT", Some("ENTRYPOINT"));
        check("run", None);
        check("APT-GET", None);
        check("", None);
    }
}
